"""``memhop kb eval`` and ``memhop kb demo``."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

import memhop.cli.kb.demo as demo_command
from memhop.knowledge import KnowledgeModel, KnowledgeRecipe, evaluate, read_questions
from memhop.runs import newest_checkpoint

from ..conftest import Program
from .conftest import LINE, QUESTIONS


def test_a_table_and_notes(memhop: Program, trained: str) -> None:
    Path("more").mkdir()
    Path("more/questions.tsv").write_text(
        "who directed Faust?\tMurnau\nwho shot M?\tFritz Lang|Nobody\n"
    )
    output = memhop("kb", "eval", trained, "--test", QUESTIONS, "--test", "more/questions.tsv")
    head, first, second, *notes = output.ok().out.splitlines()
    assert head.split() == ["file", "questions", "hits@1", "listed", "no", "answer"]
    model = KnowledgeModel.load(trained)
    for row, path in ((first, QUESTIONS), (second, "more/questions.tsv")):
        result = evaluate(model, read_questions(path))
        assert row.split() == [
            "questions.tsv", str(result.questions), f"{result.hits:.1f}%",
            f"{result.listed_hits:.1f}%", str(result.unanswered),
        ]  # fmt: skip
    assert notes == [
        "questions.tsv: no entity of the facts in 1 questions",
        "questions.tsv: 2 words unknown: faust, shot",
        "questions.tsv: 1 answers unknown: Nobody",
    ]
    line = ["kb", "eval", trained, "--test", QUESTIONS, "--test", "more/questions.tsv", "--json"]
    one, two = json.loads(memhop(*line).ok().out)
    assert (one["file"], two["file"]) == (QUESTIONS, "more/questions.tsv")
    assert (two["questions"], two["without_topic"], two["estimated"]) == (2, 1, 0)
    assert two["unknown_words"] == ["faust", "shot"]


def test_estimates_are_noted(memhop: Program, data: None) -> None:
    memhop(*LINE, "--set", "max_entities=1", "--set", "min_weight=0", "--name", "few").ok()
    [result] = json.loads(memhop("kb", "eval", "few", "--test", QUESTIONS, "--json").ok().out)
    assert result["estimated"] > 0
    out = " ".join(memhop("kb", "eval", "few", "--test", QUESTIONS).ok().out.split())
    assert f"weights are estimates in {result['estimated']} questions: a hop did not follow" in out


def test_errors_of_one_line(memhop: Program, trained: str) -> None:
    Path("bad.tsv").write_text("who?\ta\tb\tc\n")
    cases = {
        (): "Invalid value for --test: expected a file of questions (see memhop kb eval --help)",
        ("--test", "no.tsv"): "no.tsv: no such file",
        ("--test", "bad.tsv"): "bad.tsv:1: expected question<TAB>answers",
        ("--test", "."): ".: ",
    }
    for arguments, expected in cases.items():
        assert memhop("kb", "eval", trained, *arguments).error().startswith(expected)
    assert memhop("kb", "eval", "no", "--test", QUESTIONS).error().startswith("no run 'no'")


def test_a_stopped_run_is_reported(memhop: Program, stopped: str) -> None:
    output = memhop("kb", "eval", stopped, "--test", QUESTIONS).ok()
    assert output.err == ("memhop: runs/half: stopped after epoch 2 of 4; resume with --resume\n")


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = KnowledgeRecipe(word_dim=8, epochs=1, batch_size=64)
    monkeypatch.setattr(demo_command, "RECIPE", recipe)
    for name, size in (("_FACTS", 300), ("_QUESTIONS", 90), ("_TEST_QUESTIONS", 20)):
        monkeypatch.setattr(demo_command, name, size)


@pytest.mark.usefixtures("_small")
def test_the_demo_and_its_next_command(memhop: Program) -> None:
    out = memhop("kb", "demo").ok().out
    for line in ("300 facts, such as", "90 training questions, such as", "  1 fact: "):
        assert f"\n{line}" in out
    assert "\n  2 facts: " in out
    assert "\nhop 1\n" in out
    page, command = out.replace("\\\n", "").rpartition("or here:\n")[2].splitlines()
    assert shlex.split(page) == ["memhop", "serve", "kb-demo"]
    words = shlex.split(command)
    assert words[:4] == ["memhop", "kb", "ask", "kb-demo"]
    assert len(words) == 5
    answered = memhop(*words[1:]).ok().out
    assert "\nhop 1\n" in answered
    assert "memhop kb ask kb-demo-2 \\\n" in memhop("kb", "demo", "--seed", "1").ok().out


@pytest.mark.usefixtures("_small")
def test_the_demo_quotes_its_question(memhop: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    short = demo_command.short_answer
    monkeypatch.setattr(
        demo_command, "short_answer", lambda asked: short(asked)._replace(text="who's it?")
    )
    command = memhop("kb", "demo").ok().out.splitlines()[-1]
    assert shlex.split(command)[-1] == "who's it?"


@pytest.mark.usefixtures("_small")
def test_ctrl_c_in_the_demo(memhop: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_command, "train", interrupted)
    output = memhop("kb", "demo")
    assert output.status == 130
    assert output.err.endswith("memhop: stopped; start again with: memhop kb demo\n")
    assert not Path("runs").exists()


@pytest.mark.slow
def test_the_whole_demo(memhop: Program) -> None:
    out = memhop("kb", "demo").ok().out
    shares = [float(line.split()[2].rstrip("%")) for line in out.splitlines() if "wrong" in line]
    assert len(shares) == 3
    assert shares[0] < 20


def test_the_kinds_of_runs_of_kb_commands(memhop: Program, trained: str) -> None:
    golden = Path(__file__).parents[2] / "golden"
    shutil.copytree(golden / "run" / "stopped", "runs/stories")
    error = memhop("kb", "eval", "stories", "--test", QUESTIONS).error()
    assert error.startswith("runs/stories: expected a knowledge model, got a story model")
    assert newest_checkpoint(Path("runs/films")) is not None
