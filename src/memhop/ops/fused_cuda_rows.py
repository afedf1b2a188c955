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

from memhop.ops.fused_cuda_plan import TOGETHER
from memhop.ops.problem import Problem, Step
from memhop.ops.reference import slot_ages

DOT_ROWS = tl.constexpr(TOGETHER)
STAGES = tl.constexpr(3)  # tiles of a weight under way at once
FIELDS = tl.constexpr(len(Step._fields))  # of a step, in the order of ``Step``
A, A_BIAS, A_TEMPORAL = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
C, C_BIAS, C_TEMPORAL = tl.constexpr(3), tl.constexpr(4), tl.constexpr(5)
TRANSFORM, RELU, SOFTMAX, CARRY = (tl.constexpr(place) for place in range(6, 10))


class Rows(NamedTuple):
    """What slots hold, as kernels take it; ``of_row`` and the like are strides in numbers."""

    data: Any
    scale: Any
    of_row: int
    of_slot: int
    scale_of_row: int
    scale_of_slot: int
    columns: int


class Given(NamedTuple):
    """A ``Problem`` as kernels take it. No field may be called "values": triton's tuples have that.

    ``value_rows`` is None where the values are the keys.
    ``weights`` holds all weights end to end, the temporal tables filled up to the longest with
    their last row; ``steps`` says where each begins, counted in ``unit`` numbers, -1 for none.
    ``ages`` are int32 [B or 1, K or 1, N], or None where there are no temporal tables.
    """

    keys: Any
    value_rows: Any
    slots: Any
    slots_of_row: int
    ignored: Any
    ignored_of_row: int
    lengths: Any
    bias: Any
    bias_of_row: int
    bias_of_hop: int
    ages: Any
    ages_of_row: int
    ages_of_hop: int
    weights: Any
    unit: int
    steps: Any
    rows: int
    num_slots: int
    memory_dim: int
    hops: int
    num_ages: int


def as_given(problem: Problem) -> Given:
    """The problem laid out for kernels: the weights are copied, what slots hold is not."""
    hops, ages, bias = len(problem.steps), ages_of(problem), problem.score_bias
    weights, sizes = filled_tables(problem)
    unit = 16 if all(size % 16 == 0 for size in sizes) else 1
    flat = [weight.reshape(-1) for weight in weights]
    return Given(
        keys=as_rows(problem.keys, problem.key_scale),
        value_rows=None if problem.values is None else as_rows(problem.values, problem.value_scale),
        slots=problem.slots,
        slots_of_row=stride_of(problem.slots, 0),
        ignored=None if problem.ignored is None else problem.ignored.view(torch.uint8),
        ignored_of_row=stride_of(problem.ignored, 0),
        lengths=None if problem.lengths is None else problem.lengths.contiguous(),
        bias=bias,
        bias_of_row=stride_of(bias, 0),
        bias_of_hop=stride_of(bias, 1),
        ages=ages,
        ages_of_row=stride_of(ages, 0),
        ages_of_hop=stride_of(ages, 1),
        weights=torch.cat(flat) if flat else problem.query.new_empty(0),
        unit=unit,
        steps=step_table(problem.steps, sizes, unit, problem.query.device),
        rows=problem.query.shape[0],
        num_slots=problem.num_slots,
        memory_dim=problem.query.shape[1],
        hops=hops,
        num_ages=problem.num_ages,
    )


def as_rows(data: Tensor, scale: Tensor | None) -> Rows:
    """[B, N, I], or a bank [U, I], which is the same for every row of the batch."""
    bank = data.dim() == 2
    return Rows(
        data,
        scale,
        of_row=0 if bank else data.stride(0),
        of_slot=data.stride(-2),
        scale_of_row=0 if bank or scale is None else scale.stride(0),
        scale_of_slot=0 if scale is None else scale.stride(-1),
        columns=data.shape[-1],
    )


def stride_of(tensor: Tensor | None, axis: int) -> int:
    """A stride, 0 where there is one along the axis for all."""
    return 0 if tensor is None or tensor.shape[axis] == 1 else tensor.stride(axis)


def filled_tables(problem: Problem) -> tuple[list[Tensor], tuple[int, ...]]:
    """The weights, temporal tables with as many rows as the longest, and how large each is."""
    weights, most = list(problem.weights), problem.num_ages
    for place in {p for step in problem.steps for p in (step.a_temporal, step.c_temporal)} - {-1}:
        table = weights[place]
        last = table[-1:].expand(most - table.shape[0], -1)
        weights[place] = torch.cat([table, last]) if len(last) else table
    return weights, tuple(weight.numel() for weight in weights)


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


def ages_of(problem: Problem) -> Tensor | None:
    """How many readable slots follow each, int32 [B or 1, K or 1, N]; beyond the tables the last.

    That is the place in a temporal table. Only one readable slot of a row has a place before the
    last, so sums over the slots of a place are nothing but what that slot has.
    """
    if problem.num_ages == 0:
        return None
    unreadable = None
    if problem.ignored is not None:
        unreadable = problem.ignored.unsqueeze(1)
    if problem.lengths is not None:
        places = torch.arange(problem.num_slots, device=problem.lengths.device)
        beyond = (places >= problem.lengths.unsqueeze(1)).unsqueeze(1)
        unreadable = beyond if unreadable is None else unreadable | beyond
    if problem.score_bias is not None:
        excluded = problem.score_bias == -torch.inf
        unreadable = excluded if unreadable is None else unreadable | excluded
    ages = slot_ages(problem.num_slots, unreadable, problem.query.device)
    ages = ages.clamp(max=problem.num_ages - 1).to(torch.int32)
    return ages.view(1, 1, -1) if ages.dim() == 1 else ages


@triton.jit
def rows_of_program(given, block: tl.constexpr):
    """The rows of the batch that a program works for, and which of them there are."""
    row = tl.program_id(0).to(tl.int64) * block.rows + tl.arange(0, block.rows)
    return tl.minimum(row, given.rows - 1), row < given.rows


@triton.jit
def weight_of(given, hop, field: tl.constexpr):
    """Where a weight of a hop begins, and whether the hop has it."""
    place = tl.load(given.steps + hop * FIELDS + field)
    return given.weights + place * given.unit, place >= 0


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
    weight, of_term, of_column, factors, count, columns, terms: tl.constexpr, width: tl.constexpr
):
    """sum_t f_t w_tj over ``count`` terms, [rows, width]: rows of a weight summed, or its columns.

    ``factors`` is where each row's f_0 is; ``of_term`` and ``of_column`` are the strides of w_tj.
    What the next tiles need is under way while one is worked on.
    """
    together: tl.constexpr = factors.shape[0] >= DOT_ROWS
    dtype: tl.constexpr = weight.dtype.element_ty
    column = tl.arange(0, width)
    if together:
        total = tl.zeros([factors.shape[0], width], dtype)
    else:  # the terms of a tile are added up apart until the end, which keeps threads apart
        total = tl.zeros([factors.shape[0], terms, width], dtype)
    for start in tl.range(0, count, terms, num_stages=STAGES):
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
def store_products(table, vector, into, live, given, block: tl.constexpr):
    """v . T(t) for every age t, written from ``into`` on; ``vector`` is where each row's v is."""
    memory_dim = given.memory_dim
    for start in range(0, given.num_ages, block.ages):
        age, left = start + tl.arange(0, block.ages), given.num_ages - start
        rows = table + start * memory_dim
        dots = product(rows, 1, memory_dim, vector, memory_dim, left, block.terms, block.ages)
        there = live[:, None] & (age < given.num_ages)[None, :]
        tl.store(into[:, None] + age[None, :], dots, mask=there)


@triton.jit
def look(given, row, hop, slot, last, dtype: tl.constexpr):
    """Which slots [rows, slots] before ``last`` are readable, and their score bias, else zero."""
    readable = (row >= 0)[:, None] & (slot < last)[None, :]
    bias = tl.zeros(readable.shape, dtype)
    if given.lengths is not None:
        readable = readable & (slot[None, :] < tl.load(given.lengths + row)[:, None])
    if given.ignored is not None:
        at = (row * given.ignored_of_row)[:, None] + slot[None, :]
        readable = readable & (tl.load(given.ignored + at, mask=readable, other=1) == 0)
    if given.bias is not None:
        at = (row * given.bias_of_row + hop * given.bias_of_hop)[:, None] + slot[None, :]
        bias = tl.load(given.bias + at, mask=readable, other=float("-inf"))
        readable = readable & (bias != float("-inf"))
        bias = tl.where(readable, bias, 0.0)
    return readable, bias


@triton.jit
def ages_at(given, row, hop, slot, readable):
    """The places of slots in the temporal tables."""
    at = (row * given.ages_of_row + hop * given.ages_of_hop)[:, None] + slot[None, :]
    return tl.load(given.ages + at, mask=readable, other=0)


@triton.jit
def places_of(given, row, slot, readable):
    """Which rows of the memory, or of the bank, slots [rows, slots] are; int64."""
    if given.slots is not None:
        at = (row * given.slots_of_row)[:, None] + slot[None, :]
        place = tl.load(given.slots + at, mask=readable, other=0).to(tl.int64)
    else:
        place = (row * 0)[:, None] + slot[None, :]
    return place


@triton.jit
def tile_of(rows, row, place, readable, width: tl.constexpr, dtype: tl.constexpr):
    """What slots hold, [rows, slots, width], in the dtype computed in; unreadable ones zeros."""
    column = tl.arange(0, width)
    at = (row * rows.of_row)[:, None] + place * rows.of_slot
    inside = readable[:, :, None] & (column < rows.columns)[None, None, :]
    tile = tl.load(rows.data + at[:, :, None] + column[None, None, :], mask=inside, other=0)
    tile = tile.to(dtype)
    if rows.scale is not None:
        at = (row * rows.scale_of_row)[:, None] + place * rows.scale_of_slot
        tile *= tl.load(rows.scale + at, mask=readable, other=0.0)[:, :, None]
    return tile


@triton.jit
def of_table(given, hop, field: tl.constexpr, at, readable):
    """What stands at the places of slots in a temporal table's products; zero without the table."""
    has_table = tl.load(given.steps + hop * FIELDS + field) >= 0
    return tl.where(has_table, tl.load(at, mask=readable, other=0.0), 0.0)
