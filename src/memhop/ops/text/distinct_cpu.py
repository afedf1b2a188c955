"""The distinct numbers of the rows of arrays, compiled for the CPU; imported on first use."""

import numpy as np
from numpy.typing import NDArray

from memhop.ops.text.two_row_attention_cpu import compiled

Integers = NDArray[np.int64]


def distinct(count: int, *parts: Integers) -> tuple[Integers, list[Integers]]:
    """Return the distinct numbers below ``count`` in each row of all parts, ascending, always with
    0, and padded with it; and the index of each number among them.

    Args:
        count: at least 1.
        parts: [rows, any].

    >>> distinct(5, np.array([[4, 2], [3, 0]]), np.array([[4], [0]]))
    (array([[0, 2, 4],
           [0, 3, 0]]), [array([[2, 1],
           [1, 0]]), array([[2],
           [0]])])
    """
    most = min(count, 1 + sum(part.shape[1] for part in parts))
    numbers = np.zeros((len(parts[0]), most + 1), np.int64)  # the last column stays unused
    indices = [np.empty(part.shape, np.int64) for part in parts]
    contiguous = tuple(np.ascontiguousarray(part) for part in parts)
    width = _distinct(np.zeros(count, np.int64), contiguous, numbers, tuple(indices))
    return numbers[:, :width], indices


@compiled
def _distinct(index, parts, numbers, indices):  # type: ignore[no-untyped-def]
    width = 0
    for row in range(len(numbers)):
        index[:] = 0
        index[0] = 1
        for p in range(len(parts)):
            for k in range(parts[p].shape[1]):
                index[np.uint64(parts[p][row, k])] = 1  # unsigned: no test for a negative index
        found = 0
        for number in range(len(index)):
            is_used = index[number]
            numbers[row, found] = number  # without a branch: the next one replaces it
            index[number] = found
            found += is_used
        numbers[row, found] = 0
        width = max(width, found)
        for p in range(len(parts)):
            for k in range(parts[p].shape[1]):
                indices[p][row, k] = index[np.uint64(parts[p][row, k])]
    return width
