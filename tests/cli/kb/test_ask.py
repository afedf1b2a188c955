"""``memhop kb ask``: text, JSON, SVG, piped and typed questions, and the errors of one line."""

import io
import json
import shutil
from pathlib import Path
from xml.etree.ElementTree import parse

import pytest

import memhop as package
from memhop.knowledge import KnowledgeBase, KnowledgeModel, KnowledgeRecipe, Question

from ..conftest import Program
from .conftest import LINE

GOLDEN = Path(__file__).parents[2] / "golden"
ASK = ["kb", "ask", "films"]


class Typed(io.StringIO):
    """Standard input of a terminal."""

    def isatty(self) -> bool:
        return True


def test_answers_as_text(memhop: Program, trained: str) -> None:
    model = KnowledgeModel.load(trained)
    texts = "who directed Metropolis?", "where was the director of Metropolis born?"
    out = memhop(*ASK, *texts).ok().out
    first, second = out.split("\n\n")
    for text, shown in zip(texts, (first, second), strict=True):
        answer = model.answer(text)
        head, _, picture = shown.partition("\nhop 1\n")
        assert " ".join(head.split()) == f"{text} {answer.shares()}"
        assert f"hop 1\n{picture}".strip() == str(answer.picture())
    assert memhop("kb", "ask", trained, texts[0], "--facts", "1").ok().out.count("─") == 1
    assert memhop("kb", "ask", "runs/films", texts[0]).ok().out.strip() == first


def test_the_newest_run_of_knowledge_is_the_default(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memhop(*LINE, "--name", "second", "--seed", "1").ok()
    shutil.copytree(GOLDEN / "run" / "stopped", "runs/stories")
    monkeypatch.setattr("sys.stdin", io.StringIO("who directed M?"))
    [newest] = json.loads(memhop("kb", "ask", "--json").ok().out)
    [by_name] = json.loads(memhop("kb", "ask", "second", "who directed M?", "--json").out)
    assert newest == by_name
    [other] = json.loads(memhop(*ASK, "who directed M?", "--json").out)
    assert newest != other


def test_answers_as_json(memhop: Program, trained: str) -> None:
    question = "where was the photographer of [Metropolis] and [Faust] born?"
    [found] = json.loads(memhop(*ASK, question, "--json").ok().out)
    answer = KnowledgeModel.load(trained).answer(question)
    assert found.keys() == {
        "question", "answers", "runners_up", "topics", "hops", "unknown_words",
        "unknown_entities", "dropped", "knows_question", "no_answer",
    }  # fmt: skip
    assert found["answers"] == [[name, pytest.approx(share)] for name, share in answer.answers]
    assert (found["topics"], found["unknown_entities"]) == (["Metropolis"], ["Faust"])
    assert found["unknown_words"] == ["photographer", "and"]
    assert (found["no_answer"], found["dropped"]) == ("", 0)
    hop, own = found["hops"][0], answer.hops[0]
    assert hop.keys() == {"facts", "num_facts", "dropped", "words"}
    assert hop["num_facts"] == own.num_facts
    assert hop["facts"][0] == {
        name: pytest.approx(value) if isinstance(value, float) else value
        for name, value in own.facts[0]._asdict().items()
    }
    assert [word for word, _ in hop["words"]] == [word for word, _ in own.words]
    [none] = json.loads(memhop(*ASK, "who directed Faust?", "--json").ok().out)
    assert (none["answers"], none["hops"]) == ([], [])
    assert none["no_answer"] == "no answer: no entity of the facts in the question"


def test_what_it_does_not_know_is_named(memhop: Program, trained: str) -> None:
    lines = memhop(*ASK, "who photographed [M] and [Faust]?").ok().out.splitlines()
    assert lines[0].startswith("who photographed M and Faust?  ")
    assert "no entity of the facts: Faust" in lines
    assert any(line.endswith("photographed, and") for line in lines)
    out = memhop(*ASK, "who directed Faust?").ok().out
    assert "who directed Faust?  no answer: no entity of the facts in the question\n" in out
    assert "no fact was read" not in out


def test_topics_by_option(memhop: Program, trained: str) -> None:
    line = [*ASK, "who directed it?", "--topic", "M", "--topic", "Nosferatu", "--json"]
    [found] = json.loads(memhop(*line).ok().out)
    assert found["topics"] == ["M", "Nosferatu"]


def test_a_picture_as_svg(memhop: Program, trained: str) -> None:
    question = "who directed Metropolis?"
    for more in ([], ["--json"]):
        memhop(*ASK, question, "--svg", "answer.svg", *more).ok()
        assert parse("answer.svg").getroot().tag.endswith("svg")  # the second replaces the first
    Path("facts.txt").write_text("mine")
    error = memhop(*ASK, question, "--svg", "facts.txt").error()
    assert error == "facts.txt: already exists; give another name"
    assert Path("facts.txt").read_text() == "mine"
    for questions in ([], [question, question]):
        error = memhop(*ASK, *questions, "--svg", "answer.svg").error()
        assert error == f"--svg needs one question, got {len(questions)}"
    error = memhop(*ASK, question, "--svg", "no/answer.svg").error()
    assert error.startswith("no/answer.svg: ")
    memhop(*ASK, "who directed Faust?", "--svg", "none.svg").ok()
    assert "no answer" in Path("none.svg").read_text()


def test_piped_questions(memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "who directed Metropolis?\n\n  who directed M?  \r\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    out = memhop(*ASK).ok().out
    assert [line for line in out.splitlines() if line.startswith("who directed")] == [
        line for line in out.splitlines() if "?  " in line
    ]
    assert out.count("?  ") == 2
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    found = json.loads(memhop(*ASK, "--json").ok().out)
    assert [one["question"] for one in found] == ["who directed Metropolis?", "who directed M?"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert json.loads(memhop(*ASK, "--json").ok().out) == []
    monkeypatch.setattr("sys.stdin", io.StringIO("who directed M?\n???\n"))
    error = memhop(*ASK, "--json").error()
    assert error == "standard input:2: expected a question, got '???'"
    monkeypatch.setattr("sys.stdin", None)
    assert memhop(*ASK) == (0, "", "")


def test_typed_questions(memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "who directed Metropolis?\n???\nwho directed M?\n\nwho directed Nosferatu?\n"
    monkeypatch.setattr("sys.stdin", Typed(text))
    output = memhop(*ASK).ok()
    assert output.out.startswith("a question, or an empty line to stop\nwho directed Metro")
    assert output.err == "memhop: expected a question, got '???'\n"
    assert output.out.count("?  ") == 2

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Typed(text))
    monkeypatch.setattr(KnowledgeModel, "answer", interrupted)
    output = memhop(*ASK)
    assert (output.status, output.err) == (130, "memhop: stopped\n")


def test_errors_of_one_line(memhop: Program, trained: str) -> None:
    shutil.copytree(GOLDEN / "run" / "stopped", "runs/stories")
    Path("runs/empty").mkdir()
    cases = {
        ("no", "who?"): "no run 'no'; under runs/: films, stories",
        ("", "who?"): "expected the name or path of a run, got an empty text",
        ("empty", "who?"): "runs/empty: no checkpoint in it: not a run, or stopped too early",
        ("stories", "who?"): "runs/stories: expected a knowledge model, got a story model: use "
        "memhop ask",
        ("films", ""): "expected a question, got ''",
        ("films", "?"): "expected a question, got '?'",
        ("films", "who?", "--facts", "0"): "Invalid value for '--facts': ",
        ("films", "who?", "--threads", "4096"): "--threads: expected 1 to ",
    }
    for arguments, expected in cases.items():
        assert memhop("kb", "ask", *arguments).error().startswith(expected)
    shutil.rmtree("runs/films")
    error = memhop("kb", "ask").error()
    assert (
        error
        == "no trained run of a knowledge model under runs/: train one first, or give its path"
    )


def test_a_run_of_knowledge_in_commands_for_stories(memhop: Program, trained: str) -> None:
    expected = "runs/films: expected a story model, got a knowledge model: use memhop kb ask"
    Path("story.txt").write_text("1 Mary went home.\n2 Where is Mary?\thome\t1\n")
    assert memhop("ask", trained, "-q", "Where is Mary?").error() == expected
    assert memhop("eval", trained, "--test", "story.txt").error() == expected
    with pytest.raises(package.MemhopError, match="expected a story model"):
        package.MemN2N.load(trained)
    note = "no run under runs/: using the model 'stories' that comes with memhop\n"
    assert memhop("eval", "--test", "story.txt").ok().err == note


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"schema": 2}', b'{"kind": 3}'])
def test_corrupt_checkpoints(memhop: Program, trained: str, content: bytes) -> None:
    [manifest] = Path("runs/films").rglob("checkpoint.json")
    good = manifest.read_bytes()
    manifest.write_bytes(content)
    for line in (["kb", "ask", "films", "who?"], ["kb", "ask", "--json"]):
        assert (
            memhop(*line).error().startswith(("runs/films", "no trained run of a knowledge model"))
        )
    shutil.copytree(GOLDEN, "runs/stories", ignore=lambda _, names: {"run", "layers"} & {*names})
    memhop("ask", "stories", "--story", "Mary went home.", "-q", "Where?").ok()
    manifest.write_bytes(good)
    for name in ("model.safetensors", "facts.json", "facts.safetensors", "knowledge.json"):
        path = manifest.with_name(name)
        content = path.read_bytes()
        path.write_bytes(content[:-3])
        error = memhop(*ASK, "who?").error()
        assert error == f"{path}: corrupt: its SHA-256 is not that of checkpoint.json"
        path.write_bytes(content)
    memhop(*ASK, "who?").ok()


def test_names_with_markup_and_escape_codes_are_literal(memhop: Program) -> None:
    names = "[bold]Ann[/bold]", "[red]x[/red]\x1b[31m <b>"
    kb = KnowledgeBase.from_triples([(names[0], "[link=x]r[/link]", names[1])])
    recipe = KnowledgeRecipe(word_dim=8, num_hops=1)
    KnowledgeModel.untrained(kb, [Question("who?")], recipe).save("runs/odd")
    Path("test.jsonl").write_text(json.dumps({"question": "who [i]?", "answer": "[b]\x1b[2J"}))
    out = memhop("kb", "ask", "odd", "who is [i]? :smile:", "--topic", names[0]).ok().out
    assert "who is [i]? :smile:" in out or "who is i? :smile:" in out
    assert "[red]x[/red]\\x1b[31m <b> (100%)" in out
    assert "[bold]Ann[/bold] ─[link=x]r[/link]→ [red]x[/red]\\x1b[31m <b>" in out
    output = memhop("kb", "eval", "odd", "--test", "test.jsonl").ok()
    assert "[b]\\x1b[2J" in output.out
    for text in (out, output.out):
        assert "\x1b" not in text


def test_a_piped_line_with_a_tab_is_an_error(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("who directed M?\tFritz Lang\n"))
    output = memhop("kb", "ask", trained)
    assert output.status == 2
    assert output.err == (
        "memhop: standard input:1: expected one question, got a tab: memhop kb eval --test FILE "
        "reads a file with answers\n"
    )


def test_the_newest_run_is_named(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("who directed M?\n"))
    assert memhop("kb", "ask").ok().err == f"the newest run: {trained}\n"
