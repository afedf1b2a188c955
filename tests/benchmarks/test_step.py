"""The parts of a training step, and the count of its multiply-adds."""

from pathlib import Path

import pytest
import torch

from benchmarks import step
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.record import read_rows
from memhop.training.sampler import EpochBatches
from memhop.training.trainer import Trainer

from .conftest import Runner


@pytest.mark.parametrize("hop_units", [0, 7])
def test_the_multiplications_of_a_step_by_hand(hop_units: int) -> None:
    """One question of two statements: every sentence of the batch is there once."""
    one = Example(("Mary went home.", "John slept."), "Where is Mary?", "home")
    recipe = Recipe(
        memory_dim=4, num_hops=2, batch_size=1, validation_share=0, noise="none",
        hop_units=hop_units,
    )  # fmt: skip
    trainer = Trainer([[one]], recipe, range(1), 0, torch.device("cpu"))
    draws = EpochBatches(*(part[0] for part in trainer.sample_epoch()))
    words, ages = 3 + 2 + 3, 2
    tables, slots, rows = 3, 2, trainer.model.num_rows
    embedding = 2 * (words + ages) * tables
    read = 3 * 2 * slots * 2
    output = 3 * (rows + 2 * hop_units * 2)
    assert step.multiply_adds(trainer, draws) == 4 * (embedding + read + output)


def test_the_speed_of_a_core_is_plausible() -> None:
    assert 1e8 < step.multiply_adds_per_second() < 1e13


def test_the_parts_add_up_to_the_step(run: Runner) -> None:
    done = run("step", "--tiny", "--to", "step.csv")
    assert done.status == 0, done
    assert "PE LS RN, task 2" in done.out
    rows = read_rows(Path("step.csv"))
    assert [(row["column"], int(row["task"])) for row in rows] == list(step.CASES)
    for row in rows:
        parts = sum(float(row[part]) for part in step.PARTS)
        assert parts == pytest.approx(float(row["step_ms"]))
        assert 0 < float(row["operations_ms"]) < float(row["step_ms"])
