"""Train on released or on generated stories; test both models on both.

For each task and seed, two models of the recipe ``paper``: one trained on the released training
stories, one on as many generated ones. Both answer all released test questions, and as many
generated ones of another seed.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from memhop.cli.reproduce import Jobs, ReleasedStories, Restarts, Tasks, Tiny
from memhop.cli.settings import available_cores, parse_tasks
from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.babi import TINY, released
from memhop.reproduce.processes import run_in_processes
from memhop.reproduce.record import Row, Rows, Sheet, provenance
from memhop.reproduce.trainings import available_tasks
from memhop.training.evaluation import evaluate
from memhop.training.loop import train

SEEDS = (0, 1, 2)
MAX_DIFFERENCE = 3.0  # points; the model of the other stories may have so much more error
MIN_LEARNED = 20.0  # points below the majority error; else a task is not compared
_TEST_SEED = 1_000_000  # added to the seed of generated test stories


class Setting(NamedTuple):
    """The folder of the released files, and the settings of each training."""

    data: Path
    restarts: int
    recipe: Recipe


def measure(
    data: ReleasedStories,
    tasks: Tasks = "1-20",
    restarts: Restarts = 10,
    jobs: Jobs = None,
    tiny: Tiny = False,
) -> Iterator[list[dict[str, Any]]]:
    """Train on released or generated stories; test on both."""
    setting = Setting(data, restarts, Recipe.paper(**TINY) if tiny else Recipe.paper())
    seeds = SEEDS[:1] if tiny else SEEDS
    work = [(task, seed) for task in available_tasks(data, parse_tasks(tasks)) for seed in seeds]
    for _, rows in run_in_processes(partial(rows_of, setting), work, jobs or available_cores()):
        yield rows


def sort_key(row: Row) -> tuple[int, int]:
    """Return the place of a row in the file."""
    return int(row["task"]), int(row["seed"])


def rows_of(setting: Setting, work: tuple[int, int]) -> list[dict[str, Any]]:
    """Return a row for each of the two models of a task and seed."""
    task, seed = work
    own_train, own_test = released(setting.data)(task)
    texts = {"released": own_train, "generated": _generated(task, len(own_train), seed)}
    tests = {"released": own_test, "generated": _generated(task, len(own_test), _TEST_SEED + seed)}
    rows = []
    for source, text in texts.items():
        result = train(text, recipe=setting.recipe, restarts=setting.restarts, seed=seed)
        errors = {
            f"error_on_{name}": evaluate(result.model, test).error for name, test in tests.items()
        }
        rows.append({
            "task": task, "seed": seed, "trained_on": source, "restarts": setting.restarts,
            "questions": len(text), "test_questions": len(own_test), **errors,
            **{f"most_frequent_on_{name}": _majority_error(text, test)
               for name, test in tests.items()},
            "seconds": round(result.seconds, 2), **provenance(),
        })  # fmt: skip
    return rows


def _generated(task: int, questions: int, seed: int) -> list[Example]:
    return list(to_examples(generate(task, questions=questions, seed=seed)))


def _majority_error(train_examples: Sequence[Example], test: Sequence[Example]) -> float:
    """Return the error in percent of always giving the most frequent training answer."""
    ((answer, _),) = Counter(example.answer for example in train_examples).most_common(1)
    return 100 * fmean(example.answer != answer for example in test)


class Verdict(NamedTuple):
    """The mean errors of a task over the seeds, in percent.

    Attributes:
        released, generated: on released questions, by the stories of the training.
        generated_back, released_back: on generated questions, by the stories of the training.
        majority: of always giving the most frequent answer, on released questions.
    """

    released: float
    generated: float
    generated_back: float
    released_back: float
    majority: float

    @property
    def is_compared(self) -> bool:
        """Whether the model of released stories learned enough for a comparison."""
        return self.majority - self.released >= MIN_LEARNED

    @property
    def is_close(self) -> bool:
        """Whether the errors are close on both kinds of questions."""
        differences = self.generated - self.released, self.released_back - self.generated_back
        return max(differences) <= MAX_DIFFERENCE


def verdicts(rows: Rows) -> dict[int, Verdict]:
    """Return the verdict of each task."""

    def mean(task: int, source: str, column: str) -> float:
        own = (row for row in rows if (int(row["task"]), row["trained_on"]) == (task, source))
        return fmean(float(row[column]) for row in own)

    return {
        task: Verdict(
            mean(task, "released", "error_on_released"),
            mean(task, "generated", "error_on_released"),
            mean(task, "generated", "error_on_generated"),
            mean(task, "released", "error_on_generated"),
            mean(task, "released", "most_frequent_on_released"),
        )
        for task in sorted({int(row["task"]) for row in rows})
    }


def sheets(rows: Rows) -> list[Sheet]:
    """Return the table of all tasks."""
    lines = []
    for task, verdict in verdicts(rows).items():
        word = ("yes" if verdict.is_close else "no") if verdict.is_compared else "-"
        lines.append([str(task), *(f"{error:.1f}" for error in verdict), word])
    columns = (
        "task", "released on released", "generated on released", "generated on generated",
        "released on generated", "majority error", f"within {MAX_DIFFERENCE:.0f} points",
    )  # fmt: skip
    seeds, restarts = len({row["seed"] for row in rows}), rows[0]["restarts"]
    note = (
        f"Test error in % (trained on one kind of story, tested on one), mean of {seeds} seeds, "
        f"the restart of {restarts} with the lowest training error. Last column: whether the model "
        f"trained on the other kind has at most {MAX_DIFFERENCE:.0f} points more error, on both "
        f"kinds; - if the model of released stories is less than {MIN_LEARNED:.0f} points better "
        "than the majority error (of always giving the most frequent answer)."
    )
    return [Sheet("Generated against released stories", columns, lines, note)]
