"""The fused hop on the GPU, backward: see ``fused_cuda``, and ``problem`` for the formulas.

The same programs in the same grids walk the hops from the last to the first.

    begin   g_k, w_k = C^T g_k, g_k . T_C(t), g_k . c and sum_j p_j grad_p_j
    attend  d_i, and of one part of the slots sum_i d_i and sum_i d_i m_i
    finish  the parts added up: du_k, the sums for the temporal tables, dq_k

Then ``fused_cuda_gradients`` writes the gradient of what the slots hold.
"""

# mypy: disable-error-code="import-untyped, import-not-found, no-untyped-def"
# mypy: disallow-untyped-decorators=False

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from memhop.ops.cuda.memory_grad import write_gradients_of_rows
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
from memhop.ops.cuda.tiling import Block, Plan, on_device_of, options, plan_of
from memhop.ops.fused.problem import Gradients, Problem, Trace, Wanted


class BackwardBuffers(NamedTuple):
    """What the steps find out, and what of the trace they need.

    Attributes:
        queries, read, aged, weights: of the trace.
        grad_query: the gradient of q_{k+1} before ``begin``, of q_k after ``finish``, [B, D].
        grad_read: w_k, [B, K, V].
        grad_weights: G, or None.
        means: sum_i p_i G_i to begin with, or None, [B, K].
        mean, shift: sum_j p_j grad_p_j; g . c where there is no softmax, else zero; [B].
        grad_aged_weights: g . T_C(t), [B, T].
        part_weight_sums, part_sums, part_older: of each part of a row's slots the sum of d, the
            weighted sum of keys, and the sum of d of the last place in a temporal table.
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
    means: Any
    mean: Any
    shift: Any
    grad_aged_weights: Any
    part_weight_sums: Any
    part_sums: Any
    part_older: Any


def backward(
    problem: Problem, trace: Trace, grad_result: Tensor, grad_weights: Tensor | None, wanted: Wanted
) -> Gradients:
    """See ``problem``; the trace must hold the weights."""
    query, rows = problem.query, problem.query.shape[0]
    gradients = Gradients(
        grad_query=torch.empty_like(query),
        grad_out=torch.empty_like(trace.queries[:, 1:]),
        grad_u=torch.empty_like(trace.projected_query),
        grad_weight_sum=torch.empty_like(trace.weight_sum),
        grad_aged=None if trace.aged is None else torch.zeros_like(trace.aged),
        grad_scores=new_like(trace.weights) if wanted.keys or wanted.scores else None,
        grad_keys=new_like(problem.keys) if wanted.keys else None,
        grad_values=new_like(problem.values) if wanted.values else None,
    )
    if rows == 0:
        for tensor in (gradients.grad_keys, gradients.grad_values):
            if tensor is not None:
                tensor.zero_()
        return without_scores(gradients, wanted)
    plan = plan_of(problem)
    given, layout = laid_out(problem, plan)
    sought = sought_for(problem, trace, gradients, grad_weights, plan)
    # What comes in is the gradient of the result: of q_K, or of r_0 where that is the result.
    (sought.grad_query if problem.steps[0].carry else sought.grad_read[:, 0]).copy_(grad_result)
    with on_device_of(query):
        walk_back(given, layout, sought, plan.block)
        write_gradients_of_rows(problem, trace, gradients, sought.grad_read, plan.block)
    return without_scores(gradients, wanted)


def new_like(rows: Tensor | None) -> Tensor | None:
    """Space for a gradient, contiguous; None where there is nothing to have one."""
    return None if rows is None else torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)


def without_scores(gradients: Gradients, wanted: Wanted) -> Gradients:
    """The gradient of the scores serves that of the keys, and is given where asked for."""
    return gradients if wanted.scores else gradients._replace(grad_scores=None)


def sought_for(
    problem: Problem, trace: Trace, gradients: Gradients, grad_weights: Tensor | None, plan: Plan
) -> BackwardBuffers:
    """Space for all that the steps find out."""
    new, rows, parts = problem.query.new_empty, problem.query.shape[0], plan.parts
    keys, ages = problem.keys.shape[-1], problem.num_ages
    given = None if grad_weights is None else grad_weights.contiguous()
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
        grad_weights=given,
        means=None if given is None else means_of(trace.weights, given),
        mean=new(rows),
        shift=new(rows),
        grad_aged_weights=new(rows, ages) if ages else None,
        part_weight_sums=new(rows, parts),
        part_sums=new(rows, parts, keys),
        part_older=new(rows, parts) if ages else None,
    )


def means_of(weights: Tensor, grad_weights: Tensor) -> Tensor:
    """Return sum_i p_i G_i; where p is 0, as at an ignored slot, an infinite G adds nothing."""
    return torch.where(weights == 0, 0.0, weights * grad_weights).sum(-1)


def walk_back(given: Given, layout: Layout, sought: BackwardBuffers, block: Block) -> None:
    """All hops, in one launch or in two a hop."""
    programs, launch = triton.cdiv(layout.rows, block.rows), options(block)
    if given.counts is not None:
        count_readable[(programs, layout.parts)](given, layout, block, **launch)
    if layout.parts == 1:
        all_hops_backward[(programs,)](given, layout, sought, block, **launch)
        return
    turn_back[(programs,)](given, layout, sought, layout.hops, block, **launch)
    for hop in range(layout.hops - 1, -1, -1):
        attend_part_backward[(programs, layout.parts)](given, layout, sought, hop, block, **launch)
        turn_back[(programs,)](given, layout, sought, hop, block, **launch)


@triton.jit(do_not_specialize=["layout"])
def all_hops_backward(given, layout, sought, block: tl.constexpr):
    """Grid [rows / Block.rows]: every hop of some rows, the last one first."""
    for done in tl.range(0, layout.hops, disable_licm=True):
        hop = layout.hops - 1 - done
        begin(given, layout, sought, hop, block)
        tl.debug_barrier()
        attend(given, layout, sought, hop, 0, block)
        tl.debug_barrier()
        finish(given, layout, sought, hop, block)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["layout", "hop"])
def attend_part_backward(given, layout, sought, hop, block: tl.constexpr):
    """Grid [rows / Block.rows, parts]: one hop's pass over one part of the slots of some rows."""
    attend(given, layout, sought, hop, tl.program_id(1), block)


@triton.jit(do_not_specialize=["layout", "hop"])
def turn_back(given, layout, sought, hop, block: tl.constexpr):
    """Grid [rows / Block.rows]: finishes a hop, but for the K-th, begins the one before."""
    if hop < layout.hops:
        finish(given, layout, sought, hop, block)
    tl.debug_barrier()
    if hop > 0:
        begin(given, layout, sought, hop - 1, block)


@triton.jit
def begin(given, layout, sought, hop, block: tl.constexpr):
    """g_k, w_k, g_k . T_C(t), g_k . c and sum_j p_j grad_p_j."""
    row, live = rows_of_program(layout, block)
    here, step = row * layout.hops + hop, given.steps + hop * FIELDS
    softmax = tl.load(step + SOFTMAX) != 0
    shift = tl.full([block.rows], 0.0, sought.queries.dtype.element_ty)
    if tl.load(step + CARRY) != 0:
        grad_out = begin_update(given, layout, sought, row, live, hop, block)
        bias, has_bias = weight_of(given, hop, C_BIAS, block)
        if has_bias & (softmax == 0):
            memory_dim = layout.query_columns * block.unit
            shift = tl.sum(grad_out * vectors(bias, row * 0, memory_dim, block.query_width), 1)
    tl.store(sought.shift + row, shift, mask=live)
    tl.debug_barrier()
    columns = layout.value_columns * block.unit
    grad_read = vectors(sought.grad_read, here, columns, block.value_width)
    mean = tl.sum(grad_read * vectors(sought.read, here, columns, block.value_width), 1)
    if sought.means is not None:
        mean += tl.load(sought.means + here)
    if given.counts is not None:
        count = tl.where(tl.load(step + C_TEMPORAL) >= 0, layout.ages, 0)
        for start in range(0, count, block.terms):
            age = start + tl.arange(0, block.terms)
            inside = (age < count)[None, :]
            at = (here * layout.ages)[:, None] + age[None, :]
            aged = tl.load(sought.aged + at, mask=inside, other=0.0)
            at = (row * layout.ages)[:, None] + age[None, :]
            grad_aged = tl.load(sought.grad_aged_weights + at, mask=inside, other=0.0)
            mean += tl.sum(aged * grad_aged, 1)
    tl.store(sought.mean + row, mean, mask=live)


@triton.jit
def begin_update(given, layout, sought, row, live, hop, block: tl.constexpr):
    """g_k, which is returned, w_k and g_k . T_C(t)."""
    memory_dim, here = layout.query_columns * block.unit, row * layout.hops + hop
    grad_out = vectors(sought.grad_query, row, memory_dim, block.query_width)
    if tl.load(given.steps + hop * FIELDS + RELU) != 0:
        following = row * (layout.hops + 1) + hop + 1
        updated = vectors(sought.queries, following, memory_dim, block.query_width)
        grad_out = tl.where(updated <= 0, 0.0, grad_out)  # as torch does for NaN
    store_vectors(sought.grad_out, here, live, memory_dim, grad_out)
    tl.debug_barrier()
    factors, columns = sought.grad_out + here * memory_dim, layout.value_columns * block.unit
    c, has_c = weight_of(given, hop, C, block)
    if has_c:
        grad_read = product(c, columns, 1, factors, memory_dim, columns, block, block.value_width)
    else:
        grad_read = vectors(sought.grad_out, here, columns, block.value_width)
    store_vectors(sought.grad_read, here, live, columns, grad_read)
    if given.counts is not None:
        table, has_table = weight_of(given, hop, C_TEMPORAL, block)
        into = sought.grad_aged_weights + row * layout.ages
        if has_table:
            store_products(table, factors, into, live, layout, block)
    return grad_out


@triton.jit
def attend(given, layout, sought, hop, part, block: tl.constexpr):
    """One pass over one part of the slots: what the part finds, and d where it is kept."""
    row, live = rows_of_program(layout, block)
    dtype: tl.constexpr = sought.queries.dtype.element_ty
    here = row * layout.hops + hop
    softmax = tl.load(given.steps + hop * FIELDS + SOFTMAX) != 0
    grad_read = vectors(
        sought.grad_read, here, layout.value_columns * block.unit, block.value_width
    )
    mean, shift = tl.load(sought.mean + row)[:, None], tl.load(sought.shift + row)[:, None]
    weight_sum = tl.full([block.rows, block.slots], 0.0, dtype)
    older = tl.full([block.rows, block.slots], 0.0, dtype)
    sums = tl.full([block.rows, block.slots, block.key_width], 0.0, dtype)
    first = part * layout.part_slots
    last = tl.minimum(first + layout.part_slots, layout.slots)
    left = readable_from(given, layout, row, hop, part, block)
    for start in tl.range(first, last, block.slots, num_stages=block.stages):
        slot = start + tl.arange(0, block.slots)
        readable, _bias = load_mask(given, layout, row, hop, slot, last, block)
        place = places_of(given, layout, row, slot, readable)
        keys = keys_at(given, layout, row, place, readable, block)
        if given.value_rows is None:
            grad_weight = tl.sum(keys * grad_read[:, None, :], 2) + shift
        else:
            values = values_at(given, layout, row, place, readable, block)
            grad_weight = tl.sum(values * grad_read[:, None, :], 2) + shift
        at = (here * layout.slots)[:, None] + slot[None, :]
        if sought.grad_weights is not None:
            grad_weight += tl.load(sought.grad_weights + at, mask=readable, other=0.0)
        if given.counts is not None:
            age, left = ages_at(layout, left, readable)
            grad_aged = sought.grad_aged_weights + (row * layout.ages)[:, None] + age
            grad_weight += of_table(given, hop, C_TEMPORAL, grad_aged, readable)
        weight = tl.load(sought.weights + at, mask=readable, other=0.0)
        grad_score = tl.where(softmax, weight * (grad_weight - mean), grad_weight)
        grad_score = tl.where(readable, grad_score, 0.0)
        if sought.grad_scores is not None:
            inside = live[:, None] & (slot < last)[None, :]
            tl.store(sought.grad_scores + at, grad_score, mask=inside)
        weight_sum += grad_score
        sums += grad_score[:, :, None] * keys
        if given.counts is not None:
            is_last = age == layout.ages - 1
            older += tl.where(is_last, grad_score, 0.0)
            into = sought.grad_aged + (here * layout.ages)[:, None] + age
            tl.store(into, grad_score, mask=live[:, None] & readable & (age < layout.ages - 1))
    at = row * layout.parts + part
    tl.store(sought.part_weight_sums + at, tl.sum(weight_sum, 1), mask=live)
    if given.counts is not None:
        tl.store(sought.part_older + at, tl.sum(older, 1), mask=live)
    columns = layout.key_columns * block.unit
    store_vectors(sought.part_sums, at, live, columns, tl.sum(sums, 1))


@triton.jit
def finish(given, layout, sought, hop, block: tl.constexpr):
    """The parts of a hop added up, and dq_k."""
    row, live = rows_of_program(layout, block)
    memory_dim, columns = layout.query_columns * block.unit, layout.key_columns * block.unit
    width: tl.constexpr = block.query_width
    here = row * layout.hops + hop
    weight_sum, older, sums = added_up(layout, sought, row, block)
    tl.store(sought.grad_weight_sum + here, weight_sum, mask=live)
    store_vectors(sought.grad_u, here, live, columns, sums)
    if given.counts is not None:
        at = here * layout.ages + layout.ages - 1
        tl.store(sought.grad_aged + at, older, mask=live)
    tl.debug_barrier()
    a, has_a = weight_of(given, hop, A, block)
    if has_a:
        factors = sought.grad_u + here * columns
        grad_query = product(a, 1, columns, factors, columns, memory_dim, block, width)
    else:
        grad_query = vectors(sought.grad_u, here, columns, width)
    bias, has_bias = weight_of(given, hop, A_BIAS, block)
    if has_bias & (tl.load(given.steps + hop * FIELDS + SOFTMAX) == 0):
        grad_query += weight_sum[:, None] * vectors(bias, row * 0, memory_dim, width)
    if given.counts is not None:
        table, has_table = weight_of(given, hop, A_TEMPORAL, block)
        if has_table:
            aged = sought.grad_aged + here * layout.ages
            grad_query += product(table, memory_dim, 1, aged, layout.ages, memory_dim, block, width)
    transform, has_transform = weight_of(given, hop, TRANSFORM, block)
    if has_transform:
        factors = sought.grad_out + here * memory_dim
        grad_query += product(
            transform, memory_dim, 1, factors, memory_dim, memory_dim, block, width
        )
    elif tl.load(given.steps + hop * FIELDS + CARRY) != 0:
        grad_query += vectors(sought.grad_out, here, memory_dim, width)
    store_vectors(sought.grad_query, row, live, memory_dim, grad_query)


@triton.jit
def added_up(layout, sought, row, block: tl.constexpr):
    """The sum of d, that of the oldest, and sum_i d_i m_i [rows, columns], of all parts."""
    dtype: tl.constexpr = sought.queries.dtype.element_ty
    weight_sum = tl.full([block.rows], 0.0, dtype)
    older = tl.full([block.rows], 0.0, dtype)
    sums = tl.full([block.rows, block.parts, block.key_width], 0.0, dtype)
    column, columns = tl.arange(0, block.key_width), layout.key_columns * block.unit
    for start in range(0, layout.parts, block.parts):
        part = start + tl.arange(0, block.parts)
        at = (row * layout.parts)[:, None] + part[None, :]
        inside = (part < layout.parts)[None, :]
        weight_sum += tl.sum(tl.load(sought.part_weight_sums + at, mask=inside, other=0.0), 1)
        if sought.part_older is not None:
            older += tl.sum(tl.load(sought.part_older + at, mask=inside, other=0.0), 1)
        inside = inside[:, :, None] & (column < columns)[None, None, :]
        at = (at * columns)[:, :, None] + column[None, None, :]
        sums += tl.load(sought.part_sums + at, mask=inside, other=0.0)
    return weight_sum, older, tl.sum(sums, 1)
