"""Training on released and generated stories: the models, and the verdict."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import transfer
from benchmarks.transfer import Setting, Verdict, rows_of, sheets, verdicts
from memhop.data import TASK_NAMES, generate_splits, write_babi
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.record import read_rows

from .conftest import Runner


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write generated stories of tasks 1 and 15 in place of the released ones."""
    folder = tmp_path_factory.mktemp("released")
    for task in (1, 15):
        splits = generate_splits(task, {"train": 60, "test": 40}, seed=77)
        for split, stories in splits.items():
            write_babi(folder / f"qa{task}_{TASK_NAMES[task]}_{split}.txt", stories)
    return folder


def test_each_model_is_tested_on_both_kinds(released: Path) -> None:
    recipe = Recipe(epochs=3, linear_start_epochs=1, validation_share=0)
    own, generated = rows_of(Setting(released, 1, recipe), (1, 3))
    assert (own["trained_on"], generated["trained_on"]) == ("released", "generated")
    assert (own["questions"], own["test_questions"]) == (60, 40)
    errors = ("error_on_released", "error_on_generated")
    assert [own[name] for name in errors] != [generated[name] for name in errors]
    assert own["error_on_released"] != own["error_on_generated"]  # two different tests
    again = rows_of(Setting(released, 1, recipe), (1, 3))[1]
    assert again["error_on_released"] == generated["error_on_released"]


def test_the_majority_error() -> None:
    def of(answers: str) -> list[Example]:
        return [Example(("A.",), "B?", answer) for answer in answers]

    assert transfer._majority_error(of("xxy"), of("xyyy")) == 75


def row(task: int, source: str, on_released: float, on_generated: float) -> dict[str, Any]:
    return {
        "task": task, "seed": 0, "trained_on": source, "restarts": 10,
        "error_on_released": on_released, "error_on_generated": on_generated,
        "most_frequent_on_released": 50.0, "most_frequent_on_generated": 50.0,
    }  # fmt: skip


def test_the_verdict_needs_both_directions_and_a_model_that_learned() -> None:
    rows = [
        row(1, "released", 10, 13), row(1, "generated", 12, 11),
        row(2, "released", 10, 15), row(2, "generated", 12, 11),
        row(3, "released", 31, 40), row(3, "generated", 45, 31),
        row(1, "released", 10, 13) | {"seed": 1}, row(1, "generated", 14, 11) | {"seed": 1},
    ]  # fmt: skip
    found = verdicts(rows)
    assert found[1] == Verdict(10, 13, 11, 13, 50)
    assert [(found[task].is_compared, found[task].is_close) for task in (1, 2, 3)] == [
        (True, True), (True, False), (False, False)
    ]  # fmt: skip
    assert [line[-1] for line in sheets(rows)[0].lines] == ["yes", "no", "-"]


def test_the_command_writes_rows_in_order(run: Runner, released: Path) -> None:
    options = ("--tiny", "--restarts", "1", "--jobs", "1", "--to", "rows.csv")
    done = run("transfer", "--data", str(released), *options)
    assert done.status == 0, done
    assert [(row["task"], row["trained_on"]) for row in read_rows(Path("rows.csv"))] == [
        ("1", "released"), ("1", "generated"), ("15", "released"), ("15", "generated")
    ]  # fmt: skip
    assert "majority error" in done.out
