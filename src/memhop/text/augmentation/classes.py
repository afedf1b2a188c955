"""Classes of exchangeable phrases, and the permutations of each that leave a text as likely.

A class is given by swaps, such as ``(kitchen garden)``. A joint swap exchanges several pairs at
once: ``(left right)`` alone, but ``(left above)(right below)`` together. The permutations of a
class are all products of its swaps, sampled uniformly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from memhop.text.augmentation.phrases import Phrase

Integers = NDArray[np.int64]
PhraseGroup = tuple[Phrase, ...]
Swap = tuple[tuple[Phrase, Phrase], ...]  # disjoint pairs, all exchanged at once
_TRIES = 40  # products of generators in a row that give nothing new; a miss has chance 2^-40


@dataclass(frozen=True)
class PhraseClass:
    """Phrases of a text and swaps that generate their permutations.

    Attributes:
        swaps: of which the permutations are products.
        phrases: all phrases of the swaps, orbit by orbit.
        orbits: the phrases that can become one another; two or more in each.

    >>> sides = ((("left",), ("right",)),)
    >>> axes = ((("left",), ("above",)), (("right",), ("below",)))
    >>> print(PhraseClass((sides, axes)))
    left, right, above, below
    """

    swaps: tuple[Swap, ...]

    @classmethod
    def of_group(cls, group: PhraseGroup) -> "PhraseClass":
        """Return the class of phrases that are permuted freely."""
        return cls(tuple(((group[0], other),) for other in group[1:]))

    @cached_property
    def orbits(self) -> tuple[PhraseGroup, ...]:
        members: dict[Phrase, list[Phrase]] = {}
        for first, second in chain.from_iterable(self.swaps):
            joined = members.get(first, [first])
            other = members.get(second, [second])
            if joined is not other:
                joined = joined + other
            members |= dict.fromkeys(joined, joined)
        return tuple(
            tuple(orbit) for orbit in {id(each): each for each in members.values()}.values()
        )

    @cached_property
    def phrases(self) -> PhraseGroup:
        return tuple(chain.from_iterable(self.orbits))

    def __str__(self) -> str:
        """Name all phrases; those that always move together with a slash, ``walks/he``."""
        linked: dict[frozenset[int], list[Phrase]] = {}
        for phrase in self.phrases:
            moving = frozenset(i for i, swap in enumerate(self.swaps) if phrase in chain(*swap))
            linked.setdefault(moving, []).append(phrase)
        if all(len(each) == len(self.orbits) for each in linked.values()):
            groups = [["/".join(map(" ".join, each)) for each in linked.values()]]
        else:
            groups = [list(map(" ".join, orbit)) for orbit in self.orbits]
        return "; ".join(map(", ".join, groups))

    @cached_property
    def cosets(self) -> list[Integers]:
        """The permutations as a chain; see `coset_chain`."""
        index = {phrase: number for number, phrase in enumerate(self.phrases)}
        generators = np.tile(np.arange(len(index)), (len(self.swaps), 1))
        for row, swap in zip(generators, self.swaps, strict=True):
            for first, second in swap:
                row[[index[first], index[second]]] = index[second], index[first]
        return coset_chain(generators)

    def sample(self, count: int, random: np.random.Generator) -> Integers:
        """Return permutations [count, len(phrases)], each equally likely.

        Entry p of a row is the index of the phrase that replaces phrase p.
        """
        result = np.tile(np.arange(len(self.phrases)), (count, 1))
        for representatives in self.cosets:
            rows = random.integers(len(representatives), size=count)
            result = np.take_along_axis(result, representatives[rows], axis=1)
        return result


def coset_chain(generators: Integers) -> list[Integers]:
    """Return the group that permutations [G, n] generate, as a chain of coset representatives.

    Each element is the product of exactly one representative of each level (Sims, 1970): the
    representatives of level i keep the points before i, and map i to each point of its orbit.
    Levels with one representative are left out. The chain is completed by random products.

    >>> [len(level) for level in coset_chain(np.array([[1, 0, 2], [0, 2, 1]]))]
    [3, 2]
    """
    points = np.arange(generators.shape[1])
    levels: list[dict[int, Integers]] = [{point: points} for point in points.tolist()]
    random, in_vain = np.random.default_rng(0), 0
    while in_vain < _TRIES:
        parts = [_random_product(levels, random) for _ in range(2)]
        generator = generators[random.integers(len(generators))]
        in_vain = 0 if _insert(parts[0][generator][parts[1]], levels) else in_vain + 1
    return [np.stack([*level.values()]) for level in levels if len(level) > 1]


def _random_product(levels: Sequence[dict[int, Integers]], random: np.random.Generator) -> Integers:
    product = next(iter(levels[0].values()))
    for level in levels:
        if len(level) > 1:
            product = product[[*level.values()][random.integers(len(level))]]
    return product


def _insert(element: Integers, levels: Sequence[dict[int, Integers]]) -> bool:
    """Return whether an element was new, and if so add it to its level."""
    for point, level in enumerate(levels):
        image = int(element[point])
        if image not in level:
            level[image] = element
            return True
        element = np.argsort(level[image])[element]  # keeps this point
    return False


def split_by(words: Sequence[str], phrases: Iterable[Phrase]) -> tuple[Phrase, ...]:
    """Return a sentence in phrases; other words are phrases of their own.

    >>> split_by("a is left of b".split(), [("left", "of")])
    (('a',), ('is',), ('left', 'of'), ('b',))
    """
    by_length = sorted(phrases, key=len, reverse=True)
    result, start = [], 0
    while start < len(words):
        rest = tuple(words[start:])
        found = next((p for p in by_length if rest[: len(p)] == p), rest[:1])
        result.append(found)
        start += len(found)
    return tuple(result)
