"""Measure the error by the number of training questions, on generated stories."""

from collections.abc import Iterator
from functools import partial
from statistics import fmean
from typing import Any

from memhop.cli.reproduce import Jobs, Tiny
from memhop.cli.settings import available_cores
from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.processes import run_in_processes
from memhop.reproduce.record import Row, Rows, Sheet, provenance
from memhop.training.evaluation import evaluate
from memhop.training.loop import train

RECIPES = {"paper": Recipe.paper, "best": Recipe.best}
NUMBERS = (100, 300, 1000, 3000)  # of training questions
RESTARTS, TEST = 3, 1000
_UNSEEN = 1_000_000  # added to the seed of test stories

Work = tuple[int, str, int, int]  # task, recipe, questions, seed


def measure(jobs: Jobs = None, tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Train on 100 to 3,000 generated questions; test on 1,000."""
    numbers, seeds = ((20,), (0,)) if tiny else (NUMBERS, (0, 1, 2))
    work = [
        (task, recipe, number, seed)
        for task in (1, 2) for recipe in RECIPES for number in numbers for seed in seeds
        if (recipe, number) != ("best", 3000)  # takes as long as all others
    ]  # fmt: skip
    for _, rows in run_in_processes(partial(rows_of, tiny), work, jobs or available_cores()):
        yield rows


def rows_of(tiny: bool, work: Work) -> list[dict[str, Any]]:
    """Return the row of one training."""
    task, name, number, seed = work
    changes: dict[str, Any] = {"epochs": 2, "linear_start_epochs": 1} if tiny else {}
    recipe = RECIPES[name](**changes)
    result = train(_examples(task, number, seed), recipe=recipe, restarts=RESTARTS, seed=seed)
    tested = evaluate(result.model, _examples(task, TEST, _UNSEEN + seed))
    return [
        {
            "task": task, "recipe": name, "questions": number, "seed": seed, "restarts": RESTARTS,
            "test_questions": TEST, "test_error": tested.error,
            "majority_error": tested.majority_error, **provenance(),
        }
    ]  # fmt: skip


def _examples(task: int, questions: int, seed: int) -> list[Example]:
    return list(to_examples(generate(task, questions=questions, seed=seed)))


def sort_key(row: Row) -> tuple[int, int, int, int]:
    """Return the place of a row in the file."""
    place = list(RECIPES).index(str(row["recipe"]))
    return int(row["task"]), place, int(row["questions"]), int(row["seed"])


def sheets(rows: Rows) -> list[Sheet]:
    """Return the mean errors as a table."""
    errors: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in rows:
        of_number = errors.setdefault((str(row["task"]), str(row["recipe"])), {})
        of_number.setdefault(int(row["questions"]), []).append(float(row["test_error"]))
    numbers = sorted({number for found in errors.values() for number in found})
    lines = [
        [task, recipe, *(f"{fmean(found[n]):.1f}" if n in found else "-" for n in numbers)]
        for (task, recipe), found in errors.items()
    ]
    columns = ("task", "recipe", *(f"{number:,}" for number in numbers))
    majority = fmean(float(row["majority_error"]) for row in rows)
    note = (
        f"Test error in %, mean of {len({row['seed'] for row in rows})} seeds; of "
        f"{rows[0]['restarts']} restarts the one that the recipe keeps "
        "([protocol](training.md#the-protocol)); -: not run. Always giving the most frequent "
        f"answer has an error of {majority:.0f}."
    )
    return [Sheet("Error by the number of training questions", columns, lines, note)]
