"""How do time and memory grow with the slots, with the batch and with the hops?

With gradients, for the textbook form and for ours; time and memory in processes of their own,
since the settings of the allocator that show memory cost time.
"""

from collections.abc import Iterator
from typing import Any

from benchmarks.hop.cases import Case, make
from benchmarks.hop.check import check
from benchmarks.hop.clock import timed
from benchmarks.hop.forms import path, textbook
from benchmarks.hop.memory import measured
from benchmarks.hop.rows import Setting, row
from benchmarks.hop.speed import interleaved_of

CENTRE = Case(16, 256, gradients=True)
ALONG = {
    "slots": (4, 16, 64, 256, 1024, 4096),
    "batch": (1, 4, 16, 64, 256),
    "hops": (1, 2, 3, 4, 6),  # at 8 the textbook keeps less than half of its digits
}
TINY_CENTRE = Case(2, 8, 4, 4, gradients=True)
TINY_ALONG = {"slots": (4, 8), "batch": (2, 4), "hops": (3, 1)}


def cases(tiny: bool) -> list[Case]:
    """The centre varied along each size, none twice."""
    centre, along = (TINY_CENTRE, TINY_ALONG) if tiny else (CENTRE, ALONG)
    varied = [
        Case(**centre._asdict() | {name: size}) for name, sizes in along.items() for size in sizes
    ]
    return list(dict.fromkeys(varied))


def scaling_time(setting: Setting) -> Iterator[dict[str, Any]]:
    """The times of both forms."""
    for case in cases(setting.tiny):
        setting.begin(case.name)
        inputs = make(case, setting.device)
        candidates = [textbook(inputs), path("auto")(inputs)]
        errors = check(candidates, inputs)
        times = interleaved_of([timed(one, True) for one in candidates], True, setting)
        for candidate, error in zip(candidates, errors, strict=True):
            yield row(
                "scaling-time", case, candidate.form, setting, **times[candidate.form]._asdict(),
                error=error.result, gradient_error=error.gradients,
            )  # fmt: skip


def scaling_memory(setting: Setting) -> Iterator[dict[str, Any]]:
    """The memory of both forms."""
    for case in cases(setting.tiny):
        for build in (textbook, path("auto")):
            yield measured("scaling-memory", case, build, setting)
