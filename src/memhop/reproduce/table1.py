"""Train the columns of the paper's Tables 1 and 3, and those of the recipe ``best``.

A cell is a training of R restarts: of one model a task, or of one model for all tasks jointly.
Processes of one thread take the work in units, the longest first. A restart does not depend on its
unit, so the rows do not depend on the number of processes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from memhop.data import find_tasks
from memhop.errors import DivergedError, MemhopError
from memhop.recipe import Keep, Recipe
from memhop.reproduce.babi import Splits, generated, released
from memhop.reproduce.processes import run_in_processes
from memhop.reproduce.record import Row, Rows, provenance, read_rows
from memhop.training.evaluation import score
from memhop.training.loop import train
from memhop.training.run import RestartScore

JOINT = 0  # the task of a unit that trains all tasks jointly
RESTARTS_PER_UNIT = 5  # of a joint training
_LARGE_FROM = 3000  # training questions: between 1,000 and 10,000
_NEEDED = ("column", "task", "restart", "seed", "train_loss", "test_error", "train_questions")


class ColumnSpec(NamedTuple):
    """How a column of the table is trained.

    Attributes:
        title: its heading.
        joint: whether one model is trained for all tasks.
        changes: changes of the recipe.
        large: further changes with 10,000 questions a task.
        recipe: ``paper`` or ``best``.
        compared_with: a column of the paper, if not the one of the same name.
    """

    title: str
    joint: bool
    changes: dict[str, Any]
    large: dict[str, Any]
    recipe: Callable[..., Recipe] = Recipe.paper
    compared_with: str | None = None

    @property
    def keep(self) -> Keep:
        """The error that selects a restart."""
        return self.recipe(joint=self.joint, **self.changes).keep


NO_START = {"linear_start_epochs": 0, "learning_rate": 0.01}
NO_NOISE = {"noise": "none"}
THIRD = {"epochs": 20, "halve_every": 5}  # of the epochs for ten times the questions
TENTH = {"epochs": 27, "linear_start_epochs": 3}

PAPERS = {
    "bow": ColumnSpec("BoW", False, {"position": "bag", **NO_START, **NO_NOISE}, {}),
    "pe": ColumnSpec("PE", False, {**NO_START, **NO_NOISE}, {}),
    "pe-ls": ColumnSpec("PE LS", False, NO_NOISE, {}),
    "pe-ls-rn": ColumnSpec("PE LS RN", False, {}, {}),
    "joint-1-hop": ColumnSpec("1 hop, joint", True, {"num_hops": 1, **NO_NOISE}, THIRD),
    "joint-2-hops": ColumnSpec("2 hops, joint", True, {"num_hops": 2, **NO_NOISE}, THIRD),
    "joint-3-hops": ColumnSpec("3 hops, joint", True, NO_NOISE, THIRD),
    "joint-rn": ColumnSpec("RN, joint", True, {}, THIRD),
    "joint-layerwise": ColumnSpec("LW, joint", True, {"tying": "layerwise", **NO_NOISE}, THIRD),
}
BEST = {
    "best": ColumnSpec("best", False, {}, TENTH, Recipe.best, "pe-ls-rn"),
    "best-joint": ColumnSpec("best, joint", True, {}, {"epochs": 18}, Recipe.best, "joint-rn"),
}
COLUMNS = PAPERS | BEST
TINY_START = {"linear_start_epochs": 1}


class TableSpec(NamedTuple):
    """The data and settings of a table.

    Attributes:
        data: folder of the files; None for a few generated stories of tasks 1 and 2.
        tasks: in ascending order.
        restarts, seed: of each training.
        large: whether the data has 10,000 questions a task (Table 3).
        tiny: whether to train for two epochs only.
    """

    data: Path | None
    tasks: tuple[int, ...]
    restarts: int
    seed: int
    large: bool = False
    tiny: bool = False

    def recipe(self, column: str) -> Recipe:
        """Return the recipe of a column."""
        spec = COLUMNS[column]
        changes = spec.changes | (spec.large if self.large else {})
        if self.tiny:
            changes = TINY_START | changes | {"epochs": 2}
        return spec.recipe(joint=spec.joint, **changes)

    def splits(self, task: int) -> Splits:
        """Return the training and test examples of a task."""
        return released(self.data)(task) if self.data else generated(task)


def parse_columns(columns: str) -> list[str]:
    """Return the columns of a list such as ``pe,joint-rn``, in the order of the table."""
    wanted = [name.strip() for name in columns.split(",")]
    if unknown := [name for name in wanted if name not in COLUMNS]:
        raise MemhopError(f"--columns: expected names of {', '.join(COLUMNS)}, got {unknown[0]!r}")
    return [name for name in COLUMNS if name in wanted]


def available_tasks(data: Path, tasks: Iterable[int]) -> list[int]:
    """Return the tasks whose training and test files are in the folder, in ascending order."""
    found = find_tasks(data)
    available = [task for task in tasks if {"train", "test"} <= found.get(task, {}).keys()]
    if not available:
        raise MemhopError(f"{data}: expected a training and a test file of a task, found none")
    return sorted(available)


def check_size(table: TableSpec) -> None:
    """Check that the data has 1,000 questions a task for Table 1, 10,000 for Table 3.

    Raises:
        MemhopError: it has the number of the other table.
    """
    if table.data is None:
        return
    task = table.tasks[0]
    count = len(table.splits(task)[0])
    if (count > _LARGE_FROM) != table.large:
        expected, name = ("10,000", "table3") if table.large else ("1,000", "table1")
        raise MemhopError(
            f"{table.data}: {name} needs about {expected} training questions a task, "
            f"got {count:,} of task {task}"
        )


class Unit(NamedTuple):
    """Some restarts of a column, for one task or for ``JOINT``."""

    column: str
    task: int
    first: int
    restarts: int

    def tasks(self, table: TableSpec) -> tuple[int, ...]:
        """Return the tasks of its rows."""
        return table.tasks if self.task == JOINT else (self.task,)


def units(table: TableSpec, columns: Iterable[str]) -> list[Unit]:
    """Return all units of a table, the longest first.

    >>> len(units(TableSpec(None, (1, 2), restarts=10, seed=0), ["pe", "joint-rn"]))
    4
    """
    jointly, alone = [], []
    for column in columns:
        if COLUMNS[column].joint:
            firsts = range(0, table.restarts, RESTARTS_PER_UNIT)
            jointly += [
                Unit(column, JOINT, first, min(RESTARTS_PER_UNIT, table.restarts - first))
                for first in firsts
            ]
        else:
            alone += [Unit(column, task, 0, table.restarts) for task in table.tasks]
    statements = {3: 50, 2: 15, 5: 19, 7: 9, 8: 9, 16: 9}  # before a question, in the mean
    alone.sort(key=lambda unit: statements.get(unit.task, 6), reverse=True)
    jointly.sort(key=lambda unit: table.recipe(unit.column).num_hops, reverse=True)
    return jointly + alone


def run(
    table: TableSpec, left: Sequence[Unit], jobs: int
) -> Iterator[tuple[Unit, list[dict[str, Any]]]]:
    """Train units in ``jobs`` processes; yield the rows of each as it completes."""
    return run_in_processes(partial(rows_of, table), left, jobs)


def rows_of(table: TableSpec, unit: Unit) -> list[dict[str, Any]]:
    """Train a unit; return a row for each restart and task, without numbers if all diverged."""
    tasks = unit.tasks(table)
    splits = {task: table.splits(task) for task in tasks}
    restarts = range(unit.first, unit.first + unit.restarts)
    tests: dict[int, list[float]] = {}
    scores: Sequence[RestartScore] = [RestartScore(number) for number in range(len(restarts))]
    seconds = None
    try:
        result = train(
            [training for training, _ in splits.values()],
            recipe=table.recipe(unit.column), restarts=restarts, seed=table.seed,
        )  # fmt: skip
    except DivergedError:
        pass
    else:
        model, scores = result.all_restarts, result.restarts
        assert model is not None  # nothing is resumed
        for task, (_, test) in splits.items():
            tests[task] = score(model, model.encoder.encode(test))[0].tolist()
        seconds = round(result.seconds / len(restarts) / len(tasks), 3)
    return [
        {
            "column": unit.column, "task": task, "restart": restarts[one.restart],
            "seed": table.seed, "train_error": one.train_error, "train_loss": one.train_loss,
            "validation_error": one.validation_error,
            "test_error": None if one.train_error is None else tests[task][one.restart],
            "train_questions": len(splits[task][0]), "test_questions": len(splits[task][1]),
            "seconds": seconds, **provenance(),
        }
        for task in tasks
        for one in scores
    ]  # fmt: skip


def rows_to_resume(file: Path | None, table: TableSpec, columns: Iterable[str]) -> Rows:
    """Return the rows of an existing file, or none.

    Raises:
        MemhopError: they are of another table: another seed, other data, or a joint model of
            other tasks. The file stays as it is.
    """
    if file is None or not file.exists():
        return []
    rows = read_rows(file)
    try:
        other = _difference(rows, table, columns)
    except (KeyError, TypeError, ValueError) as error:
        raise MemhopError(f"{file}: expected a new file or rows of 'reproduce table1'") from error
    if other:
        raise MemhopError(f"{file}: cannot resume: {other}; give --to another file")
    return rows


def _difference(rows: Rows, table: TableSpec, columns: Iterable[str]) -> str | None:
    """Return how the rows differ from the table, or None."""
    for row in rows:
        _ = sort_key(row), [row[name] for name in _NEEDED]
    if other := {int(row["seed"]) for row in rows} - {table.seed}:
        return f"the rows have seed {min(other)}, not {table.seed}"
    for row in rows[:1]:
        task, stored = int(row["task"]), int(row["train_questions"])
        if task in table.tasks and stored != (count := len(table.splits(task)[0])):
            return f"the rows have {stored:,} training questions of task {task}, not {count:,}"
    for name in columns:
        tasks = {int(row["task"]) for row in rows if row["column"] == name}
        if COLUMNS[name].joint and tasks and tasks != set(table.tasks):
            listed = ",".join(map(str, sorted(tasks)))
            return f"the rows of {name} are of one model for the tasks {listed}"
    return None


def sort_key(row: Row) -> tuple[int, int, int]:
    """Return the place of a row in the file: by column, task, restart."""
    return list(COLUMNS).index(str(row["column"])), int(row["task"]), int(row["restart"])


def merge_rows(rows: Rows, new: Rows) -> Rows:
    """Return all rows in order; new ones replace those of the same restarts."""
    return sorted({sort_key(row): row for row in [*rows, *new]}.values(), key=sort_key)


def missing_units(table: TableSpec, columns: Iterable[str], rows: Rows) -> list[Unit]:
    """Return the units that lack a row."""
    trained = {(row["column"], int(row["task"]), int(row["restart"])) for row in rows}
    return [
        unit
        for unit in units(table, columns)
        if not trained.issuperset(
            (unit.column, task, restart)
            for task in unit.tasks(table)
            for restart in range(unit.first, unit.first + unit.restarts)
        )
    ]
