"""Measure the memory of a call beyond its inputs, its results and their gradients.

It is the peak resident set size during a second call minus that before it, which covers every
allocator; memory kept by the first call is reported apart. Start a process that measures this with
``ENVIRONMENT``: freed memory must return to the system, or the next call reuses it uncounted.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.hop.cases import Case, Inputs, Setting, make, row
from benchmarks.hop.forms import Candidate, path, textbook
from benchmarks.hop.speed import BARS, TINY, scaling_cases

ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
MEBIBYTE = 2**20
NO_HUGE_PAGES = 41  # PR_SET_THP_DISABLE: else memory grows in steps of 2 MiB
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory(NamedTuple):
    """Bytes beyond inputs, results and gradients: ``extra`` of a call, ``kept`` by the first."""

    extra: int
    kept: int


def memory(setting: Setting) -> Iterator[dict[str, Any]]:
    """Measure one case of the bars in each process, forward and with gradients."""
    case = list(TINY if setting.tiny else BARS)[setting.process - 1]
    for gradients in (False, True):
        one = case._replace(gradients=gradients)
        yield measured("memory", one, path("auto"), setting, bound_bytes(one))


def scaling_memory(setting: Setting) -> Iterator[dict[str, Any]]:
    """Measure the memory of the textbook form and of ours as the sizes grow."""
    for case in scaling_cases(setting.tiny):
        for build in (textbook, path("auto")):
            yield measured("scaling-memory", case, build, setting)


def measured(
    part: str,
    case: Case,
    build: Callable[[Inputs], Candidate],
    setting: Setting,
    bound: int | None = None,
) -> dict[str, Any]:
    """Return a row. A case of a quarter of the size runs first and loads the code."""
    setting.on_begin(case.name)
    sizes = [-(-size // 4) for size in (case.batch, case.slots, case.bank_rows)]
    quarter = case._replace(batch=sizes[0], slots=sizes[1], bank_rows=sizes[2])
    for one in (quarter, case):
        candidate = build(make(one, setting.device))
        found = memory_of(candidate, case.gradients, setting.device)
    known = {} if found is None else {"extra_bytes": found.extra, "kept_bytes": found.kept}
    note = "not measured: needs Linux" if found is None else None
    return row(part, case, candidate.form, setting, **known, bound_bytes=bound, note=note)


def bound_bytes(case: Case) -> int:
    """Return the bound for the fused operation, in bytes."""
    if case.held == "shared":
        return 16 * MEBIBYTE
    states = (case.hops + 1) * (case.input_dim + case.memory_dim)
    per_row = 8 * states
    if case.gradients:
        per_row = 20 * states + 16 * case.slots * case.hops
    return MEBIBYTE + case.batch * per_row


def memory_of(candidate: Candidate, gradients: bool, device: str) -> Memory | None:
    """Return the memory of a call; None if the system does not report it."""
    if device == "cuda":
        peak_of: Callable[[Callable[[], Tensor]], int] = peak_on_device
    elif STATUS.exists() and CLEAR.exists():
        peak_of = peak_in_process
        ctypes.CDLL(None).prctl(NO_HUGE_PAGES, 1, 0, 0, 0)
    else:
        return None
    leaves, grad_out = candidate.inputs.leaves, candidate.inputs.grad_out

    def call() -> Tensor:
        with nullcontext() if gradients else torch.no_grad():
            result = candidate.forward()
            if gradients:
                result.backward(grad_out)  # type: ignore[no-untyped-call]
        return result.detach()

    def clear_grads() -> None:
        for leaf in leaves:
            leaf.grad = None

    before = anonymous_bytes()
    size = call().nbytes
    size += sum(leaf.grad.nbytes for leaf in leaves if leaf.grad is not None)
    clear_grads()
    kept = anonymous_bytes() - before
    extra = max(0, peak_of(call) - size)  # the system counts in pages
    clear_grads()
    return Memory(extra, kept)


def peak_in_process(call: Callable[[], Tensor]) -> int:
    """Return the peak of the resident set during a call minus its size before."""
    release_free_memory()
    resident = status_bytes("VmRSS")
    CLEAR.write_text("5")  # resets the peak
    result = call()
    peak = status_bytes("VmHWM")
    del result
    return peak - resident


def peak_on_device(call: Callable[[], Tensor]) -> int:
    """Return the peak of torch's memory on the GPU during a call minus its size before."""
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del result
    return peak - held


def anonymous_bytes() -> int:
    """Return the resident memory without files; 0 if the system does not report it."""
    if not STATUS.exists():
        return 0
    release_free_memory()
    return status_bytes("RssAnon")


def release_free_memory() -> None:
    """Return free memory to the system."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def status_bytes(field: str) -> int:
    """Return a field of the process's status."""
    for line in STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"{STATUS} has no line {field}")
