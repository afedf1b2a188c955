"""Which facts led to the answers: the share of their weight that came over each fact."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class HopReads(NamedTuple):
    """The facts that one hop of one question read: start, target and p of each."""

    starts: Integers
    targets: Integers
    weights: Floats


def supports(hops: Sequence[HopReads], answers: Integers, shares: Floats) -> list[Floats]:
    """Return the support of each fact of each hop: the share of the answers that came over it.

    Facts that end at an answer share its weight in proportion to their p. The share of the facts
    that start at an entity is that of the entity, which the facts of the hop before that end at it
    share in the same way. The supports of each hop add up to the sum of the shares.

    Args:
        hops: up to the hop that reached the answers.
        answers: entities that the last of them reached, increasing.
        shares: the weight of each answer.

    >>> first = HopReads(np.array([0, 0]), np.array([1, 2]), np.array([0.9, 0.1]))
    >>> second = HopReads(np.array([1, 2]), np.array([3, 4]), np.array([0.8, 0.2]))
    >>> found = supports([first, second], np.array([3]), np.ones(1))
    >>> [support.tolist() for support in found]
    [[1.0, 0.0], [1.0, 0.0]]
    """
    found: list[Floats] = []
    entities = answers
    for hop in reversed(hops):
        place = np.searchsorted(entities, hop.targets).clip(max=len(entities) - 1)
        weights = hop.weights * (entities[place] == hop.targets)
        reached = np.bincount(place, weights, minlength=len(entities))
        support = weights * (shares / np.where(reached > 0, reached, 1))[place]
        found.append(support)
        entities, starts = np.unique(hop.starts[support > 0], return_inverse=True)
        shares = np.bincount(starts, support[support > 0], len(entities)).astype(np.float64)
    return found[::-1]
