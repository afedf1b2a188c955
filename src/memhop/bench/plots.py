"""All plots of the documents, from the CSV files of the benchmarks; needs ``memhop[plot]``."""

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from memhop.bench.hop_plots import growth, over_floor
from memhop.bench.hop_summary import Rows
from memhop.bench.length_plot import curves
from memhop.bench.plot_style import STYLE
from memhop.bench.record import read_rows
from memhop.bench.table1_plot import grid
from memhop.errors import MemhopError


def draw(results: Path, folder: Path) -> Iterator[Path]:
    """Draw what there are rows for; the paths of what was drawn."""
    drawings: dict[str, tuple[str, Callable[[Rows], Figure]]] = {
        "hop_floor.svg": ("hop_speed.csv", over_floor),
        "hop_scaling.svg": ("hop_scaling.csv", growth),
        "table1.svg": ("table1.csv", grid),
        "length.svg": ("length.csv", curves),
    }
    for name, (file, drawing) in drawings.items():
        if not (results / file).exists():
            continue
        with matplotlib.rc_context(STYLE):
            figure = drawing(read_rows(results / file))
            path = folder / name
            try:
                folder.mkdir(parents=True, exist_ok=True)
                figure.savefig(path, transparent=True, metadata={"Date": None})
            except OSError as error:
                raise MemhopError(f"{path}: cannot be written: {error.strerror}") from error
        yield path
