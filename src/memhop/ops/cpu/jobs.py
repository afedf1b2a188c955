"""The kernels as jobs: C functions of the address of a ``JOB`` record, which threads call."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from memhop.ops.cpu.backward import SORT, backward, sort_slots, write_bank
from memhop.ops.cpu.forward import forward
from memhop.ops.cpu.kernel_cache import KernelCache
from memhop.ops.cpu.numba_ext import (
    JOB_SIGNATURE,
    compiled,
    fetch_and_add,
    integers_at,
    job,
    records_at,
)
from memhop.ops.cpu.rows import CALL, JOB, TARGET, WORKSPACE
from memhop.ops.cpu.weight_grad import write_weights

WORKSPACE_BYTES = WORKSPACE.itemsize


@compiled
def _record_at(address, layout):  # type: ignore[no-untyped-def]
    return records_at(address, 1, layout)[0]


@compiled
def _own_workspace(address):  # type: ignore[no-untyped-def]
    """Return the workspace of this thread."""
    worker = fetch_and_add(address + 8, 1)
    workspaces = _record_at(address, JOB).workspaces
    return _record_at(workspaces + WORKSPACE_BYTES * worker, WORKSPACE)


@compiled
def _forward(address, like):  # type: ignore[no-untyped-def]
    job = _record_at(address, JOB)
    forward(_record_at(job.call, CALL), job, address, _own_workspace(address), like)


@compiled
def _backward(address, like):  # type: ignore[no-untyped-def]
    job = _record_at(address, JOB)
    call, targets = _record_at(job.call, CALL), records_at(job.targets, job.num_targets, TARGET)
    backward(call, targets, job, address, _own_workspace(address), like)


@compiled
def _write_bank(address, like):  # type: ignore[no-untyped-def]
    job = _record_at(address, JOB)
    call, starts = _record_at(job.call, CALL), integers_at(job.starts, job.bank_rows + 1)
    order = integers_at(job.order, call.rows * call.num_slots)
    if job.stages & SORT:
        sort_slots(call, starts, order)
    else:
        target = _record_at(job.targets, TARGET)
        write_bank(call, target, starts, order, address, _own_workspace(address), like)


@compiled
def _write_weights(address, like):  # type: ignore[no-untyped-def]
    job = _record_at(address, JOB)
    write_weights(_record_at(job.call, CALL), job, like)


KERNELS = {
    "forward": _forward, "backward": _backward, "write_bank": _write_bank,
    "write_weights": _write_weights,
}  # fmt: skip
ZEROS: dict[torch.dtype, Any] = {torch.float32: np.float32(0), torch.float64: np.float64(0)}


@functools.cache
def function_of(name: str, dtype: torch.dtype) -> Callable[[int], None]:
    """Return a kernel for a dtype as a function of the address of a record, not yet compiled."""
    kernel, like = KERNELS[name], ZEROS[dtype]

    def run(address: int) -> None:
        kernel(address, like)

    run.__qualname__ = run.__name__ = f"{name}_{like.dtype}"
    return run


@functools.cache
def compiled_job(name: str, dtype: torch.dtype) -> Any:
    """Return a job, compiled or from the cache, with the address of its C function."""
    return job(function_of(name, dtype))


def is_kept(name: str, dtype: torch.dtype) -> bool:
    """Return whether the compiled job is on disk."""
    return KernelCache(function_of(name, dtype)).is_kept(JOB_SIGNATURE)


def jobs_of(backward: bool) -> tuple[str, ...]:
    """Return the names of the jobs of a forward pass, or of both passes."""
    return tuple(KERNELS) if backward else ("forward",)
