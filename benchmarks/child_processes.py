"""Start processes of the benchmarks, from any working directory."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def child_command(module: str, job: str) -> list[str]:
    """Return the command that runs a module of the benchmarks for a job, a JSON text."""
    return [sys.executable, "-m", f"benchmarks.{module}", job]


def child_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with `variables`, in which children find the benchmarks."""
    search = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": search, **variables}
