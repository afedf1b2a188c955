"""Calls are timed interleaved, without old gradients; memory of every allocator counts."""

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.hop import clock, memory
from benchmarks.hop.cases import Case, Inputs, make
from benchmarks.hop.clock import Timed, calls_per_sample, reading, sample, time_interleaved, timed
from benchmarks.hop.forms import Candidate, path
from benchmarks.hop.memory import bound_bytes, memory_of

LINUX = memory.STATUS.exists() and memory.CLEAR.exists()


def test_calls_are_interleaved_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MIN_SAMPLE_SECONDS", 1e-9)
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "process_time", lambda: 2 * now[0])  # two busy threads
    called: list[str] = []

    def timed_call(form: str, seconds: float) -> Timed:
        def call() -> None:
            assert not torch.is_grad_enabled()
            called.append(form)
            now[0] += seconds

        return Timed(call, lambda: called.append(f"before {form}"))

    slow, quick = time_interleaved(
        [timed_call("slow", 0.02), timed_call("quick", 0.001)], gradients=False, rounds=3
    )
    assert gc.isenabled()
    assert called[-12:] == ["before slow", "slow", "before quick", "quick"] * 3
    assert len(called) == 2 * 2 * (5 + 3)
    assert slow.rounds == quick.rounds == 3
    assert slow.seconds == pytest.approx(0.02)
    assert quick.seconds == pytest.approx(0.001)
    assert quick.cpu_seconds == pytest.approx(0.002)


def test_the_cpu_time_is_that_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "process_time", lambda: 2 * now[0])

    def call() -> None:
        now[0] += 4e-4  # five calls make a sample

    [found] = time_interleaved([Timed(call)], gradients=False, rounds=3)
    assert found == pytest.approx((4e-4, 3, 8e-4))


def test_a_settled_call_follows_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MIN_SAMPLE_SECONDS", 1e-9)
    called: list[str] = []

    def timed_call(form: str) -> Timed:
        return Timed(lambda: called.append(form), lambda: called.append(f"before {form}"))

    times = time_interleaved(
        [timed_call("one"), timed_call("other")], gradients=True, rounds=2, settle=True
    )
    assert called[-16:] == [*["before one", "one"] * 2, *["before other", "other"] * 2] * 2
    assert [one.rounds for one in times] == [2, 2]


def test_there_are_more_rounds_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MIN_SAMPLE_SECONDS", 1e-9)
    monkeypatch.setattr(clock, "MAX_ROUNDS", 11)
    nothing = Timed(lambda: None)
    assert time_interleaved([nothing], gradients=True)[0].rounds == clock.MIN_ROUNDS == 8
    assert time_interleaved([nothing], gradients=True, seconds=60)[0].rounds == 11


def test_the_median_of_the_rounds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up, rounds = [9.0], [1.0, 2.0, 60.0]  # a call of over half a second is warmed up once
    readings = iter([*warm_up, *rounds])
    monkeypatch.setattr(clock, "clock_seconds", lambda call: next(readings))
    assert time_interleaved([Timed(lambda: None)], gradients=True, rounds=3)[0].seconds == 2


def test_a_sample_of_a_quick_call_has_several_calls() -> None:
    called: list[str] = []
    timed_call = Timed(lambda: called.append("call"), lambda: called.append("before"))

    def four(call: object) -> float:
        assert callable(call)
        call()
        return 4e-4

    assert calls_per_sample(timed_call, four) == 5
    called.clear()
    assert sample(timed_call, 5, four) == pytest.approx(8e-5)
    assert called == ["before", *["before", "call"] * 5]


def test_gradients_are_none_before_a_call_and_of_one_call_after_it() -> None:
    inputs = make(Case(2, 3, 4, 4, gradients=True))
    one = timed(path("eager")(inputs), gradients=True)
    one.before()
    one.call()
    first = [leaf.grad.clone() for leaf in inputs.leaves if leaf.grad is not None]
    assert len(first) == len(inputs.leaves)
    one.before()
    assert all(leaf.grad is None for leaf in inputs.leaves)
    one.call()
    for leaf, gradient in zip(inputs.leaves, first, strict=True):
        assert torch.equal(leaf.grad, gradient) if leaf.grad is not None else False


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_the_sum_reads_all_bytes(dtype: torch.dtype) -> None:
    memory = torch.ones(3, 4, 8, dtype=dtype)
    total = reading(memory).call()
    assert isinstance(total, Tensor)
    assert torch.equal(total, memory.flatten().view(torch.float32).sum())


def hoarding(inputs: Inputs, megabytes: int) -> Candidate:
    """Return a form that allocates and frees memory outside of torch."""

    def forward() -> Tensor:
        np.ones(megabytes * 2**20, dtype=np.uint8)
        return path("eager")(inputs).forward()

    return Candidate("hoarding", inputs, forward)


@pytest.mark.skipif(not LINUX, reason="needs /proc")
def test_memory_of_other_allocators_counts() -> None:
    inputs = make(Case(2, 3, 4, 4))
    for megabytes in (40, 8, 0):  # an earlier peak does not count
        found = memory_of(hoarding(inputs, megabytes), False, "cpu")
        assert found is not None
        assert megabytes - 0.5 <= found.extra / 2**20 <= megabytes + 2
        assert found.kept < 4 * 2**20


class ZeroGradient(torch.autograd.Function):
    """Return the query; allocate nothing but a gradient of zeros for the memory."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, memory: Tensor) -> Tensor:
        ctx.shape = memory.shape
        return query.clone()

    @staticmethod
    def backward(ctx: Any, *grad_results: Tensor) -> tuple[Tensor, Tensor]:
        return grad_results[0], torch.zeros(ctx.shape).add_(0.0)  # written, so that it is resident


@pytest.mark.skipif(not LINUX, reason="needs /proc")
def test_results_and_gradients_are_not_extra_and_kept_memory_is_reported() -> None:
    case = Case(1, 20_000, 128, 4, hops=1, gradients=True)  # a memory of 10 MB, a gradient of 10 MB
    inputs = make(case)
    hoard: list[object] = []

    def forward() -> Tensor:
        if not hoard:
            hoard.append(np.ones(2**24, dtype=np.uint8))
        result: Tensor = ZeroGradient.apply(inputs.query, inputs.tensor)  # type: ignore[no-untyped-call]
        return result

    found = memory_of(Candidate("lasting", inputs, forward), True, "cpu")
    assert found is not None
    assert found.kept == pytest.approx(2**24, abs=2**21)
    assert found.extra < 2**20
    assert all(leaf.grad is None for leaf in inputs.leaves)


def test_without_proc_there_is_no_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    inputs = make(Case(2, 3, 4, 4))
    assert memory_of(path("eager")(inputs), False, "cpu") is None


def test_the_bounds() -> None:
    case = Case(32, 1000, 128, 64, hops=3)
    assert bound_bytes(case) == 2**20 + 8 * 32 * 4 * (128 + 64)
    with_gradients = 2**20 + 16 * 32 * 1000 * 3 + 20 * 32 * 4 * (128 + 64)
    assert bound_bytes(case._replace(gradients=True)) == with_gradients
    assert bound_bytes(case._replace(held="shared", gradients=True)) == 16 * 2**20
