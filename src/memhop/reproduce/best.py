"""Train the recipe ``best`` with several seeds, and ``paper`` as its baseline; write every restart.

A seed changes both the held-out stories and the initial weights. A training keeps one model by its
own rule (`memhop.train`); then the test questions are scored, once. See
`memhop.reproduce.trainings`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from memhop.errors import MemhopError
from memhop.recipe import Recipe
from memhop.reproduce import record, trainings
from memhop.reproduce.inflected import INFLECTED_TASKS, inflected
from memhop.reproduce.record import Rows, provenance
from memhop.reproduce.trainings import (
    THIRD,
    ColumnSpec,
    TableSpec,
    Unit,
    model_rows,
    restart_rows,
    train_unit,
)

MAIN, CONTROL = "main", "control"  # the models of a training
# a tenth of the epochs, for ten times the questions
TENTH = {"epochs": 27, "linear_start_epochs": 3, "stop_after": 2}
ALONE = {
    "best": ColumnSpec("best", False, {}, TENTH, Recipe.best, "pe-ls-rn", "paper"),
    "paper": ColumnSpec("paper", False, {}, {}),
}
JOINTLY = {
    "best-joint": ColumnSpec(
        "best, joint", True, {}, {"epochs": 18}, Recipe.best, "joint-rn", "paper-joint"
    ),
    "paper-joint": ColumnSpec("paper, joint", True, {}, THIRD),
}


def _inflected(name: str, baseline: str | None = None) -> ColumnSpec:
    """Return a column in which the stories are inflected."""
    return ALONE[name]._replace(
        title=f"{name}, inflected", compared_with=None, baseline=baseline,
        tasks=INFLECTED_TASKS, rewritten=inflected,
    )  # fmt: skip


COLUMNS = {
    "best": ALONE["best"],
    "best-joint": JOINTLY["best-joint"],
    "inflected": _inflected("best", "inflected-paper"),
    "paper": ALONE["paper"],
    "paper-joint": JOINTLY["paper-joint"],
    "inflected-paper": _inflected("paper"),
}
FIELDS = (
    "column", "task", "restart", "seed", "train_error", "train_loss", "validation_error",
    "test_error", "train_questions", "test_questions", "seconds", "model", "kept", "tiny",
)  # fmt: skip
_COMMAND = "reproduce best"


def rows_of(table: TableSpec, unit: Unit) -> list[dict[str, Any]]:
    """Train a unit; return a row for each task and restart, and for a control that was kept.

    The control, a model of another recipe, has the number after that of the last restart.
    """
    trained = train_unit(table, unit)
    rows, result = restart_rows(unit, trained), trained.result
    kept = None if result is None else result.kept
    if result is not None and result.control is not None and result.control.is_kept:
        kept = unit.restarts
        control = replace(result.best, restart=kept)
        rows += model_rows(unit, trained.splits, result.model, [control], rows[0]["seconds"])
    more = {"tiny": table.tiny, **provenance()}
    return [
        {name: value for name, value in row.items() if name in FIELDS}
        | {"model": MAIN if row["restart"] < unit.restarts else CONTROL}
        | {"kept": row["restart"] == kept, **more}
        for row in rows
    ]


def rows_to_resume(file: Path | None, table: TableSpec, columns: Iterable[str]) -> Rows:
    """Return the rows of an existing file, or none. Other seeds may be in the file.

    Raises:
        MemhopError: they are of another table, or with another number of restarts: these decide
            which model is kept. The file stays as it is.
    """
    record.rows_to_resume(file, _COMMAND, FIELDS, table.tiny)
    rows = trainings.rows_to_resume(file, table, columns, _COMMAND)
    main = [row for row in rows if row["model"] == MAIN]
    counts = Counter((row["column"], row["task"], row["seed"]) for row in main)
    if other := {*counts.values()} - {table.restarts}:
        raise MemhopError(
            f"{file}: cannot resume: its rows are of {min(other)} restarts, not {table.restarts}; "
            "give --to another file"
        )
    return rows
