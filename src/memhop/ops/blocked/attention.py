"""Several queries on each memory: matrix products in blocks of slots, in plain torch.

With Q rows on a memory [N, I], a hop is two products of [Q, I] and [N, I] forward and five
backward. What lies between them, the scores [Q, N], is never there as a whole: a block of it that
fits the processor's cache is made, used and written over. Forward,

    S = U M^T,    m' = max(m, max S),    E = exp(S - m'),
    (total, R) <- (total, R) exp(m - m') + (sum E, E M),

and backward, from the largest score m and the total that were kept,

    E = exp(S - m),    F = E (W M^T - sum_j p_j grad_p_j),
    dU += F M / total,    dM += E^T (W / total) + F^T (U / total),

so that neither takes a pass over a block to divide by the total. Sums over blocks are kept in
float64, and so are those of the small products before and after: what u is off by, all scores of
its row are off by in the same direction.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.blocked.blocks import (
    AffineScore,
    Block,
    Part,
    Workspace,
    add_by_age,
    blocks,
    by_age,
    cut,
    evaluate,
    evaluate_scores,
    multiply,
    must_zero,
    onto_table,
    parts,
    slots_of_blocks,
    times,
)
from memhop.ops.cpu import huge_pages
from memhop.ops.fused.problem import Gradients, Problem, Trace, Wanted


class BackwardHop(NamedTuple):
    """What one hop of the backward pass takes, for all rows.

    Attributes:
        hop: which it is.
        scores: the terms of the scores.
        grad_terms: those of the gradients of the weights, less their mean under a softmax.
        for_values, for_keys: w / total and u / total, which a slot's gradient is made of.
        grad_weights: G, [B, N], or None.
    """

    hop: int
    scores: AffineScore
    grad_terms: AffineScore
    for_values: Tensor
    for_keys: Tensor
    grad_weights: Tensor | None


def forward(problem: Problem, keep_weights: bool) -> Trace:
    """All hops of B = G Q rows; the problem has no slots of a bank.

    Products weigh ignored slots with zero, and zero times NaN or infinity is NaN: if the memory
    holds such numbers, or huge ones, blocks hold zeros in ignored slots.
    """
    in_parts = list(parts(problem, zero_ignored=must_zero(problem)))
    return forward_in_parts(problem, keep_weights, in_parts)


def forward_in_parts(problem: Problem, keep_weights: bool, in_parts: list[Part]) -> Trace:
    """The forward pass, part after part in each hop."""
    trace, room = empty_trace(problem, keep_weights), Workspace(problem.query)
    trace.queries[:, 0] = problem.query
    for hop, step in enumerate(problem.steps):
        trace.projected_query[:, hop] = times(trace.queries[:, hop], problem.weight(step.a))
        terms = score_terms(problem, trace, hop)
        for part in in_parts:
            own = Trace._make(cut(tensor, part.rows) for tensor in trace)
            read_slots(part, hop, terms.of(part), own, room)
        if step.carry:
            trace.queries[:, hop + 1] = query_after(problem, trace, hop)
    return trace


def backward(
    problem: Problem, trace: Trace, grad_result: Tensor, grad_weights: Tensor | None, wanted: Wanted
) -> Gradients:
    """What ``Gradients`` holds. ``grad_weights`` needs a trace that kept the weights."""
    in_parts = list(parts(problem, zero_ignored=must_zero(problem)))
    return backward_in_parts(problem, trace, grad_result, grad_weights, wanted, in_parts)


def backward_in_parts(
    problem: Problem,
    trace: Trace,
    grad_result: Tensor,
    grad_weights: Tensor | None,
    wanted: Wanted,
    in_parts: list[Part],
) -> Gradients:
    """The backward pass, part after part in each hop.

    The gradients of slots held in a half type are summed over queries and hops in float32 and
    rounded once, for which the blocks are gone through once more.
    """
    found, room = empty_gradients(problem, trace, grad_result, wanted), Workspace(problem.query)
    stored = [tensor.dtype for tensor in found[-2:] if tensor is not None]
    at_once = all(dtype == problem.query.dtype for dtype in stored)
    backward_hops = []
    for hop, step in reversed(list(enumerate(problem.steps))):
        if step.relu:
            found.grad_query.masked_fill_(trace.queries[:, hop + 1] <= 0, 0.0)
        found.grad_out[:, hop] = found.grad_query
        w = grad_result
        if step.carry:
            w = times(found.grad_out[:, hop], problem.weight(step.c))
        back = terms_of_backward(problem, trace, found, w, grad_weights, hop, in_parts)
        for part in in_parts:
            return_to_scores(part, trace, back, found, room, at_once)
        found.grad_query.copy_(grad_query_before(problem, found, hop))
        backward_hops += [] if at_once else [back]
    if not at_once:
        for _, on_same in groupby(in_parts, lambda part: part.memories.start):
            add_up_slots(list(on_same), trace, backward_hops, found, room)
    return found


def read_slots(part: Part, hop: int, terms: AffineScore, trace: Trace, room: Workspace) -> None:
    """r, weight_sum, top, total, aged and the weights of one hop, into the part's own trace."""
    softmax = bool(part.problem.steps[hop].softmax)
    sizes, lowest = terms.vector.shape[:2], torch.finfo(room.dtype).min
    top = terms.vector.new_full((*sizes, 1), lowest)
    columns = [1, trace.read.shape[-1], part.problem.num_ages]
    sums = top.new_zeros((*sizes, sum(columns)), dtype=torch.float64)
    total, read, aged = torch.split(sums, columns, -1)
    for block in blocks(part, hop, room):
        scores = room.take("scores", *sizes, block.keys.shape[1])
        evaluate_scores(terms, block, softmax, scores)
        if trace.weights is not None:
            part.grouped(trace.weights[:, hop, block.slots]).copy_(scores)
        if softmax:
            higher = torch.maximum(top, scores.amax(-1, keepdim=True))
            scores.sub_(higher).exp_()
            sums.mul_(top.sub_(higher).exp_())
            top = higher
        total.add_(scores.sum(-1, keepdim=True))
        add_by_age(aged, block, scores)
        read.add_(multiply(scores, block.values, room.take("read", *read.shape)))
    if softmax:
        nothing = top < lowest / 2
        exp_sum = total.masked_fill(nothing, 1.0)
        sums.masked_fill_(nothing, 0.0).div_(exp_sum)
        trace.score_max[:, hop] = top.masked_fill_(nothing, 0.0).flatten()
        trace.exp_sum[:, hop] = exp_sum.flatten()
    trace.weight_sum[:, hop] = total.flatten()
    trace.read[:, hop] = read.flatten(0, 1)
    if trace.aged is not None:
        trace.aged[:, hop] = aged.flatten(0, 1)
    if trace.weights is not None:
        weights_of_scores(part, trace, hop)


def weights_of_scores(part: Part, trace: Trace, hop: int) -> None:
    """p of one hop, where its scores stand."""
    assert trace.weights is not None
    trace.weights[:, hop, part.longest :] = 0.0
    if part.problem.steps[hop].softmax:
        weights = trace.weights[:, hop, : part.longest]
        weights.sub_(trace.score_max[:, hop, None]).exp_().div_(trace.exp_sum[:, hop, None])


def score_terms(problem: Problem, trace: Trace, hop: int) -> AffineScore:
    """s_i = u . m_i + q . T_A(i) (+ q . a without a softmax)."""
    step, query = problem.steps[hop], trace.queries[:, hop]
    bias = None if step.softmax else problem.weight(step.a_bias)
    return AffineScore(
        trace.projected_query[:, hop],
        by_age(query, problem.weight(step.a_temporal), problem.num_ages),
        None if bias is None else times(query, bias.unsqueeze(-1)),
    )


def cut_hop(summed: Tensor | None, hop: int) -> Tensor | None:
    """That of one hop."""
    return None if summed is None else summed[:, hop]


def query_after(problem: Problem, trace: Trace, hop: int) -> Tensor:
    """q + o, or H q + o, and ReLU where the hop asks for it."""
    step, query = problem.steps[hop], trace.queries[:, hop]
    c, bias, transform = (problem.weight(place) for place in (step.c, step.c_bias, step.transform))
    read_out = times(trace.read[:, hop], None if c is None else c.mT)
    if bias is not None:
        read_out = torch.addcmul(read_out, trace.weight_sum[:, hop, None], bias)
    of_ages = onto_table(cut_hop(trace.aged, hop), problem.weight(step.c_temporal))
    if of_ages is not None:
        read_out = read_out + of_ages
    query = times(query, None if transform is None else transform.mT) + read_out
    return query.relu_() if step.relu else query


def terms_of_backward(
    problem: Problem,
    trace: Trace,
    found: Gradients,
    w: Tensor,
    grad_weights: Tensor | None,
    hop: int,
    in_parts: list[Part],
) -> BackwardHop:
    """grad_p_i = w . m_i + g . (T_C(i) + c) + G_i; a softmax takes their mean, c included, off."""
    step, total = problem.steps[hop], trace.exp_sum[:, hop, None]
    g, bias = found.grad_out[:, hop], problem.weight(step.c_bias)
    of_ages = by_age(g, problem.weight(step.c_temporal), problem.num_ages)
    same = None if bias is None or step.softmax else times(g, bias.unsqueeze(-1))
    if step.softmax:
        mean = (w * trace.read[:, hop]).sum(-1, keepdim=True, dtype=torch.float64)
        if of_ages is not None and trace.aged is not None:
            mean += (of_ages * trace.aged[:, hop]).sum(-1, keepdim=True)
        if grad_weights is not None:
            assert trace.weights is not None
            for part in in_parts:
                for slots in slots_of_blocks(part):
                    where = (part.rows, hop, slots)
                    mean[part.rows] += (trace.weights[where] * grad_weights[where]).sum(-1, True)
        same = -mean.to(w.dtype)
    return BackwardHop(
        hop,
        score_terms(problem, trace, hop),
        AffineScore(w, of_ages, same),
        w / total,
        trace.projected_query[:, hop] / total,
        None if grad_weights is None else grad_weights[:, hop],
    )


def gradients_of_scores(
    part: Part, trace: Trace, back: BackwardHop, room: Workspace
) -> Iterator[tuple[Block, Tensor]]:
    """For every block [2, g, Q, n]: p and the gradients of the scores, both times the total."""
    softmax = bool(part.problem.steps[back.hop].softmax)
    terms, grad_terms = back.scores.of(part), back.grad_terms.of(part)
    top = part.grouped(trace.score_max[part.rows, back.hop, None])
    grad_weights = None if back.grad_weights is None else part.grouped(back.grad_weights[part.rows])
    for block in blocks(part, back.hop, room):
        both = room.take("scores", 2, *top.shape[:2], block.keys.shape[1])
        powers, slopes = both
        evaluate_scores(terms, block, softmax, powers)
        evaluate(grad_terms, block.values, block, slopes)
        if grad_weights is not None:
            slopes.add_(grad_weights[..., block.slots])
        if softmax:
            # No more than 1, should a product round otherwise than it did in the forward pass.
            slopes.mul_(powers.sub_(top).clamp_(max=0.0).exp_())
        elif block.ignored is not None:
            slopes.masked_fill_(block.ignored, 0.0)
        yield block, both


def return_to_scores(
    part: Part, trace: Trace, back: BackwardHop, found: Gradients, room: Workspace, at_once: bool
) -> None:
    """Gradients of u, of the weight sum, ages and scores; ``at_once`` also those of the slots."""
    hop, width = back.hop, trace.projected_query.shape[-1]
    total = part.grouped(trace.exp_sum[part.rows, hop, None])
    columns = [width, 1, part.problem.num_ages]
    sums = total.new_zeros((*total.shape[:2], sum(columns)), dtype=torch.float64)
    grad_u, grad_weight_sum, grad_aged = torch.split(sums, columns, -1)
    for block, both in gradients_of_scores(part, trace, back, room):
        slopes = both[1]
        grad_u.add_(multiply(slopes, block.keys, room.take("read", *grad_u.shape)))
        add_by_age(grad_aged, block, slopes)
        if not part.problem.steps[hop].softmax:  # a softmax makes them sum to nothing
            grad_weight_sum.add_(slopes.sum(-1, keepdim=True))
        if found.grad_scores is not None:
            grad_scores = part.grouped(found.grad_scores[part.rows, hop, block.slots])
            torch.div(slopes, total, out=grad_scores)
        if at_once:
            add_to_slots(part, of_slots(found, part, block.slots), both, back)
    if found.grad_scores is not None:
        found.grad_scores[part.rows, hop, part.longest :] = 0.0
    sums.div_(total)
    found.grad_u[part.rows, hop] = grad_u.flatten(0, 1)
    found.grad_weight_sum[part.rows, hop] = grad_weight_sum.flatten()
    if found.grad_aged is not None:
        found.grad_aged[part.rows, hop] = grad_aged.flatten(0, 1)


def grad_query_before(problem: Problem, found: Gradients, hop: int) -> Tensor:
    """dq = A du + sum_t grad_aged_t T_A(t) (+ sum_i d_i a) + g, or H^T g in place of g."""
    step = problem.steps[hop]
    a, bias = problem.weight(step.a), problem.weight(step.a_bias)
    grad_query = times(found.grad_u[:, hop], None if a is None else a.mT)
    if bias is not None:
        grad_query = torch.addcmul(grad_query, found.grad_weight_sum[:, hop, None], bias)
    of_ages = onto_table(cut_hop(found.grad_aged, hop), problem.weight(step.a_temporal))
    if of_ages is not None:
        grad_query = grad_query + of_ages
    return grad_query + times(found.grad_out[:, hop], problem.weight(step.transform))


def of_slots(found: Gradients, part: Part, slots: slice) -> list[Tensor | None]:
    """Where the gradients of these keys and values stand."""
    return [None if whole is None else whole[part.memories, slots] for whole in found[-2:]]


def add_to_slots(part: Part, sums: list[Tensor | None], both: Tensor, back: BackwardHop) -> None:
    """Add a block's share to the gradients of its keys and its values, where those are apart."""
    grad_keys, grad_values = sums
    if part.problem.values is None:
        grad_values = grad_keys
    shares = ((grad_values, both[0], back.for_values), (grad_keys, both[1], back.for_keys))
    for target, left, right in shares:
        if target is not None:
            multiply(left.mT, part.grouped(right[part.rows]), target, add=True)


def add_up_slots(
    on_same: list[Part],
    trace: Trace,
    backward_hops: list[BackwardHop],
    found: Gradients,
    room: Workspace,
) -> None:
    """The gradients of slots held in a half type: of all rows and hops, block after block."""
    first = on_same[0]
    walks = [
        (part, back, gradients_of_scores(part, trace, back, room))
        for part in on_same
        for back in backward_hops
    ]
    for slots in slots_of_blocks(first):
        stored = of_slots(found, first, slots)
        sums = [
            None if place is None else room.take(name, *place.shape).zero_()
            for name, place in zip(("grad_keys", "grad_values"), stored, strict=True)
        ]
        for part, back, walk in walks:
            _, both = next(walk)
            add_to_slots(part, sums, both, back)
        for place, summed in zip(stored, sums, strict=True):
            if place is not None and summed is not None:
                place.copy_(summed)


def empty_trace(problem: Problem, keep_weights: bool) -> Trace:
    """A trace whose every number is still to be written, but for what no hop may write."""
    rows, hops, slots = problem.query.shape[0], len(problem.steps), problem.num_slots
    query = problem.query
    width = problem.keys.shape[-1]
    read = width if problem.values is None else problem.values.shape[-1]
    return Trace(
        queries=query.new_empty(rows, hops + 1, query.shape[1]),
        projected_query=query.new_empty(rows, hops, width),
        read=query.new_empty(rows, hops, read),
        weight_sum=query.new_empty(rows, hops),
        score_max=query.new_zeros(rows, hops),
        exp_sum=query.new_ones(rows, hops),
        aged=query.new_empty(rows, hops, problem.num_ages) if problem.num_ages else None,
        weights=query.new_empty(rows, hops, slots) if keep_weights else None,
    )


def empty_gradients(
    problem: Problem, trace: Trace, grad_result: Tensor, wanted: Wanted
) -> Gradients:
    """Gradients to be written, and those of the slots to be added to."""
    rows, hops, query = *trace.weight_sum.shape, problem.query
    values = problem.keys if problem.values is None else problem.values
    return Gradients(
        grad_query=query.new_zeros(query.shape).add_(grad_result if problem.steps[0].carry else 0),
        grad_out=query.new_empty(rows, hops, query.shape[1]),
        grad_u=torch.empty_like(trace.projected_query),
        grad_weight_sum=torch.empty_like(trace.weight_sum),
        grad_aged=None if trace.aged is None else torch.empty_like(trace.aged),
        grad_scores=query.new_empty(rows, hops, problem.num_slots) if wanted.scores else None,
        grad_keys=huge_pages.empty_like(problem.keys).zero_() if wanted.keys else None,
        grad_values=huge_pages.empty_like(values).zero_() if wanted.values else None,
    )
