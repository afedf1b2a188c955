"""Rows by their addresses, compiled: many dot products, a weighted sum, and which slots to read.

Compiled code gets all it works on as one record of integers, ``Work``: sizes, and the addresses of
arrays that Python keeps alive. To hand on arrays themselves costs more than to read a block of
slots, since each is ten arguments. ``like`` is a zero of the dtype that is computed in.

The rows of a weight, of a memory and of a bank are all read by the same two functions, in steps of
four rows, so that what is read once serves four; lists of rows are filled up with the last one.
"""

from typing import NamedTuple

import numpy as np

from memhop.ops.cpu import simd
from memhop.ops.cpu.numba_ext import AS_COMPUTED, bytes_of, compiled, number_at, numbers_at
from memhop.ops.fused.problem import Step

BLOCK = 64  # slots; 64 rows of 128 floats are two thirds of a first cache

# Columns of the steps
A, A_BIAS, A_TEMPORAL, C, C_BIAS, C_TEMPORAL, TRANSFORM, RELU, SOFTMAX, CARRY = range(10)
STEP_FIELDS = len(Step._fields)


def record(*fields: str) -> np.dtype[np.void]:
    """A record of integers."""
    return np.dtype([(field, np.int64) for field in fields])


# What slots hold: address, strides in bytes of a batch row and of a slot, format, columns
ROWS = record(
    "address", "of_row", "of_slot", "kind", "columns", "scale", "scale_of_row", "scale_of_slot"
)

# A problem, its trace, its gradients, and what parts of rows find before they are merged (in double
# precision); an address of 0 is for what is not there, and all that is there is contiguous but for
# what has a stride here, in bytes.
FIELDS = (
    "rows", "hops", "num_slots", "memory_dim", "num_ages", "group", "parts", "apart",
    "query", "slots", "slots_of_row", "slot_bytes", "ignored", "ignored_of_row", "lengths",
    "bias", "bias_of_row", "bias_of_hop", "steps", "weights", "weight_rows",
    "queries", "projected_query", "read", "weight_sum", "score_max", "exp_sum", "aged", "kept",
    "part_score_max", "part_exp_sum", "part_sums", "part_aged",
    "grad_query", "grad_out", "grad_read", "grad_u", "grad_weight_sum", "grad_aged", "grad_scores",
    "grad_weights", "means",
)  # fmt: skip
WORK = np.dtype([("keys", ROWS), ("values", ROWS), *((field, np.int64) for field in FIELDS)])

# Where the gradient of keys or values goes, in which format, and which terms it has
TARGET = record("address", "kind", "columns", "of_keys", "of_values")


class Plan(NamedTuple):
    """Which stages of which hops threads are to do, in how many pieces.

    A piece is a group of rows, or else one of the parts that the slots of all rows are cut into.
    """

    stages: int
    first_hop: int
    last_hop: int
    by_rows: int
    pieces: int


class Piece(NamedTuple):
    """The rows and the slots of a piece, and which part of a row it is."""

    first_row: int
    last_row: int
    first_slot: int
    last_slot: int
    part: int


class Block(NamedTuple):
    """Addresses of room for some readable slots, and to work in.

    Their numbers, where their keys and values are, the scales of those, scores, shares, a running
    sum; the addresses of a weight's rows, and a factor for each; those of
    what the gradient of a slot is a sum of, and of their factors.
    """

    slots: int
    keys: int
    values: int
    key_scales: int
    value_scales: int
    scores: int
    shares: int
    acc: int
    weight_rows: int
    factors: int
    term_rows: int
    term_factors: int


def sizes_of_block(columns: int, longest: int, hops: int) -> list[int]:
    """The room in doubles of each part, for rows of so many numbers, weights of so many rows."""
    return [*[BLOCK] * 7, columns, *[longest + 3] * 2, *[2 * hops] * 2]


@compiled
def dot_rows(vector, rows, count, out, stored=AS_COMPUTED):  # type: ignore[no-untyped-def]
    """out[j] = vector . row j, of a step of four in any case."""
    columns, zero = vector.shape[0], vector.dtype.type(0)
    whole = in_vectors(columns, zero)
    size = whole * vector.itemsize
    simd.dot(vector.ctypes.data, rows.ctypes.data, stored, count, out.ctypes.data, size, zero)
    for j in range(count if whole < columns else 0):
        for k in range(whole, columns):
            out[j] += vector[k] * number_at(stored, rows[j], k, zero)


@compiled
def add_rows(factors, rows, count, total, stored=AS_COMPUTED):  # type: ignore[no-untyped-def]
    """total += sum_j factors[j] row j."""
    columns, zero = total.shape[0], total.dtype.type(0)
    whole = in_vectors(columns, zero)
    size, out = whole * total.itemsize, total.ctypes.data
    simd.add(factors.ctypes.data, rows.ctypes.data, stored, count, out, size, zero)
    for j in range(count if whole < columns else 0):
        for k in range(whole, columns):
            total[k] += factors[j] * number_at(stored, rows[j], k, zero)


@compiled
def in_vectors(columns, like):  # type: ignore[no-untyped-def]
    """How many of the columns fill whole vectors."""
    lanes = simd.VECTOR // bytes_of(like)
    return columns // lanes * lanes


@compiled
def piece_of(work, plan, turn):  # type: ignore[no-untyped-def]
    """One of the pieces of a plan."""
    if plan.by_rows:
        first = turn * work.group
        return Piece(first, min(first + work.group, work.rows), 0, work.num_slots, 0)
    first = work.num_slots * turn // plan.pieces
    last = work.num_slots * (turn + 1) // plan.pieces
    return Piece(0, work.rows, first, last, turn)


@compiled
def padded(count):  # type: ignore[no-untyped-def]
    """A number of rows, filled up to steps of four."""
    return (count + 3) // 4 * 4


# Loops like these compile in a tenth of the time that row[:] = x takes.
@compiled
def fill(row, number):  # type: ignore[no-untyped-def]
    """A number in all places."""
    for k in range(row.shape[0]):
        row[k] = number


@compiled
def copy(row, to):  # type: ignore[no-untyped-def]
    """to = row."""
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
def at(address, place, columns, like):  # type: ignore[no-untyped-def]
    """Row ``place`` of a contiguous matrix with so many columns."""
    return numbers_at(address + place * columns * bytes_of(like), columns, like)


@compiled
def integers_at(address, count):  # type: ignore[no-untyped-def]
    """Integers at an address."""
    return numbers_at(address, count, np.int64(0))


@compiled
def step_of(work, hop):  # type: ignore[no-untyped-def]
    """The places of a hop's weights, and its options."""
    return at(work.steps, hop, STEP_FIELDS, np.int64(0))


@compiled
def is_readable(work, row, hop, slot, like):  # type: ignore[no-untyped-def]
    """Whether a slot before the row's length is one to read."""
    if work.ignored:
        address = work.ignored + row * work.ignored_of_row
        if numbers_at(address, slot + 1, np.uint8(0))[slot]:
            return False
    return not work.bias or bias_of(work, row, hop, like)[slot] != -np.inf


@compiled
def bias_of(work, row, hop, like):  # type: ignore[no-untyped-def]
    """The score bias of a row's slots in a hop."""
    address = work.bias + row * work.bias_of_row + hop * work.bias_of_hop
    return numbers_at(address, work.num_slots, like)


@compiled
def end_of(work, row, last):  # type: ignore[no-untyped-def]
    """Where the slots of a row end, at most ``last``."""
    return min(last, integers_at(work.lengths, row + 1)[row]) if work.lengths else last


@compiled
def readable_from(work, row, hop, slot, like):  # type: ignore[no-untyped-def]
    """How many slots there are to read from this one on."""
    last = end_of(work, row, work.num_slots)
    if not work.ignored and not work.bias:
        return max(0, last - slot)
    count = 0
    for other in range(slot, last):
        count += is_readable(work, row, hop, other, like)
    return count


@compiled
def next_block(work, row, hop, slot, last, block, like):  # type: ignore[no-untyped-def]
    """Put the next slots to read into a block: how many they are, and where to go on."""
    slots, count = integers_at(block.slots, BLOCK), 0
    if work.ignored or work.bias:
        while slot < last and count < BLOCK:
            slots[count] = slot
            count += is_readable(work, row, hop, slot, like)
            slot += 1
    else:
        count = min(BLOCK, last - slot)
        for j in range(count):
            slots[j] = slot + j
        slot += count
    if count:
        _locate(work, work.keys, row, count, slots, block.keys, block.key_scales)
        if work.apart:
            _locate(work, work.values, row, count, slots, block.values, block.value_scales)
    return count, slot


@compiled
def place_of(work, row, slot):  # type: ignore[no-untyped-def]
    """The row of the memory, or of the bank, that a slot reads."""
    if not work.slots:
        return slot
    address = work.slots + row * work.slots_of_row
    if work.slot_bytes == 4:
        return np.int64(numbers_at(address, slot + 1, np.int32(0))[slot])
    return integers_at(address, slot + 1)[slot]


@compiled
def _locate(work, rows, row, count, slots, addresses_at, scales_at):  # type: ignore[no-untyped-def]
    """Where what the slots hold is, and its scales; the last one fills up a step of four."""
    addresses, begin, stride = integers_at(addresses_at, BLOCK), rows.address, rows.of_slot
    begin += row * rows.of_row
    if work.slots == 0:
        for j in range(count):
            addresses[j] = begin + slots[j] * stride
    else:
        for j in range(count):
            addresses[j] = begin + place_of(work, row, slots[j]) * stride
    if rows.scale:
        scales, begin = numbers_at(scales_at, BLOCK, np.float32(0)), rows.scale
        begin += row * rows.scale_of_row
        for j in range(count):
            address = begin + place_of(work, row, slots[j]) * rows.scale_of_slot
            scales[j] = numbers_at(address, 1, np.float32(0))[0]
    for j in range(count, padded(count)):
        addresses[j] = addresses[count - 1]
