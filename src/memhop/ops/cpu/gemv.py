"""Matrix-vector products with weights, compiled: for a group of rows at once, and for one row."""

from typing import NamedTuple

from memhop.ops.cpu.numba_ext import array_at, compiled, integers_at, itemsize_of
from memhop.ops.cpu.rows import add_rows, copy, dot_rows, round_up_to_four

STRIP_ROWS = 8  # rows of a weight that serve a whole group of rows while they are in the L1 cache


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
    rows, dots = _weight(call, weight, vectors.columns, workspace, like)
    count = outs.columns
    for begin in range(0, count, STRIP_ROWS):
        size = min(STRIP_ROWS, count - begin)
        for row in range(group[0], group[1]):
            vector = vector_of(vectors, row, like)
            dot_rows(vector, rows[begin:], size, dots)
            out = vector_of(outs, row, like)
            for j in range(size):
                out[begin + j] += dots[j]


@compiled
def add_transposed_products(call, weight, vectors, outs, group, workspace, like):  # type: ignore[no-untyped-def]
    """out += W^T vector for each row of a group, a strip of the weight at a time."""
    rows, factors = _weight(call, weight, outs.columns, workspace, like)
    count = vectors.columns
    for begin in range(0, count, STRIP_ROWS):
        size = min(STRIP_ROWS, count - begin)
        for row in range(group[0], group[1]):
            vector = vector_of(vectors, row, like)
            for j in range(size):
                factors[j] = vector[begin + j]
            add_rows(factors, rows[begin:], size, vector_of(outs, row, like))


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
    """Return the addresses of a weight's rows, and scratch memory for a number per row."""
    count, begin = num_rows(call, weight), _address(call, weight)
    rows = integers_at(workspace.weight_rows, round_up_to_four(count))
    stride = columns * itemsize_of(like)
    for j in range(round_up_to_four(count)):
        rows[j] = begin + min(j, count - 1) * stride
    return rows, array_at(workspace.factors, round_up_to_four(count), like)


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
