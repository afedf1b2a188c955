"""Space for large results, in large pages of memory.

The C library asks the system for every block of 32 MiB and more anew. In pages of 4 KiB the first
write to such a block takes longer than what is written; pages of 2 MiB take half of that or less.
"""

import ctypes
import functools
import mmap
from collections.abc import Callable

import torch
from torch import Tensor

LARGE = 2**25  # bytes, from which on the C library keeps nothing that was freed
PAGE = 2**21


@functools.cache
def _advise() -> Callable[[int, int, int], int] | None:
    """The system's ``madvise``, where it knows of large pages."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return advise


def empty_like(rows: Tensor) -> Tensor:
    """Space for as many rows, contiguous whatever the strides of these are."""
    room = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)
    advise = _advise() if room.nbytes >= LARGE and room.device.type == "cpu" else None
    if advise is not None:
        begin = -(-room.data_ptr() // PAGE) * PAGE  # whole pages within the tensor, nothing beside
        end = (room.data_ptr() + room.nbytes) // PAGE * PAGE
        if begin < end:
            advise(begin, end - begin, mmap.MADV_HUGEPAGE)  # where it is refused, small pages do
    return room
