"""Run the program in this process, in a temporary folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from memhop.cli import main
from memhop.training.loop import Progress

TINY = ("--restarts", "2", "--set", "epochs=3", "--set", "linear_start_epochs=1")


class Output(NamedTuple):
    """The exit status and the output of the program."""

    status: int
    out: str
    err: str

    def error(self) -> str:
        """Return the one-line message of an error of the user."""
        assert (self.status, self.out) == (2, ""), self
        assert self.err.startswith("memhop: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("memhop: ").removesuffix("\n")

    def ok(self) -> "Output":
        """Check that the program succeeded and that no line is wider than a terminal."""
        assert self.status == 0, self
        assert max(map(len, self.out.splitlines())) <= 80, self.out
        return self


Program = Callable[..., Output]


@pytest.fixture
def memhop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Program]:
    """Run a command line and return its output; then restore the threads of torch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("shutil.which", lambda name: name)  # as if memhop is on PATH
    threads = torch.get_num_threads()

    def run(*arguments: str) -> Output:
        monkeypatch.setattr("sys.argv", ["memhop", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Output(ended.value.code, *capsys.readouterr())

    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def data(memhop: Program) -> str:
    """Return a folder with generated stories of tasks 1 and 2."""
    for task in ("1", "2"):
        memhop("generate", "--task", task, "--questions", "64", "--to", "stories").ok()
    return "stories"


@pytest.fixture
def trained(memhop: Program, data: str) -> str:
    """Return the name of a run of task 1 after a short training."""
    assert memhop("train", "--data", data, "--task", "1", "--joint", "--name", "one", *TINY).out
    return "one"


@pytest.fixture
def stopped(memhop: Program, data: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a run of tasks 1 and 2, stopped in task 1 after 3 of 4 epochs."""

    def stop(progress: Progress) -> str:
        if progress.epoch == 3:
            raise KeyboardInterrupt
        return ""

    with monkeypatch.context() as patch:
        patch.setattr("memhop.cli.screen._figures", stop)
        assert memhop("train", "--data", data, "--name", "half", *TINY).status == 130
    return "half"
