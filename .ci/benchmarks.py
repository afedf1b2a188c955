"""Run every benchmark with --tiny in this process. The results of a tiny run are no results."""

import sys
import time

import typer.main

from benchmarks.__main__ import app, main

NEEDS_DATA = {"transfer"}  # the released stories; tests/benchmarks/test_transfer.py runs it


def run_all() -> None:
    """Run them one after the other; exit with status 1 at the first that fails."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        has_tiny = any("--tiny" in parameter.opts for parameter in command.params)
        if name in NEEDS_DATA or not has_tiny:
            continue
        print(f"-- bench {name} --tiny", flush=True)
        begun = time.perf_counter()
        try:
            main([name, "--tiny"])
        except SystemExit as end:
            if end.code:
                sys.exit(f"bench {name} --tiny: FAILED with status {end.code}")
        print(f"-- bench {name} --tiny: {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":  # some benchmarks start processes that import this file
    run_all()
