"""The models of a server, loaded from runs."""

from pathlib import Path

import pytest

import memhop
from memhop.text.model import MemN2N
from memhop.web.models import Served, load

EXAMPLES = {
    task: list(memhop.to_examples(memhop.generate(task, questions=40, seed=task)))
    for task in (1, 2)
}
TINY = memhop.Recipe(epochs=2, linear_start_epochs=0, memory_dim=4)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a run of two tasks."""
    monkeypatch.chdir(tmp_path)
    for task, examples in EXAMPLES.items():
        memhop.train(
            examples[:30], examples[30:], recipe=TINY, restarts=2, run=f"runs/babi/qa{task}"
        )
    return tmp_path / "runs"


def test_models_have_the_name_of_their_run_and_task(runs: Path) -> None:
    models = load(["babi"])
    assert list(models) == ["babi/qa1", "babi/qa2"]
    for name, served in models.items():
        examples = EXAMPLES[int(name[-1])]
        assert served.name == name
        assert isinstance(served, Served)
        assert served.test_error == memhop.evaluate(served.model, examples[30:]).error
    assert list(load(["runs/babi/qa2"])) == ["qa2"]
    assert list(load(["babi", "runs/babi"])) == ["babi/qa1", "babi/qa2"]  # one run, named twice
    assert list(load([None])) == ["babi/qa1", "babi/qa2"]


def test_a_model_that_was_only_saved_has_no_test_error(runs: Path, model: MemN2N) -> None:
    model.save(runs / "saved")
    served = load(["saved", "babi/qa1"])
    assert list(served) == ["saved", "qa1"]
    saved = served["saved"]
    assert isinstance(saved, Served)
    assert saved.test_error is None
    asked = (["Mary went to the garden."], "Where is Mary?")
    assert saved.model.answer(*asked).answer == model.answer(*asked).answer


def test_two_models_with_one_name_raise(runs: Path, model: MemN2N) -> None:
    model.save(runs / "qa1")
    with pytest.raises(memhop.MemhopError, match="another model is called qa1: rename one"):
        load(["runs/qa1", "runs/babi/qa1"])


def test_a_missing_run_raises(runs: Path) -> None:
    with pytest.raises(memhop.MemhopError, match="no run 'demo'; under runs/: babi"):
        load(["babi", "demo"])
