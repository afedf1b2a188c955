"""What the rows of ``table1`` say: the kept restart of each cell beside the paper's number."""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean, pstdev
from typing import Any, NamedTuple

from benchmarks.hop.tables import Sheet
from memhop.recipe import Keep
from memhop.reproduce.record import measured_on
from memhop.reproduce.table1 import COLUMNS, Table, Unit
from memhop.training.evaluation import FAILED_ABOVE


class Cell(NamedTuple):
    """One cell, in percent of test questions.

    Attributes:
        kept: test error of the restart with the lowest error in `Recipe.keep`, ties by loss.
        restarts: the test errors of all restarts, None where one diverged.
        paper: the paper's number.
    """

    kept: float
    restarts: tuple[float | None, ...]
    paper: float

    @property
    def ended(self) -> list[float]:
        """The restarts that did not diverge."""
        return [error for error in self.restarts if error is not None]

    @property
    def mean(self) -> float:
        """Of the restarts that did not diverge."""
        return fmean(self.ended) if self.ended else nan

    @property
    def spread(self) -> float:
        """Their standard deviation."""
        return pstdev(self.ended) if self.ended else nan


class Column(NamedTuple):
    """A column: its cells by task, and what the paper gives under them.

    Means and failed tasks are over the tasks that are there, on both sides.
    """

    name: str
    cells: dict[int, Cell]

    @property
    def mean(self) -> Cell:
        """The means over the tasks: of what was kept, of each restart, of the paper."""
        kept, restarts, paper = zip(*self.cells.values(), strict=True)
        means = [
            None if None in errors else fmean(errors)  # a column that is being trained has gaps
            for errors in zip(*restarts, strict=False)
        ]
        return Cell(fmean(kept), tuple(means), fmean(paper))

    @property
    def failed(self) -> tuple[int, int]:
        """Failed tasks, ours and the paper's."""
        cells = self.cells.values()
        ours = sum(cell.kept > FAILED_ABOVE for cell in cells)
        return ours, sum(cell.paper > FAILED_ABOVE for cell in cells)


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
    errors = [
        None if row["test_error"] in (None, "") else float(row["test_error"])
        for row in sorted(rows, key=lambda row: int(row["restart"]))
    ]
    return Cell(float(kept["test_error"]), tuple(errors), paper)


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


def report(paper: Mapping[str, Sequence[float]], rows: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown, with what its numbers are."""
    columns, first = columns_of(rows, paper), rows[0]
    made = [COLUMNS[column.name] for column in columns]
    by = {"training": "training error", "validation": "error of what was held out"}
    kept = " or ".join(dict.fromkeys(by[column.keep] for column in made))
    beside = "; ".join(COLUMNS[column.beside].title for column in made if column.beside)
    restarts = max(len(column.mean.restarts) for column in columns)
    note = (
        f"Test error in % of the restart with the lowest {kept}, the paper's"
        f"{f' ({beside})' if beside else ''} in brackets; then mean and standard deviation over "
        f"all {restarts} restarts, in the row of the means those of each restart's mean; "
        f"seed {first['seed']}. {measured_on(first)}"
    )
    return f"{markdown(columns)}\n\n{note}\n"


def minutes(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """How long each column takes one core, and two."""
    lines = []
    for name, column in COLUMNS.items():
        own = [row for row in rows if row["column"] == name and row["seconds"]]
        taken = [float(row["seconds"]) for row in own]
        if taken:
            models = len({(row["restart"], column.joint or row["task"]) for row in own})
            cells = (f"{sum(taken) / 60 / cores:.1f}" for cores in (1, 2))
            lines.append([column.title, str(models), *cells])
    total = sum(float(row["seconds"] or 0) for row in rows) / 60
    lines.append(["all", "", f"{total:.1f}", f"{total / 2:.1f}"])
    columns = ("column", "models", "minutes of one core", "half of that")
    note = "Epochs alone: not reading the data, nor the questions that are asked in the end."
    return Sheet("Time to train the columns of Table 1", columns, lines, note)


def said(cell: Cell | None) -> str:
    """A cell in words.

    >>> said(Cell(3.14, (3.14, None, 4.86), 2.8))
    '3.1 (2.8), 4.0 ± 0.9'
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
    lines = []
    column, beside = COLUMNS[unit.column], paper[COLUMNS[unit.column].beside or unit.column]
    for task in unit.tasks(table):
        own = [row for row in rows if row["column"] == unit.column and int(row["task"]) == task]
        if len(own) < table.restarts:
            continue
        cell, name = cell_of(own, beside[task - 1], column.keep), f"{column.title}, task {task}"
        lines.append(
            f"{name}: every restart diverged"
            if cell is None
            else f"{name}: {cell.kept:.1f}%, the paper's {cell.paper:.1f}%; "
            f"all {len(own)}: {cell.mean:.1f} ± {cell.spread:.1f}"
        )
    return lines


def line_of(column: Column) -> str:
    """The foot of a column."""
    mean, failed = column.mean, column.failed
    return (
        f"{COLUMNS[column.name].title}, {len(column.cells)} tasks: {mean.kept:.1f}% ({failed[0]} "
        f"failed), the paper's {mean.paper:.1f}% ({failed[1]}); all restarts {mean.mean:.1f}%"
    )
