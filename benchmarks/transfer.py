"""Are generated stories as good as the released ones? Train on the one, test on both.

For each task and seed two models of the recipe ``paper``: one of the released training stories,
one of as many generated ones; each asked all released test questions, and as many generated ones
that neither was trained on.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.hop.tables import Sheet
from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.babi import released
from memhop.reproduce.processes import in_processes
from memhop.reproduce.record import surroundings
from memhop.training.evaluation import evaluate
from memhop.training.loop import train

SEEDS = (0, 1, 2)
SOURCES = ("released", "generated")
ALLOWED = 3.0  # points more that a model may err that was trained on the other stories
WORTH = 20.0  # points below always saying the same, from which on a task counts
_TEST_SEED = 1_000_000  # of generated stories that no training sees


class Setting(NamedTuple):
    """What is trained: the folder of the released files, restarts, and a recipe."""

    data: Path
    restarts: int
    recipe: Recipe


def measure(
    setting: Setting, tasks: Sequence[int], seeds: Sequence[int], jobs: int
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each task and seed as they come."""
    work = [(task, seed) for task in tasks for seed in seeds]
    for _, rows in in_processes(partial(rows_of, setting), work, jobs):
        yield rows


def rows_of(setting: Setting, work: tuple[int, int]) -> list[dict[str, Any]]:
    """Both trainings of a task and seed: a row each."""
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
            **{f"most_frequent_on_{name}": _error_of_the_same(text, test)
               for name, test in tests.items()},
            "seconds": round(result.seconds, 2), **surroundings(),
        })  # fmt: skip
    return rows


def _generated(task: int, questions: int, seed: int) -> list[Example]:
    return list(to_examples(generate(task, questions=questions, seed=seed)))


def _error_of_the_same(train_examples: Sequence[Example], test: Sequence[Example]) -> float:
    """Percent wrong when the most frequent answer of training is always said."""
    ((answer, _),) = Counter(example.answer for example in train_examples).most_common(1)
    return 100 * fmean(example.answer != answer for example in test)


class Verdict(NamedTuple):
    """The means over the seeds, in percent of the questions asked.

    Attributes:
        own, other: errors on released questions, of the model of released and of generated
            stories.
        back_own, back_other: errors on generated questions, of the model of generated and of
            released stories.
        same: of always saying the most frequent answer, on released questions.
    """

    own: float
    other: float
    back_own: float
    back_other: float
    same: float

    @property
    def counts(self) -> bool:
        """Whether the model of released stories learned enough to tell."""
        return self.same - self.own >= WORTH

    @property
    def holds(self) -> bool:
        """Whether both ways the error is at most so much larger."""
        return max(self.other - self.own, self.back_other - self.back_own) <= ALLOWED


def verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[int, Verdict]:
    """For each task what its rows say."""
    found = {}
    for task in sorted({int(row["task"]) for row in rows}):
        own = [row for row in rows if int(row["task"]) == task]

        def mean(source: str, column: str, own: list[Mapping[str, Any]] = own) -> float:
            return fmean(float(row[column]) for row in own if row["trained_on"] == source)

        found[task] = Verdict(
            mean("released", "error_on_released"), mean("generated", "error_on_released"),
            mean("generated", "error_on_generated"), mean("released", "error_on_generated"),
            mean("released", "most_frequent_on_released"),
        )  # fmt: skip
    return found


def sheet(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """The table of all tasks."""
    lines = []
    for task, verdict in verdicts(rows).items():
        said = ("yes" if verdict.holds else "no") if verdict.counts else "-"
        numbers = (verdict.own, verdict.other, verdict.back_own, verdict.back_other, verdict.same)
        lines.append([str(task), *(f"{number:.1f}" for number in numbers), said])
    columns = (
        "task", "released on released", "generated on released", "generated on generated",
        "released on generated", "always the same", f"within {ALLOWED:.0f}",
    )  # fmt: skip
    seeds, restarts = len({row["seed"] for row in rows}), rows[0]["restarts"]
    note = (
        f"Test error in %, trained on one kind of story and asked of one, mean of {seeds} seeds, "
        f"the restart of {restarts} with the lowest training error. Last: whether the model of the "
        f"other stories errs at most {ALLOWED:.0f} points more, both ways; - where the model of "
        f"released stories is not {WORTH:.0f} points better than always the same answer."
    )
    return Sheet("From generated to released stories and back", columns, lines, note)
