"""Train the recipe ``paper`` on single bAbI tasks: test error and time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from memhop.data import find_tasks, generate, read_babi, to_examples
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.paper import SMALL
from memhop.reproduce.record import Rows, Sheet, provenance
from memhop.training.loop import Progress, train

TINY: dict[str, Any] = {"epochs": 2, "linear_start_epochs": 1}
Splits = tuple[list[Example], list[Example]]


def row_of(
    task: int,
    splits: Splits,
    *,
    recipe: Recipe,
    restarts: int,
    seed: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train a task, score all its test questions, and return the row."""
    train_examples, test_examples = splits
    result = train(
        train_examples, test_examples, recipe=recipe, restarts=restarts, seed=seed,
        on_progress=on_progress,
    )  # fmt: skip
    errors = [one.test_error for one in result.restarts if one.test_error is not None]
    return {
        "task": task,
        "test_questions": len(test_examples),
        "restarts": restarts,
        "seed": seed,
        "kept": result.kept,
        "train_error": result.best.train_error,
        "test_error": result.best.test_error,
        "mean_test_error": sum(errors) / len(errors),
        "lowest_test_error": min(errors),
        "highest_test_error": max(errors),
        "seconds": round(result.seconds, 2),
        **provenance(),
    }


def released(folder: Path) -> Callable[[int], Splits]:
    """Return a function that reads a task from a folder with the released files."""
    found = find_tasks(folder)

    def load(task: int) -> Splits:
        splits = found.get(task, {})
        if not {"train", "test"} <= splits.keys():
            raise MemhopError(f"{folder}: expected a training and a test file of task {task}")
        return read_babi(splits["train"]), read_babi(splits["test"])

    return load


def generated(task: int) -> Splits:
    """Generate a few stories for a tiny run."""
    made = (generate(task, questions=160, seed=seed, statements=(3, 10)) for seed in (0, 1))
    train_examples, test_examples = (list(to_examples(stories)) for stories in made)
    return train_examples, test_examples


def sheet(rows: Rows) -> Sheet:
    """Return the rows as a table, next to the paper's column PE LS RN."""
    lines = []
    for row in rows:
        paper = SMALL["pe-ls-rn"][int(row["task"]) - 1]
        errors = (float(row["test_error"]), paper, float(row["mean_test_error"]))
        cells = [f"{error:.1f}" for error in errors]
        lines.append([str(row["task"]), *cells, f"{float(row['seconds']):.0f}"])
    first = rows[0]
    note = (
        f"Test error in %, over all {int(first['test_questions']):,} test questions, of the "
        f"restart (out of {first['restarts']}) with the lowest training error; seed "
        f"{first['seed']}. The seconds are those of all restarts. The paper's: Table 1, PE LS RN."
    )
    columns = ("bAbI task (1k)", "test error", "the paper's", "mean of all restarts", "seconds")
    return Sheet("", columns, lines, note)
