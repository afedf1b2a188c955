"""CSV rows of measurements with their provenance, and the tables made from them."""

import csv
import datetime
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from memhop import __version__
from memhop.atomic_write import atomic_write, check_writable
from memhop.errors import MemhopError

Row = Mapping[str, Any]
Rows = Sequence[Row]


class Sheet(NamedTuple):
    """A table of results.

    Attributes:
        title: the heading.
        columns: the header.
        lines: the cells, a list a line.
        note: the paragraph below the table.
        text: preformatted lines, such as a picture.
    """

    title: str = ""
    columns: tuple[str, ...] = ()
    lines: Sequence[Sequence[str]] = ()
    note: str = ""
    text: str = ""

    def markdown(self) -> str:
        """Return the table in Markdown.

        >>> print(Sheet("Errors", ("task", "%"), [["1", "0.0"]]).markdown())
        Errors:
        <BLANKLINE>
        | task | % |
        | --- | ---: |
        | 1 | 0.0 |
        <BLANKLINE>
        """
        header = [self.columns, ("---", *["---:"] * (len(self.columns) - 1))]
        table = "\n".join(f"| {' | '.join(line)} |" for line in [*header, *self.lines])
        parts = (
            f"{self.title}:" if self.title else "",
            table if self.columns else "",
            f"```text\n{self.text}\n```" if self.text else "",
            self.note,
        )
        return "\n\n".join(filter(None, parts)) + "\n"


def provenance() -> dict[str, str | int]:
    """Return the last columns of every row: device, threads, versions, date, commit."""
    return {
        "device": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "memhop": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
    }


def measured_on(rows: Rows) -> str:
    """Return the provenance of rows as a sentence; each device, date, ... is named once."""
    places = (
        f"{row['device']}, {row['threads']} threads, torch {row['torch']}, {row['date']}, "
        f"commit {row['commit']}"
        for row in rows
    )
    return f"Measured on {'; on '.join(dict.fromkeys(places))}."


def document(rows: Rows, *sheets: Sheet) -> str:
    """Return tables of rows in Markdown with the provenance of the rows."""
    return "\n".join([*(sheet.markdown() for sheet in sheets), f"{measured_on(rows)}\n"])


def write_rows(path: Path, rows: Rows) -> None:
    """Replace a CSV file atomically."""
    make_folder(path.parent)
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise MemhopError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise MemhopError(f"{path}: expected a CSV file of UTF-8 text") from error


def rows_to_resume(
    path: Path | None, command: str, columns: Sequence[str], tiny: bool
) -> list[dict[str, Any]]:
    """Return the rows of an existing file of a command, or none.

    Args:
        path: the file, which stays as it is.
        command: the name of the command, for errors.
        columns: the columns of a row before those of its provenance; one of them is ``tiny``.
        tiny: whether the command runs with --tiny.

    Raises:
        MemhopError: the rows are of another command, or with the other value of ``tiny``.
    """
    if path is None or not path.exists():
        return []
    rows: list[dict[str, Any]] = [*read_rows(path)]
    if not rows or any(tuple(row)[: len(columns)] != tuple(columns) for row in rows):
        raise MemhopError(f"{path}: expected a new file or rows of '{command}'")
    if any(row["tiny"] != str(tiny) for row in rows):
        has = "without" if tiny else "with"
        raise MemhopError(f"{path}: cannot resume: its rows are {has} --tiny; give --to another")
    return rows


def check_equal(path: Path | None, what: str, stored: int, count: int) -> None:
    """Check that the rows of a file are of data with as many questions as now."""
    if stored != count:
        raise MemhopError(
            f"{path}: cannot resume: its rows are of {stored:,} {what}, now {count:,}; "
            "give --to another file"
        )


def as_text(rows: Rows) -> list[dict[str, str]]:
    """Return rows as `read_rows` would: with every value a string.

    >>> as_text([{"a": 1.5, "b": None}])
    [{'a': '1.5', 'b': ''}]
    """
    return [{name: "" if value is None else str(value) for name, value in row.items()}
            for row in rows]  # fmt: skip


def is_rows(path: Path) -> bool:
    """Return whether a file has the rows of a measurement, which end with their provenance."""
    if not path.is_file():
        return False
    with suppress(MemhopError):
        rows = read_rows(path)
        return bool(rows) and list(rows[0])[-2:] == ["date", "commit"]
    return False


def check_writable_file(path: Path) -> None:
    """Check before long work that its result can be written to ``path``."""
    if path.is_dir():
        raise MemhopError(f"{path}: expected a file to write, got a folder")
    check_writable(path.parent)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if they do not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MemhopError(f"{folder}: cannot be written: {error.strerror}") from error


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Return the commit of this source, with "-dirty" if files changed; "" outside a checkout."""
    here = Path(__file__).parents[1]
    if {"site-packages", "dist-packages"} & set(here.parts):  # a .git above is of other code
        return ""
    try:
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        # the source alone: new rows in results/ do not change what is measured
        changed = _git(here, "status", "--porcelain", "--", ".", ":/benchmarks")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
