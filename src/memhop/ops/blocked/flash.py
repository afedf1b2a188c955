"""One hop of rows that share memories by torch's FlashAttention for the CPU, forward and backward.

It computes r = softmax(u M^T + b) M and the logarithm l of the sum of exponentials, which becomes
the maximum of a ``Trace``: p_i = exp(s_i - l). Parts of the slots are heads of the kernel, so that
threads share them out, and merge by their l, in float64. The backward pass is right for any part of
the slots, given the result and l of all of them, so it needs no second buffer of the size of the
memory.

``scaled_dot_product_attention`` calls the same kernel, but its gradient cannot be differentiated
again, and it does not return l.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.blocked.blocks import ignores_the_same
from memhop.ops.fused.problem import Gradients, Problem, Trace, Wanted

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

MAX_LOG_SUM_EXP = 16  # as a score: float32 rounds l to 1e-6, and p_i by that factor
VECTOR_SLOTS = 16  # of fewer, the kernel's maximum leaves out NaN
MAX_PART_NUMBERS = 1 << 19  # numbers of a part of a memory, whose gradients are a buffer
MAX_PART_SLOTS = 1 << 13  # of a part: the kernel sums them in their own dtype
MIN_PART_SLOTS = 1 << 9  # smaller parts cost more than another thread gains
MAX_RESULTS = 1 << 19  # numbers that all parts together read before they merge
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
    """Write one hop into the trace: r and l, of parts that are merged in float64."""
    values, mask = rows_of_values(problem), mask_of(problem, hop)
    u = grouped(problem, trace.projected_query[:, hop])
    group = u.shape[2]
    block = 32 if group < 192 else 64 if group < 768 else 256  # of queries, a work item
    wanted = parts_for_threads(u.shape[0] * -(-group // block))
    together = max(wanted, MAX_RESULTS // (problem.query.shape[0] * values.shape[-1]))
    found: tuple[Tensor, Tensor] | None = None
    for part in parts(problem, wanted, together):
        rows = part.of_rows(problem.keys), part.of_rows(values)
        own = None if mask is None else part.of_mask(mask)
        queries = u.expand(-1, part.num, -1, -1)
        reads, logs = _forward(queries, *rows, 0.0, False, attn_mask=own, scale=1.0)
        logs = logs.double()
        if own is not None:  # the kernel returns 0 where nothing is readable
            logs = logs.where((own > -torch.inf).any(-1), -torch.inf)
        if rows[0].shape[-2] < VECTOR_SLOTS:
            reads, logs = with_nan(reads, logs, queries, rows[0])
        if found is not None:
            reads, logs = torch.cat([found[0], reads.double()], 1), torch.cat([found[1], logs], 1)
        found = merged(reads, logs)
    assert found is not None
    read, log_sum_exp = found
    trace.read[:, hop] = read.reshape(trace.read[:, hop].shape)
    is_read = log_sum_exp != -torch.inf  # NaN stays NaN
    log_sum_exp = log_sum_exp.where(is_read, 0.0).flatten()
    trace.score_max[:, hop] = log_sum_exp
    rounded_off = log_sum_exp - trace.score_max[:, hop]
    trace.exp_sum[:, hop] = rounded_off.exp_()
    trace.weight_sum[:, hop] = is_read.flatten()


def with_nan(reads: Tensor, logs: Tensor, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return r and l of parts of few slots, NaN where a score is: the kernel returns 0 there."""
    if (logs == 0).any():
        is_nan = (logs == 0) & (queries @ keys.mT).isnan().any(-1)
        reads = reads.masked_fill(is_nan.unsqueeze(-1), torch.nan)
        logs = logs.masked_fill(is_nan, torch.nan)
    return reads, logs


def merged(reads: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
    """Return r [G, 1, Q, V] and l [G, 1, Q] of P parts, merged in float64."""
    if logs.shape[1] == 1:
        return reads, logs
    log_sum_exp = logs.logsumexp(1, keepdim=True)
    factors = (logs - log_sum_exp).exp_().nan_to_num_(0.0)  # -inf less -inf is NaN
    return (reads.double() * factors.unsqueeze(-1)).sum(1, keepdim=True), log_sum_exp


class Parts(NamedTuple):
    """A range of slots that is cut into parts of one size."""

    slots: slice
    num: int

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the rows [G, N, I] of the slots as [G, P, n, I]."""
        rows = rows[:, self.slots]
        return rows.view(rows.shape[0], self.num, -1, rows.shape[-1])

    def of_mask(self, mask: Tensor) -> Tensor:
        """Return the mask [G, 1, Q, N] of the slots as [G, P, Q, n]."""
        mask = mask[:, 0, :, self.slots]
        return mask.reshape(*mask.shape[:2], self.num, -1).transpose(1, 2)


def parts(problem: Problem, wanted: int, together: int) -> Iterator[Parts]:
    """Yield all slots as at least the wanted number of parts, some together.

    What remains of the division is a part of its own.
    """
    num_slots, columns = problem.keys.shape[1:]
    most = max(1, min(MAX_PART_NUMBERS // columns, MAX_PART_SLOTS))
    count = max(-(-num_slots // most), min(wanted, num_slots // MIN_PART_SLOTS))
    size, first = num_slots // max(1, count), 0
    while first < num_slots:
        own = min(together, (num_slots - first) // size)
        last = first + own * size if own else num_slots
        yield Parts(slice(first, last), max(1, own))
        first = last


def parts_for_threads(work_items: int) -> int:
    """Return how many parts give each thread one of the kernel's work items."""
    return -(-torch.get_num_threads() // work_items)


def backpropagate(
    problem: Problem, trace: Trace, gradients: Gradients, w: Tensor, hop: int
) -> None:
    """Write the gradient of u, and add to those of keys and values; w is the gradient of r."""
    values, mask = rows_of_values(problem), mask_of(problem, hop)
    grad_u = torch.zeros_like(w, dtype=torch.float64)
    log_sum_exp = trace.score_max[:, hop] + trace.exp_sum[:, hop].log()
    of_queries = [
        grouped(problem, rows)
        for rows in (w, trace.projected_query[:, hop], trace.read[:, hop], log_sum_exp)
    ]
    wanted = parts_for_threads(problem.keys.shape[0])
    for part in parts(problem, wanted, wanted):
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
