"""Compile every kernel ahead of its first use."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from memhop.errors import MemhopError
from memhop.ops.cpu import background, kernel_cache
from memhop.ops.ragged.frontier import ragged_memory, uniform_frontier
from memhop.ops.ragged.read import WORTH_COMPILING as MANY_SLOTS
from memhop.ops.ragged.read import read_ragged
from memhop.ops.text.embedding_bag import WORTH_COMPILING as MANY_BAGS
from memhop.ops.text.embedding_bag import WeightedBags, embedding_bag
from memhop.ops.text.two_row_attention import WORTH_COMPILING as MANY_QUESTIONS
from memhop.ops.text.two_row_attention import TwoRowMemory

DTYPES = (torch.float32, torch.float64)


class Kernel(NamedTuple):
    """A kernel and the function that compiles it."""

    name: str
    compile: Callable[[], object]


def warmup(progress: Callable[[str, int, int], None] | None = None) -> None:
    """Compile every kernel for the CPU, or load it where it was compiled before.

    This takes about a minute once per machine; later processes load the kernels from disk in less
    than a second. Without it, ``impl="auto"`` uses the eager form while another process compiles,
    and the fused form after that, so the last bits of a result depend on when it is computed.
    Call it before a training whose results must be reproducible.

    Args:
        progress: called with the name of a kernel, its number from 0 on, and how many there are,
            before each kernel.

    Raises:
        MemhopError: a kernel does not compile here; the message says why.

    >>> import memhop
    >>> memhop.warmup()
    """
    with _compiling():
        every = list(kernels())
    for number, kernel in enumerate(every):
        if progress is not None:
            progress(kernel.name, number, len(every))
        with _compiling():
            kernel.compile()


@contextmanager
def _compiling() -> Iterator[None]:
    """Raise any error of a compiler as a MemhopError."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise MemhopError(f"the kernels do not compile here: {reason}") from error


def folder_for_kernels() -> Path:
    """Return the folder for compiled kernels; MemhopError if none is writable."""
    try:
        folder = kernel_cache.writable_folder()
        tried = " and ".join(map(str, kernel_cache.folders()))
    except ImportError as error:
        raise MemhopError(f"the kernels do not compile here: {error}") from error
    if folder is None:
        raise MemhopError(
            f"cannot write compiled kernels to {tried}: set NUMBA_CACHE_DIR to a folder"
        )
    return folder


def kernels() -> Iterator[Kernel]:
    """Yield all kernels for the CPU."""
    from memhop.ops.cpu.jobs import jobs_of

    for dtype, job in product(DTYPES, jobs_of(backward=True)):
        yield Kernel(f"fused {job}, {name_of(dtype)}", partial(background.ready_job, job, dtype))
    for dtype in DTYPES:
        yield Kernel(f"sums of word vectors, {name_of(dtype)}", partial(call_embedding_bag, dtype))
        yield Kernel(f"reads of stories, {name_of(dtype)}", partial(call_two_row_attention, dtype))
        yield Kernel(f"steps of Adam, {name_of(dtype)}", partial(call_adam, dtype))
        yield Kernel(f"reads of facts, {name_of(dtype)}", partial(call_read_ragged, dtype))
    yield Kernel("sentences of a batch", call_distinct)


def name_of(dtype: torch.dtype) -> str:
    """Return "float32" for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def call_embedding_bag(dtype: torch.dtype) -> None:
    """Call ``embedding_bag``, forward and backward, with a number of bags for which it compiles."""
    tables = torch.zeros(1, 1, 1, 1, dtype=dtype, device="cpu", requires_grad=True)
    places, ones = (
        torch.arange(MANY_BAGS + 1, device="cpu"),
        torch.ones(MANY_BAGS, dtype=dtype, device="cpu"),
    )
    rows = torch.zeros(MANY_BAGS, dtype=torch.int64, device="cpu")
    bags = WeightedBags(places, rows, places[:-1], ones, ones, None)
    with torch.enable_grad():
        embedding_bag(tables, bags, None).sum().backward()  # type: ignore[no-untyped-call]


def call_two_row_attention(dtype: torch.dtype) -> None:
    """Call ``TwoRowMemory``, forward and backward, with questions for which it compiles."""
    bank = torch.zeros(2, 1, 1, dtype=dtype, device="cpu", requires_grad=True)
    rows = torch.zeros(MANY_QUESTIONS, 1, 1, dtype=torch.int64, device="cpu")
    lengths = torch.ones(MANY_QUESTIONS, dtype=torch.int64, device="cpu")
    query = torch.zeros(MANY_QUESTIONS, 1, dtype=dtype, device="cpu", requires_grad=True)
    for mask_rest, softmax in product((False, True), repeat=2):
        memory = TwoRowMemory(bank, rows, lengths, mask_rest=mask_rest)
        with torch.enable_grad():
            read, weights = memory.read(query, 0, 1, softmax=softmax)
            (read.sum() + weights.sum()).backward()  # type: ignore[no-untyped-call]


def call_adam(dtype: torch.dtype) -> None:
    """Call ``adam_``."""
    from memhop.ops.cpu.adam import adam_

    adam_([torch.ones(1, dtype=dtype, device="cpu")] * 4, (0.5, 0.5), 1.0, 0.0, 1)


def call_distinct() -> None:
    """Call ``distinct`` with the parts that training has."""
    from memhop.ops.text.distinct_cpu import distinct

    distinct(1, *[np.zeros((1, 1), np.int64)] * 2)


def call_read_ragged(dtype: torch.dtype) -> None:
    """Call ``read_ragged``, forward and backward, with slots for which it compiles."""
    zeros = torch.zeros(MANY_SLOTS, dtype=torch.int64, device="cpu")
    start = uniform_frontier([(0,)], dtype)
    table = torch.ones(1, 1, dtype=dtype, device="cpu", requires_grad=True)
    with torch.enable_grad():
        after, _ = read_ragged(table, table, ragged_memory(zeros, zeros, zeros, 1), start)
        after.weights.sum().backward()  # type: ignore[no-untyped-call]
