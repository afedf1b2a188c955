"""What surrounds the backward kernels of ``problem``: weight gradients, and what is not reached."""

from collections.abc import Sequence

import torch
from torch import Tensor

from memhop.ops import reference
from memhop.ops.fused.problem import Gradients, Problem, Step, Trace

NUM_TENSORS = len(Problem._fields) - 2  # of a problem, before its weights


def reached_by_weights(steps: Sequence[Step], needed: Sequence[bool]) -> list[bool]:
    """Return which needed gradients there are where only the weights p are differentiated.

    The last hop's p does not depend on what that hop reads and adds; what only that takes part in
    has no gradient, None as in plain torch.
    """
    places: set[int] = set()
    for hop, step in enumerate(steps):
        places |= {step.a, step.a_temporal}
        if not step.softmax:
            places.add(step.a_bias)
        if hop < len(steps) - 1:
            places |= {step.a_bias, step.c, step.c_bias, step.c_temporal, step.transform}
    tensors = dict(zip(Problem._fields, needed[:NUM_TENSORS], strict=False))
    tensors["values"] = tensors["values"] and len(steps) > 1
    weights = [need and place in places for place, need in enumerate(needed[NUM_TENSORS:])]
    return [*tensors.values(), *weights]


def ignored_slots(problem: Problem) -> Tensor | None:
    """Return the slots that mask or lengths leave out, [B, N]; None where there is neither."""
    if problem.lengths is None:
        return problem.ignored
    beyond = reference.beyond(problem.lengths, problem.num_slots)
    return beyond if problem.ignored is None else problem.ignored | beyond


def zero_where_ignored(problem: Problem, grad_weights: Tensor) -> Tensor:
    """Return G [B, K, N] with zeros for ignored slots: infinity times a weight of zero is NaN."""
    ignored = ignored_slots(problem)
    if ignored is not None:
        grad_weights = grad_weights.masked_fill(ignored.unsqueeze(1), 0.0)
    if problem.score_bias is not None:
        grad_weights = grad_weights.masked_fill(problem.score_bias == -torch.inf, 0.0)
    return grad_weights


def weight_gradients(
    problem: Problem, trace: Trace, found: Gradients, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Products of what the kernel gives; one that several hops share is summed over them."""
    sums: dict[int, Tensor] = {}
    sought = {place for place, need in enumerate(needed) if need}

    def add(place: int, left: Tensor, right: Tensor) -> None:
        if place in sums:
            sums[place].addmm_(left.T, right)
        elif place in sought:
            sums[place] = left.T @ right

    def add_vector(place: int, factors: Tensor, rows: Tensor) -> None:
        if place in sums:
            sums[place].addmv_(rows.T, factors)
        elif place in sought:
            sums[place] = rows.T @ factors

    def add_temporal(place: int, by_age: Tensor | None, rows: Tensor) -> None:
        if place not in sought or by_age is None:
            return
        last = problem.weights[place].shape[0] - 1
        if last + 1 < by_age.shape[1]:  # another table is longer: this one's last row is for more
            by_age = torch.cat([by_age[:, :last], by_age[:, last:].sum(1, keepdim=True)], 1)
        add(place, by_age, rows)

    for k, step in enumerate(problem.steps):
        query, grad_out = trace.queries[:, k], found.grad_out[:, k]
        add(step.a, query, found.grad_u[:, k])
        add(step.c, grad_out, trace.read[:, k])
        add(step.transform, grad_out, query)
        add_vector(step.c_bias, trace.weight_sum[:, k], grad_out)
        if not step.softmax:
            add_vector(step.a_bias, found.grad_weight_sum[:, k], query)
        add_temporal(step.a_temporal, _of_hop(found.grad_aged, k), query)
        add_temporal(step.c_temporal, _of_hop(trace.aged, k), grad_out)
    return [
        sums[place] if place in sums else torch.zeros_like(weight) if need else None
        for place, (weight, need) in enumerate(zip(problem.weights, needed, strict=True))
    ]


def _of_hop(sums: Tensor | None, hop: int) -> Tensor | None:
    return None if sums is None else sums[:, hop]
