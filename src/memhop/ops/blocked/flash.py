"""One hop of rows that share memories by torch's FlashAttention for the CPU, forward and backward.

It computes r = softmax(u M^T + b) M and the logarithm l of the sum of exponentials, which becomes
the maximum of a ``Trace``: p_i = exp(s_i - l). Parts of the slots merge by their l, in float64. The
backward pass is right for any part of the slots, given the result and l of all of them, so it needs
no second buffer of the size of the memory.

``scaled_dot_product_attention`` calls the same kernel, but its gradient cannot be differentiated
again, and it does not return l.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from memhop.ops.blocked.blocks import ignores_the_same
from memhop.ops.fused.problem import Gradients, Problem, Trace, Wanted

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

MAX_LOG_SUM_EXP = 16  # as a score: float32 rounds l to 1e-6, and p_i by that factor
MAX_PART_NUMBERS = 1 << 20  # numbers of a memory whose gradients are computed together
MAX_PART_SLOTS = 1 << 13  # of a part: the kernel sums them in their own dtype
MAX_MASK_NUMBERS = 1 << 24  # numbers of a mask that differs between rows


def supports_forward(problem: Problem, hop: int, keep_weights: bool) -> bool:
    """Return whether the kernel computes a hop, and does it with all threads."""
    query, keys, values = problem.query, problem.keys, problem.values
    group = query.shape[0] // keys.shape[0]
    block = 32 if group < 192 else 64 if group < 768 else 256  # of queries, the work of a thread
    return (
        query.is_cpu
        and bool(problem.steps[hop].softmax)
        and not keep_weights
        and problem.num_ages == 0
        and keys.dtype == query.dtype
        and (values is None or (values.dtype, values.shape) == (keys.dtype, keys.shape))
        and keys.shape[0] * -(-group // block) >= torch.get_num_threads()
        and (query.shape[0] * problem.num_slots <= MAX_MASK_NUMBERS or ignores_the_same(problem))
    )


def supports_backward(
    problem: Problem, trace: Trace, hop: int, wanted: Wanted, has_grad_weights: bool
) -> bool:
    """Return whether the kernel computes the backward pass of a hop.

    It always computes the gradients of keys and values. Rounding of a large l would be an error of
    all p_i by the same factor.
    """
    all_wanted = wanted.keys and (wanted.values or problem.values is None)
    return (
        all_wanted
        and not wanted.scores
        and supports_forward(problem, hop, has_grad_weights)
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
    """Write one hop into the trace: r and l, of parts that are merged in float64."""
    values, mask = rows_of_values(problem), mask_of(problem, hop)
    u = grouped(problem, trace.projected_query[:, hop])
    read = u.new_zeros((*u.shape[:-1], values.shape[-1]), dtype=torch.float64)
    log_sum_exp = u.new_full(u.shape[:-1], -torch.inf, dtype=torch.float64)
    for slots in parts(problem):
        own = None if mask is None else mask[..., slots]
        rows = problem.keys[:, slots].unsqueeze(1), values[:, slots].unsqueeze(1)
        part, part_log_sum_exp = _forward(u, *rows, 0.0, False, attn_mask=own, scale=1.0)
        part_log_sum_exp = part_log_sum_exp.double()
        if own is not None:  # the kernel returns 0 where nothing is readable
            part_log_sum_exp = part_log_sum_exp.where((own > -torch.inf).any(-1), -torch.inf)
        merged = torch.logaddexp(log_sum_exp, part_log_sum_exp)
        for each, weight in ((read, log_sum_exp), (part, part_log_sum_exp)):
            factor = (weight - merged).exp_().nan_to_num_(0.0)  # -inf less -inf is NaN
            each.mul_(factor.unsqueeze(-1))
        read += part
        log_sum_exp = merged
    trace.read[:, hop] = read.reshape(trace.read[:, hop].shape)
    is_read = log_sum_exp > -torch.inf
    log_sum_exp = log_sum_exp.where(is_read, 0.0).flatten()
    trace.score_max[:, hop] = log_sum_exp
    rounded_off = log_sum_exp - trace.score_max[:, hop]
    trace.exp_sum[:, hop] = rounded_off.exp_()
    trace.weight_sum[:, hop] = is_read.flatten()


def parts(problem: Problem) -> Iterator[slice]:
    """Yield ranges of slots."""
    size = max(1, min(MAX_PART_NUMBERS // problem.keys.shape[-1], MAX_PART_SLOTS))
    for first in range(0, problem.num_slots, size):
        yield slice(first, min(first + size, problem.num_slots))


def backpropagate(
    problem: Problem, trace: Trace, gradients: Gradients, w: Tensor, hop: int
) -> None:
    """Write the gradient of u, and add to those of keys and values; w is the gradient of r."""
    values, mask = rows_of_values(problem), mask_of(problem, hop)
    grad_u = torch.zeros_like(w, dtype=torch.float64)
    log_sum_exp = trace.score_max[:, hop] + trace.exp_sum[:, hop].log()
    grad_read, u, read, log_sum_exp = (
        grouped(problem, rows)
        for rows in (w, trace.projected_query[:, hop], trace.read[:, hop], log_sum_exp)
    )
    for slots in parts(problem):
        rows = problem.keys[:, slots].unsqueeze(1), values[:, slots].unsqueeze(1)
        own_mask = None if mask is None else mask[..., slots]
        grads = _backward(
            grad_read, u, *rows, read, log_sum_exp, 0.0, False, attn_mask=own_mask, scale=1.0
        )
        grad_u += grads[0].reshape(grad_u.shape)
        targets = gradients.grad_keys, gradients.grad_values
        if problem.values is None:
            targets = gradients.grad_keys, gradients.grad_keys
        for target, grad in zip(targets, grads[1:], strict=True):
            if target is not None:
                target[:, slots] += grad.squeeze(1)
    gradients.grad_u[:, hop] = grad_u
    gradients.grad_weight_sum[:, hop] = 0.0
