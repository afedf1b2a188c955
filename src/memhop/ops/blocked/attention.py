"""Attention of several queries per memory: matrix products over blocks of slots, in plain torch.

With Q rows on a memory [N, I], a hop takes two products of [Q, I] and [N, I] forward and five
backward. As in FlashAttention, the scores [Q, N] never exist as a whole: each block of them that
fits the L2 cache is computed, used and overwritten. Forward, by an online softmax,

    S = U M^T,    m' = max(m, max S),    E = exp(S - m'),
    (total, R) <- (total, R) exp(m - m') + (sum E, E M),

and backward, from the maximum m and the total that the trace holds,

    E = exp(S - m),    F = E (W M^T - sum_j p_j grad_p_j),
    dU += F M / total,    dM += E^T (W / total) + F^T (U / total),

so that neither needs a pass over a block to divide by the total. Sums over blocks are in float64,
and so are the small products before and after: an error of u shifts all scores of its row.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.blocked import flash
from memhop.ops.blocked.blocks import (
    AffineScore,
    Block,
    Chunk,
    Workspace,
    add_by_age,
    blocks,
    chunks,
    dot_table,
    embed_sums,
    evaluate,
    evaluate_scores,
    matmul_f64,
    multiply,
    must_zero,
    slice_rows,
    slots_of_blocks,
)
from memhop.ops.cpu import huge_pages
from memhop.ops.fused.problem import (
    Gradients,
    Problem,
    Trace,
    Wanted,
    empty_gradients,
    empty_trace,
)


class BackwardHop(NamedTuple):
    """The inputs of one hop of the backward pass, for all rows.

    Attributes:
        hop: its index.
        scores: the scores.
        grads: the gradients of the weights, less their mean under a softmax.
        for_values, for_keys: w / total and u / total, the factors of a slot's gradient.
        grad_weights: G, [B, N], or None.
    """

    hop: int
    scores: AffineScore
    grads: AffineScore
    for_values: Tensor
    for_keys: Tensor
    grad_weights: Tensor | None


def forward(problem: Problem, keep_weights: bool) -> Trace:
    """Run all hops, chunk by chunk; see ``problem``, which must have no slots of a bank.

    Products weigh ignored slots with zero, and zero times NaN or infinity is NaN: if the memory
    holds such numbers, or huge ones, blocks hold zeros in ignored slots.
    """
    zero_ignored = must_zero(problem)
    all_chunks = list(chunks(problem, zero_ignored=zero_ignored))
    trace, workspace = empty_trace(problem, keep_weights), Workspace(problem.query)
    trace.score_max.zero_()
    trace.exp_sum.fill_(1.0)
    trace.queries[:, 0] = problem.query
    for hop, step in enumerate(problem.steps):
        trace.projected_query[:, hop] = matmul_f64(trace.queries[:, hop], problem.weight(step.a))
        if all_chunks and not zero_ignored and flash.supports_forward(problem, hop, keep_weights):
            flash.read_slots(problem, trace, hop)
        else:
            scores = scores_of(problem, trace, hop)
            for chunk in all_chunks:
                own = Trace._make(slice_rows(tensor, chunk.rows) for tensor in trace)
                read_slots(chunk, hop, scores.of(chunk), own, workspace)
        if step.carry:
            trace.queries[:, hop + 1] = query_after(problem, trace, hop)
    return trace


def backward(
    problem: Problem,
    trace: Trace,
    grad_result: Tensor,
    grad_weights: Tensor | None,
    wanted: Wanted,
    grad_lse: Tensor | None = None,
) -> Gradients:
    """Run all hops backward, chunk by chunk. ``grad_weights`` needs a trace with weights.

    The gradients of slots in a half type are summed over queries and hops in float32 and rounded
    once, in a second pass over the blocks.
    """
    zero_ignored = must_zero(problem)
    all_chunks = list(chunks(problem, zero_ignored=zero_ignored))
    gradients = empty_gradients(
        problem, grad_result, wanted, wanted.scores, new_rows=huge_pages.zeros_like
    )
    workspace = Workspace(problem.query)
    dtypes = {
        tensor.dtype
        for tensor in (gradients.grad_keys, gradients.grad_values)
        if tensor is not None
    }
    in_one_pass = dtypes <= {problem.query.dtype}
    backward_hops = []
    for hop, step in reversed(list(enumerate(problem.steps))):
        if step.relu:
            updated = trace.queries[:, hop + 1, -step.relu :]
            gradients.grad_query[:, -step.relu :].masked_fill_(updated <= 0, 0.0)
        gradients.grad_out[:, hop] = gradients.grad_query
        w = grad_result
        if step.carry:
            w = matmul_f64(gradients.grad_out[:, hop], problem.weight(step.c))
        has_more_grads = grad_weights is not None or grad_lse is not None
        if (
            all_chunks
            and not zero_ignored
            and flash.supports_backward(problem, trace, hop, wanted, has_more_grads)
        ):
            flash.backpropagate(problem, trace, gradients, w, hop)
        else:
            grads = w, grad_weights, grad_lse
            inputs = backward_hop(problem, trace, gradients, grads, hop, all_chunks)
            for chunk in all_chunks:
                backpropagate(chunk, trace, inputs, gradients, workspace, in_one_pass)
            backward_hops += [] if in_one_pass else [inputs]
        gradients.grad_query.copy_(grad_query_before(problem, gradients, hop))
    if not in_one_pass:
        for _, same_memories in groupby(all_chunks, lambda chunk: chunk.memories.start):
            accumulate_slots(list(same_memories), trace, backward_hops, gradients, workspace)
    return gradients


def read_slots(
    chunk: Chunk, hop: int, terms: AffineScore, trace: Trace, workspace: Workspace
) -> None:
    """Write one hop into the chunk's own trace: r, weights and all sums over slots."""
    softmax = bool(chunk.problem.steps[hop].softmax)
    sizes, lowest = terms.vector.shape[:2], torch.finfo(workspace.dtype).min
    score_max = terms.vector.new_full((*sizes, 1), lowest)
    columns = [1, trace.read.shape[-1], chunk.problem.num_ages]
    sums = score_max.new_zeros((*sizes, sum(columns)), dtype=torch.float64)
    total, read, aged = torch.split(sums, columns, -1)
    for block in blocks(chunk, hop, workspace):
        scores = workspace.take("scores", *sizes, block.keys.shape[1])
        evaluate_scores(terms, block, softmax, scores)
        if trace.weights is not None:
            chunk.grouped(trace.weights[:, hop, block.slots]).copy_(scores)
        if softmax:
            new_max = torch.maximum(score_max, scores.amax(-1, keepdim=True))
            scores.sub_(new_max).exp_()
            sums.mul_(score_max.sub_(new_max).exp_())
            score_max = new_max
        total.add_(scores.sum(-1, keepdim=True))
        add_by_age(aged, block, scores)
        read.add_(multiply(scores, block.values, workspace.take("read", *read.shape)))
    if softmax:
        is_empty = score_max < lowest / 2
        exp_sum = total.masked_fill(is_empty, 1.0)
        sums.masked_fill_(is_empty, 0.0).div_(exp_sum)
        trace.score_max[:, hop] = score_max.masked_fill_(is_empty, 0.0).flatten()
        trace.exp_sum[:, hop] = exp_sum.flatten()
    trace.weight_sum[:, hop] = total.flatten()
    trace.read[:, hop] = read.flatten(0, 1)
    if trace.aged is not None:
        trace.aged[:, hop] = aged.flatten(0, 1)
    if trace.weights is not None:
        normalize_weights(chunk, trace, hop)


def normalize_weights(chunk: Chunk, trace: Trace, hop: int) -> None:
    """Turn the scores of one hop into weights, in place."""
    assert trace.weights is not None
    trace.weights[:, hop, chunk.longest :] = 0.0
    if chunk.problem.steps[hop].softmax:
        weights = trace.weights[:, hop, : chunk.longest]
        weights.sub_(trace.score_max[:, hop, None]).exp_().div_(trace.exp_sum[:, hop, None])


def scores_of(problem: Problem, trace: Trace, hop: int) -> AffineScore:
    """s_i = u . m_i + q . T_A(i) (+ q . a without a softmax)."""
    step, query = problem.steps[hop], trace.queries[:, hop]
    bias = None if step.softmax else problem.weight(step.a_bias)
    return AffineScore(
        trace.projected_query[:, hop],
        dot_table(query, problem.weight(step.a_temporal), problem.num_ages),
        None if bias is None else matmul_f64(query, bias.unsqueeze(-1)),
    )


def query_after(problem: Problem, trace: Trace, hop: int) -> Tensor:
    """Return q + o, or H q + o, with ReLU on the last units."""
    step, query = problem.steps[hop], trace.queries[:, hop]
    transform, sums = problem.weight(step.transform), (trace.read, trace.weight_sum, trace.aged)
    out = embed_sums(problem, (step.c, step.c_bias, step.c_temporal), hop, sums)
    query = matmul_f64(query, None if transform is None else transform.mT) + out
    if step.relu:
        query[:, -step.relu :].relu_()
    return query


def backward_hop(
    problem: Problem,
    trace: Trace,
    gradients: Gradients,
    grads: tuple[Tensor, Tensor | None, Tensor | None],
    hop: int,
    all_chunks: list[Chunk],
) -> BackwardHop:
    """grad_p_i = w . m_i + g . (T_C(i) + c) + G_i; a softmax subtracts the mean, c included.

    ``grads`` are w, G, and the gradient of log sum_i exp(s_i), which is subtracted from the mean.
    """
    step, total = problem.steps[hop], trace.exp_sum[:, hop, None]
    w, grad_weights, grad_lse = grads
    g, bias = gradients.grad_out[:, hop], problem.weight(step.c_bias)
    of_ages = dot_table(g, problem.weight(step.c_temporal), problem.num_ages)
    constant = None if bias is None or step.softmax else matmul_f64(g, bias.unsqueeze(-1))
    if step.softmax:
        mean = (w * trace.read[:, hop]).sum(-1, keepdim=True, dtype=torch.float64)
        if of_ages is not None and trace.aged is not None:
            mean += (of_ages * trace.aged[:, hop]).sum(-1, keepdim=True)
        if grad_weights is not None:
            assert trace.weights is not None
            for chunk in all_chunks:
                for slots in slots_of_blocks(chunk):
                    index = (chunk.rows, hop, slots)
                    mean[chunk.rows] += (trace.weights[index] * grad_weights[index]).sum(-1, True)
        if grad_lse is not None:
            mean -= grad_lse.unsqueeze(-1)
        constant = -mean.to(w.dtype)
    return BackwardHop(
        hop,
        scores_of(problem, trace, hop),
        AffineScore(w, of_ages, constant),
        w / total,
        trace.projected_query[:, hop] / total,
        None if grad_weights is None else grad_weights[:, hop],
    )


def score_gradients(
    chunk: Chunk, trace: Trace, inputs: BackwardHop, workspace: Workspace
) -> Iterator[tuple[Block, Tensor]]:
    """Yield each block, and p and the gradients of its scores, times the total, [2, g, Q, n]."""
    hop, softmax = inputs.hop, bool(chunk.problem.steps[inputs.hop].softmax)
    score_terms, grad_terms = inputs.scores.of(chunk), inputs.grads.of(chunk)
    score_max = chunk.grouped(trace.score_max[chunk.rows, hop, None])
    grad_weights = slice_rows(inputs.grad_weights, chunk.rows)
    for block in blocks(chunk, hop, workspace):
        both = workspace.take("scores", 2, *score_max.shape[:2], block.keys.shape[1])
        exps, grads = both
        evaluate_scores(score_terms, block, softmax, exps)
        evaluate(grad_terms, block.values, block, grads)
        if grad_weights is not None:
            grads.add_(chunk.grouped(grad_weights)[..., block.slots])
        if softmax:
            # At most 1, even if a product is rounded differently than in the forward pass.
            grads.mul_(exps.sub_(score_max).clamp_(max=0.0).exp_())
        elif block.ignored is not None:
            grads.masked_fill_(block.ignored, 0.0)
        yield block, both


def backpropagate(
    chunk: Chunk,
    trace: Trace,
    inputs: BackwardHop,
    gradients: Gradients,
    workspace: Workspace,
    in_one_pass: bool,
) -> None:
    """Write the gradients of u and of sums over slots; ``in_one_pass`` those of slots too."""
    hop, width = inputs.hop, trace.projected_query.shape[-1]
    total = chunk.grouped(trace.exp_sum[chunk.rows, hop, None])
    columns = [width, 1, chunk.problem.num_ages]
    sums = total.new_zeros((*total.shape[:2], sum(columns)), dtype=torch.float64)
    grad_u, grad_weight_sum, grad_aged = torch.split(sums, columns, -1)
    for block, both in score_gradients(chunk, trace, inputs, workspace):
        grads = both[1]
        grad_u.add_(multiply(grads, block.keys, workspace.take("read", *grad_u.shape)))
        add_by_age(grad_aged, block, grads)
        if not chunk.problem.steps[hop].softmax:  # with a softmax the sum is 0
            grad_weight_sum.add_(grads.sum(-1, keepdim=True))
        if gradients.grad_scores is not None:
            grad_scores = chunk.grouped(gradients.grad_scores[chunk.rows, hop, block.slots])
            torch.div(grads, total, out=grad_scores)
        if in_one_pass:
            add_to_slots(chunk, slot_gradients(gradients, chunk, block.slots), both, inputs)
    if gradients.grad_scores is not None:
        gradients.grad_scores[chunk.rows, hop, chunk.longest :] = 0.0
    sums.div_(total)
    gradients.grad_u[chunk.rows, hop] = grad_u.flatten(0, 1)
    gradients.grad_weight_sum[chunk.rows, hop] = grad_weight_sum.flatten()
    if gradients.grad_aged is not None:
        gradients.grad_aged[chunk.rows, hop] = grad_aged.flatten(0, 1)


def grad_query_before(problem: Problem, gradients: Gradients, hop: int) -> Tensor:
    """dq = A du + sum_t grad_aged_t T_A(t) (+ sum_i d_i a) + g, or H^T g in place of g."""
    step = problem.steps[hop]
    sums = gradients.grad_u, gradients.grad_weight_sum, gradients.grad_aged
    grad_query = embed_sums(problem, (step.a, step.a_bias, step.a_temporal), hop, sums)
    return grad_query + matmul_f64(gradients.grad_out[:, hop], problem.weight(step.transform))


def slot_gradients(gradients: Gradients, chunk: Chunk, slots: slice) -> list[Tensor | None]:
    """Return views of the gradients of keys and values of some slots."""
    return [
        None if rows is None else rows[chunk.memories, slots]
        for rows in (gradients.grad_keys, gradients.grad_values)
    ]


def add_to_slots(
    chunk: Chunk, sums: list[Tensor | None], both: Tensor, inputs: BackwardHop
) -> None:
    """Add a chunk's terms to the gradients of a block's keys and values."""
    grad_keys, grad_values = sums
    if chunk.problem.values is None:
        grad_values = grad_keys
    terms = ((grad_values, both[0], inputs.for_values), (grad_keys, both[1], inputs.for_keys))
    for target, left, right in terms:
        if target is not None:
            multiply(left.mT, chunk.grouped(right[chunk.rows]), target, add=True)


def accumulate_slots(
    same_memories: list[Chunk],
    trace: Trace,
    backward_hops: list[BackwardHop],
    gradients: Gradients,
    workspace: Workspace,
) -> None:
    """Write the gradients of slots in a half type: block by block, over all rows and hops."""
    passes = [
        (chunk, inputs, score_gradients(chunk, trace, inputs, workspace))
        for chunk in same_memories
        for inputs in backward_hops
    ]
    for slots in slots_of_blocks(same_memories[0]):
        targets = slot_gradients(gradients, same_memories[0], slots)
        sums = [
            None if target is None else workspace.take(name, *target.shape).zero_()
            for name, target in zip(("grad_keys", "grad_values"), targets, strict=True)
        ]
        for chunk, inputs, pass_ in passes:
            _, both = next(pass_)
            add_to_slots(chunk, sums, both, inputs)
        for target, summed in zip(targets, sums, strict=True):
            if target is not None and summed is not None:
                target.copy_(summed)
