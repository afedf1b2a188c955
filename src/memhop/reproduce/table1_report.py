"""What stands beside the rows of ``bench table1`` in the end: the table, and its picture."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memhop.atomic_write import atomic_write
from memhop.reproduce.table1_summary import columns_of, report


def write(
    file: Path, rows: Sequence[dict[str, Any]], paper: Mapping[str, Sequence[float]]
) -> Iterator[Path]:
    """Write the table as Markdown and, where matplotlib is, the picture; the path of each.

    Nothing where every training diverged.
    """
    if not columns_of(rows, paper):
        return
    table = file.with_suffix(".md")
    with atomic_write(table) as out:
        out.write(report(paper, rows))
    yield table
    try:
        from benchmarks.plots import plotted
        from benchmarks.table1_plot import grid
    except ImportError:
        return
    picture = file.with_suffix(".svg")
    with atomic_write(picture) as out:
        out.write(plotted(lambda rows: grid(rows, paper), rows))
    yield picture
