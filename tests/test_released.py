"""The released data, where it is: every file is read, and task 1 is soon learned."""

import os
from pathlib import Path

import pytest

import memhop
from memhop.data import TASK_NAMES, find_tasks

NEIGHBOUR = Path(__file__).parents[1] / ".." / "shared" / "babi" / "en"
FOLDER = Path(os.environ.get("MEMHOP_BABI") or NEIGHBOUR)
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="needs the released bAbI files: set MEMHOP_BABI to their folder"
)


def test_every_file_is_read() -> None:
    found = find_tasks(FOLDER)
    assert list(found) == list(TASK_NAMES) == list(range(1, 21))
    for splits in found.values():
        assert sorted(splits) == ["test", "train"]
        for path in splits.values():
            examples = memhop.read_babi(path)
            assert len(examples) == 1000
            assert all(example.supporting_facts for example in examples)


def test_task_1_is_learned() -> None:
    splits = find_tasks(FOLDER)[1]
    train, test = memhop.read_babi(splits["train"]), memhop.read_babi(splits["test"])
    recipe = memhop.Recipe.paper(epochs=20, linear_start_epochs=20, halve_every=10)
    result = memhop.train(train, test, recipe=recipe, restarts=2)
    assert result.best.test_error is not None
    assert result.best.test_error <= 2
