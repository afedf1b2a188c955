"""Write the paper's table and its picture next to the rows of a run."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from memhop.atomic_write import atomic_write, check_new
from memhop.errors import MemhopError
from memhop.reproduce.record import Rows, Sheet, document
from memhop.reproduce.table1_report import Paper, columns_of, sheet_of


def check_report(file: Path, suffixes: Sequence[str] = (".md", ".svg")) -> None:
    """Check for new rows that the table and its picture would replace no other file.

    Raises:
        MemhopError: one of the files exists.
    """
    for suffix in suffixes:
        if file.suffix == suffix:
            raise MemhopError(f"{file}: expected a CSV file; the table is written to {file.name}")
        check_new(file.with_suffix(suffix))


def write_report(file: Path, rows: Rows, paper: Paper) -> Iterator[Path]:
    """Write the table next to the rows as Markdown and, with matplotlib, as a picture.

    Yields the path of each; nothing if every training diverged.
    """
    if not columns_of(rows, paper):
        return
    yield write_table(file, rows, sheet_of(rows, paper))
    try:
        from memhop.reproduce import plot
    except ImportError:
        return
    picture = file.with_suffix(".svg")
    with atomic_write(picture) as out:
        out.write(plot.svg(plot.table1, rows, paper))
    yield picture


def write_table(file: Path, rows: Rows, sheet: Sheet) -> Path:
    """Write a table next to its rows as Markdown; return its path."""
    path = file.with_suffix(".md")
    with atomic_write(path) as out:
        out.write(document(rows, sheet))
    return path
