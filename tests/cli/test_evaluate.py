"""``memhop eval``: the file of wrong answers, and the table of what is confused."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from memhop.cli.wrong_answers import has_few_answers, print_confusion
from memhop.data import read_babi, read_examples, write_examples
from memhop.tokenizer import answer_word

from .conftest import TINY, Program

TEST = "qa1_single-supporting-fact_test.txt"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_wrong_answers_are_listed_with_their_attention(
    memhop: Program, trained: str, data: str
) -> None:
    file = f"{data}/{TEST}"
    line = ("eval", trained, "--test", file, "--errors", "wrong.jsonl")
    [result] = json.loads(memhop(*line, "--json").ok().out)
    wrong = lines("wrong.jsonl")
    assert len(wrong) == round(64 * result["error"] / 100) > 0
    memhop("answer", trained, file, "--to", "all.jsonl", "--attention").ok()
    examples = read_examples(file)
    pairs = zip(lines("all.jsonl"), examples, strict=True)
    expected = [pair for pair in pairs if not pair[0]["is_correct"]]
    for one, (other, example) in zip(wrong, expected, strict=True):
        assert (one["task"], one["line"]) == (TEST, other["line"])
        assert one["right_answer"] == example.answer
        assert one["sentences"] == [*example.story]
        assert one["supporting_facts"] == [*example.supporting_facts]
        assert (one["question"], one["answer"]) == (other["question"], other["answer"])
        assert one["probability"] == pytest.approx(other["probability"], abs=2e-6)
        assert [len(hop) for hop in one["attention"]] == [len(example.story)] * 3


def test_a_file_of_the_user_is_not_replaced(memhop: Program, trained: str) -> None:
    Path("t.jsonl").write_text('{"story": "a", "question": "b?", "answer": "c"}\n')
    line = ("eval", trained, "--test", "t.jsonl", "--errors")
    assert memhop(*line, "t.jsonl").error() == "t.jsonl: already exists; give another name"
    assert len(read_examples("t.jsonl")) == 1
    message = "wrong.jsonl.gz: expected a name that ends in .jsonl"
    assert memhop(*line, "wrong.jsonl.gz").error() == message
    assert not list(Path().glob("*wrong*"))


def test_a_guess_is_wrong_for_eval_as_for_answer(memhop: Program, trained: str) -> None:
    asked = {"story": "xx yy", "question": "Where is Mary?"}
    Path("a.jsonl").write_text(json.dumps(asked))
    memhop("answer", trained, "a.jsonl", "--to", "guess.jsonl").ok()
    [guess] = lines("guess.jsonl")
    known = {"id": "k", **asked, "story": "Mary went.", "answer": "nowhere"}
    unknown = {"id": 7, **asked, "answer": guess["answer"]}
    Path("t.jsonl").write_text(f"\n{json.dumps(unknown)}\n{json.dumps(known)}\n")
    line = ("eval", trained, "--test", "t.jsonl")
    [result] = json.loads(memhop(*line, "--errors", "wrong.jsonl", "--json").ok().out)
    assert result["error"] == 100.0
    first, second = lines("wrong.jsonl")
    assert (first["line"], first["id"], second["line"], second["id"]) == (2, 7, 3, "k")
    assert first["no_answer"] == "no answer: the model knows no word of the story"
    memhop("answer", trained, "t.jsonl", "--to", "all.jsonl").ok()
    assert [one["is_correct"] for one in lines("all.jsonl")] == [False, False]
    assert "no answer" in memhop(*line).ok().out


def test_the_tasks_of_a_folder_are_listed_in_one_file(memhop: Program, data: str) -> None:
    memhop("train", "--data", data, "--joint", "--name", "both", *TINY).ok()
    output = memhop("eval", "both", "--data", data, "--errors", "wrong.jsonl", "--json").ok()
    results = json.loads(output.out)
    assert output.err.count("task ") == 2
    tasks = [one["task"] for one in lines("wrong.jsonl")]
    for task in ("1", "2"):
        [result] = (one for one in results if one["task"] == task)
        assert tasks.count(task) == round(64 * result["error"] / 100)
    assert "right / given" not in memhop("eval", "both", "--data", data).ok().out


def test_no_file_is_left_after_an_error(memhop: Program, trained: str) -> None:
    line = ("eval", trained, "--test", "none.csv", "--errors")
    assert memhop(*line, "wrong.jsonl").error() == "none.csv: no such file"
    assert not list(Path().glob("*wrong*"))
    message = "no/wrong.jsonl: cannot be written: No such file or directory"
    assert memhop(*line, "no/wrong.jsonl").error() == message


def test_the_table_counts_each_given_answer(memhop: Program, trained: str, data: str) -> None:
    file = f"{data}/{TEST}"
    out = memhop("eval", trained, "--test", file).ok().out
    [result] = json.loads(memhop("eval", trained, "--test", file, "--json").ok().out)
    memhop("answer", trained, file, "--to", "all.jsonl").ok()
    given = [(answer_word(one["right_answer"]), answer_word(one["answer"]))
             for one in lines("all.jsonl")]  # fmt: skip
    table = {right: {one: given.count((right, one)) for one in {b for a, b in given if a == right}}
             for right in {a for a, _ in given}}  # fmt: skip
    assert result["confusion"] == table
    rows = [line.split() for line in out.splitlines()]
    start = next(index for index, row in enumerate(rows) if row[:3] == ["right", "/", "given"])
    names = rows[start][3:]
    assert names == sorted({*table, *(answer for one in table.values() for answer in one)})
    for right, *counts in rows[start + 1 :]:
        found = {name: int(n) for name, n in zip(names, counts, strict=True) if n != "-"}
        assert found == table.pop(right)
    assert not table


def test_many_answers_have_no_table(memhop: Program, trained: str, data: str) -> None:
    examples = read_babi(f"{data}/{TEST}")
    many = [one._replace(answer=f"place {place}") for place, one in enumerate(examples[:9])]
    write_examples("many.jsonl", many)
    [result] = json.loads(memhop("eval", trained, "--test", "many.jsonl", "--json").ok().out)
    assert result["confusion"] is None
    assert "right / given" not in memhop("eval", trained, "--test", "many.jsonl").ok().out


@pytest.mark.parametrize(
    "name", ["a very long answer", "很长很长的答案很长很长的答案", "a\x1b[0m\x07"]
)
def test_the_table_fits_into_80_columns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [f"{name} {number}" for number in range(8)]
    table = {right: dict.fromkeys(answers, 1000) for right in answers}
    assert has_few_answers(table)
    print_confusion(table)
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 9
    assert all(row.isprintable() for row in rows)
    assert max(map(cell_len, rows)) <= 80
    assert not has_few_answers({"a": dict.fromkeys("abcdefghi", 1)})
    assert not has_few_answers({})
