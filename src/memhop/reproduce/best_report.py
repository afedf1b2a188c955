"""Summarize the rows of ``reproduce best``: mean, best and worst seed of the kept models."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from memhop.reproduce.best import COLUMNS, CONTROL
from memhop.reproduce.record import Row, Rows, Sheet
from memhop.reproduce.table1 import PAPERS
from memhop.reproduce.table1_report import Paper
from memhop.reproduce.trainings import Unit
from memhop.training.evaluation import FAILED_ABOVE

DIVERGED = 100.0  # the error of a training without a model


def spread(numbers: Sequence[float], written: Callable[[float], str] = "{:.1f}".format) -> str:
    """Return mean, least and greatest number, one for each seed.

    >>> spread([1.0, 2.0, 4.5]), spread([1.0]), spread([])
    ('2.5 (1.0 to 4.5)', '1.0', '')
    """
    if len(numbers) < 2:
        return "".join(map(written, numbers))
    return f"{written(fmean(numbers))} ({written(min(numbers))} to {written(max(numbers))})"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


class Column(NamedTuple):
    """The kept models of a column.

    Attributes:
        name: of the column.
        errors: test error in percent by seed and task, `DIVERGED` if no model was kept.
        trainings, controls: number of models, and of those that are the control.
    """

    name: str
    errors: dict[int, dict[int, float]]
    trainings: int
    controls: int

    @property
    def tasks(self) -> list[int]:
        """The tasks that a seed has."""
        return sorted({task for errors in self.errors.values() for task in errors})

    @property
    def means(self) -> dict[int, float]:
        """The mean over the tasks of each seed that has all of them."""
        return {seed: fmean(errors.values()) for seed, errors in self._complete()}

    @property
    def failed(self) -> dict[int, int]:
        """The number of failed tasks of each seed that has all of them."""
        return {
            seed: sum(error > FAILED_ABOVE for error in errors.values())
            for seed, errors in self._complete()
        }

    def of_task(self, task: int) -> list[float]:
        """Return the errors of a task, one for each seed."""
        return [errors[task] for errors in self.errors.values() if task in errors]

    def _complete(self) -> Iterable[tuple[int, dict[int, float]]]:
        return [one for one in self.errors.items() if len(one[1]) == len(self.tasks)]


def columns_of(rows: Rows) -> list[Column]:
    """Return the columns that have rows, in order."""
    found = []
    for name, spec in COLUMNS.items():
        own = [row for row in rows if row["column"] == name]
        if not own:
            continue
        errors: dict[int, dict[int, float]] = {}
        for row in own:
            of_seed = errors.setdefault(int(row["seed"]), {})
            if _is_kept(row):
                of_seed[int(row["task"])] = float(row["test_error"])
            else:
                of_seed.setdefault(int(row["task"]), DIVERGED)
        models = {(row["seed"], spec.joint or row["task"]) for row in own}
        controls = {(row["seed"], spec.joint or row["task"]) for row in own
                    if row["model"] == CONTROL}  # fmt: skip
        found.append(Column(name, dict(sorted(errors.items())), len(models), len(controls)))
    return found


def _is_kept(row: Row) -> bool:
    return str(row["kept"]) == "True"


def differences(columns: Sequence[Column]) -> dict[str, list[float]]:
    """Return by column its mean minus that of its baseline, for each seed that both have."""
    means = {column.name: column.means for column in columns}
    found = {}
    for column in columns:
        baseline = means.get(COLUMNS[column.name].baseline or "", {})
        found[column.name] = [
            mean - baseline[seed] for seed, mean in column.means.items() if seed in baseline
        ]
    return found


def sheet_of(rows: Rows, paper: Paper) -> Sheet:
    """Return the test errors of the kept models over the seeds, next to the paper's."""
    columns = columns_of(rows)
    tasks = sorted({task for column in columns for task in column.tasks})
    theirs = [name for column in columns if (name := COLUMNS[column.name].compared_with)]
    lines = [
        [
            str(task),
            *(spread(column.of_task(task)) for column in columns),
            *(f"{paper[name][task - 1]:.1f}" for name in theirs),
        ]
        for task in tasks
    ]
    errors = [[paper[name][task - 1] for task in tasks] for name in theirs]
    lines += [
        [
            "mean",
            *(spread([*column.means.values()]) for column in columns),
            *(f"{fmean(of_column):.1f}" for of_column in errors),
        ],
        [
            "failed",
            *(spread([*column.failed.values()], _short) for column in columns),
            *(str(sum(error > FAILED_ABOVE for error in of_column)) for of_column in errors),
        ],
    ]
    lines += _more_lines(columns, len(theirs))
    titles = [COLUMNS[column.name].title for column in columns]
    headings = ("task", *titles, *(f"the paper's {PAPERS[name].title}" for name in theirs))
    return Sheet("", headings, lines, _note(rows, columns))


def _more_lines(columns: Sequence[Column], blank: int) -> list[list[str]]:
    """Return the differences from the baselines and the controls that were kept, if there are."""
    lines = []
    if any((compared := differences(columns)).values()):
        cells = (spread(compared[column.name], "{:+.1f}".format) for column in columns)
        lines.append(["difference", *cells, *[""] * blank])
    if any(column.controls for column in columns):
        kept = (
            f"{column.controls} of {column.trainings}" if COLUMNS[column.name].has_control else ""
            for column in columns
        )
        lines.append(["control kept", *kept, *[""] * blank])
    return lines


def _note(rows: Rows, columns: Sequence[Column]) -> str:
    """Return the paragraph below the table."""
    seeds = sorted({int(row["seed"]) for row in rows})
    restarts = 1 + max(int(row["restart"]) for row in rows if row["model"] != CONTROL)
    which = f"seed {seeds[0]}"
    if len(seeds) > 1:
        which = f"mean, best and worst of {len(seeds)} seeds ({', '.join(map(str, seeds))})"
    by_training = [COLUMNS[column.name].title for column in columns
                   if COLUMNS[column.name].keep == "training"]  # fmt: skip
    exception = f" ({'; '.join(by_training)}: training error)" if by_training else ""
    note = (
        f"Test error in %, {which}, of the restart out of {restarts} with the lowest error on "
        f"held-out stories{exception}. Means and failed tasks are over the tasks of a column."
    )
    if any(differences(columns).values()):
        pairs = "; ".join(
            f"{COLUMNS[column.name].title} minus {COLUMNS[baseline].title}"
            for column in columns
            if (baseline := COLUMNS[column.name].baseline)
            and any(other.name == baseline for other in columns)
        )
        note += f" The row `difference` has points of the mean, paired by seed: {pairs}."
    if any(column.controls for column in columns):
        note += " The row `control kept` counts the trainings that kept their control model."
    return note


def done_line(rows: Rows, unit: Unit) -> str:
    """Return a line about a unit whose rows are complete."""
    own = [
        row for row in rows
        if row["column"] == unit.column and int(row["seed"]) == unit.seed
        and (not unit.task or int(row["task"]) == unit.task)
    ]  # fmt: skip
    (column,) = columns_of(own)
    tasks = column.tasks
    what = f"{len(tasks)} tasks" if len(tasks) > 1 else f"task {tasks[0]}"
    failed = f" ({column.failed[unit.seed]} failed)" if len(tasks) > 1 else ""
    control = ", the control" if column.controls else ""
    numbers = sorted({int(row["restart"]) for row in own if row["model"] != CONTROL})
    restarts = [
        fmean(errors) for number in numbers
        if (errors := [float(row["test_error"]) for row in own
                       if int(row["restart"]) == number and row["test_error"] not in (None, "")])
    ]  # fmt: skip
    listed = ", ".join(f"{error:.1f}" for error in restarts) or "all diverged"
    return (
        f"{COLUMNS[unit.column].title}, {what}, seed {unit.seed}: "
        f"{column.means[unit.seed]:.1f}%{failed}{control}; restarts: {listed}"
    )
