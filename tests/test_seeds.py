"""Of seeds and combinations, the default run has a part that covers the whole."""

from itertools import combinations, product
from typing import Any

import pytest

from tests.seeds import pairs, seeds, some


def by_default(values: list[Any]) -> list[Any]:
    """Return the parameter sets that are not ``thorough``."""
    marks = {mark.name for value in values for mark in getattr(value, "marks", ())}
    assert marks <= {"thorough"}
    return [value for value in values if not hasattr(value, "marks")]


def all_of(values: list[Any]) -> list[Any]:
    """Return the values of all parameter sets."""
    return [getattr(value, "values", value) for value in values]


def test_seeds() -> None:
    assert by_default(seeds(2, 5, 7)) == [7, 8]
    assert all_of(seeds(2, 5, 7)) == [7, 8, (9,), (10,), (11,)]


def test_some() -> None:
    values = some("abcdefgh", 3)
    assert len(by_default(values)) == 3
    assert [*map(min, all_of(values))] == [*"abcdefgh"]


@pytest.mark.parametrize("sizes", [(3, 2), (4, 2, 3), (2, 5, 1, 3), (3, 24, 4, 2)], ids=str)
def test_every_pair_occurs_by_default(sizes: tuple[int, ...]) -> None:
    axes = [[(axis, number) for number in range(size)] for axis, size in enumerate(sizes)]
    cases = pairs(*axes)
    assert all_of(cases) == [*product(*axes)]
    found = {two for case in by_default(cases) for two in combinations(case, 2)}
    assert found == {two for one, other in combinations(axes, 2) for two in product(one, other)}
    largest, second = sorted(sizes)[-1], sorted(sizes)[-2]
    assert largest * second <= len(by_default(cases)) <= 1.5 * largest * second
