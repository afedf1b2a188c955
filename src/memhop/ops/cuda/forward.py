"""The fused hop on the GPU: each hop reads every slot once, and nothing is projected.

A program scores a tile of slots and adds it up while it is in registers, with an online softmax;
each place in the tile keeps a top, a total and a sum of its own, and they are merged at the end.

    begin   u_k = A^T q_k, q_k . T_A(t) and q_k . a
    attend  s_i, and of one part of the slots the top, the total and sum_i exp(s_i - top) m_i
    finish  the parts merged: r_k, the weight_sum, the sums for the temporal tables, q_{k+1}

Where the batch has rows enough to fill the GPU, or short ones, the grid is [rows / Block.rows] and
one launch does all hops: a program takes its rows through these steps hop after hop, and from the
second hop on finds the memory in the caches as far as it fits. Otherwise each row's slots are
shared out, grid [rows, parts], and a hop is two launches: one that attends, and one, grid [rows],
that finishes the hop and begins the next.

Every sum has an order that sizes and device alone decide: the same bits each time.
"""

# mypy: disable-error-code="import-untyped, import-not-found, no-untyped-def"
# mypy: disallow-untyped-decorators=False

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from memhop.ops.cuda.backward import backward
from memhop.ops.cuda.primitives import (
    A_BIAS,
    A_TEMPORAL,
    C_BIAS,
    C_TEMPORAL,
    CARRY,
    FIELDS,
    RELU,
    SOFTMAX,
    TRANSFORM,
    A,
    C,
    Given,
    Layout,
    ages_at,
    count_readable,
    keys_at,
    laid_out,
    load_mask,
    of_table,
    places_of,
    product,
    readable_from,
    rows_of_program,
    store_products,
    store_vectors,
    values_at,
    vectors,
    weight_of,
)
from memhop.ops.cuda.tiling import SETTLED, Block, on_device_of, options, plan_of
from memhop.ops.fused.problem import Problem, Trace

__all__ = ["backward", "forward"]


class ForwardBuffers(NamedTuple):
    """The trace, its weights as scores for the time being, and what passes between the steps.

    Attributes:
        shift: q_k . a where there is no softmax, else zero, [B].
        aged_scores: q_k . T_A(t), [B, T].
        part_score_max, part_exp_sum, part_sums, part_older: of each part of a row's slots the
            largest score, the total, the weighted sum of values, and the total of the last row of
            a temporal table, [B, parts] and [B, parts, V].
    """

    queries: Any
    projected_query: Any
    read: Any
    weight_sum: Any
    score_max: Any
    exp_sum: Any
    aged: Any
    scores: Any
    shift: Any
    aged_scores: Any
    part_score_max: Any
    part_exp_sum: Any
    part_sums: Any
    part_older: Any


def forward(problem: Problem, keep_weights: bool) -> Trace:
    """See ``problem``; the tensors are on the GPU, or on the CPU for triton's interpreter."""
    query, slots, ages = problem.query, problem.num_slots, problem.num_ages
    (rows, memory_dim), hops = query.shape, len(problem.steps)
    keys = problem.keys.shape[-1]
    width = keys if problem.values is None else problem.values.shape[-1]
    new = query.new_empty
    trace = Trace(
        queries=new(rows, hops + 1, memory_dim),
        projected_query=new(rows, hops, keys),
        read=new(rows, hops, width),
        weight_sum=new(rows, hops),
        score_max=new(rows, hops),
        exp_sum=new(rows, hops),
        aged=query.new_full((rows, hops, ages), -torch.inf) if ages else None,
        weights=new(rows, hops, slots) if keep_weights else None,
    )
    if rows == 0:
        return trace
    trace.queries[:, 0] = query
    plan = plan_of(problem)
    given, layout = laid_out(problem, plan)
    found = ForwardBuffers(
        *trace,
        shift=new(rows),
        aged_scores=new(rows, ages) if ages else None,
        part_score_max=new(rows, plan.parts),
        part_exp_sum=new(rows, plan.parts),
        part_sums=new(rows, plan.parts, width),
        part_older=new(rows, plan.parts) if ages else None,
    )
    with on_device_of(query):
        walk(given, layout, found, plan.block)
        if trace.weights is not None and slots:
            tiles = triton.cdiv(slots, SETTLED)
            normalize[(rows * hops * tiles,)](
                given, layout, found, tiles, SETTLED, **options(plan.block)
            )
    return trace


def walk(given: Given, layout: Layout, found: ForwardBuffers, block: Block) -> None:
    """All hops, in one launch or in two a hop."""
    programs, launch = triton.cdiv(layout.rows, block.rows), options(block)
    if given.counts is not None:
        count_readable[(programs, layout.parts)](given, layout, block, **launch)
    if layout.parts == 1:
        all_hops[(programs,)](given, layout, found, block, **launch)
        return
    finish_and_begin[(programs,)](given, layout, found, -1, block, **launch)
    for hop in range(layout.hops):
        attend_part[(programs, layout.parts)](given, layout, found, hop, block, **launch)
        finish_and_begin[(programs,)](given, layout, found, hop, block, **launch)


@triton.jit(do_not_specialize=["layout"])
def all_hops(given, layout, found, block: tl.constexpr):
    """Grid [rows / Block.rows]: every hop of some rows."""
    for hop in tl.range(0, layout.hops, disable_licm=True):
        begin(given, layout, found, hop, block)
        tl.debug_barrier()
        attend(given, layout, found, hop, 0, block)
        tl.debug_barrier()
        finish(given, layout, found, hop, block)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["layout", "hop"])
def attend_part(given, layout, found, hop, block: tl.constexpr):
    """Grid [rows / Block.rows, parts]: one hop's pass over one part of the slots of some rows."""
    attend(given, layout, found, hop, tl.program_id(1), block)


@triton.jit(do_not_specialize=["layout", "hop"])
def finish_and_begin(given, layout, found, hop, block: tl.constexpr):
    """Grid [rows / Block.rows]: finishes a hop, but for -1, and begins the next."""
    if hop >= 0:
        finish(given, layout, found, hop, block)
    tl.debug_barrier()
    if hop + 1 < layout.hops:
        begin(given, layout, found, hop + 1, block)


@triton.jit
def begin(given, layout, found, hop, block: tl.constexpr):
    """u_k, q_k . T_A(t) and q_k . a."""
    row, live = rows_of_program(layout, block)
    memory_dim, columns = layout.query_columns * block.unit, layout.key_columns * block.unit
    at = row * (layout.hops + 1) + hop
    query = found.queries + at * memory_dim
    a, has_a = weight_of(given, hop, A, block)
    if has_a:
        projected_query = product(a, columns, 1, query, memory_dim, columns, block, block.key_width)
    else:
        projected_query = vectors(found.queries, at, columns, block.key_width)
    store_vectors(found.projected_query, row * layout.hops + hop, live, columns, projected_query)
    a_bias, has_bias = weight_of(given, hop, A_BIAS, block)
    shift = tl.full([block.rows], 0.0, projected_query.dtype)
    if has_bias & (tl.load(given.steps + hop * FIELDS + SOFTMAX) == 0):
        numbers = vectors(found.queries, at, memory_dim, block.query_width)
        shift = tl.sum(numbers * vectors(a_bias, row * 0, memory_dim, block.query_width), 1)
    tl.store(found.shift + row, shift, mask=live)
    if given.counts is not None:
        table, has_table = weight_of(given, hop, A_TEMPORAL, block)
        if has_table:
            into = found.aged_scores + row * layout.ages
            store_products(table, query, into, live, layout, block)


@triton.jit
def attend(given, layout, found, hop, part, block: tl.constexpr):
    """One pass over one part of the slots: what the part finds, and the scores where kept."""
    row, live = rows_of_program(layout, block)
    dtype: tl.constexpr = found.queries.dtype.element_ty
    here = row * layout.hops + hop
    softmax = tl.load(given.steps + hop * FIELDS + SOFTMAX) != 0
    projected_query = vectors(
        found.projected_query, here, layout.key_columns * block.unit, block.key_width
    )
    shift = tl.load(found.shift + row)[:, None]
    # A top of zero that stays leaves the scores themselves to be summed: no softmax.
    top = tl.full([block.rows, block.slots], 0.0, dtype) + tl.where(softmax, float("-inf"), 0.0)
    total = tl.full([block.rows, block.slots], 0.0, dtype)
    older = tl.full([block.rows, block.slots], 0.0, dtype)
    sums = tl.full([block.rows, block.slots, block.value_width], 0.0, dtype)
    first = part * layout.part_slots
    last = tl.minimum(first + layout.part_slots, layout.slots)
    left = readable_from(given, layout, row, hop, part, block)
    for start in tl.range(first, last, block.slots, num_stages=block.stages):
        slot = start + tl.arange(0, block.slots)
        readable, bias = load_mask(given, layout, row, hop, slot, last, block)
        place = places_of(given, layout, row, slot, readable)
        values = keys_at(given, layout, row, place, readable, block)
        score = tl.sum(values * projected_query[:, None, :], 2) + bias + shift
        if given.value_rows is not None:
            values = values_at(given, layout, row, place, readable, block)
        if given.counts is not None:
            age, left = ages_at(layout, left, readable)
            aged = found.aged_scores + (row * layout.ages)[:, None] + age
            score += of_table(given, hop, A_TEMPORAL, aged, readable)
        if found.scores is not None:
            kept = tl.where(readable, score, float("-inf"))
            at = (here * layout.slots)[:, None] + slot[None, :]
            tl.store(found.scores + at, kept, mask=live[:, None] & (slot < last)[None, :])
        new_top = tl.maximum(top, tl.where(readable & softmax, score, float("-inf")))
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
        power = tl.exp(tl.where(readable & softmax, score - base, float("-inf")))
        weight = tl.where(softmax, power, tl.where(readable, score, 0.0))
        scale = tl.exp(top - base)
        top = new_top
        total = total * scale + weight
        sums = sums * scale[:, :, None] + weight[:, :, None] * values
        if given.counts is not None:
            is_last = age == layout.ages - 1
            older = older * scale + tl.where(is_last, weight, 0.0)
            into = found.aged + (here * layout.ages)[:, None] + age
            tl.store(into, score, mask=live[:, None] & readable & (age < layout.ages - 1))
    best = tl.max(top, 1)
    scale = tl.exp(top - tl.where(best == float("-inf"), 0.0, best)[:, None])
    at = row * layout.parts + part
    tl.store(found.part_score_max + at, best, mask=live)
    tl.store(found.part_exp_sum + at, tl.sum(total * scale, 1), mask=live)
    if given.counts is not None:
        tl.store(found.part_older + at, tl.sum(older * scale, 1), mask=live)
    summed = tl.sum(sums * scale[:, :, None], 1)
    store_vectors(found.part_sums, at, live, layout.value_columns * block.unit, summed)


@triton.jit
def finish(given, layout, found, hop, block: tl.constexpr):
    """The parts of a hop merged, and q_{k+1}."""
    row, live = rows_of_program(layout, block)
    here = row * layout.hops + hop
    step = given.steps + hop * FIELDS
    softmax = tl.load(step + SOFTMAX) != 0
    top, total, older, sums = merged(layout, found, row, block)
    some = total != 0  # NaN too, which passes into all that the row reads
    divisor = tl.where(softmax & some, total, 1.0)
    weight_sum = tl.where(softmax, tl.where(some, 1.0, 0.0), total)
    read = sums / divisor[:, None]
    tl.store(found.score_max + here, top, mask=live)
    tl.store(found.exp_sum + here, divisor, mask=live)
    tl.store(found.weight_sum + here, weight_sum, mask=live)
    store_vectors(found.read, here, live, layout.value_columns * block.unit, read)
    if given.counts is not None:
        for start in range(0, layout.ages, block.terms):
            age = start + tl.arange(0, block.terms)
            at = (here * layout.ages)[:, None] + age[None, :]
            inside = (age < layout.ages)[None, :]
            score = tl.load(found.aged + at, mask=inside, other=float("-inf"))
            weight = weights_of(score, softmax, top[:, None], divisor[:, None])
            is_last = (age == layout.ages - 1)[None, :]
            weight = tl.where(is_last, (older / divisor)[:, None], weight)
            tl.store(found.aged + at, weight, mask=live[:, None] & inside)
    tl.debug_barrier()
    if tl.load(step + CARRY) != 0:
        update(given, layout, found, row, live, hop, weight_sum, block)


@triton.jit
def merged(layout, found, row, block: tl.constexpr):
    """The top, the total, the total of the oldest and the sum [rows, values] of all parts."""
    dtype: tl.constexpr = found.queries.dtype.element_ty
    best = tl.full([block.rows], float("-inf"), dtype)
    for start in range(0, layout.parts, block.parts):
        part = start + tl.arange(0, block.parts)
        at = (row * layout.parts)[:, None] + part[None, :]
        inside = (part < layout.parts)[None, :]
        score_max = tl.load(found.part_score_max + at, mask=inside, other=float("-inf"))
        best = tl.maximum(best, tl.max(score_max, 1))
    best = tl.where(best == float("-inf"), 0.0, best)
    total = tl.full([block.rows], 0.0, dtype)
    older = tl.full([block.rows], 0.0, dtype)
    sums = tl.full([block.rows, block.parts, block.value_width], 0.0, dtype)
    column, columns = tl.arange(0, block.value_width), layout.value_columns * block.unit
    for start in range(0, layout.parts, block.parts):
        part = start + tl.arange(0, block.parts)
        at = (row * layout.parts)[:, None] + part[None, :]
        inside = (part < layout.parts)[None, :]
        score_max = tl.load(found.part_score_max + at, mask=inside, other=float("-inf"))
        scale = tl.exp(score_max - best[:, None])
        total += tl.sum(scale * tl.load(found.part_exp_sum + at, mask=inside, other=0.0), 1)
        if found.part_older is not None:
            older += tl.sum(scale * tl.load(found.part_older + at, mask=inside, other=0.0), 1)
        inside = inside[:, :, None] & (column < columns)[None, None, :]
        at = (at * columns)[:, :, None] + column[None, None, :]
        sums += scale[:, :, None] * tl.load(found.part_sums + at, mask=inside, other=0.0)
    return best, total, older, tl.sum(sums, 1)


@triton.jit
def update(given, layout, found, row, live, hop, weight_sum, block: tl.constexpr):
    """q_{k+1}, out of r_k and the rest of the hop."""
    memory_dim, columns = layout.query_columns * block.unit, layout.value_columns * block.unit
    width: tl.constexpr = block.query_width
    here, at = row * layout.hops + hop, row * (layout.hops + 1) + hop
    query, factors = found.queries + at * memory_dim, found.read + here * columns
    transform, has_transform = weight_of(given, hop, TRANSFORM, block)
    if has_transform:
        updated = product(transform, 1, memory_dim, query, memory_dim, memory_dim, block, width)
    else:
        updated = vectors(found.queries, at, memory_dim, width)
    c, has_c = weight_of(given, hop, C, block)
    if has_c:
        updated += product(c, 1, columns, factors, columns, memory_dim, block, width)
    else:
        updated += vectors(found.read, here, columns, width)
    bias, has_bias = weight_of(given, hop, C_BIAS, block)
    if has_bias:
        updated += weight_sum[:, None] * vectors(bias, row * 0, memory_dim, width)
    if given.counts is not None:
        table, has_table = weight_of(given, hop, C_TEMPORAL, block)
        if has_table:
            aged = found.aged + here * layout.ages
            updated += product(table, memory_dim, 1, aged, layout.ages, memory_dim, block, width)
    if tl.load(given.steps + hop * FIELDS + RELU) != 0:
        updated = tl.where(updated <= 0, 0.0, updated)  # NaN stays
    store_vectors(found.queries, at + 1, live, memory_dim, updated)


@triton.jit(do_not_specialize=["layout", "tiles"])
def normalize(given, layout, found, tiles, width: tl.constexpr):
    """Grid [rows * hops * tiles]: the scores of some slots of a row become weights."""
    here = (tl.program_id(0) // tiles).to(tl.int64)
    slot = (tl.program_id(0) % tiles) * width + tl.arange(0, width)
    at, inside = here * layout.slots + slot, slot < layout.slots
    softmax = tl.load(given.steps + (here % layout.hops) * FIELDS + SOFTMAX) != 0
    score = tl.load(found.scores + at, mask=inside, other=float("-inf"))
    weight = weights_of(
        score, softmax, tl.load(found.score_max + here), tl.load(found.exp_sum + here)
    )
    tl.store(found.scores + at, weight, mask=inside)


@triton.jit
def weights_of(score, softmax, top, total):
    """exp(s - top) / total, or s itself; zero for -inf, which stands for what is not readable."""
    power = tl.exp(tl.where(softmax, score - top, float("-inf")))
    return tl.where(softmax, power / total, tl.where(score == float("-inf"), 0.0, score))
