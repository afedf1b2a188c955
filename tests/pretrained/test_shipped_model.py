"""The model ``stories`` that comes with memhop: its files, its errors, and how it is made."""

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from memhop import MemN2N, evaluate, generate, to_examples
from memhop.checkpoint import read_checkpoint
from memhop.data import TASK_NAMES
from memhop.pretrained.names import DEFAULT, SHIPPED, find_model
from memhop.reproduce.record import read_rows
from memhop.reproduce.stories_model import TINY, train_stories_model

MAX_BYTES = 1_500_000  # of all shipped models
UNSEEN = 2_000_000  # the seed of stories that neither trained nor measured the model


def test_all_shipped_models_are_small() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < MAX_BYTES


def test_it_loads_by_its_name_without_the_client_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # an import would fail
    answer = MemN2N.from_pretrained("stories").answer(
        "Mary took the milk. John went to the office. Mary went to the garden.",
        "Where is the milk?",
    )
    assert (answer.answer, answer.unknown_words, answer.truncated) == ("garden", (), 0)
    assert answer.probability > 0.9


def test_a_run_of_the_same_name_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model("stories") == find_model() == DEFAULT
    MemN2N.from_pretrained("stories").save(tmp_path / "runs" / "stories")
    assert find_model("stories") == find_model() == Path("runs/stories")


def test_it_answers_new_stories_of_every_kind() -> None:
    model = MemN2N.from_pretrained("stories")
    errors = {
        task: evaluate(model, list(to_examples(generate(task, questions=60, seed=UNSEEN)))).error
        for task in TASK_NAMES
    }
    assert fmean(errors.values()) < 12, errors
    solved = (1, 4, 5, 6, 9, 10, 11, 12, 13, 15, 20)
    assert max(errors[task] for task in solved) < 10, errors


def test_the_card_has_the_measured_errors_and_the_files_their_checksums() -> None:
    card = (DEFAULT / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "library_name: memhop" in card.split("---\n")[1]
    rows = read_rows(Path(__file__).parents[2] / "results" / "pretrained.csv")
    for task, row in zip(TASK_NAMES, rows, strict=True):
        line = next(line for line in card.splitlines() if line.startswith(f"| {task}, "))
        assert line.split(" | ")[1] == f"{float(row['shipped_error']):.1f}"
    assert {"model.safetensors", "recipe.json", "vocabulary.json"} <= read_checkpoint(
        DEFAULT
    ).keys()


@pytest.mark.slow
def test_its_training_gives_the_same_files_again(tmp_path: Path) -> None:
    first, second = (
        train_stories_model(tmp_path / name, TINY).to_files() for name in ("first", "second")
    )
    assert first == second
    assert train_stories_model(tmp_path / "first", TINY).to_files() == first  # finished: only read
    other = train_stories_model(tmp_path / "other", TINY._replace(seed=1)).to_files()
    assert other["model.safetensors"] != first["model.safetensors"]


def test_a_folder_with_other_files_is_refused_before_the_training(
    tmp_path: Path, memhop: Callable[..., Any]
) -> None:
    (tmp_path / "notes.txt").touch()
    said = memhop("reproduce", "stories-model", "--tiny", "--to", tmp_path).error()
    assert "expected a new or empty folder, or one of an earlier model, got one with" in said
    assert not Path("runs").exists()
