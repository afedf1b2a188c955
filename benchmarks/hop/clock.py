"""How long does each form take? All in turn, round by round, so that all meet the same machine."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.hop.forms import Candidate

FEWEST_ROUNDS = 8
MOST_ROUNDS = 40
SLOW = 0.5  # seconds; of what takes longer, one call is warm-up enough
LEAST_SAMPLE = 2e-3  # seconds; of what is quicker, several calls are timed as one


class Timed(NamedTuple):
    """What is timed: ``call``, and ``before`` each sample what is not (old gradients are freed)."""

    form: str
    call: Callable[[], object]
    before: Callable[[], object] = lambda: None


class Times(NamedTuple):
    """The median of the rounds, in seconds a call."""

    seconds: float
    rounds: int


def timed(candidate: Candidate, gradients: bool) -> Timed:
    """A forward, or a forward and a backward into gradients that were None before."""
    if not gradients:
        return Timed(candidate.form, candidate.forward)
    leaves, direction = candidate.inputs.leaves, candidate.inputs.direction

    def call() -> None:
        candidate.forward().backward(direction)  # type: ignore[no-untyped-call]

    def before() -> None:
        for leaf in leaves:
            leaf.grad = None

    return Timed(candidate.form, call, before)


def reading(memories: Tensor) -> Timed:
    """A float32 sum over the bytes of a memory, as a measure of how fast they can be read."""
    numbers = memories.detach().flatten().view(torch.uint8)
    numbers = numbers[: numbers.numel() // 4 * 4].view(torch.float32)
    return Timed("sum", numbers.sum)


def time_interleaved(
    entrants: Sequence[Timed],
    *,
    gradients: bool,
    seconds: float = 0.0,
    rounds: int = FEWEST_ROUNDS,
    device: str = "cpu",
) -> dict[str, Times]:
    """Medians over rounds in which each entrant has its turn, after a warm-up.

    At least so many ``rounds``, and more while they take less than ``seconds`` in all.
    """
    stopwatch = on_device if device == "cuda" else on_clock
    with nullcontext() if gradients else torch.no_grad():
        calls = {entrant.form: calls_a_sample(entrant, stopwatch) for entrant in entrants}
        gc.collect()
        gc.disable()
        try:
            begun = time.perf_counter()
            samples: dict[str, list[float]] = {entrant.form: [] for entrant in entrants}
            for done in range(MOST_ROUNDS):
                if done >= rounds and time.perf_counter() - begun > seconds:
                    break
                for entrant in entrants:
                    count = calls[entrant.form]
                    samples[entrant.form].append(sample(entrant, count, stopwatch))
        finally:
            gc.enable()
    return {form: Times(statistics.median(came), len(came)) for form, came in samples.items()}


Stopwatch = Callable[[Callable[[], object]], float]


def calls_a_sample(entrant: Timed, stopwatch: Stopwatch) -> int:
    """Warm up, and say how many calls make a sample that is long enough."""
    taken = [sample(entrant, 1, stopwatch)]
    if taken[0] < SLOW:
        taken += [sample(entrant, 1, stopwatch) for _ in range(4)]
    return min(1000, math.ceil(LEAST_SAMPLE / max(min(taken), 1e-6)))


def sample(entrant: Timed, count: int, stopwatch: Stopwatch) -> float:
    """Seconds a call. Between several calls, ``before`` is timed too, alike for all forms."""
    call, before = entrant.call, entrant.before
    before()
    if count == 1:
        return stopwatch(call)

    def several() -> None:
        for _ in range(count):
            before()
            call()

    return stopwatch(several) / count


def on_clock(call: Callable[[], object]) -> float:
    """Seconds by the clock."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def on_device(call: Callable[[], object]) -> float:
    """Seconds by the events of a GPU."""
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begun.record()
    call()
    ended.record()
    torch.cuda.synchronize()
    return float(begun.elapsed_time(ended)) / 1000
