"""Read parts of a file ahead of their use, around the page cache of the system.

A file larger than RAM leaves the page cache before it is read again, so the cache costs time and
memory and saves nothing. Direct reads (O_DIRECT) need addresses, offsets and sizes that are
multiples of a block. Where the file system refuses them, the reads are buffered, and the pages
are dropped from the cache.
"""

import errno
import mmap
import os
import weakref
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from memhop.errors import MemhopError
from memhop.storage.file_state import opened, read_errors

BLOCK_BYTES = 4096
NUM_READS = 2  # in flight: while one is completed, the device works on the other
_DIRECT = getattr(os, "O_DIRECT", 0)

Area = tuple[int, int]  # the first byte and the one after the last
Part = Sequence[Area]


class PartFile(NamedTuple):
    """An open file: its path, its descriptor, and whether it is read around the page cache."""

    path: Path
    descriptor: int
    is_direct: bool


class HeldFile:
    """A file that stays open until nothing uses it, so that it may lose its name.

    Args:
        path: for errors.
        descriptor: of the file, opened for reading; it is closed with the last use.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor
        weakref.finalize(self, os.close, descriptor)

    @cached_property
    def parts(self) -> PartFile:
        """The file for `read_ahead`, which may only be used as long as this object.

        Raises:
            MemhopError: the file cannot be read.
        """
        _check_preadv(self.path)
        if _DIRECT:
            import fcntl

            flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
            with suppress(OSError):  # the file system refuses direct reads
                fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags | _DIRECT)
        return PartFile(self.path, self.descriptor, _is_direct(self.path, self.descriptor))


@contextmanager
def open_parts(path: Path) -> Iterator[PartFile]:
    """Open a file for `read_ahead`; it is closed at the end of the block.

    Raises:
        MemhopError: the file is missing, is not a regular file, or cannot be read.
    """
    _check_preadv(path)
    with opened(path, _DIRECT) as descriptor:
        yield PartFile(path, descriptor, _is_direct(path, descriptor))


def _check_preadv(path: Path) -> None:
    if not hasattr(os, "preadv"):
        raise MemhopError(f"{path}: expected a system with preadv to read it part by part")


def _is_direct(path: Path, descriptor: int) -> bool:
    """Return whether direct reads work; if they do not, make the reads of a file buffered."""
    if not _DIRECT:
        return False
    import fcntl

    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if not flags & _DIRECT:
        return False
    with mmap.mmap(-1, BLOCK_BYTES, access=mmap.ACCESS_COPY) as block, read_errors(path):
        try:
            os.preadv(descriptor, [block], 0)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~_DIRECT)
            return False
    return True


def read_ahead(
    file: PartFile, parts: Sequence[Part]
) -> Generator[tuple[mmap.mmap, list[int]], None, None]:
    """Yield the bytes of each part in a buffer, with the place of each of its areas there.

    Two more parts are read while you work on one. A buffer is overwritten after the next step. An
    area that the file does not have to its end is filled with what the buffer held before: compare
    the size of the file. The threads end when the iterator is closed.

    Raises:
        MemhopError: the file cannot be read.
    """
    if not parts:
        return
    size = max(sum(end - begin for begin, end in map(_blocks, part)) for part in parts)
    buffers = deque(_buffer(size) for _ in range(min(len(parts), NUM_READS + 1)))
    coming = iter(parts)
    reads: deque[tuple[mmap.mmap, Future[list[int]]]] = deque()
    with ThreadPoolExecutor(NUM_READS, thread_name_prefix="memhop-read") as pool:
        try:
            while True:
                for part in islice(coming, len(buffers)):
                    buffer = buffers.popleft()
                    reads.append((buffer, pool.submit(_read, file, part, buffer)))
                if not reads:
                    return
                buffer, read = reads.popleft()
                yield buffer, read.result()
                buffers.append(buffer)
        finally:
            for _, read in reads:
                read.cancel()


def _buffer(size: int) -> mmap.mmap:
    """Return private memory that begins at a page, in huge pages if the system has them."""
    buffer = mmap.mmap(-1, max(size, 1), access=mmap.ACCESS_COPY)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


def _blocks(area: Area) -> Area:
    """Return the whole blocks around an area."""
    begin, end = area
    return begin // BLOCK_BYTES * BLOCK_BYTES, -(-end // BLOCK_BYTES) * BLOCK_BYTES


def _read(file: PartFile, part: Part, buffer: mmap.mmap) -> list[int]:
    """Read the areas of a part one after the other; return the place of each in the buffer."""
    places, place = [], 0
    with memoryview(buffer) as memory, read_errors(file.path):
        for area in part:
            begin, end = _blocks(area)
            places.append(place + area[0] - begin)
            with memory[place : place + end - begin] as target:
                _read_blocks(file, target, begin, area[1])
            place += end - begin
    return places


def _read_blocks(file: PartFile, target: memoryview, begin: int, end: int) -> None:
    """Fill a buffer from a file; stop at the end of the area, or of the file if that is first.

    Raises:
        OSError: a read returns fewer bytes, and no more when it is repeated.
    """
    done = 0
    while begin + done < end:
        with target[done:] as rest:
            count = os.preadv(file.descriptor, [rest], begin + done)
        reached = done + count
        if file.is_direct and begin + reached < end:
            reached -= reached % BLOCK_BYTES  # a direct read must begin at a block
        if reached == done:
            expected = min(end, os.fstat(file.descriptor).st_size) - begin
            if done + count < expected:
                got = f"got {done + count:,}"
                raise OSError(f"expected {expected:,} bytes from byte {begin:,} on, {got}")
            break
        done = reached
    if not file.is_direct and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.descriptor, begin, len(target), os.POSIX_FADV_DONTNEED)
