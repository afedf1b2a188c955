"""How many times faster is a hop than the textbook form, and how near to the floor?

Each case is checked, then timed in turn with its baseline and with a plain sum over its memory,
which says how fast those bytes can be read. The floor is the bytes that must move at that speed.
"""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.hop.cases import Case, Inputs, make
from benchmarks.hop.check import Errors, check
from benchmarks.hop.clock import Timed, Times, reading, time_interleaved, timed
from benchmarks.hop.forms import Candidate, baseline, path, textbook
from benchmarks.hop.rows import Setting, row
from memhop.nn.hops import MultiHop

# What must be reached, in times of the baseline: forward, and forward with backward.
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
SMALL_BAR = 1.1  # in times of the formula written out, no more
SECONDS = 1.5  # for the rounds of one case, where 8 take less


def bars(setting: Setting) -> Iterator[dict[str, Any]]:
    """Both directions of every case against its baseline."""
    for case, (forward, both) in (TINY if setting.tiny else BARS).items():
        for gradients, bar in ((False, forward), (True, both)):
            one = case._replace(gradients=gradients)
            setting.begin(one.name)
            inputs = make(one, setting.device)
            candidates = [baseline(inputs), path("auto")(inputs)]
            yield from raced("bars", one, inputs, candidates, setting, bar=bar)


def small(setting: Setting) -> Iterator[dict[str, Any]]:
    """The module against the plain formula written out, on a memory of a few numbers."""
    for case in SMALL:
        for gradients in (False, True):
            one = case._replace(gradients=gradients)
            setting.begin(f"{one.name}, memory_dim {one.memory_dim}")
            torch.manual_seed(0)
            module = MultiHop(one.input_dim, memory_dim=one.memory_dim, num_hops=one.hops)
            inputs = make(one, setting.device)
            inputs = inputs._replace(hops=module.requires_grad_(gradients).as_hops())
            candidates = [textbook(inputs), of_module(module, inputs)]
            bar = None if gradients else SMALL_BAR
            yield from raced("small", one, inputs, candidates, setting, bar=bar)


def of_module(module: MultiHop, inputs: Inputs) -> Candidate:
    """The layer as it is called."""

    def forward() -> torch.Tensor:
        result: torch.Tensor = module(inputs.query, inputs.memories)
        return result

    return Candidate("MultiHop", inputs, forward)


def raced(
    part: str,
    case: Case,
    inputs: Inputs,
    candidates: list[Candidate],
    setting: Setting,
    bar: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Check the candidates, time them in turn with a sum over the memory: a row for each."""
    errors = check(candidates, inputs)
    entrants = [*(timed(one, case.gradients) for one in candidates), reading(inputs.tensor)]
    times = interleaved_of(entrants, case.gradients, setting)
    yield from rows_of(part, case, candidates, errors, times, setting, bar)


def interleaved_of(entrants: list[Timed], gradients: bool, setting: Setting) -> dict[str, Times]:
    """The time_interleaved as the setting has it."""
    if setting.tiny:
        return time_interleaved(entrants, gradients=gradients, rounds=2, device=setting.device)
    return time_interleaved(entrants, gradients=gradients, seconds=SECONDS, device=setting.device)


def rows_of(
    part: str,
    case: Case,
    candidates: list[Candidate],
    errors: list[Errors],
    times: dict[str, Times],
    setting: Setting,
    bar: float | None,
) -> Iterator[dict[str, Any]]:
    """A row for each candidate, with the read speed of the same time_interleaved."""
    speed = case.bytes_held / times["sum"].seconds if "sum" in times else None
    for candidate, error in zip(candidates, errors, strict=True):
        yield row(
            part, case, candidate.form, setting, **times[candidate.form]._asdict(),
            error=error.result, gradient_error=error.gradients, read_speed=speed, bar=bar,
        )  # fmt: skip
