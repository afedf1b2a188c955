"""A knowledge run of an earlier version loads, answers the same, and a stopped one resumes.

``tests/golden/knowledge`` holds facts, questions, the folder ``stopped`` of a training that was
stopped after 2 of 4 epochs, and in ``answers.json`` the answers of its model and the losses of the
same training without the stop. ``python -m tests.knowledge.test_golden_run`` writes the folder if
it is missing, with the memhop that is imported.
"""

import contextlib
import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from memhop.checkpoint import SCHEMA
from memhop.errors import MemhopError
from memhop.knowledge import (
    KnowledgeModel,
    KnowledgeRecipe,
    KnowledgeResult,
    Progress,
    read_facts,
    read_questions,
    train,
)
from memhop.runs import newest_checkpoint, stopped_after

from .worlds import FILM_QUESTIONS, FILMS, replace_file

FOLDER = Path(__file__).parents[1] / "golden" / "knowledge"
FACTS, ALIASES, QUESTIONS, ANSWERS = "facts.tsv", "aliases.tsv", "questions.tsv", "answers.json"
CHECKPOINT = "checkpoint-000002"
RECIPE = KnowledgeRecipe(
    word_dim=4, num_hops=2, epochs=4, learning_rate=0.02, dropout=0.0, validation_share=0.3
)


def resumed(run: Path, **more: Any) -> KnowledgeResult:
    """Start or resume the training."""
    kb = read_facts(FOLDER / FACTS, aliases=FOLDER / ALIASES)
    questions = read_questions(FOLDER / QUESTIONS)
    return train(kb, questions, questions, recipe=RECIPE, run=run, resume=True, **more)


def answers(model: KnowledgeModel) -> list[dict[str, Any]]:
    """Return the answers to all questions as JSON."""
    texts = [one.text for one in read_questions(FOLDER / QUESTIONS)]
    found = [dataclasses.asdict(model.answer(text)) for text in [*texts, "where is Lang from?"]]
    return list(json.loads(json.dumps(found)))


def losses(run: Path) -> list[float]:
    """Return the loss of each epoch."""
    folder = newest_checkpoint(run)
    assert folder is not None
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def same(found: Any, stored: Any) -> bool:
    """Return whether two JSON values are the same up to rounding; new keys are allowed."""
    if isinstance(stored, dict):
        return all(same(found[key], value) for key, value in stored.items())
    if isinstance(stored, list):
        return len(found) == len(stored) and all(map(same, found, stored))
    return bool(found == (pytest.approx(stored, rel=1e-4) if type(stored) is float else stored))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a copy of the stopped run."""
    return Path(shutil.copytree(FOLDER / "stopped", tmp_path / "stopped"))


def test_the_model_of_a_stopped_run_answers_the_same(run: Path) -> None:
    stored = json.loads((FOLDER / ANSWERS).read_text(encoding="utf-8"))
    model = KnowledgeModel.load(run)
    assert same(answers(model), stored["answers"])
    assert stopped_after(run) == (2, 4)
    assert model.kb.find("Lang") == model.kb.find("Fritz Lang") != ()


def test_a_stopped_run_resumes_to_the_same_losses(run: Path) -> None:
    stored = json.loads((FOLDER / ANSWERS).read_text(encoding="utf-8"))
    result = resumed(run)
    assert losses(run) == pytest.approx(stored["losses"], rel=1e-4)
    assert result.test is not None


def test_every_json_file_has_the_schema_and_refuses_a_newer_one(run: Path) -> None:
    checkpoint = run / CHECKPOINT
    names = sorted(path.name for path in checkpoint.glob("*.json"))
    assert names == [
        "checkpoint.json", "facts.json", "knowledge.json", "training.json", "vocabulary.json",
    ]  # fmt: skip
    for name in names:
        good = (checkpoint / name).read_bytes()
        content = json.loads(good)
        assert content["schema"] == SCHEMA
        newer = json.dumps(content | {"schema": SCHEMA + 1}).encode()
        if name == "checkpoint.json":
            (checkpoint / name).write_bytes(newer)
        else:
            replace_file(checkpoint, name, newer)
        with pytest.raises(MemhopError) as caught:
            resumed(run) if name == "training.json" else KnowledgeModel.load(run)
        expected = f"expected schema {SCHEMA}, got {SCHEMA + 1}: written by a newer version"
        assert str(caught.value) == f"{checkpoint / name}: {expected} of memhop"
        if name == "checkpoint.json":
            (checkpoint / name).write_bytes(good)
        else:
            replace_file(checkpoint, name, good)
    resumed(run)


def test_a_setting_that_an_older_file_lacks_has_its_default(run: Path) -> None:
    path = run / CHECKPOINT / "knowledge.json"
    content = json.loads(path.read_bytes())
    del content["recipe"]["patience"]
    replace_file(run / CHECKPOINT, path.name, json.dumps(content).encode())
    assert KnowledgeModel.load(run).recipe == RECIPE


def write() -> None:
    """Train once with a stop and once without, and keep the files."""
    FOLDER.mkdir()
    (FOLDER / FACTS).write_text("".join("\t".join(fact) + "\n" for fact in FILMS))
    (FOLDER / ALIASES).write_text("Fritz Lang\tLang\n")
    lines = [f"{one.text}\t{'|'.join(one.answers)}\n" for one in FILM_QUESTIONS]
    (FOLDER / QUESTIONS).write_text("".join(lines))

    def stop(progress: Progress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        resumed(FOLDER / "stopped", on_progress=stop)
    found = {"answers": answers(KnowledgeModel.load(FOLDER / "stopped"))}
    whole = FOLDER / "whole"
    resumed(whole)
    (FOLDER / ANSWERS).write_text(json.dumps(found | {"losses": losses(whole)}, indent=1) + "\n")
    shutil.rmtree(whole)


if __name__ == "__main__" and not FOLDER.exists():
    write()
