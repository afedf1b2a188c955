"""Draw Table 1, and the style of all plots; needs ``memhop[plot]``."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from memhop.reproduce.paper import SMALL, TASKS
from memhop.reproduce.record import Rows
from memhop.reproduce.table1 import PAPERS
from memhop.reproduce.table1_report import Cell, Column, Paper, columns_of

GREY, THEIRS, OURS = "#808890", "#c97b1f", "#2f81d7"  # visible on white and on black
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "memhop",  # the same rows make the same file
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": GREY,
    "grid.alpha": 0.25,
}
_MAX_ERROR = 60.0  # percent; the full colour
_MAX_DIFFERENCE = 15.0  # points


def svg(draw: Callable[..., Figure], *data: Any) -> str:
    """Return the figure that ``draw(*data)`` makes as the text of an SVG file."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        draw(*data).savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()


def table1(rows: Rows, numbers: Paper = SMALL) -> Figure:
    """Draw the cells, the paper's, and the differences: tasks down, columns across."""
    columns = columns_of(rows, numbers)
    figure = Figure(figsize=(11.4, 6.2), layout="constrained")
    ours, paper, difference = figure.subplots(1, 3, sharey=True)
    errors = LinearSegmentedColormap.from_list("errors", ["#80889000", f"{OURS}99"])
    differing = LinearSegmentedColormap.from_list(
        "differing", [f"{OURS}cc", "#80889000", f"{THEIRS}cc"]
    )
    _draw_cells(
        ours, "memhop, test error %", columns, lambda cell: cell.kept, (errors, 0, _MAX_ERROR)
    )
    _draw_cells(paper, "the paper's, %", columns, lambda cell: cell.paper, (errors, 0, _MAX_ERROR))
    _draw_cells(
        difference, "memhop minus the paper's, points", columns,
        lambda cell: cell.kept - cell.paper, (differing, -_MAX_DIFFERENCE, _MAX_DIFFERENCE),
    )  # fmt: skip
    ours.set_yticks([*TASKS, len(TASKS) + 1], [*map(str, TASKS), "mean"])
    ours.set_ylabel("task")
    ours.set_ylim(len(TASKS) + 1.5, 0.5)
    return figure


def _draw_cells(
    axes: Axes,
    title: str,
    columns: list[Column],
    number: Callable[[Cell], float],
    colours: tuple[LinearSegmentedColormap, float, float],
) -> None:
    """Draw a panel: the number of each cell on a colour that shows its size."""
    scale, least, most = colours
    axes.set_title(title, fontsize=9, color=GREY)
    for across, column in enumerate(columns):
        for down, cell in [*column.cells.items(), (len(TASKS) + 1, column.mean)]:
            value = number(cell)
            strength = min(max((value - least) / (most - least), 0.0), 1.0)
            corner = (across - 0.5, down - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=scale(strength), linewidth=0))
            axes.text(across, down, f"{value:.1f}", ha="center", va="center", fontsize=7)
    names = [PAPERS[column.name].title.replace(", joint", "\njoint") for column in columns]
    axes.set_xticks(range(len(columns)), names, fontsize=6, rotation=90)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.axhline(len(TASKS) + 0.5, color=GREY, linewidth=0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
