"""Does a model answer in longer stories than it was trained on? One row an encoding and length."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.hop.tables import Sheet
from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.processes import in_processes
from memhop.reproduce.record import surroundings
from memhop.training.evaluation import evaluate
from memhop.training.loop import train

TASKS = (1, 2, 3)
TRAINED = 20  # the most statements before a question in training
ENCODINGS: dict[str, dict[str, Any]] = {
    "no ages": {"temporal": False, "noise": "none"},
    "ages": {"noise": "none"},
    "ages, time noise": {"noise": "time"},
    "ages, empty memories": {"noise": "empty", "mask_empty_slots": False},
}
"""The temporal encodings that the model offers, as changes of `Recipe`."""


class Size(NamedTuple):
    """How much is trained and asked; the defaults are those of the published curve.

    Attributes:
        train, test: questions, of a training and at each length.
        lengths: statements before a question.
        restarts: of which the one with the lowest training error is asked.
        seeds: of stories and training.
        changes: of the recipe.
    """

    train: int = 2000
    test: int = 1000
    lengths: tuple[int, ...] = (5, 10, 20, 50, 200, 1000)
    restarts: int = 5
    seeds: tuple[int, ...] = (0, 1, 2)
    changes: Mapping[str, Any] = {}


TINY = Size(64, 20, (5, 30), 1, (0,), {"epochs": 2, "linear_start_epochs": 1})


def measure(size: Size, jobs: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of each training as they come."""
    work = [(task, name, seed) for task in TASKS for name in ENCODINGS for seed in size.seeds]
    for _, rows in in_processes(partial(rows_of, size), work, jobs):
        yield rows


def rows_of(size: Size, work: tuple[int, str, int]) -> list[dict[str, Any]]:
    """Train on stories of up to 20 statements, ask in stories of each length."""
    task, name, seed = work
    recipe = Recipe(**{**ENCODINGS[name], **size.changes})
    text = _stories(task, size.train, seed, (1, TRAINED))
    result = train(text, recipe=recipe, restarts=size.restarts, seed=seed)
    return [
        {
            "task": task, "encoding": name, "seed": seed, "trained_up_to": TRAINED,
            "statements": length, "restarts": size.restarts, "questions": size.train,
            "test_questions": size.test, "train_error": result.best.train_error,
            "test_error": evaluate(
                result.model, _stories(task, size.test, _UNSEEN + seed, (length, length))
            ).error,
            **surroundings(),
        }
        for length in size.lengths
    ]  # fmt: skip


_UNSEEN = 1_000_000  # added to a seed: stories that no training sees


def _stories(task: int, questions: int, seed: int, statements: tuple[int, int]) -> list[Example]:
    """Asked of anything in the story, however long ago it was said."""
    stories = generate(task, questions=questions, seed=seed, statements=statements, reach=None)
    return list(to_examples(stories))


def sort_key(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """The order of rows in the file."""
    place = list(ENCODINGS).index(str(row["encoding"]))
    return int(row["task"]), place, int(row["seed"]), int(row["statements"])


def errors(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], dict[int, float]]:
    """For each task and encoding the error at each length, mean over the seeds."""
    found: dict[tuple[int, str], dict[int, list[float]]] = {}
    for row in rows:
        curve = found.setdefault((int(row["task"]), str(row["encoding"])), {})
        curve.setdefault(int(row["statements"]), []).append(float(row["test_error"]))
    return {
        key: {length: fmean(each) for length, each in sorted(curve.items())}
        for key, curve in sorted(found.items())
    }


def sheet(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """The curves as a table."""
    curves = errors(rows)
    lengths = sorted({length for curve in curves.values() for length in curve})
    lines = [
        [f"{task}, {name}", *(f"{curve[length]:.1f}" for length in lengths)]
        for (task, name), curve in curves.items()
    ]
    first, seeds = rows[0], len({row["seed"] for row in rows})
    note = (
        f"Test error in %, trained on {int(first['questions']):,} questions with up to "
        f"{first['trained_up_to']} statements before them, mean of {seeds} seeds, the restart of "
        f"{first['restarts']} with the lowest training error."
    )
    return Sheet("Error by the number of statements", ("task", *map(str, lengths)), lines, note)
