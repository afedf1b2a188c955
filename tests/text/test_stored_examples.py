"""Example stories that a model keeps: chosen from the training text, stored as checked JSON."""

from pathlib import Path
from typing import Any

import pytest
import torch

import memhop
from memhop.checkpoint import from_json, to_json
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.text.model import MemN2N
from memhop.text.stored_examples import (
    EXAMPLES,
    choose_examples,
    examples_from_files,
    examples_to_files,
)

STORIES = list(memhop.to_examples(memhop.generate(1, questions=60, seed=1, statements=(2, 8))))
TINY = memhop.Recipe(epochs=2, linear_start_epochs=0, memory_dim=4)
GOOD: dict[str, Any] = {"story": ["Mary left."], "question": "Who?", "answer": "mary"}


def test_three_different_ones_come_from_the_text() -> None:
    chosen = choose_examples([STORIES[:30], STORIES[30:]])
    assert len({tuple(one)[:3] for one in chosen}) == 3
    known = {tuple(one)[:3] for one in STORIES}
    for example in chosen:
        assert tuple(example)[:3] in known
        assert 2 <= len(example.story) <= 12
    assert chosen == choose_examples([STORIES])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_of_few_examples_each_is_chosen_at_most_once(count: int) -> None:
    assert 1 <= len(choose_examples([STORIES[:count]])) <= min(count, 3)
    assert len(choose_examples([STORIES[:1] * count])) == 1


def test_what_nobody_would_read_is_left_out() -> None:
    short = Example(("a",) * 20, "b", "c")
    for odd in (("a",) * 51, ("a" * 1001,), ()):
        assert choose_examples([[Example(odd, "b", "c")]]) == ()
        assert choose_examples([[Example(odd, "b", "c"), short]]) == (short,)
    assert choose_examples([[Example(("a",), "b" * 1001, "c")]]) == ()


def test_a_run_stores_them_and_a_model_brings_them_back(tmp_path: Path) -> None:
    trained = memhop.train(STORIES, recipe=TINY, restarts=2, run=tmp_path / "run")
    assert trained.model.examples == choose_examples([STORIES])
    loaded = MemN2N.load(tmp_path / "run")
    assert loaded.examples == trained.model.examples
    loaded.save(tmp_path / "copy")
    assert MemN2N.load(tmp_path / "copy").examples == loaded.examples


def test_without_examples_the_weights_are_the_same_and_no_story_is_on_disk(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"recipe": TINY, "restarts": 2, "seed": 3}
    plain = memhop.train(STORIES, run=tmp_path / "plain", store_examples=False, **arguments)
    stored = memhop.train(STORIES, run=tmp_path / "stored", **arguments)
    assert torch.equal(plain.model.tables, stored.model.tables)
    assert plain.model.examples == MemN2N.load(tmp_path / "plain").examples == ()
    assert [path.name for path in (tmp_path / "stored").rglob(EXAMPLES)] == [EXAMPLES]
    assert not list((tmp_path / "plain").rglob(EXAMPLES))
    again = memhop.train(STORIES, run=tmp_path / "plain", resume=True, **arguments)
    assert torch.equal(again.model.tables, stored.model.tables)


def test_any_text_comes_back() -> None:
    odd = Example(("\ud800", "\x00\u2028", "<b>"), "\U0001f600?", "a,b")
    files = examples_to_files([odd])
    assert examples_from_files(files, Path("x")) == (odd,)
    assert examples_to_files([]) == {}
    assert examples_from_files({}, Path("x")) == ()


@pytest.mark.parametrize(
    "content",
    [
        {"schema": 2, "examples": [GOOD]},
        {"schema": 1},
        {"schema": 1, "examples": [GOOD] * 4},
        {"schema": 1, "examples": {"story": 1}},
        {"schema": 1, "examples": [["Mary left."]]},
        {"schema": 1, "examples": [GOOD | {"story": "Mary left."}]},
        {"schema": 1, "examples": [GOOD | {"story": [1]}]},
        {"schema": 1, "examples": [GOOD | {"story": []}]},
        {"schema": 1, "examples": [GOOD | {"answer": None}]},
        {"schema": 1, "examples": [GOOD | {"more": "x"}]},
        {"schema": 1, "examples": [GOOD | {"story": ["a"] * 51}]},
        {"schema": 1, "examples": [GOOD | {"question": "a" * 1001}]},
    ],
)
def test_what_was_not_written_by_us_is_refused(content: Any) -> None:
    assert from_json(to_json(content), Path("x")) == content
    with pytest.raises(MemhopError, match=r"^run/examples\.json: expected"):
        examples_from_files({EXAMPLES: to_json(content)}, Path("run"))
