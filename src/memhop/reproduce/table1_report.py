"""Summarize the rows of ``table1``: for each cell the selected restart, and the paper's number."""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean, pstdev
from typing import NamedTuple

from memhop.reproduce.record import Rows, Sheet
from memhop.reproduce.table1 import PAPERS
from memhop.reproduce.trainings import TableSpec, Unit
from memhop.training.evaluation import FAILED_ABOVE

Paper = Mapping[str, Sequence[float]]  # test errors by column and task


class Cell(NamedTuple):
    """One cell, in percent of test questions.

    Attributes:
        kept: test error of the restart with the lowest training error, ties by loss.
        restarts: the test errors of all restarts; None for one that diverged.
        paper: the paper's number.
    """

    kept: float
    restarts: tuple[float | None, ...]
    paper: float

    @property
    def converged(self) -> list[float]:
        """The test errors of the restarts that did not diverge."""
        return [error for error in self.restarts if error is not None]

    @property
    def mean(self) -> float:
        """The mean of the restarts that did not diverge."""
        return fmean(self.converged) if self.converged else nan

    @property
    def std(self) -> float:
        """Their standard deviation."""
        return pstdev(self.converged) if self.converged else nan

    def __str__(self) -> str:
        """Return the cell as the table shows it.

        >>> str(Cell(3.14, (3.14, None, 4.86), 2.8))
        '3.1 (2.8), 4.0 ± 0.9'
        """
        return f"{self.kept:.1f} ({self.paper:.1f}), {self.mean:.1f} ± {self.std:.1f}"


class Column(NamedTuple):
    """The cells of a column by task.

    Means and failed tasks are over the tasks that have rows, in the paper's numbers too.
    """

    name: str
    cells: dict[int, Cell]

    @property
    def mean(self) -> Cell:
        """The means over the tasks: of the selected restarts, of each restart, of the paper."""
        kept, restarts, paper = zip(*self.cells.values(), strict=True)
        means = [
            None if None in errors else fmean(errors)  # an unfinished column has gaps
            for errors in zip(*restarts, strict=False)
        ]
        return Cell(fmean(kept), tuple(means), fmean(paper))

    @property
    def failed(self) -> tuple[int, int]:
        """The number of failed tasks, ours and the paper's."""
        cells = self.cells.values()
        ours = sum(cell.kept > FAILED_ABOVE for cell in cells)
        return ours, sum(cell.paper > FAILED_ABOVE for cell in cells)


def columns_of(rows: Rows, paper: Paper) -> list[Column]:
    """Return the columns that have rows, in the order of the table."""
    found = []
    for name in PAPERS:
        own = [row for row in rows if row["column"] == name]
        cells = {}
        for task in sorted({int(row["task"]) for row in own}):
            of_task = [row for row in own if int(row["task"]) == task]
            if cell := cell_of(of_task, paper[name][task - 1]):
                cells[task] = cell
        if cells:
            found.append(Column(name, cells))
    return found


def cell_of(rows: Rows, paper: float) -> Cell | None:
    """Return a cell from the rows of its restarts; None if all diverged."""
    converged = [row for row in rows if row["test_error"] not in (None, "")]
    if not converged:
        return None
    names = ("train_error", "train_loss", "restart")
    kept = min(converged, key=lambda row: [float(row[name]) for name in names])
    errors = [
        None if row["test_error"] in (None, "") else float(row["test_error"])
        for row in sorted(rows, key=lambda row: int(row["restart"]))
    ]
    return Cell(float(kept["test_error"]), tuple(errors), paper)


def sheet_of(rows: Rows, paper: Paper) -> Sheet:
    """Return our error, the paper's in brackets, mean and deviation of all restarts."""
    columns = columns_of(rows, paper)
    tasks = sorted({task for column in columns for task in column.cells})
    lines = [
        [str(task), *(str(column.cells.get(task, "")) for column in columns)] for task in tasks
    ]
    lines.append(["mean", *(str(column.mean) for column in columns)])
    lines.append(["failed", *("{} ({})".format(*column.failed) for column in columns)])
    restarts = max(len(column.mean.restarts) for column in columns)
    note = (
        "Test error in % of the restart with the lowest training error, the paper's in brackets; "
        f"then mean and standard deviation over all {restarts} restarts, in the row `mean` those "
        f"of each restart's mean; seed {rows[0]['seed']}."
    )
    titles = (PAPERS[column.name].title for column in columns)
    return Sheet("", ("task", *titles), lines, note)


def minutes(rows: Rows) -> Sheet:
    """Return the time of each column on one core and on two."""
    lines = []
    for name, column in PAPERS.items():
        own = [row for row in rows if row["column"] == name and row["seconds"]]
        taken = [float(row["seconds"]) for row in own]
        if taken:
            models = len({(row["restart"], column.joint or row["task"]) for row in own})
            cells = (f"{sum(taken) / 60 / cores:.1f}" for cores in (1, 2))
            lines.append([column.title, str(models), *cells])
    total = sum(float(row["seconds"] or 0) for row in rows) / 60
    lines.append(["all", "", f"{total:.1f}", f"{total / 2:.1f}"])
    columns = ("column", "models", "minutes of one core", "half of that")
    note = "Epochs alone, without reading the data and without the test questions."
    return Sheet("Time to train the columns of Table 1", columns, lines, note)


def cells_done(rows: Rows, unit: Unit, table: TableSpec, paper: Paper) -> list[str]:
    """Return a line for each cell of a unit that has the rows of all its restarts."""
    lines, errors = [], paper[unit.column]
    for task in unit.tasks(table):
        own = [row for row in rows if row["column"] == unit.column and int(row["task"]) == task]
        if len(own) < table.restarts:
            continue
        cell, name = cell_of(own, errors[task - 1]), f"{PAPERS[unit.column].title}, task {task}"
        lines.append(
            f"{name}: every restart diverged"
            if cell is None
            else f"{name}: {cell.kept:.1f}%, the paper's {cell.paper:.1f}%; "
            f"all {len(own)}: {cell.mean:.1f} ± {cell.std:.1f}"
        )
    return lines


def summary_of(column: Column) -> str:
    """Return the means and failed tasks of a column in a line."""
    mean, failed = column.mean, column.failed
    return (
        f"{PAPERS[column.name].title}, {len(column.cells)} tasks: {mean.kept:.1f}% ({failed[0]} "
        f"failed), the paper's {mean.paper:.1f}% ({failed[1]}); all restarts {mean.mean:.1f}%"
    )
