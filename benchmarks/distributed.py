"""Measure one memory over several processes: CPU time, messages, and seconds until a failure."""

import datetime
import math
import multiprocessing
import os
import resource
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from memhop import MultiHop
from memhop.cli.reproduce import Tiny
from memhop.errors import MemhopError
from memhop.ops import GroupError
from memhop.reproduce.record import Rows, Sheet, provenance

TIMEOUT = 5.0  # of the group whose rank fails, in seconds


class Size(NamedTuple):
    """The size of the experiment; the defaults are those of the published numbers.

    Attributes:
        num_slots, input_dim, num_hops, num_queries: of the memory and of the call.
        rounds: calls with one process and with several take turns.
        ranks: the numbers of processes.
    """

    num_slots: int = 2_000_000
    input_dim: int = 128
    num_hops: int = 3
    num_queries: int = 8
    rounds: int = 9
    ranks: tuple[int, ...] = (2, 4)


TINY = Size(2000, 16, 2, 2, 1, (2,))


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Compare a memory over 2 and 4 processes with one."""
    size = TINY if tiny else Size()
    for num_ranks in size.ranks:
        with processes(num_ranks, 300.0, size) as pipes:
            counts = ask(pipes, "compare")
            turns = [(ask(pipes[:1], "alone")[0], ask(pipes, "group")) for _ in range(size.rounds)]
        one = statistics.median(alone for alone, _ in turns)
        together = statistics.median(sum(seconds) for _, seconds in turns)
        yield [{
            **size._asdict(), "ranks": num_ranks, "threads_a_rank": 1, "cpu_one_ms": 1000 * one,
            "cpu_together_ms": 1000 * together, "ratio": together / one,
            "collectives_a_hop": counts[0] / size.num_hops,
            "killed_seconds": seconds_until_error(size, num_ranks, signal.SIGKILL),
            "hung_seconds": seconds_until_error(size, num_ranks, signal.SIGSTOP),
            "timeout_seconds": TIMEOUT, **provenance(),
        }]  # fmt: skip


def seconds_until_error(size: Size, num_ranks: int, number: int) -> float:
    """Return the seconds from a signal to the last rank until all others raise an error."""
    small = size._replace(num_slots=1000 * num_ranks)
    with processes(num_ranks, TIMEOUT, small) as pipes:
        ask(pipes, "compare")
        for pipe in pipes:
            pipe.send("repeat")
        pids = [pipe.recv() for pipe in pipes]
        time.sleep(0.5)
        start = time.monotonic()
        os.kill(pids[-1], number)
        reported = [float(received(pipe)) for pipe in pipes[:-1]]
        return max(reported) - start


@contextmanager
def processes(num_ranks: int, timeout: float, size: Size) -> Iterator[list[Connection]]:
    """Yield the pipes of processes, each of which is a rank."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pairs = [context.Pipe() for _ in range(num_ranks)]
        started = [
            context.Process(
                target=serve, daemon=True,
                args=(far, str(Path(folder, "store")), rank, num_ranks, timeout, size),
            )
            for rank, (_, far) in enumerate(pairs)
        ]  # fmt: skip
        try:
            for process, (_, far) in zip(started, pairs, strict=True):
                process.start()
                far.close()
            yield [near for near, _ in pairs]
        finally:
            for process in started:
                process.kill()
                process.join()


def ask(pipes: list[Connection], word: str) -> list[Any]:
    """Return what each process answers."""
    for pipe in pipes:
        pipe.send(word)
    return [received(pipe) for pipe in pipes]


def received(pipe: Connection) -> Any:
    """Return the next answer of a process."""
    if not pipe.poll(300):
        raise MemhopError("expected an answer of a process within 300 s, got none")
    return pipe.recv()


class Call:
    """A call of a layer in one rank: over its own slots and the group, or over all slots."""

    def __init__(self, rank: int, num_ranks: int, size: Size) -> None:
        torch.manual_seed(0)
        self.net = MultiHop(size.input_dim, size.input_dim, size.num_hops)
        self.query = torch.randn(size.num_queries, size.input_dim)
        ends = [size.num_slots * each // num_ranks for each in range(num_ranks + 1)]
        if rank == 0:  # which has all slots to compare with; its shard is a view
            self.whole = torch.empty(size.num_slots, size.input_dim)
            for first, last in pairwise(ends):
                self.whole[first:last] = shard(first, last, size)
            self.own = self.whole[ends[0] : ends[1]]
        else:
            self.own = shard(ends[rank], ends[rank + 1], size)

    @torch.no_grad()
    def group(self) -> Tensor:
        """Return the result over the group."""
        result: Tensor = self.net(self.query, self.own, group=dist.group.WORLD)
        return result

    @torch.no_grad()
    def alone(self) -> Tensor:
        """Return the result over all slots in this process."""
        result: Tensor = self.net(self.query, self.whole)
        return result


def shard(first: int, last: int, size: Size) -> Tensor:
    """Return slots, drawn by a seed of their own."""
    generator = torch.Generator().manual_seed(first)
    rows = torch.randn(last - first, size.input_dim, generator=generator)
    return rows / math.sqrt(size.input_dim)


def serve(
    pipe: Connection, store: str, rank: int, num_ranks: int, timeout: float, size: Size
) -> None:
    """Answer the words of a pipe in a process."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=num_ranks,
        timeout=datetime.timedelta(seconds=timeout),
    )  # fmt: skip
    call = Call(rank, num_ranks, size)
    answers: dict[str, Callable[[], Any]] = {
        "compare": lambda: compare(rank, call),
        "alone": lambda: cpu_seconds(call.alone),
        "group": lambda: cpu_seconds(call.group),
        "repeat": lambda: repeat(pipe, call),
    }
    while True:
        pipe.send(answers[pipe.recv()]())


def compare(rank: int, call: Call) -> int:
    """Check the result over the group in rank 0, and return the number of its messages."""
    calls = 0
    name = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
    original = getattr(dist, name)

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*arguments, **options)

    setattr(dist, name, counted)
    try:
        found = call.group()
    finally:
        setattr(dist, name, original)
    if rank == 0:
        call.alone()
        torch.testing.assert_close(found, call.alone(), rtol=1e-5, atol=1e-5)
    return calls


def repeat(pipe: Connection, call: Call) -> float:
    """Send the number of the process, call until another rank fails, and return the time."""
    pipe.send(os.getpid())
    try:
        while True:
            call.group()
    except GroupError:
        return time.monotonic()


def cpu_seconds(call: Callable[[], object]) -> float:
    """Return the CPU time of a call in this process, with its threads and the system's."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    call()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def sheets(rows: Rows) -> list[Sheet]:
    """Return the table of the rows."""
    first = rows[0]
    lines = [
        [
            row["ranks"], f"{float(row['cpu_one_ms']):,.0f} ms",
            f"{float(row['cpu_together_ms']):,.0f} ms", f"{float(row['ratio']):.2f}",
            f"{float(row['collectives_a_hop']):g}", f"{float(row['killed_seconds']):.2f} s",
            f"{float(row['hung_seconds']):.2f} s",
        ]
        for row in rows
    ]  # fmt: skip
    columns = (
        "ranks", "CPU, one process", "CPU, all ranks", "ratio", "collectives a hop",
        "killed rank reported", "hung rank reported",
    )  # fmt: skip
    note = (
        f"{int(first['num_slots']):,} slots of {first['input_dim']} float32, "
        f"{first['num_queries']} queries, {first['num_hops']} hops, one thread a rank, gloo over "
        f"loopback, medians of {first['rounds']} turns. The CPU time is that of one call, of all "
        f"threads, the system's included. Failures: the timeout is "
        f"{float(first['timeout_seconds']):g} s, and the time that of the last rank that reports."
    )
    return [Sheet("One memory over several processes", columns, lines, note)]
