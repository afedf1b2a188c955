"""Run compiled code on several threads: those of torch's OpenMP library if possible.

numba's thread layers abort the process when two threads enter one, kill a forked child that uses
them after its parent did, or compete with torch's threads, which wait for work by spinning. So the
threads of torch's OpenMP library run compiled code too. Otherwise, and in a forked child, where
those threads do not exist, a thread pool runs it.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch


class _Pool:
    """A thread pool, created at its first use; a forked child has its own."""

    def __init__(self, forked: bool) -> None:
        self.forked = forked
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                workers = max(32, os.cpu_count() or 1)  # started when they are needed
                self._executor = ThreadPoolExecutor(workers, thread_name_prefix="memhop")
            return self._executor


_pool = _Pool(forked=False)


def _forget() -> None:
    global _pool
    _pool = _Pool(forked=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@functools.cache
def _parallel() -> Callable[..., None] | None:
    """Return ``GOMP_parallel`` of the OpenMP library that torch has loaded, or None.

    It calls a C function with an address on a number of threads, the caller included.
    """
    with suppress(OSError):
        lines = Path("/proc/self/maps").read_text().splitlines()
        paths = {line.split(maxsplit=5)[-1] for line in lines if "/torch" in line}
        for path in sorted(path for path in paths if "libgomp" in path or "libiomp" in path):
            with suppress(OSError, AttributeError):
                parallel = ctypes.CDLL(path).GOMP_parallel
                parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
                parallel.restype = None
                return parallel
    return None


def count() -> int:
    """Return the number of threads that torch uses."""
    return torch.get_num_threads()


def run(job: Any, address: int, workers: int) -> None:
    """Call a compiled job on a number of threads, and wait for all of them."""
    if workers == 1:
        job.ctypes(address)
        return
    parallel = None if _pool.forked else _parallel()
    if parallel is not None:
        parallel(job.address, address, workers, 0)
        return
    executor = _pool.executor()
    futures = [executor.submit(job.ctypes, address) for _ in range(workers - 1)]
    try:
        job.ctypes(address)
    finally:
        for future in futures:
            future.result()
