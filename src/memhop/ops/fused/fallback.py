"""The eager form of a problem: for tensors without an address, and for second derivatives."""

from collections.abc import Sequence

import torch
from torch import Tensor

from memhop.ops import eager, ignored_content
from memhop.ops.call import Outputs
from memhop.ops.fused.problem import Problem, Step, tensors_of
from memhop.ops.inputs import Hop, Quantized, Table, converted
from memhop.ops.reference import MemoryView, ignored_slots, readable_in_each_hop


def forward(problem: Problem, need_lse: bool = False) -> Outputs:
    """Return the result [B, D], the weights [B, K, N] and lse [B] of a problem, differentiable."""
    query, rows, steps = problem.query, problem.query.shape[0], problem.steps
    keys = _rows(problem.keys, problem.key_scale, query.dtype)
    values = keys
    if problem.values is not None:
        values = _rows(problem.values, problem.value_scale, query.dtype)
    ignored = ignored_slots(problem.ignored, problem.lengths, problem.num_slots)
    biases: list[Tensor | None] = [None]
    if problem.score_bias is not None:
        biases = list(problem.score_bias.unbind(1))
    slots = None if problem.slots is None else problem.slots.long()
    if slots is None:
        groups = (keys.shape[0], rows // max(1, keys.shape[0]))
        query = query.view(*groups, query.shape[-1])
        is_one = values is keys
        keys = keys.unsqueeze(1)
        values = keys if is_one else values.unsqueeze(1)
        shape = (*groups, problem.num_slots)
        ignored = None if ignored is None else ignored.reshape(shape)
        biases = [None if bias is None else bias.reshape(shape) for bias in biases]
    hops = [_hop(problem, step) for step in steps] if steps[0].carry else []
    lse: list[Tensor] = []
    readable = readable_in_each_hop(hops, problem.num_slots, ignored, biases)
    view = MemoryView(keys, values, slots, readable)
    if hops:
        result, attentions = ignored_content.multi_hop(eager.raw_multi_hop, query, view, hops)
    else:
        read = eager.read_with_lse if need_lse else eager.read
        result, attention, *lse = ignored_content.read(read, query, view, bool(steps[0].softmax))
        attentions = [attention]
    flat = (rows, problem.num_slots)
    weights = torch.stack([p.expand(*query.shape[:-1], -1).reshape(flat) for p in attentions], 1)
    result = result.reshape(rows, result.shape[-1])
    return Outputs(result, weights, lse[0].reshape(rows) if lse else None)


def backward(
    problem: Problem, grads_out: Sequence[Tensor | None], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return what ``gradients.gradients`` returns, itself differentiable.

    ``grads_out`` are the gradients of the result, of the weights and of lse.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, because one input may be computed from another: each has its own gradient.
        tensors = [None if t is None else t.view_as(t) for t in tensors_of(problem)]
        inputs = [t for t, need in zip(tensors, needed, strict=True) if need and t is not None]
        problem = Problem.of_tensors(tensors, problem.steps)
        outputs = forward(problem, grads_out[-1] is not None)
        pairs = [
            (output, grad)
            for output, grad in zip(outputs, grads_out, strict=True)
            if grad is not None and output is not None and output.requires_grad
        ]
        grads = iter(torch.autograd.grad(
            [result for result, _ in pairs], inputs, [grad for _, grad in pairs],
            create_graph=create_graph, allow_unused=True,
        ))  # fmt: skip
    return [next(grads) if need else None for need in needed]


def _rows(rows: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the contents of slots in the compute dtype."""
    return converted(rows if scale is None else Quantized(rows, scale), dtype)


def _hop(problem: Problem, step: Step) -> Hop:
    """Return a step with its weights; without A or C the table is the identity."""
    a, c = (
        Table._make(map(problem.weight, indices))
        for indices in (
            (step.a, step.a_bias, step.a_temporal),
            (step.c, step.c_bias, step.c_temporal),
        )
    )
    memory_dim = problem.query.shape[-1]
    relu: bool | float = bool(step.relu)
    if 0 < step.relu < memory_dim:
        relu = step.relu / memory_dim  # relu_units of this share is the number again
    return Hop(a, c, problem.weight(step.transform), relu, bool(step.softmax))
