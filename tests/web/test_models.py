"""Which models a server offers, and what it says of them."""

from pathlib import Path

import pytest

import memhop
from memhop.text.model import MemN2N
from memhop.web.models import load

LESSONS = {
    task: list(memhop.to_examples(memhop.generate(task, questions=40, seed=task)))
    for task in (1, 2)
}
TINY = memhop.Recipe(epochs=2, linear_start_epochs=0, memory_dim=4)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run of two tasks."""
    monkeypatch.chdir(tmp_path)
    for task, lessons in LESSONS.items():
        memhop.train(lessons[:30], lessons[30:], recipe=TINY, restarts=2, run=f"runs/babi/qa{task}")
    return tmp_path / "runs"


def test_models_of_a_run_have_its_name_and_their_own(runs: Path) -> None:
    found = load(["babi"])
    assert list(found) == ["babi/qa1", "babi/qa2"]
    for name, served in found.items():
        lessons = LESSONS[int(name[-1])]
        assert served.name == name
        assert served.test_error == memhop.evaluate(served.model, lessons[30:]).error
    assert list(load(["runs/babi/qa2"])) == ["qa2"]
    assert list(load(["babi", "runs/babi"])) == ["babi/qa1", "babi/qa2"]  # one run, named twice
    assert list(load([None])) == ["babi/qa1", "babi/qa2"]


def test_a_model_that_was_only_saved_has_no_test_error(runs: Path, model: MemN2N) -> None:
    model.save(runs / "saved")
    served = load(["saved", "babi/qa1"])
    assert list(served) == ["saved", "qa1"]
    assert served["saved"].test_error is None
    asked = (["Mary went to the garden."], "Where is Mary?")
    assert served["saved"].model.answer(*asked).answer == model.answer(*asked).answer


def test_two_models_of_one_name_are_refused(runs: Path, model: MemN2N) -> None:
    model.save(runs / "qa1")
    with pytest.raises(memhop.MemhopError, match="another model is called qa1: rename one"):
        load(["runs/qa1", "runs/babi/qa1"])


def test_a_run_that_is_not_there_is_named(runs: Path) -> None:
    with pytest.raises(memhop.MemhopError, match="no run 'demo'; under runs/: babi"):
        load(["babi", "demo"])
