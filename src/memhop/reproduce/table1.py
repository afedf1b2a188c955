"""The columns of the paper's Tables 1 and 3 that are its own model's, trained anew, and past them.

A cell is a training of R restarts: one model a task, or one for all tasks jointly. The work is cut
into units, which processes of one thread each take, the longest first. A restart is the same
whatever unit it is in, so the rows do not depend on how many processes there are.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from memhop.data import find_tasks
from memhop.errors import DivergedError, MemhopError
from memhop.recipe import Keep, Recipe
from memhop.reproduce.babi import Splits, generated, released
from memhop.reproduce.processes import in_processes
from memhop.reproduce.record import surroundings
from memhop.training.evaluation import score
from memhop.training.loop import train
from memhop.training.run import RestartScore

JOINT = 0  # the task of a model for all tasks
IN_A_UNIT = 5  # restarts of a joint training
_BETWEEN = 3000  # questions: between 1,000 and 10,000


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        title: what stands above it.
        joint: whether one model is trained for all tasks.
        changes: how it differs from its recipe.
        large: how else with 10,000 questions a task.
        recipe: ``paper`` or ``best``.
        beside: the column of the paper that it stands beside; without, its own.
    """

    title: str
    joint: bool
    changes: dict[str, Any]
    large: dict[str, Any]
    recipe: Callable[..., Recipe] = Recipe.paper
    beside: str | None = None

    @property
    def keep(self) -> Keep:
        """By which error a restart is kept."""
        return self.recipe(joint=self.joint, **self.changes).keep


NO_START = {"linear_start_epochs": 0, "learning_rate": 0.01}
NO_NOISE = {"noise": "none"}
THIRD = {"epochs": 20, "halve_every": 5}  # of the epochs for ten times the questions
TENTH = {"epochs": 27, "linear_start_epochs": 3}

PAPERS = {
    "bow": Column("BoW", False, {"position": "bag", **NO_START, **NO_NOISE}, {}),
    "pe": Column("PE", False, {**NO_START, **NO_NOISE}, {}),
    "pe-ls": Column("PE LS", False, NO_NOISE, {}),
    "pe-ls-rn": Column("PE LS RN", False, {}, {}),
    "joint-1-hop": Column("1 hop, joint", True, {"num_hops": 1, **NO_NOISE}, THIRD),
    "joint-2-hops": Column("2 hops, joint", True, {"num_hops": 2, **NO_NOISE}, THIRD),
    "joint-3-hops": Column("3 hops, joint", True, NO_NOISE, THIRD),
    "joint-rn": Column("RN, joint", True, {}, THIRD),
    "joint-layerwise": Column("LW, joint", True, {"tying": "layerwise", **NO_NOISE}, THIRD),
}
BEST = {
    "best": Column("best", False, {}, TENTH, Recipe.best, "pe-ls-rn"),
    "best-joint": Column("best, joint", True, {}, {"epochs": 18}, Recipe.best, "joint-rn"),
}
COLUMNS = PAPERS | BEST
TINY_START = {"linear_start_epochs": 1}


class Table(NamedTuple):
    """What a table is made of, as processes are told it.

    Attributes:
        data: folder of the files; None is a few generated stories of tasks 1 and 2.
        tasks: in ascending order.
        restarts, seed: of each training.
        large: whether the data has 10,000 questions a task.
        tiny: two epochs each.
    """

    data: Path | None
    tasks: tuple[int, ...]
    restarts: int
    seed: int
    large: bool = False
    tiny: bool = False

    def recipe(self, column: str) -> Recipe:
        """The recipe of a column."""
        made = COLUMNS[column]
        changes = made.changes | (made.large if self.large else {})
        if self.tiny:
            changes = TINY_START | changes | {"epochs": 2}
        return made.recipe(joint=made.joint, **changes)

    def splits(self, task: int) -> Splits:
        """Training and test examples of a task."""
        return released(self.data)(task) if self.data else generated(task)


def parse_columns(columns: str) -> list[str]:
    """The columns of a list such as ``pe,joint-rn``, in the order of the table."""
    wanted = [name.strip() for name in columns.split(",")]
    if unknown := [name for name in wanted if name not in COLUMNS]:
        raise MemhopError(f"--columns needs names of {', '.join(COLUMNS)}; not {unknown[0]!r}")
    return [name for name in COLUMNS if name in wanted]


def available_tasks(data: Path, tasks: Iterable[int]) -> list[int]:
    """Those of the tasks that a folder has a training and a test file of."""
    found = find_tasks(data)
    whole = [task for task in tasks if {"train", "test"} <= found.get(task, {}).keys()]
    if not whole:
        raise MemhopError(f"{data}: has no training and test file of any of the tasks")
    return sorted(whole)


def check_size(table: Table) -> None:
    """Whether the data has as many questions as the table is about.

    Raises:
        MemhopError: ten times as many, or a tenth.
    """
    if table.data is None:
        return
    task = table.tasks[0]
    count = len(table.splits(task)[0])
    if (count > _BETWEEN) != table.large:
        needed = "about 10,000 with --ten-k" if table.large else "about 1,000 without --ten-k"
        raise MemhopError(
            f"{table.data}: needs {needed}; task {task} has {count:,} training questions"
        )


class Unit(NamedTuple):
    """Some restarts of a column, for a task or for ``JOINT``."""

    column: str
    task: int
    first: int
    restarts: int

    def tasks(self, table: Table) -> tuple[int, ...]:
        """The tasks that it gives rows for."""
        return table.tasks if self.task == JOINT else (self.task,)


def units(table: Table, columns: Iterable[str]) -> list[Unit]:
    """All units of a table, those that take longest first.

    >>> len(units(Table(None, (1, 2), restarts=10, seed=0), ["pe", "joint-rn"]))
    4
    """
    jointly, alone = [], []
    for column in columns:
        if COLUMNS[column].joint:
            firsts = range(0, table.restarts, IN_A_UNIT)
            jointly += [
                Unit(column, JOINT, first, min(IN_A_UNIT, table.restarts - first))
                for first in firsts
            ]
        else:
            alone += [Unit(column, task, 0, table.restarts) for task in table.tasks]
    statements = {3: 50, 2: 15, 5: 19, 7: 9, 8: 9, 16: 9}  # before a question, in the mean
    alone.sort(key=lambda unit: statements.get(unit.task, 6), reverse=True)
    jointly.sort(key=lambda unit: table.recipe(unit.column).num_hops, reverse=True)
    return jointly + alone


def run(
    table: Table, left: Sequence[Unit], jobs: int
) -> Iterator[tuple[Unit, list[dict[str, Any]]]]:
    """Train all units in so many processes; rows of each as it ends."""
    return in_processes(partial(rows_of, table), left, jobs)


def rows_of(table: Table, unit: Unit) -> list[dict[str, Any]]:
    """Train a unit: a row for each restart and task, without numbers where all diverged."""
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
        assert model is not None  # nothing was read from disk
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
            "seconds": seconds, **surroundings(),
        }
        for task in tasks
        for one in scores
    ]  # fmt: skip
