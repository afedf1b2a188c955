"""The fused hop on the GPU, backward: see ``fused_cuda``, and ``problem`` for the formulas.

The same programs in the same grids walk the hops from the last to the first.

    begin   g_k, w_k = C^T g_k, g_k . T_C(t), g_k . c and sum_j p_j by_p_j
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

from memhop.ops.fused_cuda_gradients import write_gradients_of_rows
from memhop.ops.fused_cuda_plan import Plan, on_device_of, options, plan_of
from memhop.ops.fused_cuda_rows import (
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
    ages_at,
    as_given,
    look,
    of_table,
    places_of,
    product,
    rows_of_program,
    store_products,
    store_vectors,
    tile_of,
    vectors,
    weight_of,
)
from memhop.ops.problem import Gradients, Problem, Trace, Wanted


class Sought(NamedTuple):
    """What the steps find out, and what of the trace they need.

    Attributes:
        queries, read, aged, weights: of the trace.
        by_query: the gradient of q_{k+1} before ``begin``, of q_k after ``finish``, [B, D].
        by_read: w_k, [B, K, V].
        by_weights: G, or None.
        means: sum_i p_i G_i to begin with, or None, [B, K].
        mean, shift: sum_j p_j by_p_j; g . c where there is no softmax, else zero; [B].
        by_aged_weights: g . T_C(t), [B, T].
        part_masses, part_sums, part_older: of each part of a row's slots the sum of d, the
            weighted sum of keys, and the sum of d of the last place in a temporal table.
    """

    queries: Any
    read: Any
    aged: Any
    weights: Any
    by_query: Any
    by_read_out: Any
    by_read: Any
    by_keyed: Any
    by_mass: Any
    by_aged: Any
    by_scores: Any
    by_weights: Any
    means: Any
    mean: Any
    shift: Any
    by_aged_weights: Any
    part_masses: Any
    part_sums: Any
    part_older: Any
    parts: int
    part_slots: int
    width: int


def backward(
    problem: Problem, trace: Trace, by_result: Tensor, by_weights: Tensor | None, wanted: Wanted
) -> Gradients:
    """See ``problem``; the trace must hold the weights."""
    query, rows = problem.query, problem.query.shape[0]
    gradients = Gradients(
        by_query=torch.empty_like(query),
        by_read_out=torch.empty_like(trace.queries[:, 1:]),
        by_keyed=torch.empty_like(trace.keyed),
        by_mass=torch.empty_like(trace.mass),
        by_aged=None if trace.aged is None else torch.zeros_like(trace.aged),
        by_scores=new_like(trace.weights) if wanted.keys or wanted.scores else None,
        by_keys=new_like(problem.keys) if wanted.keys else None,
        by_values=new_like(problem.values) if wanted.values else None,
    )
    if rows == 0:
        for tensor in (gradients.by_keys, gradients.by_values):
            if tensor is not None:
                tensor.zero_()
        return without_scores(gradients, wanted)
    given, plan = as_given(problem), plan_of(problem)
    sought = sought_for(problem, trace, gradients, by_weights, plan)
    # What comes in is the gradient of the result: of q_K, or of r_0 where that is the result.
    (sought.by_query if problem.steps[0].carry else sought.by_read[:, 0]).copy_(by_result)
    with on_device_of(query):
        walk_back(given, sought, plan)
        write_gradients_of_rows(problem, trace, gradients, sought.by_read, plan.block)
    return without_scores(gradients, wanted)


def new_like(rows: Tensor | None) -> Tensor | None:
    """Room for a gradient, contiguous; None where there is nothing to have one."""
    return None if rows is None else torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)


def without_scores(gradients: Gradients, wanted: Wanted) -> Gradients:
    """The gradient of the scores serves that of the keys, and is given where asked for."""
    return gradients if wanted.scores else gradients._replace(by_scores=None)


def sought_for(
    problem: Problem, trace: Trace, gradients: Gradients, by_weights: Tensor | None, plan: Plan
) -> Sought:
    """Room for all that the steps find out."""
    new, rows, parts = problem.query.new_empty, problem.query.shape[0], plan.parts
    keys, ages = problem.keys.shape[-1], problem.num_ages
    given = None if by_weights is None else by_weights.contiguous()
    assert trace.weights is not None
    return Sought(
        queries=trace.queries,
        read=trace.read,
        aged=trace.aged,
        weights=trace.weights,
        by_query=gradients.by_query,
        by_read_out=gradients.by_read_out,
        by_read=torch.empty_like(trace.read),
        by_keyed=gradients.by_keyed,
        by_mass=gradients.by_mass,
        by_aged=gradients.by_aged,
        by_scores=gradients.by_scores,
        by_weights=given,
        means=None if given is None else (trace.weights * given).sum(-1),
        mean=new(rows),
        shift=new(rows),
        by_aged_weights=new(rows, ages) if ages else None,
        part_masses=new(rows, parts),
        part_sums=new(rows, parts, keys),
        part_older=new(rows, parts) if ages else None,
        parts=parts,
        part_slots=plan.part_slots,
        width=trace.read.shape[-1],
    )


def walk_back(given: Given, sought: Sought, plan: Plan) -> None:
    """All hops, in one launch or in two a hop."""
    block, rows = plan.block, given.rows
    if plan.parts == 1:
        grid = (triton.cdiv(rows, block.rows),)
        all_hops_backward[grid](given, sought, block, **options(block))
        return
    turn_back[(rows,)](given, sought, given.hops, block, **options(block))
    for hop in range(given.hops - 1, -1, -1):
        attend_part_backward[(rows, plan.parts)](given, sought, hop, block, **options(block))
        turn_back[(rows,)](given, sought, hop, block, **options(block))


@triton.jit
def all_hops_backward(given, sought, block: tl.constexpr):
    """Grid [rows / Block.rows]: every hop of some rows, the last one first."""
    for done in tl.range(0, given.hops, disable_licm=True):
        hop = given.hops - 1 - done
        begin(given, sought, hop, block)
        tl.debug_barrier()
        attend(given, sought, hop, 0, block)
        tl.debug_barrier()
        finish(given, sought, hop, block)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["hop"])
def attend_part_backward(given, sought, hop, block: tl.constexpr):
    """Grid [rows, parts]: one hop's pass over one part of the slots of a row."""
    attend(given, sought, hop, tl.program_id(1), block)


@triton.jit(do_not_specialize=["hop"])
def turn_back(given, sought, hop, block: tl.constexpr):
    """Grid [rows]: finishes a hop, but for that after the last, and begins the one before it."""
    if hop < given.hops:
        finish(given, sought, hop, block)
    tl.debug_barrier()
    if hop > 0:
        begin(given, sought, hop - 1, block)


@triton.jit
def begin(given, sought, hop, block: tl.constexpr):
    """g_k, w_k, g_k . T_C(t), g_k . c and sum_j p_j by_p_j."""
    row, live = rows_of_program(given, block)
    here, step = row * given.hops + hop, given.steps + hop * FIELDS
    softmax = tl.load(step + SOFTMAX) != 0
    shift = tl.zeros([block.rows], sought.queries.dtype.element_ty)
    if tl.load(step + CARRY) != 0:
        by_read_out = begin_update(given, sought, row, live, hop, block)
        bias, has_bias = weight_of(given, hop, C_BIAS)
        if has_bias & (softmax == 0):
            shift = tl.sum(
                by_read_out * vectors(bias, row * 0, given.memory_dim, block.query_columns), 1
            )
    tl.store(sought.shift + row, shift, mask=live)
    tl.debug_barrier()
    by_read = vectors(sought.by_read, here, sought.width, block.value_columns)
    mean = tl.sum(by_read * vectors(sought.read, here, sought.width, block.value_columns), 1)
    if sought.means is not None:
        mean += tl.load(sought.means + here)
    if given.ages is not None:
        count = tl.where(tl.load(step + C_TEMPORAL) >= 0, given.num_ages, 0)
        for start in range(0, count, block.terms):
            age = start + tl.arange(0, block.terms)
            inside = (age < count)[None, :]
            at = (here * given.num_ages)[:, None] + age[None, :]
            aged = tl.load(sought.aged + at, mask=inside, other=0.0)
            at = (row * given.num_ages)[:, None] + age[None, :]
            by_aged = tl.load(sought.by_aged_weights + at, mask=inside, other=0.0)
            mean += tl.sum(aged * by_aged, 1)
    tl.store(sought.mean + row, mean, mask=live)


@triton.jit
def begin_update(given, sought, row, live, hop, block: tl.constexpr):
    """g_k, which is returned, w_k and g_k . T_C(t)."""
    memory_dim, here = given.memory_dim, row * given.hops + hop
    by_read_out = vectors(sought.by_query, row, memory_dim, block.query_columns)
    if tl.load(given.steps + hop * FIELDS + RELU) != 0:
        following = row * (given.hops + 1) + hop + 1
        updated = vectors(sought.queries, following, memory_dim, block.query_columns)
        by_read_out = tl.where(updated > 0, by_read_out, 0.0)
    store_vectors(sought.by_read_out, here, live, memory_dim, by_read_out)
    tl.debug_barrier()
    factors, columns = sought.by_read_out + here * memory_dim, sought.width
    c, has_c = weight_of(given, hop, C)
    if has_c:
        by_read = product(
            c, columns, 1, factors, memory_dim, columns, block.terms, block.value_columns
        )
    else:
        by_read = vectors(sought.by_read_out, here, columns, block.value_columns)
    store_vectors(sought.by_read, here, live, columns, by_read)
    if given.ages is not None:
        table, has_table = weight_of(given, hop, C_TEMPORAL)
        into = sought.by_aged_weights + row * given.num_ages
        if has_table:
            store_products(table, factors, into, live, given, block)
    return by_read_out


@triton.jit
def attend(given, sought, hop, part, block: tl.constexpr):
    """One pass over one part of the slots: what the part finds, and d where it is kept."""
    row, live = rows_of_program(given, block)
    dtype: tl.constexpr = sought.queries.dtype.element_ty
    here = row * given.hops + hop
    softmax = tl.load(given.steps + hop * FIELDS + SOFTMAX) != 0
    by_read = vectors(sought.by_read, here, sought.width, block.value_columns)
    mean, shift = tl.load(sought.mean + row)[:, None], tl.load(sought.shift + row)[:, None]
    mass = tl.zeros([block.rows, block.slots], dtype)
    older = tl.zeros([block.rows, block.slots], dtype)
    sums = tl.zeros([block.rows, block.slots, block.key_columns], dtype)
    first = part * sought.part_slots
    last = tl.minimum(first + sought.part_slots, given.num_slots)
    for start in tl.range(first, last, block.slots, num_stages=block.stages):
        slot = start + tl.arange(0, block.slots)
        readable, _bias = look(given, row, hop, slot, last, dtype)
        place = places_of(given, row, slot, readable)
        keys = tile_of(given.keys, row, place, readable, block.key_columns, dtype)
        if given.value_rows is None:
            by_weight = tl.sum(keys * by_read[:, None, :], 2) + shift
        else:
            values = tile_of(given.value_rows, row, place, readable, block.value_columns, dtype)
            by_weight = tl.sum(values * by_read[:, None, :], 2) + shift
        at = (here * given.num_slots)[:, None] + slot[None, :]
        if sought.by_weights is not None:
            by_weight += tl.load(sought.by_weights + at, mask=readable, other=0.0)
        if given.ages is not None:
            age = ages_at(given, row, hop, slot, readable)
            by_aged = sought.by_aged_weights + (row * given.num_ages)[:, None] + age
            by_weight += of_table(given, hop, C_TEMPORAL, by_aged, readable)
        weight = tl.load(sought.weights + at, mask=readable, other=0.0)
        by_score = tl.where(softmax, weight * (by_weight - mean), by_weight)
        by_score = tl.where(readable, by_score, 0.0)
        if sought.by_scores is not None:
            inside = live[:, None] & (slot < last)[None, :]
            tl.store(sought.by_scores + at, by_score, mask=inside)
        mass += by_score
        sums += by_score[:, :, None] * keys
        if given.ages is not None:
            is_last = age == given.num_ages - 1
            older += tl.where(is_last, by_score, 0.0)
            into = sought.by_aged + (here * given.num_ages)[:, None] + age
            tl.store(into, by_score, mask=live[:, None] & readable & (age < given.num_ages - 1))
    at = row * sought.parts + part
    tl.store(sought.part_masses + at, tl.sum(mass, 1), mask=live)
    if given.ages is not None:
        tl.store(sought.part_older + at, tl.sum(older, 1), mask=live)
    store_vectors(sought.part_sums, at, live, given.keys.columns, tl.sum(sums, 1))


@triton.jit
def finish(given, sought, hop, block: tl.constexpr):
    """The parts of a hop added up, and dq_k."""
    row, live = rows_of_program(given, block)
    memory_dim, columns = given.memory_dim, given.keys.columns
    width: tl.constexpr = block.query_columns
    here = row * given.hops + hop
    mass, older, sums = added_up(sought, row, columns, block)
    tl.store(sought.by_mass + here, mass, mask=live)
    store_vectors(sought.by_keyed, here, live, columns, sums)
    if given.ages is not None:
        at = here * given.num_ages + given.num_ages - 1
        tl.store(sought.by_aged + at, older, mask=live)
    tl.debug_barrier()
    a, has_a = weight_of(given, hop, A)
    if has_a:
        factors = sought.by_keyed + here * columns
        by_query = product(a, 1, columns, factors, columns, memory_dim, block.terms, width)
    else:
        by_query = vectors(sought.by_keyed, here, columns, width)
    bias, has_bias = weight_of(given, hop, A_BIAS)
    if has_bias & (tl.load(given.steps + hop * FIELDS + SOFTMAX) == 0):
        by_query += mass[:, None] * vectors(bias, row * 0, memory_dim, width)
    if given.ages is not None:
        table, has_table = weight_of(given, hop, A_TEMPORAL)
        if has_table:
            aged = sought.by_aged + here * given.num_ages
            by_query += product(
                table, memory_dim, 1, aged, given.num_ages, memory_dim, block.terms, width
            )
    transform, has_transform = weight_of(given, hop, TRANSFORM)
    if has_transform:
        factors = sought.by_read_out + here * memory_dim
        by_query += product(
            transform, memory_dim, 1, factors, memory_dim, memory_dim, block.terms, width
        )
    elif tl.load(given.steps + hop * FIELDS + CARRY) != 0:
        by_query += vectors(sought.by_read_out, here, memory_dim, width)
    store_vectors(sought.by_query, row, live, memory_dim, by_query)


@triton.jit
def added_up(sought, row, columns, block: tl.constexpr):
    """The sum of d, that of the oldest, and sum_i d_i m_i [rows, columns], of all parts."""
    dtype: tl.constexpr = sought.queries.dtype.element_ty
    mass = tl.zeros([block.rows], dtype)
    older = tl.zeros([block.rows], dtype)
    sums = tl.zeros([block.rows, block.parts, block.key_columns], dtype)
    column = tl.arange(0, block.key_columns)
    for start in range(0, sought.parts, block.parts):
        part = start + tl.arange(0, block.parts)
        at = (row * sought.parts)[:, None] + part[None, :]
        inside = (part < sought.parts)[None, :]
        mass += tl.sum(tl.load(sought.part_masses + at, mask=inside, other=0.0), 1)
        if sought.part_older is not None:
            older += tl.sum(tl.load(sought.part_older + at, mask=inside, other=0.0), 1)
        inside = inside[:, :, None] & (column < columns)[None, None, :]
        at = (at * columns)[:, :, None] + column[None, None, :]
        sums += tl.load(sought.part_sums + at, mask=inside, other=0.0)
    return mass, older, tl.sum(sums, 1)
