"""Map the rows of a file into memory, privately: writing to the tensors does not reach the file."""

import mmap

from memhop.ops.inputs import Stored
from memhop.storage.row_layout import Rows, tensors_over


def map_rows(rows: Rows, descriptor: int) -> tuple[mmap.mmap | None, Stored]:
    """Return the mapping of a file and the tensors over its rows; no mapping if there are none.

    Raises:
        OSError, ValueError: the system cannot map the file.
    """
    count = rows.shape[0]
    if count == 0:
        return None, tensors_over(b"", rows, 0, (0, 0))
    data, _ = rows.data_area(0, count)
    scale, _ = rows.scale_area(0, count) if rows.scales is not None else (data, 0)
    begin = min(data, scale) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    mapped = mmap.mmap(descriptor, rows.end - begin, access=mmap.ACCESS_COPY, offset=begin)
    return mapped, tensors_over(mapped, rows, count, (data - begin, scale - begin))


def mapped_file_bytes(mapped: mmap.mmap) -> int:
    """Return the size of the file of a mapping, which may have lost its name."""
    return mapped.size()
