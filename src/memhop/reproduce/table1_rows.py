"""The file of ``bench table1``: what rows it may hold, which of them are missing."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from memhop.errors import MemhopError
from memhop.reproduce.record import read_rows
from memhop.reproduce.table1 import COLUMNS, Table, Unit, units

Rows = Sequence[dict[str, Any]]
_NEEDED = ("column", "task", "restart", "seed", "train_loss", "test_error", "train_questions")


def rows_to_go_on_from(file: Path | None, table: Table, columns: Iterable[str]) -> Rows:
    """The rows of a file that is there, if they are of this table.

    Raises:
        MemhopError: they are of another table: another seed, other data, or a model for all
            tasks that was trained on other tasks. Nothing of the file is changed.
    """
    if file is None or not file.exists():
        return []
    rows = read_rows(file)
    try:
        other = _difference(rows, table, columns)
    except (KeyError, TypeError, ValueError) as error:
        raise MemhopError(f"{file}: needs the rows of bench table1, or to be a new file") from error
    if other:
        raise MemhopError(f"{file}: {other}; give --to another file")
    return rows


def _difference(rows: Rows, table: Table, columns: Iterable[str]) -> str | None:
    """What the rows say of themselves that is not so of the table."""
    for row in rows:
        _ = sort_key(row), [row[name] for name in _NEEDED]
    if other := {int(row["seed"]) for row in rows} - {table.seed}:
        return f"has rows of seed {min(other)}, not of {table.seed}"
    for row in rows[:1]:
        task, came = int(row["task"]), int(row["train_questions"])
        if task in table.tasks and came != (here := len(table.splits(task)[0])):
            return f"has rows of {came:,} training questions of task {task}, not of {here:,}"
    for name in columns:
        tasks = {int(row["task"]) for row in rows if row["column"] == name}
        if COLUMNS[name].joint and tasks and tasks != set(table.tasks):
            listed = ",".join(map(str, sorted(tasks)))
            return f"has rows of {name} of one model for the tasks {listed}"
    return None


def sort_key(row: dict[str, Any]) -> tuple[int, int, int]:
    """The order of rows in the file: by column as in the table, task, restart."""
    return list(COLUMNS).index(str(row["column"])), int(row["task"]), int(row["restart"])


def put(rows: Rows, found: Rows) -> Rows:
    """Rows that were found beside the others, in the place of those of the same restarts."""
    return sorted({sort_key(row): row for row in [*rows, *found]}.values(), key=sort_key)


def missing(table: Table, columns: Iterable[str], rows: Rows) -> list[Unit]:
    """The units of which rows are missing."""
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
