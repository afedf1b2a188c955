"""How long does ``model.answer()`` take on one core, by the recipe and the length of the story?"""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from benchmarks.hop.tables import Sheet
from memhop.data import TASK_NAMES, generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.processes import one_thread
from memhop.reproduce.record import surroundings
from memhop.text.encoding import Sizes, training_vocabulary
from memhop.text.model import MemN2N

SENTENCES = (10, 50)
_QUESTIONS = 200  # of each kind: all words of all kinds, as a joint training has them


def measure(calls: int) -> Iterator[dict[str, Any]]:
    """A row for each recipe and length: the median of so many calls, and the slowest of 99 in 100.

    The weights are those that a training begins with: whatever they are, the time is the same.
    """
    with one_thread():
        for name, recipe in (
            ("paper", Recipe.paper(joint=True)),
            ("best", Recipe.best(joint=True)),
        ):
            model = untrained(recipe)
            for sentences in SENTENCES:
                yield {"recipe": name, "sentences": sentences, **_times(model, sentences, calls)}


def untrained(recipe: Recipe) -> MemN2N:
    """A model for all 20 tasks with the weights that a training begins with."""
    examples = _of_all_kinds()
    return MemN2N(training_vocabulary(examples), recipe, Sizes.of(examples, recipe)).eval()


@cache
def _of_all_kinds() -> list[Example]:
    return [
        example
        for task in TASK_NAMES
        for example in to_examples(generate(task, questions=_QUESTIONS))
    ]


def _times(model: MemN2N, sentences: int, calls: int) -> dict[str, Any]:
    (story,) = generate(2, questions=1, seed=1, statements=(sentences, sentences))
    question, taken = story.questions[0].text, []
    for _ in range(calls + max(1, calls // 10)):
        begun = time.perf_counter()
        model.answer(story.statements, question)
        taken.append(1000 * (time.perf_counter() - begun))
    taken = taken[-calls:]  # the first ones warm up
    slow = sorted(taken)[int(0.99 * calls)]
    return {"calls": calls, "median_ms": statistics.median(taken), "slow_ms": slow,
            **surroundings()}  # fmt: skip


def sheet(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """The rows as a table."""
    lines = [
        [f"{row['recipe']}, {row['sentences']} sentences",
         *(f"{float(row[name]):.2f}" for name in ("median_ms", "slow_ms"))]
        for row in rows
    ]  # fmt: skip
    note = (
        f"Milliseconds on one core, of {rows[0]['calls']} calls of a model for all 20 tasks; 99 of "
        "100 are no slower than the last column."
    )
    return Sheet("Time of one answer", ("joint model", "median", "99 of 100"), lines, note)
