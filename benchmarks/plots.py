"""All plots of the documents, from the CSV files of the benchmarks; needs ``memhop[plot]``."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from benchmarks import attention
from benchmarks.hop.plots import growth, over_floor
from benchmarks.hop.summary import Rows
from benchmarks.length_plot import curves
from benchmarks.plot_style import STYLE
from benchmarks.table1_plot import grid
from memhop.atomic_write import atomic_write
from memhop.reproduce.record import make_folder, read_rows


def draw(results: Path, folder: Path) -> Iterator[Path]:
    """Draw what there are rows for; the paths of what was drawn."""
    drawings: dict[str, tuple[str, Callable[[Rows], str]]] = {
        "attention.svg": ("attention.csv", attention.svg),
        "hop_floor.svg": ("hop_speed.csv", partial(plotted, over_floor)),
        "hop_scaling.svg": ("hop_scaling.csv", partial(plotted, growth)),
        "table1.svg": ("table1.csv", partial(plotted, grid)),
        "length.svg": ("length.csv", partial(plotted, curves)),
    }
    for name, (file, drawing) in drawings.items():
        if not (results / file).exists():
            continue
        path = folder / name
        make_folder(folder)
        with atomic_write(path) as out:
            out.write(drawing(read_rows(results / file)))
        yield path


def plotted(drawing: Callable[[Rows], Figure], rows: Rows) -> str:
    """A figure of rows as the text of an SVG file."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        drawing(rows).savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()
