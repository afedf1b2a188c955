"""Time the hops: against the textbook form, the read bandwidth, and what torch offers.

Results are checked before the timing. Most measures also time a sum over the memory, which gives
the read bandwidth; the bound of a case is the time to move its bytes at that bandwidth.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.hop import forms, raw
from benchmarks.hop.cases import Case, Inputs, Setting, make, row
from benchmarks.hop.clock import reading, time_interleaved, timed
from benchmarks.hop.forms import (
    Build,
    Candidate,
    Errors,
    baseline,
    check,
    float64_reference,
    path,
    refusal,
    textbook,
)
from memhop.kernels import warmup
from memhop.nn.hops import MultiHop

# Goals in times of the baseline: forward, and forward with backward.
BARS = {
    Case(32, 50): (8, 8),
    Case(32, 1000): (40, 25),
    Case(1, 200_000): (40, 25),
    Case(64, 512, 768): (25, 20),
    Case(256, 65_536, held="shared"): (1.2, 1.2),
    Case(64, 2000, held="bank", bank_rows=100_000): (10, 10),
}
TINY = {
    Case(3, 7, 5, 4): (0, 0),
    Case(9, 5, 6, 6, held="shared"): (0, 0),
    Case(3, 7, 5, 4, held="bank", bank_rows=11): (0, 0),
}
SMALL = (Case(1, 10, 16, 128), Case(1, 10, 16, 16))
SMALL_BAR = 1.1  # at most, in times of the formula
SECONDS = 1.5  # for the rounds of a case, if 8 take less

SEQUENTIAL, RANDOM_ROWS = 0.7, 0.3  # goals: shares of the read bandwidth
TIMES_FLOAT32 = {"float32": None, "bfloat16": 1.4, "int8": 1.8}
TIMES_CACHE = 4
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
UNKNOWN_CACHE_BYTES = 32 * 2**20
ROW_BYTES = 128 * 4

CENTRE = Case(16, 256, gradients=True)
ALONG = {
    "slots": (4, 16, 64, 256, 1024, 4096),
    "batch": (1, 4, 16, 64, 256),
    "hops": (1, 2, 3, 4, 6),  # at 8 the textbook keeps less than half of its digits
}
TINY_CENTRE = Case(2, 8, 4, 4, gradients=True)
TINY_ALONG = {"slots": (4, 8), "batch": (2, 4), "hops": (3, 1)}

GPU_SHARE = 0.8  # goal: share of the read bandwidth
GPU_THREE_HOPS = 1.5  # at most, in times of one hop
GPU_LONG = (
    Case(64, 8192, dtype="bfloat16", weights="bfloat16"),
    Case(1, 4_000_000, dtype="bfloat16", weights="bfloat16"),
)
GPU_SHORT = Case(4096, 50)
MAX_NOTE = 160  # characters
NO_COMPILER = "InvalidCxxCompiler"  # a private class; other errors carry its name


class Entry(NamedTuple):
    """A checked candidate of a case, and its goal."""

    case: Case
    candidate: Candidate
    errors: Errors
    bar: float | None = None


def timed_rows(
    part: str, entries: Sequence[Entry], setting: Setting, memory: Tensor | None = None
) -> Iterator[dict[str, Any]]:
    """Time the entries interleaved, with a sum over ``memory`` if given; yield a row for each."""
    gradients = entries[0].case.gradients
    calls = [timed(entry.candidate, gradients) for entry in entries]
    if memory is not None:
        calls.append(reading(memory))
    extent: dict[str, Any] = {"rounds": 2} if setting.tiny else {"seconds": SECONDS}
    times = time_interleaved(calls, gradients=gradients, device=setting.device, **extent)
    bandwidth = None if memory is None else memory.nbytes / times.pop().seconds
    for (case, candidate, errors, bar), time in zip(entries, times, strict=True):
        yield row(
            part, case, candidate.form, setting, seconds=time.seconds, rounds=time.rounds,
            error=errors.result, gradient_error=errors.gradients, read_speed=bandwidth, bar=bar,
        )  # fmt: skip


def entries_of(case: Case, candidates: list[Candidate], inputs: Inputs, bar: Any) -> list[Entry]:
    """Check the candidates of a case against the first."""
    errors = check(candidates, inputs)
    return [Entry(case, one, error, bar) for one, error in zip(candidates, errors, strict=True)]


def entry_of(case: Case, inputs: Inputs, bar: float | None) -> Entry:
    """Check "auto" against the formula in float32."""
    candidate = path("auto")(inputs)
    errors = check([float64_reference(inputs, torch.float32), candidate], inputs)[1]
    return Entry(case, candidate, errors, bar)


def bars(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time every case against its baseline, forward and with gradients."""
    for case, goals in (TINY if setting.tiny else BARS).items():
        for gradients, bar in zip((False, True), goals, strict=True):
            one = case._replace(gradients=gradients)
            setting.on_begin(one.name)
            inputs = make(one, setting.device)
            candidates = [baseline(inputs), path("auto")(inputs)]
            entries = entries_of(one, candidates, inputs, bar)
            yield from timed_rows("bars", entries, setting, inputs.tensor)


def small(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time the module against the formula on a tiny memory, with loaded kernels."""
    warmup()
    for case in SMALL:
        for gradients in (False, True):
            one = case._replace(gradients=gradients)
            setting.on_begin(f"{one.name}, memory_dim {one.memory_dim}")
            torch.manual_seed(0)
            module = MultiHop(one.input_dim, memory_dim=one.memory_dim, num_hops=one.hops)
            inputs = make(one, setting.device)
            inputs = inputs._replace(hops=module.requires_grad_(gradients).as_hops())
            candidates = [textbook(inputs), of_module(module, inputs)]
            entries = entries_of(one, candidates, inputs, None if gradients else SMALL_BAR)
            yield from timed_rows("small", entries, setting, inputs.tensor)


def of_module(module: MultiHop, inputs: Inputs) -> Candidate:
    """Build the call of the module."""

    def forward() -> Tensor:
        result: Tensor = module(inputs.query, inputs.memories)
        return result

    return Candidate("MultiHop", inputs, forward)


def bound(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time memories that exceed the last-level cache: sequential and random rows, all dtypes.

    ``bar`` is a share of the read bandwidth for float32, else times of float32.
    """
    rows = 640 if setting.tiny else TIMES_CACHE * last_cache_bytes() // ROW_BYTES // 64 * 64
    one, many = Case(1, rows), Case(64, rows // 64)
    bank = many._replace(held="bank", bank_rows=rows)
    for case, share in ((one, SEQUENTIAL), (many, SEQUENTIAL), (bank, RANDOM_ROWS)):
        entries = []
        for dtype, gain in TIMES_FLOAT32.items():
            if case is bank and gain:
                continue
            stored = case._replace(dtype=dtype)
            setting.on_begin(stored.name)
            inputs = make(stored, setting.device)
            entries.append(entry_of(stored, inputs, gain or share))
        memory = entries[0].candidate.inputs.tensor
        yield from timed_rows("bound", entries, setting, memory)


def last_cache_bytes() -> int:
    """Return the size of the last-level cache of the first core, if the system reports it.

    >>> last_cache_bytes() > 0
    True
    """
    sizes = [UNKNOWN_CACHE_BYTES]
    files = CACHES.glob("index*/size")
    with suppress(OSError, ValueError):
        sizes = [int(file.read_text().strip().removesuffix("K")) * 1024 for file in files] or sizes
        sizes.append(os.sysconf("SC_LEVEL3_CACHE_SIZE"))
    return max(sizes)


def others(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time all forms on each case of the bars, forward and with gradients."""
    for case in list(TINY)[:2] if setting.tiny else BARS:
        for gradients in (False, True):
            yield from all_forms(case._replace(gradients=gradients), setting)


def all_forms(
    case: Case, setting: Setting, part: str = "others", bar: float | None = None
) -> Iterator[dict[str, Any]]:
    """Time the baseline, ours and torch's forms; a form that fails has a row without a time."""
    inputs = make(case, setting.device)
    entries = entries_of(case, [baseline(inputs), path("auto")(inputs)], inputs, bar)
    torch.compiler.reset()  # graphs of other shapes count against a limit
    for name, build in builds_of(case, "aot_eager" if setting.tiny else "inductor").items():
        setting.on_begin(f"{case.name}, {name}")
        checked = tried(build, inputs, entries[0].errors)
        if isinstance(checked, str):
            yield row(part, case, name, setting, note=checked, bar=bar)
        else:
            entries.append(Entry(case, *checked, bar))
    setting.on_begin(f"{case.name}, all forms")
    yield from timed_rows(part, entries, setting, inputs.tensor)


def builds_of(case: Case, backend: str) -> dict[str, Build]:
    """Return torch's forms of a case by name, without the baseline."""
    builds: dict[str, Build] = {}
    if case.held == "shared":  # its baseline is the raw form
        builds["textbook"] = textbook
    builds["compiled"] = forms.compiled(backend)
    if case.held != "shared":
        builds["raw"] = raw.raw
    builds["compiled raw bmm"] = raw.compiled_raw(backend, "bmm")
    if raw.sum_is_feasible(case):
        builds["compiled raw sum"] = raw.compiled_raw(backend, "sum")
    builds["SDPA, raw form"] = forms.attention_of_torch
    if case.input_dim == case.memory_dim and not case.gradients:  # its weights are no leaves
        builds["MultiheadAttention"] = forms.attention_module
    return builds


def tried(build: Build, inputs: Inputs, yardstick: Errors) -> tuple[Candidate, Errors] | str:
    """Return the candidate and its errors, or why it fails, such as a missing compiler."""
    try:
        candidate = build(inputs)
        [measured] = forms.errors([candidate], inputs)
    except Exception as error:  # whatever a compiler raises: the others are measured without it
        return why_not_available(error)
    reason = refusal(measured, yardstick, inputs)
    return f"not timed: {reason}" if reason else (candidate, measured)


def why_not_available(error: Exception) -> str:
    """Return the note of a form that raised an error."""
    text = f"{type(error).__name__}: {error}"
    if NO_COMPILER in text:
        return "no compiler"
    return f"not available: {text.splitlines()[0]}"[:MAX_NOTE]


def scaling_cases(tiny: bool) -> list[Case]:
    """Return the centre varied along each size, without duplicates."""
    centre, along = (TINY_CENTRE, TINY_ALONG) if tiny else (CENTRE, ALONG)
    varied = [
        Case(**centre._asdict() | {name: size}) for name, sizes in along.items() for size in sizes
    ]
    return list(dict.fromkeys(varied))


def scaling_time(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time the textbook form and ours as the sizes grow."""
    for case in scaling_cases(setting.tiny):
        setting.on_begin(case.name)
        inputs = make(case, setting.device)
        entries = entries_of(case, [textbook(inputs), path("auto")(inputs)], inputs, None)
        yield from timed_rows("scaling-time", entries, setting)


def cuda(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time all forms on a GPU, on long memories and many short ones; then one hop and three."""
    long = (GPU_LONG[0]._replace(batch=2, slots=64),) if setting.tiny else GPU_LONG
    short = GPU_SHORT._replace(batch=8) if setting.tiny else GPU_SHORT
    for case in (*long, short):
        yield from all_forms(case, setting, "cuda", None if case is short else GPU_SHARE)
        torch.cuda.empty_cache()
    # All hops should run while the rows of a query are on the chip.
    varied = [short._replace(hops=hops) for hops in (1, 3)]
    entries = [entry_of(case, make(case, setting.device), GPU_THREE_HOPS) for case in varied]
    yield from timed_rows("cuda-hops", entries, setting)
