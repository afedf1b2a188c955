"""A run that an earlier version stopped resumes, and its files answer and evaluate.

``tests/golden/run`` holds stories, the folder ``stopped`` of a training that was stopped after 2 of
4 epochs, and the metrics of the same training without the stop. ``python -m
tests.cli.test_golden_run`` writes the folder if it is missing, with the memhop that is imported.
"""

import contextlib
import csv
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import pytest

import memhop as package
from memhop.checkpoint import SCHEMA
from memhop.cli import main, screen
from memhop.cli.run_folder import COMMAND
from memhop.data import write_babi
from memhop.runs import newest_checkpoint
from memhop.training.loop import Progress
from memhop.training.run import Metric

from .conftest import Program

FOLDER = Path(__file__).parents[1] / "golden" / "run"
CHECKPOINT = FOLDER / "stopped" / "checkpoint-000002"
STORIES, METRICS = "stories.txt", "metrics.csv"
RESUME = ("train", "--resume", "--name", "stopped")
SETTINGS = ("epochs=3", "linear_start_epochs=1", "memory_dim=3", "num_hops=2", "hop_units=2")


@pytest.fixture
def run(memhop: Program) -> Path:
    """Return a copy of the stopped run, under ``runs/`` of the current folder."""
    shutil.copy(FOLDER / STORIES, STORIES)
    return Path(shutil.copytree(FOLDER / "stopped", Path("runs", "stopped")))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_stopped_run_resumes_to_the_same_losses(memhop: Program, run: Path) -> None:
    progress = memhop(*RESUME).ok().err
    assert ("epoch 2/4" in progress, "epoch 3/4" in progress) == (False, True)
    checkpoint = newest_checkpoint(run)
    assert checkpoint is not None
    found, stored = rows(checkpoint / METRICS), rows(FOLDER / METRICS)
    assert len(found) == len(stored) == 4 * 2
    assert tuple(stored[0]) == Metric._fields
    for one, old in zip(found, stored, strict=True):
        for name in ("epoch", "restart", "softmax"):
            assert one[name] == old[name]
        for name in ("learning_rate", "loss"):
            assert float(one[name]) == pytest.approx(float(old[name]), rel=1e-5)


def test_the_model_of_a_stopped_run_answers(memhop: Program, run: Path) -> None:
    model = package.MemN2N.load("stopped")
    example = package.read_babi(STORIES)[0]
    assert model.answer(example.story, example.question).answer in model.vocabulary
    assert model.examples[0].story == example.story
    memhop("eval", "stopped", "--test", STORIES).ok()


def test_every_json_file_has_the_schema_and_refuses_a_newer_one(memhop: Program, run: Path) -> None:
    checkpoint = run / CHECKPOINT.name
    stored = sorted(path.name for path in checkpoint.glob("*.json"))
    assert stored == [
        "checkpoint.json", "examples.json", "recipe.json", "training.json", "vocabulary.json",
    ]  # fmt: skip
    for path in (run / COMMAND, *(checkpoint / name for name in stored)):
        good = path.read_bytes()
        content = json.loads(good)
        assert content["schema"] == SCHEMA
        replace(path, json.dumps(content | {"schema": SCHEMA + 1}).encode())
        resumes = path.name in (COMMAND, "training.json")
        output = memhop(*(RESUME if resumes else ("eval", "stopped", "--test", STORIES)))
        expected = f"expected schema {SCHEMA}, got {SCHEMA + 1}: written by a newer version"
        assert output.err.splitlines()[-1] == f"memhop: {path}: {expected} of memhop"
        assert output.status == 2
        replace(path, good)
    memhop(*RESUME).ok()


def replace(path: Path, content: bytes) -> None:
    """Write a file of a run, and its checksum if it is part of a checkpoint."""
    path.write_bytes(content)
    manifest = path.with_name("checkpoint.json")
    if manifest.exists() and path != manifest:
        sums = json.loads(manifest.read_bytes())
        sums["files"][path.name] = hashlib.sha256(content).hexdigest()
        manifest.write_text(json.dumps(sums))


def write() -> None:
    """Train with the program, once with a stop and once without, and keep the files."""

    def stop(progress: Progress) -> str:
        if progress.epoch == 2:
            raise KeyboardInterrupt
        return ""

    options = [word for setting in SETTINGS for word in ("--set", setting)]
    figures = screen._figures
    stories = package.generate(1, questions=20, seed=1, statements=(2, 3))
    FOLDER.mkdir()
    write_babi(FOLDER / STORIES, stories)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copy(FOLDER / STORIES, STORIES)
        for name, shown in (("whole", figures), ("stopped", stop)):
            screen._figures = shown  # called after each epoch
            line = ["train", "--train", STORIES, "--name", name, "--restarts", "2"]
            with contextlib.suppress(SystemExit):
                main([*line, *options])
        shutil.copytree(Path("runs", "stopped"), FOLDER / "stopped")
        [metrics] = Path("runs", "whole").rglob(METRICS)
        shutil.copy(metrics, FOLDER / METRICS)


if __name__ == "__main__" and not FOLDER.exists():
    write()
