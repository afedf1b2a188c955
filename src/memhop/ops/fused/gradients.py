"""Compute the gradients of all tensors of a problem from what a backward kernel returns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from memhop.ops.fused import backends
from memhop.ops.fused.packing import as_kernel_input
from memhop.ops.fused.problem import (
    NUM_TENSORS,
    Gradients,
    Problem,
    Step,
    Trace,
    Wanted,
    is_shared,
    result_of,
)
from memhop.ops.reference import ignored_slots, readable_slots


def keeps_weights(problem: Problem, need_weights: bool) -> bool:
    """Return whether a forward pass keeps the weights for the backward pass.

    Those of a shared memory are too many; the backward pass computes them again.
    """
    return need_weights or not is_shared(problem)


def gradients(
    problem: Problem,
    trace: Trace,
    grad_result: Tensor | None,
    grad_weights: Tensor | None,
    needed: Sequence[bool],
    grad_lse: Tensor | None = None,
) -> list[Tensor | None]:
    """Return the gradients of ``tensors_of(problem)``, None for those that are not needed.

    ``grad_lse`` [B] is that of ``log_sum_exp`` of a single read.
    """
    if grad_result is None:
        needed = reached_by_weights(problem.steps, needed)
        grad_result = torch.zeros_like(result_of(problem, trace))
    if grad_weights is not None:
        grad_weights = zero_where_ignored(problem, grad_weights)
    trace = Trace._make([None if part is None else part.contiguous() for part in trace])
    grads_out = grad_result, grad_weights, grad_lse
    inputs = [as_kernel_input(grad, is_flat=True) for grad in grads_out]
    assert inputs[0] is not None
    names = dict(zip(Problem._fields, needed, strict=False))
    of_weights = tuple(needed[NUM_TENSORS:])
    wanted = Wanted(names["keys"], names["values"], names["score_bias"], of_weights)
    kernel = backends.kernel_for(problem)
    grads = kernel.backward(problem, trace, inputs[0], inputs[1], wanted, inputs[2])
    grad_bias = None
    if problem.score_bias is not None and grads.grad_scores is not None and wanted.scores:
        is_per_hop = problem.score_bias.shape[1] == len(problem.steps)
        grad_bias = grads.grad_scores if is_per_hop else grads.grad_scores.sum(1, keepdim=True)
    tensors = dict.fromkeys(Problem._fields[:NUM_TENSORS])
    tensors |= {
        "query": grads.grad_query, "keys": grads.grad_keys, "values": grads.grad_values,
        "score_bias": grad_bias,
    }  # fmt: skip
    if grads.of_weights is not None:
        return [*tensors.values(), *grads.of_weights]
    return [*tensors.values(), *weight_gradients(problem, trace, grads, of_weights)]


def reached_by_weights(steps: Sequence[Step], needed: Sequence[bool]) -> list[bool]:
    """Return which needed gradients exist if only the weights p are differentiated.

    The last hop's p does not depend on what that hop reads and adds. Tensors used only there have
    the gradient None, as in the eager form.
    """
    indices: set[int] = set()
    for hop, step in enumerate(steps):
        indices |= {step.a, step.a_temporal}
        if not step.softmax:
            indices.add(step.a_bias)
        if hop < len(steps) - 1:
            indices |= {step.a_bias, step.c, step.c_bias, step.c_temporal, step.transform}
    tensors = dict(zip(Problem._fields, needed[:NUM_TENSORS], strict=False))
    tensors["values"] = tensors["values"] and len(steps) > 1
    weights = [need and index in indices for index, need in enumerate(needed[NUM_TENSORS:])]
    return [*tensors.values(), *weights]


def zero_where_ignored(problem: Problem, grad_weights: Tensor) -> Tensor:
    """Return G [B, K, N] with zeros for ignored slots: infinity times a weight of zero is NaN."""
    ignored = ignored_slots(problem.ignored, problem.lengths, problem.num_slots)
    ignored = None if ignored is None else ignored.unsqueeze(1)
    ignored = readable_slots(ignored, problem.score_bias).ignored
    return grad_weights if ignored is None else grad_weights.masked_fill(ignored, 0.0)


def weight_gradients(
    problem: Problem, trace: Trace, grads: Gradients, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients of the weights; a weight that several hops share gets their sum."""
    sums: dict[int, Tensor] = {}
    needed_indices = {index for index, need in enumerate(needed) if need}

    def add(index: int, left: Tensor, right: Tensor) -> None:
        if index in sums:
            sums[index].addmm_(left.T, right)
        elif index in needed_indices:
            sums[index] = left.T @ right

    def add_vector(index: int, factors: Tensor, rows: Tensor) -> None:
        if index in sums:
            sums[index].addmv_(rows.T, factors)
        elif index in needed_indices:
            sums[index] = rows.T @ factors

    def add_temporal(index: int, sums_by_age: Tensor | None, hop: int, rows: Tensor) -> None:
        if index not in needed_indices or sums_by_age is None:
            return
        factors, last = sums_by_age[:, hop], problem.weights[index].shape[0] - 1
        if last + 1 < factors.shape[1]:  # the last row of a shorter table serves all older slots
            factors = torch.cat([factors[:, :last], factors[:, last:].sum(1, keepdim=True)], 1)
        add(index, factors, rows)

    for k, step in enumerate(problem.steps):
        query, grad_out = trace.queries[:, k], grads.grad_out[:, k]
        add(step.a, query, grads.grad_u[:, k])
        add(step.c, grad_out, trace.read[:, k])
        add(step.transform, grad_out, query)
        add_vector(step.c_bias, trace.weight_sum[:, k], grad_out)
        if not step.softmax:
            add_vector(step.a_bias, grads.grad_weight_sum[:, k], query)
        add_temporal(step.a_temporal, grads.grad_aged, k, query)
        add_temporal(step.c_temporal, trace.aged, k, grad_out)
    return [
        sums[index] if index in sums else torch.zeros_like(weight) if need else None
        for index, (weight, need) in enumerate(zip(problem.weights, needed, strict=True))
    ]
