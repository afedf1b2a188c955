"""What the rows of ``table1`` say: the kept restart of each cell beside the paper's number."""

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any, NamedTuple

from memhop.bench.hop_tables import Sheet
from memhop.bench.table1 import COLUMNS, Table, Unit
from memhop.recipe import Keep

FAILED = 5.0  # percent of errors, above which the paper counts a task as failed


class Cell(NamedTuple):
    """One cell, in percent of test questions.

    Attributes:
        kept: test error of the restart with the lowest error in `Recipe.keep`, ties by loss.
        mean, spread: of the test errors of all restarts that did not diverge.
        restarts: how many there were.
        paper: the paper's number.
    """

    kept: float
    mean: float
    spread: float
    restarts: int
    paper: float


class Column(NamedTuple):
    """A column: its cells by task, and what the paper gives under them.

    Means and failed tasks are over the tasks that are there, on both sides.
    """

    name: str
    cells: dict[int, Cell]

    @property
    def mean(self) -> Cell:
        """The means over the tasks."""
        cells = list(self.cells.values())
        kept, mean, spread, restarts, paper = (fmean(part) for part in zip(*cells, strict=True))
        return Cell(kept, mean, spread, round(restarts), paper)

    @property
    def failed(self) -> tuple[int, int]:
        """Failed tasks, ours and the paper's."""
        cells = self.cells.values()
        ours = sum(cell.kept > FAILED for cell in cells)
        return ours, sum(cell.paper > FAILED for cell in cells)


def columns_of(
    rows: Sequence[Mapping[str, Any]], paper: Mapping[str, Sequence[float]]
) -> list[Column]:
    """The columns that there are rows for, in the order of the table."""
    found = []
    for name, column in COLUMNS.items():
        own = [row for row in rows if row["column"] == name]
        beside = paper[column.beside or name]
        cells = {}
        for task in sorted({int(row["task"]) for row in own}):
            of_task = [row for row in own if int(row["task"]) == task]
            if cell := cell_of(of_task, beside[task - 1], column.keep):
                cells[task] = cell
        if cells:
            found.append(Column(name, cells))
    return found


def cell_of(rows: Sequence[Mapping[str, Any]], paper: float, keep: Keep) -> Cell | None:
    """One cell from the rows of its restarts; None where all of them diverged."""
    ended = [row for row in rows if row["test_error"] not in (None, "")]
    if not ended:
        return None
    error = "validation_error" if keep == "validation" else "train_error"
    kept = min(
        ended,
        key=lambda row: (float(row[error]), float(row["train_loss"]), int(row["restart"])),
    )
    errors = [float(row["test_error"]) for row in ended]
    return Cell(float(kept["test_error"]), fmean(errors), pstdev(errors), len(rows), paper)


def markdown(columns: Sequence[Column]) -> str:
    """The table: our number, the paper's in brackets, and mean and spread of all restarts."""
    titles = [COLUMNS[column.name].title for column in columns]
    tasks = sorted({task for column in columns for task in column.cells})
    lines = [f"| task | {' | '.join(titles)} |", f"|---|{'---:|' * len(titles)}"]
    for task in tasks:
        cells = (said(column.cells.get(task)) for column in columns)
        lines.append(f"| {task} | {' | '.join(cells)} |")
    lines.append(f"| mean | {' | '.join(said(column.mean) for column in columns)} |")
    failed = ("{} ({})".format(*column.failed) for column in columns)
    lines.append(f"| failed | {' | '.join(failed)} |")
    return "\n".join(lines)


def minutes(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """How long each column takes one core, and two."""
    lines = []
    for name, column in COLUMNS.items():
        taken = [float(row["seconds"]) for row in rows if row["column"] == name]
        if taken:
            models = len(taken) if not column.joint else len({r["restart"] for r in rows})
            cells = (f"{sum(taken) / 60 / cores:.1f}" for cores in (1, 2))
            lines.append([column.title, str(models), *cells])
    columns = ("column", "trainings", "minutes of one core", "of two")
    return Sheet("Time to train the columns of Table 1", columns, lines)


def said(cell: Cell | None) -> str:
    """A cell in words.

    >>> said(Cell(3.14, 4.0, 0.5, 10, 2.8))
    '3.1 (2.8), 4.0 ± 0.5'
    """
    if cell is None:
        return ""
    return f"{cell.kept:.1f} ({cell.paper:.1f}), {cell.mean:.1f} ± {cell.spread:.1f}"


def cells_done(
    rows: Sequence[Mapping[str, Any]],
    unit: Unit,
    table: Table,
    paper: Mapping[str, Sequence[float]],
) -> list[str]:
    """A line for each cell of a unit whose restarts are all there."""
    column = next((each for each in columns_of(rows, paper) if each.name == unit.column), None)
    lines = []
    for task in unit.tasks(table):
        cell = column.cells.get(task) if column else None
        name = f"{COLUMNS[unit.column].title}, task {task}"
        if cell is None:
            lines.append(f"{name}: every restart diverged")
        elif cell.restarts == table.restarts:
            lines.append(
                f"{name}: {cell.kept:.1f}%, the paper's {cell.paper:.1f}%; "
                f"all {cell.restarts}: {cell.mean:.1f} ± {cell.spread:.1f}"
            )
    return lines


def line_of(column: Column) -> str:
    """The foot of a column."""
    mean, failed = column.mean, column.failed
    return (
        f"{COLUMNS[column.name].title}, {len(column.cells)} tasks: {mean.kept:.1f}% ({failed[0]} "
        f"failed), the paper's {mean.paper:.1f}% ({failed[1]}); all restarts {mean.mean:.1f}%"
    )
