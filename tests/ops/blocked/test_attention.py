"""A memory that several queries share, in blocks of slots, against the textbook formula."""

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from memhop.ops.blocked import attention, blocks, flash
from memhop.ops.fused.problem import Gradients, Problem, Step, Trace, Wanted
from tests.ops.fixed_order import FixedOrder
from tests.ops.optional_parts import Parts, parts_with, problem_of
from tests.ops.problem_oracle import (
    Outcome,
    assert_close,
    assert_kernel_agrees,
    draw_problem,
    outcome,
    weight_gradients_from,
)
from tests.seeds import seeds, slow

MIB = 1 << 20
HALVES = [torch.bfloat16, torch.float16]
STORED = [torch.float32, *HALVES, torch.int8]


@pytest.fixture(autouse=True)
def without_flash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave every hop to the blocks; ``test_flash`` tests the kernel of torch."""
    monkeypatch.setattr(flash, "supports_forward", lambda *_: False)


@pytest.fixture(params=["whole", "blocks", "chunks"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use default sizes, blocks of a few slots, and also chunks of a few queries."""
    if request.param != "whole":
        monkeypatch.setattr(blocks, "_BLOCK_BYTES", 100)
    if request.param == "chunks":
        monkeypatch.setattr(blocks, "_MAX_QUERIES", 2)
    return str(request.param)


@pytest.fixture
def garbage() -> Iterator[None]:
    """Fill uninitialized memory with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def plain(num_queries: int, num_slots: int, width: int, std: float = 1.0, seed: int = 0) -> Problem:
    """Return a problem of three hops over one memory in float32, without any optional part."""
    make = torch.Generator().manual_seed(seed)
    weights = (torch.randn(6, width, width, generator=make) / width**0.5).unbind()
    keys = torch.randn(1, num_slots, width, generator=make) * std
    query = torch.randn(num_queries, width, generator=make)
    steps = tuple(Step(a=2 * k, c=2 * k + 1) for k in range(3))
    none = None
    return Problem(query, keys, none, none, none, none, none, none, none, weights, steps)


def run(
    problem: Problem, grad_result: Tensor, keep_weights: bool = False, scores: bool = False
) -> tuple[Trace, Gradients]:
    trace = attention.forward(problem, keep_weights)
    wanted = Wanted(problem.keys.is_floating_point(), False, scores)
    return trace, attention.backward(problem, trace, grad_result, None, wanted)


def results_of(problem: Problem, trace: Trace, gradients: Gradients) -> list[Tensor]:
    assert gradients.grad_keys is not None
    grad_weights = weight_gradients_from(problem, trace, gradients)
    return [trace.queries[:, -1], gradients.grad_query, gradients.grad_keys, *grad_weights]


def true_results_of(truth: Outcome) -> list[Tensor]:
    assert truth.grad_keys is not None
    return [truth.result, truth.grad_query, truth.grad_keys, *truth.grad_weights]


def in_float32(problem: Problem, grad_result: Tensor) -> list[Tensor]:
    """Return the textbook results of a plain problem, and gradients by autograd, in float32."""
    query, memory = problem.query.clone().requires_grad_(), problem.keys.clone().requires_grad_()
    weights = [weight.clone().requires_grad_() for weight in problem.weights]
    q = query
    for step in problem.steps:
        keys, values = memory[0] @ weights[step.a].T, memory[0] @ weights[step.c].T
        q = q + torch.softmax(q @ keys.T, -1) @ values
    return [q.detach(), *torch.autograd.grad(q, [query, memory, *weights], grad_result)]


@pytest.mark.usefixtures("size", "garbage")
@pytest.mark.parametrize("seed", seeds(15, 300))
def test_all_in_float64(seed: int) -> None:
    problem = draw_problem(seed, shared=True)
    assert_kernel_agrees(attention.forward, attention.backward, problem, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("storage", STORED)
@pytest.mark.parametrize("seed", seeds(5, 100, first=100))
def test_all_storages(seed: int, storage: torch.dtype) -> None:
    problem = draw_problem(seed, dtype=torch.float32, storage=storage, shared=True)
    assert_kernel_agrees(attention.forward, attention.backward, problem, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize(("rows", "slots"), [(0, 5), (30, 0), (30, 1), (0, 0), (30, 23)])
@pytest.mark.parametrize("seed", seeds(2, 50))
def test_no_rows_no_slots_and_many(rows: int, slots: int, seed: int) -> None:
    problem = draw_problem(seed, shared=True, num_rows=rows, num_slots=slots)
    assert_kernel_agrees(attention.forward, attention.backward, problem, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("size", "garbage")
@pytest.mark.parametrize(
    ("parts", "memory", "size"),
    parts_with(["values", "no values"], ["whole", "blocks", "chunks"]),
    indirect=["size"],
)
def test_tables_that_are_left_out_and_shares_of_relu(parts: Parts, memory: str) -> None:
    problem = problem_of(parts, memory, queries_each=3)
    assert_kernel_agrees(attention.forward, attention.backward, problem, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("size")
def test_rows_without_readable_slots_read_zero() -> None:
    problem = plain(4, 9, 3)._replace(
        ignored=torch.tensor([True, False, False, False]).unsqueeze(1).expand(4, 9),
        lengths=torch.tensor([9, 0, 9, 9]),
        score_bias=torch.tensor([0.0, 0.0, -torch.inf, 0.0]).view(4, 1, 1).expand(4, 1, 9),
    )
    trace, gradients = run(problem, torch.ones(4, 3), keep_weights=True)
    assert trace.weights is not None
    assert not trace.weights[:3].any()
    assert trace.weights[3].sum(-1).allclose(torch.ones(3))
    assert torch.equal(trace.queries[:3, -1], problem.query[:3])
    assert torch.equal(gradients.grad_query[:3], torch.ones(3, 3))
    assert trace.score_max[:3].eq(0).all()
    assert trace.exp_sum[:3].eq(1).all()


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("where", ["bias", "product"])
def test_huge_scores(where: str) -> None:
    problem = plain(3, 40, 5)
    if where == "bias":
        bias = torch.randn(3, 3, 40, generator=torch.Generator().manual_seed(1)) * 1e30
        problem = problem._replace(score_bias=bias)
    else:
        problem = problem._replace(query=problem.query * 1e25, keys=problem.keys * 1e5)
    grad_result = problem.query.sign()
    trace, gradients = run(problem, grad_result, keep_weights=True)
    truth = outcome(problem, grad_result)
    assert trace.weights is not None
    assert torch.equal(trace.weights, truth.weights.float())  # all on one slot
    found, true = results_of(problem, trace, gradients), true_results_of(truth)
    assert_close("result", found[0], true[0], 1e-6, 0.0)
    assert all(chunk.isfinite().all() for chunk in found)
    if where == "bias":  # by 1e25, a difference that should be 0 is only rounding
        for got, want in zip(found, true, strict=True):
            assert_close("gradient", got, want, 1e-5, 1e-4)


def test_a_product_rounded_differently_in_the_backward_gives_no_infinity() -> None:
    problem = plain(3, 40, 5)
    problem = problem._replace(score_bias=torch.full((3, 3, 40), 1e30))
    trace = attention.forward(problem, False)
    trace = trace._replace(score_max=trace.score_max * (1 - 2**-23))
    gradients = attention.backward(problem, trace, problem.query, None, Wanted(True, False, False))
    assert all(chunk.isfinite().all() for chunk in results_of(problem, trace, gradients))


@pytest.mark.usefixtures("size")
def test_slots_beyond_the_longest_length_are_not_read() -> None:
    problem = plain(6, 50, 4)
    lengths = torch.tensor([3, 17, 0, 9, 16, 1])
    short = problem._replace(keys=problem.keys[:, :17], lengths=lengths)
    keys = problem.keys.clone()
    keys[:, 17:] = torch.nan
    trace, gradients = run(problem._replace(keys=keys, lengths=lengths), problem.query, True, True)
    expected, by = run(short, problem.query, True, True)
    assert torch.equal(trace.queries, expected.queries)
    for padded, unpadded in (
        (trace.weights, expected.weights),
        (gradients.grad_scores, by.grad_scores),
        (gradients.grad_keys, by.grad_keys),
    ):
        assert padded is not None
        assert unpadded is not None
        axis = padded.dim() - 1 if padded.shape[-1] == 50 else 1
        assert torch.equal(padded.narrow(axis, 0, 17), unpadded)
        assert not padded.narrow(axis, 17, 33).any()


@pytest.mark.parametrize(
    ("std", "most"),
    [slow(0.05, 0.6), (0.3, 0.6), slow(2.0, 1.0)],  # seconds each
)
def test_float32_is_closer_to_the_truth_than_sums_in_order(std: float, most: float) -> None:
    """Blocks keep the error of a sum over 3001 slots far below that of one running sum.

    Errors are norms of differences over norms of exact tensors, averaged over seeds. The blocks
    are products of the BLAS of this machine. Measured with MKL for AVX-512, AVX2 and any processor,
    and each instruction set of torch: ratios of 0.12 to 0.43 for the small scores. Where large
    scores leave few slots with a weight, their rounding dominates: 0.30 to 0.70.
    """
    errors = torch.zeros(2, 9, dtype=torch.float64)
    for seed in range(4):
        problem = plain(16, 3001, 24, std, seed)
        grad_result = problem.query.flip(0)
        true = true_results_of(outcome(problem, grad_result))
        blocked = results_of(problem, *run(problem, grad_result))
        with FixedOrder():  # type: ignore[no-untyped-call]
            in_order = in_float32(problem, grad_result)
        for row, given in enumerate((blocked, in_order)):
            for column, (got, want) in enumerate(zip(given, true, strict=True)):
                errors[row, column] += (got.double() - want).norm() / want.norm()
    ours, textbook = errors.mean(1)
    assert ours <= most * textbook
    assert (errors[0] <= 1.1 * errors[1]).all()


@pytest.mark.slow
def test_sums_over_many_blocks_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 2048)
    problem = plain(4, 200_000, 3, 0.1)
    problem = problem._replace(keys=problem.keys + 0.25)  # sums that grow with the number of slots
    found = results_of(problem, *run(problem, problem.query.sign()))
    true = true_results_of(outcome(problem, problem.query.sign()))
    for got, want in zip(found, true, strict=True):
        assert_close("a sum", got, want, 5e-7, 0.0)


@pytest.mark.usefixtures("size")
def test_the_order_of_slots_changes_nothing_but_rounding() -> None:
    problem = plain(5, 37, 4)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(2))
    trace, gradients = run(problem, problem.query, keep_weights=True)
    permuted, by = run(problem._replace(keys=problem.keys[:, order]), problem.query, True)
    assert trace.weights is not None
    assert permuted.weights is not None
    assert gradients.grad_keys is not None
    assert by.grad_keys is not None
    assert_close("result", permuted.queries[:, -1], trace.queries[:, -1].double(), 1e-5, 0.0)
    assert_close("weights", permuted.weights, trace.weights[..., order].double(), 1e-5, 0.0)
    assert_close("grad_keys", by.grad_keys, gradients.grad_keys[:, order].double(), 1e-5, 0.0)


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16])
def test_results_are_deterministic(storage: torch.dtype) -> None:
    problem = plain(300, 2500, 8)
    problem = problem._replace(keys=problem.keys.to(storage))
    first, again = (results_of(problem, *run(problem, problem.query)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("storage", HALVES)
def test_the_gradient_of_a_half_type_is_rounded_once(storage: torch.dtype) -> None:
    problem = plain(700, 90, 4)
    problem = problem._replace(keys=problem.keys.to(storage))
    halves = results_of(problem, *run(problem, problem.query))[2]
    widened = problem._replace(keys=problem.keys.float())
    in_full = results_of(widened, *run(widened, problem.query))[2]
    distance = (halves.float() - in_full).abs()
    assert halves.dtype == storage
    assert (distance <= in_full.abs() * torch.finfo(storage).eps * 0.51 + 1e-6).all()


def test_chunks_and_blocks_hold_every_row_and_slot_once(size: str) -> None:
    for seed in range(30):
        problem = draw_problem(seed, shared=True)
        found = list(blocks.chunks(problem))
        rows = [row for chunk in found for row in range(chunk.rows.start, chunk.rows.stop)]
        assert rows == list(range(len(problem.query)))
        for chunk in found:
            each = len(problem.query) // len(problem.keys)
            memories = sorted({row // each for row in rows[chunk.rows]})
            assert memories == list(range(chunk.memories.start, chunk.memories.stop))
            found_blocks = list(blocks.slots_of_blocks(chunk))
            assert [block.start for block in found_blocks[-1:]] == [0] * (chunk.longest > 0)
            assert all(later.stop == earlier.start for earlier, later in pairwise(found_blocks))
            if size == "chunks":
                assert len(chunk.problem.query) <= max(2, 12 // max(1, problem.num_slots))


def peak_beyond(problem: Problem, grad_result: Tensor) -> float:
    """Return the peak memory beyond the results of both passes, in MiB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        trace, gradients = run(problem, grad_result)
    held, most = 0, 0
    assert record.profiler is not None
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    given = [chunk for chunk in (*trace, *gradients) if isinstance(chunk, Tensor)]
    assert most > MIB, "nothing was recorded"
    return (most - sum(chunk.numel() * chunk.element_size() for chunk in given)) / MIB


@pytest.mark.slow
@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16, torch.int8])
def test_extra_memory(bare: bool, storage: torch.dtype) -> None:
    """A [B, N] matrix would take 16 MiB more, as would the memory or its gradient in float32."""
    num_slots = 16_384
    problem = plain(256, num_slots, 256)
    keys, steps, weights = problem.keys, problem.steps[:2], problem.weights
    if storage == torch.int8:
        problem = problem._replace(key_scale=torch.full((1, num_slots), 1 / 50))
        keys = (keys * 30).clamp(-127, 127)
    if not bare:
        make = torch.Generator().manual_seed(3)
        steps = tuple(step._replace(a_temporal=6, c_temporal=6) for step in steps)
        weights = (*weights, torch.randn(50, 256, generator=make))
        problem = problem._replace(
            ignored=torch.rand(256, num_slots, generator=make) < 0.2,
            score_bias=torch.randn(256, 1, num_slots, generator=make),
        )
    problem = problem._replace(keys=keys.to(storage), steps=steps, weights=weights)
    assert peak_beyond(problem, problem.query) <= 16


def test_gradients_of_weights_need_kept_weights() -> None:
    problem = plain(2, 3, 4)
    trace = attention.forward(problem, False)
    with pytest.raises(AssertionError):
        attention.backward(
            problem, trace, problem.query, torch.ones(2, 3, 3), Wanted(False, False, False)
        )


def test_many_queries_are_read_in_chunks() -> None:
    problem = plain(1100, 1500, 2)
    found = list(blocks.chunks(problem))
    assert [len(chunk.problem.query) for chunk in found] == [512, 512, 76]
    assert all(chunk.block * 512 * 4 <= MIB for chunk in found)
    assert math.ceil(1500 / found[0].block) == len(list(blocks.slots_of_blocks(found[0])))
    found = list(blocks.chunks(plain(1100, 10, 2)))
    assert [len(chunk.problem.query) for chunk in found] == [1100]
