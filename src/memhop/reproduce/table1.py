"""Define the nine memory-network columns of the paper's Tables 1 and 3."""

from collections.abc import Iterable
from pathlib import Path

from memhop.errors import MemhopError
from memhop.reproduce import trainings
from memhop.reproduce.record import Rows
from memhop.reproduce.trainings import THIRD, ColumnSpec, TableSpec, is_large

RESTARTS_PER_UNIT = 5  # of a joint training
NO_START = {"linear_start_epochs": 0, "learning_rate": 0.01}
NO_NOISE = {"noise": "none"}

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


def table_of(
    data: Path | None,
    tasks: Iterable[int],
    *,
    restarts: int,
    seed: int = 0,
    large: bool = False,
    tiny: bool = False,
) -> TableSpec:
    """Return Table 1, or with ``large`` Table 3, of one seed."""
    return TableSpec(PAPERS, data, tuple(tasks), restarts, (seed,), large, tiny, RESTARTS_PER_UNIT)


def check_size(table: TableSpec) -> None:
    """Check that the data has 1,000 questions a task for Table 1, 10,000 for Table 3.

    Raises:
        MemhopError: it has the number of the other table.
    """
    task = table.tasks[0]
    if table.data is not None and is_large(table.data, task) != table.large:
        expected, name = ("10,000", "table3") if table.large else ("1,000", "table1")
        count = len(table.splits("pe-ls-rn", task)[0])
        raise MemhopError(
            f"{table.data}: {name} needs about {expected} training questions a task, "
            f"got {count:,} of task {task}"
        )


def rows_to_resume(file: Path | None, table: TableSpec, columns: Iterable[str]) -> Rows:
    """Return the rows of an existing file, or none.

    Raises:
        MemhopError: they are of another table or of another seed. The file stays as it is.
    """
    rows = trainings.rows_to_resume(file, table, columns, "reproduce table1")
    if other := {int(row["seed"]) for row in rows} - {*table.seeds}:
        raise MemhopError(
            f"{file}: cannot resume: the rows have seed {min(other)}, not {table.seeds[0]}; "
            "give --to another file"
        )
    return rows
