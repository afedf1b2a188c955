"""``memhop answer``: the lines, and resuming after an interruption."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from memhop.cli import answer as answer_command
from memhop.cli.answer_file import answer_file
from memhop.data import read_examples, write_examples
from memhop.data.records import Record
from memhop.errors import MemhopError
from memhop.file_lock import locked
from memhop.text.model import MemN2N

from .conftest import TINY, Program

BATCH = ("--batch-size", "10")


@pytest.fixture
def questions(data: str) -> str:
    """Return the test questions of a task in JSON Lines, 64 of them."""
    write_examples("q.jsonl", read_examples(f"{data}/qa1_single-supporting-fact_test.txt"))
    return "q.jsonl"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def stop_after(patch: pytest.MonkeyPatch, batches: int, error: type[BaseException]) -> None:
    """Raise an error in the batch after some batches."""
    answer_lines = answer_command.answer_lines
    left = [batches]

    def stop(model: MemN2N, records: Sequence[Record], attention: bool) -> Iterator[str]:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return answer_lines(model, records, attention)

    patch.setattr(answer_command, "answer_lines", stop)


def test_the_answers_are_those_of_ask(memhop: Program, trained: str, questions: str) -> None:
    output = memhop("answer", trained, questions, "--to", "a.jsonl", "--attention", *BATCH).ok()
    asked = json.loads(memhop("ask", trained, "--file", questions, "--json").ok().out)
    given = lines("a.jsonl")
    assert [one.pop("line") for one in given] == [*range(1, 65)]
    for one, other in zip(given, asked, strict=True):
        del other["runners_up"]
        assert one.pop("probability") == pytest.approx(other.pop("probability"), abs=2e-6)
        hops = other.pop("attention")
        for weights, weights_of_other in zip(one.pop("attention"), hops, strict=True):
            assert weights == pytest.approx(weights_of_other, abs=2e-6)
        assert one == other
    correct = sum(one["is_correct"] for one in given)
    share = f"{100 * correct / 64:.1f}%"
    assert output.out == f"a.jsonl: 64 answers, {correct} of 64 are correct ({share})\n"
    assert output.err.splitlines()[-1] == "answers: 64 of 64"
    assert sorted(path.name for path in Path().iterdir()) == [
        "a.jsonl", "q.jsonl", "runs", "stories"
    ]  # fmt: skip


def test_every_format_gives_the_same_answers(memhop: Program, trained: str, questions: str) -> None:
    memhop("convert", questions, "q.csv").ok()
    memhop("convert", questions, "q.txt").ok()
    for suffix in ("jsonl", "csv", "txt"):
        memhop("answer", trained, f"q.{suffix}", "--to", f"{suffix}.jsonl").ok()
    first, table, babi = (lines(f"{suffix}.jsonl") for suffix in ("jsonl", "csv", "txt"))
    assert [one["line"] for one in table] == [one["line"] + 1 for one in first]
    rows = Path("q.txt").read_text().splitlines()
    assert all(one["question"] in rows[one["line"] - 1] for one in babi)
    assert [{**one, "line": 0} for one in first] == [{**one, "line": 0} for one in table]
    assert [{**one, "line": 0} for one in first] == [{**one, "line": 0} for one in babi]


def test_lines_have_what_is_known(memhop: Program, trained: str) -> None:
    Path("q.jsonl").write_text(
        '{"id": 7, "story": "Sandra went to the zoo.", "question": "Where is Sandra?"}\n\n'
        '{"id": "b", "story": [], "question": "Where is Sandra?", "answer": "Zoö"}\n'
    )
    output = memhop("answer", trained, "q.jsonl", "--to", "a.jsonl").ok()
    first, second = lines("a.jsonl")
    assert (first["line"], first["id"], first["unknown_words"]) == (1, 7, ["zoo"])
    assert (first["no_answer"], first["truncated"]) == ("", 0)
    assert "right_answer" not in first
    assert "is_correct" not in first
    assert "attention" not in first
    assert (second["line"], second["id"], second["right_answer"]) == (3, "b", "Zoö")
    assert (second["no_answer"], second["is_correct"]) == ("no answer: the story is empty", False)
    assert output.out == "a.jsonl: 2 answers, 0 of 1 are correct (0.0%)\n"
    assert "Zoö" in Path("a.jsonl").read_text(encoding="utf-8")
    # a guess without a story is not correct, even if it is the right answer
    guessed = {"story": [], "question": "Where is Sandra?", "answer": second["answer"]}
    Path("q.jsonl").write_text(json.dumps(guessed))
    memhop("answer", trained, "q.jsonl", "--to", "b.jsonl").ok()
    [third] = lines("b.jsonl")
    assert (third["answer"], third["is_correct"]) == (second["answer"], False)


@pytest.mark.parametrize("batches", [0, 3, 6])
def test_an_interrupted_run_resumes_with_the_same_bytes(
    memhop: Program, trained: str, questions: str, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    whole = memhop("answer", trained, questions, "--to", "whole.jsonl", *BATCH).ok()
    line = ["answer", trained, questions, "--to", "a.jsonl", *BATCH]
    with monkeypatch.context() as patch:
        stop_after(patch, batches, KeyboardInterrupt)
        output = memhop(*line)
    done = 10 * batches
    message = f"memhop: stopped after {done} of 64 answers; the same command resumes"
    assert (output.status, output.out, output.err.splitlines()[-1]) == (130, "", message)
    assert not Path("a.jsonl").exists()
    assert lines("a.jsonl.part") == lines("whole.jsonl")[:done]
    output = memhop(*line).ok()
    assert output.out == whole.out.replace("whole", "a")
    assert f"resumes after {done} of 64 answers" in output.err or not done
    assert Path("a.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert not list(Path().glob("*.part*"))


@pytest.mark.parametrize(("cut", "kept"), [(1, 20), (-1, 60), (0, 64)])
def test_a_file_cut_anywhere_resumes_after_its_last_complete_batch(
    memhop: Program, trained: str, questions: str, cut: int, kept: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    line = ["answer", trained, questions, "--to", "a.jsonl", *BATCH]
    with monkeypatch.context() as patch:
        stop_after(patch, 0, KeyboardInterrupt)
        memhop(*line)
    memhop("answer", trained, questions, "--to", "whole.jsonl", *BATCH).ok()
    content = Path("whole.jsonl").read_bytes()
    rows = content.splitlines(keepends=True)
    part = {1: b"".join(rows[:29]) + rows[29][:-1], -1: content[:-1], 0: content}[cut]
    Path("a.jsonl.part").write_bytes(part)
    assert f"resumes after {kept} of 64 answers" in memhop(*line).ok().err
    assert Path("a.jsonl").read_bytes() == content


def test_a_run_resumes_with_the_same_model_questions_and_options_only(
    memhop: Program, trained: str, questions: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memhop("train", "--data", data, "--task", "2", "--joint", "--name", "two", *TINY)
    line = ["answer", trained, questions, "--to", "a.jsonl"]
    with monkeypatch.context() as patch:
        stop_after(patch, 1, KeyboardInterrupt)
        memhop(*line, *BATCH)
    before = Path("a.jsonl.part").read_bytes()
    again = "remove a.jsonl.part to start again"
    start = "a.jsonl.part: cannot resume: different "
    assert memhop(*line).error() == f"{start}batch_size (10, now 512); {again}"
    message = f"{start}attention (False, now True); {again}"
    assert memhop(*line, *BATCH, "--attention").error() == message
    other = ["answer", "two", questions, "--to", "a.jsonl", *BATCH]
    assert memhop(*other).error() == f"{start}model; {again}"
    with Path(questions).open("a") as file:
        file.write("\n")
    assert memhop(*line, *BATCH).error() == f"{start}questions; {again}"
    for broken in ("{", "[]", "{}", "[" * 100_000):
        Path("a.jsonl.part.json").write_text(broken)
        message = f"a.jsonl.part.json: cannot be read, so no answers resume; {again}"
        assert memhop(*line, *BATCH).error() == message
    assert Path("a.jsonl.part").read_bytes() == before
    Path("a.jsonl.part").unlink()
    Path("a.jsonl.part.json").unlink()
    memhop(*line).ok()


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    target, notes = tmp_path / "a.jsonl", tmp_path / "a.jsonl.part.json"
    refused = pytest.raises(MemhopError, match=r"a\.jsonl\.part: another process writes these")
    with answer_file(target, {"model": "x"}, 1, 1) as answers:
        before = notes.read_bytes()
        with refused, answer_file(target, {"model": "other"}, 1, 1):
            pass
        assert notes.read_bytes() == before
        answers.write(["x"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_the_notes_are_of_the_process_that_has_the_lock(tmp_path: Path) -> None:
    refused = pytest.raises(MemhopError, match="another process writes these answers")
    with locked(tmp_path / "a.jsonl.part"):
        with refused, answer_file(tmp_path / "a.jsonl", {"model": "x"}, 1, 1):
            pass
        assert not (tmp_path / "a.jsonl.part.json").exists()


def test_a_file_that_is_named_like_the_notes_stays(memhop: Program, trained: str) -> None:
    Path("q.jsonl").write_text('{"story": "a", "question": "b?"}')
    Path("a.jsonl.part.json").write_text('{"mine": 1}')
    message = "a.jsonl.part.json: already exists; give another name"
    assert memhop("answer", trained, "q.jsonl", "--to", "a.jsonl").error() == message
    assert Path("a.jsonl.part.json").read_text() == '{"mine": 1}'
    assert not Path("a.jsonl.part").exists()


def do_meanwhile(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something during the first batch."""
    answer_lines = answer_command.answer_lines
    left = [act]

    def acting(model: MemN2N, records: Sequence[Record], attention: bool) -> Iterator[str]:
        if left:
            left.pop()()
        return answer_lines(model, records, attention)

    patch.setattr(answer_command, "answer_lines", acting)


@pytest.mark.parametrize("change", ["cut", "grown", "other"])
def test_questions_that_change_meanwhile_are_an_error(
    memhop: Program, trained: str, questions: str, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    rows = Path(questions).read_bytes().splitlines(keepends=True)
    content = {"cut": rows[:40], "grown": [*rows, rows[0]], "other": [*rows[:-1], rows[-2]]}
    new = b"".join(content[change])
    do_meanwhile(monkeypatch, lambda: Path(questions).write_bytes(new))
    error = memhop("answer", trained, questions, "--to", "a.jsonl", *BATCH).err.splitlines()[-1]
    assert error == "memhop: q.jsonl: changed while its questions were answered"
    assert not Path("a.jsonl").exists()
    assert Path("a.jsonl.part").exists()


def test_a_file_that_appears_meanwhile_stays(
    memhop: Program, trained: str, questions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["answer", trained, questions, "--to", "a.jsonl", *BATCH]
    with monkeypatch.context() as patch:
        do_meanwhile(patch, lambda: Path("a.jsonl").write_text("mine"))
        error = memhop(*line).err.splitlines()[-1]
    assert error == "memhop: a.jsonl: already exists; give another name"
    assert Path("a.jsonl").read_text() == "mine"
    Path("a.jsonl").unlink()
    assert "resumes after 64 of 64 answers" in memhop(*line).ok().err
    assert sorted(path.name for path in Path().glob("a.*")) == ["a.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["q.jsonl", "--to", "q.jsonl"], "q.jsonl: already exists; give another name"),
        (["q.jsonl", "--to", "none/a.jsonl"],
         "none/a.jsonl: cannot be written: No such file or directory"),
        (["q.jsonl", "--to", "a.jsonl.gz"], "a.jsonl.gz: expected a name that ends in .jsonl"),
        (["q.jsonl", "--to", "a.csv"], "a.csv: expected a name that ends in .jsonl"),
        (["none.jsonl", "--to", "a.jsonl"], "none.jsonl: no such file"),
        (["runs", "--to", "a.jsonl"], "runs: expected a file, got a folder or a pipe"),
        (["bad.csv", "--to", "a.jsonl"],
         "bad.csv:13: question: expected a text with a word, got '?'"),
        (["empty.csv", "--to", "a.jsonl"],
         "empty.csv: expected at least one question, got none"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_the_first_answer(
    memhop: Program, trained: str, questions: str, arguments: list[str], message: str
) -> None:
    Path("bad.csv").write_text("story,question\n" + "a,b?\n" * 11 + "a,?\n")
    Path("empty.csv").write_text("story,question\n")
    before = sorted(Path().iterdir())
    assert memhop("answer", trained, *arguments, "--batch-size", "2").error() == message
    assert sorted(Path().iterdir()) == before


KILLED = """
import os, signal
from memhop.cli import main
from memhop.cli.answer_file import AnswerFile

write, calls = AnswerFile.write, []

def killed(answers, lines):
    calls.append(lines)
    write(answers, lines[:4] + [lines[4][:20]] if len(calls) == 3 else lines)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

AnswerFile.write = killed
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_killed_run_resumes_with_the_same_bytes(
    memhop: Program, trained: str, questions: str
) -> None:
    memhop("answer", trained, questions, "--to", "whole.jsonl", *BATCH).ok()
    line = ["answer", trained, questions, "--to", "a.jsonl", *BATCH]
    for done in (20, 40):
        killed = subprocess.run([sys.executable, "-c", KILLED, *line], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert not Path("a.jsonl").exists()
        assert Path("a.jsonl.part").read_bytes().count(b"\n") == done + 5
    assert "resumes after 40 of 64 answers" in memhop(*line).ok().err
    assert Path("a.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
