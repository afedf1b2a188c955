"""The picture of ``memhop bench table1``: our cells, the paper's, and how they differ."""

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmarks.hop.summary import Rows
from benchmarks.plot_style import GREY, OURS, THEIRS
from memhop.reproduce.paper import SMALL, TASKS
from memhop.reproduce.table1 import COLUMNS
from memhop.reproduce.table1_summary import Cell, Column, columns_of

WORST = 60.0  # percent, from which on a cell has the full colour
FARTHEST = 15.0  # points


def grid(rows: Rows, beside: Mapping[str, Sequence[float]] = SMALL) -> Figure:
    """Tasks down, columns across; percent of test questions, and points of difference."""
    columns = columns_of(rows, beside)
    figure = Figure(figsize=(11.4, 6.2), layout="constrained")
    ours, paper, difference = figure.subplots(1, 3, sharey=True)
    errors = LinearSegmentedColormap.from_list("errors", ["#80889000", f"{OURS}99"])
    differing = LinearSegmentedColormap.from_list(
        "differing", [f"{OURS}cc", "#80889000", f"{THEIRS}cc"]
    )
    draw_cells(ours, "memhop, test error %", columns, lambda cell: cell.kept, (errors, 0, WORST))
    draw_cells(paper, "the paper's, %", columns, lambda cell: cell.paper, (errors, 0, WORST))
    draw_cells(
        difference, "memhop less the paper's, points", columns,
        lambda cell: cell.kept - cell.paper, (differing, -FARTHEST, FARTHEST),
    )  # fmt: skip
    ours.set_yticks([*TASKS, len(TASKS) + 1], [*map(str, TASKS), "mean"])
    ours.set_ylabel("task")
    ours.set_ylim(len(TASKS) + 1.5, 0.5)
    return figure


def draw_cells(
    axes: Axes,
    title: str,
    columns: list[Column],
    number: Callable[[Cell], float],
    colours: tuple[LinearSegmentedColormap, float, float],
) -> None:
    """One panel: each cell its number, on a colour as strong as it is large."""
    scale, least, most = colours
    axes.set_title(title, fontsize=9, color=GREY)
    for across, column in enumerate(columns):
        for down, cell in [*column.cells.items(), (len(TASKS) + 1, column.mean)]:
            value = number(cell)
            strength = min(max((value - least) / (most - least), 0.0), 1.0)
            corner = (across - 0.5, down - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=scale(strength), linewidth=0))
            axes.text(across, down, f"{value:.1f}", ha="center", va="center", fontsize=7)
    names = [COLUMNS[column.name].title.replace(", joint", "\njoint") for column in columns]
    axes.set_xticks(range(len(columns)), names, fontsize=6, rotation=90)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.axhline(len(TASKS) + 0.5, color=GREY, linewidth=0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
