"""Time candidates interleaved, round by round: a change of the machine affects all of them."""

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

MIN_ROUNDS = 8
MAX_ROUNDS = 40
SLOW_SECONDS = 0.5  # a slower call is warmed up once
MIN_SAMPLE_SECONDS = 2e-3  # several faster calls are timed as one sample


class Timed(NamedTuple):
    """A timed ``call``; ``before`` runs untimed before each sample and frees old gradients."""

    call: Callable[[], object]
    before: Callable[[], object] = lambda: None


class Times(NamedTuple):
    """The medians over the rounds: seconds a call by the clock, and of CPU time in all threads.

    The CPU time includes ``before``.
    """

    seconds: float
    rounds: int
    cpu_seconds: float


def timed(candidate: Candidate, gradients: bool) -> Timed:
    """Return a forward call, or forward and backward into gradients that were None."""
    if not gradients:
        return Timed(candidate.forward)
    leaves, grad_out = candidate.inputs.leaves, candidate.inputs.grad_out

    def call() -> None:
        candidate.forward().backward(grad_out)  # type: ignore[no-untyped-call]

    def before() -> None:
        for leaf in leaves:
            leaf.grad = None

    return Timed(call, before)


def reading(memories: Tensor) -> Timed:
    """Return a float32 sum over the bytes of a memory: it measures the read bandwidth."""
    floats = memories.detach().flatten().view(torch.uint8)
    floats = floats[: floats.numel() // 4 * 4].view(torch.float32)
    return Timed(floats.sum)


def time_interleaved(
    candidates: Sequence[Timed],
    *,
    gradients: bool,
    seconds: float = 0.0,
    rounds: int = MIN_ROUNDS,
    device: str = "cpu",
    settle: bool = False,
) -> list[Times]:
    """Return the times of the candidates in their order, after a warm-up.

    Each round calls all of them. There are at least ``rounds`` rounds, and more while they take
    less than ``seconds`` in all. With ``settle`` a candidate is called once more before each
    sample: it finds the memory that its own call has freed, as in a loop, and not that of another.
    """
    stopwatch = device_seconds if device == "cuda" else clock_seconds
    with nullcontext() if gradients else torch.no_grad():
        counts = [calls_per_sample(candidate, stopwatch) for candidate in candidates]
        gc.collect()
        gc.disable()
        try:
            start = time.perf_counter()
            samples: list[list[float]] = [[] for _ in candidates]
            cpu: list[list[float]] = [[] for _ in candidates]
            for done in range(MAX_ROUNDS):
                if done >= rounds and time.perf_counter() - start > seconds:
                    break
                for candidate, count, own, used in zip(
                    candidates, counts, samples, cpu, strict=True
                ):
                    if settle:
                        candidate.before()
                        candidate.call()
                    before = time.process_time()
                    own.append(sample(candidate, count, stopwatch))
                    used.append((time.process_time() - before) / count)
        finally:
            gc.enable()
    return [
        Times(statistics.median(own), len(own), statistics.median(used))
        for own, used in zip(samples, cpu, strict=True)
    ]


Stopwatch = Callable[[Callable[[], object]], float]


def calls_per_sample(candidate: Timed, stopwatch: Stopwatch) -> int:
    """Warm up; return how many calls make a sample of at least `MIN_SAMPLE_SECONDS`."""
    times = [sample(candidate, 1, stopwatch)]
    if times[0] < SLOW_SECONDS:
        times += [sample(candidate, 1, stopwatch) for _ in range(4)]
    return min(1000, math.ceil(MIN_SAMPLE_SECONDS / max(min(times), 1e-6)))


def sample(candidate: Timed, count: int, stopwatch: Stopwatch) -> float:
    """Return the seconds a call; ``before`` is timed too if a sample has several calls."""
    call, before = candidate.call, candidate.before
    before()
    if count == 1:
        return stopwatch(call)

    def several() -> None:
        for _ in range(count):
            before()
            call()

    return stopwatch(several) / count


def clock_seconds(call: Callable[[], object]) -> float:
    """Return the seconds of a call by the clock."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def device_seconds(call: Callable[[], object]) -> float:
    """Return the seconds of a call by the events of a GPU."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000
