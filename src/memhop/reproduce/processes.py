"""Work in several processes of one thread each, so that none waits for another."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

Work = TypeVar("Work")
Result = TypeVar("Result")


def in_processes(
    call: Callable[[Work], Result], left: Sequence[Work], jobs: int
) -> Iterator[tuple[Work, Result]]:
    """Call for each piece of work, the first ones first; each with its result as it ends."""
    context = multiprocessing.get_context("spawn")
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read by a process when it starts
    try:
        with ProcessPoolExecutor(jobs, context, initializer=_begin) as pool:
            running = {pool.submit(call, work): work for work in left}
            try:
                yield from _as_they_end(running)
            finally:  # where nobody waits for the rest any more
                pool.shutdown(wait=False, cancel_futures=True)
                for process in (getattr(pool, "_processes", None) or {}).values():
                    process.terminate()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _as_they_end(running: dict[Future[Result], Work]) -> Iterator[tuple[Work, Result]]:
    waiting = set(running)
    while waiting:
        ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in ended:
            yield running[future], future.result()


def _begin() -> None:
    _one_thread()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """What is computed for a parent that was killed is for nobody, and takes others' time."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _one_thread() -> None:
    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread in this process too, and then with as many as before."""
    before = torch.get_num_threads()
    _one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(before)
