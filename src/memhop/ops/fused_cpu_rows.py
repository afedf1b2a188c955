"""Rows by their addresses, compiled: many dot products, a weighted sum, and which slots to read.

The rows of a weight, of a memory and of a bank are all read by these, in steps of four rows, so
that what is read once serves four; lists of addresses are filled up to that with the last row.
"""

from typing import Any, NamedTuple

import numpy as np

from memhop.ops.compiled import AS_COMPUTED, compiled, numbers_at, widen

BLOCK = 32  # slots; 32 rows of 128 floats are a third of a first cache

# Columns of ``Given.steps``
A, A_BIAS, A_TEMPORAL, C, C_BIAS, C_TEMPORAL, TRANSFORM, RELU, SOFTMAX, CARRY = range(10)


class Rows(NamedTuple):
    """What slots hold: address, strides in bytes of a batch row and of a slot, format, columns."""

    address: int
    of_row: int
    of_slot: int
    kind: int
    columns: int
    scale: int
    scale_of_row: int
    scale_of_slot: int


class Given(NamedTuple):
    """A ``Problem`` as compiled code takes it; an address of 0 is for what is not there."""

    query: Any
    keys: Any
    values: Any
    apart: int
    slots: int
    slots_of_row: int
    slot_bytes: int
    ignored: int
    ignored_of_row: int
    lengths: Any
    bias: int
    bias_of_row: int
    bias_of_hop: int
    num_slots: int
    steps: Any
    weights: Any
    weight_rows: Any


class Block(NamedTuple):
    """Some readable slots: their numbers, where they are, their scales, and room to work in."""

    slots: Any
    keys: Any
    values: Any
    key_scales: Any
    value_scales: Any
    scores: Any
    shares: Any
    wide_keys: Any
    wide_values: Any


@compiled
def dot_rows(vector, rows, count, out):  # type: ignore[no-untyped-def]
    """out[j] = vector . row j."""
    columns = vector.shape[0]
    for j in range(0, count, 4):
        row_0 = numbers_at(rows[j], columns, vector)
        row_1 = numbers_at(rows[j + 1], columns, vector)
        row_2 = numbers_at(rows[j + 2], columns, vector)
        row_3 = numbers_at(rows[j + 3], columns, vector)
        dot_0 = dot_1 = dot_2 = dot_3 = vector.dtype.type(0)
        for k in range(columns):
            dot_0 += vector[k] * row_0[k]
            dot_1 += vector[k] * row_1[k]
            dot_2 += vector[k] * row_2[k]
            dot_3 += vector[k] * row_3[k]
        out[j] = dot_0
        out[j + 1] = dot_1
        out[j + 2] = dot_2
        out[j + 3] = dot_3


@compiled
def add_rows(factors, rows, count, total):  # type: ignore[no-untyped-def]
    """total += sum_j factors[j] row j; the factors that fill up a step of four are zero."""
    columns = total.shape[0]
    for j in range(0, count, 4):
        row_0 = numbers_at(rows[j], columns, total)
        row_1 = numbers_at(rows[j + 1], columns, total)
        row_2 = numbers_at(rows[j + 2], columns, total)
        row_3 = numbers_at(rows[j + 3], columns, total)
        by_0, by_1, by_2, by_3 = factors[j], factors[j + 1], factors[j + 2], factors[j + 3]
        for k in range(columns):
            total[k] += by_0 * row_0[k] + by_1 * row_1[k] + by_2 * row_2[k] + by_3 * row_3[k]


@compiled
def fill(row, number):  # type: ignore[no-untyped-def]
    """A number in all places. Loops like this one compile in a tenth of the time of row[:] = x."""
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
def weight_times(given, place, vector, out):  # type: ignore[no-untyped-def]
    """out = W vector."""
    rows, dots = _weight(given, place, vector)
    dot_rows(vector, rows, out.shape[0], dots)
    copy(dots, out)


@compiled
def add_weight_transposed(given, place, vector, count, total):  # type: ignore[no-untyped-def]
    """total += W^T vector, of the first ``count`` rows."""
    rows, factors = _weight(given, place, total)
    fill(factors, 0)
    for j in range(count):
        factors[j] = vector[j]
    add_rows(factors, rows, count, total)


@compiled
def _weight(given, place, vector):  # type: ignore[no-untyped-def]
    """The addresses of a weight's rows, and as much room."""
    count = given.weight_rows[place]
    rows = np.empty(count + 3, dtype=np.int64)
    stride = vector.shape[0] * vector.itemsize
    for j in range(count + 3):
        rows[j] = given.weights[place] + min(j, count - 1) * stride
    return rows, np.empty(count + 3, dtype=vector.dtype)


@compiled
def add_bias(given, place, factor, total):  # type: ignore[no-untyped-def]
    """total += factor b."""
    add(numbers_at(given.weights[place], total.shape[0], total), factor, total)


@compiled
def new_block(given):  # type: ignore[no-untyped-def]
    """Room for a block of slots, and for their numbers where those have to be widened."""
    like = given.query
    widened = BLOCK if given.keys.kind != AS_COMPUTED else 0
    values_widened = BLOCK if given.apart and given.values.kind != AS_COMPUTED else 0
    return Block(
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=like.dtype),
        np.empty(BLOCK, dtype=like.dtype),
        np.empty(BLOCK, dtype=like.dtype),
        np.empty(BLOCK, dtype=like.dtype),
        np.empty((widened, given.keys.columns), dtype=like.dtype),
        np.empty((values_widened, given.values.columns), dtype=like.dtype),
    )


@compiled
def is_readable(given, row, hop, slot):  # type: ignore[no-untyped-def]
    """Whether a slot before the row's length is one to read."""
    if given.ignored:
        address = given.ignored + row * given.ignored_of_row + slot
        if numbers_at(address, 1, np.uint8(0))[0]:
            return False
    if given.bias:
        address = given.bias + row * given.bias_of_row + hop * given.bias_of_hop
        return numbers_at(address, slot + 1, given.query)[slot] != -np.inf
    return True


@compiled
def end_of(given, row, last):  # type: ignore[no-untyped-def]
    """Where the slots of a row end, at most ``last``."""
    return min(last, given.lengths[row]) if given.lengths.shape[0] else last


@compiled
def count_readable(given, row, hop, first, last):  # type: ignore[no-untyped-def]
    """How many slots there are to read."""
    last = end_of(given, row, last)
    if not given.ignored and not given.bias:
        return max(0, last - first)
    count = 0
    for slot in range(first, last):
        count += is_readable(given, row, hop, slot)
    return count


@compiled
def next_block(given, row, hop, slot, last, block):  # type: ignore[no-untyped-def]
    """Put the next slots to read into a block: how many they are, and where to go on."""
    count = 0
    while slot < last and count < BLOCK:
        if is_readable(given, row, hop, slot):
            block.slots[count] = slot
            count += 1
        slot += 1
    if count:
        _locate(given, given.keys, row, count, block.slots, block.keys, block.key_scales)
        _widen(given.keys, count, block.keys, block.wide_keys)
        if given.apart:
            _locate(given, given.values, row, count, block.slots, block.values, block.value_scales)
            _widen(given.values, count, block.values, block.wide_values)
        else:
            copy(block.keys, block.values)
            copy(block.key_scales, block.value_scales)
    return count, slot


@compiled
def place_of(given, row, slot):  # type: ignore[no-untyped-def]
    """The row of the memory, or of the bank, that a slot reads."""
    if not given.slots:
        return slot
    address = given.slots + row * given.slots_of_row + slot * given.slot_bytes
    if given.slot_bytes == 4:
        return np.int64(numbers_at(address, 1, np.int32(0))[0])
    return numbers_at(address, 1, np.int64(0))[0]


@compiled
def _locate(given, rows, row, count, slots, addresses, scales):  # type: ignore[no-untyped-def]
    """Where what the slots hold is, and its scales; the last one fills up a step of four."""
    for j in range(count):
        place = place_of(given, row, slots[j])
        addresses[j] = rows.address + row * rows.of_row + place * rows.of_slot
        if rows.scale:
            address = rows.scale + row * rows.scale_of_row + place * rows.scale_of_slot
            scales[j] = numbers_at(address, 1, np.float32(0))[0]
    for j in range(count, (count + 3) // 4 * 4):
        addresses[j] = addresses[count - 1]


@compiled
def _widen(rows, count, addresses, wide):  # type: ignore[no-untyped-def]
    """Numbers in another format are widened into the block, and read from there."""
    if rows.kind == AS_COMPUTED:
        return
    for j in range(count):
        widen(rows.kind, addresses[j], wide[j])
        addresses[j] = wide.ctypes.data + j * wide.shape[1] * wide.itemsize
    for j in range(count, (count + 3) // 4 * 4):
        addresses[j] = addresses[count - 1]
