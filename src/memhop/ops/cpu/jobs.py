"""What threads are given to do, as C functions of a record: see ``fused_cpu``."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from memhop.ops.cpu import background
from memhop.ops.cpu.backward import backward, order_by_place, write_bank
from memhop.ops.cpu.forward import forward
from memhop.ops.cpu.kernel_cache import KernelCache
from memhop.ops.cpu.numba_ext import JOB_SIGNATURE, compiled, job, records_at, take_turn
from memhop.ops.cpu.rows import TARGET, WORK, Block, Plan, integers_at, record

# Addresses, counters that threads take turns by, a plan; for a bank, how its rows are named. The
# address of the record is that of its first counter.
JOB = record(
    "turns", "workers", "work", "blocks", "stages", "first_hop", "last_hop", "by_rows", "pieces",
    "targets", "num_targets", "starts", "order", "bank_rows",
)  # fmt: skip
NUM_BLOCK_FIELDS = len(Block._fields)


@compiled
def _block_of(address):  # type: ignore[no-untyped-def]
    """Space for the thread that asks."""
    job = records_at(address, 1, JOB)[0]
    worker = take_turn(address + 8)
    at = integers_at(job.blocks + 8 * NUM_BLOCK_FIELDS * worker, NUM_BLOCK_FIELDS)
    return Block(
        at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8], at[9], at[10], at[11],
    )  # fmt: skip


@compiled
def _plan_of(address):  # type: ignore[no-untyped-def]
    job = records_at(address, 1, JOB)[0]
    return Plan(job.stages, job.first_hop, job.last_hop, job.by_rows, job.pieces)


@compiled
def _forward(address, like):  # type: ignore[no-untyped-def]
    work = records_at(records_at(address, 1, JOB)[0].work, 1, WORK)[0]
    forward(work, address, _plan_of(address), _block_of(address), like)


@compiled
def _backward(address, like):  # type: ignore[no-untyped-def]
    job = records_at(address, 1, JOB)[0]
    work = records_at(job.work, 1, WORK)[0]
    targets = records_at(job.targets, job.num_targets, TARGET)
    backward(work, targets, address, _plan_of(address), _block_of(address), like)


@compiled
def _write_bank(address, like):  # type: ignore[no-untyped-def]
    job = records_at(address, 1, JOB)[0]
    work = records_at(job.work, 1, WORK)[0]
    starts = integers_at(job.starts, job.bank_rows + 1)
    order = integers_at(job.order, work.rows * work.num_slots)
    target, block = records_at(job.targets, 1, TARGET)[0], _block_of(address)
    write_bank(work, target, starts, order, address, block, like)


def forward_float32(address):  # type: ignore[no-untyped-def]
    """Forward, in float32."""
    _forward(address, np.float32(0))


def forward_float64(address):  # type: ignore[no-untyped-def]
    """Forward, in float64."""
    _forward(address, np.float64(0))


def backward_float32(address):  # type: ignore[no-untyped-def]
    """Backward, in float32."""
    _backward(address, np.float32(0))


def backward_float64(address):  # type: ignore[no-untyped-def]
    """Backward, in float64."""
    _backward(address, np.float64(0))


def write_bank_float32(address):  # type: ignore[no-untyped-def]
    """The gradient of a bank, in float32."""
    _write_bank(address, np.float32(0))


def write_bank_float64(address):  # type: ignore[no-untyped-def]
    """The gradient of a bank, in float64."""
    _write_bank(address, np.float64(0))


def order_slots(address):  # type: ignore[no-untyped-def]
    """The slots of all rows by the row of the bank that they name."""
    job = records_at(address, 1, JOB)[0]
    work = records_at(job.work, 1, WORK)[0]
    starts = integers_at(job.starts, job.bank_rows + 1)
    order_by_place(work, starts, integers_at(job.order, work.rows * work.num_slots))


FUNCTIONS: dict[tuple[str, torch.dtype], Callable[[int], None]] = {
    ("forward", torch.float32): forward_float32,
    ("forward", torch.float64): forward_float64,
    ("backward", torch.float32): backward_float32,
    ("backward", torch.float64): backward_float64,
    ("write_bank", torch.float32): write_bank_float32,
    ("write_bank", torch.float64): write_bank_float64,
    ("order_slots", torch.float32): order_slots,
    ("order_slots", torch.float64): order_slots,
}


@functools.cache
def compiled_job(name: str, dtype: torch.dtype) -> Any:
    """A job ready to be called, with the address of its C function."""
    if not is_kept(name, dtype):
        background.stop(dtype)
    return job(FUNCTIONS[name, dtype])


def is_kept(name: str, dtype: torch.dtype) -> bool:
    """Return whether a job is on disk, compiled."""
    return KernelCache(FUNCTIONS[name, dtype]).is_kept(JOB_SIGNATURE)


def jobs_of(backward: bool) -> tuple[str, ...]:
    """Return the names of the jobs of a forward pass, or of both passes."""
    return ("forward", "backward", "order_slots", "write_bank") if backward else ("forward",)
