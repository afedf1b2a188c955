"""Retrieval on files in the format of PathQuestion: reading, splits, rows, table."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from benchmarks import retrieval
from benchmarks.pathquestion import (
    PathQuestion,
    read_facts,
    read_questions,
    right_facts,
    split,
)
from memhop.errors import MemhopError
from memhop.reproduce.record import read_rows
from tests.retrieval.generated import generate

from .conftest import Runner

ENCODER = "tests.retrieval.hashed_encoder:encode"


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """Write generated facts and questions in place of PQ-2H."""
    facts = generate("gold", num_people=8).facts
    objects = {fact[:2]: fact[2] for fact in facts}
    lines = []
    for topic, first, other in facts:
        for (subject, second), end in objects.items():
            if subject == other:
                path = "#".join([topic, first, other, second, end, "<end>", end])
                text = f"what is the {second} of the {first} of {topic} ?"
                lines.append(f"{text}\t{end}({end}/)\t{path}\n".replace(" in", "_in"))
    folder = tmp_path / "released"
    folder.mkdir()
    (folder / "PQ-2H.txt").write_text("".join(lines), encoding="utf-8")
    triples = "".join("\t".join(fact) + "\n" for fact in facts).replace(" in", "_in")
    (folder / "2H-kb.txt").write_text(triples, encoding="utf-8")
    return folder


def test_the_tiny_run_has_a_row_for_each_case_and_hop(run: Runner, released: Path) -> None:
    options = ("--data", str(released), "--encoder", ENCODER, "--tiny", "--to", "rows.csv")
    done = run("retrieval", *options)
    assert done.status == 0, done
    rows = read_rows(Path("rows.csv"))
    cases = [(row["split"], row["form"], row["trained_on"]) for row in rows]
    assert list(dict.fromkeys(cases)) == list(retrieval.CASES["PQ-2H"])
    assert [row["hop"] for row in rows if row["form"] == "facts"] == ["1", "2"] * 4
    assert [row["hop"] for row in rows if row["form"] == "single-shot"] == ["2"] * 3
    for row in rows:
        assert row["data"] == "PQ-2H"
        assert row["epochs"] == ("0" if row["trained_on"] == "nothing" else "2")
        shares = [float(row[f"{name}_at_{k}"]) for k in (1, 5) for name in ("listed", "recall")]
        assert 0 <= shares[0] <= shares[1] <= 100
        assert shares[0] <= shares[2] <= shares[3] <= 100
    assert "single-shot: a sentence for each fact" in done.out.replace("\n", " ")


def test_the_files_are_read_by_the_path(tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text(
        "who is a_b 's son ?\tc_(d)(c_(d)/)\ta_b#child#c_(d)#<end>#c_(d)\n\n"
        " what of x ?\tz(z/)\tx#__r__s#y#t#z\n",
        encoding="utf-8",
    )
    assert read_questions(file) == [
        PathQuestion("who is a_b 's son ?", (("a_b", "child", "c_(d)"),)),
        PathQuestion("what of x ?", (("x", "__r__s", "y"), ("y", "t", "z"))),
    ]
    file.write_text("a\tr\tb\n\nb\ts\tc \na\tr\tb\n", encoding="utf-8")
    assert read_facts(file) == [("a", "r", "b"), ("b", "s", "c")]


@pytest.mark.parametrize(
    ("line", "read", "message"),
    [
        ("a\tb", read_facts, "expected subject, relation, object with tabs, got 'a\\tb'"),
        ("a\tb#c", read_questions, "expected question, answers, path with tabs, got 'a\\tb#c'"),
        ("a\tb\tc#d", read_questions,
         "expected question, answers, path with tabs, got 'a\\tb\\tc#d'"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_an_error_with_its_number(
    tmp_path: Path, line: str, read: Any, message: str
) -> None:
    file = tmp_path / "file.txt"
    file.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(MemhopError, match=f"^{re.escape(f'{file}:2: {message}')}$"):
        read(file)
    with pytest.raises(MemhopError, match=r"none\.txt: cannot be read: No such file or directory$"):
        read(tmp_path / "none.txt")


def test_every_path_with_the_relations_is_right() -> None:
    facts = [("a", "child", "b"), ("a", "child", "c"), ("b", "home", "x"), ("c", "home", "y"),
             ("c", "work", "z"), ("d", "home", "x")]  # fmt: skip
    question = PathQuestion("?", (facts[0], facts[2]))
    assert right_facts(facts, [question]) == [[facts[:2], facts[2:4]]]


@pytest.mark.parametrize("by", ["path", "random"])
def test_parts_share_no_text_and_by_path_no_topic_with_the_same_relations(by: str) -> None:
    asked = [
        PathQuestion(f"text {n % 90} of {n % 40}", ((f"topic {n % 40}", f"r{n % 3}", "x"),))
        for n in range(400)
    ]
    parts = split(asked, by, 0)
    assert sorted(number for part in parts for number in part) == list(range(400))
    assert [len(part) for part in parts] == pytest.approx([320, 40, 40], abs=8)
    for one, other in combinations(parts, 2):
        assert {asked[n].text for n in one}.isdisjoint(asked[n].text for n in other)
        paths = {(asked[n].topic, asked[n].relations) for n in one}
        shared = paths & {(asked[n].topic, asked[n].relations) for n in other}
        assert bool(shared) == (by == "random")
    assert split(asked, by, 0) == parts != split(asked, by, 1)


def row(**changes: Any) -> dict[str, Any]:
    return {
        "data": "PQ-2H", "split": "path", "form": "facts", "trained_on": "answers", "seed": 0,
        "hop": 1, "recall_at_1": 90.0, "recall_at_5": 99.0, "listed_at_1": 80.0,
        "listed_at_5": 98.0, "seconds": 10.0, **changes,
    }  # fmt: skip


def test_the_table_has_the_means_of_the_seeds() -> None:
    rows = [row(), row(seed=1, recall_at_1=92.0), row(hop=2), row(hop=2, seed=1, listed_at_5=99),
            row(form="single-shot", trained_on="nothing", hop=2, seconds=0.0)]  # fmt: skip
    [sheet] = retrieval.sheets(rows)
    assert sheet.lines == [
        ["PQ-2H", "path", "single-shot", "nothing", "-", "90.0 / 99.0", "80.0 / 98.0", "0"],
        ["PQ-2H", "path", "facts", "answers", "91.0 / 99.0", "90.0 / 99.0", "80.0 / 98.5", "10"],
    ]
    assert sheet.columns[4:6] == ("hop 1", "hop 2")


@pytest.mark.parametrize("encoder", ["tests.none:encode", "tests.retrieval.hashed_encoder", ""])
def test_a_wrong_encoder_or_folder_is_an_error_of_one_line(
    run: Runner, released: Path, encoder: str
) -> None:
    done = run("retrieval", "--data", str(released), "--encoder", encoder)
    assert done.status == 2
    assert done.err.startswith(f"benchmarks: --encoder: expected MODULE:FUNCTION, got {encoder!r}")
    assert done.err.count("\n") == 1
    done = run("retrieval", "--data", ".", "--encoder", ENCODER)
    assert done.err == "benchmarks: .: expected PQ-2H.txt or PQL-3H.txt in it, got neither\n"
