"""Test statistically whether a text stays as likely when phrases are swapped everywhere.

An example shows a set of features (`memhop.text.augmentation.features`): a phrase in the question,
two phrases in this order in a statement, and so on. A cell (g, f) is a condition g and a feature f,
both shown by an example. A condition is nothing, one feature, or an answer and a phrase of the
question or of a statement that shares one with it. For a swap s of phrases,

    D_i = (examples of story i in the cell (g, f)) - (those in the cell (s g, s f))
    z = sum_i D_i / sqrt(sum_i D_i^2)

is about normal with variance 1 if s is a symmetry of the text. The sum is over stories, as the
questions of one story depend on each other. A swap passes if |z| <= 4.6 in all its cells: there are
about ten thousand, so that a symmetry fails with a probability of at most about 4%.

A second swap t, of other phrases, gives a contrast of two cells of s:

    D_i = D_i(g, f) - D_i(t g, t f)

Its mean is zero if s is a symmetry, and also if t is one. It is not if only both together are, such
as a form of a word in statements and another in answers: in (answer kitchen, kitchens) the first
term is positive, the second is negative. The contrast has twice the examples of a cell.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memhop.example import story_numbers
from memhop.text.augmentation.classes import Integers, Swap
from memhop.text.augmentation.features import Feature, Part, TokenizedExample, features_of
from memhop.text.augmentation.phrases import Phrase

Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]
MAX_Z = 4.6
_RARE = 3  # examples; a rarer feature or condition counts as none
_MIN_STORIES = 30  # with a phrase, to test it: z is at most the root of their number
_MAX_PHRASES = 80  # those of most stories: the time grows with the fourth power of their number
_AT_ONCE = 512  # cells


class Image(NamedTuple):
    """The condition and the feature that take the place of each, for a swap."""

    conditions: Integers
    features: Integers


class Cells(NamedTuple):
    """Conditions and features, by number: [C] each."""

    conditions: Integers
    features: Integers

    def under(self, image: Image) -> "Cells":
        """Return the cells that take the place of these."""
        return Cells(image.conditions[self.conditions], image.features[self.features])

    def at(self, rows: Integers | slice) -> "Cells":
        """Return some of the cells."""
        return Cells(self.conditions[rows], self.features[rows])


Term = tuple[int, Cells]  # a sign, and cells


class FeatureCounts:
    """The features and conditions that each example shows.

    The last feature, and the last condition, is shown by no example: it takes the place of those
    that are too rare. The condition before it is shown by all.

    Args:
        examples: statements, question and parts of the answer in phrases, in the order of the text.

    Attributes:
        phrases: those of enough stories, at most ``_MAX_PHRASES``, in the order of the text.
        in_feature: [F, P] whether a feature has a phrase.
        in_condition: [G, P] the same.
        totals: [G, F] the number of examples in each cell.
    """

    def __init__(self, examples: Sequence[TokenizedExample]) -> None:
        stories: defaultdict[Phrase, set[int]] = defaultdict(set)
        numbers = story_numbers(statements for statements, *_ in examples)
        self._starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for number, (statements, *said) in zip(numbers, examples, strict=True):
            for phrase in (phrase for sentence in (*statements, *said) for phrase in sentence):
                stories[phrase].add(number)
        enough = {p: len(found) for p, found in stories.items() if len(found) >= _MIN_STORIES}
        most = set(sorted(enough, key=enough.__getitem__, reverse=True)[:_MAX_PHRASES])
        self.phrases = [phrase for phrase in enough if phrase in most]
        self.number = {phrase: number for number, phrase in enumerate(self.phrases)}
        self._count_features(examples)
        self._make_conditions()
        self.totals: Floats = self._conditions @ self._shown.T
        self.in_feature: Booleans = np.zeros(
            (len(self._features) + 1, len(self.phrases)), dtype=bool
        )
        for row, (_, *parts) in enumerate(self._features):
            self.in_feature[row, [self.number[p] for p in parts if p in self.number]] = True
        self.in_condition: Booleans = np.any(self.in_feature[self._given], axis=1)

    def _count_features(self, examples: Sequence[TokenizedExample]) -> None:
        shown = [dict.fromkeys(features_of(example)) for example in examples]
        frequency = Counter(feature for features in shown for feature in features)
        self._features: list[Feature] = [f for f, count in frequency.items() if count >= _RARE]
        # Pairs of phrases that are not shown may be images of those that are, if a swap moves one.
        ordered = [feature[1:] for feature in self._features if feature[0] == "order"]
        firsts, seconds = (
            (list(dict.fromkeys(part)) for part in zip(*ordered, strict=True))
            if ordered
            else ([], [])
        )
        shown_features = set(self._features)
        self._features += [
            ("order", *pair)
            for pair in product(firsts, seconds)
            if ("order", *pair) not in shown_features and not self.number.keys().isdisjoint(pair)
        ]
        self._index = {feature: number for number, feature in enumerate(self._features)}
        self._shown: Floats = np.zeros((len(self._features) + 1, len(examples)), dtype=np.float32)
        for column, features in enumerate(shown):
            self._shown[[self._index[f] for f in features if f in self._index], column] = 1

    def _make_conditions(self) -> None:
        """Set the two features of each condition, [G, 2], and the examples that show both."""
        kinds = np.array([kind for kind, *_ in self._features], dtype=object)
        none = len(self._features)
        answers, said = np.flatnonzero(kinds == "answer"), np.isin(kinds, ["question", "asked"])
        pairs = np.stack(np.meshgrid(answers, np.flatnonzero(said), indexing="ij"), -1)
        alone = np.flatnonzero(kinds != "order")
        given = np.concatenate([pairs.reshape(-1, 2), np.stack([alone, alone], -1)])
        shown = self._shown[given[:, 0]] * self._shown[given[:, 1]]
        kept = shown.sum(axis=1) >= _RARE
        self._num_pairs = int(kept[: pairs[..., 0].size].sum())
        ends = np.array([np.ones(shown.shape[1]), np.zeros(shown.shape[1])], dtype=np.float32)
        self._conditions: Floats = np.concatenate([shown[kept], ends])
        self._given: Integers = np.concatenate([given[kept], [[none, none], [none, none]]])
        self._row = {
            (first, second): row for row, (first, second) in enumerate(given[kept].tolist())
        }

    def image(self, swap: Swap) -> Image:
        """Return the image of all conditions and features under a swap."""
        other: dict[Part, Part] = {a: b for pair in swap for a, b in (pair, pair[::-1])}
        columns = [self.number[phrase] for pair in swap for phrase in pair]
        features = np.arange(len(self.in_feature))
        for number in np.flatnonzero(self.in_feature[:, columns].any(axis=1)).tolist():
            kind, *parts = self._features[number]
            swapped: Feature = (kind, *(other.get(part, part) for part in parts))
            features[number] = self._index.get(swapped, len(self._features))
        conditions = np.arange(len(self.in_condition))
        moved = np.flatnonzero(self.in_condition[:, columns].any(axis=1))
        for row, (first, second) in zip(moved, features[self._given[moved]].tolist(), strict=True):
            conditions[row] = self._row.get((first, second), len(conditions) - 1)
        return Image(conditions, features)

    def cells(self, image: Image, least: float) -> Cells:
        """Return the cells whose |z| may be above ``least``, the likely largest first.

        The numbers of examples by story are integers, so that |z| is at most the root of their sum.
        """
        conditions, features = image
        is_moved = conditions != np.arange(len(conditions))
        # With one feature as a fixed condition, the cell (f, g) has the same counts as (g, f).
        is_fixed = ~is_moved & (np.arange(len(conditions)) < self._num_pairs)
        is_fixed[-2] = True
        parts = [
            self._large(rows, columns, image, least * least)
            for rows, columns in (
                (np.flatnonzero(is_moved), np.arange(len(features))),
                (np.flatnonzero(is_fixed), np.flatnonzero(features != np.arange(len(features)))),
            )
        ]
        rows, columns, likely = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(-likely, kind="stable")
        return Cells(rows[order], columns[order])

    def _large(
        self, rows: Integers, columns: Integers, image: Image, least: float
    ) -> tuple[Integers, Integers, Floats]:
        """Return rows and columns of cells with a large sum, and |z| if no story had two."""
        here = self.totals[np.ix_(rows, columns)]
        there = self.totals[np.ix_(image.conditions[rows], image.features[columns])]
        difference: Floats = np.abs(here - there)
        is_first = rows <= image.conditions[rows]  # of a cell and its image
        row, column = np.nonzero((difference > least) & is_first[:, None])
        likely = difference[row, column] / np.sqrt((here + there)[row, column])
        return rows[row], columns[column], likely

    def cells_of_one_phrase(self, image: Image) -> Cells:
        """Return the cells that a swap changes whose feature has no other phrase."""
        is_moved = image.features != np.arange(len(image.features))
        features = np.flatnonzero(is_moved & (self.in_feature.sum(axis=1) == 1))
        return Cells(np.full(len(features), len(image.conditions) - 2), features)

    def phrases_of(self, cells: Cells) -> Booleans:
        """Return which phrases cells have: [C, P]."""
        return self.in_condition[cells.conditions] | self.in_feature[cells.features]

    def estimate(self, terms: Sequence[Term]) -> Floats:
        """Return |z| of signed sums of cells as if each example were a story of its own."""
        totals = [sign * self.totals[cells.conditions, cells.features] for sign, cells in terms]
        size = np.sqrt(np.abs(totals).sum(axis=0))
        result: Floats = np.abs(np.sum(totals, axis=0)) / np.maximum(size, 1)
        return result

    def z(self, terms: Sequence[Term], least: float) -> Floats:
        """Return |z| of signed sums of cells, or 0 where it is at most ``least``.

        Args:
            terms: a sign and C cells in each.
            least: 0 computes every |z|.
        """
        totals = [sign * self.totals[cells.conditions, cells.features] for sign, cells in terms]
        sums = np.sum(totals, axis=0)
        result = np.zeros(len(sums), dtype=np.float32)
        rows = np.flatnonzero(np.abs(sums) > least * least)
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            differences = np.zeros((len(some), self._shown.shape[1]), dtype=np.float32)
            for sign, cells in terms:
                shown = self._shown[cells.features[some]]
                differences += sign * self._conditions[cells.conditions[some]] * shown
            by_story = np.add.reduceat(differences, self._starts, axis=1)
            size = np.sqrt(np.square(by_story).sum(axis=1))
            result[some] = np.abs(sums[some]) / np.maximum(size, 1)
        return result
