"""Where the rows of a memory lie in a file, and the tensors over their bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memhop.errors import MemhopError, check_integer
from memhop.ops import Quantized
from memhop.ops.inputs import Stored

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int8)
SCALE_BYTES = torch.float32.itemsize
MAX_GAP_BYTES = 4096  # rows and scales that lie so close are read at once


class Rows(NamedTuple):
    """The place of the rows of a memory in a file.

    Attributes:
        path: the file.
        shape: N and I.
        dtype: float32, float64, bfloat16 or float16; or int8 with scales.
        offset: byte of the first row.
        row_bytes: distance of two rows in bytes, at least I numbers and a multiple of one.
        scales: of int8, the byte of the first float32 scale and the distance of two in bytes.
        is_growing: whether a program appends to the file. A change of its size or of its time is
            then no error unless the file is shorter than the rows or another one.
    """

    path: Path
    shape: tuple[int, int]
    dtype: torch.dtype
    offset: int
    row_bytes: int
    scales: tuple[int, int] | None = None
    is_growing: bool = False

    @property
    def end(self) -> int:
        """The smallest size in bytes of a file that has all rows."""
        return max(end for _, end in self.areas(0, self.shape[0])) if self.shape[0] else 0

    @property
    def is_aligned(self) -> bool:
        """Whether each number lies at a multiple of its size, as a tensor without a copy needs."""
        offset, _ = self.scales or (0, 0)
        return self.offset % self.dtype.itemsize == 0 and offset % SCALE_BYTES == 0

    def between(self, first: int, last: int) -> "Rows":
        """Return the rows ``first`` to ``last - 1``."""
        offset, _ = self.data_area(first, last)
        scales = self.scales and (self.scale_area(first, last)[0], self.scales[1])
        return self._replace(shape=(last - first, self.shape[1]), offset=offset, scales=scales)

    def areas(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the bytes to read for the rows ``first`` to ``last - 1``: one area or two."""
        data = self.data_area(first, last)
        if self.scales is None:
            return [data]
        scale = self.scale_area(first, last)
        if max(data[0], scale[0]) - min(data[1], scale[1]) > MAX_GAP_BYTES:
            return [data, scale]
        return [(min(data[0], scale[0]), max(data[1], scale[1]))]

    def places(self, first: int, last: int, starts: Sequence[int]) -> tuple[int, int]:
        """Return where the first row and the first scale lie if the areas lie at ``starts``."""
        if len(starts) == 2:
            return starts[0], starts[1]
        [(begin, _)] = self.areas(first, last)
        places = (self.data_area(first, last), self.scale_area(first, last))
        return starts[0] + places[0][0] - begin, starts[0] + places[1][0] - begin

    def data_area(self, first: int, last: int) -> tuple[int, int]:
        """Return the first byte of the rows ``first`` to ``last - 1``, and the one after them."""
        begin = self.offset + first * self.row_bytes
        gap = self.row_bytes - self.shape[1] * self.dtype.itemsize
        return begin, begin + max(0, (last - first) * self.row_bytes - gap)

    def scale_area(self, first: int, last: int) -> tuple[int, int]:
        """Return the first byte of the scales of these rows, and the one after them."""
        offset, distance = self.scales or (0, SCALE_BYTES)
        begin = offset + first * distance
        return begin, begin + max(0, (last - first) * distance - (distance - SCALE_BYTES))


def shard_range(num_rows: int, rank: int, num_ranks: int) -> tuple[int, int]:
    """Return the first row of a rank and the one after its last.

    Raises:
        MemhopError: a wrong rank.

    >>> [shard_range(5, rank, 2) for rank in range(2)]
    [(0, 2), (2, 5)]
    """
    check_integer("num_ranks", num_ranks, 1)
    check_integer("rank", rank, 0, num_ranks - 1)
    return num_rows * rank // num_ranks, num_rows * (rank + 1) // num_ranks


def check_rows(rows: Rows) -> None:
    """Check that the numbers of a layout are possible.

    Raises:
        MemhopError: a shape, dtype, offset or distance with which rows overlap or have no place.
    """
    (count, width), size = rows.shape, rows.dtype.itemsize
    if count < 0 or width < 1:
        raise MemhopError(f"{rows.path}: expected [N, I] with I at least 1, got {[count, width]}")
    if rows.dtype not in DTYPES or (rows.dtype is torch.int8) != (rows.scales is not None):
        dtype = str(rows.dtype).removeprefix("torch.")
        got = dtype if rows.scales is None else f"{dtype} with scales"
        expected = "float32, float64, bfloat16, float16, or int8 with scales"
        raise MemhopError(f"{rows.path}: expected {expected}, got {got}")
    offset, distance = rows.scales or (0, SCALE_BYTES)
    is_row_wrong = rows.row_bytes < width * size or rows.row_bytes % size
    if rows.offset < 0 or offset < 0 or is_row_wrong or distance < 4 or distance % SCALE_BYTES:
        got = f"offset {rows.offset}, row_bytes {rows.row_bytes}, scales {rows.scales}"
        raise MemhopError(f"{rows.path}: expected rows of {width * size} bytes or more, got {got}")


def tensors_over(buffer: Any, rows: Rows, count: int, places: tuple[int, int]) -> Stored:
    """Return ``count`` rows that lie in a writable buffer, without a copy if they are aligned.

    Args:
        buffer: an object with the buffer protocol; the tensors keep it alive.
        rows: the layout.
        count: the number of rows.
        places: the bytes of the buffer at which the first row and the first scale lie.
    """
    data, scale = places
    size = rows.dtype.itemsize
    strides = (rows.row_bytes // size, 1)
    matrix = strided(buffer, rows.dtype, (count, rows.shape[1]), strides, data)
    if rows.scales is None:
        return matrix
    steps = (rows.scales[1] // SCALE_BYTES,)
    return Quantized(matrix, strided(buffer, torch.float32, (count,), steps, scale))


def strided(
    buffer: Any, dtype: torch.dtype, shape: tuple[int, ...], strides: tuple[int, ...], begin: int
) -> Tensor:
    """Return a strided tensor that begins at a byte of a buffer; a copy if it is not aligned."""
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    count = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if begin % dtype.itemsize == 0:
        flat = torch.frombuffer(buffer, dtype=dtype, count=count, offset=begin)
    else:
        nbytes = count * dtype.itemsize
        unaligned = torch.frombuffer(buffer, dtype=torch.uint8, count=nbytes, offset=begin)
        flat = unaligned.clone().view(dtype)
    return flat.as_strided(shape, strides)
