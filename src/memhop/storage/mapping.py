"""Map the rows of a file into memory, privately: writing to the tensors does not reach the file."""

import mmap
from contextlib import suppress

from memhop.ops.inputs import Stored
from memhop.storage.row_layout import Rows, tensors_over


def map_rows(rows: Rows, descriptor: int) -> tuple[mmap.mmap | None, Stored]:
    """Return the mapping of a file and the tensors over its rows; no mapping if there are none.

    The mapping is private and writable, so that torch accepts it without a warning. A page that is
    written becomes a copy.

    Raises:
        OSError, ValueError: the system cannot map the file.
    """
    count = rows.shape[0]
    if count == 0:
        return None, tensors_over(b"", rows, 0, (0, 0))
    data, _ = rows.data_area(0, count)
    scale, _ = rows.scale_area(0, count) if rows.scales is not None else (data, 0)
    begin = min(data, scale) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    mapped = _map(descriptor, rows.end - begin, begin)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Every query reads all rows. With huge pages a first read has 512 times fewer page faults,
        # where the page cache holds the file in large blocks.
        with suppress(OSError):
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return mapped, tensors_over(mapped, rows, count, (data - begin, scale - begin))


def _map(descriptor: int, size: int, begin: int) -> mmap.mmap:
    """Return a private mapping of bytes of a file."""
    reserve = getattr(mmap, "MAP_NORESERVE", 0)  # Python 3.13
    if not reserve:
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY, offset=begin)
    # Without it the system may refuse a mapping larger than RAM, all of which could be written.
    flags, protection = mmap.MAP_PRIVATE | reserve, mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(descriptor, size, flags=flags, prot=protection, offset=begin)
