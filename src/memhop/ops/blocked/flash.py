"""One hop of rows that share memories by torch's FlashAttention for the CPU, forward and backward.

It computes r and the logarithm l of the sum of exponentials, which becomes the maximum of a
``Trace``: p_i = exp(s_i - l). The backward pass is right for any part of the slots, given the
result and l of all of them, so it needs no second buffer of the size of the memory.

The gradient of ``scaled_dot_product_attention`` cannot be differentiated again.
"""

import torch
from torch import Tensor

from memhop.ops.blocked.blocks import ignores_the_same
from memhop.ops.blocked.flash_parts import MAX_PART_SLOTS, attend, parts, parts_for_threads
from memhop.ops.fused.problem import Gradients, Problem, Trace, Wanted

_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

MAX_LOG_SUM_EXP = 128  # as a score: float32 rounds it, and so all p_i of a row, by up to 4e-6
MAX_PART_NUMBERS = 1 << 19  # numbers of a part of a memory, whose gradients are a buffer
MAX_MASK_NUMBERS = 1 << 24  # numbers of a mask that differs between rows


def supports_forward(problem: Problem, hop: int, keep_weights: bool) -> bool:
    """Return whether the kernel computes a hop."""
    query, keys, values = problem.query, problem.keys, problem.values
    return (
        query.is_cpu
        and problem.num_slots > 0
        and bool(problem.steps[hop].softmax)
        and not keep_weights
        and problem.num_ages == 0
        and keys.dtype == query.dtype
        and (values is None or (values.dtype, values.shape) == (keys.dtype, keys.shape))
        and (query.shape[0] * problem.num_slots <= MAX_MASK_NUMBERS or ignores_the_same(problem))
    )


def supports_backward(
    problem: Problem, trace: Trace, hop: int, wanted: Wanted, has_more_grads: bool
) -> bool:
    """Return whether the kernel computes the backward pass of a hop.

    It takes no gradient of the weights or of l, ``has_more_grads``, and always computes the
    gradients of keys and values. Rounding of a large l would be an error of all p_i by the same
    factor.
    """
    all_wanted = wanted.keys and (wanted.values or problem.values is None)
    return (
        all_wanted
        and not wanted.scores
        and supports_forward(problem, hop, has_more_grads)
        and bool(trace.score_max[:, hop].abs().max() <= MAX_LOG_SUM_EXP)
    )


def rows_of_values(problem: Problem) -> Tensor:
    """Return the values, or the keys in their place."""
    return problem.keys if problem.values is None else problem.values


def grouped(problem: Problem, rows: Tensor) -> Tensor:
    """Return rows [B, ...] as [G, 1, Q, ...]: one head, and the queries on each memory."""
    memories = problem.keys.shape[0]
    return rows.view(memories, 1, rows.shape[0] // memories, *rows.shape[1:])


def mask_of(problem: Problem, hop: int) -> Tensor | None:
    """Return what is added to the scores, [G, 1, Q, N] or [1, 1, 1, N], or None."""
    ignored, lengths, bias = problem.ignored, problem.lengths, problem.score_bias
    if ignored is None and lengths is None and bias is None:
        return None
    first = slice(0, 1) if ignores_the_same(problem) else slice(None)
    mask = problem.query.new_zeros(1, problem.num_slots)
    if bias is not None:
        mask = mask + bias[first, min(hop, bias.shape[1] - 1)]
    if ignored is not None:
        mask = torch.where(ignored[first], -torch.inf, mask)
    if lengths is not None:
        slots = torch.arange(problem.num_slots, device=lengths.device)
        mask = torch.where(slots >= lengths[first].unsqueeze(-1), -torch.inf, mask)
    return mask[None, None] if len(mask) == 1 else grouped(problem, mask)


def read_slots(problem: Problem, trace: Trace, hop: int) -> None:
    """Write one hop into the trace: r and l."""
    queries = grouped(problem, trace.projected_query[:, hop])
    values, mask = rows_of_values(problem), mask_of(problem, hop)
    read, log_sum_exp = attend(queries, problem.keys, values, mask)
    trace.read[:, hop] = read.reshape(trace.read[:, hop].shape)
    is_read = log_sum_exp != -torch.inf  # NaN stays NaN
    log_sum_exp = log_sum_exp.where(is_read, 0.0).flatten()
    trace.score_max[:, hop] = log_sum_exp
    rounded_off = log_sum_exp - trace.score_max[:, hop]
    trace.exp_sum[:, hop] = rounded_off.exp_()
    trace.weight_sum[:, hop] = is_read.flatten()


def backpropagate(
    problem: Problem, trace: Trace, gradients: Gradients, w: Tensor, hop: int
) -> None:
    """Write the gradient of u, and add to those of keys and values; w is the gradient of r."""
    values, mask = rows_of_values(problem), mask_of(problem, hop)
    grad_u = torch.zeros_like(w, dtype=torch.float64)
    # The kernel divides by exp(score_max); what that rounds off is a factor of all p_i of a row.
    grad_read = w / trace.exp_sum[:, hop, None]
    of_queries = [
        grouped(problem, rows)
        for rows in (
            grad_read,
            trace.projected_query[:, hop],
            trace.read[:, hop],
            trace.score_max[:, hop],
        )
    ]
    num_slots, columns = problem.keys.shape[1:]
    most = max(1, min(MAX_PART_NUMBERS // columns, MAX_PART_SLOTS))
    wanted = parts_for_threads(problem.keys.shape[0])
    for part in parts(num_slots, most, wanted, wanted):
        rows = part.of_rows(problem.keys), part.of_rows(values)
        own = None if mask is None else part.of_mask(mask)
        grad_read, u, read, log = (
            each.expand(-1, part.num, *each.shape[2:]) for each in of_queries
        )
        grads = _backward(grad_read, u, *rows, read, log, 0.0, False, attn_mask=own, scale=1.0)
        grad_u += grads[0].sum(1, dtype=torch.float64).reshape(grad_u.shape)
        targets = gradients.grad_keys, gradients.grad_values
        if problem.values is None:
            targets = gradients.grad_keys, gradients.grad_keys
        for target, grad in zip(targets, grads[1:], strict=True):
            if target is not None:
                target[:, part.slots] += grad.flatten(1, 2)
    gradients.grad_u[:, hop] = grad_u
    gradients.grad_weight_sum[:, hop] = 0.0
