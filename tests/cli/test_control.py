"""``memhop train --recipe best``: the lines about its control, and a run stopped in the control."""

import json
import re
from pathlib import Path

import pytest

from memhop.cli.control_lines import control_lines
from memhop.cli.training_jobs import Settings, Source, TrainingJob
from memhop.recipe import Recipe
from memhop.text.model import MemN2N
from memhop.training.class_test import ClassTest
from memhop.training.epochs import Progress
from memhop.training.loop import TrainingResult
from memhop.training.run import ControlResult, RestartScore

from .conftest import TINY, Program

BEST = ("--recipe", "best", "--set", "memory_dim=8", "--set", "hop_units=4", *TINY)
LONG = ", ".join(f"place number {number}" for number in range(30))


def lines_of(
    classes: tuple[ClassTest, ...],
    *,
    tasks: int,
    is_only: bool,
    is_kept: bool = False,
    recipe: Recipe | None = None,
    scores: tuple[RestartScore, ...] = (),
) -> list[str]:
    sources = tuple(Source(number, Path("a"), None) for number in range(11, 11 + tasks))
    settings = Settings(recipe or Recipe.best(), 2, 0, "cpu", 1)
    job = TrainingJob(Path("run"), tasks > 1, sources, settings, [], [], [])
    controls = (RestartScore(0, 1.0, 0.1, 7.25), RestartScore(1, 1.0, 0.1, 7.0, kept=is_kept))
    scores = scores or (
        RestartScore(0, 0.0, 0.0, 9.0, kept=not is_kept), RestartScore(1, diverged=3)
    )  # fmt: skip
    control = ControlResult(controls, classes)
    model = MemN2N.__new__(MemN2N)
    result = TrainingResult(model, scores, int(is_kept), 1.0, control=control)
    return list(control_lines(job, result, is_only=is_only))


def test_a_line_for_the_model_and_for_each_class() -> None:
    classes = (
        ClassTest(0, "mary, john", True, "", 20, 9.31, 10.94, 0.4),
        ClassTest(0, LONG, False, "", 20, 7.0, 61.25, 0.0),
        ClassTest(0, "got, took", False, "3 held-out stories, 5 needed"),
    )
    first, *lines = lines_of(classes, tasks=1, is_only=True)
    assert first == "held out: control 7.0%, training 9.0%; kept: the training"
    assert lines[0] == "exchanged: mary, john: held out 9.3%, 10.9% exchanged"
    assert re.fullmatch(
        r"not exchanged: place number 0, .*\.\.\.: held out 7\.0%, 61\.2% exchanged", lines[1]
    )
    assert len(lines[1]) == 80
    assert lines[2] == "not exchanged: got, took: 3 held-out stories, 5 needed"
    first, *lines = lines_of(classes, tasks=1, is_only=False, is_kept=True)
    assert first.endswith("kept: the control")
    assert [line.split(":")[0] for line in lines] == ["not exchanged"] * 2


def test_the_held_out_error_is_that_of_the_restart_that_is_kept() -> None:
    scores = (RestartScore(0, 2.0, 0.1, 8.0), RestartScore(1, 1.0, 0.1, 9.0, kept=True))
    by_training = Recipe.best(keep="training")
    [line] = lines_of((), tasks=1, is_only=True, recipe=by_training, scores=scores)
    assert line == "held out: control 7.0%, training 9.0%; kept: the training"
    [line] = lines_of((), tasks=1, is_only=True, is_kept=True, scores=scores)
    assert line == "held out: control 7.0%, training 8.0%; kept: the control"
    better = (RestartScore(0, 2.0, 0.1, 7.0), RestartScore(1, 1.0, 0.1, 9.0))
    [line] = lines_of((), tasks=1, is_only=True, is_kept=True, scores=better)
    assert line == "held out: control 7.0%, training 7.0%; kept: the control (too few held out)"
    diverged = (RestartScore(0, diverged=1), RestartScore(1, diverged=3))
    [line] = lines_of((), tasks=1, is_only=True, is_kept=True, scores=diverged)
    assert line == "held out: control 7.0%, training -; kept: the control"


def test_classes_of_several_tasks_have_their_number() -> None:
    classes = (ClassTest(1, LONG, False, "no held-out stories"), ClassTest(1, "a, b", True))
    _, line = lines_of(classes, tasks=2, is_only=False)
    assert line.startswith("task 12: not exchanged: place number 0, ")
    assert line.endswith("...: no held-out stories")
    assert len(line) == 80


def test_the_training_prints_and_stores_its_control(memhop: Program, data: str) -> None:
    arguments = ("train", "--data", data, "--task", "1", "--name", "one", *BEST)
    output = memhop(*arguments).ok()
    assert re.search(
        r"^held out: control \S+%, training \S+%; kept: the ", output.out, re.MULTILINE
    )
    assert output.out.count("\ncontrol ") == 3  # rows of the table
    assert output.err.index("task 1, control: epoch 2/2, ") < output.err.index("task 1: epoch 1/4")
    [result] = json.loads(memhop(*arguments, "--json", "--resume").ok().out)
    assert [one["restart"] for one in result["control"]["restarts"]] == [0, 1, 2]
    assert isinstance(result["control"]["classes"], list)
    assert memhop("eval", "one/qa1/control", "--data", data, "--task", "1").ok()
    plain = ("train", "--data", data, "--task", "1", "--name", "two", "--json", *TINY)
    [result] = json.loads(memhop(*plain).ok().out)
    assert result["control"] is None


def test_a_training_stopped_in_its_control_resumes(
    memhop: Program, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> str:
        assert progress.phase == "control"
        raise KeyboardInterrupt

    arguments = ("train", "--data", data, "--joint", *BEST, "--set", "heads=2")
    whole = memhop(*arguments, "--name", "whole").ok().out
    with monkeypatch.context() as patched:
        patched.setattr("memhop.cli.screen._figures", stop)
        assert (
            "stopped; resume with: memhop train --resume" in memhop(*arguments, "--name", "one").err
        )
    assert "not a run, or stopped too early" in memhop("ask", "one", "-q", "Where?").err
    assert "the run already exists" in memhop(*arguments, "--name", "one").error()
    resumed = memhop("train", "--resume", "--name", "one").ok().out
    seconds = re.compile(r", [0-9.]+ s$|\bone\b|\bwhole\b", re.MULTILINE)
    assert seconds.sub("", resumed) == seconds.sub("", whole)
