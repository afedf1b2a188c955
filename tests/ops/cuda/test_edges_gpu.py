"""NaN and infinities, ignored slots and ages in the triton kernels: on a GPU, or interpreted.

``test_interpreted`` runs this file on the CPU, like ``test_gpu``.
"""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from memhop.ops.fused.problem import Problem, Step, Wanted
from tests.ops.cuda_problems import (
    DEVICE,
    EVERYTHING,
    hops_over,
    in_splits,
    in_tiles,
    moved,
    normal,
    with_plans,
)
from tests.ops.problem_oracle import readable_slots

from memhop.ops.cuda import forward  # isort: skip, needs triton


def masked_problem() -> Problem:
    """Return a problem with and without a softmax, and slots excluded by mask, lengths and bias."""
    ignored, bias = torch.zeros(4, 7, dtype=torch.bool), normal(4, 2, 7)
    ignored[0, 2], ignored[1] = True, True
    bias[2, 0, 3], bias[3] = -torch.inf, -torch.inf
    return hops_over(normal(4, 7, 6) / 3, normal(4, 6))._replace(
        ignored=ignored,
        score_bias=bias,
        lengths=torch.tensor([5, 7, 7, 7]),
        steps=tuple(
            Step(softmax=s, a_bias=0, c_bias=0, a_temporal=1, c_temporal=1) for s in (1, 0)
        ),
        weights=(normal(6), normal(3, 6)),
    )


@with_plans(in_tiles, in_splits)
@pytest.mark.parametrize("number", [torch.inf, -torch.inf, torch.nan])
def test_a_weight_gradient_at_an_ignored_slot_does_not_matter(planned: None, number: float) -> None:
    """As in entr(p) or sqrt(p): 0 times inf must not reach a gradient."""
    problem = moved(masked_problem())
    trace = forward.forward(problem, True)
    grad_weights = normal(4, 2, 7).to(DEVICE)
    modified = grad_weights.clone()
    for hop in range(2):
        modified[:, hop].masked_fill_(~readable_slots(problem, hop), number)
    ones, wanted = torch.ones_like(problem.query), EVERYTHING._replace(values=False)
    found = forward.backward(problem, trace, ones, modified, wanted)
    expected = forward.backward(problem, trace, ones, grad_weights, wanted)
    for one, other in zip(found[:-1], expected[:-1], strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or torch.equal(one, other)
    assert bool(found.grad_query.isfinite().all())


@with_plans(in_tiles, in_splits)
@pytest.mark.parametrize("number", [torch.inf, torch.nan, torch.finfo(torch.float64).min])
def test_the_content_of_an_ignored_slot_does_not_matter(planned: None, number: float) -> None:
    """The same bits as with zeros there, forward and backward, in keys and in values."""
    results = []
    for content in (0.0, number):
        problem = masked_problem()
        unread = ~(readable_slots(problem, 0) | readable_slots(problem, 1)).unsqueeze(2)
        keys = problem.keys.masked_fill(unread, content)
        values = (normal(4, 7, 6) / 2).masked_fill(unread, content)
        problem = moved(problem._replace(keys=keys, values=values))
        trace = forward.forward(problem, True)
        ones, grad_weights = torch.ones_like(problem.query), normal(4, 2, 7).to(DEVICE)
        found = forward.backward(problem, trace, ones, grad_weights, EVERYTHING)
        results.append([*trace, *found[:-1]])  # without the gradients of weights, which it lacks
    for one, other in zip(*results, strict=True):
        assert isinstance(one, Tensor)
        assert isinstance(other, Tensor)
        assert torch.equal(one, other)


@with_plans(in_tiles)
@pytest.mark.parametrize("num_units", [4, 1])
def test_relu_passes_nan_and_its_gradient_as_torch_does(planned: None, num_units: int) -> None:
    problem = moved(hops_over(normal(2, 3, 4), normal(2, 4)))
    problem = problem._replace(steps=(Step(relu=num_units),))
    problem.query[0, 1] = torch.nan
    trace = forward.forward(problem, True)
    assert bool(trace.queries[0, 1].isnan().all())  # the scores are NaN, and so all that is read
    assert bool(trace.queries[1, 1].isfinite().all())
    ones = torch.ones_like(problem.query)
    found = forward.backward(problem, trace, ones, None, Wanted(False, False, False))
    assert found.grad_out[0, 0].tolist() == [1.0] * 4
    is_passed = trace.queries[1, 1] > 0
    is_passed[:-num_units] = True
    assert found.grad_out[1, 0].tolist() == is_passed.double().tolist()


class LargestIntegers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record the size of the largest new tensor of integers or booleans, except bytes.

    The interpreter copies its arguments as bytes.
    """

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(part, Tensor) and part.dtype in (torch.bool, torch.int32, torch.int64):
                self.largest = max(self.largest, part.numel())
        return result


@with_plans(in_tiles, in_splits)
def test_ages_are_counted_without_a_tensor_of_all_slots(planned: None) -> None:
    problem = moved(masked_problem())
    with LargestIntegers() as integers:  # type: ignore[no-untyped-call]
        trace = forward.forward(problem, True)
        forward.backward(problem, trace, problem.query, None, Wanted(False, False, True))
    rows, hops, slots = 4, 2, 7
    assert integers.largest < rows * hops * slots
