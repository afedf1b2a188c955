"""Tables that are left out, and a share of ReLU, in every path of the fused form.

The kernels have such tests of their own. These are about the operation around them: its autograd,
the eager fallback, second derivatives and the operators of compiled graphs.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from memhop.ops import Hop, Table
from memhop.ops.fused import autograd, custom_op, fallback
from memhop.ops.fused.packing import steps_of
from memhop.ops.fused.problem import NUM_TENSORS, Problem, Step, tensors_of
from memhop.ops.inputs import relu_units
from tests.ops.optional_parts import MEMORIES, Parts, parts_with, problem_of
from tests.ops.problem_oracle import assert_close, outcome
from tests.seeds import thorough

Path = Callable[[Problem], tuple[Tensor, Tensor | None]]
SOME_PARTS = [Parts("", 4, True), Parts("a", 2, False), Parts("c", 4, True), Parts("ac", 4, False)]
CHECKED = [*SOME_PARTS, Parts("ac", 0, True)]


def by_operator(problem: Problem) -> tuple[Tensor, Tensor | None]:
    return custom_op.run(problem, True, True)


def by_kernels(problem: Problem) -> tuple[Tensor, Tensor | None]:
    return autograd.run_problem(problem, True)[:2]


def leaves_of(problem: Problem) -> list[Tensor]:
    """Return all tensors that have a gradient: query, keys, values, score bias and weights."""
    tensors = tensors_of(problem)
    return [t for t in tensors if t is not None and t.is_floating_point()]


def with_leaves(problem: Problem, leaves: Sequence[Tensor]) -> Problem:
    """Return the problem with other tensors in place of ``leaves_of``."""
    rest = iter(leaves)
    tensors = [
        next(rest) if tensor is not None and tensor.is_floating_point() else tensor
        for tensor in tensors_of(problem)
    ]
    return Problem.of_tensors(tensors, problem.steps)


@pytest.mark.parametrize(
    ("parts", "path", "memory", "queries_each"),
    parts_with([by_kernels, by_operator, fallback.forward], MEMORIES, [1, 3]),
)
def test_results_and_gradients(path: Path, parts: Parts, memory: str, queries_each: int) -> None:
    problem = problem_of(parts, memory, queries_each=1 if memory == "bank" else queries_each)
    leaves = [leaf.clone().requires_grad_() for leaf in leaves_of(problem)]
    result, weights, *_ = path(with_leaves(problem, leaves))
    assert weights is not None
    grads = (result.detach().cos(), weights.detach().cos())
    truth = outcome(problem, *grads)
    assert_close("result", result.detach(), truth.result, 1e-11, 1e-12)
    assert_close("weights", weights.detach(), truth.weights, 1e-11, 1e-12)
    rows = (truth.grad_query, truth.grad_keys, truth.grad_values, truth.grad_score_bias)
    expected = [grad for grad in (*rows, *truth.grad_weights) if grad is not None]
    found = torch.autograd.grad([result, weights], leaves, grads)
    for number, (got, want) in enumerate(zip(found, expected, strict=True)):
        assert_close(f"gradient {number}", got, want, 1e-11, 1e-12)


@pytest.mark.parametrize(
    ("parts", "memory"),
    [(parts, MEMORIES[n % 3]) for n, parts in enumerate(SOME_PARTS)]
    + [thorough(parts, memory) for parts in SOME_PARTS for memory in MEMORIES],
)
def test_second_derivatives(parts: Parts, memory: str) -> None:
    problem = problem_of(parts, memory)
    bias = problem.score_bias
    assert bias is not None  # finite differences cannot move -inf
    problem = problem._replace(score_bias=bias.clamp(min=-10.0))
    leaves = [leaf.requires_grad_() for leaf in leaves_of(problem)]

    def call(*leaves: Tensor) -> tuple[Tensor, ...]:
        result, weights = by_kernels(with_leaves(problem, leaves))
        assert weights is not None
        return result, weights

    assert gradcheck(call, leaves, fast_mode=True)
    assert gradgradcheck(call, leaves, fast_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "queries_each"),
    [(one, (1, 3)[n % 2]) for n, one in enumerate(CHECKED)]
    + [thorough(one, (3, 1)[n % 2]) for n, one in enumerate(CHECKED)],
)
def test_the_operator_is_what_torch_library_expects(parts: Parts, queries_each: int) -> None:
    problem = problem_of(parts, "no values", queries_each=queries_each)
    if parts.relu == 0:  # a hop without any weight
        problem = problem._replace(weights=(), steps=(Step(),) * 2)
    tensors = [None if t is None else t.requires_grad_(t.is_floating_point()) for t in problem[:9]]
    assert len(tensors) == NUM_TENSORS
    weights = [weight.requires_grad_() for weight in problem.weights]
    steps = [index for step in problem.steps for index in step]
    torch.library.opcheck(custom_op.fused, (*tensors, weights, steps, True))


def test_a_step_holds_the_number_of_units() -> None:
    table = Table(torch.zeros(7, 3))
    hops = [Hop(table, table, relu=share) for share in (False, 0.0, 0.3, 0.5, 1.0, True)]
    _, steps = steps_of(hops, torch.float32, memory_dim=7)
    assert [step.relu for step in steps] == [0, 0, 2, 4, 7, 7]


def test_a_table_without_a_weight_has_no_index() -> None:
    bias, temporal = torch.zeros(7), torch.zeros(2, 7)
    table = Table._make((None, bias, temporal))
    weights, (step,) = steps_of([Hop(table, table)], torch.float32, memory_dim=7)
    assert [id(weight) for weight in weights] == [id(bias), id(temporal)]
    assert step == Step(-1, 0, 1, -1, 0, 1)


@pytest.mark.parametrize("memory_dim", [1, 2, 3, 7, 49, 50, *map(thorough, range(4, 100)), 997])
def test_the_fallback_applies_relu_to_as_many_units(memory_dim: int) -> None:
    query, keys = torch.zeros(1, memory_dim), torch.zeros(1, 1, memory_dim)
    problem = Problem.of_tensors((query, keys, *[None] * 7), ())
    for num_units in range(memory_dim + 1):
        hop = fallback._hop(problem, Step(relu=num_units))
        assert relu_units(hop.relu, memory_dim) == num_units
