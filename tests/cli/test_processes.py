"""The program as a process: closed pipes, full disks, Ctrl-C, and SIGKILL at any moment."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Program

PROGRAM = [sys.executable, "-c", "from memhop.cli import main; main()"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
LONG = ("--restarts", "2", "--set", "epochs=110", "--set", "linear_start_epochs=10")
LINE = ["train", "--data", "stories", "--task", "1", *LONG, "--threads", "1"]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], epoch: int) -> None:
    """Read standard error until an epoch is reported."""
    assert process.stderr is not None
    for line in process.stderr:
        output = line.partition(": epoch ")[2].partition("/")[0]
        if output and int(output) >= epoch:
            return
    raise AssertionError(f"it ended before epoch {epoch}")


def ended(run: str) -> list[bytes]:
    [folder] = (path for path in Path("runs", run, "qa1").iterdir() if path.is_dir())
    return [(folder / name).read_bytes() for name in ("model.safetensors", "metrics.csv")]


@pytest.fixture
def whole(memhop: Program, data: str) -> list[bytes]:
    """Return the files of an uninterrupted training."""
    memhop(*LINE, "--name", "whole").ok()
    return ended("whole")


@pytest.mark.slow
def test_ctrl_c_and_then_the_printed_command(memhop: Program, whole: list[bytes]) -> None:
    with started(*LINE) as process:
        wait_for(process, 20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    last = err.splitlines()[-1]
    assert "Traceback" not in err
    assert last.startswith("memhop: stopped; resume with: ")
    words = shlex.split(last)
    memhop(*words[words.index("train") :]).ok()
    assert ended("babi") == whole


@pytest.mark.slow
def test_a_training_killed_repeatedly_ends_with_the_same_files(
    memhop: Program, whole: list[bytes]
) -> None:
    line = [*LINE, "--name", "killed", "--resume"]
    for epoch in (1, 30, 60):
        with started(*line) as process:
            wait_for(process, epoch)
            process.kill()
        assert process.returncode == -signal.SIGKILL
    memhop(*line).ok()
    assert ended("killed") == whole


def test_a_closed_pipe(memhop: Program) -> None:
    with started("generate", "--questions", "20000") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("1 ")
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(memhop: Program) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "generate", "--questions", "1"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
    assert (done.returncode, done.stderr) == (2, b"memhop: No space left on device\n")


def test_python_m_memhop() -> None:
    line = [sys.executable, "-m", "memhop", "--version"]
    assert subprocess.run(line, capture_output=True, text=True).stdout.startswith("memhop ")
