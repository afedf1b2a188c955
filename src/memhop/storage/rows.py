"""A memory whose rows lie in a file: mapped into memory, or read part by part."""

import mmap
import os
from collections.abc import Iterator
from typing import NoReturn

import torch

from memhop.errors import MemhopError
from memhop.ops.inputs import Stored
from memhop.ops.streamed import Ranges, StreamedMemory
from memhop.storage.file_state import FileState, file_state, opened
from memhop.storage.mapping import map_rows
from memhop.storage.row_layout import Rows, check_rows, tensors_over

__all__ = ["Rows", "RowsMemory"]

PART_BYTES = 2**24


class RowsMemory(StreamedMemory):
    """Rows of a file as a memory: memory-mapped if they fit in RAM, else read part by part.

    Args:
        rows: where the rows lie.
        stream: True reads them part by part, False maps them into memory; None decides by RAM.

    Raises:
        MemhopError: the file is missing, unreadable or too short, or the layout is impossible.
    """

    is_transient = True

    def __init__(self, rows: Rows, *, stream: bool | None = None) -> None:
        check_rows(rows)
        self._rows = rows
        self._stream = bool(stream)
        self._mapped: tuple[mmap.mmap | None, Stored] | None = None
        with opened(rows.path) as descriptor:
            self._state = file_state(descriptor, self._rows.path)
            self._check(self._state)

    @property
    def shape(self) -> torch.Size:
        """Sizes of the memory, [N, I]."""
        return torch.Size(self._rows.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the rows; int8 if they are quantized."""
        return self._rows.dtype

    def whole(self) -> Stored | None:
        """Return the mapped rows, or None if they are read part by part.

        Raises:
            MemhopError: the file has changed, is too short, or cannot be read.
        """
        if self._stream:
            return None
        if self._mapped is None:
            with opened(self._rows.path) as descriptor:
                self._check(file_state(descriptor, self._rows.path))
                self._mapped = map_rows(self._rows, descriptor)
        elif not self._rows.is_growing:
            self._check(file_state(self._rows.path))
        elif self._mapped[0] is not None and self._mapped[0].size() < self._rows.end:
            self._raise_short(self._mapped[0].size())
        return self._mapped[1]

    def ranges(self) -> Ranges:
        """Return the parts in which the file is read."""
        count, step = self._rows.shape[0], max(1, PART_BYTES // self._rows.row_bytes)
        return [(i, min(i + step, count)) for i in range(0, count, step)] or [(0, 0)]

    def stream(self, ranges: Ranges) -> Iterator[Stored]:
        """Yield the rows of each range."""
        with opened(self._rows.path) as descriptor:
            for first, last in ranges:
                data, end = self._rows.data_area(first, last)
                buffer = bytearray(os.pread(descriptor, end - data, data))
                if len(buffer) < end - data:
                    self._raise_short(data + len(buffer))
                place = len(buffer)
                if self._rows.scales is not None:
                    scale, end = self._rows.scale_area(first, last)
                    buffer += bytes(-place % 4)
                    place = len(buffer)
                    buffer += os.pread(descriptor, end - scale, scale)
                self._check(file_state(descriptor, self._rows.path))
                yield tensors_over(buffer, self._rows, last - first, (0, place))

    def _check(self, state: FileState) -> None:
        rows = self._rows
        if state.size < rows.end:
            self._raise_short(state.size)
        if not rows.is_growing and state != self._state:
            raise MemhopError(
                f"{rows.path}: the file has changed since it was opened: expected "
                f"{self._state.size:,} bytes of the same time, got {state.size:,} bytes"
            )

    def _raise_short(self, size: int) -> NoReturn:
        rows = self._rows
        raise MemhopError(
            f"{rows.path}: the file is too short: expected {rows.end:,} bytes for "
            f"{list(rows.shape)}, got {size:,}"
        )
