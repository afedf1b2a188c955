"""A window against other ways to compute the same: the rows and the progress of a tiny run."""

from pathlib import Path

from benchmarks.window import Sizes
from memhop.reproduce.record import read_rows

from .conftest import Runner


def test_each_line_of_the_progress_says_what_is_measured(run: Runner) -> None:
    done = run("window", "--tiny", "--to", "window.csv")
    assert done.status == 0, done
    assert done.err.splitlines() == [
        f"sequences {sequences}, window {window}, gradients {gradients}"
        for sequences, window in ((2, 3), (1, 6))
        for gradients in (False, True)
    ]
    rows = read_rows(Path("window.csv"))
    assert len(rows) == 2 * 4 + 2 * 6  # forms with hops, and of one read
    assert rows[0].keys() > {*Sizes._fields, "form", "gradients", "cpu_ms"}
