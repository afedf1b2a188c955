"""Run work in several processes of one thread each: threads would wait for each other."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import torch

from memhop.errors import MemhopError

Work = TypeVar("Work")
Result = TypeVar("Result")


def run_in_processes(
    call: Callable[[Work], Result], work: Sequence[Work], jobs: int
) -> Iterator[tuple[Work, Result]]:
    """Call ``call`` for each piece of work in order; yield it with its result as it completes.

    Raises:
        MemhopError: a process was killed. The results before it have been yielded.
    """
    context = multiprocessing.get_context("spawn")
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # a process reads it when it starts
    try:
        with ProcessPoolExecutor(jobs, context, initializer=_start_worker) as pool:
            running = {pool.submit(call, piece): piece for piece in work}
            try:
                for future in as_completed(running):
                    yield running[future], future.result()
            except BrokenProcessPool as error:
                raise MemhopError(
                    "expected results of all processes, but one was killed: is there enough memory?"
                ) from error
            finally:  # the caller may have stopped early
                pool.shutdown(wait=False, cancel_futures=True)
                for process in (getattr(pool, "_processes", None) or {}).values():
                    process.terminate()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _start_worker() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_exit_with_the_parent, daemon=True).start()


def _exit_with_the_parent() -> None:
    """Exit when the parent is killed: nobody reads the result."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread in this process; restore the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
