"""The fused form on the GPU: each hop reads every slot once, in the space of the stored rows.

A program scores a tile of slots and accumulates it while it is in registers, by an online softmax.
Each lane of the tile has its own running maximum, sum of exponentials and weighted sum; they are
merged at the end. The stages of a hop:

    begin   u_k = A^T q_k, q_k . T_A(t) and q_k . a
    attend  s_i, and over one split of the slots max s_i, sum_i exp(s_i - max) and that times m_i
    finish  merge the splits: r_k, the weight_sum, the sums for the temporal tables, q_{k+1}

If the rows fill the GPU, or are short, the grid is [rows / config.rows] and one launch runs all
hops: from the second hop on, a program finds as much of its memories in the caches as fits.
Otherwise each row's slots are split (split-K), with grid [rows, splits], and a hop takes two
launches: one attends; the other, with grid [rows], finishes the hop and begins the next.

The order of each sum depends on sizes and device alone, so results are deterministic.
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
    RELU,
    SOFTMAX,
    TRANSFORM,
    A,
    C,
    KernelInputs,
    Layout,
    ages_at,
    count_readable,
    has_option,
    has_relu,
    kernel_inputs,
    load_keys,
    load_mask,
    load_table_products,
    load_values,
    load_vectors,
    matvec,
    memory_rows,
    program_rows,
    readable_from,
    store_table_products,
    store_vectors,
    weight_pointer,
)
from memhop.ops.cuda.tiling import (
    NORMALIZE_SLOTS,
    TileConfig,
    launch_options,
    on_device_of,
    plan_of,
)
from memhop.ops.fused.problem import Problem, Trace, empty_trace

__all__ = ["backward", "forward"]


class ForwardBuffers(NamedTuple):
    """The trace, with scores in place of weights until ``normalize``, and intermediate results.

    Attributes:
        bias_score: q_k . a without a softmax, else 0, [B].
        temporal_scores: q_k . T_A(t), [B, T].
        split_max, split_exp_sum, split_oldest: of each split, the maximum score, the sum of
            exponentials, and the part of it that has the greatest age, [B, splits].
        split_sums: the weighted sum of values, [B, splits, V].
    """

    queries: Any
    projected_query: Any
    read: Any
    weight_sum: Any
    score_max: Any
    exp_sum: Any
    aged: Any
    scores: Any
    bias_score: Any
    temporal_scores: Any
    split_max: Any
    split_exp_sum: Any
    split_sums: Any
    split_oldest: Any


def forward(problem: Problem, keep_weights: bool) -> Trace:
    """Run all hops; see ``problem``. In triton's interpreter the tensors are on the CPU."""
    query, slots, ages = problem.query, problem.num_slots, problem.num_ages
    rows, hops, new = query.shape[0], len(problem.steps), query.new_empty
    trace = empty_trace(problem, keep_weights)
    if rows == 0:
        return trace
    trace.queries[:, 0] = query
    if trace.aged is not None:
        trace.aged.fill_(-torch.inf)
    plan = plan_of(problem)
    inputs, layout = kernel_inputs(problem, plan)
    buffers = ForwardBuffers(
        *trace,
        bias_score=new(rows),
        temporal_scores=new(rows, ages) if ages else None,
        split_max=new(rows, plan.num_splits),
        split_exp_sum=new(rows, plan.num_splits),
        split_sums=new(rows, plan.num_splits, trace.read.shape[-1]),
        split_oldest=new(rows, plan.num_splits) if ages else None,
    )
    with on_device_of(query):
        launch_hops(inputs, layout, buffers, plan.config)
        if trace.weights is not None and slots:
            tiles = triton.cdiv(slots, NORMALIZE_SLOTS)
            normalize[(rows * hops * tiles,)](
                inputs, layout, buffers, tiles, NORMALIZE_SLOTS, **launch_options(plan.config)
            )
    return trace


def launch_hops(
    inputs: KernelInputs, layout: Layout, buffers: ForwardBuffers, config: TileConfig
) -> None:
    """Run all hops, in one launch or in two per hop."""
    programs, options = triton.cdiv(layout.rows, config.rows), launch_options(config)
    arguments = inputs, layout, buffers
    if inputs.counts is not None:
        count_readable[(programs, layout.num_splits)](inputs, layout, config, **options)
    if layout.num_splits == 1:
        all_hops[(programs,)](*arguments, config, **options)
        return
    finish_and_begin[(programs,)](*arguments, -1, config, **options)
    for hop in range(layout.hops):
        attend_split[(programs, layout.num_splits)](*arguments, hop, config, **options)
        finish_and_begin[(programs,)](*arguments, hop, config, **options)


@triton.jit(do_not_specialize=["layout"])
def all_hops(inputs, layout, buffers, config: tl.constexpr):
    """Grid [rows / config.rows]: all hops of some rows."""
    for hop in tl.range(0, layout.hops, disable_licm=True):
        begin(inputs, layout, buffers, hop, config)
        tl.debug_barrier()
        attend(inputs, layout, buffers, hop, 0, config)
        tl.debug_barrier()
        finish(inputs, layout, buffers, hop, config)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["layout", "hop"])
def attend_split(inputs, layout, buffers, hop, config: tl.constexpr):
    """Grid [rows / config.rows, splits]: a hop over one split of the slots of some rows."""
    attend(inputs, layout, buffers, hop, tl.program_id(1), config)


@triton.jit(do_not_specialize=["layout", "hop"])
def finish_and_begin(inputs, layout, buffers, hop, config: tl.constexpr):
    """Grid [rows / config.rows]: finish a hop, except -1, and begin the next."""
    if hop >= 0:
        finish(inputs, layout, buffers, hop, config)
    tl.debug_barrier()
    if hop + 1 < layout.hops:
        begin(inputs, layout, buffers, hop + 1, config)


@triton.jit
def begin(inputs, layout, buffers, hop, config: tl.constexpr):
    """Compute u_k, q_k . T_A(t) and q_k . a."""
    row, row_mask = program_rows(layout, config)
    memory_dim, columns = layout.query_columns * config.unit, layout.keys.columns * config.unit
    offset = row * (layout.hops + 1) + hop
    query = buffers.queries + offset * memory_dim
    row_hop = row * layout.hops + hop
    width: tl.constexpr = config.key_width
    a, has_a = weight_pointer(inputs, hop, A, config)
    if has_a:
        projected_query = matvec(a, columns, 1, query, memory_dim, columns, config, width)
    else:
        projected_query = load_vectors(buffers.queries, offset, columns, width)
    store_vectors(buffers.projected_query, row_hop, row_mask, columns, projected_query)
    a_bias, has_bias = weight_pointer(inputs, hop, A_BIAS, config)
    bias_score = tl.full([config.rows], 0.0, projected_query.dtype)
    if has_bias & (has_option(inputs, hop, SOFTMAX) == 0):
        numbers = load_vectors(buffers.queries, offset, memory_dim, config.query_width)
        bias = load_vectors(a_bias, row * 0, memory_dim, config.query_width)
        bias_score = tl.sum(numbers * bias, 1)
    tl.store(buffers.bias_score + row, bias_score, mask=row_mask)
    if inputs.counts is not None:
        table, has_table = weight_pointer(inputs, hop, A_TEMPORAL, config)
        if has_table:
            into = buffers.temporal_scores + row * layout.ages
            store_table_products(table, query, into, row_mask, layout, config)


@triton.jit
def attend(inputs, layout, buffers, hop, split, config: tl.constexpr):
    """Reduce one split of the slots; store the scores if they are kept."""
    row, row_mask = program_rows(layout, config)
    dtype: tl.constexpr = buffers.queries.dtype.element_ty
    row_hop = row * layout.hops + hop
    softmax = has_option(inputs, hop, SOFTMAX)
    projected_query = load_vectors(
        buffers.projected_query, row_hop, layout.keys.columns * config.unit, config.key_width
    )
    bias_score = tl.load(buffers.bias_score + row)[:, None]
    # Without a softmax the maximum stays 0, and the scores themselves are summed.
    score_max = tl.full([config.rows, config.slots], 0.0, dtype)
    score_max += tl.where(softmax, float("-inf"), 0.0)
    exp_sum = tl.full([config.rows, config.slots], 0.0, dtype)
    oldest = tl.full([config.rows, config.slots], 0.0, dtype)
    sums = tl.full([config.rows, config.slots, config.value_width], 0.0, dtype)
    first = split * layout.split_slots
    last = tl.minimum(first + layout.split_slots, layout.slots)
    left = readable_from(inputs, layout, row, hop, split, config)
    for start in tl.range(first, last, config.slots, num_stages=config.num_stages):
        slot = start + tl.arange(0, config.slots)
        readable, bias = load_mask(inputs, layout, row, hop, slot, last, config)
        index = memory_rows(inputs, layout, row, slot, readable)
        values = load_keys(inputs, layout, row, index, readable, config)
        score = tl.sum(values * projected_query[:, None, :], 2) + bias + bias_score
        if inputs.value_rows is not None:
            values = load_values(inputs, layout, row, index, readable, config)
        if inputs.counts is not None:
            age, left = ages_at(layout, left, readable)
            aged = buffers.temporal_scores + (row * layout.ages)[:, None] + age
            score += load_table_products(inputs, hop, A_TEMPORAL, aged, readable)
        if buffers.scores is not None:
            kept = tl.where(readable, score, float("-inf"))
            offset = (row_hop * layout.slots)[:, None] + slot[None, :]
            tl.store(buffers.scores + offset, kept, mask=row_mask[:, None] & (slot < last)[None, :])
        new_max = tl.maximum(score_max, tl.where(readable & softmax, score, float("-inf")))
        base = tl.where(new_max == float("-inf"), 0.0, new_max)
        exp_score = tl.exp(tl.where(readable & softmax, score - base, float("-inf")))
        weight = tl.where(softmax, exp_score, tl.where(readable, score, 0.0))
        scale = tl.exp(score_max - base)
        score_max = new_max
        exp_sum = exp_sum * scale + weight
        sums = sums * scale[:, :, None] + weight[:, :, None] * values
        if inputs.counts is not None:
            is_last = age == layout.ages - 1
            oldest = oldest * scale + tl.where(is_last, weight, 0.0)
            into = buffers.aged + (row_hop * layout.ages)[:, None] + age
            tl.store(into, score, mask=row_mask[:, None] & readable & (age < layout.ages - 1))
    merged_max = tl.max(score_max, 1)
    scale = tl.exp(score_max - tl.where(merged_max == float("-inf"), 0.0, merged_max)[:, None])
    offset = row * layout.num_splits + split
    tl.store(buffers.split_max + offset, merged_max, mask=row_mask)
    tl.store(buffers.split_exp_sum + offset, tl.sum(exp_sum * scale, 1), mask=row_mask)
    if inputs.counts is not None:
        tl.store(buffers.split_oldest + offset, tl.sum(oldest * scale, 1), mask=row_mask)
    columns, summed = layout.value_rows.columns * config.unit, tl.sum(sums * scale[:, :, None], 1)
    store_vectors(buffers.split_sums, offset, row_mask, columns, summed)


@triton.jit
def finish(inputs, layout, buffers, hop, config: tl.constexpr):
    """Merge the splits of a hop, and compute q_{k+1}."""
    row, row_mask = program_rows(layout, config)
    row_hop = row * layout.hops + hop
    softmax = has_option(inputs, hop, SOFTMAX)
    score_max, exp_sum, oldest, sums = merge_splits(layout, buffers, row, config)
    some = exp_sum != 0  # true for NaN, which propagates to the result
    divisor = tl.where(softmax & some, exp_sum, 1.0)
    weight_sum = tl.where(softmax, tl.where(some, 1.0, 0.0), exp_sum)
    read = sums / divisor[:, None]
    tl.store(buffers.score_max + row_hop, score_max, mask=row_mask)
    tl.store(buffers.exp_sum + row_hop, divisor, mask=row_mask)
    tl.store(buffers.weight_sum + row_hop, weight_sum, mask=row_mask)
    store_vectors(buffers.read, row_hop, row_mask, layout.value_rows.columns * config.unit, read)
    if inputs.counts is not None:
        for start in range(0, layout.ages, config.terms):
            age = start + tl.arange(0, config.terms)
            offset = (row_hop * layout.ages)[:, None] + age[None, :]
            mask = (age < layout.ages)[None, :]
            score = tl.load(buffers.aged + offset, mask=mask, other=float("-inf"))
            weight = weights_of(score, softmax, score_max[:, None], divisor[:, None])
            is_last = (age == layout.ages - 1)[None, :]
            weight = tl.where(is_last, (oldest / divisor)[:, None], weight)
            tl.store(buffers.aged + offset, weight, mask=row_mask[:, None] & mask)
    tl.debug_barrier()
    if has_option(inputs, hop, CARRY):
        update(inputs, layout, buffers, row, row_mask, hop, weight_sum, config)


@triton.jit
def merge_splits(layout, buffers, row, config: tl.constexpr):
    """Return maximum, sum of exponentials, its oldest part and weighted sum over all splits."""
    dtype: tl.constexpr = buffers.queries.dtype.element_ty
    merged_max = tl.full([config.rows], float("-inf"), dtype)
    for start in range(0, layout.num_splits, config.splits):
        split = start + tl.arange(0, config.splits)
        offset = (row * layout.num_splits)[:, None] + split[None, :]
        mask = (split < layout.num_splits)[None, :]
        score_max = tl.load(buffers.split_max + offset, mask=mask, other=float("-inf"))
        merged_max = tl.maximum(merged_max, tl.max(score_max, 1))
    merged_max = tl.where(merged_max == float("-inf"), 0.0, merged_max)
    exp_sum = tl.full([config.rows], 0.0, dtype)
    oldest = tl.full([config.rows], 0.0, dtype)
    sums = tl.full([config.rows, config.splits, config.value_width], 0.0, dtype)
    column, columns = tl.arange(0, config.value_width), layout.value_rows.columns * config.unit
    for start in range(0, layout.num_splits, config.splits):
        split = start + tl.arange(0, config.splits)
        offset = (row * layout.num_splits)[:, None] + split[None, :]
        mask = (split < layout.num_splits)[None, :]
        score_max = tl.load(buffers.split_max + offset, mask=mask, other=float("-inf"))
        scale = tl.exp(score_max - merged_max[:, None])
        exp_sum += tl.sum(scale * tl.load(buffers.split_exp_sum + offset, mask=mask, other=0.0), 1)
        if buffers.split_oldest is not None:
            split_oldest = tl.load(buffers.split_oldest + offset, mask=mask, other=0.0)
            oldest += tl.sum(scale * split_oldest, 1)
        mask = mask[:, :, None] & (column < columns)[None, None, :]
        offset = (offset * columns)[:, :, None] + column[None, None, :]
        sums += scale[:, :, None] * tl.load(buffers.split_sums + offset, mask=mask, other=0.0)
    return merged_max, exp_sum, oldest, tl.sum(sums, 1)


@triton.jit
def update(inputs, layout, buffers, row, row_mask, hop, weight_sum, config: tl.constexpr):
    """Compute q_{k+1} from r_k and the other sums."""
    memory_dim = layout.query_columns * config.unit
    columns = layout.value_rows.columns * config.unit
    width: tl.constexpr = config.query_width
    row_hop, offset = row * layout.hops + hop, row * (layout.hops + 1) + hop
    query, factors = buffers.queries + offset * memory_dim, buffers.read + row_hop * columns
    transform, has_transform = weight_pointer(inputs, hop, TRANSFORM, config)
    if has_transform:
        updated = matvec(transform, 1, memory_dim, query, memory_dim, memory_dim, config, width)
    else:
        updated = load_vectors(buffers.queries, offset, memory_dim, width)
    c, has_c = weight_pointer(inputs, hop, C, config)
    if has_c:
        updated += matvec(c, 1, columns, factors, columns, memory_dim, config, width)
    else:
        updated += load_vectors(buffers.read, row_hop, columns, width)
    bias, has_bias = weight_pointer(inputs, hop, C_BIAS, config)
    if has_bias:
        updated += weight_sum[:, None] * load_vectors(bias, row * 0, memory_dim, width)
    if inputs.counts is not None:
        table, has_table = weight_pointer(inputs, hop, C_TEMPORAL, config)
        if has_table:
            aged = buffers.aged + row_hop * layout.ages
            updated += matvec(table, memory_dim, 1, aged, layout.ages, memory_dim, config, width)
    if has_option(inputs, hop, RELU):
        updated = tl.where(has_relu(inputs, layout, hop, config) & (updated <= 0), 0.0, updated)
    store_vectors(buffers.queries, offset + 1, row_mask, memory_dim, updated)


@triton.jit(do_not_specialize=["layout", "tiles"])
def normalize(inputs, layout, buffers, tiles, width: tl.constexpr):
    """Grid [rows * hops * tiles]: turn the scores of some slots of a row into weights."""
    row_hop = (tl.program_id(0) // tiles).to(tl.int64)
    slot = (tl.program_id(0) % tiles) * width + tl.arange(0, width)
    offset, mask = row_hop * layout.slots + slot, slot < layout.slots
    softmax = has_option(inputs, row_hop % layout.hops, SOFTMAX)
    score = tl.load(buffers.scores + offset, mask=mask, other=float("-inf"))
    weight = weights_of(
        score, softmax, tl.load(buffers.score_max + row_hop), tl.load(buffers.exp_sum + row_hop)
    )
    tl.store(buffers.scores + offset, weight, mask=mask)


@triton.jit
def weights_of(score, softmax, score_max, exp_sum):
    """Return exp(s - max) / sum, or s itself; 0 for -inf, the score of an unreadable slot."""
    exp_score = tl.exp(tl.where(softmax, score - score_max, float("-inf")))
    return tl.where(softmax, exp_score / exp_sum, tl.where(score == float("-inf"), 0.0, score))
