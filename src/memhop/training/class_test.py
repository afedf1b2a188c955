"""Test classes of exchangeable phrases with a model that was trained without phrase swaps.

If a class is a symmetry of the text, a held-out story with its phrases permuted is as likely as the
story itself, so that no model finds it harder. If the model of the control does, the class is not
exchanged.

The test is exact for held-out stories that are independent of each other and of the training part.
The model answers 1 + M forms of each story: the story as it is, and under M other permutations of
the class. If the class is a symmetry, each form is equally likely to be the story as it is. The
p-value is the probability that forms chosen in this way, one of each story, have at most as many
wrong answers as the stories as they are. Of the restarts of the control, the one with the fewest
wrong answers to all forms is used: this choice does not depend on which form is the story.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Self

import numpy as np

from memhop.example import Example, story_numbers
from memhop.text.augmentation.classes import Integers, PhraseClass, split_by
from memhop.text.augmentation.sampling import PhraseSwap
from memhop.text.encoding import Encoded
from memhop.text.model import MemN2N
from memhop.text.reading import Words
from memhop.training.evaluation import wrong_answers

# held-out stories of a text that are needed to exchange phrases in it, or of all to compare models
MIN_STORIES = 5
LEVEL = 0.01  # false discovery rate in a text; if all classes are symmetries, it loses one at most
# with this probability
_MAX_PERMUTATIONS = 8  # of a story
_MAX_STORIES = 100  # of a text
_MAX_VARIANTS = 10_000  # of a held-out sentence; a story with a longer one is not tested


@dataclass(frozen=True)
class ClassTest:
    """The test of a class of exchangeable phrases on the held-out stories.

    Attributes:
        text: number of the text.
        phrases: of the class.
        is_exchanged: whether the training permutes them.
        reason: why there was no test; empty if there was one.
        stories: number of held-out stories with phrases of the class.
        error: error of the control in percent on the questions of these stories.
        swapped_error: the same with the phrases permuted.
        p_value: small if the permuted stories are harder; the class is then not exchanged.
    """

    text: int
    phrases: str
    is_exchanged: bool
    reason: str = ""
    stories: int = 0
    error: float | None = None
    swapped_error: float | None = None
    p_value: float | None = None

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Return a test from the JSON object of its attributes.

        Raises:
            TypeError: other names, or values of another type.
        """
        test = cls(**content)
        numbers = (test.error, test.swapped_error, test.p_value)
        if not (
            type(test.text) is type(test.stories) is int
            and type(test.phrases) is type(test.reason) is str
            and type(test.is_exchanged) is bool
            and all(number is None or type(number) is float for number in numbers)
        ):
            raise TypeError("expected the test of a class")
        return test


def untested(
    classes: Sequence[tuple[int, PhraseClass]], reason: str, *, is_exchanged: bool
) -> tuple[ClassTest, ...]:
    """Return the tests of classes, given with the number of their text, without a test."""
    return tuple(ClassTest(text, str(each), is_exchanged, reason) for text, each in classes)


def check_classes(
    classes: Sequence[tuple[int, PhraseClass]],
    held_out_texts: Sequence[Sequence[Example]],
    model: MemN2N,
    words: Words,
    random: np.random.Generator,
) -> tuple[ClassTest, ...]:
    """Test classes of exchangeable phrases on held-out stories.

    In each text the rejected classes have a false discovery rate of at most `LEVEL` (Benjamini and
    Hochberg, 1995).

    Args:
        classes: with the number of their text, texts in ascending order.
        held_out_texts: the held-out examples of each text; the questions of a story follow each
            other.
        model: all restarts of the control.
        words: as in `Encoder.encode`.
        random: chooses the permutations of large classes.

    Returns:
        the tests, in the order of the classes.
    """
    tests: list[ClassTest] = []
    for text, examples in enumerate(held_out_texts):
        own = [each for number, each in classes if number == text]
        if not own:
            continue
        examples = _with_few_variants(examples, own, words)
        story = story_numbers(example.story for example in examples)
        number = 1 + max(story, default=-1)
        if number < MIN_STORIES:
            reason = f"{number} held-out stories, {MIN_STORIES} needed"
            tests += untested([(text, each) for each in own], reason, is_exchanged=False)
        else:
            few = [example for example, n in zip(examples, story, strict=True) if n < _MAX_STORIES]
            swap = PhraseSwap(few, [text] * len(few), model.encoder, words, {text: own})
            held_out = _HeldOut(swap, np.array(story[: len(few)]), model)
            tests += _decided([held_out.test(n, random) for n in range(len(own))])
    return tuple(tests)


def num_stories(examples: Sequence[Example]) -> int:
    """Return the number of stories, of which each has all its questions in succession."""
    return 1 + max(story_numbers(example.story for example in examples), default=-1)


def _with_few_variants(
    examples: Sequence[Example], classes: Sequence[PhraseClass], words: Words
) -> list[Example]:
    """Return the examples of which each sentence has at most ``_MAX_VARIANTS`` variants.

    A sentence and its permuted forms have equally many, so that the test stays exact. The limit of
    the training part (`memhop.text.augmentation.sampling`) does not bound held-out sentences.
    """
    size = {phrase: len(orbit) for each in classes for orbit in each.orbits for phrase in orbit}
    sentences = {s for example in examples for s in (*example.story, example.question)}
    large = {
        sentence
        for sentence in sentences
        if prod(size.get(phrase, 1) for phrase in split_by(words[sentence], size)) > _MAX_VARIANTS
    }
    return [one for one in examples if large.isdisjoint((*one.story, one.question))]


def _decided(tests: Sequence[ClassTest]) -> list[ClassTest]:
    """Return the tests of a text with the decision on each class."""
    values = [one.p_value for one in tests if one.p_value is not None]
    limit = false_discovery_limit(values, LEVEL)
    return [
        one if one.p_value is None else replace(one, is_exchanged=one.p_value > limit)
        for one in tests
    ]


def false_discovery_limit(p_values: Sequence[float], level: float) -> float:
    """Return the largest p-value to reject for a false discovery rate, or 0.

    It is the largest of the n values that is at most its rank times level / n.

    >>> false_discovery_limit([0.6, 0.011, 0.3, 0.02], level=0.05)
    0.02
    """
    ranked = enumerate(sorted(p_values), start=1)
    return max((p for rank, p in ranked if p <= rank * level / len(p_values)), default=0.0)


class _HeldOut:
    """The held-out stories of a text, and how a model answers them.

    Args:
        swap: the stories.
        story: the number of the story of each question.
        model: all restarts of the control.
    """

    def __init__(self, swap: PhraseSwap, story: Integers, model: MemN2N) -> None:
        self._swap, self._story, self._model = swap, story, model
        self._wrong = self._wrong_answers(swap.encoded)

    def _wrong_answers(self, encoded: Encoded) -> Integers:
        """Return 1 for each wrong answer of each restart, [R, E]."""
        encoded = encoded.at(self._model.tables.device)
        return wrong_answers(self._model, encoded).long().numpy()

    def test(self, number: int, random: np.random.Generator) -> ClassTest:
        """Test a class, given by its number in `PhraseSwap.classes`; without the decision."""
        text, each = self._swap.classes[number]
        plain, rows = self._swap.encoded, np.arange(len(self._story))
        permutations = permutations_to_try(each, int(self._story[-1]) + 1, random)
        wrong, is_changed = [self._wrong], np.zeros(len(rows), dtype=np.int64)
        for index in range(permutations.shape[1]):
            tensors = self._swap.permuted(rows, number, permutations[self._story, index])
            swapped = Encoded(plain.sentences, tensors[0], plain.lengths, *tensors[1:])
            wrong.append(self._wrong_answers(swapped))
            is_changed |= (swapped.slots != plain.slots).any(1).numpy()
            is_changed |= (swapped.question != plain.question).numpy()
            is_changed |= (swapped.answers != plain.answers).numpy()
        starts = np.flatnonzero(np.diff(self._story, prepend=-1))
        is_tested = np.add.reduceat(is_changed, starts) > 0
        by_story = np.add.reduceat(np.stack(wrong), starts, axis=2)[:, :, is_tested]
        forms, _, stories = by_story.shape
        if float(forms) ** -stories >= LEVEL / len(self._swap.classes):  # the smallest p-value
            reason = f"{stories} held-out stories with it, too few to decide"
            return ClassTest(text, str(each), False, reason, stories)
        best = by_story[:, by_story.sum((0, 2)).argmin()]
        questions = int(is_tested[self._story].sum())
        error, *others = (best.sum(1) * 100 / questions).tolist()
        swapped_error = sum(others) / len(others)
        return ClassTest(text, str(each), True, "", stories, error, swapped_error, p_value(best))


def permutations_to_try(each: PhraseClass, stories: int, random: np.random.Generator) -> Integers:
    """Return permutations of a class for each story, [stories, M, phrases], all different.

    None is the identity. A small group has all of its others, a large one ``_MAX_PERMUTATIONS``.
    """
    order = prod(len(level) for level in each.cosets)
    count = min(order - 1, _MAX_PERMUTATIONS)
    identity = tuple(range(len(each.phrases)))
    found: list[list[tuple[int, ...]]] = []
    for _ in range(stories if count < order - 1 else 1):
        chosen: dict[tuple[int, ...], None] = {}
        while len(chosen) < count:
            drawn = map(tuple, each.sample(count, random).tolist())
            chosen |= dict.fromkeys(one for one in drawn if one != identity)
        found.append(list(chosen)[:count])
    permutations = np.array(found, dtype=np.int64)
    return np.broadcast_to(permutations, (stories, *permutations.shape[1:]))


def p_value(wrong: Integers) -> float:
    """Return the p-value of wrong answers [1 + M, stories], those to the stories as they are first.

    >>> p_value(np.array([[0, 0, 0], [1, 2, 1]]))
    0.125
    >>> p_value(np.array([[1, 0], [1, 0], [1, 0]]))
    1.0
    """
    chances = np.ones(1)
    for counts in wrong.T:
        chances = np.convolve(chances, np.bincount(counts) / len(counts))
    return float(min(1.0, chances[: int(wrong[0].sum()) + 1].sum()))
