"""Measure the changes, the opening and the reads of a store, against the same work without one.

All of it runs in one folder, and what is compared runs by turns: the speed of a device changes.
"""

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memhop import ops
from memhop.cli.reproduce import Tiny
from memhop.cli.settings import Threads, use
from memhop.reproduce.record import Rows, Sheet, provenance
from memhop.storage.store import Store

DIM, BATCH, DELETED = 128, 10_000, 1_000


class _Size(NamedTuple):
    singles: int  # rows that are added one by one
    batches: int
    deletes: int  # batches
    rows: int  # of the store that is opened and read
    rounds: int


_FULL = _Size(singles=1000, batches=40, deletes=40, rows=1_000_000, rounds=15)
_TINY = _Size(singles=10, batches=3, deletes=3, rows=20_000, rounds=3)


def measure(threads: Threads = 1, tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Measure adds, deletes, opening and reads of a store."""
    use(threads)
    size = _TINY if tiny else _FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield [_single_adds(folder, size)]
        yield [_batches(folder, size, with_texts=False)]
        yield [_batches(folder, size, with_texts=True)]
        _fill(folder / "rows", size.rows, with_texts=False)
        yield [_deletes(folder / "rows", size)]
        _fill(folder / "rows with texts", size.rows, with_texts=True)
        yield [_opening(folder / "rows", size, "", is_cold=False)]
        yield [_opening(folder / "rows with texts", size, " with ids and texts", is_cold=False)]
        yield [_opening(folder / "rows with texts", size, " with ids and texts", is_cold=True)]
        yield [_reads(folder / "rows", size)]


def _single_adds(folder: Path, size: _Size) -> dict[str, Any]:
    vectors, content = torch.randn(size.singles, DIM), bytes(DIM * 4)
    numbers = iter(range(size.singles))
    with ExitStack() as stack, Store(folder / "singles", DIM) as store:
        bare = stack.enter_context((folder / "bare").open("wb", buffering=0))

        def two_syncs() -> None:
            for _ in range(2):
                bare.write(content)
                os.fsync(bare.fileno())

        seconds = by_turns(size.singles, two_syncs, lambda: store.add(vectors[next(numbers)]))
    return _row("add 1 row", "two writes of 512 bytes, each with fsync", seconds, "at most 1.5")


def _batches(folder: Path, size: _Size, *, with_texts: bool) -> dict[str, Any]:
    vectors = torch.randn(BATCH, DIM)
    content = vectors.numpy().data.cast("B")
    numbers = iter(range(size.batches))
    name = "texts" if with_texts else "plain"
    with ExitStack() as stack, Store(folder / name, DIM) as store:
        bare = stack.enter_context((folder / f"bare {name}").open("wb", buffering=0))

        def write() -> None:
            bare.write(content)
            os.fsync(bare.fileno())

        def add() -> None:
            number = next(numbers)
            store.add(vectors, **(_texts(number * BATCH, BATCH) if with_texts else {}))

        seconds = by_turns(size.batches, write, add)
    what = f"add {BATCH:,} rows" + (" with ids and texts" if with_texts else "")
    bar = "" if with_texts else "at most 2"
    return _row(what, "one write of the vectors, with fsync", seconds, bar)


def _deletes(path: Path, size: _Size) -> dict[str, Any]:
    with Store(path) as store:
        ids = random.Random(0).sample(range(size.rows), size.deletes * DELETED)
        batches = iter(ids[i : i + DELETED] for i in range(0, len(ids), DELETED))
        (seconds,) = by_turns(size.deletes, lambda: store.delete(next(batches)))
    what = f"delete {DELETED:,} rows of {size.rows:,}, random ids"
    return _row(what, "", [seconds], "at most 10 ms")


def _opening(path: Path, size: _Size, which: str, *, is_cold: bool) -> dict[str, Any]:
    def open_it() -> None:
        with Store(path) as store:
            store.snapshot()

    if not is_cold:
        (seconds,) = by_turns(size.rounds, open_it)
    else:
        times = []
        for _ in range(size.rounds):
            evict(path)
            times += by_turns(1, open_it)
        seconds = statistics.median(times)
    cache = "not in the page cache" if is_cold else "in the page cache"
    return _row(f"open {size.rows:,} rows{which}, {cache}", "", [seconds], "at most 50 ms")


def _reads(path: Path, size: _Size) -> dict[str, Any]:
    with Store(path) as store:
        memories, mask, _ = store.snapshot()
        assert isinstance(memories, Tensor)
        in_ram, query = memories.clone(), torch.randn(DIM)
        outs = [ops.read(query, each, padding_mask=mask) for each in (in_ram, memories)]
        assert torch.equal(*outs)
        seconds = by_turns(
            3 * size.rounds,
            lambda: ops.read(query, in_ram, padding_mask=mask),
            lambda: ops.read(query, memories, padding_mask=mask),
        )
    return _row(f"masked read of {size.rows:,} rows", "a tensor in RAM", seconds, "at most 1.05")


def by_turns(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Return the median seconds of each work; they run one after the other in each round."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        turns = list(enumerate(works))
        for place, work in turns if number % 2 else reversed(turns):
            start = time.perf_counter()
            work()
            times[place].append(time.perf_counter() - start)
    return list(map(statistics.median, times))


def evict(folder: Path) -> None:
    """Remove the files of a folder from the page cache, where the system can."""
    for file in folder.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _fill(path: Path, rows: int, *, with_texts: bool) -> None:
    with Store(path, DIM) as store:
        for first in range(0, rows, BATCH):
            given = _texts(first, BATCH) if with_texts else {}
            store.add(torch.randn(BATCH, DIM), **given)


def _texts(first: int, count: int) -> dict[str, Any]:
    numbers = range(first, first + count)
    return {
        "ids": [f"passage {number}" for number in numbers],
        "texts": [f"The text of passage {number}. {'It has words. ' * 7}" for number in numbers],
    }


def _row(what: str, baseline: str, seconds: list[float], bar: str) -> dict[str, Any]:
    *bare, ours = seconds
    return {
        "what": what,
        "milliseconds": round(1000 * ours, 3),
        "baseline": baseline,
        "baseline_milliseconds": round(1000 * bare[0], 3) if bare else "",
        "ratio": round(ours / bare[0], 3) if bare else "",
        "bar": bar,
        **provenance(),
    }


def sheets(rows: Rows) -> list[Sheet]:
    """Return the rows as a table."""
    lines = []
    for row in rows:
        ratio = f"{float(row['ratio']):.2f}" if row["ratio"] else ""
        baseline = f"{float(row['baseline_milliseconds']):.2f}" if ratio else ""
        name = row["baseline"]
        lines.append([row["what"], f"{float(row['milliseconds']):.2f}", baseline, ratio,
                      row["bar"], name])  # fmt: skip
    note = (
        f"Medians in a process that has opened a store before; rows of {DIM} floats. Each change "
        "is on the device when the call returns. A ratio is to the baseline, which ran by turns in "
        "the same folder."
    )
    columns = ("", "ms", "baseline ms", "ratio", "bar", "baseline")
    return [Sheet("A store", columns, lines, note)]
