"""A pool of four ranks that the tests of a module share."""

from collections.abc import Iterator

import pytest

from tests.distributed.ranks import Ranks


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    """Return four ranks, which end with the module."""
    with Ranks(4) as pool:
        yield pool
