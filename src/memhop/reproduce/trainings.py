"""Train the columns of a table of errors: every training, its rows, and what a stopped run lacks.

A training has R restarts: of one model for one task, or of one model for all tasks jointly.
Processes of one thread take the work in units, the longest first. The units, and so the rows, do
not depend on the number of processes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from memhop.data import find_tasks
from memhop.errors import DivergedError, MemhopError
from memhop.example import Example
from memhop.recipe import Keep, Recipe
from memhop.reproduce.babi import Splits, generated, released
from memhop.reproduce.paper import TASKS
from memhop.reproduce.record import Row, Rows, provenance, read_rows
from memhop.text.model import MemN2N
from memhop.training.evaluation import score
from memhop.training.loop import TrainingResult, train
from memhop.training.run import RestartScore

JOINT = 0  # the task of a unit that trains all tasks jointly
_LARGE_FROM = 3000  # training questions: between 1,000 and 10,000
_NEEDED = ("column", "task", "restart", "seed", "train_loss", "test_error", "train_questions")
_STATEMENTS = {3: 50, 2: 15, 5: 19, 7: 9, 8: 9, 16: 9}  # before a question, in the mean; else 6


class ColumnSpec(NamedTuple):
    """How a column of a table is trained.

    Attributes:
        title: its heading.
        joint: whether one model is trained for all tasks.
        changes: changes of the recipe.
        large: further changes with 10,000 questions a task.
        recipe: ``paper`` or ``best``.
        compared_with: a column of the paper, if not the one of the same name.
        baseline: another column of the table, which shows what this one adds.
        tasks: the tasks that the column has.
        rewritten: a function that returns the examples in another form.
    """

    title: str
    joint: bool
    changes: Mapping[str, Any]
    large: Mapping[str, Any]
    recipe: Callable[..., Recipe] = Recipe.paper
    compared_with: str | None = None
    baseline: str | None = None
    tasks: Sequence[int] = TASKS
    rewritten: Callable[[list[Example]], list[Example]] | None = None

    @property
    def keep(self) -> Keep:
        """The error that selects a restart."""
        return self.recipe(joint=self.joint, **self.changes).keep

    @property
    def has_control(self) -> bool:
        """Whether a training trains a control first."""
        return self.recipe(joint=self.joint, **self.changes).control_restarts > 0


TINY_START = {"linear_start_epochs": 1, "min_steps": 1}
THIRD = {"epochs": 20, "halve_every": 5}  # of the paper's joint epochs, for ten times the questions


class TableSpec(NamedTuple):
    """The columns, data and settings of a table.

    Attributes:
        columns: every column that the table can have, by name, in order.
        data: folder of the files; None for a few generated stories of tasks 1 and 2.
        tasks: in ascending order.
        restarts: of each training.
        seeds: of each cell, one training for each.
        large: whether the data has 10,000 questions a task.
        tiny: whether to train for two epochs only.
        joint_restarts: the restarts of a joint training that one process trains; None for all.
            A recipe with ``stop_after`` is not split.
    """

    columns: Mapping[str, ColumnSpec]
    data: Path | None
    tasks: tuple[int, ...]
    restarts: int
    seeds: tuple[int, ...] = (0,)
    large: bool = False
    tiny: bool = False
    joint_restarts: int | None = None

    def recipe(self, column: str) -> Recipe:
        """Return the recipe of a column."""
        spec = self.columns[column]
        changes = {**spec.changes, **(spec.large if self.large else {})}
        if self.tiny:
            changes = TINY_START | changes | {"epochs": 2}
        return spec.recipe(joint=spec.joint, **changes)

    def tasks_of(self, column: str) -> tuple[int, ...]:
        """Return the tasks that a column has, in ascending order."""
        return tuple(task for task in self.tasks if task in self.columns[column].tasks)

    def splits(self, column: str, task: int) -> Splits:
        """Return the training and test examples of a task, in the form of a column."""
        splits = released(self.data)(task) if self.data else generated(task)
        rewritten = self.columns[column].rewritten
        if rewritten is None:
            return splits
        return rewritten(splits[0]), rewritten(splits[1])


class Unit(NamedTuple):
    """Some restarts of a training: of a column, a seed, and a task or ``JOINT``."""

    column: str
    task: int
    first: int
    restarts: int
    seed: int

    def tasks(self, table: TableSpec) -> tuple[int, ...]:
        """Return the tasks of its rows."""
        return table.tasks_of(self.column) if self.task == JOINT else (self.task,)


def parse_columns(columns: str, known: Mapping[str, ColumnSpec]) -> list[str]:
    """Return the columns of a list such as ``pe,joint-rn``, in the order of the table."""
    wanted = [name.strip() for name in columns.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise MemhopError(f"--columns: expected names of {', '.join(known)}, got {unknown[0]!r}")
    return [name for name in known if name in wanted]


def available_tasks(data: Path, tasks: Iterable[int]) -> list[int]:
    """Return the tasks whose training and test files are in the folder, in ascending order."""
    found = find_tasks(data)
    available = [task for task in tasks if {"train", "test"} <= found.get(task, {}).keys()]
    if not available:
        raise MemhopError(f"{data}: expected a training and a test file of a task, found none")
    return sorted(available)


def is_large(data: Path | None, task: int) -> bool:
    """Return whether the file of a task has about 10,000 training questions, not 1,000."""
    return data is not None and len(released(data)(task)[0]) > _LARGE_FROM


def units(table: TableSpec, columns: Iterable[str]) -> list[Unit]:
    """Return all units of a table, the longest first.

    >>> from memhop.reproduce.table1 import PAPERS
    >>> len(units(TableSpec(PAPERS, None, (1, 2), restarts=10), ["pe", "joint-rn"]))
    3
    """
    found = []
    for column in columns:
        tasks = table.tasks_of(column)
        is_joint = table.columns[column].joint
        is_split = is_joint and not table.recipe(column).stop_after  # else restarts end together
        step = (table.joint_restarts if is_split else None) or table.restarts
        found += [
            Unit(column, task, first, min(step, table.restarts - first), seed)
            for task in ([JOINT] if is_joint else tasks) if tasks
            for seed in table.seeds
            for first in range(0, table.restarts, step)
        ]  # fmt: skip
    return sorted(found, key=lambda unit: _cost(table, unit), reverse=True)


def _cost(table: TableSpec, unit: Unit) -> int:
    """Return about how long a unit takes, in units of its own."""
    recipe = table.recipe(unit.column)
    statements = sum(_STATEMENTS.get(task, 6) for task in unit.tasks(table))
    epochs = recipe.linear_start_epochs + recipe.epochs
    return statements * epochs * recipe.num_hops * recipe.memory_dim * unit.restarts


class Trained(NamedTuple):
    """A trained unit.

    Attributes:
        splits: the training and test examples by task.
        result: the training; None if every restart diverged.
    """

    splits: dict[int, Splits]
    result: TrainingResult | None


def train_unit(table: TableSpec, unit: Unit) -> Trained:
    """Train the restarts of a unit."""
    splits = {task: table.splits(unit.column, task) for task in unit.tasks(table)}
    restarts = range(unit.first, unit.first + unit.restarts)
    try:
        result = train(
            [training for training, _ in splits.values()],
            recipe=table.recipe(unit.column), restarts=restarts, seed=unit.seed,
        )  # fmt: skip
    except DivergedError:
        return Trained(splits, None)
    return Trained(splits, result)


def rows_of(table: TableSpec, unit: Unit) -> list[dict[str, Any]]:
    """Train a unit; return a row for each restart and task, without numbers if all diverged."""
    return [row | provenance() for row in restart_rows(unit, train_unit(table, unit))]


def restart_rows(unit: Unit, trained: Trained) -> list[dict[str, Any]]:
    """Return a row for each task and restart of a unit, without its provenance."""
    splits, result = trained
    if result is None:
        scores = [RestartScore(number) for number in range(unit.restarts)]
        return model_rows(unit, splits, None, scores, None)
    scores = [replace(one, restart=unit.first + one.restart) for one in result.restarts]
    seconds = round(result.seconds / unit.restarts / len(splits), 3)
    return model_rows(unit, splits, result.all_restarts, scores, seconds)


def model_rows(
    unit: Unit,
    splits: Mapping[int, Splits],
    model: MemN2N | None,
    scores: Sequence[RestartScore],
    seconds: float | None,
) -> list[dict[str, Any]]:
    """Score the test questions of the models of a unit; return a row for each task and model."""
    rows = []
    for task, (training, test) in splits.items():
        errors: list[float] = []
        if model is not None:
            errors = score(model, model.encoder.encode(test))[0].tolist()
        for number, one in enumerate(scores):
            rows.append({
                "column": unit.column, "task": task, "restart": one.restart, "seed": unit.seed,
                "train_error": one.train_error, "train_loss": one.train_loss,
                "validation_error": one.validation_error,
                "test_error": None if one.train_error is None else errors[number],
                "train_questions": len(training), "test_questions": len(test), "seconds": seconds,
            })  # fmt: skip
    return rows


def rows_to_resume(
    file: Path | None, table: TableSpec, columns: Iterable[str], command: str
) -> Rows:
    """Return the rows of an existing file, or none.

    Raises:
        MemhopError: they are of another table: an unknown column, other data, or a joint model of
            other tasks. The file stays as it is.
    """
    if file is None or not file.exists():
        return []
    rows = read_rows(file)
    try:
        other = _difference(rows, table, columns)
    except (KeyError, TypeError, ValueError) as error:
        raise MemhopError(f"{file}: expected a new file or rows of '{command}'") from error
    if other:
        raise MemhopError(f"{file}: cannot resume: {other}; give --to another file")
    return rows


def _difference(rows: Rows, table: TableSpec, columns: Iterable[str]) -> str | None:
    """Return how the rows differ from the table, or None."""
    for row in rows:
        _ = place_of(table, row), [row[name] for name in _NEEDED]
    for row in rows[:1]:
        task, stored = int(row["task"]), int(row["train_questions"])
        if task in table.tasks and stored != (count := len(table.splits(row["column"], task)[0])):
            return f"the rows have {stored:,} training questions of task {task}, not {count:,}"
    for name in columns:
        tasks = {int(row["task"]) for row in rows if row["column"] == name}
        if table.columns[name].joint and tasks and tasks != set(table.tasks_of(name)):
            listed = ",".join(map(str, sorted(tasks)))
            return f"the rows of {name} are of one model for the tasks {listed}"
    return None


Place = tuple[int, int, int, int]


def place_of(table: TableSpec, row: Row) -> Place:
    """Return the place of a row in the file: by column, task, seed, restart."""
    column = [*table.columns].index(str(row["column"]))
    return column, int(row["task"]), int(row["seed"]), int(row["restart"])


def merge_rows(table: TableSpec, rows: Rows, new: Rows) -> Rows:
    """Return all rows in order; new ones replace those of the same restarts."""
    places = {place_of(table, row): row for row in [*rows, *new]}
    return [places[place] for place in sorted(places)]


def missing_units(table: TableSpec, columns: Iterable[str], rows: Rows) -> list[Unit]:
    """Return the units that lack a row."""
    trained = {
        (row["column"], int(row["task"]), int(row["restart"]), int(row["seed"])) for row in rows
    }
    return [
        unit
        for unit in units(table, columns)
        if not trained.issuperset(
            (unit.column, task, restart, unit.seed)
            for task in unit.tasks(table)
            for restart in range(unit.first, unit.first + unit.restarts)
        )
    ]
