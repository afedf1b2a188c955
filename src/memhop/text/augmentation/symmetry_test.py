"""Find exchangeable phrases by a statistical symmetry test on the training text.

Two phrases are exchangeable if swapping them everywhere gives a text that is as likely as the text
itself: ``kitchen`` and ``garden`` if both are only places, but not ``hungry`` and ``tired`` if one
leads to the kitchen and the other to the bedroom.

An example shows a set of features (a phrase in the question, two phrases in this order in a
statement, ...). For features f, g, h and the swap s of two phrases,

    D_i = (examples of story i with f, g and h) - (those with s f, s g and s h)
    z = sum_i D_i / sqrt(sum_i D_i^2)

is about normal with variance 1 if the phrases are exchangeable. The sum is over stories, as the
questions of one story depend on each other. Tested are single features; pairs of which one has one
of the two phrases; and triples of an answer, a phrase of the question or of a statement that shares
one with it, and any feature.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from memhop.example import story_numbers
from memhop.text.augmentation.phrases import Phrase, PhraseSequence

# statements, question, parts of the answer
TokenizedExample = tuple[tuple[PhraseSequence, ...], PhraseSequence, PhraseSequence]
Part = Phrase | int
Feature = tuple[str, *tuple[Part, ...]]  # a kind, and its phrases or positions
PhraseGroup = tuple[Phrase, ...]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

MAX_EXAMPLES = 1000  # further examples are not counted
_MAX_Z = 4.6  # of about ten thousand tests of an exchangeable pair
_MIN_EXAMPLES = 20  # with a feature or its counterpart; z cannot reach the limit with fewer
_RARE = 3  # examples; a rarer counterpart counts as none
_MIN_STORIES = 30  # with a phrase, to test it: z is at most the root of their number


def exchangeable_phrases(examples: Sequence[TokenizedExample]) -> list[PhraseGroup]:
    """Return disjoint groups of two or more exchangeable phrases that occur in statements.

    The result depends on the order of the text, never on the letters of a word.

    Args:
        examples: statements, question and parts of the answer in phrases, in the order of the
            text. The first ``MAX_EXAMPLES`` are used.

    Returns:
        Groups, and phrases in each, in order of their first statement.
    """
    counts = _FeatureCounts(examples[:MAX_EXAMPLES])
    passed = []
    for pair in combinations(counts.phrases, 2):
        if (z := counts.max_z(pair)) <= _MAX_Z:
            passed.append((z, pair))
    return _groups(passed, counts.phrases)


def _groups(
    passed: list[tuple[float, tuple[Phrase, Phrase]]], phrases: list[Phrase]
) -> list[PhraseGroup]:
    """Join the pairs by rising z, where every pair of the joined group has passed."""
    allowed = {frozenset(pair) for _, pair in passed}
    members: dict[Phrase, list[Phrase]] = {}
    for _, pair in sorted(passed, key=lambda one: one[0]):
        first, second = (members.setdefault(phrase, [phrase]) for phrase in pair)
        if first is not second and all(frozenset((a, b)) in allowed for a in first for b in second):
            first += second
            members |= dict.fromkeys(second, first)
    distinct = {id(group): sorted(group, key=phrases.index) for group in members.values()}
    groups = [tuple(group) for group in distinct.values() if len(group) > 1]
    return sorted(groups, key=lambda group: phrases.index(group[0]))


def _features(example: TokenizedExample) -> Iterator[Feature]:
    statements, question, answer = example
    yield from (("question", phrase) for phrase in question)
    yield from (("answer", part) for part in answer)
    if len(answer) > 1:
        yield from (("answer", part, index) for index, part in enumerate(answer))
    common = _asked_about(statements, question)
    for statement in statements:
        yield from (("story", phrase) for phrase in statement)
        yield from (("order", *pair) for pair in combinations(statement, 2))
        if not set(answer).isdisjoint(statement):
            yield from (("answering", phrase) for phrase in statement)
        if not common.isdisjoint(statement):
            yield from (("asked", phrase) for phrase in statement)
            parts = [question.index(p) if p in common else p for p in statement]
            for first, second in combinations(parts, 2):
                if isinstance(first, int) != isinstance(second, int):
                    yield ("role", first, second)
    for index, asked in enumerate(question):
        if holding := [statement for statement in statements if asked in statement]:
            yield from (("first", index, phrase) for phrase in holding[0])
            yield from (("last", index, phrase) for phrase in holding[-1])


def _asked_about(statements: tuple[PhraseSequence, ...], question: PhraseSequence) -> set[Phrase]:
    """Return the phrases of a question that select statements: those in fewer than half of the
    statements, or in the fewest.
    """
    holding = Counter(phrase for statement in statements for phrase in set(statement))
    shared = {phrase: holding[phrase] for phrase in question if holding[phrase]}
    fewest = min(shared.values(), default=0)
    return {p for p, count in shared.items() if count == fewest or 2 * count < len(statements)}


class _FeatureCounts:
    """The features that each example shows, and the z of pairs of phrases."""

    def __init__(self, examples: Sequence[TokenizedExample]) -> None:
        shown = [dict.fromkeys(_features(example)) for example in examples]
        frequency = Counter(feature for features in shown for feature in features)
        self.features = [feature for feature, count in frequency.items() if count >= _RARE]
        self.index = {feature: column for column, feature in enumerate(self.features)}
        self.shown = np.zeros((len(examples), len(self.features) + 1), dtype=np.float32)
        for row, features in enumerate(shown):
            self.shown[row, [self.index[f] for f in features if f in self.index]] = 1
        self.given_pairs = list(
            product(self._columns("answer"), self._columns("question", "asked"))
        )
        self.story = np.array(story_numbers(statements for statements, *_ in examples))
        stories: defaultdict[Phrase, set[int]] = defaultdict(set)
        for number, (statements, *_) in zip(self.story.tolist(), examples, strict=True):
            for phrase in (phrase for statement in statements for phrase in statement):
                stories[phrase].add(number)
        self.phrases = [p for p, numbers in stories.items() if len(numbers) >= _MIN_STORIES]

    def _columns(self, *kinds: str) -> list[int]:
        return [column for column, f in enumerate(self.features) if f[0] in kinds]

    def _swapped(self, pair: tuple[Phrase, Phrase]) -> Integers:
        """Return the column of each feature after the swap; the last column, of zeros, for none."""
        other: dict[Part, Part] = {pair[0]: pair[1], pair[1]: pair[0]}
        moved = np.arange(len(self.features) + 1)
        for column, (kind, *parts) in enumerate(self.features):
            if not other.keys().isdisjoint(parts):
                swapped: Feature = (kind, *(other.get(part, part) for part in parts))
                moved[column] = self.index.get(swapped, len(self.features))
        return moved

    def max_z(self, pair: tuple[Phrase, Phrase]) -> float:
        """Return the largest |z| of all tests, or the first one above the limit."""
        largest = 0.0
        for z in self._every_z(pair):
            largest = max(largest, z)
            if largest > _MAX_Z:
                break
        return largest

    def _every_z(self, pair: tuple[Phrase, Phrase]) -> Iterator[float]:
        moved = self._swapped(pair)
        with_pair = np.flatnonzero(moved != np.arange(len(moved)))
        yield self._z_given(None, moved, with_pair)
        for column in with_pair.tolist():
            if self.features[column][0] != "order":
                yield self._z_given([column], moved)
        for given in self.given_pairs:
            is_fixed = (moved[list(given)] == given).all()
            yield self._z_given(list(given), moved, with_pair if is_fixed else slice(None))

    def _z_given(
        self, given: list[int] | None, moved: Integers, columns: Integers | slice = slice(None)
    ) -> float:
        """Return the largest |z| of features in some columns, each together with those given."""
        rows: Integers | slice = slice(None)
        before, after = self.shown, self.shown
        if given is not None:
            with_given: Floats = self.shown[:, given].min(axis=1)
            with_moved: Floats = self.shown[:, moved[given]].min(axis=1)
            rows = np.flatnonzero(with_given + with_moved)
            if len(rows) < _MIN_EXAMPLES:
                return 0.0
            before = self.shown[rows] * with_given[rows, None]
            after = self.shown[rows] * with_moved[rows, None]
        return self._z(before[:, columns] - after[:, moved[columns]], rows)

    def _z(self, differences: Floats, rows: Integers | slice) -> float:
        """Return the largest |z| of columns of differences of the examples in ``rows``."""
        starts = np.flatnonzero(np.diff(self.story[rows], prepend=-1))
        by_story = np.add.reduceat(differences, starts, axis=0)
        total, size = np.abs(by_story.sum(axis=0)), np.sqrt((by_story * by_story).sum(axis=0))
        return float((total / np.maximum(size, 1)).max(initial=0))
