"""Settings for all tests."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.processor_time import ProcessorTime

# Several test processes run at once. With more threads than cores, threads that wait for each other
# cost up to 20 times the work. torch reads both variables when it is imported, here or in a process
# that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell starts background jobs with SIGINT ignored, and child processes would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the duration of an example depends on the load of the machine.
# If CI is set, hypothesis draws the same examples every time.
settings.register_profile("memhop", settings(), deadline=None)
settings.load_profile("memhop")


class CompileFirst:
    """Compile the kernels, unless they are on disk, before the workers run many tests."""

    many_tests = 1000
    is_done = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Compile now: no test runs before every worker has collected."""
        if not self.is_done and len(ids) >= self.many_tests:
            self.is_done = True
            # if this fails, the tests compile and report the error
            command = [sys.executable, "-W", "ignore", "-m", "memhop", "warmup"]
            subprocess.run(command, capture_output=True, check=False)


def pytest_collection_finish() -> None:
    """Leave what the collection made out of each later search for garbage: a third of a second."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the end of the process find all objects again."""
    gc.unfreeze()


def pytest_configure(config: pytest.Config) -> None:
    """Measure the tests; compile in the process that starts the workers, if there are any."""
    config.pluginmanager.register(ProcessorTime())
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(CompileFirst())


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return a headless Chromium, one for all tests: playwright starts once in a process."""
    module = pytest.importorskip("tests.web.browser", reason="needs playwright")
    program = module.chromium()
    if program is None:
        pytest.skip("needs a Chromium")
    with module.launched_browser(program) as opened:
        yield opened
