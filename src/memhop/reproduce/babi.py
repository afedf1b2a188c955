"""What error does the recipe ``paper`` reach on single bAbI tasks, and in what time?"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from memhop.data import find_tasks, generate, read_babi, to_examples
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.record import surroundings
from memhop.training.loop import Progress, train

TINY: dict[str, Any] = {"epochs": 2, "linear_start_epochs": 1}
Splits = tuple[list[Example], list[Example]]


def measure(
    tasks: Sequence[int],
    load: Callable[[int], Splits],
    *,
    recipe: Recipe,
    restarts: int,
    seed: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[dict[str, str | int | float | None]]:
    """Train each task and score all its test questions: one row a task."""
    for task in tasks:
        train_examples, test_examples = load(task)
        result = train(
            train_examples, test_examples, recipe=recipe, restarts=restarts, seed=seed,
            on_progress=on_progress,
        )  # fmt: skip
        ended = [one.test_error for one in result.restarts if one.test_error is not None]
        yield {
            "task": task,
            "test_questions": len(test_examples),
            "restarts": restarts,
            "seed": seed,
            "kept": result.kept,
            "train_error": result.best.train_error,
            "test_error": result.best.test_error,
            "mean_test_error": sum(ended) / len(ended),
            "lowest_test_error": min(ended),
            "highest_test_error": max(ended),
            "seconds": round(result.seconds, 2),
            **surroundings(),
        }


def released(folder: Path) -> Callable[[int], Splits]:
    """The tasks of a folder with the released files."""
    found = find_tasks(folder)

    def load(task: int) -> Splits:
        splits = found.get(task, {})
        if not {"train", "test"} <= splits.keys():
            raise MemhopError(f"{folder}: needs a training and a test file of task {task}")
        return read_babi(splits["train"]), read_babi(splits["test"])

    return load


def generated(task: int) -> Splits:
    """A few stories of our own, to see that the benchmark runs."""
    made = (generate(task, questions=160, seed=seed, statements=(3, 10)) for seed in (0, 1))
    train_examples, test_examples = (list(to_examples(stories)) for stories in made)
    return train_examples, test_examples
