"""Write the paper's table and its picture next to the rows of a run."""

from collections.abc import Iterator
from pathlib import Path

from memhop.atomic_write import atomic_write
from memhop.reproduce.record import Rows, document
from memhop.reproduce.table1_report import Paper, columns_of, sheet_of


def write_report(file: Path, rows: Rows, paper: Paper) -> Iterator[Path]:
    """Write the table next to the rows as Markdown and, with matplotlib, as a picture.

    Yields the path of each; nothing if every training diverged.
    """
    if not columns_of(rows, paper):
        return
    table = file.with_suffix(".md")
    with atomic_write(table) as out:
        out.write(document(rows, sheet_of(rows, paper)))
    yield table
    try:
        from memhop.reproduce import plot
    except ImportError:
        return
    picture = file.with_suffix(".svg")
    with atomic_write(picture) as out:
        out.write(plot.svg(plot.table1, rows, paper))
    yield picture
