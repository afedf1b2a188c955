"""Measure the parts of a training step, and the time of its multiply-adds alone."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch

from memhop.cli.reproduce import Tiny
from memhop.cli.settings import DataFolder
from memhop.errors import MemhopError
from memhop.reproduce import best, table1
from memhop.reproduce.paper import TASKS
from memhop.reproduce.processes import one_thread
from memhop.reproduce.record import Rows, Sheet, provenance
from memhop.reproduce.table1 import RESTARTS_PER_UNIT
from memhop.reproduce.trainings import JOINT, TableSpec, available_tasks
from memhop.training.sampler import EpochBatches
from memhop.training.trainer import Trainer

COLUMNS = table1.PAPERS | best.COLUMNS
CASES = (("pe-ls-rn", 1), ("pe-ls-rn", 2), ("joint-rn", JOINT), ("best-joint", JOINT))
PARTS = ("draw_ms", "embedding_ms", "hops_ms", "backward_ms", "update_ms")
WARM_UP_EPOCHS = 2  # gradients of the first steps differ
_SIDE = 512  # of the square matrices that measure multiply-adds a second
Result = TypeVar("Result")


class Lap(NamedTuple):
    """Seconds of a step and its parts; ``forward`` includes ``embedding``."""

    embedding: float
    forward: float
    update: float
    whole: float


def measure(data: DataFolder = None, tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Measure the parts of a training step and its operations."""
    if data is None and not tiny:
        raise MemhopError("benchmark step: expected --data DIR, or --tiny for generated stories")
    if tiny:
        data = None
    tasks = tuple(available_tasks(data, TASKS)) if data else (1, 2)
    table = TableSpec(COLUMNS, data, tasks, restarts=10, tiny=data is None)
    with one_thread():
        speed = multiply_adds_per_second()
        for column, task in CASES:
            if task in (JOINT, *tasks):
                yield [_row(table, column, task, 200 if data else 3, speed)]


def _row(table: TableSpec, column: str, task: int, steps: int, speed: float) -> dict[str, Any]:
    """Train two epochs, then time ``steps`` steps; return medians in ms."""
    splits = [table.splits(column, number)[0] for number in ((task,) if task else table.tasks)]
    restarts = min(table.restarts, RESTARTS_PER_UNIT) if task == JOINT else table.restarts
    recipe = table.recipe(column)
    trainer = Trainer(splits, recipe, range(restarts), table.seeds[0], torch.device("cpu"))
    for _ in range(WARM_UP_EPOCHS):
        trainer.run_epoch()
        trainer.state.epoch += 1
    draw_seconds, draws = _timed(trainer.sample_epoch)
    batches = [EpochBatches(*(part[step] for part in draws)) for step in range(len(draws.answers))]
    laps = [_lap(trainer, batch) for batch in batches[:steps]]
    embedding, forward, update, whole = (
        1000 * statistics.median(part) for part in zip(*laps, strict=True)
    )
    draw = 1000 * draw_seconds / len(batches)
    operations = statistics.fmean(multiply_adds(trainer, batch) for batch in batches[:steps])
    return {
        "column": column, "task": task, "restarts": restarts, "steps": len(laps),
        "draw_ms": draw, "embedding_ms": embedding, "hops_ms": forward - embedding,
        "backward_ms": whole - forward - update, "update_ms": update, "step_ms": draw + whole,
        "million_multiply_adds": operations / 1e6, "million_multiply_adds_a_ms": speed / 1e9,
        "operations_ms": 1000 * operations / speed, **provenance(),
    }  # fmt: skip


def _lap(trainer: Trainer, draws: EpochBatches) -> Lap:
    """Time a step: each part alone, the update with a rate of zero, then the whole."""
    model, number = trainer.model, trainer.state.epoch * trainer.sampler.steps + 1
    bank, rate = trainer.sampler.encoded.sentences, trainer.recipe.learning_rate
    embedding, _ = _timed(lambda: bank.embed(model.tables, draws.chosen))
    forward, (_, losses) = _timed(lambda: trainer.forward(draws, True))
    gradients = torch.autograd.grad(losses.sum(), list(model.parameters()))
    update, _ = _timed(lambda: trainer.optimizer.step(gradients, 0.0, number))
    whole, _ = _timed(lambda: trainer.step(draws, rate, True, number))
    return Lap(embedding, forward, update, whole)


def multiply_adds(trainer: Trainer, draws: EpochBatches) -> int:
    """Return the multiply-adds that a step of all restarts needs at least.

    A word of a distinct sentence counts once for each table and dimension, and once backward. Each
    other product counts once, and twice backward: a dimension of a used slot for the score and for
    the sum, and the products with W and with the weights of the MLP.
    """
    model, recipe = trainer.model, trainer.recipe
    words = int(trainer.sampler.encoded.sentences.sizes[draws.chosen].sum())
    slots, questions = int(draws.lengths.sum()), draws.lengths.numel()
    embedding = words * model.tables.shape[-3]
    read = 2 * slots * recipe.num_hops
    output = questions * (model.num_rows + 2 * recipe.hop_units * recipe.num_hops)
    return recipe.memory_dim * (2 * embedding + 3 * (read + output))


def multiply_adds_per_second() -> float:
    """Return the speed of this thread in a product of two matrices that fit the cache."""
    left, right = torch.rand(_SIDE, _SIDE), torch.rand(_SIDE, _SIDE)
    taken = [_timed(lambda: left @ right)[0] for _ in range(20)]
    return float(_SIDE**3 / statistics.median(taken[5:]))


def sheets(rows: Rows) -> list[Sheet]:
    """Return the rows as a table."""
    parts = (name.removesuffix("_ms") for name in PARTS)
    columns = ("training", "restarts", *parts, "a step", "operations", "ratio")
    lines = []
    for row in rows:
        task = "" if int(row["task"]) == JOINT else f", task {row['task']}"
        step, alone = float(row["step_ms"]), float(row["operations_ms"])
        cells = [COLUMNS[row["column"]].title + task, row["restarts"]]
        cells += [f"{float(row[part]):.2f}" for part in PARTS]
        lines.append([*cells, f"{step:.2f}", f"{alone:.3f}", f"{step / alone:.0f}"])
    speed = float(rows[0]["million_multiply_adds_a_ms"])
    note = (
        "Milliseconds for all restarts, medians over the steps, 32 questions each; the operations "
        f"at {speed:.0f} million multiply-adds a millisecond, the speed of a product of two "
        f"matrices that fit the cache."
    )
    return [Sheet("A training step and its parts", columns, lines, note)]


def _timed(call: Callable[[], Result]) -> tuple[float, Result]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result
