"""Settings for all tests."""

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import settings

# Several tests run at once, each in a process. With more threads than cores, threads that wait for
# each other cost up to 20 times the work. Tests of threads set their number. Both variables are
# read when torch is loaded, here or in a process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell starts background jobs with SIGINT ignored, and the programs under test would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The duration of an example depends on the load of the machine.
# Where CI is set hypothesis draws the same examples every time.
settings.register_profile("memhop", settings(), deadline=None)
settings.load_profile("memhop")


class CompileFirst:
    """Compiles the kernels, or finds them on disk, before the workers run many tests."""

    many_tests = 1000
    done = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Wait for the compiler: no test runs before every worker has collected."""
        if not self.done and len(ids) >= self.many_tests:
            self.done = True
            # where it fails, the tests compile, and say what is wrong
            command = [sys.executable, "-W", "ignore", "-m", "memhop", "warmup"]
            subprocess.run(command, capture_output=True, check=False)


def pytest_configure(config: pytest.Config) -> None:
    """Compile in the process that starts the workers, where there are any."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(CompileFirst())
