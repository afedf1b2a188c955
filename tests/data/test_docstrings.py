"""The examples in the docstrings of the data run as written."""

import doctest
from types import ModuleType

import pytest

from memhop.data import babi, download, stories, story
from memhop.data.stories import chance


@pytest.mark.parametrize("module", [babi, chance, download, stories, story])
def test_examples_run(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module, report=True)
    assert tried
    assert not failed
