"""Random seeds and combinations: a few by default, many with ``pytest -m thorough``."""

import random
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import pytest


def thorough(*values: Any) -> Any:
    """Return a parameter set of a test that ``pytest -m thorough`` alone runs."""
    return pytest.param(*values, marks=pytest.mark.thorough)


def slow(*values: Any) -> Any:
    """Return a parameter set of a test that takes seconds: ``pytest -m slow`` runs it."""
    return pytest.param(*values, marks=pytest.mark.slow)


def seeds(few: int, many: int, first: int = 0) -> list[Any]:
    """Return ``many`` seeds from ``first``; those after the first ``few`` are ``thorough``."""
    numbers = range(first, first + many)
    return [*numbers[:few], *map(thorough, numbers[few:])]


def some(values: Sequence[Any], few: int) -> list[Any]:
    """Return all values; but for ``few`` of them, chosen at random, they are ``thorough``."""
    chosen = {*random.Random(0).sample(range(len(values)), few)}
    return [value if n in chosen else thorough(value) for n, value in enumerate(values)]


def pairs(*axes: Sequence[Any]) -> list[Any]:
    """Return all combinations of one value of each axis, most of them ``thorough``.

    By default every two values of two axes occur together.
    """
    cases = [*product(*(range(len(axis)) for axis in axes))]
    random.Random(0).shuffle(cases)
    chosen: set[tuple[int, ...]] = set()
    seen: set[Any] = set()
    for needed in range(len(axes) * (len(axes) - 1) // 2, 0, -1):
        for case in cases:
            new = {*combinations(enumerate(case), 2)} - seen
            if len(new) >= needed:
                chosen.add(case)
                seen |= new
    return [
        values if numbers in chosen else thorough(*values)
        for numbers, values in zip(sorted(cases), product(*axes), strict=True)
    ]
