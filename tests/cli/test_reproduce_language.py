"""``memhop reproduce ptb``: tiny runs, stopping, resuming, and mistakes."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from memhop.cli.reproduce_language import TABLE
from memhop.reproduce import ptb
from memhop.reproduce.generated_sets import write_ptb
from memhop.reproduce.record import read_rows, write_rows

from .conftest import Program

TINY = ("reproduce", "ptb", "--tiny", "--to", "rows.csv", "--rows")


def rows() -> list[tuple[str, str, str, str]]:
    names = "row", "protocol", "epochs", "finished"
    return [
        (row[names[0]], row[names[1]], row[names[2]], row[names[3]])
        for row in read_rows(Path("rows.csv"))
    ]


def test_the_default_rows_are_those_of_the_paper() -> None:
    assert ",".join(f"{hops}x{words}" for hops, words in ptb.PUBLISHED) == TABLE


def test_rows_of_both_protocols(memhop: Program) -> None:
    done = memhop(*TINY, "2x5,3x4").ok()
    assert [line.split()[0] for line in done.out.splitlines()[1:3]] == ["2x5", "3x4"]
    assert "2x5: epoch 2/2, loss " in done.err
    assert "3x4 paper paper: " in done.err
    assert ", 0 left" in done.err
    more = memhop(*TINY, "3x4", "--protocol", "contiguous", "--precision", "bfloat16").ok()
    assert "contiguous  bfloat16" in more.out
    assert {one[:2] for one in rows()} == {
        ("2x5", "paper"), ("3x4", "paper"), ("3x4", "contiguous")
    }  # fmt: skip
    before = Path("rows.csv").read_bytes()
    again = memhop(*TINY, "3x4,2x5").ok()
    assert (again.out, again.err) == (more.out, "")
    assert Path("rows.csv").read_bytes() == before


def test_a_training_that_was_stopped_resumes_with_the_command_that_is_printed(
    memhop: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_of = ptb.row_of

    def stopped(*arguments: Any, **options: Any) -> Any:
        def interrupt(progress: Any) -> None:
            if progress.epoch == 2:
                raise KeyboardInterrupt

        return row_of(*arguments, **options | {"on_progress": interrupt})

    with monkeypatch.context() as patch:
        patch.setattr(ptb, "row_of", stopped)
        done = memhop(*TINY, "2x5", "--seed", "1", "--runs", "my runs")
    assert done.status == 130
    _, _, command = done.err.rstrip().rpartition("stopped; resume with: memhop ")
    assert command == ("reproduce ptb --rows 2x5 --seed 1 --runs 'my runs' --tiny --to rows.csv")
    assert not Path("rows.csv").exists()
    as_it_is = memhop(*shlex.split(command), "--max-epochs", "0").ok()
    assert "  1*  " in as_it_is.out
    assert rows() == [("2x5", "paper", "1", "False")]
    memhop(*shlex.split(command)).ok()
    assert rows() == [("2x5", "paper", "2", "True")]
    assert [path.name for path in Path("my runs").iterdir()] == ["2x5-paper-paper-float32-1-tiny"]


def test_some_epochs_of_each_row(memhop: Program) -> None:
    done = memhop(*TINY, "2x5,3x4", "--max-epochs", "1").ok()
    lines = done.err.splitlines()
    assert [line.split(",")[0] for line in lines[::2]] == ["2x5: epoch 1/1", "3x4: epoch 1/1"]
    assert all(line.endswith(", 0.0 s left") for line in lines[::2])
    assert all(" after 1 epoch (stopped), " in line for line in lines[1::2])
    assert rows() == [("2x5", "paper", "1", "False"), ("3x4", "paper", "1", "False")]
    assert memhop(*TINY, "2x5", "--max-epochs", "1").ok().err == ""
    nothing = memhop("reproduce", "ptb", "--tiny", "--rows", "4x4", "--max-epochs", "0")
    assert nothing.error() == (
        "reproduce ptb: expected a trained row with --max-epochs 0, got none; "
        "4x4: no epoch in runs/ptb/4x4-paper-paper-float32-0-tiny"
    )
    some = memhop(*TINY, "4x4,2x5", "--max-epochs", "0").ok()
    assert some.err.endswith("4x4: no epoch in runs/ptb/4x4-paper-paper-float32-0-tiny\n")
    assert [one[0] for one in rows()] == ["2x5", "3x4"]


def test_each_epoch_has_a_line_in_every_row(
    memhop: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ptb, "TINY_LINES", 10)
    monkeypatch.setitem(ptb.TINY, "epochs", 30)
    first = memhop(*TINY, "2x5", "--max-epochs", "3").ok().err.splitlines()
    rest = memhop(*TINY, "2x5").ok().err.splitlines()
    assert rest.pop(0) == "resumes at step 1 of epoch 4"
    started = [line.split(",")[0] for line in (*first[:-1], *rest[:-1])]
    last = int(rows()[0][2])
    assert last > 10
    assert started == [
        f"2x5: epoch {epoch}/{3 if epoch < 4 else 30}" for epoch in range(1, last + 1)
    ]


def test_rows_of_another_text_are_shown_alone(memhop: Program) -> None:
    Path("data").mkdir()
    write_ptb(Path("data"))
    line = ("reproduce", "ptb", "--rows", "6x25", "--max-epochs", "1")
    for where in (("--tiny",), ("--data", "data", "--precision", "bfloat16")):
        shown = memhop(*line, *where).ok().out
        assert "The text is not that of the paper" in " ".join(shown.split())
        assert "(125)" not in shown


def test_rows_of_another_text_are_not_resumed(memhop: Program) -> None:
    Path("data").mkdir()
    write_ptb(Path("data"))
    row: dict[str, Any] = dict.fromkeys(ptb.COLUMNS, 1)
    row |= {"row": "2x5", "protocol": "paper", "tiny": False, "words": 5, "test_scored": 95}
    write_rows(Path("rows.csv"), [row])
    done = memhop("reproduce", "ptb", "--data", "data", "--to", "rows.csv")
    assert done.status == 2
    *counts, error = done.err.splitlines()
    assert len(counts) == 4
    assert counts[0].startswith("vocabulary: expected 10,000 words, got ")
    assert error.startswith("memhop: rows.csv: cannot resume: its rows are of 100 words of")
    assert "cannot resume: its rows are without --tiny" in memhop(*TINY, "2x5").error()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "reproduce ptb: expected --data DIR, or --tiny for generated text"),
        ("--tiny --rows 6by50", "--rows: expected HOPSxWORDS, such as 6x50, or 'best', got '6by5"),
        ("--tiny --rows 6x5000", "num_words: expected an integer from 1 up to 4096, got 5000"),
        ("--tiny --rows 2x3000", "training text: expected at least 3,001 words with 3000 in mem"),
        ("--data .", "ptb.train.txt: no such file: expected the preprocessed Penn Treebank"),
        ("--tiny --to .", "expected a file to write, got a folder"),
        ("--tiny --rows 2x5 --runs file", "file/2x5-paper-paper-float32-0-tiny: cannot be written"),
    ],
)
def test_mistakes(memhop: Program, line: str, message: str) -> None:
    Path("file").touch()
    assert message in memhop("reproduce", "ptb", *line.split()).error()
