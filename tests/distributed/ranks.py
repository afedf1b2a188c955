"""Ranks of a process group: processes that run jobs, with a timeout of their own.

A job is a function ``job(rank, *arguments)`` of a module, which a rank imports by its name. A rank
ends when its pool does: its pipe is then closed.
"""

import datetime
import multiprocessing
import os
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
import torch.distributed as dist

CONTEXT = multiprocessing.get_context("forkserver")
# imported once, and not in every rank
CONTEXT.set_forkserver_preload(
    [
        *("torch.distributed.checkpoint", "torch.distributed.fsdp"),
        *("torch.distributed.tensor.parallel", "memhop.ops"),
    ]
)

Job = Callable[..., Any]


class Outcome(NamedTuple):
    """What a job returned, or the error that it raised, with the seconds that it took."""

    value: Any
    error: str
    seconds: float


class Ranks:
    """Processes 0 to W - 1 of a gloo group over the loopback interface.

    Args:
        num_ranks: W.
        timeout: seconds after which a collective fails.
        is_hosted: the store of the group is in rank 0, and not in a file.
    """

    def __init__(self, num_ranks: int, timeout: float = 300.0, is_hosted: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory()
        store = str(free_port() if is_hosted else Path(self._folder.name) / "store")
        self._pipes: list[Connection] = []
        self.processes: list[Any] = []
        for rank in range(num_ranks):
            pipe, far_end = CONTEXT.Pipe()
            process = CONTEXT.Process(
                target=serve, args=(far_end, store, rank, num_ranks, timeout), daemon=True
            )
            process.start()
            far_end.close()
            self._pipes.append(pipe)
            self.processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for process, pipe in zip(self.processes, self._pipes, strict=True):
            process.kill()
            process.join()
            process.close()
            pipe.close()
        self._folder.cleanup()

    def kill(self, rank: int) -> None:
        """Kill a rank by SIGKILL."""
        os.kill(self.processes[rank].pid, signal.SIGKILL)

    def start(self, job: Job, *arguments: Any, ranks: Sequence[int] | None = None) -> None:
        """Start a job on ranks, by default on all."""
        for rank in range(len(self._pipes)) if ranks is None else ranks:
            self._pipes[rank].send((job, arguments))

    def outcomes(self, ranks: Sequence[int] | None = None, timeout: float = 300.0) -> list[Outcome]:
        """Return what the started job gave on ranks, by default on all.

        Raises:
            TimeoutError: a rank has not finished; all are killed.
            EOFError: a rank has ended.
        """
        ranks = range(len(self._pipes)) if ranks is None else ranks
        pending, deadline = {self._pipes[rank]: rank for rank in ranks}, time.monotonic() + timeout
        found = {}
        while pending:
            ready = wait(list(pending), deadline - time.monotonic())
            if not ready:
                for process in self.processes:
                    process.kill()
                raise TimeoutError(f"ranks {[*pending.values()]} did not finish in {timeout} s")
            for pipe in ready:
                assert isinstance(pipe, Connection)
                found[pending.pop(pipe)] = pipe.recv()
        return [found[rank] for rank in ranks]

    def run(self, job: Job, *arguments: Any) -> list[Any]:
        """Return what a job returns on all ranks."""
        self.start(job, *arguments)
        outcomes = self.outcomes()
        errors = [each.error for each in outcomes if each.error]
        assert not errors, "\n".join(errors)
        return [each.value for each in outcomes]


def free_port() -> int:
    """Return a port of the loopback interface that no process uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def serve(pipe: Connection, store: str, rank: int, num_ranks: int, timeout: float) -> None:
    """Run the jobs of a pipe in a rank."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    method = f"tcp://127.0.0.1:{store}" if store.isdigit() else f"file://{store}"
    dist.init_process_group(
        "gloo", init_method=method, rank=rank, world_size=num_ranks,
        timeout=datetime.timedelta(seconds=timeout),
    )  # fmt: skip
    with suppress(EOFError):
        while True:
            job, arguments = pipe.recv()
            start = time.monotonic()
            try:
                outcome = Outcome(job(rank, *arguments), "", 0.0)
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                is_assertion = isinstance(error, AssertionError)
                outcome = Outcome(None, traceback.format_exc() if is_assertion else text, 0.0)
            pipe.send(outcome._replace(seconds=time.monotonic() - start))


_GROUPS: dict[int, Any] = {}


def first_ranks(rank: int, num_ranks: int) -> Any:
    """Return the group of the first ranks of a process group; all ranks of it must call this."""
    if num_ranks == dist.get_world_size():
        return dist.group.WORLD
    if num_ranks not in _GROUPS:
        _GROUPS[num_ranks] = dist.new_group(list(range(num_ranks)))
    return _GROUPS[num_ranks]


class Collectives:
    """Count the calls of the collectives of ``torch.distributed`` in a context."""

    NAMES = (
        "all_gather", "all_gather_into_tensor", "all_gather_object", "all_gather_single",
        "all_reduce", "all_to_all",
        "all_to_all_single", "barrier", "broadcast", "gather", "recv", "reduce",
        "reduce_scatter_tensor", "scatter", "send",
    )  # fmt: skip

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._originals = {name: getattr(dist, name) for name in self.NAMES if hasattr(dist, name)}

    def __enter__(self) -> dict[str, int]:
        for name, original in self._originals.items():
            setattr(dist, name, self._counted(name, original))
        return self.counts

    def _counted(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        name = "all_gather" if name.startswith("all_gather") else name  # one name for all versions

        def call(*arguments: Any, **options: Any) -> Any:
            self.counts[name] = self.counts.get(name, 0) + 1
            return original(*arguments, **options)

        return call

    def __exit__(self, *_: object) -> None:
        for name, original in self._originals.items():
            setattr(dist, name, original)
