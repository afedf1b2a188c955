"""A few threads of our own for compiled code that runs without the interpreter's lock.

The thread layers that numba brings stop the process when two threads enter one, kill a forked child
that uses them after its parent did, or fight with torch's threads. These do none of that.
"""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch


class _Pool:
    """Made at its first use, and anew in a forked child, where the parent's threads do not run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                workers = max(32, os.cpu_count() or 1)  # started one by one, as they are needed
                self._executor = ThreadPoolExecutor(workers, thread_name_prefix="memhop")
            return self._executor


_pool = _Pool()


def _forget() -> None:
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def count() -> int:
    """How many parts to cut work into: as many as torch has threads."""
    return torch.get_num_threads()


def run(parts: Sequence[Callable[[], object]]) -> None:
    """Run all parts, the last one in the calling thread, and wait for all of them."""
    *others, own = parts
    if not others:
        own()
        return
    executor = _pool.executor()
    waiting = [executor.submit(part) for part in others]
    try:
        own()
    finally:
        for part in waiting:
            part.result()


def ranges(size: int, parts: int) -> list[tuple[int, int]]:
    """0 to size in at most so many ranges of nearly one length, none of them empty."""
    ends = [size * part // parts for part in range(parts + 1)]
    return [(first, last) for first, last in itertools.pairwise(ends) if first < last]
