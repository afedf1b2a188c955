"""Several queries on each memory: matrix products in blocks of slots, in plain torch.

With Q rows on a memory [N, I], a hop is two products of [Q, I] and [N, I] forward and five
backward. What lies between them, the scores [Q, N], is never there as a whole: a block of it that
fits the processor's cache is made, used and written over. Forward,

    S = U M^T,    m' = max(m, max S),    E = exp(S - m'),
    (total, R) <- (total, R) exp(m - m') + (sum E, E M),

and backward, from the largest score m and the total that were kept,

    E = exp(S - m),    F = E (W M^T - sum_j p_j by_p_j),
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

from memhop.ops import pages
from memhop.ops.problem import Gradients, Problem, Trace, Wanted
from memhop.ops.shared_blocks import (
    Block,
    Part,
    Room,
    Terms,
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


class Back(NamedTuple):
    """What one hop of the backward pass takes, for all rows.

    Attributes:
        hop: which it is.
        scores: the terms of the scores.
        rises: those of the gradients of the weights, less their mean under a softmax.
        for_values, for_keys: w / total and u / total, which a slot's gradient is made of.
        by_weights: G, [B, N], or None.
    """

    hop: int
    scores: Terms
    rises: Terms
    for_values: Tensor
    for_keys: Tensor
    by_weights: Tensor | None


def forward(problem: Problem, keep_weights: bool) -> Trace:
    """All hops of B = G Q rows; the problem has no slots of a bank.

    Products weigh ignored slots with zero, and zero times NaN or infinity is NaN: if the memory
    holds such numbers, or huge ones, blocks hold zeros in ignored slots.
    """
    in_parts = list(parts(problem, zero_ignored=must_zero(problem)))
    return forward_in_parts(problem, keep_weights, in_parts)


def forward_in_parts(problem: Problem, keep_weights: bool, in_parts: list[Part]) -> Trace:
    """The forward pass, part after part in each hop."""
    trace, room = empty_trace(problem, keep_weights), Room(problem.query)
    trace.queries[:, 0] = problem.query
    for hop, step in enumerate(problem.steps):
        trace.keyed[:, hop] = times(trace.queries[:, hop], problem.weight(step.a))
        terms = score_terms(problem, trace, hop)
        for part in in_parts:
            own = Trace._make(cut(tensor, part.rows) for tensor in trace)
            read_slots(part, hop, terms.of(part), own, room)
        if step.carry:
            trace.queries[:, hop + 1] = query_after(problem, trace, hop)
    return trace


def backward(
    problem: Problem, trace: Trace, by_result: Tensor, by_weights: Tensor | None, wanted: Wanted
) -> Gradients:
    """What ``Gradients`` holds. ``by_weights`` needs a trace that kept the weights."""
    in_parts = list(parts(problem, zero_ignored=must_zero(problem)))
    return backward_in_parts(problem, trace, by_result, by_weights, wanted, in_parts)


def backward_in_parts(
    problem: Problem,
    trace: Trace,
    by_result: Tensor,
    by_weights: Tensor | None,
    wanted: Wanted,
    in_parts: list[Part],
) -> Gradients:
    """The backward pass, part after part in each hop.

    The gradients of slots held in a half type are summed over queries and hops in float32 and
    rounded once, for which the blocks are gone through once more.
    """
    found, room = empty_gradients(problem, trace, by_result, wanted), Room(problem.query)
    stored = [tensor.dtype for tensor in found[-2:] if tensor is not None]
    at_once = all(dtype == problem.query.dtype for dtype in stored)
    backs = []
    for hop, step in reversed(list(enumerate(problem.steps))):
        if step.relu:
            found.by_query.masked_fill_(trace.queries[:, hop + 1] <= 0, 0.0)
        found.by_read_out[:, hop] = found.by_query
        w = by_result
        if step.carry:
            w = times(found.by_read_out[:, hop], problem.weight(step.c))
        back = terms_of_backward(problem, trace, found, w, by_weights, hop, in_parts)
        for part in in_parts:
            return_to_scores(part, trace, back, found, room, at_once)
        found.by_query.copy_(by_query_before(problem, found, hop))
        backs += [] if at_once else [back]
    if not at_once:
        for _, on_same in groupby(in_parts, lambda part: part.memories.start):
            add_up_slots(list(on_same), trace, backs, found, room)
    return found


def read_slots(part: Part, hop: int, terms: Terms, trace: Trace, room: Room) -> None:
    """r, mass, top, total, aged and the weights of one hop, into the part's own trace."""
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
        totals = total.masked_fill(nothing, 1.0)
        sums.masked_fill_(nothing, 0.0).div_(totals)
        trace.tops[:, hop] = top.masked_fill_(nothing, 0.0).flatten()
        trace.totals[:, hop] = totals.flatten()
    trace.mass[:, hop] = total.flatten()
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
        weights.sub_(trace.tops[:, hop, None]).exp_().div_(trace.totals[:, hop, None])


def score_terms(problem: Problem, trace: Trace, hop: int) -> Terms:
    """s_i = u . m_i + q . T_A(i) (+ q . a without a softmax)."""
    step, query = problem.steps[hop], trace.queries[:, hop]
    bias = None if step.softmax else problem.weight(step.a_bias)
    return Terms(
        trace.keyed[:, hop],
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
        read_out = torch.addcmul(read_out, trace.mass[:, hop, None], bias)
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
    by_weights: Tensor | None,
    hop: int,
    in_parts: list[Part],
) -> Back:
    """by_p_i = w . m_i + g . (T_C(i) + c) + G_i; a softmax takes their mean, c included, off."""
    step, total = problem.steps[hop], trace.totals[:, hop, None]
    g, bias = found.by_read_out[:, hop], problem.weight(step.c_bias)
    of_ages = by_age(g, problem.weight(step.c_temporal), problem.num_ages)
    same = None if bias is None or step.softmax else times(g, bias.unsqueeze(-1))
    if step.softmax:
        mean = (w * trace.read[:, hop]).sum(-1, keepdim=True, dtype=torch.float64)
        if of_ages is not None and trace.aged is not None:
            mean += (of_ages * trace.aged[:, hop]).sum(-1, keepdim=True)
        if by_weights is not None:
            assert trace.weights is not None
            for part in in_parts:
                for slots in slots_of_blocks(part):
                    where = (part.rows, hop, slots)
                    mean[part.rows] += (trace.weights[where] * by_weights[where]).sum(-1, True)
        same = -mean.to(w.dtype)
    return Back(
        hop,
        score_terms(problem, trace, hop),
        Terms(w, of_ages, same),
        w / total,
        trace.keyed[:, hop] / total,
        None if by_weights is None else by_weights[:, hop],
    )


def gradients_of_scores(
    part: Part, trace: Trace, back: Back, room: Room
) -> Iterator[tuple[Block, Tensor]]:
    """For every block [2, g, Q, n]: p and the gradients of the scores, both times the total."""
    softmax = bool(part.problem.steps[back.hop].softmax)
    terms, rises = back.scores.of(part), back.rises.of(part)
    top = part.grouped(trace.tops[part.rows, back.hop, None])
    by_weights = None if back.by_weights is None else part.grouped(back.by_weights[part.rows])
    for block in blocks(part, back.hop, room):
        both = room.take("scores", 2, *top.shape[:2], block.keys.shape[1])
        powers, slopes = both
        evaluate_scores(terms, block, softmax, powers)
        evaluate(rises, block.values, block, slopes)
        if by_weights is not None:
            slopes.add_(by_weights[..., block.slots])
        if softmax:
            # No more than 1, should a product round otherwise than it did in the forward pass.
            slopes.mul_(powers.sub_(top).clamp_(max=0.0).exp_())
        elif block.ignored is not None:
            slopes.masked_fill_(block.ignored, 0.0)
        yield block, both


def return_to_scores(
    part: Part, trace: Trace, back: Back, found: Gradients, room: Room, at_once: bool
) -> None:
    """du, by_mass, by_aged and d of one hop, and ``at_once`` its share of the slots' gradients."""
    hop, width = back.hop, trace.keyed.shape[-1]
    total = part.grouped(trace.totals[part.rows, hop, None])
    columns = [width, 1, part.problem.num_ages]
    sums = total.new_zeros((*total.shape[:2], sum(columns)), dtype=torch.float64)
    by_keyed, by_mass, by_aged = torch.split(sums, columns, -1)
    for block, both in gradients_of_scores(part, trace, back, room):
        slopes = both[1]
        by_keyed.add_(multiply(slopes, block.keys, room.take("read", *by_keyed.shape)))
        add_by_age(by_aged, block, slopes)
        if not part.problem.steps[hop].softmax:  # a softmax makes them sum to nothing
            by_mass.add_(slopes.sum(-1, keepdim=True))
        if found.by_scores is not None:
            by_scores = part.grouped(found.by_scores[part.rows, hop, block.slots])
            torch.div(slopes, total, out=by_scores)
        if at_once:
            add_to_slots(part, of_slots(found, part, block.slots), both, back)
    if found.by_scores is not None:
        found.by_scores[part.rows, hop, part.longest :] = 0.0
    sums.div_(total)
    found.by_keyed[part.rows, hop] = by_keyed.flatten(0, 1)
    found.by_mass[part.rows, hop] = by_mass.flatten()
    if found.by_aged is not None:
        found.by_aged[part.rows, hop] = by_aged.flatten(0, 1)


def by_query_before(problem: Problem, found: Gradients, hop: int) -> Tensor:
    """dq = A du + sum_t by_aged_t T_A(t) (+ sum_i d_i a) + g, or H^T g in place of g."""
    step = problem.steps[hop]
    a, bias = problem.weight(step.a), problem.weight(step.a_bias)
    by_query = times(found.by_keyed[:, hop], None if a is None else a.mT)
    if bias is not None:
        by_query = torch.addcmul(by_query, found.by_mass[:, hop, None], bias)
    of_ages = onto_table(cut_hop(found.by_aged, hop), problem.weight(step.a_temporal))
    if of_ages is not None:
        by_query = by_query + of_ages
    return by_query + times(found.by_read_out[:, hop], problem.weight(step.transform))


def of_slots(found: Gradients, part: Part, slots: slice) -> list[Tensor | None]:
    """Where the gradients of these keys and values stand."""
    return [None if whole is None else whole[part.memories, slots] for whole in found[-2:]]


def add_to_slots(part: Part, sums: list[Tensor | None], both: Tensor, back: Back) -> None:
    """Add a block's share to the gradients of its keys and its values, where those are apart."""
    by_keys, by_values = sums
    if part.problem.values is None:
        by_values = by_keys
    shares = ((by_values, both[0], back.for_values), (by_keys, both[1], back.for_keys))
    for target, left, right in shares:
        if target is not None:
            multiply(left.mT, part.grouped(right[part.rows]), target, add=True)


def add_up_slots(
    on_same: list[Part], trace: Trace, backs: list[Back], found: Gradients, room: Room
) -> None:
    """The gradients of slots held in a half type: of all rows and hops, block after block."""
    first = on_same[0]
    walks = [
        (part, back, gradients_of_scores(part, trace, back, room))
        for part in on_same
        for back in backs
    ]
    for slots in slots_of_blocks(first):
        stored = of_slots(found, first, slots)
        sums = [
            None if place is None else room.take(name, *place.shape).zero_()
            for name, place in zip(("by_keys", "by_values"), stored, strict=True)
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
        keyed=query.new_empty(rows, hops, width),
        read=query.new_empty(rows, hops, read),
        mass=query.new_empty(rows, hops),
        tops=query.new_zeros(rows, hops),
        totals=query.new_ones(rows, hops),
        aged=query.new_empty(rows, hops, problem.num_ages) if problem.num_ages else None,
        weights=query.new_empty(rows, hops, slots) if keep_weights else None,
    )


def empty_gradients(problem: Problem, trace: Trace, by_result: Tensor, wanted: Wanted) -> Gradients:
    """Gradients to be written, and those of the slots to be added to."""
    rows, hops, query = *trace.mass.shape, problem.query
    values = problem.keys if problem.values is None else problem.values
    return Gradients(
        by_query=query.new_zeros(query.shape).add_(by_result if problem.steps[0].carry else 0),
        by_read_out=query.new_empty(rows, hops, query.shape[1]),
        by_keyed=torch.empty_like(trace.keyed),
        by_mass=torch.empty_like(trace.mass),
        by_aged=None if trace.aged is None else torch.empty_like(trace.aged),
        by_scores=query.new_empty(rows, hops, problem.num_slots) if wanted.scores else None,
        by_keys=pages.empty_like(problem.keys).zero_() if wanted.keys else None,
        by_values=pages.empty_like(values).zero_() if wanted.values else None,
    )
