"""Large tensors in huge pages.

The C library returns every block of 32 MiB and more to the system, so each new one page-faults at
its first write. With pages of 4 KiB that takes longer than the write; with huge pages of 2 MiB it
takes at most half as long.
"""

import ctypes
import functools
import mmap
from collections.abc import Callable

import torch
from torch import Tensor

MIN_BYTES = 2**25
PAGE_BYTES = 2**21


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """Return the system's ``madvise``, or None if it has no huge pages."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return madvise


def empty_like(rows: Tensor) -> Tensor:
    """Return an uninitialized contiguous tensor of the same shape, dtype and device."""
    tensor = torch.empty_like(rows, memory_format=torch.contiguous_format)
    is_large = tensor.nbytes >= MIN_BYTES and tensor.is_cpu
    madvise = _madvise() if is_large else None
    if madvise is not None:
        begin = -(-tensor.data_ptr() // PAGE_BYTES) * PAGE_BYTES  # whole pages inside the tensor
        end = (tensor.data_ptr() + tensor.nbytes) // PAGE_BYTES * PAGE_BYTES
        if begin < end:
            madvise(begin, end - begin, mmap.MADV_HUGEPAGE)  # if it fails, pages stay small
    return tensor


def zeros_like(rows: Tensor) -> Tensor:
    """Return a contiguous tensor of zeros of the same shape, dtype and device."""
    return empty_like(rows).zero_()
