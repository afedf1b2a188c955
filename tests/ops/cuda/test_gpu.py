"""The triton kernels against the textbook formula in float64: on a GPU, or interpreted.

``test_interpreted`` runs this file on the CPU in another process, because triton's interpreter must
be enabled before triton is imported. In the process of the suite these tests need a GPU.
"""

from functools import partial

import pytest
import torch
from torch import Tensor

from memhop.ops.fused.problem import Gradients, Problem, Step, Trace, Wanted
from tests.ops.cuda_problems import (
    DEVICE,
    EVERYTHING,
    IS_INTERPRETED,
    as_planned,
    grouped_rows,
    hops_over,
    in_splits,
    in_tiles,
    moved,
    normal,
    with_plans,
)
from tests.ops.optional_parts import Parts, problem_of
from tests.ops.problem_oracle import assert_close, assert_kernel_agrees, draw_problem, outcome

from memhop.ops.cuda import forward as cuda  # isort: skip, needs triton
from memhop.ops.cuda import memory_grad

TIGHT = {torch.float64: 1e-11, torch.float32: 2e-5}  # rounding of sums of some ten numbers

gpu_only = pytest.mark.skipif(IS_INTERPRETED, reason="needs a GPU: too large for the interpreter")


def assert_agrees(
    problem: Problem,
    given: Problem | None = None,
    rtol: float | None = None,
    asks_twice: bool = False,
) -> None:
    """Check the kernels, on ``given`` if that differs, against the oracle on ``problem``.

    The oracle runs a second backward pass, without the large gradients. It takes a third of the
    time, so only a test that ``asks_twice`` runs the kernels for it.
    """
    problem, given = moved(problem), moved(problem if given is None else given)
    first: list[Gradients] = []

    def forward(_: Problem, keep_weights: bool) -> Trace:
        return cuda.forward(given, keep_weights)

    def backward(
        _: Problem,
        trace: Trace,
        grad_result: Tensor,
        grad_weights: Tensor | None,
        wanted: Wanted,
        grad_lse: Tensor | None,
    ) -> Gradients:
        if first and not asks_twice:
            return first[0]._replace(grad_scores=None, grad_keys=None, grad_values=None)
        first.append(cuda.backward(given, trace, grad_result, grad_weights, wanted, grad_lse))
        return first[-1]

    rtol = TIGHT[problem.query.dtype] if rtol is None else rtol
    # atol: a gradient of a softmax over one slot is all rounding
    assert_kernel_agrees(forward, backward, problem, rtol=rtol, atol=rtol / 10, keep=(True,))


def with_everything(storage: torch.dtype, dtype: torch.dtype = torch.float32) -> Problem:
    """Return a problem with a bank, values, mask, lengths, biases, all weights and hop options.

    The first row has no readable slot, another none in the second hop.
    """
    make = torch.Generator().manual_seed(7)
    normals = partial(torch.randn, generator=make, dtype=dtype)
    keys, values = normals(6, 5) / 3, normals(6, 3) / 3
    key_scale = value_scale = None
    if storage == torch.int8:
        key_scale, value_scale = (rows.abs().amax(1).float() / 127 for rows in (keys, values))
        keys, values = keys / key_scale[:, None], values / value_scale[:, None]
    bias = normals(3, 2, 7)
    bias[1, 0, 2] = bias[2, 1] = -torch.inf
    shapes = [(4, 5), (4,), (3, 4), (4, 3), (4,), (5, 4), (4, 4)]
    step = Step(0, 1, 2, 3, 4, 5, 6)
    return Problem(
        query=normals(3, 4),
        keys=keys.round().to(storage) if key_scale is not None else keys.to(storage),
        key_scale=key_scale,
        values=values.round().to(storage) if key_scale is not None else values.to(storage),
        value_scale=value_scale,
        slots=torch.randint(0, 6, (3, 7), generator=make, dtype=torch.int32),
        ignored=torch.rand(3, 7, generator=make) < 0.2,
        lengths=torch.tensor([0, 5, 7]),
        score_bias=bias,
        weights=tuple(normals(*shape) / 2 for shape in shapes),
        steps=(step._replace(relu=3), step._replace(softmax=0)),
    )


@with_plans(in_tiles, in_splits)
def test_every_part_of_a_problem_at_once(planned: None) -> None:
    assert_agrees(with_everything(torch.float64, torch.float64), asks_twice=True)


@pytest.mark.parametrize(
    ("planned", "storage"),
    [
        (grouped_rows, torch.float32),
        (grouped_rows, torch.bfloat16),
        (in_tiles, torch.float16),
        (in_splits, torch.int8),
    ],
    indirect=["planned"],
)
def test_memories_in_every_type_are_computed_in_float32(
    planned: None, storage: torch.dtype
) -> None:
    assert_agrees(with_everything(storage))


# These seeds cover memories and banks, 0 to 17 slots, none readable, a read without hops, ages
# beyond the temporal tables, one bias for all hops and one for each, strides of every kind.
@pytest.mark.parametrize(
    ("planned", "seed"),
    [
        *((in_tiles, seed) for seed in (7, 33, 39, 49)),
        *((in_splits, seed) for seed in (5, 9, 32, 45, 60)),  # 7, 45 and 16: a single read
        *((as_planned, seed) for seed in (1, 16, 27, 53)),
    ],
    indirect=["planned"],
)
def test_drawn_problems_give_what_the_textbook_does(planned: None, seed: int) -> None:
    assert_agrees(draw_problem(seed))


@pytest.mark.parametrize(
    ("planned", "seed", "storage"),
    [
        (grouped_rows, 33, torch.float32),
        (in_splits, 9, torch.float16),
        (in_tiles, 22, torch.int8),
    ],
    indirect=["planned"],
)
def test_drawn_problems_in_float32(planned: None, seed: int, storage: torch.dtype) -> None:
    assert_agrees(draw_problem(seed, dtype=torch.float32, storage=storage))


@pytest.mark.parametrize(
    ("planned", "parts", "memory"),
    [
        (in_tiles, Parts("a", 2, True), "values"),
        (in_tiles, Parts("c", 4, False), "bank"),
        (in_tiles, Parts("ac", 4, True), "no values"),
        (in_splits, Parts("c", 2, True), "values"),
        (in_splits, Parts("ac", 4, False), "bank"),
        (as_planned, Parts("", 4, True), "values"),
        (as_planned, Parts("ac", 7, False), "values"),
        (as_planned, Parts("a", 0, False), "bank"),
    ],
    indirect=["planned"],
)
def test_tables_that_are_left_out_and_shares_of_relu(
    planned: None, parts: Parts, memory: str
) -> None:
    assert_agrees(problem_of(parts, memory))


@with_plans(grouped_rows)
def test_shares_of_relu_in_programs_of_many_rows(planned: None) -> None:
    assert_agrees(problem_of(Parts("ac", 2, True), "no values", dtype=torch.float32))


@with_plans(grouped_rows)
def test_more_rows_and_columns_than_a_program_has(planned: None) -> None:
    """Seventeen rows: a second program, most of whose rows do not exist."""
    memory, query = normal(17, 5, 18, dtype=torch.float32), normal(17, 21, dtype=torch.float32)
    shapes = [(21, 18), (21, 18), (21, 21), (18, 21)]
    weights = tuple(normal(*shape, dtype=torch.float32) / 5 for shape in shapes)
    step = Step(a=0, a_temporal=3, c=1, c_temporal=3, transform=2)
    assert_agrees(hops_over(memory, query)._replace(weights=weights, steps=(step,)))


@with_plans(in_tiles, in_splits)
@pytest.mark.parametrize(("rows", "slots"), [(0, 5), (3, 0), (2, 1)])
def test_no_rows_no_slots_one_slot(planned: None, rows: int, slots: int) -> None:
    assert_agrees(hops_over(normal(rows, slots, 5), normal(rows, 5)))


@with_plans(grouped_rows, in_splits)
def test_unreadable_slots_are_not_loaded(planned: None) -> None:
    """Unreadable slots hold NaN: ignored, beyond the length, a bias of -inf; all of a row."""
    ignored = torch.zeros(4, 7, dtype=torch.bool)
    ignored[0, 2], ignored[1] = True, True
    bias = normal(4, 1, 7, dtype=torch.float32)
    bias[2, 0, 3], bias[3] = -torch.inf, -torch.inf
    memory = normal(4, 7, 6, dtype=torch.float32) / 3
    problem = hops_over(memory, normal(4, 6, dtype=torch.float32))._replace(
        ignored=ignored,
        score_bias=bias,
        lengths=torch.tensor([5, 7, 7, 7]),
        steps=tuple(
            Step(softmax=s, a_bias=0, c_bias=0, a_temporal=1, c_temporal=1) for s in (1, 0)
        ),
        weights=(normal(6, dtype=torch.float32), normal(3, 6, dtype=torch.float32)),
    )
    poisoned = memory.clone()
    poisoned[0, 2] = poisoned[0, 5:] = poisoned[1] = poisoned[2, 3] = poisoned[3] = torch.nan
    assert_agrees(problem, problem._replace(keys=poisoned))


@with_plans(in_tiles, in_splits)
def test_scores_of_1e30_and_biases_of_minus_infinity_give_no_nan(planned: None) -> None:
    memory = normal(3, 5, 4, dtype=torch.float32)
    memory[0, 2] *= 1e15
    memory[2] = 0  # the same score in all
    bias = torch.zeros(3, 1, 5)
    bias[0, 0, 4], bias[1, 0, :4] = -torch.inf, -torch.inf
    query = normal(3, 4, dtype=torch.float32) * 1e15
    problem = moved(hops_over(memory, query)._replace(score_bias=bias, steps=(Step(),)))
    trace = cuda.forward(problem, True)
    truth = outcome(problem, problem.query)
    assert trace.weights is not None
    assert float(trace.score_max.abs().max()) > 1e29
    assert_close("weights", trace.weights, truth.weights, 1e-6, 0.0)
    assert_close("result", trace.queries[:, -1], truth.result, 1e-6, 0.0)
    ones = torch.ones_like(problem.query)
    found = cuda.backward(problem, trace, ones, None, EVERYTHING._replace(values=False))
    for tensor in found[:-1]:
        assert tensor is None or bool(tensor.isfinite().all())


def bank_problem(slots: Tensor) -> Problem:
    """A hop with a temporal table and one without, over a bank of nine rows."""
    weights = tuple(normal(*shape, dtype=torch.float32) / 2 for shape in [(5, 6), (5, 6), (2, 5)])
    steps = (Step(a=0, c=1, c_temporal=2), Step(a=1, c=0))
    memory, query = normal(9, 6, dtype=torch.float32) / 3, normal(4, 5, dtype=torch.float32)
    return hops_over(memory, query)._replace(slots=slots, weights=weights, steps=steps)


@with_plans(in_tiles)
@pytest.mark.parametrize(
    "slots",
    [
        torch.tensor([[0] * 1 + [4] * 9 + [8] * 1]).expand(4, -1).int(),
        torch.arange(4 * 11).view(4, 11) % 9,
    ],
    ids=["one row of many pairs", "all rows"],
)
def test_a_banks_gradient_is_summed_over_windows(
    planned: None, slots: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pairs of a bank row end in its first window, or span several."""
    monkeypatch.setattr(memory_grad, "WINDOW", 8)
    monkeypatch.setattr(memory_grad, "PAIR_TILE", 32)
    problem = bank_problem(slots)
    if slots.dtype == torch.int64:
        ignored = (torch.arange(11) % 3 == 0).expand(4, -1)
        problem = problem._replace(ignored=ignored, lengths=torch.tensor([11, 3, 0, 7]))
    assert_agrees(problem)


@with_plans(in_splits)
def test_a_query_of_nan_affects_its_own_row_only(planned: None) -> None:
    """Rows without readable slots, for one reason each, pass it to no other row and no bank row."""
    ignored, bias = torch.zeros(4, 5, dtype=torch.bool), torch.zeros(4, 2, 5)
    ignored[2], bias[3] = True, -torch.inf
    problem = bank_problem(torch.arange(4 * 5).view(4, 5) % 9)
    lengths = torch.tensor([0, 3, 5, 5])
    problem = moved(problem._replace(lengths=lengths, ignored=ignored, score_bias=bias))
    problem.query[[0, 2, 3]] = torch.nan
    trace = cuda.forward(problem, True)
    ones = torch.ones_like(problem.query)
    found = cuda.backward(problem, trace, ones, None, EVERYTHING._replace(values=False))
    assert found.grad_keys is not None
    assert bool(found.grad_keys.isfinite().all())
    assert bool(found.grad_query[1].isfinite().all())
    assert bool(trace.queries[1].isfinite().all())


@with_plans(in_tiles)
def test_nan_in_a_memory_propagates_to_all_results_of_its_row(planned: None) -> None:
    problem = moved(hops_over(normal(2, 3, 4), normal(2, 4))._replace(steps=(Step(),)))
    problem.keys[1, 2] = torch.nan
    trace = cuda.forward(problem, True)
    assert trace.weights is not None
    for part in (trace.weights, trace.queries[:, 1:], trace.read):
        assert not bool(part[0].isnan().any())
        assert bool(part[1].isnan().all())


@with_plans(in_splits)
def test_the_same_bits_each_time_with_kept_weights_or_without(planned: None) -> None:
    problem = moved(bank_problem(torch.arange(4 * 5).view(4, 5) % 3))
    first, second = cuda.forward(problem, True), cuda.forward(problem, False)
    assert second.weights is None
    for one, other in zip(first[:-1], second[:-1], strict=True):
        assert isinstance(one, Tensor)
        assert isinstance(other, Tensor)
        assert torch.equal(one, other)
    wanted = EVERYTHING._replace(values=False)
    results = [cuda.backward(problem, first, problem.query, None, wanted) for _ in range(2)]
    for one, other in zip(*results, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


@with_plans(as_planned)
@pytest.mark.parametrize("wanted", [Wanted(True, False, False), Wanted(False, True, False)])
def test_only_wanted_gradients_and_any_strides_of_incoming_ones(
    planned: None, wanted: Wanted
) -> None:
    query = normal(1, 5).expand(3, 5).contiguous()
    memory = normal(1, 7, 12)[:, :, 2:7].expand(3, -1, -1)  # one for all, with a gap between rows
    problem = moved(hops_over(memory, query, values=normal(3, 7, 5)))
    grad_result = torch.ones((), dtype=torch.float64, device=DEVICE).expand(3, 5)
    grad_weights = normal(7, 2, 3).transpose(0, 2).to(DEVICE)
    trace = cuda.forward(problem, True)
    found = cuda.backward(problem, trace, grad_result, grad_weights, wanted)
    truth = outcome(problem, grad_result, grad_weights)
    assert found.grad_scores is None
    assert (found.grad_keys is None, found.grad_values is None) == (
        not wanted.keys,
        not wanted.values,
    )
    for got, want in ((found.grad_keys, truth.grad_keys), (found.grad_values, truth.grad_values)):
        if got is not None and want is not None:
            assert_close("rows", got, want, 1e-11, 1e-12)
    assert_close("grad_query", found.grad_query, truth.grad_query, 1e-11, 1e-12)


@gpu_only
@pytest.mark.parametrize(
    ("shape", "storage"),
    [
        ((4096, 50, 128), torch.float32),
        ((16, 8192, 128), torch.bfloat16),
        ((1, 200_000, 128), torch.float32),
        ((7, 99, 96), torch.float16),
        ((3, 100, 9000), torch.float32),
    ],
)
@pytest.mark.parametrize("has_values", [False, True])
def test_large_shapes_as_planned(
    shape: tuple[int, int, int], storage: torch.dtype, has_values: bool
) -> None:
    """Also check that shared memory suffices for a launch."""
    rows, _, columns = shape
    memory = normal(*shape, dtype=torch.float32).to(storage)
    weights = tuple(normal(128, columns, dtype=torch.float32) / columns**0.5 for _ in range(4))
    query = normal(rows, 128, dtype=torch.float32) / 128**0.5
    problem = hops_over(memory, query, values=memory.flip(1) if has_values else None)
    steps = (Step(a=0, c=1), Step(a=2, c=3))
    # Sums of tens of thousands of numbers.
    assert_agrees(problem._replace(weights=weights, steps=steps), rtol=1e-4)


@gpu_only
def test_rows_of_a_bank_beyond_two_to_the_31() -> None:
    far = 2**31 // 512
    make = torch.Generator().manual_seed(5)
    rows = torch.randint(-127, 128, (8, 512), generator=make, dtype=torch.int8)
    near = hops_over(rows, torch.randn(3, 512, generator=make) / 512)
    scale, slots = torch.rand(8, generator=make) / 127, torch.randint(0, 8, (3, 20), generator=make)
    near = moved(near._replace(key_scale=scale, slots=slots))
    assert near.key_scale is not None
    assert near.slots is not None
    bank = torch.cat([rows.new_zeros(far, 512, device=DEVICE), near.keys])
    scale = torch.cat([near.key_scale.new_zeros(far), near.key_scale])
    beyond = near._replace(keys=bank, key_scale=scale, slots=near.slots + far)
    found = []
    for problem in (near, beyond):
        trace = cuda.forward(problem, True)
        by = cuda.backward(problem, trace, near.query, None, Wanted(False, False, True))
        found.append((*trace, *by))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
