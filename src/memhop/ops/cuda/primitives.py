"""What the fused hop on the GPU stands on: the problem as kernels take it, products, slots.

A program works for ``Block.rows`` rows of the batch, next to each other: one where a memory is
large, a few where it is small, so that what it reads of the weights serves them all. Its tiles are
[rows, slots, columns], columns padded to a power of two and next to each other in memory: threads
side by side read numbers side by side. Vectors of a row (q_k, u_k, r_k and so on) pass from one
piece of a kernel to the next through global memory, which is the caches in truth, with a barrier
between; most of them belong to the trace anyway. All products are multiplied and summed in the
dtype computed in ("ieee" is that), never in tensor cores, whose float32 has 10 bits.
"""

# mypy: disable-error-code="import-untyped, import-not-found, no-untyped-def"
# mypy: disallow-untyped-decorators=False

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from memhop.ops.cuda.tiling import TOGETHER, Plan
from memhop.ops.fused.problem import Problem, Step

DOT_ROWS = tl.constexpr(TOGETHER)
FIELDS = tl.constexpr(len(Step._fields))  # of a step, in the order of ``Step``
A, A_BIAS, A_TEMPORAL = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
C, C_BIAS, C_TEMPORAL = tl.constexpr(3), tl.constexpr(4), tl.constexpr(5)
TRANSFORM, RELU, SOFTMAX, CARRY = (tl.constexpr(place) for place in range(6, 10))


class Given(NamedTuple):
    """The tensors of a ``Problem`` as kernels take them.

    None may be called "values", which triton's tuples have themselves. ``value_rows`` is None where
    the values are the keys. ``weights`` holds all weights end to end, the temporal tables filled up
    to the longest with their last row; ``steps`` says where each begins, counted in ``Block.unit``
    numbers, -1 for none. ``counts`` are the readable slots of each part of a row, int32
    [B, K or 1, parts], or None where there are no temporal tables.
    """

    key_rows: Any
    key_scale: Any
    value_rows: Any
    value_scale: Any
    slots: Any
    ignored: Any
    lengths: Any
    bias: Any
    counts: Any
    weights: Any
    steps: Any


class Layout(NamedTuple):
    """Sizes and strides as kernels take them; the compiler is not told what they are.

    The columns and the strides of keys and values are counted in ``Block.unit`` numbers.
    """

    rows: int
    slots: int
    hops: int
    ages: int
    parts: int
    part_slots: int
    key_columns: int
    value_columns: int
    query_columns: int
    keys_of_row: int
    keys_of_slot: int
    values_of_row: int
    values_of_slot: int
    scale_of_row: int
    slots_of_row: int
    ignored_of_row: int
    bias_of_row: int
    bias_of_hop: int
    counted_hops: int
    counts_of_row: int
    counts_of_hop: int


def laid_out(problem: Problem, plan: Plan) -> tuple[Given, Layout]:
    """The problem laid out for kernels: the weights are copied, what slots hold is not."""
    counts, unit = new_counts(problem, plan), plan.block.unit
    weights = filled_tables(problem)
    flat = [weight.reshape(-1) for weight in weights]
    sizes = tuple(weight.numel() for weight in weights)
    values = problem.keys if problem.values is None else problem.values
    given = Given(
        key_rows=problem.keys,
        key_scale=contiguous(problem.key_scale),
        value_rows=problem.values,
        value_scale=contiguous(problem.value_scale),
        slots=problem.slots,
        ignored=None if problem.ignored is None else problem.ignored.view(torch.uint8),
        lengths=contiguous(problem.lengths),
        bias=problem.score_bias,
        counts=counts,
        weights=torch.cat(flat) if flat else problem.query.new_empty(0),
        steps=step_table(problem.steps, sizes, unit, problem.query.device),
    )
    layout = Layout(
        rows=problem.query.shape[0],
        slots=problem.num_slots,
        hops=len(problem.steps),
        ages=problem.num_ages,
        parts=plan.parts,
        part_slots=plan.part_slots,
        key_columns=problem.keys.shape[-1] // unit,
        value_columns=values.shape[-1] // unit,
        query_columns=problem.query.shape[1] // unit,
        keys_of_row=0 if problem.slots is not None else problem.keys.stride(0) // unit,
        keys_of_slot=problem.keys.stride(-2) // unit,
        values_of_row=0 if problem.slots is not None else values.stride(0) // unit,
        values_of_slot=values.stride(-2) // unit,
        scale_of_row=0 if problem.slots is not None else problem.num_slots,
        slots_of_row=stride_of(problem.slots, 0),
        ignored_of_row=stride_of(problem.ignored, 0),
        bias_of_row=stride_of(problem.score_bias, 0),
        bias_of_hop=stride_of(problem.score_bias, 1),
        counted_hops=0 if counts is None else counts.shape[1],
        counts_of_row=stride_of(counts, 0),
        counts_of_hop=stride_of(counts, 1),
    )
    return given, layout


def contiguous(tensor: Tensor | None) -> Tensor | None:
    """The same, without gaps: for the small tensors."""
    return None if tensor is None else tensor.contiguous()


def stride_of(tensor: Tensor | None, axis: int) -> int:
    """A stride, 0 where there is one along the axis for all."""
    return 0 if tensor is None or tensor.shape[axis] == 1 else tensor.stride(axis)


def filled_tables(problem: Problem) -> list[Tensor]:
    """The weights, temporal tables with as many rows as the longest."""
    weights, most = list(problem.weights), problem.num_ages
    for place in {p for step in problem.steps for p in (step.a_temporal, step.c_temporal)} - {-1}:
        table = weights[place]
        last = table[-1:].expand(most - table.shape[0], -1)
        weights[place] = torch.cat([table, last]) if len(last) else table
    return weights


@lru_cache(maxsize=256)
def step_table(
    steps: tuple[Step, ...], sizes: tuple[int, ...], unit: int, device: torch.device
) -> Tensor:
    """int64 [K, fields]: kept, since a copy to the device waits for all that it has to do."""
    places = [sum(sizes[:place]) // unit for place in range(len(sizes))]
    table = [
        [places[part] if part >= 0 else -1 for part in step[:RELU]] + list(step[RELU:])
        for step in steps
    ]
    return torch.tensor(table, dtype=torch.int64, device=device)


def new_counts(problem: Problem, plan: Plan) -> Tensor | None:
    """Return room for ``Given.counts``; a bias may exclude other slots in each hop."""
    if problem.num_ages == 0:
        return None
    hops = 1 if problem.score_bias is None else problem.score_bias.shape[1]
    sizes = problem.query.shape[0], hops, plan.parts
    return problem.query.new_empty(sizes, dtype=torch.int32)


@triton.jit
def rows_of_program(layout, block: tl.constexpr):
    """The rows of the batch that a program works for, and which of them there are."""
    row = tl.program_id(0).to(tl.int64) * block.rows + tl.arange(0, block.rows)
    return tl.minimum(row, layout.rows - 1), row < layout.rows


@triton.jit
def weight_of(given, hop, field: tl.constexpr, block: tl.constexpr):
    """Where a weight of a hop begins, and whether the hop has it."""
    place = tl.load(given.steps + hop * FIELDS + field)
    return given.weights + place * block.unit, place >= 0


@triton.jit
def vectors(start, row, columns, width: tl.constexpr):
    """The rows [rows, width] of a matrix; beyond its columns zeros."""
    column = tl.arange(0, width)
    at = (row * columns)[:, None] + column[None, :]
    return tl.load(start + at, mask=(column < columns)[None, :], other=0.0)


@triton.jit
def store_vectors(start, row, live, columns, numbers):
    """Writes the rows [rows, width] of a matrix, but for those that no row of the batch is."""
    column = tl.arange(0, numbers.shape[1])
    at = (row * columns)[:, None] + column[None, :]
    tl.store(start + at, numbers, mask=live[:, None] & (column < columns)[None, :])


@triton.jit
def product(
    weight, of_term, of_column, factors, count, columns, block: tl.constexpr, width: tl.constexpr
):
    """sum_t f_t w_tj over ``count`` terms, [rows, width]: rows of a weight summed, or its columns.

    ``factors`` is where each row's f_0 is; ``of_term`` and ``of_column`` are the strides of w_tj.
    What the next tiles need is under way while one is worked on.
    """
    together: tl.constexpr = block.rows >= DOT_ROWS
    terms: tl.constexpr = block.terms
    dtype: tl.constexpr = weight.dtype.element_ty
    column = tl.arange(0, width)
    if together:
        total = tl.full([block.rows, width], 0.0, dtype)
    else:  # the terms of a tile are added up apart until the end, which keeps threads apart
        total = tl.full([block.rows, terms, width], 0.0, dtype)
    for start in tl.range(0, count, terms, num_stages=block.stages):
        term = start + tl.arange(0, terms)
        factor = tl.load(factors[:, None] + term[None, :], mask=(term < count)[None, :], other=0.0)
        at = (term * of_term)[:, None] + (column * of_column)[None, :]
        inside = (term < count)[:, None] & (column < columns)[None, :]
        tile = tl.load(weight + at, mask=inside, other=0.0)
        if together:
            total = tl.dot(factor, tile, total, input_precision="ieee")
        else:
            total += factor[:, :, None] * tile[None, :, :]
    if not together:
        total = tl.sum(total, 1)
    return total


@triton.jit
def store_products(table, vector, into, live, layout, block: tl.constexpr):
    """v . T(t) for every age t, written from ``into`` on; ``vector`` is where each row's v is."""
    columns = layout.query_columns * block.unit
    for start in range(0, layout.ages, block.ages):
        age, left = start + tl.arange(0, block.ages), layout.ages - start
        rows = table + start * columns
        dots = product(rows, 1, columns, vector, columns, left, block, block.ages)
        there = live[:, None] & (age < layout.ages)[None, :]
        tl.store(into[:, None] + age[None, :], dots, mask=there)


@triton.jit
def load_mask(given, layout, row, hop, slot, last, block: tl.constexpr):
    """Which slots [rows, slots] before ``last`` are readable, and their score bias, else zero."""
    readable = (row >= 0)[:, None] & (slot < last)[None, :]
    bias = tl.full([block.rows, block.slots], 0.0, given.weights.dtype.element_ty)
    if given.lengths is not None:
        readable = readable & (slot[None, :] < tl.load(given.lengths + row)[:, None])
    if given.ignored is not None:
        at = (row * layout.ignored_of_row)[:, None] + slot[None, :]
        readable = readable & (tl.load(given.ignored + at, mask=readable, other=1) == 0)
    if given.bias is not None:
        of_hop = tl.cast(hop, tl.int64) * layout.bias_of_hop
        at = (row * layout.bias_of_row + of_hop)[:, None] + slot[None, :]
        bias = tl.load(given.bias + at, mask=readable, other=float("-inf"))
        readable = readable & (bias != float("-inf"))
        bias = tl.where(readable, bias, 0.0)
    return readable, bias


@triton.jit(do_not_specialize=["layout"])
def count_readable(given, layout, block: tl.constexpr):
    """Grid [rows / Block.rows, parts]: write the number of readable slots in each part."""
    row, live = rows_of_program(layout, block)
    part = tl.program_id(1)
    first = part * layout.part_slots
    last = tl.minimum(first + layout.part_slots, layout.slots)
    for hop in range(0, layout.counted_hops):
        count = tl.full([block.rows, block.slots], 0, tl.int32)
        for start in range(first, last, block.slots):
            slot = start + tl.arange(0, block.slots)
            readable, _bias = load_mask(given, layout, row, hop, slot, last, block)
            count += readable.to(tl.int32)
        at = row * layout.counts_of_row + hop * layout.counts_of_hop + part
        tl.store(given.counts + at, tl.sum(count, 1), mask=live)


@triton.jit
def readable_from(given, layout, row, hop, part, block: tl.constexpr):
    """Return the number of readable slots [rows] in a part and all later parts."""
    left = tl.full([block.rows], 0, tl.int32)
    if given.counts is not None:
        of_hop = tl.cast(hop, tl.int64) * layout.counts_of_hop
        counts = given.counts + row * layout.counts_of_row + of_hop
        for start in range(part, layout.parts, block.parts):
            other = start + tl.arange(0, block.parts)
            inside = (row >= 0)[:, None] & (other < layout.parts)[None, :]
            left += tl.sum(tl.load(counts[:, None] + other[None, :], mask=inside, other=0), 1)
    return left


@triton.jit
def ages_at(layout, left, readable):
    """Return the places of slots in the temporal tables, and how many slots are left after them.

    The place of a slot is the number of readable slots after it, at most that of the last row.
    Only one readable slot of a row has a place before the last, so the sum over the slots of such
    a place is what that slot has. ``left`` is the number of readable slots from these on.
    """
    count = readable.to(tl.int32)
    age = tl.minimum(left[:, None] - tl.cumsum(count, 1), layout.ages - 1)
    return age, left - tl.sum(count, 1)


@triton.jit
def of_table(given, hop, field: tl.constexpr, at, readable):
    """What stands at the places of slots in a temporal table's products; zero without the table."""
    has_table = tl.load(given.steps + hop * FIELDS + field) >= 0
    # The mask of a load may not have a number in it: triton's interpreter makes integers of it.
    return tl.where(has_table, tl.load(at, mask=readable, other=0.0), 0.0)


@triton.jit
def places_of(given, layout, row, slot, readable):
    """Which rows of the memory, or of the bank, slots [rows, slots] are; int64."""
    if given.slots is not None:
        at = (row * layout.slots_of_row)[:, None] + slot[None, :]
        place = tl.load(given.slots + at, mask=readable, other=0).to(tl.int64)
    else:
        place = (row * 0)[:, None] + slot[None, :]
    return place


@triton.jit
def keys_at(given, layout, row, place, readable, block: tl.constexpr):
    """The keys that slots hold, [rows, slots, key_width]."""
    unit: tl.constexpr = block.unit
    at = (row * layout.keys_of_row * unit)[:, None] + place * layout.keys_of_slot * unit
    columns = layout.key_columns * unit
    tile = tile_at(given.key_rows, at, readable, columns, block.key_width, given.weights)
    if given.key_scale is not None:
        at = (row * layout.scale_of_row)[:, None] + place
        tile *= tl.load(given.key_scale + at, mask=readable, other=0.0)[:, :, None]
    return tile


@triton.jit
def values_at(given, layout, row, place, readable, block: tl.constexpr):
    """The values that slots hold where they are not the keys, [rows, slots, value_width]."""
    unit: tl.constexpr = block.unit
    at = (row * layout.values_of_row * unit)[:, None] + place * layout.values_of_slot * unit
    columns = layout.value_columns * unit
    tile = tile_at(given.value_rows, at, readable, columns, block.value_width, given.weights)
    if given.value_scale is not None:
        at = (row * layout.scale_of_row)[:, None] + place
        tile *= tl.load(given.value_scale + at, mask=readable, other=0.0)[:, :, None]
    return tile


@triton.jit
def tile_at(rows, at, readable, columns, width: tl.constexpr, weights):
    """Rows of a memory in the dtype of the weights, that computed in; unreadable ones zeros."""
    column = tl.arange(0, width)
    inside = readable[:, :, None] & (column < columns)[None, None, :]
    tile = tl.load(rows + at[:, :, None] + column[None, None, :], mask=inside, other=0)
    return tile.to(weights.dtype.element_ty)
