"""Which phrases of a text may stand for each other: found by counting, told nothing of its sense.

Two phrases are interchangeable where a text in which each stands for the other is as likely as
the text itself: ``kitchen`` and ``garden`` where both are only places, and not ``hungry`` and
``tired`` where the one leads to the kitchen and the other to the bedroom.

What an example shows is a set of features (a phrase in the question, two phrases in this order
in a statement, ...). For features f, g, h and the exchange s of two phrases,

    D_i = (examples of story i with f, g and h) - (those with s f, s g and s h)
    z = sum_i D_i / sqrt(sum_i D_i^2)

is about normal, of variance 1, where the two are interchangeable: the questions of one story
hang together, stories do not. Looked at are single features, pairs of which one is about the two
phrases, and, of what is asked or stands beside it, an answer, and the two phrases, all three.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from memhop.example import story_numbers
from memhop.text.augmentation.phrases import Phrase, PhraseSequence

TokenizedExample = tuple[
    tuple[PhraseSequence, ...], PhraseSequence, PhraseSequence
]  # statements, question, parts of the answer
Part = Phrase | int
Feature = tuple[str, *tuple[Part, ...]]  # its kind, and what it is about
Class = tuple[Phrase, ...]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

MOST_EXAMPLES = 1000  # that are counted
_LARGEST_Z = 4.6  # of some ten thousand counts about two patterns of a pair that may be exchanged
_FEWEST = 20  # examples with a feature, or with its counterpart: of fewer no z is that large
_RARE = 3  # examples of a counterpart that may be taken for none
_ENOUGH = 30  # stories with a phrase that much is known of: z is at most the root of their number


def interchangeable(examples: Sequence[TokenizedExample]) -> list[Class]:
    """The classes of phrases that may stand for each other, each of two or more.

    Args:
        examples: statements, question and parts of the answer, all in phrases, in the order of
            the text. The first ``MOST_EXAMPLES`` count.

    Returns:
        Classes without a phrase in common, of phrases that stand in statements; in the order in
        which they appear there, as is all here that has an order: words are only symbols.
    """
    counts = _Counts(examples[:MOST_EXAMPLES])
    agreeing = []
    for pair in combinations(counts.phrases, 2):
        if (z := counts.largest_z(pair)) <= _LARGEST_Z:
            agreeing.append((z, pair))
    return _classes(agreeing, counts.phrases)


def _classes(
    agreeing: list[tuple[float, tuple[Phrase, Phrase]]], phrases: list[Phrase]
) -> list[Class]:
    """Join the pairs that agree best first, and only classes of which every pair agrees."""
    allowed = {frozenset(pair) for _, pair in agreeing}
    members: dict[Phrase, list[Phrase]] = {}
    for _, pair in sorted(agreeing, key=lambda one: one[0]):
        first, second = (members.setdefault(phrase, [phrase]) for phrase in pair)
        if first is not second and all(frozenset((a, b)) in allowed for a in first for b in second):
            first += second
            members |= dict.fromkeys(second, first)
    groups = {id(group): sorted(group, key=phrases.index) for group in members.values()}
    found = [tuple(group) for group in groups.values() if len(group) > 1]
    return sorted(found, key=lambda group: phrases.index(group[0]))


def _features(example: TokenizedExample) -> Iterator[Feature]:
    statements, question, answer = example
    yield from (("question", phrase) for phrase in question)
    yield from (("answer", part) for part in answer)
    if len(answer) > 1:
        yield from (("answer", part, place) for place, part in enumerate(answer))
    common = _asked_about(statements, question)
    for statement in statements:
        yield from (("story", phrase) for phrase in statement)
        yield from (("order", *pair) for pair in combinations(statement, 2))
        if not set(answer).isdisjoint(statement):
            yield from (("answering", phrase) for phrase in statement)
        if not common.isdisjoint(statement):
            yield from (("asked", phrase) for phrase in statement)
            places = [question.index(p) if p in common else p for p in statement]
            for first, second in combinations(places, 2):
                if isinstance(first, int) != isinstance(second, int):
                    yield ("role", first, second)
    for place, asked in enumerate(question):
        if holding := [statement for statement in statements if asked in statement]:
            yield from (("first", place, phrase) for phrase in holding[0])
            yield from (("last", place, phrase) for phrase in holding[-1])


def _asked_about(statements: tuple[PhraseSequence, ...], question: PhraseSequence) -> set[Phrase]:
    """The phrases of a question that pick statements out: in fewer than half, or in the fewest."""
    holding = Counter(phrase for statement in statements for phrase in set(statement))
    found = {phrase: holding[phrase] for phrase in question if holding[phrase]}
    fewest = min(found.values(), default=0)
    return {p for p, count in found.items() if count == fewest or 2 * count < len(statements)}


class _Counts:
    """Which example shows which feature."""

    def __init__(self, examples: Sequence[TokenizedExample]) -> None:
        shown = [dict.fromkeys(_features(example)) for example in examples]
        often = Counter(feature for features in shown for feature in features)
        self.features = [feature for feature, count in often.items() if count >= _RARE]
        self.index = {feature: column for column, feature in enumerate(self.features)}
        self.shown = np.zeros((len(examples), len(self.features) + 1), dtype=np.float32)
        for row, features in enumerate(shown):
            self.shown[row, [self.index[f] for f in features if f in self.index]] = 1
        self.beside = list(product(self._columns("answer"), self._columns("question", "asked")))
        self.story = np.array(story_numbers(told for told, *_ in examples))
        stories: defaultdict[Phrase, set[int]] = defaultdict(set)
        for number, (statements, *_) in zip(self.story.tolist(), examples, strict=True):
            for phrase in (phrase for statement in statements for phrase in statement):
                stories[phrase].add(number)
        self.phrases = [phrase for phrase, told in stories.items() if len(told) >= _ENOUGH]

    def _columns(self, *kinds: str) -> list[int]:
        return [column for column, f in enumerate(self.features) if f[0] in kinds]

    def _exchanged(self, pair: tuple[Phrase, Phrase]) -> Integers:
        """The column of each feature with the pair exchanged; the last, of zeros, where none."""
        other: dict[Part, Part] = {pair[0]: pair[1], pair[1]: pair[0]}
        moved = np.arange(len(self.features) + 1)
        for column, (kind, *parts) in enumerate(self.features):
            if not other.keys().isdisjoint(parts):
                exchanged: Feature = (kind, *(other.get(part, part) for part in parts))
                moved[column] = self.index.get(exchanged, len(self.features))
        return moved

    def largest_z(self, pair: tuple[Phrase, Phrase]) -> float:
        """The largest |z| of all counts; of none further once one is above the limit."""
        largest = 0.0
        for z in self._every_z(pair):
            largest = max(largest, z)
            if largest > _LARGEST_Z:
                break
        return largest

    def _every_z(self, pair: tuple[Phrase, Phrase]) -> Iterator[float]:
        moved = self._exchanged(pair)
        about = np.flatnonzero(moved != np.arange(len(moved)))
        yield self._z_beside(None, moved, about)
        for column in about.tolist():
            if self.features[column][0] != "order":
                yield self._z_beside([column], moved)
        for beside in self.beside:
            stay = (moved[list(beside)] == beside).all()
            yield self._z_beside(list(beside), moved, about if stay else slice(None))

    def _z_beside(
        self, given: list[int] | None, moved: Integers, columns: Integers | slice = slice(None)
    ) -> float:
        """The largest |z| of features in some columns, each together with those given."""
        rows: Integers | slice = slice(None)
        before, after = self.shown, self.shown
        if given is not None:
            with_given: Floats = self.shown[:, given].min(axis=1)
            with_moved: Floats = self.shown[:, moved[given]].min(axis=1)
            rows = np.flatnonzero(with_given + with_moved)
            if len(rows) < _FEWEST:
                return 0.0
            before = self.shown[rows] * with_given[rows, None]
            after = self.shown[rows] * with_moved[rows, None]
        return self._z(before[:, columns] - after[:, moved[columns]], rows)

    def _z(self, differences: Floats, rows: Integers | slice) -> float:
        """The largest |z| of some columns of differences, of the examples in ``rows``."""
        starts = np.flatnonzero(np.diff(self.story[rows], prepend=-1))
        by_story = np.add.reduceat(differences, starts, axis=0)
        total, size = np.abs(by_story.sum(axis=0)), np.sqrt((by_story * by_story).sum(axis=0))
        return float((total / np.maximum(size, 1)).max(initial=0))
