"""A memory whose rows lie in a file: mapped into memory, or read part by part."""

import mmap
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, NoReturn

import torch

from memhop.errors import MemhopError
from memhop.ops.inputs import Stored
from memhop.ops.streamed import Ranges, StreamedMemory
from memhop.storage.direct_reads import HeldFile, open_parts, read_ahead
from memhop.storage.file_state import (
    FileState,
    absolute,
    below_here,
    file_state,
    opened,
    read_errors,
)
from memhop.storage.mapping import map_rows
from memhop.storage.ram import ram_bytes
from memhop.storage.row_layout import Rows, check_rows, shard_range, tensors_over

__all__ = ["Rows", "RowsMemory"]

PART_BYTES = 3 * 2**23
RAM_SHARE = 0.75


class RowsMemory(StreamedMemory):
    """Rows of a file as a memory: memory-mapped if they fit in RAM, else read part by part.

    Rows fit if they take at most three quarters of the RAM: of the machine's RAM or, if it is
    smaller, of the memory limit of the control group (versions 1 and 2) that the process runs in.
    Free memory does not count. It changes from moment to moment, and the system drops the pages of
    a mapped file when others need memory. A file that does not fit leaves the page cache before
    it is read again: direct reads then cost no more time, and take no memory from others.

    Args:
        rows: where the rows lie.
        stream: True reads them part by part, False maps them into memory; None decides by RAM.
        held: the open file, which is read also after it lost its name; None opens the path each
            time, and so do a copy of the memory and another process that gets it.

    Raises:
        MemhopError: the file is missing, unreadable or too short, or the layout is impossible.
    """

    is_transient = True

    def __init__(
        self, rows: Rows, *, stream: bool | None = None, held: HeldFile | None = None
    ) -> None:
        check_rows(rows)
        rows = rows._replace(path=absolute(rows.path))
        if stream is False and not rows.is_aligned:
            size = rows.dtype.itemsize
            place = f"the numbers at a multiple of {size} bytes"
            raise MemhopError(f"{rows.path}: expected {place} to map it, got byte {rows.offset}")
        if stream is None:
            limit = ram_bytes()
            stream = limit is not None and rows.end - rows.offset > RAM_SHARE * limit
        self._rows = rows
        self._stream = bool(stream) or not rows.is_aligned
        self._mapped: tuple[mmap.mmap | None, Stored] | None = None
        self._held = held
        with self._opened() as descriptor:  # the file is readable
            self._state = file_state(descriptor, rows.path)
        self._check(self._state)

    @property
    def shape(self) -> torch.Size:
        """Sizes of the memory, [N, I]."""
        return torch.Size(self._rows.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the rows; int8 if they are ``Quantized``."""
        return self._rows.dtype

    @property
    def is_streamed(self) -> bool:
        """Whether the rows are read part by part."""
        return self._stream

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        how = "read part by part" if self._stream else "memory-mapped"
        path, sizes = str(below_here(self._rows.path)), list(self._rows.shape)
        return f"{type(self).__name__}({path!r}, {sizes} {dtype}, {how})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None, "_held": None}  # they belong to a process

    def whole(self) -> Stored | None:
        """Return the mapped rows, or None if they are read part by part.

        What you write to the tensors stays in this process and does not reach the file.

        Raises:
            MemhopError: the file has changed, is too short, or cannot be read.
        """
        rows = self._rows
        if self._stream:
            return None
        if self._mapped is None:
            with self._opened() as descriptor, read_errors(rows.path):
                self._check(file_state(descriptor, rows.path))
                self._mapped = map_rows(rows, descriptor)
        elif not rows.is_growing:
            self._check(file_state(rows.path))
        elif self._mapped[0] is not None and self._mapped[0].size() < rows.end:
            self._raise_short(self._mapped[0].size())  # the file may have lost its name
        return self._mapped[1]

    def ranges(self) -> Ranges:
        """Return the parts in which the file is read, of 24 MiB or one row."""
        count, step = self._rows.shape[0], max(1, PART_BYTES // self._rows.row_bytes)
        return [(i, min(i + step, count)) for i in range(0, count, step)] or [(0, 0)]

    def stream(self, ranges: Ranges) -> Iterator[Stored]:
        """Yield the rows of each range; its tensors are overwritten when you take the next one.

        Two direct reads are in flight while you work on a part. Close the iterator, or let it go,
        to stop early.

        Raises:
            MemhopError: the file has changed, is too short, or cannot be read.
        """
        rows = self._rows
        for first, last in ranges:
            if not 0 <= first <= last <= rows.shape[0]:
                raise ValueError(f"expected ranges within 0 to {rows.shape[0]}, got {first, last}")
        parts = [rows.areas(first, last) for first, last in ranges]
        with nullcontext(self._held.parts) if self._held else open_parts(rows.path) as file:
            self._check(file_state(file.descriptor, rows.path))
            with closing(read_ahead(file, parts)) as read:
                for (first, last), (buffer, places) in zip(ranges, read, strict=True):
                    # after the read: a change before it would show
                    self._check(file_state(file.descriptor, rows.path))
                    yield tensors_over(buffer, rows, last - first, rows.places(first, last, places))

    def shard(self, rank: int, num_ranks: int, *, stream: bool | None = None) -> "RowsMemory":
        """Return the rows of one of ``num_ranks`` processes that share the memory.

        The shards are in the order of the ranks, and their sizes differ by at most one row. Each
        process reads its own rows of the file alone.

        Args:
            rank: of this process, from 0 on.
            num_ranks: the number of processes.
            stream: as for the whole memory; None decides by the size of the shard.

        Raises:
            MemhopError: a wrong rank, or a file that has changed.

        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> from memhop import FileMemory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/vectors.npy", np.eye(5, 2, dtype=np.float32))
        ...     memory = FileMemory(f"{folder}/vectors.npy")
        ...     [memory.shard(rank, 2).shape[0] for rank in (0, 1)]
        [2, 3]
        """
        first, last = shard_range(self.shape[0], rank, num_ranks)
        with self._opened() as descriptor:
            self._check(file_state(descriptor, self._rows.path))
        return RowsMemory(self._rows.between(first, last), stream=stream, held=self._held)

    def _opened(self) -> AbstractContextManager[int]:
        """Return a context with a descriptor of the file."""
        return nullcontext(self._held.descriptor) if self._held else opened(self._rows.path)

    def _check(self, state: FileState) -> None:
        """Check that the file has the rows and is still the one that was opened."""
        if state.size < self._rows.end:
            self._raise_short(state.size)
        # the device and the number alone of a growing file: it may have been replaced
        num_compared = 2 if self._rows.is_growing else len(state)
        if state[:num_compared] != self._state[:num_compared]:
            raise MemhopError(
                f"{self._rows.path}: the file has changed since it was opened: expected "
                f"{self._state.size:,} bytes and the same time, got {state.size:,} bytes"
            )

    def _raise_short(self, size: int) -> NoReturn:
        rows = self._rows
        raise MemhopError(
            f"{rows.path}: the file is too short: expected {rows.end:,} bytes for rows "
            f"{list(rows.shape)}, got {size:,}"
        )
