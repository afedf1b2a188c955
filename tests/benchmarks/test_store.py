"""The benchmark of a store measures each bar."""

from pathlib import Path

from benchmarks.store import by_turns
from memhop.reproduce.record import read_rows

from .conftest import Runner


def test_each_bar_is_a_row(run: Runner) -> None:
    done = run("store", "--tiny", "--to", "store.csv")
    assert (done.status, done.out.startswith("A store:")) == (0, True)
    rows = read_rows(Path("store.csv"))
    assert [row["bar"] for row in rows] == [
        "at most 1.5", "at most 2", "", *["at most 10 ms"], *["at most 50 ms"] * 3, "at most 1.05"
    ]  # fmt: skip
    assert all(float(row["milliseconds"]) > 0 for row in rows)


def test_works_run_by_turns() -> None:
    calls: list[str] = []
    seconds = by_turns(3, lambda: calls.append("a"), lambda: calls.append("b"))
    assert calls == ["b", "a", "a", "b", "b", "a"]
    assert len(seconds) == 2
