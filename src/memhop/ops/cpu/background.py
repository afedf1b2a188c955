"""Compile the kernels of the fused form in another process, while the eager form serves.

A first large call on a new machine would wait half a minute for the compiler. ``is_ready`` starts a
process that compiles and returns False until the kernels are on disk. The process has a low
priority and outlives this one, so that a short program fills the cache too; it ends by itself.
"""

import logging
import math
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
from memhop.ops.inputs import Memory, storage

LOG = logging.getLogger("memhop")
POLL_SECONDS = 0.25  # between two looks at the disk
LIMIT_SECONDS = 1800  # after which the process ends, finished or not


class Compilation:
    """What is known of the kernels for one dtype."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.is_started = self.has_failed = False
        self.ready: set[bool] = set()  # for a forward alone (False), for both passes (True)
        self.next_look = 0.0

    def look(self, dtype: torch.dtype, backward: bool) -> bool:
        """Return whether the kernels can be loaded, and see to it that they are compiled."""
        if time.monotonic() < self.next_look:
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
            _warn_of_failure(self.process.returncode)
        self.next_look = time.monotonic() + POLL_SECONDS
        return False

    def start(self, dtype: torch.dtype) -> None:
        """Start the process, and a thread that waits for its end."""
        self.is_started = True
        self.process = start_compiler(str(dtype).removeprefix("torch."))
        threading.Thread(target=self.process.wait, name="memhop compiler", daemon=True).start()
        _log_once(
            "the eager form serves while memhop's kernels compile in the background, about half a "
            "minute once per machine; `memhop warmup` compiles them ahead of time"
        )

    def stop(self) -> None:
        """End the process, as this one compiles the same."""
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

    def of(self, dtype: torch.dtype) -> Compilation:
        return self.of_dtype.setdefault(dtype, Compilation())


_state = _State()


def _after_fork() -> None:
    """A forked child may hold a locked lock, and its parent's process is none of its children."""
    _state.lock = threading.Lock()
    for compilation in _state.of_dtype.values():
        compilation.process = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_ready(memory: Memory, num_queries: int, dtype: torch.dtype) -> bool:
    """Return whether a call that pays to be fused can take the fused form now.

    Where its kernels are not compiled yet, a process that compiles them is started and the result
    is False. Calls that record gradients need the kernels of both passes, so that the backward of
    a fused forward never waits.
    """
    if torch.compiler.is_compiling():
        return True  # the graph keeps its form, and its own compilation takes as long
    if memory.slots is None and math.prod(storage(memory.keys).shape[:-2]) < num_queries:
        return True  # a memory that queries share is read by torch's own products
    backward = torch.is_grad_enabled()
    compilation = _state.of(dtype)
    if backward in compilation.ready:
        return True
    if compilation.has_failed:
        return False
    with _state.lock:
        return compilation.look(dtype, backward)


def give_up(dtype: torch.dtype) -> None:
    """Take note that the kernels do not compile here: no other process is to try."""
    _state.of(dtype).has_failed = True


def stop(dtype: torch.dtype) -> None:
    """End the process that compiles kernels for a dtype, if there is one: this one compiles them.

    It would hold a lock at a low priority.
    """
    with _state.lock:
        _state.of(dtype).stop()


def are_kept(dtype: torch.dtype, backward: bool) -> bool:
    """Return whether the kernels are on disk; True where numba does not work, which says why."""
    try:
        from memhop.ops.cpu.jobs import is_kept, jobs_of
    except Exception:  # the fused form meets the same error and gives its one warning
        return True
    return all(is_kept(job, dtype) for job in jobs_of(backward))


def reason_to_wait() -> str | None:
    """Return why a call is to wait for the compiler, or None."""
    if torch.are_deterministic_algorithms_enabled():
        return "deterministic algorithms are asked for"
    if _has_saved_tensor_hooks():
        return "activation checkpointing needs the same form in both passes"
    if getattr(sys, "frozen", False) or not sys.executable:
        return "this program is frozen"
    if kernel_cache.writable_folder() is None:
        return "no folder for them can be written to; NUMBA_CACHE_DIR names another"
    return None


def _has_saved_tensor_hooks() -> bool:
    """Return whether saved tensors are hooked, as ``torch.utils.checkpoint`` does.

    It computes a forward again in the backward, and refuses another number of saved tensors.
    """
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is not None and top(True) is not None


def start_compiler(dtype: str) -> "subprocess.Popen[bytes]":
    """Start a process that compiles all kernels for a dtype, with the modules of this one."""
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
        start_new_session=True,  # Ctrl-C in the terminal is not for it
        **options,
    )


def main(dtype: str) -> None:
    """Compile all kernels for a dtype: what the process does."""
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


def _warn_of_failure(status: int) -> None:
    warnings.warn(
        f"memhop's kernels did not compile in the background (exit status {status}), so the eager "
        "form is used; `memhop warmup` says why",
        RuntimeWarning,
        stacklevel=2,
    )
