"""The vectors of a store: a flat file of rows without a header."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memhop.errors import MemhopError, shown
from memhop.ops import Quantized
from memhop.storage.direct_reads import HeldFile
from memhop.storage.folder import StoreFolder, sync_data, vectors_path
from memhop.storage.rows import Rows

_SCALE_BYTES = 4


class RowFormat:
    """How a vector becomes the bytes of a row, and back.

    A row of int8 is padded to a multiple of 4 bytes, and its float32 scale follows.

    >>> form = RowFormat(3, torch.int8)
    >>> form.row_bytes
    8
    >>> form.decode(bytes(form.encode(torch.tensor([[127.0, -254.0, 0.0]]))))
    tensor([[ 128., -254.,    0.]])
    """

    def __init__(self, dim: int, dtype: torch.dtype) -> None:
        self.dim, self.dtype = dim, dtype
        self._scale_at = -(-dim // _SCALE_BYTES) * _SCALE_BYTES
        self.row_bytes = dim * dtype.itemsize
        if dtype is torch.int8:
            self.row_bytes = self._scale_at + _SCALE_BYTES

    def rows(self, path: Path, num_rows: int) -> Rows:
        """Return where the rows of a file lie."""
        scales = (self._scale_at, self.row_bytes) if self.dtype is torch.int8 else None
        shape = (num_rows, self.dim)
        return Rows(path, shape, self.dtype, 0, self.row_bytes, scales, is_growing=True)

    def vectors(self, values: Any) -> Tensor:
        """Return vectors [n, dim] from an array, a tensor or lists; a single one may be [dim].

        They are float32 for int8, and else of the dtype of the rows.

        Raises:
            MemhopError: other shapes, or numbers that are not finite in the dtype of the rows.
        """
        expected = f"vectors: expected finite numbers [n, {self.dim}]"
        try:
            tensor = torch.as_tensor(values)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise MemhopError(f"{expected}, got {shown(values)}") from error
        if tensor.layout != torch.strided:
            layout = str(tensor.layout).removeprefix("torch.")
            raise MemhopError(f"{expected}, got the layout {layout}")
        shape = tensor.shape
        if shape == (self.dim,):
            tensor = tensor.unsqueeze(0)
        elif shape in ((0,), (0, 0)):
            tensor = tensor.new_empty(0, self.dim)
        elif len(shape) != 2 or shape[1] != self.dim:
            raise MemhopError(f"{expected}, got the shape {list(shape)}")
        if tensor.is_complex() or tensor.dtype == torch.bool:
            raise MemhopError(f"{expected}, got {str(tensor.dtype).removeprefix('torch.')}")
        kept = torch.float32 if self.dtype is torch.int8 else self.dtype
        if tensor.requires_grad or tensor.dtype != kept or not tensor.is_cpu:
            tensor = tensor.detach().to("cpu", kept)
        tensor = tensor.contiguous().resolve_neg()
        # A sum is finite only if all numbers are; it reads them without writing a mask.
        if not math.isfinite(tensor.sum(dtype=torch.float32).item()):
            is_finite = tensor.isfinite().all(-1)
            if not is_finite.all():
                row = int(is_finite.logical_not().nonzero()[0])
                dtype = str(kept).removeprefix("torch.")
                raise MemhopError(f"{expected} in {dtype}, got others in row {row}")
        return tensor

    def encode(self, vectors: Tensor) -> memoryview:
        """Return the bytes of vectors [n, dim] as `vectors` returns them."""
        if vectors.shape[0] == 0:
            return memoryview(b"")
        if self.dtype is torch.int8:
            quantized = Quantized.of(vectors)
            rows = torch.zeros(len(vectors), self.row_bytes, dtype=torch.uint8)
            rows[:, : self.dim] = quantized.data.view(torch.uint8)
            rows[:, self._scale_at :] = quantized.scale.unsqueeze(-1).view(torch.uint8)
            vectors = rows
        elif self.dtype is torch.bfloat16:  # NumPy has no such dtype
            vectors = vectors.view(torch.int16)
        return memoryview(vectors.numpy().data).cast("B")

    def decode(self, content: bytes) -> Tensor:
        """Return the vectors of rows as float32, [n, dim]."""
        if not content:
            return torch.empty(0, self.dim)
        rows = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, self.row_bytes)
        if self.dtype is not torch.int8:
            return rows.view(self.dtype).float()
        scale = rows[:, self._scale_at :].contiguous().view(torch.float32)
        return rows[:, : self.dim].contiguous().view(torch.int8) * scale


class VectorFile:
    """An open file of rows.

    Args:
        folder: of the store.
        generation: which of its files.
        form: the format of its rows.
        flags: of ``os.open``, such as ``os.O_RDONLY``.

    Raises:
        FileNotFoundError: no such file.
        MemhopError: it cannot be opened, or is not a regular file.
    """

    def __init__(self, folder: StoreFolder, generation: int, form: RowFormat, flags: int) -> None:
        self.folder, self.generation, self.form = folder, generation, form
        self.path = vectors_path(folder.path, generation)
        self._checked_rows = -1
        self._descriptor = folder.open(self.path.name, flags)

    def check_size(self, num_rows: int) -> None:
        """Check that the file has all rows.

        Raises:
            MemhopError: it is shorter.
        """
        if num_rows <= self._checked_rows:
            return
        expected, size = num_rows * self.form.row_bytes, os.fstat(self._descriptor).st_size
        if size < expected:
            raise MemhopError(
                f"{self.path}: corrupt store: expected {expected:,} bytes for {num_rows:,} rows, "
                f"got {size:,}"
            )
        self._checked_rows = num_rows

    def write(self, num_rows: int, content: memoryview) -> None:
        """Write rows after the first ``num_rows``, and wait until they are on the device.

        Raises:
            OSError: the device is full, or another failure; the rows before are as they were.
        """
        self.write_part(num_rows * self.form.row_bytes, content)
        self._checked_rows = num_rows + len(content) // self.form.row_bytes
        sync_data(self._descriptor)

    def write_part(self, begin: int, content: memoryview | bytes) -> None:
        """Write bytes at a place, without a sync."""
        rest = memoryview(content)
        while len(rest):
            written = os.pwrite(self._descriptor, rest[: 2**30], begin)
            begin, rest = begin + written, rest[written:]

    def sync(self) -> None:
        """Wait until the file is on the device."""
        sync_data(self._descriptor)

    def truncate(self, num_rows: int) -> None:
        """Remove what lies after the first rows."""
        size = num_rows * self.form.row_bytes
        self._checked_rows = min(self._checked_rows, num_rows)
        if os.fstat(self._descriptor).st_size > size:
            os.ftruncate(self._descriptor, size)

    def held(self) -> HeldFile:
        """Return the file, open once more for a memory, which may live longer than this object.

        Raises:
            FileNotFoundError: the writer has removed it.
            MemhopError: it cannot be opened.
        """
        return HeldFile(self.path, self.folder.open(self.path.name, os.O_RDONLY))

    def read(self, rows: Sequence[int]) -> bytes:
        """Return the bytes of rows.

        Raises:
            MemhopError: the file is too short.
        """
        size = self.form.row_bytes
        content = b"".join([os.pread(self._descriptor, size, row * size) for row in rows])
        if len(content) != len(rows) * size:
            raise MemhopError(f"{self.path}: corrupt store: the file is shorter than its rows")
        return content

    def read_range(self, first: int, last: int) -> bytes:
        """Return the bytes of the rows ``first`` to ``last - 1``."""
        begin, end = first * self.form.row_bytes, last * self.form.row_bytes
        parts = []
        while begin < end:
            parts.append(os.pread(self._descriptor, min(end - begin, 2**30), begin))
            if not parts[-1]:
                raise MemhopError(f"{self.path}: corrupt store: the file is shorter than its rows")
            begin += len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
