"""``memhop reproduce pathquestion`` and ``metaqa``: tiny runs, resuming, and mistakes."""

from pathlib import Path
from typing import Any

import pytest

from memhop.reproduce import metaqa, pathquestion
from memhop.reproduce.generated_sets import write_metaqa, write_pathquestion
from memhop.reproduce.record import read_rows, write_rows

from .conftest import Program

TINY = ("pathquestion", "--tiny", "--sets", "PQ-2H", "--splits", "path")


def test_pathquestion(memhop: Program) -> None:
    arguments = ("--models", "key-value,tracking", "--seeds", "1", "--to", "rows.csv")
    done = memhop("reproduce", *TINY, *arguments).ok()
    assert [line.split()[:3] for line in done.out.splitlines()[1:3]] == [
        ["PQ-2H", "tracking", "99.1"], ["PQ-2H", "key-value", "93.7"]
    ]  # fmt: skip
    rows = read_rows(Path("rows.csv"))
    assert [row["model"] for row in rows] == ["tracking", "key-value"]
    assert all(row["tiny"] == "True" for row in rows)
    assert "key-value PQ-2H path 0: " in done.err
    assert ", 0 left" in done.err


def test_metaqa(memhop: Program) -> None:
    done = memhop("reproduce", "metaqa", "--tiny", "--seeds", "1", "--to", "rows.csv").ok()
    assert [line.split()[0] for line in done.out.splitlines()[1:4]] == ["1", "2", "3"]
    assert [row["hops"] for row in read_rows(Path("rows.csv"))] == ["1", "2", "3"]
    again = memhop("reproduce", "metaqa", "--tiny", "--seeds", "1", "--to", "rows.csv").ok()
    assert again.out == done.out
    assert again.err == ""


def test_a_stopped_run_keeps_its_rows_and_resumes(
    memhop: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[pathquestion.Unit] = []
    row_of = pathquestion.row_of

    def stopped(folder: Path, unit: pathquestion.Unit, *rest: Any) -> dict[str, Any]:
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(unit)
        return row_of(folder, unit, *rest)

    arguments = ("reproduce", *TINY, "--models", "key-value", "--seeds", "3", "--to", "rows.csv")
    monkeypatch.setattr(pathquestion, "row_of", stopped)
    assert memhop(*arguments).status == 130
    [first] = read_rows(Path("rows.csv"))
    trained[:] = []

    def counted(folder: Path, unit: pathquestion.Unit, *rest: Any) -> dict[str, Any]:
        trained.append(unit)
        return row_of(folder, unit, *rest)

    monkeypatch.setattr(pathquestion, "row_of", counted)
    memhop(*arguments).ok()
    assert [unit.seed for unit in trained] == [1, 2]
    rows = read_rows(Path("rows.csv"))
    assert rows[0] == first
    assert [row["seed"] for row in rows] == ["0", "1", "2"]


def test_rows_of_another_run_are_not_resumed(memhop: Program) -> None:
    Path("data").mkdir()
    write_pathquestion(Path("data"), ["PQ-2H"])
    write_metaqa(Path("data"))
    row: dict[str, Any] = dict.fromkeys(pathquestion.COLUMNS, 1)
    row |= {"model": "tracking", "set": "PQ-2H", "split": "path", "seed": 0}
    run = ("reproduce", "pathquestion", "--data", "data", "--sets", "PQ-2H", "--to", "rows.csv")
    write_rows(Path("rows.csv"), [row | {"tiny": False}])
    assert memhop(*run).error() == (
        "rows.csv: cannot resume: its rows are of 3 questions of PQ-2H, now 120; "
        "give --to another file"
    )
    assert "cannot resume: its rows are without --tiny" in memhop(*run, "--tiny").error()
    other = ("reproduce", "metaqa", "--data", "data", "--to", "rows.csv")
    assert memhop(*other).error() == ("rows.csv: expected a new file or rows of 'reproduce metaqa'")
    write_rows(Path("rows.csv"), [dict.fromkeys(metaqa.COLUMNS, 1) | {"tiny": True}])
    assert "cannot resume: its rows are with --tiny" in memhop(*other).error()
    assert len(read_rows(Path("rows.csv"))) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pathquestion", "reproduce pathquestion: expected --data DIR, or --tiny for generated"),
        ("metaqa", "reproduce metaqa: expected --data DIR, or --tiny for generated questions"),
        ("pathquestion --tiny --sets PQ-4H", "--sets: expected names of PQ-2H, PQ-3H, PQL-2H, P"),
        ("pathquestion --tiny --splits path,", "--splits: expected names of random, path, got ''"),
        ("pathquestion --tiny --models x", "--models: expected names of tracking, key-value, got"),
        ("pathquestion --data .", "PQ-2H.txt: no such file"),
        ("metaqa --data .", "kb.txt: no such file"),
        ("metaqa --to file/rows.csv", "cannot be written to"),
        ("pathquestion --to .", "expected a file to write, got a folder"),
    ],
)
def test_mistakes(memhop: Program, line: str, message: str) -> None:
    Path("file").touch()
    assert message in memhop("reproduce", *line.split()).error()
