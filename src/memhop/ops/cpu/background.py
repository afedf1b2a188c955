"""Compile the kernels of the fused form in another process; until then, calls fall back to eager.

A first large call on a new machine would wait half a minute for the compiler. ``is_ready`` starts a
process that compiles, and returns False until the kernels are on disk. The process has a low
priority and outlives this one, so that a short program fills the cache too; it ends by itself.

This module does not import numba, which takes a quarter of a second.
"""

import functools
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from memhop.ops.cpu import kernel_cache

LOG = logging.getLogger("memhop")
POLL_SECONDS = 0.25  # between two checks of the disk
LIMIT_SECONDS = 1800  # timeout of the process


class Compilation:
    """The state of the kernels for one dtype."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.is_started = self.has_failed = False
        self.ready: set[bool] = set()  # for a forward alone (False), for both passes (True)
        self.next_check = 0.0

    def check(self, dtype: torch.dtype, backward: bool) -> bool:
        """Return whether the kernels can be loaded; if not, start compiling them."""
        if time.monotonic() < self.next_check:
            return False
        is_kept = are_kept(dtype, backward)
        reason = None if is_kept else reason_to_wait()
        if reason is not None:
            _log_once(f"this call waits for its kernels to compile, about half a minute: {reason}")
        if is_kept or reason is not None:
            self.ready.add(backward)
            return True
        if not self.is_started:
            self.start(dtype)
        elif self.process is not None and self.process.returncode is not None:
            self.has_failed = True
            warnings.warn(
                "memhop's kernels did not compile in the background (exit status "
                f"{self.process.returncode}), so the eager form is used; `memhop warmup` shows the "
                "error",
                RuntimeWarning,
                stacklevel=2,
            )
        self.next_check = time.monotonic() + POLL_SECONDS
        return False

    def start(self, dtype: torch.dtype) -> None:
        """Start the process, and a thread that waits until it exits."""
        self.is_started = True
        self.process = start_compiler(str(dtype).removeprefix("torch."))
        threading.Thread(target=self.process.wait, name="memhop compiler", daemon=True).start()
        _log_once(
            "memhop compiles its kernels in the background, half a minute once per machine; calls "
            "fall back to the eager form until then; `memhop warmup` compiles them ahead of time"
        )

    def stop(self) -> None:
        """Terminate the process."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        self.process, self.is_started = None, False


class _State:
    """The compilations of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.of_dtype: dict[torch.dtype, Compilation] = {}
        self.logged: set[str] = set()
        self.loaded: set[tuple[str, torch.dtype]] = set()

    def of(self, dtype: torch.dtype) -> Compilation:
        known = self.of_dtype.get(dtype)
        return self.of_dtype.setdefault(dtype, Compilation()) if known is None else known


_state = _State()


def _after_fork() -> None:
    """Reset a lock that another thread may hold, and forget a process that is not a child."""
    _state.lock = threading.Lock()
    for compilation in _state.of_dtype.values():
        compilation.process = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_ready(dtype: torch.dtype) -> bool:
    """Return whether the kernels for a dtype are compiled; if not, start a process that does it.

    Calls that record gradients need the kernels of both passes, so that the backward of a fused
    forward never waits.
    """
    if torch.compiler.is_compiling():
        return True  # a graph keeps its form, and compiling it takes as long
    backward = torch.is_grad_enabled()
    compilation = _state.of(dtype)
    if backward in compilation.ready:
        return True
    if compilation.has_failed:
        return False
    with _state.lock:
        return compilation.check(dtype, backward)


def give_up(dtype: torch.dtype) -> None:
    """Record that the kernels do not compile here, so that no other process tries."""
    _state.of(dtype).has_failed = True


def stop(dtype: torch.dtype) -> None:
    """Terminate the process that compiles the kernels for a dtype, if there is one."""
    with _state.lock:
        _state.of(dtype).stop()


@functools.cache
def ready_job(name: str, dtype: torch.dtype) -> Any:
    """Return a job, compiled now if it is not on disk.

    The background process would hold the lock of the cache at a low priority, so it is stopped.
    """
    from memhop.ops.cpu.jobs import compiled_job, is_kept

    if not is_kept(name, dtype):
        stop(dtype)
    job = compiled_job(name, dtype)
    _state.loaded.add((name, dtype))
    return job


def is_loaded(dtype: torch.dtype, backward: bool) -> bool:
    """Return whether this process has loaded the kernels, and a call of any size may use them."""
    loaded = _state.loaded
    return ("forward", dtype) in loaded and (not backward or ("backward", dtype) in loaded)


def are_kept(dtype: torch.dtype, backward: bool) -> bool:
    """Return whether the kernels are on disk; True if numba does not work."""
    try:
        from memhop.ops.cpu.jobs import is_kept, jobs_of
    except Exception:  # the fused form raises it again, and warns once
        return True
    return all(is_kept(job, dtype) for job in jobs_of(backward))


def reason_to_wait() -> str | None:
    """Return why a call must wait for the compiler, or None."""
    if torch.are_deterministic_algorithms_enabled():
        return "torch.use_deterministic_algorithms is on"
    if has_saved_tensor_hooks():
        return "activation checkpointing needs the same form in both passes"
    if getattr(sys, "frozen", False) or not sys.executable:
        return "this program is frozen"
    if kernel_cache.writable_folder() is None:
        return "no cache folder is writable; set NUMBA_CACHE_DIR to one that is"
    return None


def has_saved_tensor_hooks() -> bool:
    """Return whether saved tensors have hooks, as in ``torch.utils.checkpoint``.

    It recomputes the forward in the backward, and raises if the number of saved tensors changed.
    """
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return hooks is not None and hooks(True) is not None


def start_compiler(dtype: str) -> "subprocess.Popen[bytes]":
    """Start a process that compiles all kernels for a dtype, from the same modules as this one."""
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join([root, *map(os.path.abspath, sys.path)])
    program = f"from memhop.ops.cpu.background import main; main({dtype!r})"
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.BELOW_NORMAL_PRIORITY_CLASS
    return subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-c", program],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal does not reach it
        **options,
    )


def main(dtype: str) -> None:
    """Compile all kernels for a dtype; the main function of the process."""
    import faulthandler

    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    if hasattr(os, "nice"):
        os.nice(19)
    from memhop.ops.cpu.jobs import compiled_job, jobs_of

    for job in jobs_of(backward=True):
        compiled_job(job, getattr(torch, dtype))


def _log_once(message: str) -> None:
    if message not in _state.logged:
        _state.logged.add(message)
        LOG.warning(message)
