"""Run benchmarks and tables with --tiny in this process; the numbers are no results.

tests/benchmarks and tests/cli run the others with --tiny, and look at their rows.
"""

import inspect
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # processes that benchmarks start inherit it

from benchmarks.__main__ import main as run_benchmark
from benchmarks.registry import find_benchmarks
from memhop.cli import main as memhop

TESTED = {"attention", "crash", "hop", "knowledge", "shapes", "store", "window"}


def tiny_benchmarks() -> list[str]:
    """Return the benchmarks that run with --tiny alone; others need data, or have a test."""
    found = []
    benchmarks = find_benchmarks()
    assert benchmarks.keys() >= TESTED
    for name, benchmark in benchmarks.items():
        parameters = inspect.signature(benchmark.measure).parameters
        if (
            name not in TESTED
            and "tiny" in parameters
            and all(one.default is not one.empty for one in parameters.values())
        ):
            found.append(name)
    return found


def run_all() -> None:
    """Run them one after the other; exit with status 1 at the first that fails."""
    work = [(run_benchmark, [name, "--tiny"]) for name in tiny_benchmarks()]
    models = ["--models", "tracking,key-value", "--seeds", "1"]
    work += [
        (memhop, ["reproduce", "babi", "--tiny", "--restarts", "2"]),
        (
            memhop,
            ["reproduce", "table1", "--tiny", "--restarts", "2", "--columns", "pe,joint-rn"],
        ),
        (memhop, ["reproduce", "best", "--tiny", "--restarts", "2", "--seeds", "0-1"]),
        (memhop, ["reproduce", "pathquestion", "--tiny", *models]),
    ]
    for main, arguments in work:
        name, start = " ".join(arguments), time.perf_counter()
        print(f"-- {name}", flush=True)
        try:
            main(arguments)
        except SystemExit as end:
            if end.code:
                sys.exit(f"{name}: FAILED with status {end.code}")
        print(f"-- {name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":  # some benchmarks start processes that import this file
    run_all()
