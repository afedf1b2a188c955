"""The one source of chance: the same seed gives the same stories in every version of Python."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """Draws from ``random.Random(seed).random()`` and nothing else.

    Of Python's generator only the seeding by an integer and the method ``random()`` (Mersenne
    Twister) are promised to stay as they are; ``choice`` and ``randrange`` have changed before.

    >>> Chance(7).pick("abcdef") == Chance(7).pick("abcdef")
    True
    """

    def __init__(self, seed: int) -> None:
        self._draw = Random(seed).random

    def below(self, bound: int) -> int:
        """A whole number from 0 to ``bound`` - 1."""
        return int(self._draw() * bound)

    def pick(self, choices: Sequence[T]) -> T:
        """One of ``choices``, each as likely."""
        return choices[int(self._draw() * len(choices))]

    def happens(self, probability: float) -> bool:
        """True with the given probability."""
        return self._draw() < probability

    def sample(self, choices: Sequence[T], count: int) -> list[T]:
        """``count`` different ones of ``choices``; each choice in each order is as likely."""
        left = list(choices)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def choose(self, total: int, count: int) -> list[int]:
        """``count`` of the numbers below ``total``, ascending; each choice is as likely."""
        chosen: list[int] = []
        for number in range(total):
            if self.below(total - number) < count - len(chosen):
                chosen.append(number)
        return chosen
