"""Where a step's time goes: the count of what must be multiplied, and the parts of a step."""

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import step
from memhop.cli import app
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.training.loop import Trainer
from memhop.training.sampler import EpochBatches


@pytest.mark.parametrize("hop_units", [0, 7])
def test_the_multiplications_of_a_step_by_hand(hop_units: int) -> None:
    """One question of two statements: every sentence of the batch is there once."""
    one = Example(("Mary went home.", "John slept."), "Where is Mary?", "home")
    recipe = Recipe(
        memory_dim=4, num_hops=2, batch_size=1, validation_share=0, noise="none",
        hop_units=hop_units,
    )  # fmt: skip
    trainer = Trainer([[one]], recipe, range(1), 0, torch.device("cpu"))
    draws = EpochBatches(*(part[0] for part in trainer.draw_epoch()))
    words, ages = 3 + 2 + 3, 2
    tables, slots, rows = 3, 2, trainer.model.num_rows
    embedded = 2 * (words + ages) * tables
    read = 3 * 2 * slots * 2
    asked = 3 * (rows + 2 * hop_units * 2)
    assert step.multiply_adds(trainer, draws) == 4 * (embedded + read + asked)


def test_a_product_says_how_fast_a_core_is() -> None:
    assert 1e8 < step.multiply_adds_a_second() < 1e13


def test_the_parts_make_the_step() -> None:
    rows = list(step.measure(None))
    assert [(row["column"], row["task"]) for row in rows] == list(step.CASES)
    for row in rows:
        parts = sum(row[part] for part in step.PARTS)
        assert parts == pytest.approx(row["step_ms"])
        assert 0 < row["operations_ms"] < row["step_ms"]


def test_the_command_says_a_table() -> None:
    said = CliRunner().invoke(app, ["bench", "step", "--tiny"])
    assert said.exit_code == 0, said.output
    assert "PE LS RN, task 2" in said.output
    assert CliRunner().invoke(app, ["bench", "step"]).exit_code == 1
