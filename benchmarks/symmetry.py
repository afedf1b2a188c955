"""Find classes of phrases in texts of known symmetry: how many are found, how many are false."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from memhop.cli.reproduce import Tiny
from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.reproduce.inflected import inflected
from memhop.reproduce.record import Row, Rows, Sheet, provenance
from memhop.text.augmentation.classes import Swap
from memhop.text.augmentation.sampling import PhraseText
from memhop.text.reading import SplitSentences
from memhop.tokenizer import split_words

SEEDS = 10
NAMES = ("ann", "ben", "cleo", "dan")
Elements = Sequence[tuple[str, ...]]  # that are exchanged freely, each with its linked words


class Planted(NamedTuple):
    """A text and its symmetries.

    Attributes:
        examples: the text.
        classes: the elements of each class.
    """

    examples: list[Example]
    classes: list[Elements]


def linked(num_elements: int, num_forms: int, seed: int) -> Planted:
    """Return a text in which people go to places, with a free class of each.

    A place has one word, or one for statements and one for answers, or also one for questions.
    """
    random = np.random.default_rng([seed, num_elements, num_forms])
    places = [tuple(f"{form}{i}" for form in "abc"[:num_forms]) for i in range(num_elements)]
    examples = []
    for _ in range(250):
        story: list[str] = []
        for number in range(4):
            where: dict[str, tuple[str, ...]] = {}
            for name in (NAMES[i] for i in random.permutation(len(NAMES))[:2]):
                where[name] = places[random.integers(num_elements)]
                story.append(f"{name} went to {where[name][0]}.")
            place = where[name]
            if number % 2 and len({*where.values()}) > 1:
                examples.append(Example(tuple(story), f"Who is in {place[-1]}?", name))
            else:
                examples.append(Example(tuple(story), f"Where is {name}?", place[:2][-1]))
    return Planted(examples, [[(name,) for name in NAMES], places])


def ordered(num_elements: int, seed: int) -> Planted:
    """Return a text about a fixed order of things, without any symmetry."""
    random = np.random.default_rng([seed, num_elements])
    examples = []
    for _ in range(1000):
        first, second = sorted(random.permutation(num_elements)[:2].tolist())
        asked = [first, second] if random.integers(2) else [second, first]
        question = f"Is a{asked[0]} above a{asked[1]}?"
        answer = "yes" if asked[0] == first else "no"
        examples.append(Example((f"A{first} is above a{second}.",), question, answer))
    return Planted(examples, [])


def places(task: int, seed: int) -> Planted:
    """Return an inflected text, with the class of its places only."""
    examples = inflected(to_examples(generate(task, questions=1000, seed=seed)))
    return Planted(examples, [_forms(examples)])


def _forms(examples: Sequence[Example]) -> Elements:
    """Return the forms of each place, answer first."""
    words = {w for e in examples for s in (*e.story, e.question) for w in split_words(s)}
    return [
        (place, *(f"{place}{ending}" for ending in ("un", "em") if f"{place}{ending}" in words))
        for place in dict.fromkeys(example.answer for example in examples)
    ]


def is_symmetry(swap: Swap, classes: Sequence[Elements]) -> bool:
    """Return whether a swap maps the elements of each class to each other.

    >>> linked = [[("a", "A"), ("b", "B")]]
    >>> is_symmetry(((("a",), ("b",)),), linked)
    False
    >>> is_symmetry(((("a",), ("b",)), (("A",), ("B",))), linked)
    True
    """
    words = set(chain.from_iterable(chain.from_iterable(classes)))
    new: dict[str, str] = {}
    for pair in swap:
        first, second = ([word for word in phrase if word in words] for phrase in pair)
        if not first or len(first) != len(second):
            return False
        new |= dict(zip((*first, *second), (*second, *first), strict=True))
    return all(
        tuple(new.get(word, word) for word in element) in elements
        for elements in classes
        for element in elements
    )


def _words(swap: Swap) -> set[str]:
    return {word for pair in swap for phrase in pair for word in phrase}


def counts(planted: Planted, are_all: bool) -> Row:
    """Return how many classes of a text are found, and how many accepted swaps are false.

    Args:
        planted: the text.
        are_all: whether the classes are all of the text; others are then false.
    """
    swaps = [s for c in PhraseText(planted.examples, SplitSentences()).classes for s in c.swaps]
    words = set(chain.from_iterable(chain.from_iterable(planted.classes)))
    if not are_all:
        swaps = [swap for swap in swaps if words & _words(swap)]
    true = [swap for swap in swaps if is_symmetry(swap, planted.classes)]
    moved = set(chain.from_iterable(map(_words, true)))
    found = [elements for elements in planted.classes if moved.issuperset(chain(*elements))]
    return {
        "classes": len(planted.classes),
        "found": len(found),
        "swaps": len(swaps),
        "false": len(swaps) - len(true),
    }


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Find classes of phrases in texts of known symmetry."""
    for seed in range(1 if tiny else SEEDS):
        for num_forms in (1, 2, 3):
            for num_elements in (2,) if tiny else (2, 3, 4, 6):
                text = f"{num_elements} places, {num_forms} forms"
                yield [_row(text, seed, linked(num_elements, num_forms, seed), True)]
        yield [_row("a fixed order, no symmetry", seed, ordered(6, seed), True)]
        for task in () if tiny else (1, 2, 3, 11, 12, 13, 14):
            yield [_row(f"places of task {task}, inflected", seed, places(task, seed), False)]


def _row(text: str, seed: int, planted: Planted, are_all: bool) -> dict[str, Any]:
    return {"text": text, "seed": seed, **counts(planted, are_all), **provenance()}


def sheets(rows: Rows) -> list[Sheet]:
    """Return the sums over the seeds, a line for each text."""
    lines = []
    for text in dict.fromkeys(row["text"] for row in rows):
        same = [row for row in rows if row["text"] == text]
        total = {
            name: sum(int(row[name]) for row in same)
            for name in ("classes", "found", "swaps", "false")
        }
        lines.append([text, f"{total['found']} of {total['classes']}",
                      f"{total['false']} of {total['swaps']}"])  # fmt: skip
    seeds = len({row["seed"] for row in rows})
    note = f"Sums over {seeds} seeds; 1,000 questions in each text."
    return [Sheet(columns=("text", "classes found", "false swaps"), lines=lines, note=note)]
