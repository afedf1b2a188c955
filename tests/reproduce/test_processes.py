"""Work in processes: every result arrives, and no process outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from memhop.errors import MemhopError
from memhop.reproduce.processes import run_in_processes

ENDLESS = """
import os, sys, time
from pathlib import Path
from memhop.reproduce.processes import run_in_processes

def touch_and_sleep(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    list(run_in_processes(touch_and_sleep, sys.argv[1:] * 2, 2))
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(met: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_each_piece_of_work_has_its_result() -> None:
    assert sorted(run_in_processes(abs, [-3, 1, -2], 2)) == [(-3, 3), (-2, 2), (1, 1)]


@pytest.mark.slow  # starts processes
def test_a_killed_process_is_an_error_after_the_finished_work() -> None:
    found = run_in_processes(os._exit, [1], 1)
    with pytest.raises(MemhopError, match="one was killed: is there enough memory"):
        next(found)


@pytest.mark.slow  # a process that is killed
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_when_their_parent_is_killed_the_processes_end(tmp_path: Path) -> None:
    script, begun = tmp_path / "endless.py", tmp_path / "begun"
    script.write_text(ENDLESS)
    begun.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(begun)])
    wait_until(lambda: len([*begun.iterdir()]) == 2)
    working = [int(path.name) for path in begun.iterdir()]
    assert all(map(is_alive, working))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not any(map(is_alive, working)))
