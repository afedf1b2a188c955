"""``memhop convert``: the formats into each other, and what a format cannot hold."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from memhop.cli import convert as convert_command
from memhop.data import read_examples
from memhop.data.record_writers import writer
from memhop.data.records import read_records

from .conftest import Program

OTHERS = "only .jsonl, .csv and .tsv (also with .gz) are read as other formats than bAbI"
STORIES = (
    "1 Mary took the milk.\n2 Mary went home.\n3 Where is the milk?\thome\t1 2\n"
    "4 John left.\n5 Who left?\tJohn\t4\n6 Who took the milk?\tMary\n1 It rained.\n2 Why?\t-\n"
)


@pytest.mark.parametrize(
    ("first", "second"), [*permutations([".txt", ".jsonl", ".csv", ".tsv"], 2)]
)
def test_a_file_is_converted_and_back(memhop: Program, first: str, second: str) -> None:
    Path("stories.txt").write_text(STORIES)
    for source, target in (("stories.txt", f"a{first}"), (f"a{first}", f"b{second}"),
                           (f"b{second}", f"c{first}"), (f"c{first}", "d.txt")):  # fmt: skip
        assert memhop("convert", source, target).ok().out == f"{target}: 4 questions\n"
    assert Path("d.txt").read_text() == STORIES
    assert Path(f"a{first}").read_bytes() == Path(f"c{first}").read_bytes()
    assert read_examples(f"b{second}") == read_examples("stories.txt")


def test_the_fields_of_each_format(memhop: Program) -> None:
    Path("a.txt").write_text("1 Mary left.\n2 Who left?\tMary\t1\n")
    for suffix in ("jsonl", "csv", "tsv"):
        assert memhop("convert", "a.txt", f"b.{suffix}").ok().out == f"b.{suffix}: 1 question\n"
    assert Path("b.jsonl").read_text() == (
        '{"story": ["Mary left."], "question": "Who left?", "answer": "Mary", '
        '"supporting_facts": [0]}\n'
    )
    head = "id,story,question,answer,supporting_facts"
    assert Path("b.csv").read_bytes().decode() == f"{head}\r\n,Mary left.,Who left?,Mary,0\r\n"
    assert Path("b.tsv").read_bytes().decode() == (
        head.replace(",", "\t") + "\r\n\tMary left.\tWho left?\tMary\t0\r\n"
    )


def test_ids_keep_their_type(memhop: Program) -> None:
    ids = [7, "q7", "007", 0, -1, "9007199254740993", "+7", "1.0"]
    lines = [f'{{"id": {json.dumps(one)}, "story": "a", "question": "b?"}}\n' for one in ids]
    Path("a.jsonl").write_text("".join(lines))
    memhop("convert", "a.jsonl", "b.tsv").ok()
    memhop("convert", "b.tsv", "c.jsonl").ok()
    found = [record.id for record in read_records("c.jsonl", needs_answers=False)]
    assert [(type(one), one) for one in found] == [(type(one), one) for one in ids]


def test_a_file_that_appears_meanwhile_stays(
    memhop: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.txt").write_text(STORIES)

    def creating(*arguments: Any) -> Any:
        Path("b.csv").write_text("mine")
        return writer(*arguments)

    monkeypatch.setattr(convert_command, "writer", creating)
    assert memhop("convert", "a.txt", "b.csv").error() == EXISTS
    assert {path.name: path.read_text() for path in Path().iterdir()} == {
        "a.txt": STORIES, "b.csv": "mine"
    }  # fmt: skip


EXISTS = "b.csv: already exists; give another name"


def test_ids_and_missing_answers_are_kept_in_the_formats_that_hold_them(memhop: Program) -> None:
    Path("a.jsonl").write_text('{"story": "a", "question": "b?", "id": "x"}\n')
    memhop("convert", "a.jsonl", "b.csv").ok()
    memhop("convert", "b.csv", "c.jsonl").ok()
    [record] = read_records("c.jsonl", needs_answers=False)
    assert (record.id, record.example.answer) == ("x", "")


@pytest.mark.parametrize(
    ("source", "content", "target", "message"),
    [
        ("a.jsonl", '\n{"id": 1, "story": "a", "question": "b?", "answer": "c"}', "b.txt",
         "a.jsonl:2: bAbI: expected no id, got 1"),
        ("a.csv", "story,question\na,b?\n", "b.txt",
         "a.csv:2: bAbI: expected an answer, got none for 'b?'"),
        ("a.csv", 'story,question,answer\na,b?,c\n"Who?",b?,c\n', "b.txt",
         "a.csv:3: expected a statement, got a question: 'Who?'"),
        ("a.jsonl", '{"story": "a", "question": "b?", "by": "c"}', "b.csv", "a.jsonl:1: expected "
         "the fields id, story, question, answer, supporting_facts, got 'by'"),
        ("a.csv", "story,question,,\na,b?,left,\n", "b.jsonl", "a.csv:2: expected "
         "the fields id, story, question, answer, supporting_facts, got ''"),
        ("a.jsonl", '{"id": "7", "story": "a", "question": "b?"}', "b.csv",
         "a.jsonl:1: a table: the id '7' would be read as 7"),
        ("a.jsonl", '{"id": 9007199254740993, "story": "a", "question": "b?"}', "b.csv",
         "a.jsonl:1: a table: the id 9007199254740993 would be read as '9007199254740993'"),
        ("a.json", "[{}]", "b.csv", f"a.json:1: expected a line 'ID text', got '[{{}}]'; {OTHERS}"),
        ("a.txt", "1 a\n2 b?\tc\n3 d\n1 e?\tf\n", "b.jsonl",
         "a.txt:3: expected a question after each statement, got none: 'd'"),
        ("a.txt", "1 a\n2 b\n", "b.jsonl",
         "a.txt: expected at least one line 'ID question<TAB>answer', got no question"),
        ("a.csv", "story,question\n", "b.jsonl",
         "a.csv: expected at least one question, got none"),
        ("a.txt", "1 a\0\n2 b?\tc\n", "b.csv",
         "a.txt:2: story: expected text, got the character NUL"),
        ("a.txt", "1 a\n2 b?\tc\n", "b.json", "b.json: expected a name that ends in .jsonl, .csv, "
         ".tsv, or .txt for the bAbI format"),
        ("a.txt", "1 a\n2 b?\tc\n", "a.txt", "a.txt: already exists; give another name"),
        ("none.csv", "", "b.txt", "none.csv: no such file"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_an_error(
    memhop: Program, source: str, content: str, target: str, message: str
) -> None:
    if content:
        Path(source).write_text(content)
    before = sorted(Path.cwd().iterdir())
    assert memhop("convert", source, target).error() == message
    assert sorted(Path.cwd().iterdir()) == before
