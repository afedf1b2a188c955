"""Random seeds: a few by default, many with ``pytest -m thorough``."""

from typing import Any

import pytest


def seeds(few: int, many: int, first: int = 0) -> list[Any]:
    """Return ``many`` seeds from ``first``; those after the first ``few`` are ``thorough``."""
    numbers = range(first, first + many)
    return [*numbers[:few], *(pytest.param(n, marks=pytest.mark.thorough) for n in numbers[few:])]
