"""The backward pass of the fused form on the GPU; ``memhop.ops.fused.problem`` has the formulas.

The grids are those of ``forward``; the hops run from the last to the first, in these stages:

    begin   g_k, w_k = C^T g_k, g_k . T_C(t), g_k . c and sum_j p_j grad_p_j
    attend  d_i, and over one split of the slots sum_i d_i and sum_i d_i m_i
    finish  add up the splits: du_k, the sums for the temporal tables, dq_k

Then ``memory_grad`` writes the gradients of the stored rows.
"""

# mypy: disable-error-code="import-untyped, import-not-found, no-untyped-def"
# mypy: disallow-untyped-decorators=False

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from memhop.ops.cpu import huge_pages
from memhop.ops.cuda.memory_grad import write_gradients_of_rows
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
from memhop.ops.cuda.tiling import Plan, TileConfig, launch_options, on_device_of, plan_of
from memhop.ops.fused.problem import Gradients, Problem, Trace, Wanted, empty_gradients


class BackwardBuffers(NamedTuple):
    """Gradients, the parts of the trace they depend on, and intermediate results.

    Attributes:
        queries, read, aged, weights: of the trace.
        grad_query: the gradient of q_{k+1} before ``begin``, of q_k after ``finish``, [B, D].
        grad_read: w_k, [B, K, V].
        grad_weights: G, or None.
        weight_grad_means: sum_i p_i G_i, less the gradient of log sum_i exp(s_i), or None, [B, K].
        grad_mean: sum_j p_j grad_p_j, [B].
        bias_grad: g . c without a softmax, else 0, [B].
        temporal_grads: g . T_C(t), [B, T].
        split_weight_sum, split_oldest: of each split, the sum of d, and the part of it that has
            the greatest age, [B, splits].
        split_sums: sum_i d_i m_i, [B, splits, I].
    """

    queries: Any
    read: Any
    aged: Any
    weights: Any
    grad_query: Any
    grad_out: Any
    grad_read: Any
    grad_u: Any
    grad_weight_sum: Any
    grad_aged: Any
    grad_scores: Any
    grad_weights: Any
    weight_grad_means: Any
    grad_mean: Any
    bias_grad: Any
    temporal_grads: Any
    split_weight_sum: Any
    split_sums: Any
    split_oldest: Any


def backward(
    problem: Problem,
    trace: Trace,
    grad_result: Tensor,
    grad_weights: Tensor | None,
    wanted: Wanted,
    grad_lse: Tensor | None = None,
) -> Gradients:
    """Run all hops backward; see ``problem``. The trace must hold the weights."""
    query, rows = problem.query, problem.query.shape[0]
    needs_scores = wanted.keys or wanted.scores
    new_rows = huge_pages.empty_like if rows else huge_pages.zeros_like
    gradients = empty_gradients(problem, grad_result, wanted, needs_scores, new_rows)
    kept = gradients if wanted.scores else gradients._replace(grad_scores=None)
    if rows == 0:
        return kept
    if gradients.grad_aged is not None:
        gradients.grad_aged.zero_()
    plan = plan_of(problem)
    inputs, layout = kernel_inputs(problem, plan)
    buffers = empty_buffers(problem, trace, gradients, grad_weights, grad_lse, plan)
    if not problem.steps[0].carry:
        buffers.grad_read[:, 0] = grad_result
    with on_device_of(query):
        launch_hops_backward(inputs, layout, buffers, plan.config)
        write_gradients_of_rows(problem, trace, gradients, buffers.grad_read, plan.config)
    return kept


def empty_buffers(
    problem: Problem,
    trace: Trace,
    gradients: Gradients,
    grad_weights: Tensor | None,
    grad_lse: Tensor | None,
    plan: Plan,
) -> BackwardBuffers:
    """Allocate the intermediate results."""
    new, rows, num_splits = problem.query.new_empty, problem.query.shape[0], plan.num_splits
    keys, ages = problem.keys.shape[-1], problem.num_ages
    grad_weights = None if grad_weights is None else grad_weights.contiguous()
    assert trace.weights is not None
    return BackwardBuffers(
        queries=trace.queries,
        read=trace.read,
        aged=trace.aged,
        weights=trace.weights,
        grad_query=gradients.grad_query,
        grad_out=gradients.grad_out,
        grad_read=torch.empty_like(trace.read),
        grad_u=gradients.grad_u,
        grad_weight_sum=gradients.grad_weight_sum,
        grad_aged=gradients.grad_aged,
        grad_scores=gradients.grad_scores,
        grad_weights=grad_weights,
        weight_grad_means=mean_weight_grads(trace.weights, grad_weights, grad_lse),
        grad_mean=new(rows),
        bias_grad=new(rows),
        temporal_grads=new(rows, ages) if ages else None,
        split_weight_sum=new(rows, num_splits),
        split_sums=new(rows, num_splits, keys),
        split_oldest=new(rows, num_splits) if ages else None,
    )


def mean_weight_grads(
    weights: Tensor, grad_weights: Tensor | None, grad_lse: Tensor | None
) -> Tensor | None:
    """Return sum_i p_i G_i, less the gradient of log sum_i exp(s_i), or None without both.

    An infinite G adds nothing where p is 0, as at ignored slots.
    """
    of_lse = None if grad_lse is None else -grad_lse.unsqueeze(-1)
    if grad_weights is None:
        return of_lse
    means = torch.where(weights == 0, 0.0, weights * grad_weights).sum(-1)
    return means if of_lse is None else means + of_lse


def launch_hops_backward(
    inputs: KernelInputs, layout: Layout, buffers: BackwardBuffers, config: TileConfig
) -> None:
    """Run all hops, in one launch or in two per hop."""
    programs, options = triton.cdiv(layout.rows, config.rows), launch_options(config)
    arguments = inputs, layout, buffers
    if inputs.counts is not None:
        count_readable[(programs, layout.num_splits)](inputs, layout, config, **options)
    if layout.num_splits == 1:
        all_hops_backward[(programs,)](*arguments, config, **options)
        return
    finish_and_begin_backward[(programs,)](*arguments, layout.hops, config, **options)
    for hop in range(layout.hops - 1, -1, -1):
        attend_split_backward[(programs, layout.num_splits)](*arguments, hop, config, **options)
        finish_and_begin_backward[(programs,)](*arguments, hop, config, **options)


@triton.jit(do_not_specialize=["layout"])
def all_hops_backward(inputs, layout, buffers, config: tl.constexpr):
    """Grid [rows / config.rows]: all hops of some rows, from the last."""
    for done in tl.range(0, layout.hops, disable_licm=True):
        hop = layout.hops - 1 - done
        begin(inputs, layout, buffers, hop, config)
        tl.debug_barrier()
        attend(inputs, layout, buffers, hop, 0, config)
        tl.debug_barrier()
        finish(inputs, layout, buffers, hop, config)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["layout", "hop"])
def attend_split_backward(inputs, layout, buffers, hop, config: tl.constexpr):
    """Grid [rows / config.rows, splits]: a hop over one split of the slots of some rows."""
    attend(inputs, layout, buffers, hop, tl.program_id(1), config)


@triton.jit(do_not_specialize=["layout", "hop"])
def finish_and_begin_backward(inputs, layout, buffers, hop, config: tl.constexpr):
    """Grid [rows / config.rows]: finish a hop, except K, and begin the one before."""
    if hop < layout.hops:
        finish(inputs, layout, buffers, hop, config)
    tl.debug_barrier()
    if hop > 0:
        begin(inputs, layout, buffers, hop - 1, config)


@triton.jit
def begin(inputs, layout, buffers, hop, config: tl.constexpr):
    """Compute g_k, w_k, g_k . T_C(t), g_k . c and sum_j p_j grad_p_j."""
    row, row_mask = program_rows(layout, config)
    row_hop, softmax = row * layout.hops + hop, has_option(inputs, hop, SOFTMAX)
    bias_grad = tl.full([config.rows], 0.0, buffers.queries.dtype.element_ty)
    if has_option(inputs, hop, CARRY):
        grad_out = begin_update(inputs, layout, buffers, row, row_mask, hop, config)
        bias, has_bias = weight_pointer(inputs, hop, C_BIAS, config)
        if has_bias & (softmax == 0):
            memory_dim = layout.query_columns * config.unit
            c_bias = load_vectors(bias, row * 0, memory_dim, config.query_width)
            bias_grad = tl.sum(grad_out * c_bias, 1)
    tl.store(buffers.bias_grad + row, bias_grad, mask=row_mask)
    tl.debug_barrier()
    columns = layout.value_rows.columns * config.unit
    grad_read = load_vectors(buffers.grad_read, row_hop, columns, config.value_width)
    read = load_vectors(buffers.read, row_hop, columns, config.value_width)
    grad_mean = tl.sum(grad_read * read, 1)
    if buffers.weight_grad_means is not None:
        grad_mean += tl.load(buffers.weight_grad_means + row_hop)
    if inputs.counts is not None:
        _table, has_table = weight_pointer(inputs, hop, C_TEMPORAL, config)
        count = tl.where(has_table, layout.ages, 0)
        for start in range(0, count, config.terms):
            age = start + tl.arange(0, config.terms)
            mask = (age < count)[None, :]
            offset = (row_hop * layout.ages)[:, None] + age[None, :]
            aged = tl.load(buffers.aged + offset, mask=mask, other=0.0)
            offset = (row * layout.ages)[:, None] + age[None, :]
            grad_aged = tl.load(buffers.temporal_grads + offset, mask=mask, other=0.0)
            grad_mean += tl.sum(aged * grad_aged, 1)
    tl.store(buffers.grad_mean + row, grad_mean, mask=row_mask)


@triton.jit
def begin_update(inputs, layout, buffers, row, row_mask, hop, config: tl.constexpr):
    """Compute w_k and g_k . T_C(t); return g_k."""
    memory_dim, row_hop = layout.query_columns * config.unit, row * layout.hops + hop
    grad_out = load_vectors(buffers.grad_query, row, memory_dim, config.query_width)
    if has_option(inputs, hop, RELU):
        following = row * (layout.hops + 1) + hop + 1
        updated = load_vectors(buffers.queries, following, memory_dim, config.query_width)
        is_zero = has_relu(inputs, layout, hop, config) & (updated <= 0)
        grad_out = tl.where(is_zero, 0.0, grad_out)  # a NaN passes its gradient, as in torch
    store_vectors(buffers.grad_out, row_hop, row_mask, memory_dim, grad_out)
    tl.debug_barrier()
    factors = buffers.grad_out + row_hop * memory_dim
    columns = layout.value_rows.columns * config.unit
    c, has_c = weight_pointer(inputs, hop, C, config)
    if has_c:
        grad_read = matvec(c, columns, 1, factors, memory_dim, columns, config, config.value_width)
    else:
        grad_read = load_vectors(buffers.grad_out, row_hop, columns, config.value_width)
    store_vectors(buffers.grad_read, row_hop, row_mask, columns, grad_read)
    if inputs.counts is not None:
        table, has_table = weight_pointer(inputs, hop, C_TEMPORAL, config)
        into = buffers.temporal_grads + row * layout.ages
        if has_table:
            store_table_products(table, factors, into, row_mask, layout, config)
    return grad_out


@triton.jit
def attend(inputs, layout, buffers, hop, split, config: tl.constexpr):
    """Compute d over one split of the slots, and its sums; store d if it is needed."""
    row, row_mask = program_rows(layout, config)
    dtype: tl.constexpr = buffers.queries.dtype.element_ty
    row_hop = row * layout.hops + hop
    softmax = has_option(inputs, hop, SOFTMAX)
    columns = layout.value_rows.columns * config.unit
    grad_read = load_vectors(buffers.grad_read, row_hop, columns, config.value_width)
    grad_mean = tl.load(buffers.grad_mean + row)[:, None]
    bias_grad = tl.load(buffers.bias_grad + row)[:, None]
    weight_sum = tl.full([config.rows, config.slots], 0.0, dtype)
    oldest = tl.full([config.rows, config.slots], 0.0, dtype)
    sums = tl.full([config.rows, config.slots, config.key_width], 0.0, dtype)
    first = split * layout.split_slots
    last = tl.minimum(first + layout.split_slots, layout.slots)
    left = readable_from(inputs, layout, row, hop, split, config)
    for start in tl.range(first, last, config.slots, num_stages=config.num_stages):
        slot = start + tl.arange(0, config.slots)
        readable, _bias = load_mask(inputs, layout, row, hop, slot, last, config)
        index = memory_rows(inputs, layout, row, slot, readable)
        keys = load_keys(inputs, layout, row, index, readable, config)
        if inputs.value_rows is None:
            grad_weight = tl.sum(keys * grad_read[:, None, :], 2) + bias_grad
        else:
            values = load_values(inputs, layout, row, index, readable, config)
            grad_weight = tl.sum(values * grad_read[:, None, :], 2) + bias_grad
        offset = (row_hop * layout.slots)[:, None] + slot[None, :]
        if buffers.grad_weights is not None:
            grad_weight += tl.load(buffers.grad_weights + offset, mask=readable, other=0.0)
        if inputs.counts is not None:
            age, left = ages_at(layout, left, readable)
            grad_aged = buffers.temporal_grads + (row * layout.ages)[:, None] + age
            grad_weight += load_table_products(inputs, hop, C_TEMPORAL, grad_aged, readable)
        weight = tl.load(buffers.weights + offset, mask=readable, other=0.0)
        grad_score = tl.where(softmax, weight * (grad_weight - grad_mean), grad_weight)
        grad_score = tl.where(readable, grad_score, 0.0)
        if buffers.grad_scores is not None:
            mask = row_mask[:, None] & (slot < last)[None, :]
            tl.store(buffers.grad_scores + offset, grad_score, mask=mask)
        weight_sum += grad_score
        sums += grad_score[:, :, None] * keys
        if inputs.counts is not None:
            is_last = age == layout.ages - 1
            oldest += tl.where(is_last, grad_score, 0.0)
            into = buffers.grad_aged + (row_hop * layout.ages)[:, None] + age
            tl.store(into, grad_score, mask=row_mask[:, None] & readable & (age < layout.ages - 1))
    offset = row * layout.num_splits + split
    tl.store(buffers.split_weight_sum + offset, tl.sum(weight_sum, 1), mask=row_mask)
    if inputs.counts is not None:
        tl.store(buffers.split_oldest + offset, tl.sum(oldest, 1), mask=row_mask)
    columns = layout.keys.columns * config.unit
    store_vectors(buffers.split_sums, offset, row_mask, columns, tl.sum(sums, 1))


@triton.jit
def finish(inputs, layout, buffers, hop, config: tl.constexpr):
    """Add up the splits of a hop, and compute dq_k."""
    row, row_mask = program_rows(layout, config)
    memory_dim, columns = layout.query_columns * config.unit, layout.keys.columns * config.unit
    width: tl.constexpr = config.query_width
    row_hop = row * layout.hops + hop
    weight_sum, oldest, sums = add_splits(layout, buffers, row, config)
    tl.store(buffers.grad_weight_sum + row_hop, weight_sum, mask=row_mask)
    store_vectors(buffers.grad_u, row_hop, row_mask, columns, sums)
    if inputs.counts is not None:
        offset = row_hop * layout.ages + layout.ages - 1
        tl.store(buffers.grad_aged + offset, oldest, mask=row_mask)
    tl.debug_barrier()
    a, has_a = weight_pointer(inputs, hop, A, config)
    if has_a:
        factors = buffers.grad_u + row_hop * columns
        grad_query = matvec(a, 1, columns, factors, columns, memory_dim, config, width)
    else:
        grad_query = load_vectors(buffers.grad_u, row_hop, columns, width)
    bias, has_bias = weight_pointer(inputs, hop, A_BIAS, config)
    if has_bias & (has_option(inputs, hop, SOFTMAX) == 0):
        grad_query += weight_sum[:, None] * load_vectors(bias, row * 0, memory_dim, width)
    if inputs.counts is not None:
        table, has_table = weight_pointer(inputs, hop, A_TEMPORAL, config)
        if has_table:
            aged = buffers.grad_aged + row_hop * layout.ages
            grad_query += matvec(table, memory_dim, 1, aged, layout.ages, memory_dim, config, width)
    transform, has_transform = weight_pointer(inputs, hop, TRANSFORM, config)
    if has_transform:
        factors = buffers.grad_out + row_hop * memory_dim
        grad_query += matvec(
            transform, memory_dim, 1, factors, memory_dim, memory_dim, config, width
        )
    elif has_option(inputs, hop, CARRY):
        grad_query += load_vectors(buffers.grad_out, row_hop, memory_dim, width)
    store_vectors(buffers.grad_query, row, row_mask, memory_dim, grad_query)


@triton.jit
def add_splits(layout, buffers, row, config: tl.constexpr):
    """Return the sum of d, its oldest part, and sum_i d_i m_i [rows, columns], of all splits."""
    dtype: tl.constexpr = buffers.queries.dtype.element_ty
    weight_sum = tl.full([config.rows], 0.0, dtype)
    oldest = tl.full([config.rows], 0.0, dtype)
    sums = tl.full([config.rows, config.splits, config.key_width], 0.0, dtype)
    column, columns = tl.arange(0, config.key_width), layout.keys.columns * config.unit
    for start in range(0, layout.num_splits, config.splits):
        split = start + tl.arange(0, config.splits)
        offset = (row * layout.num_splits)[:, None] + split[None, :]
        mask = (split < layout.num_splits)[None, :]
        weight_sum += tl.sum(tl.load(buffers.split_weight_sum + offset, mask=mask, other=0.0), 1)
        if buffers.split_oldest is not None:
            oldest += tl.sum(tl.load(buffers.split_oldest + offset, mask=mask, other=0.0), 1)
        mask = mask[:, :, None] & (column < columns)[None, None, :]
        offset = (offset * columns)[:, :, None] + column[None, None, :]
        sums += tl.load(buffers.split_sums + offset, mask=mask, other=0.0)
    return weight_sum, oldest, tl.sum(sums, 1)
