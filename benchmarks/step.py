"""Where does the time of a training step go, and what would the operations alone take?"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from benchmarks.hop.tables import Sheet
from memhop.reproduce.paper import TASKS
from memhop.reproduce.processes import one_thread
from memhop.reproduce.record import surroundings
from memhop.reproduce.table1 import COLUMNS, IN_A_UNIT, JOINT, Table, available_tasks
from memhop.training.loop import Trainer
from memhop.training.sampler import EpochBatches

CASES = (("pe-ls-rn", 1), ("pe-ls-rn", 2), ("joint-rn", JOINT), ("best-joint", JOINT))
PARTS = ("draw_ms", "embedding_ms", "hops_ms", "backward_ms", "update_ms")
EPOCHS_BEFORE = 2  # gradients of the first steps are not those of the rest
_SIDE = 512  # of the matrices whose product says how fast this core multiplies
Result = TypeVar("Result")


class Lap(NamedTuple):
    """Seconds of one step and of its parts; ``forward`` holds ``embedding``."""

    embedding: float
    forward: float
    update: float
    whole: float


def measure(data: Path | None) -> Iterator[dict[str, Any]]:
    """A row for each of some trainings, on one thread as in ``bench table1``.

    Args:
        data: folder with the tasks; None is a few generated stories, and few steps.
    """
    tasks = tuple(available_tasks(data, TASKS)) if data else (1, 2)
    table = Table(data, tasks, restarts=10, seed=0, tiny=data is None)
    with one_thread():
        speed = multiply_adds_a_second()
        for column, task in CASES:
            if task in (JOINT, *tasks):
                yield _row(table, column, task, 200 if data else 3, speed)


def _row(table: Table, column: str, task: int, steps: int, speed: float) -> dict[str, Any]:
    """Train two epochs, then time so many steps: medians in ms."""
    splits = [table.splits(number)[0] for number in ((task,) if task else table.tasks)]
    restarts = min(table.restarts, IN_A_UNIT) if task == JOINT else table.restarts
    recipe = table.recipe(column)
    trainer = Trainer(splits, recipe, range(restarts), table.seed, torch.device("cpu"))
    for _ in range(EPOCHS_BEFORE):
        trainer.run_epoch()
        trainer.state.epoch += 1
    drawing, draws = _timed(trainer.draw_epoch)
    batches = [EpochBatches(*(part[step] for part in draws)) for step in range(len(draws.answers))]
    laps = [_lap(trainer, batch) for batch in batches[:steps]]
    embedding, forward, update, whole = (
        1000 * statistics.median(part) for part in zip(*laps, strict=True)
    )
    draw = 1000 * drawing / len(batches)
    operations = statistics.fmean(multiply_adds(trainer, batch) for batch in batches[:steps])
    return {
        "column": column, "task": task, "restarts": restarts, "steps": len(laps),
        "draw_ms": draw, "embedding_ms": embedding, "hops_ms": forward - embedding,
        "backward_ms": whole - forward - update, "update_ms": update, "step_ms": draw + whole,
        "million_multiply_adds": operations / 1e6, "million_multiply_adds_a_ms": speed / 1e9,
        "operations_ms": 1000 * operations / speed, **surroundings(),
    }  # fmt: skip


def _lap(trainer: Trainer, draws: EpochBatches) -> Lap:
    """One step; its parts first, each alone, the update with a rate of zero."""
    model, number = trainer.model, trainer.state.epoch * trainer.deck.steps + 1
    bank, rate = trainer.deck.encoded.sentences, trainer.recipe.learning_rate
    embedding, _ = _timed(lambda: bank.embed(model.tables, draws.chosen))
    forward, (_, losses) = _timed(lambda: trainer.forward(draws, True))
    gradients = torch.autograd.grad(losses.sum(), list(model.parameters()))
    update, _ = _timed(lambda: trainer.optimizer.step(gradients, 0.0, number))
    whole, _ = _timed(lambda: trainer.step(draws, rate, True, number))
    return Lap(embedding, forward, update, whole)


def multiply_adds(trainer: Trainer, draws: EpochBatches) -> int:
    """What a step cannot do without, for all restarts.

    A word of a distinct sentence counts once a table and column, and once backward. What else is
    multiplied counts once, and twice backward: a column of a slot in use for its score and for
    its sum, and the products with W and with the weights of the network.
    """
    model, recipe = trainer.model, trainer.recipe
    words = int(trainer.deck.encoded.sentences.sizes[draws.chosen].sum())
    slots, questions = int(draws.lengths.sum()), draws.lengths.numel()
    embedded = words * model.tables.shape[-3]
    read = 2 * slots * recipe.num_hops
    asked = questions * (model.num_rows + 2 * recipe.hop_units * recipe.num_hops)
    return recipe.memory_dim * (2 * embedded + 3 * (read + asked))


def multiply_adds_a_second() -> float:
    """Of this thread, in the product of two matrices that stay in the cache."""
    left, right = torch.rand(_SIDE, _SIDE), torch.rand(_SIDE, _SIDE)
    taken = [_timed(lambda: left @ right)[0] for _ in range(20)]
    return float(_SIDE**3 / statistics.median(taken[5:]))


def sheet(rows: Sequence[Mapping[str, str]]) -> Sheet:
    """The rows as a table."""
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
        f"at {speed:.0f} million multiply-adds a millisecond, as a product of two matrices takes "
        f"them that stay in the cache."
    )
    return Sheet("A step of training and its parts", columns, lines, note)


def _timed(call: Callable[[], Result]) -> tuple[float, Result]:
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result
