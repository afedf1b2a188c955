"""Rows of measurements: their provenance, their files."""

from pathlib import Path

import pytest

from memhop.errors import MemhopError
from memhop.reproduce.record import (
    Sheet,
    document,
    measured_on,
    provenance,
    read_rows,
    rows_to_resume,
    write_rows,
)

HERE = {"device": "A", "threads": 1, "torch": "2.13.0", "date": "2026-12-01", "commit": "abc"}
ON_A = "A, 1 threads, torch 2.13.0, 2026-12-01, commit abc"


def test_every_device_and_commit_of_the_rows_is_named_once() -> None:
    assert measured_on([HERE, HERE]) == f"Measured on {ON_A}."
    there = HERE | {"device": "B", "commit": "abc-dirty"}
    on_b = "B, 1 threads, torch 2.13.0, 2026-12-01, commit abc-dirty"
    assert measured_on([HERE, there, HERE]) == f"Measured on {ON_A}; on {on_b}."
    text = document([HERE, there], Sheet(columns=("n",), lines=[["1"]], note="a note"))
    assert text.endswith(f"Measured on {ON_A}; on {on_b}.\n")


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "rows.csv"
    row = {"error": 0.5, "tiny": False, **provenance()}
    write_rows(file, [row, row])
    stored = {name: str(value) for name, value in row.items()}
    assert read_rows(file) == [stored, stored]
    assert rows_to_resume(file, "measure", ("error", "tiny"), tiny=False) == [stored, stored]
    assert rows_to_resume(tmp_path / "none.csv", "measure", ("error", "tiny"), tiny=False) == []


def test_other_files_and_tiny_rows_are_refused_and_stay(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    write_rows(file, [{"error": 0.5, "tiny": True, **provenance()}])
    before = file.read_bytes()
    for columns, tiny in ((("error", "tiny"), False), (("loss", "tiny"), True)):
        with pytest.raises(MemhopError, match=r"rows\.csv"):
            rows_to_resume(file, "measure", columns, tiny)
    assert file.read_bytes() == before
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MemhopError, match="expected a CSV file of UTF-8 text"):
        read_rows(file)
