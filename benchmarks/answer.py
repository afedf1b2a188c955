"""Measure the time of ``model.answer()`` on one core, by recipe and length of the story."""

import statistics
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

from memhop.cli.reproduce import Tiny
from memhop.data import TASK_NAMES, generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.processes import one_thread
from memhop.reproduce.record import Rows, Sheet, provenance
from memhop.text.encoding import Sizes, training_vocabulary
from memhop.text.model import MemN2N

SENTENCES = (10, 50)
_QUESTIONS = 200  # of each task: the vocabulary then has all words


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Time one answer with 'paper' and with 'best'."""
    recipes = {"paper": Recipe.paper(joint=True), "best": Recipe.best(joint=True)}
    with one_thread():
        for name, recipe in recipes.items():
            model = untrained(recipe)
            for sentences in SENTENCES:
                times = _times(model, sentences, calls=20 if tiny else 1000)
                yield [{"recipe": name, "sentences": sentences, **times, **provenance()}]


def untrained(recipe: Recipe) -> MemN2N:
    """Return a model for all 20 tasks with initial weights: an answer takes as long as trained."""
    examples = _examples()
    return MemN2N(training_vocabulary(examples), recipe, Sizes.of(examples, recipe)).eval()


@cache
def _examples() -> list[Example]:
    return [
        example
        for task in TASK_NAMES
        for example in to_examples(generate(task, questions=_QUESTIONS))
    ]


def _times(model: MemN2N, sentences: int, calls: int) -> dict[str, Any]:
    """Return the median and the 99th percentile of the calls, in milliseconds."""
    (story,) = generate(2, questions=1, seed=1, statements=(sentences, sentences))
    question, times = story.questions[0].text, []
    for _ in range(calls + max(1, calls // 10)):
        start = time.perf_counter()
        model.answer(story.statements, question)
        times.append(1000 * (time.perf_counter() - start))
    times = sorted(times[-calls:])  # the first ones warm up
    return {
        "calls": calls,
        "median_ms": statistics.median(times),
        "slow_ms": times[int(0.99 * calls)],
    }


def sheets(rows: Rows) -> list[Sheet]:
    """Return the rows as a table."""
    lines = [
        [f"{row['recipe']}, {row['sentences']} sentences",
         *(f"{float(row[name]):.2f}" for name in ("median_ms", "slow_ms"))]
        for row in rows
    ]  # fmt: skip
    note = (
        f"Milliseconds on one core, of {rows[0]['calls']} calls of a model for all 20 tasks; 99 of "
        "100 calls take at most the last column."
    )
    return [Sheet("Time of one answer", ("joint model", "median", "99 of 100"), lines, note)]
