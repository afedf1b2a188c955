"""Hostile and corrupt checkpoints of knowledge models are errors of one line with the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from memhop.checkpoint import to_json, to_tensors
from memhop.errors import MemhopError
from memhop.knowledge import KnowledgeModel, KnowledgeResult, train
from memhop.knowledge.hops import TrackingHops

from .worlds import FILM_QUESTIONS, TINY, film_model, films, replace_file

WEIGHTS, RECIPE, WORDS = "model.safetensors", "knowledge.json", "vocabulary.json"
NAMES, FACTS = "facts.json", "facts.safetensors"
FILES = (WEIGHTS, RECIPE, WORDS, NAMES, FACTS)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a saved model."""
    film_model().save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished training, and one that was interrupted after two epochs."""

    def stop(progress: Any) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("runs")
    data = films(), FILM_QUESTIONS, FILM_QUESTIONS
    train(*data, recipe=TINY, run=folder / "done")
    with pytest.raises(KeyboardInterrupt):
        train(*data, recipe=TINY, run=folder / "half", on_progress=stop)
    return folder


def refused(run: Path, name: str, load: Callable[[Path], Any] = KnowledgeModel.load) -> str:
    """Return the message of the error that names a file."""
    with pytest.raises(MemhopError) as caught:
        load(run)
    message = str(caught.value)
    assert name in message, message
    assert message.count("\n") == 0
    assert len(message) < 500
    return message


@pytest.mark.parametrize("name", FILES)
def test_truncated_and_empty_files(run: Path, name: str) -> None:
    content = (run / name).read_bytes()
    for size in sorted({0, 1, 8, len(content) // 2, len(content) - 1}):
        (run / name).write_bytes(content[:size])
        assert "SHA-256" in refused(run, name)
        replace_file(run, name, content[:size])
        if content[:size].strip() != content.strip():  # not only the last line feed
            refused(run, name)
    (run / name).unlink()
    refused(run, name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_that_the_manifest_does_not_name(run: Path, name: str) -> None:
    manifest = json.loads((run / "checkpoint.json").read_bytes())
    del manifest["files"][name]
    (run / "checkpoint.json").write_text(json.dumps(manifest))
    assert f"expected {name}, got " in refused(run, name)


@pytest.mark.parametrize("name", [RECIPE, WORDS, NAMES])
@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b"{}", b"\xff", b"[" * 100_000, b"{"])
def test_json_of_other_types(run: Path, name: str, content: bytes) -> None:
    replace_file(run, name, content)
    refused(run, name)


@pytest.mark.parametrize(
    "recipe",
    [None, 3, [], {"epochs": 0}, {"word_dim": 7}, {"word_dim": 10**9}, {"num_hops": "3"},
     {"dropout": True}, {"other": 1}, {"learning_rate": None}],
)  # fmt: skip
def test_wrong_recipes(run: Path, recipe: object) -> None:
    replace_file(run, RECIPE, to_json({"schema": 1, "recipe": recipe}))
    assert "recipe" in refused(run, RECIPE)


def test_recipes_of_another_size_allocate_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[TrackingHops] = []

    def hops(*arguments: Any) -> TrackingHops:
        made.append(TrackingHops(*arguments))
        return made[-1]

    monkeypatch.setattr("memhop.knowledge.model.TrackingHops", hops)
    large = TINY.to_json() | {"word_dim": 4096, "num_hops": 100}
    replace_file(run, RECIPE, to_json({"schema": 1, "recipe": large}))
    refused(run, WEIGHTS)
    assert all(weight.is_meta for weight in made[0].parameters())
    for change in ({"word_dim": 16}, {"num_hops": 3}, {"inverse": False}):
        replace_file(run, RECIPE, to_json({"schema": 1, "recipe": TINY.to_json() | change}))
        refused(run, WEIGHTS)


@pytest.mark.parametrize(
    "words",
    [None, 3, {}, [], ["", "<unknown>"], ["a", "b", "c"], ["", "<unknown>", "<topic>", 3],
     ["", "<unknown>", "<topic>", "a", "a"], ["", "<unknown>", "<topic>", ["a"]]],
)  # fmt: skip
def test_wrong_words(run: Path, words: object) -> None:
    replace_file(run, WORDS, to_json({"schema": 1, "words": words}))
    assert "distinct words" in refused(run, WORDS)


def test_fewer_words_than_weights(run: Path) -> None:
    words = json.loads((run / WORDS).read_bytes())["words"]
    replace_file(run, WORDS, to_json({"schema": 1, "words": words[:-1]}))
    assert "'words.weight'" in refused(run, WEIGHTS)


@pytest.mark.parametrize("name", [RECIPE, WORDS, NAMES])
def test_a_newer_schema(run: Path, name: str) -> None:
    content = json.loads((run / name).read_bytes())
    replace_file(run, name, to_json(content | {"schema": 2}))
    expected = "expected schema 1, got 2: written by a newer version of memhop"
    assert refused(run, name) == f"{run / name}: {expected}"


def test_wrong_weights(run: Path) -> None:
    model = film_model()
    state = dict(model.network.state_dict())
    first, second = "states.weight_ih_l0", "states.weight_hh_l0"
    changes: list[dict[str, torch.Tensor]] = [
        state | {first: state[second], second: state[first]},
        state | {"scale": torch.tensor(float("nan"))},
        state | {"hop_queries": state["hop_queries"] / 0},
        state | {"relations": state["relations"].double()},
        state | {"relations": state["relations"].long()},
        state | {"more": torch.zeros(1)},
        {name: one for name, one in state.items() if name != "inverse"},
        {},
    ]
    for change in changes:
        replace_file(run, WEIGHTS, to_tensors(change))
        refused(run, WEIGHTS)
    replace_file(run, WEIGHTS, b"\xff" * 8 + b"{}")
    refused(run, WEIGHTS)


def test_huge_finite_weights_give_an_answer_or_none(run: Path) -> None:
    state = {name: torch.full_like(one, 3e38) for name, one in
             film_model().network.state_dict().items()}  # fmt: skip
    replace_file(run, WEIGHTS, to_tensors(state))
    answer = KnowledgeModel.load(run).answer("who directed Metropolis?")
    assert answer.answer is None or answer.hops
    assert str(answer.picture())


def test_facts_that_are_out_of_range(run: Path) -> None:
    facts = films().facts.astype(np.int32)
    for place, value in (((0, 0), 99), ((0, 1), 7), ((0, 2), -1)):
        wrong = facts.copy()
        wrong[place] = value
        replace_file(run, FACTS, safetensors.numpy.save({"facts": wrong}))
        refused(run, FACTS)


def change_training(run: Path, **changes: object) -> Path:
    """Change training.json of the checkpoint of a run; return its folder."""
    [folder] = (path for path in run.iterdir() if path.is_dir())
    content = json.loads((folder / "training.json").read_bytes()) | changes
    content = {name: value for name, value in content.items() if value != "missing"}
    replace_file(folder, "training.json", to_json(content))
    return folder


def resumed(run: Path) -> KnowledgeResult:
    """Resume the training of `trained` or `stopped`."""
    return train(films(), FILM_QUESTIONS, FILM_QUESTIONS, recipe=TINY, run=run, resume=True)


@pytest.fixture
def trained(runs: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished training."""
    return Path(shutil.copytree(runs / "done", tmp_path / "done"))


@pytest.fixture
def stopped(runs: Path, tmp_path: Path) -> Path:
    """Return a copy of the interrupted training."""
    return Path(shutil.copytree(runs / "half", tmp_path / "half"))


STATES: list[dict[str, object]] = [
    {"epoch": "missing"}, {"epoch": None}, {"epoch": -1}, {"epoch": "2"}, {"epoch": 1.5},
    {"epoch": True}, {"best_epoch": -3}, {"best_epoch": 10**9}, {"best": 3}, {"best": [1]},
    {"best": ["a", "b"]}, {"best": [1, 2, 3]}, {"seconds": "x"}, {"seconds": None},
    {"seconds": -1}, {"best": "missing"},
]  # fmt: skip


@pytest.mark.parametrize("change", STATES, ids=str)
def test_wrong_states_of_an_unfinished_training(stopped: Path, change: dict[str, object]) -> None:
    assert "corrupt" in refused(stopped, change_training(stopped, **change).name, resumed)


TESTS: list[dict[str, object]] = [
    {"test": "missing"}, {"test": 3}, {"test": []}, {"test": {"questions": 1}}, *STATES,
]  # fmt: skip


@pytest.mark.parametrize("change", TESTS, ids=str)
def test_wrong_states_of_a_finished_training(trained: Path, change: dict[str, object]) -> None:
    assert "corrupt" in refused(trained, change_training(trained, **change).name, resumed)


@pytest.mark.parametrize(
    "change",
    [{"hits": [1]}, {"hits": "1"}, {"hits": True}, {"questions": 1.5}, {"unknown_words": 3},
     {"unknown_words": [3]}, {"unknown_answers": "ab"}, {"other": 1}],
    ids=str,
)  # fmt: skip
def test_wrong_evaluations_of_a_finished_training(trained: Path, change: dict[str, object]) -> None:
    [folder] = (path for path in trained.iterdir() if path.is_dir())
    test = json.loads((folder / "training.json").read_bytes())["test"]
    change_training(trained, test=test | change)
    assert "corrupt" in refused(trained, folder.name, resumed)


def test_wrong_metrics(trained: Path, stopped: Path) -> None:
    for run in (trained, stopped):
        [folder] = (path for path in run.iterdir() if path.is_dir())
        good = (folder / "metrics.csv").read_bytes()
        for content in (b"\xff", b"epoch,loss\n1,2\n", good.replace(b"1,", b"x,", 1), b""):
            replace_file(folder, "metrics.csv", content)
            assert "corrupt" in refused(run, folder.name, resumed)
        replace_file(folder, "metrics.csv", good)
        resumed(run)


def test_wrong_tensors_of_an_unfinished_training(stopped: Path) -> None:
    [folder] = (path for path in stopped.iterdir() if path.is_dir())
    for content in (b"", b"\xff" * 9, to_tensors({"scale": torch.zeros(())})):
        replace_file(folder, "training.safetensors", content)
        refused(stopped, "training.safetensors", resumed)
