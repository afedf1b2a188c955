"""Products of weights and vectors, compiled: for a group of rows at once, and for one."""

from typing import NamedTuple

from memhop.ops.cpu.numba_ext import bytes_of, compiled, numbers_at
from memhop.ops.cpu.rows import add_rows, copy, dot_rows, integers_at, padded

STRIP = 8  # rows of a weight that are read for all rows of a group while in the first cache


class Lines(NamedTuple):
    """A vector of each row: address of the first one, stride in bytes, length."""

    address: int
    of_row: int
    columns: int


@compiled
def line_at(lines, row, like):  # type: ignore[no-untyped-def]
    """The vector of a row."""
    return numbers_at(lines.address + row * lines.of_row, lines.columns, like)


@compiled
def lines_of(address, places, place, columns, like):  # type: ignore[no-untyped-def]
    """The vectors at one of so many places that each row has."""
    row_bytes = columns * bytes_of(like)
    return Lines(address + place * row_bytes, places * row_bytes, columns)


@compiled
def add_products(work, place, vectors, outs, group, block, like):  # type: ignore[no-untyped-def]
    """out += W vector for each row of a group, a strip of the weight at a time."""
    rows, dots = _weight(work, place, vectors.columns, block, like)
    count = outs.columns
    for begin in range(0, count, STRIP):
        size = min(STRIP, count - begin)
        for row in range(group[0], group[1]):
            vector = line_at(vectors, row, like)
            dot_rows(vector, rows[begin:], size, dots)
            out = line_at(outs, row, like)
            for j in range(size):
                out[begin + j] += dots[j]


@compiled
def add_transposed_products(work, place, vectors, outs, group, block, like):  # type: ignore[no-untyped-def]
    """out += W^T vector for each row of a group, a strip of the weight at a time."""
    rows, factors = _weight(work, place, outs.columns, block, like)
    count = vectors.columns
    for begin in range(0, count, STRIP):
        size = min(STRIP, count - begin)
        for row in range(group[0], group[1]):
            vector = line_at(vectors, row, like)
            for j in range(size):
                factors[j] = vector[begin + j]
            add_rows(factors, rows[begin:], size, line_at(outs, row, like))


@compiled
def weight_times(work, place, vector, block, out):  # type: ignore[no-untyped-def]
    """out = W vector."""
    rows, dots = _weight(work, place, vector.shape[0], block, vector[0])
    dot_rows(vector, rows, out.shape[0], dots)
    copy(dots, out)


@compiled
def add_weight_transposed(work, place, vector, block, total):  # type: ignore[no-untyped-def]
    """total += W^T vector, of as many rows as the vector has numbers."""
    rows, factors = _weight(work, place, total.shape[0], block, total[0])
    count = vector.shape[0]
    for j in range(count):
        factors[j] = vector[j]
    add_rows(factors, rows, count, total)


@compiled
def _weight(work, place, columns, block, like):  # type: ignore[no-untyped-def]
    """The addresses of a weight's rows, and as much room."""
    count, begin = rows_of_weight(work, place), integers_at(work.weights, place + 1)[place]
    rows = integers_at(block.weight_rows, padded(count))
    stride = columns * bytes_of(like)
    for j in range(padded(count)):
        rows[j] = begin + min(j, count - 1) * stride
    return rows, numbers_at(block.factors, padded(count), like)


@compiled
def weight_vector(work, place, like):  # type: ignore[no-untyped-def]
    """A bias, which has memory_dim numbers."""
    return numbers_at(integers_at(work.weights, place + 1)[place], work.memory_dim, like)


@compiled
def rows_of_weight(work, place):  # type: ignore[no-untyped-def]
    """How many rows a weight has."""
    return integers_at(work.weight_rows, place + 1)[place]
