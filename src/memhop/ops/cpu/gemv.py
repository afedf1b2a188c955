"""Matrix-vector products with weights, compiled: for a group of rows at once, and for one row."""

from typing import NamedTuple

from memhop.ops.cpu import simd
from memhop.ops.cpu.numba_ext import array_at, compiled, integers_at, itemsize_of
from memhop.ops.cpu.rows import add_rows, copy, dot_rows, round_up

# The part of a weight that serves a whole group while it is in the L1 cache: rows, or a tile
STRIP_ROWS = 8
TILE_ROWS, TILE_BYTES = 64, 256


class Vectors(NamedTuple):
    """A vector for each row: address of the first, stride in bytes, length."""

    address: int
    row_stride: int
    columns: int


@compiled
def vector_of(vectors, row, like):  # type: ignore[no-untyped-def]
    """Return the vector of a row."""
    return array_at(vectors.address + row * vectors.row_stride, vectors.columns, like)


@compiled
def vectors_of(address, hops, hop, columns, like):  # type: ignore[no-untyped-def]
    """Return the vectors of a hop, out of an array [rows, hops, columns]."""
    row_bytes = columns * itemsize_of(like)
    return Vectors(address + hop * row_bytes, hops * row_bytes, columns)


@compiled
def add_products(call, weight, vectors, outs, group, workspace, like):  # type: ignore[no-untyped-def]
    """out += W vector for each row of a group, a strip of the weight at a time."""
    rows, _ = _weight(call, weight, vectors.columns, workspace, like)
    itemsize = itemsize_of(like)
    size = vectors.columns * itemsize
    for begin in range(0, outs.columns, STRIP_ROWS):
        strip, row = rows[begin:].ctypes.data, group[0]
        count = min(STRIP_ROWS, outs.columns - begin)
        while row < group[1]:
            vector = vectors.address + row * vectors.row_stride, vectors.row_stride
            out = outs.address + row * outs.row_stride + begin * itemsize, outs.row_stride
            at_once = _at_once(group[1] - row)
            simd.dot_group(vector, strip, count, out, size, at_once, like)
            row += at_once


@compiled
def _at_once(rows):  # type: ignore[no-untyped-def]
    """Return how many to compute at once of so many rows: a size in ``simd.GROUPS``."""
    if rows >= 6:
        return 4 if rows // 2 == 4 else 6  # 8 are twice 4
    return 4 if rows >= 4 else 2 if rows >= 2 else 1


@compiled
def add_transposed_products(call, weight, vectors, outs, group, workspace, like):  # type: ignore[no-untyped-def]
    """out += W^T vector for each row of a group, a tile of the weight at a time."""
    rows, _ = _weight(call, weight, outs.columns, workspace, like)
    itemsize = itemsize_of(like)
    size = outs.columns * itemsize
    for begin in range(0, size, TILE_BYTES):
        span = begin, min(size, begin + TILE_BYTES)
        for first in range(0, vectors.columns, TILE_ROWS):
            count, row = min(TILE_ROWS, vectors.columns - first), group[0]
            tile = rows[first:].ctypes.data
            while row < group[1]:
                vector = vectors.address + row * vectors.row_stride + first * itemsize
                factors = vector, vectors.row_stride
                totals = outs.address + row * outs.row_stride, outs.row_stride
                at_once = _at_once(group[1] - row)
                simd.add_group(factors, tile, count, totals, span, at_once, like)
                row += at_once


@compiled
def multiply_weight(call, weight, vector, workspace, out):  # type: ignore[no-untyped-def]
    """out = W vector."""
    rows, dots = _weight(call, weight, vector.shape[0], workspace, vector[0])
    dot_rows(vector, rows, out.shape[0], dots)
    copy(dots, out)


@compiled
def add_transposed_product(call, weight, vector, workspace, total):  # type: ignore[no-untyped-def]
    """total += W^T vector; the vector may be shorter than W has rows."""
    rows, factors = _weight(call, weight, total.shape[0], workspace, total[0])
    count = vector.shape[0]
    for j in range(count):
        factors[j] = vector[j]
    add_rows(factors, rows, count, total)


@compiled
def _weight(call, weight, columns, workspace, like):  # type: ignore[no-untyped-def]
    """Return the addresses of a weight's rows, and scratch memory for numbers of its rows."""
    count, begin = num_rows(call, weight), _address(call, weight)
    rows = integers_at(workspace.weight_rows, round_up(count, 4))
    stride = columns * itemsize_of(like)
    for j in range(round_up(count, 4)):
        rows[j] = begin + min(j, count - 1) * stride
    return rows, array_at(workspace.factors, round_up(count, 4), like)


@compiled
def bias_vector(call, weight, like):  # type: ignore[no-untyped-def]
    """Return a weight that is a bias [memory_dim]."""
    return array_at(_address(call, weight), call.memory_dim, like)


@compiled
def _address(call, weight):  # type: ignore[no-untyped-def]
    return integers_at(call.weight_addresses, weight + 1)[weight]


@compiled
def num_rows(call, weight):  # type: ignore[no-untyped-def]
    """Return the number of rows of a weight."""
    return integers_at(call.weight_rows, weight + 1)[weight]
