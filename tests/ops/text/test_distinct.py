"""The distinct numbers of rows, against ``numpy.unique``."""

import numpy as np
import pytest

from memhop.ops.text.distinct_cpu import distinct


@pytest.mark.parametrize(
    ("rows", "widths", "count"),
    [(4, (6, 2), 9), (3, (30, 4), 5), (2, (0, 1), 3), (2, (0, 0), 1), (0, (3, 1), 4)],
)
def test_numbers_and_their_indices(rows: int, widths: tuple[int, int], count: int) -> None:
    random = np.random.default_rng(0)
    parts = [random.integers(count, size=(rows, width)) for width in widths]
    numbers, indices = distinct(count, *parts)
    wanted = [np.unique([0, *(k for part in parts for k in part[row])]) for row in range(rows)]
    assert numbers.shape == (rows, max(map(len, wanted), default=0))
    for row, each in enumerate(wanted):
        np.testing.assert_array_equal(numbers[row, : len(each)], each)
        assert not numbers[row, len(each) :].any()
        for part, index in zip(parts, indices, strict=True):
            np.testing.assert_array_equal(numbers[row][index[row]], part[row])
            assert (index[row] < len(each)).all()
