"""Records, rows and readable slots, for the compiled kernels.

A kernel takes a record of integers: sizes, strides, and addresses of arrays that Python keeps
alive. An address of 0 means that the array is missing. (An array as an argument is ten arguments,
which costs more than reading a block of slots.) ``like`` is a zero of the dtype computed in.

Memories, banks and weights are read by the same two functions, four rows at a time, so that one
load of the vector serves four rows; the last row fills up a list of rows.
"""

from typing import NamedTuple

import numpy as np

from memhop.ops.cpu import simd
from memhop.ops.cpu.formats import NATIVE
from memhop.ops.cpu.numba_ext import array_at, compiled, integers_at, itemsize_of, records_at
from memhop.ops.fused.problem import Gradients, Step, Trace

BLOCK_SLOTS = 64  # a block of 64 rows of 128 floats takes two thirds of an L1 cache


def record(*fields: str) -> np.dtype[np.void]:
    """Return the dtype of a record of int64."""
    return np.dtype([(field, np.int64) for field in fields])


STEP = record(*Step._fields)

# Keys or values. Strides are in bytes.
ROWS = record(
    "address", "row_stride", "slot_stride", "format", "columns",
    "scale", "scale_row_stride", "scale_slot_stride",
)  # fmt: skip

# A problem, scratch memory, a trace and gradients; partial results are in float64. All arrays
# without a stride here are contiguous; strides are in bytes. The addresses of the weights follow.
SIZES = (
    "rows", "hops", "num_slots", "memory_dim", "num_ages", "group_rows", "num_splits", "has_values",
)  # fmt: skip
INPUTS = (
    "query", "slots", "slots_row_stride", "slot_bytes", "ignored", "ignored_row_stride", "lengths",
    "bias", "bias_row_stride", "bias_hop_stride",
)  # fmt: skip
SCRATCH = (
    "steps", "weight_rows",
    "partial_max", "partial_total", "partial_sums", "partial_aged", "grad_means",
)  # fmt: skip
ARRAYS = (
    "result", *Trace._fields, *Gradients._fields[:-3], "grad_read", "grad_weights", "grad_lse",
)  # fmt: skip
FIELDS = (*SIZES, *INPUTS, *SCRATCH, "weight_addresses", *ARRAYS)
CALL = np.dtype([("keys", ROWS), ("values", ROWS), *((field, np.int64) for field in FIELDS)])

# The gradient of keys or values, and which of their two terms it has.
TARGET = record("address", "format", "row_bytes", "columns", "of_keys", "of_values")

# The scratch memory of a thread, by address. For a block of slots: their indices, the addresses and
# scales of their keys and values, their scores and weights. Then an accumulator; the addresses of
# a weight's rows, and a factor for each; those of the terms of a slot's gradient; a number for
# each age. The last field is the index of the thread's partial results.
WORKSPACE = record(
    "slots", "keys", "values", "key_scales", "value_scales", "scores", "weights",
    "acc", "weight_rows", "factors", "term_rows", "term_factors", "by_age", "partial",
)  # fmt: skip


def workspace_sizes(columns: int, weight_rows: int, hops: int) -> list[int]:
    """Return the size of each array of a workspace, in doubles."""
    rows = weight_rows + 3
    return [*[BLOCK_SLOTS] * 7, columns, rows, rows, *[2 * hops] * 2, weight_rows]


class Job(NamedTuple):
    """What threads do: the fields of ``JOB`` after two atomic counters.

    Threads take the stages of hops in work items: groups of rows where ``by_rows``, else splits of
    the slots of all rows. ``targets`` are those of the backward kernel, or the addresses of the
    gradients of weights. For the gradient of a bank, ``order`` are the slots sorted by bank row,
    of which row i's begin at ``starts[i]``.
    """

    call: int
    workspaces: int
    stages: int = 0
    first_hop: int = 0
    last_hop: int = 0
    by_rows: int = 0
    num_items: int = 0
    targets: int = 0
    num_targets: int = 0
    starts: int = 0
    order: int = 0
    bank_rows: int = 0


JOB = record("next_item", "next_worker", *Job._fields)


class WorkItem(NamedTuple):
    """A range of rows and a range of their slots; row i has the partial result ``partial + i``."""

    first_row: int
    last_row: int
    first_slot: int
    last_slot: int
    partial: int


@compiled
def work_item(call, job, index, workspace):  # type: ignore[no-untyped-def]
    """Return a work item of a job."""
    if job.by_rows:
        first = index * call.group_rows
        last = min(first + call.group_rows, call.rows)
        partial = 0 if call.num_splits > 1 else workspace.partial - first
        return WorkItem(first, last, 0, call.num_slots, partial)
    first = call.num_slots * index // job.num_items
    last = call.num_slots * (index + 1) // job.num_items
    return WorkItem(0, call.rows, first, last, index * call.rows)


@compiled
def dot_rows(vector, rows, count, out, code=NATIVE):  # type: ignore[no-untyped-def]
    """out[j] = vector . row j, for ``count`` rows, rounded up to a multiple of four."""
    size, zero = vector.shape[0] * vector.itemsize, vector.dtype.type(0)
    simd.dot(vector.ctypes.data, rows.ctypes.data, code, count, out.ctypes.data, size, zero)


@compiled
def add_rows(factors, rows, count, total, code=NATIVE):  # type: ignore[no-untyped-def]
    """total += sum_j factors[j] row j."""
    size, zero = total.shape[0] * total.itemsize, total.dtype.type(0)
    simd.add(factors.ctypes.data, rows.ctypes.data, code, count, total.ctypes.data, (0, size), zero)


@compiled
def round_up(count, step):  # type: ignore[no-untyped-def]
    """Return the next multiple of a step."""
    return (count + step - 1) // step * step


# Loops like these compile in a tenth of the time of row[:] = x.
@compiled
def fill(row, number):  # type: ignore[no-untyped-def]
    """row[:] = number."""
    for k in range(row.shape[0]):
        row[k] = number


@compiled
def copy(row, to):  # type: ignore[no-untyped-def]
    """to[:] = row[:len(to)]."""
    for k in range(to.shape[0]):
        to[k] = row[k]


@compiled
def scale(row, factor):  # type: ignore[no-untyped-def]
    """row *= factor."""
    for k in range(row.shape[0]):
        row[k] *= factor


@compiled
def add(row, factor, total):  # type: ignore[no-untyped-def]
    """total += factor row."""
    for k in range(total.shape[0]):
        total[k] += factor * row[k]


@compiled
def multiply_scales(numbers, scales_at, count):  # type: ignore[no-untyped-def]
    """Multiply the numbers of a block's slots by their scales."""
    scales = array_at(scales_at, BLOCK_SLOTS, np.float32(0))
    for j in range(count):
        numbers[j] *= scales[j]


@compiled
def add_by_age(numbers, by_age, age, count):  # type: ignore[no-untyped-def]
    """Add to each slot of a block the number of its age; slot 0 has the greatest."""
    for j in range(count if by_age.shape[0] else 0):
        numbers[j] += by_age[min(age - j, by_age.shape[0] - 1)]


@compiled
def sum_by_age(numbers, sums, age, count):  # type: ignore[no-untyped-def]
    """Add the number of each slot of a block to the sum of its age."""
    for j in range(count if sums.shape[0] else 0):
        sums[min(age - j, sums.shape[0] - 1)] += numbers[j]


@compiled
def row_at(address, index, columns, like):  # type: ignore[no-untyped-def]
    """Return a row of a contiguous matrix."""
    return array_at(address + index * columns * itemsize_of(like), columns, like)


@compiled
def step_of(call, hop):  # type: ignore[no-untyped-def]
    """Return the record of a ``Step``."""
    return records_at(call.steps, call.hops, STEP)[hop]


@compiled
def is_readable(call, row, hop, slot, like):  # type: ignore[no-untyped-def]
    """Return whether a slot before the row's length is readable."""
    if call.ignored:
        address = call.ignored + row * call.ignored_row_stride
        if array_at(address, slot + 1, np.uint8(0))[slot]:
            return False
    return not call.bias or bias_of(call, row, hop, like)[slot] != -np.inf


@compiled
def bias_of(call, row, hop, like):  # type: ignore[no-untyped-def]
    """Return the score bias of a row in a hop."""
    address = call.bias + row * call.bias_row_stride + hop * call.bias_hop_stride
    return array_at(address, call.num_slots, like)


@compiled
def end_of(call, row, last):  # type: ignore[no-untyped-def]
    """Return the smaller of ``last`` and the row's length."""
    return min(last, integers_at(call.lengths, row + 1)[row]) if call.lengths else last


@compiled
def readable_from(call, row, hop, slot, like):  # type: ignore[no-untyped-def]
    """Return the number of readable slots from a slot on."""
    last = end_of(call, row, call.num_slots)
    if not call.ignored and not call.bias:
        return max(0, last - slot)
    count = 0
    for other in range(slot, last):
        count += is_readable(call, row, hop, other, like)
    return count


@compiled
def next_block(call, row, hop, slot, last, workspace, like):  # type: ignore[no-untyped-def]
    """Gather the next block of readable slots; return their number and the slot after them."""
    slots, count = integers_at(workspace.slots, BLOCK_SLOTS), 0
    if call.ignored or call.bias:
        while slot < last and count < BLOCK_SLOTS:
            slots[count] = slot
            count += is_readable(call, row, hop, slot, like)
            slot += 1
    else:
        count = min(BLOCK_SLOTS, last - slot)
        for j in range(count):
            slots[j] = slot + j
        slot += count
    if count:
        _locate(call, call.keys, row, count, slots, workspace.keys, workspace.key_scales)
        if call.has_values:
            _locate(call, call.values, row, count, slots, workspace.values, workspace.value_scales)
    return count, slot


@compiled
def memory_row(call, row, slot):  # type: ignore[no-untyped-def]
    """Return the row of the memory or bank that a slot holds."""
    if not call.slots:
        return slot
    address = call.slots + row * call.slots_row_stride
    if call.slot_bytes == 4:
        return np.int64(array_at(address, slot + 1, np.int32(0))[slot])
    return integers_at(address, slot + 1)[slot]


@compiled
def _locate(call, rows, row, count, slots, addresses_at, scales_at):  # type: ignore[no-untyped-def]
    """Write the addresses and scales of slots; the last address fills up a multiple of four."""
    addresses, begin, stride = (
        integers_at(addresses_at, BLOCK_SLOTS),
        rows.address,
        rows.slot_stride,
    )
    begin += row * rows.row_stride
    if call.slots == 0:
        for j in range(count):
            addresses[j] = begin + slots[j] * stride
    else:
        for j in range(count):
            addresses[j] = begin + memory_row(call, row, slots[j]) * stride
    if rows.scale:
        scales, begin = array_at(scales_at, BLOCK_SLOTS, np.float32(0)), rows.scale
        begin += row * rows.scale_row_stride
        for j in range(count):
            address = begin + memory_row(call, row, slots[j]) * rows.scale_slot_stride
            scales[j] = array_at(address, 1, np.float32(0))[0]
    for j in range(count, round_up(count, 4)):
        addresses[j] = addresses[count - 1]
