"""``memhop train --resume --name NAME`` resumes from what the run stores."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from memhop.training.loop import Progress

from .conftest import TINY, Program

RESUME = ["train", "--resume", "--name"]


def trained(run: str) -> dict[str, bytes]:
    """Return the weights and metrics of a run."""
    names = ("model.safetensors", "metrics.csv")
    files = [file for name in names for file in Path("runs", run).rglob(name)]
    return {str(file.relative_to(Path("runs", run))): file.read_bytes() for file in files}


def stop_at(epoch: int) -> Callable[[Progress], str]:
    def stop(progress: Progress) -> str:
        if progress.epoch == epoch:
            raise KeyboardInterrupt
        return ""

    return stop


@pytest.mark.parametrize(
    "source",
    [["--data", "stories"], ["--data", "stories", "--joint"], ["--data", "stories", "--task=2"],
     ["--train", "own.txt"], ["--train", "own.txt", "--test", "own_test.txt"]],
)  # fmt: skip
def test_a_run_resumes_without_its_options(
    memhop: Program, data: str, monkeypatch: pytest.MonkeyPatch, source: list[str]
) -> None:
    for use, own in (("train", "own.txt"), ("test", "own_test.txt")):
        shutil.copy(next(Path(data).glob(f"qa2_*_{use}.txt")), own)
    monkeypatch.setattr("memhop.cli.settings.available_cores", lambda: 2)
    line = ["train", *source, *TINY, "--seed", "3", "--threads", "2"]
    whole = memhop(*line, "--name", "whole").ok()
    with monkeypatch.context() as patch:
        patch.setattr("memhop.cli.screen._figures", stop_at(2))
        stopped = memhop(*line, "--name", "half")
    assert stopped.err.endswith("stopped; resume with: memhop train --resume --name half\n")
    torch.set_num_threads(1)
    resumed = memhop(*RESUME, "half").ok()
    assert torch.get_num_threads() == 2
    assert trained("half") == trained("whole") != {}
    results = [[line for line in output.out.splitlines() if " error" in line and " s" not in line]
               for output in (resumed, whole)]  # fmt: skip
    assert results[0] == results[1]
    assert memhop(*RESUME, "half").ok().err == ""  # finished: no training


def test_a_training_that_was_killed_before_its_first_checkpoint(
    memhop: Program, data: str, stopped: str
) -> None:
    memhop("train", "--data", data, "--name", "whole", *TINY).ok()
    for checkpoint in Path("runs", stopped).rglob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    memhop(*RESUME, stopped).ok()
    assert trained(stopped) == trained("whole")


def test_data_that_moved_or_changed(memhop: Program, data: str, stopped: str) -> None:
    [file] = Path(data).glob("qa2_*_test.txt")  # of the task that has not started
    content = file.read_bytes()
    file.write_bytes(content + b"1 Mary slept.\n")
    error = memhop(*RESUME, stopped).error()
    assert error == f"{file}: changed since the training of runs/half/qa2 began"
    file.unlink()
    error = memhop(*RESUME, stopped).error()
    assert error.startswith(f"{file}: cannot be read: No such file or directory; runs/half/qa2")
    file.write_bytes(content)
    memhop(*RESUME, stopped).ok()


@pytest.mark.parametrize(
    "option",
    ["--task=1", "--joint", "--test=x", "--recipe=best", "--set=epochs=9", "--restarts=2",
     "--seed=0"],
)  # fmt: skip
def test_settings_come_from_the_run(memhop: Program, stopped: str, option: str) -> None:
    name = option.partition("=")[0]
    expected = f"--resume takes {name} from the run: leave it out, or repeat the whole command"
    assert memhop(*RESUME, stopped, option).error() == expected


def test_another_number_of_threads(
    memhop: Program, stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in Path("runs", stopped).rglob("command.json"):
        path.write_text(path.read_text().replace('"threads": 1', '"threads": 4096'))
    assert "--threads: expected 1 to" in memhop(*RESUME, stopped).error()
    memhop(*RESUME, stopped, "--threads", "1").ok()


@pytest.mark.parametrize("begin", [[], ["--no-examples"]])
@pytest.mark.parametrize("resume", [[], ["--no-examples"]])
def test_no_examples_holds_for_the_resumed_run(
    memhop: Program, data: str, monkeypatch: pytest.MonkeyPatch, begin: list[str], resume: list[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("memhop.cli.screen._figures", stop_at(2))
        memhop("train", "--data", data, "--task=1", *TINY, "--name", "half", *begin)
    memhop(*RESUME, "half", *resume).ok()
    assert len(list(Path("runs/half").rglob("examples.json"))) == (not begin and not resume)


def test_a_run_without_the_setting_for_examples_resumes(memhop: Program, stopped: str) -> None:
    for path in Path("runs", stopped).rglob("command.json"):
        command = json.loads(path.read_text())
        del command["store_examples"]
        path.write_text(json.dumps(command))
    memhop(*RESUME, stopped).ok()


def test_a_run_without_a_command_file(memhop: Program, trained: str) -> None:
    for name in ("none", trained):
        for path in Path("runs").rglob("command.json"):
            path.unlink()
        error = memhop(*RESUME, name).error()
        assert error.startswith(f"runs/{name}: no command.json to resume from")


def test_a_corrupt_command_file_is_a_one_line_error(memhop: Program, trained: str) -> None:
    path = Path("runs", trained, "command.json")
    good = json.loads(path.read_text())
    file = good["files"][0]
    changes: list[dict[str, Any]] = [
        {"restarts": 0}, {"seed": -1}, {"seed": True}, {"threads": "1"}, {"device": 3},
        {"recipe": {"epochs": 0}}, {"recipe": None}, {"joint": 1}, {"joint": False, "files": []},
        {"files": []}, {"files": {}}, {"files": [file | {"task": "1"}]}, {"files": [{"task": 1}]},
        {"files": [file | {"train": 1}]}, {"files": [file | {"train": {"path": 1}}]},
        {"files": [file | {"other": file["train"]}]}, {"files": None}, {"files": 3},
        {"files": [file | {"train": file["train"] | {"path": "a\0b"}}]},
        {"schema": 2}, {"device": "meta"}, {"store_examples": 1},
    ]  # fmt: skip
    for change in changes:
        path.write_text(json.dumps(good | change))
        assert memhop(*RESUME, trained).error(), change
    for content in (b"", b"[]", b"\xff", b"{", b"1" * 9):
        path.write_bytes(content)
        assert "command.json" in memhop(*RESUME, trained).error()
    path.unlink()
    path.mkdir()
    assert "command.json" in memhop(*RESUME, trained).error()
