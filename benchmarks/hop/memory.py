"""How much memory does a call take beyond its inputs, its results and their gradients?

Measured as the kernel counts it: the peak of the resident set during a call, over what was
resident before, so that it sees every allocator. It is that of a second call; what the first left
behind is told apart. A process that measures this is to be started with ``ENVIRONMENT``: freed
memory must go back to the system, or the next call takes it unseen.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.hop.cases import Case, Inputs, make
from benchmarks.hop.forms import Candidate, path
from benchmarks.hop.rows import Setting, row
from benchmarks.hop.speed import BARS, TINY

ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
MEBIBYTE = 2**20
NO_HUGE_PAGES = 41  # PR_SET_THP_DISABLE: else memory is counted in steps of 2 MiB
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Taken(NamedTuple):
    """Bytes beyond inputs, results and gradients: ``extra`` of a call, ``kept`` from the first."""

    extra: int
    kept: int


def memory(setting: Setting) -> Iterator[dict[str, Any]]:
    """One case of the bars in each process, the first in the first; forward and with gradients."""
    case = list(TINY if setting.tiny else BARS)[setting.process - 1]
    for gradients in (False, True):
        one = case._replace(gradients=gradients)
        yield measured("memory", one, path("auto"), setting, allowed(one))


def measured(
    part: str,
    case: Case,
    build: Callable[[Inputs], Candidate],
    setting: Setting,
    bound: int | None = None,
) -> dict[str, Any]:
    """One row. A case of a quarter of the size is called first, to load the code."""
    setting.begin(case.name)
    sizes = [-(-size // 4) for size in (case.batch, case.slots, case.bank_rows)]
    quarter = case._replace(batch=sizes[0], slots=sizes[1], bank_rows=sizes[2])
    for one in (quarter, case):
        candidate = build(make(one, setting.device))
        found = taken(candidate, case.gradients, setting.device)
    known = {} if found is None else {"extra_bytes": found.extra, "kept_bytes": found.kept}
    note = "not measured: needs Linux" if found is None else None
    return row(part, case, candidate.form, setting, **known, bound_bytes=bound, note=note)


def allowed(case: Case) -> int:
    """The bound that is set for the fused path, in bytes."""
    if case.held == "shared":
        return 16 * MEBIBYTE
    states = (case.hops + 1) * (case.input_dim + case.memory_dim)
    per_row = 8 * states
    if case.gradients:
        per_row = 20 * states + 16 * case.slots * case.hops
    return MEBIBYTE + case.batch * per_row


def taken(candidate: Candidate, gradients: bool, device: str) -> Taken | None:
    """What a call takes; None where the system does not tell."""
    if device == "cuda":
        peak_of: Callable[[Callable[[], Tensor]], int] = peak_on_device
    elif STATUS.exists() and CLEAR.exists():
        peak_of = peak_in_process
        ctypes.CDLL(None).prctl(NO_HUGE_PAGES, 1, 0, 0, 0)
    else:
        return None
    leaves, direction = candidate.inputs.leaves, candidate.inputs.direction

    def call() -> Tensor:
        with nullcontext() if gradients else torch.no_grad():
            result = candidate.forward()
            if gradients:
                result.backward(direction)  # type: ignore[no-untyped-call]
        return result.detach()

    def forget() -> None:
        for leaf in leaves:
            leaf.grad = None

    before = anonymous()
    size = call().nbytes
    size += sum(leaf.grad.nbytes for leaf in leaves if leaf.grad is not None)
    forget()
    kept = anonymous() - before
    extra = max(0, peak_of(call) - size)  # the system counts in pages
    forget()
    return Taken(extra, kept)


def peak_in_process(call: Callable[[], Tensor]) -> int:
    """By how much the resident set grew at most during a call."""
    settle()
    resident = status("VmRSS")
    CLEAR.write_text("5")  # the peak is counted anew from here
    result = call()
    peak = status("VmHWM")
    del result
    return peak - resident


def peak_on_device(call: Callable[[], Tensor]) -> int:
    """By how much what torch holds on the GPU grew at most during a call."""
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del result
    return peak - held


def anonymous() -> int:
    """The resident memory that is no file, in bytes; 0 where the system does not tell."""
    if not STATUS.exists():
        return 0
    settle()
    return status("RssAnon")


def settle() -> None:
    """Give back to the system what is free."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def status(field: str) -> int:
    """A line of the process's status, in bytes."""
    for line in STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"{STATUS} has no line {field}")
