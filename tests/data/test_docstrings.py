"""Run the examples in the docstrings of memhop.data."""

import doctest
from types import ModuleType

import pytest

from memhop import rng
from memhop.data import babi, download, record_writers, records, stories, story


@pytest.mark.parametrize("module", [babi, rng, download, record_writers, records, stories, story])
def test_examples_run(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module, report=True)
    assert tried
    assert not failed
