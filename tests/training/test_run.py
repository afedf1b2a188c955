"""A training on disk: broken off anywhere, it goes on to the same end, bit for bit."""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from memhop.checkpoint import from_json, read_checkpoint, write_checkpoint
from memhop.data import generate, to_examples
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.runs import newest_checkpoint
from memhop.text.model import MemN2N
from memhop.text.vocabulary import Vocabulary
from memhop.training import epochs, loop, trainer
from memhop.training.loop import Progress, TrainingResult, train
from memhop.training.optimizer import learning_rate
from memhop.training.run import Metric, TrainingRun, load_with_score

EPOCHS = 7


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(epochs, "_EVERY_EPOCHS", 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stories(questions: int, seed: int) -> list[Example]:
    return list(to_examples(generate(1, questions=questions, seed=seed, statements=(2, 8))))


TRAIN, TEST = stories(100, 1), stories(30, 2)
RECIPE = Recipe.paper(epochs=5, linear_start_epochs=2, memory_dim=5, halve_every=2)


def trained(run: Path | None, **changes: Any) -> TrainingResult:
    settings: dict[str, Any] = {"recipe": RECIPE, "restarts": 3, "seed": 2, **changes}
    examples = settings.pop("examples", TRAIN), settings.pop("test", TEST)
    return train(*examples, run=run, **settings)


def bits(run: Path) -> dict[str, Any]:
    """All that a finished run holds, but for the time that it took."""
    checkpoint = newest_checkpoint(run)
    assert checkpoint is not None
    files: dict[str, Any] = read_checkpoint(checkpoint)
    ended = from_json(files.pop("training.json"), checkpoint)
    assert ended.pop("seconds") > 0
    return {**files, "training": ended, "name": checkpoint.name}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing broke off."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("whole") / "run"
    trained(run)
    return run


def interrupt_at(monkeypatch: pytest.MonkeyPatch, calls: int, name: str = "step") -> None:
    """Raise KeyboardInterrupt in the middle of an epoch: after so many steps."""
    real, left = getattr(trainer.Trainer, name), [calls]

    def step(*args: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(trainer.Trainer, name, step)


def test_a_finished_run_holds_what_the_docs_say(whole: Path) -> None:
    assert [path.name for path in whole.iterdir()] == [f"checkpoint-{EPOCHS:06d}"]
    files = bits(whole)
    assert sorted(files) == [
        "examples.json", "metrics.csv", "model.safetensors", "name", "recipe.json", "training",
        "vocabulary.json",
    ]  # fmt: skip
    assert files["training"]["finished"] is True
    assert len(files["training"]["scores"]) == 3
    rows = list(csv.DictReader(io.StringIO(files["metrics.csv"].decode())))
    assert tuple(rows[0]) == Metric._fields
    wanted = [(str(epoch), str(r)) for epoch in range(1, EPOCHS + 1) for r in range(3)]
    assert [(row["epoch"], row["restart"]) for row in rows] == wanted
    assert [float(row["learning_rate"]) for row in rows[::3]] == [
        learning_rate(RECIPE, epoch) for epoch in range(EPOCHS)
    ]
    assert all(0 < float(row["loss"]) < 9 for row in rows)


def test_metrics_are_those_that_were_told(tmp_path: Path, whole: Path) -> None:
    said: list[Progress] = []
    trained(None, on_progress=said.append)
    rows = list(csv.reader(io.StringIO(bits(whole)["metrics.csv"].decode())))[1:]
    told = [metric for progress in said for metric in progress.metrics]
    assert [[str(value) for value in metric] for metric in told] == rows
    assert [progress.epoch for progress in said] == list(range(1, EPOCHS + 1))


def test_the_run_and_the_result_are_one(whole: Path) -> None:
    result, loaded = trained(None), MemN2N.load(whole)
    ours, theirs = result.model.state_dict(), loaded.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_model_comes_with_its_score_once_its_training_has_ended(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, score = load_with_score(whole)
    assert torch.equal(model.tables, MemN2N.load(whole).tables)
    assert score == trained(whole, resume=True).best
    model.save(tmp_path / "saved")
    assert load_with_score(tmp_path / "saved")[1] is None
    with monkeypatch.context() as patch:
        interrupt_at(patch, calls=9)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "stopped")
    assert load_with_score(tmp_path / "stopped")[1] is None


@pytest.mark.parametrize("steps", [5, 8, 11])
def test_what_adam_remembers_is_kept_too(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, optimizer="adam", exchange=True, hop_units=3)
    trained(tmp_path / "whole", recipe=recipe)
    with monkeypatch.context() as patched:
        interrupt_at(patched, steps)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run", recipe=recipe)
    trained(tmp_path / "run", recipe=recipe, resume=True)
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 13, 14])
def test_an_interrupt_in_an_epoch_and_a_resume_end_the_same(
    steps: int, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps an epoch, so in the first and the last, and at their first and last steps."""
    with monkeypatch.context() as patched:
        interrupt_at(patched, steps)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run")
    checkpoint = newest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    assert checkpoint.name == f"checkpoint-{(steps - 1) // 2:06d}"
    assert MemN2N.load(tmp_path / "run").answer("Mary went home.", "Where is Mary?").answer
    trained(tmp_path / "run", resume=True)
    assert bits(tmp_path / "run") == bits(whole)
    assert len(list((tmp_path / "run").iterdir())) == 1


@pytest.mark.parametrize("epoch", [1, 2, 3, EPOCHS])
def test_an_interrupt_while_progress_is_shown_loses_nothing(
    epoch: int, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "_EVERY_EPOCHS", 100)  # the interrupt writes the only one

    def show(progress: Progress) -> None:
        if progress.epoch == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", on_progress=show)
    checkpoint = newest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    assert checkpoint.name == f"checkpoint-{min(epoch, EPOCHS - 1):06d}"
    trained(tmp_path / "run", resume=True)
    assert bits(tmp_path / "run") == bits(whole)


def test_interrupted_again_and_again(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for steps in (1, 1, 2, 3, 1, 5):
        with monkeypatch.context() as patched:
            interrupt_at(patched, steps)
            with pytest.raises(KeyboardInterrupt):
                trained(tmp_path / "run", resume=True)
    trained(tmp_path / "run", resume=True)
    assert bits(tmp_path / "run") == bits(whole)


def test_an_interrupt_while_the_end_is_scored_loses_little(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(patched, EPOCHS // 2 + 1, "scores")  # those before are for checkpoints
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run")
    trained(tmp_path / "run", resume=True)
    assert bits(tmp_path / "run") == bits(whole)


def test_a_diverged_restart_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trainer.Trainer.run_epoch

    def run_epoch(self: trainer.Trainer) -> Any:
        if self.state.epoch == 1:
            with torch.no_grad():
                self.model.tables[1] = torch.nan
        return real(self)

    monkeypatch.setattr(trainer.Trainer, "run_epoch", run_epoch)
    trained(tmp_path / "whole")
    with monkeypatch.context() as patched:
        interrupt_at(patched, 8)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run")
    result = trained(tmp_path / "run", resume=True)
    assert result.restarts[1].diverged == 2
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")
    assert trained(tmp_path / "run", resume=True).restarts == result.restarts


# The children are forked from a process that has computed nothing, so that each starts at once.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from memhop.training import epochs
from memhop.training.loop import train
from memhop.data import generate, to_examples
from memhop.recipe import Recipe
from memhop.runs import newest_checkpoint

torch.set_num_threads(1)
epochs._EVERY_EPOCHS = 1
run, settings, points = Path(sys.argv[1]), eval(sys.argv[2]), random.Random(7)

def stories(questions, seed):
    return list(to_examples(generate(1, questions=questions, seed=seed, statements=(2, 8))))

data = stories(100, 1), stories(30, 2)
killed = 0
while killed < 5:
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        def show(progress):
            os.write(tell, b".")
        train(*data, recipe=Recipe.paper(**settings), restarts=3, seed=2, run=run,
                       resume=True, on_progress=show)
        os._exit(0)
    os.close(tell)
    for _ in range(points.choice((1, 2, 3))):
        os.read(told, 1)
    time.sleep(points.choice((0, 0.001, 0.003, 0.008)))  # writing, or in the next epoch
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(told)
    if not os.WIFSIGNALED(status):
        sys.exit(f"the training ended before kill {killed + 1}")
    killed += 1
    found = newest_checkpoint(run)
    print(found and found.name, len(os.listdir(run)) if run.exists() else 0)
print(killed)
"""


@pytest.mark.slow
def test_killed_at_five_points_it_ends_the_same(tmp_path: Path) -> None:
    recipe = {"epochs": 30, "linear_start_epochs": 2, "memory_dim": 5, "halve_every": 2}
    command = [sys.executable, "-c", KILLER, str(tmp_path / "run"), repr(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.endswith("5\n"), done.stdout + done.stderr
    assert "checkpoint-" in done.stdout  # some of it was done before it was killed
    settings = Recipe.from_json({**Recipe.paper().to_json(), **recipe})
    trained(tmp_path / "run", recipe=settings, resume=True)
    trained(tmp_path / "whole", recipe=settings)
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")
    assert len(list((tmp_path / "run").iterdir())) == 1  # nothing half-written is left


def test_nothing_half_written_is_believed(tmp_path: Path, whole: Path) -> None:
    half = tmp_path / "run" / ".checkpoint-000004-1"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    trained(tmp_path / "run")
    assert bits(tmp_path / "run") == bits(whole)
    assert not half.exists()


# Whose run it is.


def test_a_run_that_is_there_is_not_touched(whole: Path) -> None:
    before = bits(whole)
    with pytest.raises(MemhopError, match=r"the run exists: resume it, or choose another name$"):
        trained(whole)
    assert bits(whole) == before


def test_a_finished_run_resumed_is_its_result(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = trained(None)
    monkeypatch.delattr(loop, "Trainer")  # nothing is trained
    again = trained(whole, resume=True)
    assert (again.restarts, again.kept, again.best) == (fresh.restarts, fresh.kept, fresh.best)
    ours, theirs = again.model.state_dict(), fresh.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert again.seconds > 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"examples": TRAIN[1:]}, "data"),
        ({"examples": [*TRAIN[:-1], TRAIN[-1]._replace(answer="hall")]}, "data"),
        ({"test": TEST[1:]}, "data"),
        ({"recipe": replace(RECIPE, epochs=9)}, r"recipe \(epochs 5, now 9\)"),
        ({"recipe": Recipe.paper()}, r"recipe \(memory_dim 5, now 20; .*; \.\.\.\)"),
        ({"restarts": 4}, r"restarts \(3, now 4\)"),
        ({"seed": 3}, r"seed \(2, now 3\)"),
        (
            {"seed": 3, "restarts": 1, "test": []},
            r"data and restarts \(3, now 1\) and seed \(2, now 3\)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_training_cannot_resume(
    changes: dict[str, Any], named: str, finished: bool, whole: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = whole
    if not finished:
        run = tmp_path / "run"
        with monkeypatch.context() as patched:
            interrupt_at(patched, 1)
            with pytest.raises(KeyboardInterrupt):
                trained(run)
    with pytest.raises(MemhopError, match=rf"cannot resume: different {named}$"):
        trained(run, resume=True, **changes)


def test_a_run_of_a_version_that_split_text_differently_cannot_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        interrupt_at(patched, 9)
        with pytest.raises(KeyboardInterrupt):
            trained(run)
    monkeypatch.setattr(trainer, "training_vocabulary", lambda *_: Vocabulary(["two"]))
    said = "cannot resume: an older version of memhop split the training text into other words"
    with pytest.raises(MemhopError, match=said):
        trained(run, resume=True)


def test_a_run_from_before_a_recipe_setting_resumes_with_its_default(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As written by a version whose recipe had fewer settings."""
    checkpoint = broken_off(tmp_path / "run", monkeypatch)
    files = read_checkpoint(checkpoint)
    training, stored = (json.loads(files[f"{name}.json"]) for name in ("training", "recipe"))
    for recipe in (training["question"]["recipe"], stored["recipe"]):
        del recipe["schedule"], recipe["heads"]
    forge(checkpoint, training=json.dumps(training).encode(), recipe=json.dumps(stored).encode())
    with pytest.raises(MemhopError, match=r"recipe \(heads 1, now 5\)$"):
        trained(tmp_path / "run", recipe=replace(RECIPE, heads=5), resume=True)
    trained(tmp_path / "run", resume=True)
    assert bits(tmp_path / "run") == bits(whole)


def test_resume_starts_where_there_is_nothing(tmp_path: Path, whole: Path) -> None:
    trained(tmp_path / "run", resume=True)
    assert bits(tmp_path / "run") == bits(whole)


def test_a_place_that_can_hold_no_run_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(loop, "Trainer")
    (tmp_path / "file").touch()
    with pytest.raises(MemhopError, match=r"expected a folder for the run, got a file"):
        trained(tmp_path / "file")


# Malice: the checksums fit, the content does not.


def broken_off(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patched:
        interrupt_at(patched, 4)
        with pytest.raises(KeyboardInterrupt):
            trained(run)
    checkpoint = newest_checkpoint(run)
    assert checkpoint is not None
    return checkpoint


def forge(checkpoint: Path, **changes: bytes | None) -> None:
    """Write the checkpoint anew with other files, in its place, with checksums that fit."""
    files = read_checkpoint(checkpoint)
    for name, content in changes.items():
        (found,) = [file for file in files if file.split(".")[0] == name]
        if content is None:
            del files[found]
        else:
            files[found] = content
    for path in checkpoint.iterdir():
        path.unlink()
    checkpoint.rmdir()
    write_checkpoint(checkpoint, files)


ODD: list[Any] = [None, [], {}, "x", -1, 1.5, True, [[]], {"x": 1}, {"1": None}, "∞", 10**400]


@pytest.mark.parametrize(
    "field", ["epoch", "seconds", "diverged", "finished", "scores", "question", "control"]
)
def test_a_forged_state_is_an_error_or_a_result(
    field: str, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = broken_off(tmp_path / "run", monkeypatch)
    ended = newest_checkpoint(whole)
    assert ended is not None
    keep = read_checkpoint(ended)
    for run, checkpoint in ((tmp_path / "run", unfinished), (whole, ended)):
        files = read_checkpoint(checkpoint)
        state = json.loads(files["training.json"])
        for value in ODD:
            content = json.dumps({**state, field: value}).replace('"\\u221e"', "1e999")
            forge(checkpoint, training=content.encode())
            monkeypatch.setattr(loop, "run_epochs", lambda *_: None)
            monkeypatch.setattr(TrainingRun, "finish", lambda *_: None)
            try:
                assert trained(run, resume=True).restarts
            except MemhopError as error:
                assert str(error).isprintable()  # noqa: PT017
    forge(ended, training=keep["training.json"])


@pytest.mark.parametrize("field", ["train_error", "train_loss", "kept", "restart", "diverged"])
def test_forged_scores_are_an_error(field: str, tmp_path: Path) -> None:
    trained(tmp_path)
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None
    state = json.loads(read_checkpoint(checkpoint)["training.json"])
    kept = [score["kept"] for score in state["scores"]].index(True)
    values: tuple[Any, ...] = (None, "x", [], {}, 10**400, True)
    for value in values:
        score = {**state["scores"][kept], field: value}
        if score == state["scores"][kept]:
            continue
        scores = [*state["scores"][:kept], score, *state["scores"][kept + 1 :]]
        forge(checkpoint, training=json.dumps({**state, "scores": scores}).encode())
        with pytest.raises(MemhopError, match="corrupt scores or state"):
            trained(tmp_path, resume=True)


@pytest.mark.parametrize(
    "metrics",
    [b"\xff", b"epoch\n1,2\n", b"a\n" + b"x," * 7, b'a\n"' + b"x" * 200_000, b"a\n1\0,2,3,4,5,6,7"],
    ids=lambda content: repr(content[:12]),
)
def test_forged_metrics_are_one_line(
    metrics: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(broken_off(tmp_path, monkeypatch), metrics=metrics)
    with pytest.raises(MemhopError, match=r"corrupt training\.json or metrics\.csv$"):
        trained(tmp_path, resume=True)


@pytest.mark.parametrize("name", ["training", "metrics", "restarts"])
def test_a_missing_part_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(broken_off(tmp_path, monkeypatch), **{name: None})
    with pytest.raises(MemhopError, match=re.escape(f"expected {name}.")):
        trained(tmp_path, resume=True)


def test_restarts_of_another_shape_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = broken_off(tmp_path, monkeypatch)
    forge(checkpoint, restarts=read_checkpoint(checkpoint)["model.safetensors"])
    with pytest.raises(MemhopError, match=r"expected float32 .* for .tables."):
        trained(tmp_path, resume=True)


def test_a_saved_model_is_no_run_to_resume(tmp_path: Path, whole: Path) -> None:
    MemN2N.load(whole).save(tmp_path / "model")
    with pytest.raises(MemhopError, match=r"expected training\.json"):
        trained(tmp_path / "model", resume=True)
