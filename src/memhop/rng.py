"""Random draws that are the same for the same seed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")


class Rng:
    """Draws from ``random.Random(seed).random()`` only.

    Python guarantees that seeding with an integer and ``random()`` (Mersenne Twister) stay
    reproducible; ``choice`` and ``randrange`` have changed between versions.

    >>> Rng(7).choice("abcdef") == Rng(7).choice("abcdef")
    True
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random

    def randrange(self, stop: int) -> int:
        """Return an integer from 0 to ``stop`` - 1."""
        return int(self._random() * stop)

    def choice(self, choices: Sequence[T]) -> T:
        """Return one of ``choices``, all equally likely."""
        return choices[int(self._random() * len(choices))]

    def bernoulli(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self._random() < probability

    def sample(self, choices: Sequence[T], count: int) -> list[T]:
        """Return ``count`` different ones of ``choices`` in random order."""
        left = list(choices)
        return [left.pop(self.randrange(len(left))) for _ in range(count)]

    def combination(self, total: int, count: int) -> list[int]:
        """Return ``count`` different integers below ``total``, ascending."""
        chosen: list[int] = []
        for number in range(total):
            if self.randrange(total - number) < count - len(chosen):
                chosen.append(number)
        return chosen


def generator(*key: int) -> np.random.Generator:
    """Return the random generator of a purpose, such as (seed, purpose, epoch)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(list(key))))


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed torch's generator of the CPU for a purpose, and restore it at the end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(*key).integers(2**63)))
        yield
