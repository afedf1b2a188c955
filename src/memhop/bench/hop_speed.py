"""How many times faster is a hop than the textbook form, and how near to the floor?

Each case is checked, then timed in turn with its baseline and with a plain sum over its memory,
which says how fast those bytes can be read. The floor is the bytes that must move at that speed.
"""

from collections.abc import Iterator
from typing import Any

import torch

from memhop.bench.hop_cases import Case, Inputs, make
from memhop.bench.hop_check import Errors, check
from memhop.bench.hop_clock import Timed, Times, race, reading, timed
from memhop.bench.hop_forms import Contender, baseline, path, textbook
from memhop.bench.hop_rows import Setting, row
from memhop.nn import MultiHop

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
            contenders = [baseline(inputs), path("auto")(inputs)]
            yield from raced("bars", one, inputs, contenders, setting, bar=bar)


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
            contenders = [textbook(inputs), of_module(module, inputs)]
            bar = None if gradients else SMALL_BAR
            yield from raced("small", one, inputs, contenders, setting, bar=bar)


def of_module(module: MultiHop, inputs: Inputs) -> Contender:
    """The layer as it is called."""

    def forward() -> torch.Tensor:
        result: torch.Tensor = module(inputs.query, inputs.memories)
        return result

    return Contender("MultiHop", inputs, forward)


def raced(
    part: str,
    case: Case,
    inputs: Inputs,
    contenders: list[Contender],
    setting: Setting,
    bar: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Check the contenders, time them in turn with a sum over the memory: a row for each."""
    errors = check(contenders, inputs)
    entrants = [*(timed(one, case.gradients) for one in contenders), reading(inputs.tensor)]
    times = race_of(entrants, case.gradients, setting)
    yield from rows_of(part, case, contenders, errors, times, setting, bar)


def race_of(entrants: list[Timed], gradients: bool, setting: Setting) -> dict[str, Times]:
    """The race as the setting has it."""
    if setting.tiny:
        return race(entrants, gradients=gradients, rounds=2, device=setting.device)
    return race(entrants, gradients=gradients, seconds=SECONDS, device=setting.device)


def rows_of(
    part: str,
    case: Case,
    contenders: list[Contender],
    errors: list[Errors],
    times: dict[str, Times],
    setting: Setting,
    bar: float | None,
) -> Iterator[dict[str, Any]]:
    """A row for each contender, with the read speed of the same race."""
    speed = case.bytes_held / times["sum"].seconds if "sum" in times else None
    for contender, error in zip(contenders, errors, strict=True):
        yield row(
            part, case, contender.form, setting, **times[contender.form]._asdict(),
            error=error.result, gradient_error=error.gradients, read_speed=speed, bar=bar,
        )  # fmt: skip
