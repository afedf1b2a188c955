"""Shared parts of the triton kernels: their arguments, matrix-vector products, loads of slots.

A program works on ``TileConfig.rows`` adjacent rows of the batch: one row if memories are large,
several if they are small, so that they share each load of a weight. Tiles are
[rows, slots, columns], the columns padded to a power of two; adjacent threads load adjacent
elements (coalesced). Vectors of a row (q_k, u_k, r_k, ...) pass between the stages of a kernel
through global memory, in practice the L2 cache, with a barrier in between; most are part of the
trace. Products are computed in the dtype of the query (``input_precision="ieee"``), never in TF32.
"""

# mypy: disable-error-code="import-untyped, import-not-found, no-untyped-def"
# mypy: disallow-untyped-decorators=False

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from memhop.ops.cuda.tiling import GROUP_ROWS, Plan
from memhop.ops.fused.problem import Problem, Step, value_rows

DOT_ROWS = tl.constexpr(GROUP_ROWS)
STEP_FIELDS = tl.constexpr(len(Step._fields))


def step_field(name: str) -> Any:
    """Return the index of a field of ``Step`` as a constant for kernels."""
    return tl.constexpr(Step._fields.index(name))


A, A_BIAS, A_TEMPORAL = map(step_field, ("a", "a_bias", "a_temporal"))
C, C_BIAS, C_TEMPORAL = map(step_field, ("c", "c_bias", "c_temporal"))
TRANSFORM, RELU, SOFTMAX, CARRY = map(step_field, ("transform", "relu", "softmax", "carry"))


class KernelInputs(NamedTuple):
    """The tensors of a ``Problem``, as arguments of kernels.

    Attributes:
        key_rows, value_rows: in any storage dtype that triton converts; value_rows is None if the
            values are the keys. (``values`` is an attribute of triton's tuples.)
        counts: the number of readable slots of each split, int32 [B, K or 1, splits], or None
            without temporal tables.
        weights: all weights concatenated, temporal tables padded to the longest with their last
            row.
        steps: int64 [K, fields of ``Step``]; a weight is its offset in units, -1 for none.
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


class RowLayout(NamedTuple):
    """Sizes and strides of keys or values, in units."""

    columns: int
    row_stride: int
    slot_stride: int


class Layout(NamedTuple):
    """Sizes and strides, as arguments that the compiler does not specialize on."""

    rows: int
    slots: int
    hops: int
    ages: int
    num_splits: int
    split_slots: int
    keys: RowLayout
    value_rows: RowLayout
    query_columns: int
    scale_row_stride: int
    slots_row_stride: int
    ignored_row_stride: int
    bias_row_stride: int
    bias_hop_stride: int
    count_hops: int
    counts_row_stride: int
    counts_hop_stride: int


def kernel_inputs(problem: Problem, plan: Plan) -> tuple[KernelInputs, Layout]:
    """Return the arguments of kernels for a problem; it copies weights, but no stored rows."""
    counts, unit = empty_counts(problem, plan), plan.config.unit
    weights = padded_tables(problem)
    flat = [weight.reshape(-1) for weight in weights]
    sizes = tuple(weight.numel() for weight in weights)
    is_bank = problem.slots is not None
    inputs = KernelInputs(
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
        num_splits=plan.num_splits,
        split_slots=plan.split_slots,
        keys=row_layout(problem.keys, is_bank, unit),
        value_rows=row_layout(value_rows(problem)[0], is_bank, unit),
        query_columns=problem.query.shape[1] // unit,
        scale_row_stride=0 if is_bank else problem.num_slots,
        slots_row_stride=stride_of(problem.slots, 0),
        ignored_row_stride=stride_of(problem.ignored, 0),
        bias_row_stride=stride_of(problem.score_bias, 0),
        bias_hop_stride=stride_of(problem.score_bias, 1),
        count_hops=0 if counts is None else counts.shape[1],
        counts_row_stride=stride_of(counts, 0),
        counts_hop_stride=stride_of(counts, 1),
    )
    return inputs, layout


def row_layout(rows: Tensor, is_bank: bool, unit: int) -> RowLayout:
    """Return the layout of stored rows [G, N, I] or of a bank [U, I]."""
    return RowLayout(
        columns=rows.shape[-1] // unit,
        row_stride=0 if is_bank else rows.stride(0) // unit,
        slot_stride=rows.stride(-2) // unit,
    )


def contiguous(tensor: Tensor | None) -> Tensor | None:
    """Return the tensor, contiguous, or None."""
    return None if tensor is None else tensor.contiguous()


def stride_of(tensor: Tensor | None, axis: int) -> int:
    """Return a stride, or 0 for an axis of size 1."""
    return 0 if tensor is None or tensor.shape[axis] == 1 else tensor.stride(axis)


def padded_tables(problem: Problem) -> list[Tensor]:
    """Return the weights, temporal tables padded to as many rows as the longest has."""
    weights, num_ages = list(problem.weights), problem.num_ages
    tables = {i for step in problem.steps for i in (step.a_temporal, step.c_temporal)} - {-1}
    for index in tables:
        table = weights[index]
        last = table[-1:].expand(num_ages - table.shape[0], -1)
        weights[index] = torch.cat([table, last]) if len(last) else table
    return weights


@lru_cache(maxsize=256)
def step_table(
    steps: tuple[Step, ...], sizes: tuple[int, ...], unit: int, device: torch.device
) -> Tensor:
    """Return ``KernelInputs.steps``; cached, because a copy to the device synchronizes with it."""
    offsets = [*(sum(sizes[:index]) // unit for index in range(len(sizes))), -1]
    num_weights = Step._fields.index("relu")
    table = [
        [*(offsets[index] for index in step[:num_weights]), *step[num_weights:]] for step in steps
    ]
    return torch.tensor(table, dtype=torch.int64, device=device)


def empty_counts(problem: Problem, plan: Plan) -> Tensor | None:
    """Return uninitialized ``KernelInputs.counts``; a bias may exclude other slots in each hop."""
    if problem.num_ages == 0:
        return None
    hops = 1 if problem.score_bias is None else problem.score_bias.shape[1]
    sizes = problem.query.shape[0], hops, plan.num_splits
    return problem.query.new_empty(sizes, dtype=torch.int32)


@triton.jit
def program_rows(layout, config: tl.constexpr):
    """Return the rows of the batch of this program, and a mask of those that exist."""
    row = tl.program_id(0).to(tl.int64) * config.rows + tl.arange(0, config.rows)
    return tl.minimum(row, layout.rows - 1), row < layout.rows


@triton.jit
def weight_pointer(inputs, hop, field: tl.constexpr, config: tl.constexpr):
    """Return the pointer to a weight of a hop, and whether the hop has it."""
    index = tl.load(inputs.steps + hop * STEP_FIELDS + field)
    return inputs.weights + index * config.unit, index >= 0


@triton.jit
def has_option(inputs, hop, field: tl.constexpr):
    """Return whether an option of a hop is on."""
    return tl.load(inputs.steps + hop * STEP_FIELDS + field) != 0


@triton.jit
def has_relu(inputs, layout, hop, config: tl.constexpr):
    """Return a mask [1, query_width] of the units to which a hop applies ReLU, the last ones."""
    count, unit = tl.load(inputs.steps + hop * STEP_FIELDS + RELU), tl.arange(0, config.query_width)
    return (unit >= layout.query_columns * config.unit - count)[None, :]


@triton.jit
def load_vectors(start, row, columns, width: tl.constexpr):
    """Load rows [rows, width] of a matrix, padded with zeros."""
    column = tl.arange(0, width)
    offset = (row * columns)[:, None] + column[None, :]
    return tl.load(start + offset, mask=(column < columns)[None, :], other=0.0)


@triton.jit
def store_vectors(start, row, row_mask, columns, numbers):
    """Store rows [rows, width] of a matrix, except masked ones."""
    column = tl.arange(0, numbers.shape[1])
    offset = (row * columns)[:, None] + column[None, :]
    tl.store(start + offset, numbers, mask=row_mask[:, None] & (column < columns)[None, :])


@triton.jit
def matvec(
    weight, term_stride, column_stride, factors, count, columns,
    config: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    """Return sum_t f_t w_tj over ``count`` terms t, [rows, width]: W^T f, or W f.

    ``factors`` are the pointers to each row's f_0. The strides are those of w_tj. The loop is
    software-pipelined: the next tiles are prefetched.
    """
    use_dot: tl.constexpr = config.rows >= DOT_ROWS
    terms: tl.constexpr = config.terms
    dtype: tl.constexpr = weight.dtype.element_ty
    column = tl.arange(0, width)
    if use_dot:
        acc = tl.full([config.rows, width], 0.0, dtype)
    else:  # one accumulator per term of a tile: threads meet only at the end
        acc = tl.full([config.rows, terms, width], 0.0, dtype)
    for start in tl.range(0, count, terms, num_stages=config.num_stages):
        term = start + tl.arange(0, terms)
        factor = tl.load(factors[:, None] + term[None, :], mask=(term < count)[None, :], other=0.0)
        offset = (term * term_stride)[:, None] + (column * column_stride)[None, :]
        mask = (term < count)[:, None] & (column < columns)[None, :]
        tile = tl.load(weight + offset, mask=mask, other=0.0)
        if use_dot:
            acc = tl.dot(factor, tile, acc, input_precision="ieee")
        else:
            acc += factor[:, :, None] * tile[None, :, :]
    if not use_dot:
        acc = tl.sum(acc, 1)
    return acc


@triton.jit
def store_table_products(table, vector, into, row_mask, layout, config: tl.constexpr):
    """Store v . T(t) for every age t at ``into``; ``vector`` are the pointers to each row's v."""
    columns = layout.query_columns * config.unit
    for start in range(0, layout.ages, config.ages):
        age, left = start + tl.arange(0, config.ages), layout.ages - start
        rows = table + start * columns
        dots = matvec(rows, 1, columns, vector, columns, left, config, config.ages)
        mask = row_mask[:, None] & (age < layout.ages)[None, :]
        tl.store(into[:, None] + age[None, :], dots, mask=mask)


@triton.jit
def load_mask(inputs, layout, row, hop, slot, last, config: tl.constexpr):
    """Return a mask of readable slots before ``last``, and their score bias or 0, [rows, slots]."""
    readable = (row >= 0)[:, None] & (slot < last)[None, :]
    bias = tl.full([config.rows, config.slots], 0.0, inputs.weights.dtype.element_ty)
    if inputs.lengths is not None:
        readable = readable & (slot[None, :] < tl.load(inputs.lengths + row)[:, None])
    if inputs.ignored is not None:
        offset = (row * layout.ignored_row_stride)[:, None] + slot[None, :]
        readable = readable & (tl.load(inputs.ignored + offset, mask=readable, other=1) == 0)
    if inputs.bias is not None:
        hop_offset = tl.cast(hop, tl.int64) * layout.bias_hop_stride
        offset = (row * layout.bias_row_stride + hop_offset)[:, None] + slot[None, :]
        bias = tl.load(inputs.bias + offset, mask=readable, other=float("-inf"))
        readable = readable & (bias != float("-inf"))
        bias = tl.where(readable, bias, 0.0)
    return readable, bias


@triton.jit(do_not_specialize=["layout"])
def count_readable(inputs, layout, config: tl.constexpr):
    """Grid [rows / config.rows, splits]: write the number of readable slots of each split."""
    row, row_mask = program_rows(layout, config)
    split = tl.program_id(1)
    first = split * layout.split_slots
    last = tl.minimum(first + layout.split_slots, layout.slots)
    for hop in range(0, layout.count_hops):
        count = tl.full([config.rows, config.slots], 0, tl.int32)
        for start in range(first, last, config.slots):
            slot = start + tl.arange(0, config.slots)
            readable, _bias = load_mask(inputs, layout, row, hop, slot, last, config)
            count += readable.to(tl.int32)
        offset = row * layout.counts_row_stride + hop * layout.counts_hop_stride + split
        tl.store(inputs.counts + offset, tl.sum(count, 1), mask=row_mask)


@triton.jit
def readable_from(inputs, layout, row, hop, split, config: tl.constexpr):
    """Return the number of readable slots [rows] in a split and all later splits."""
    left = tl.full([config.rows], 0, tl.int32)
    if inputs.counts is not None:
        hop_offset = tl.cast(hop, tl.int64) * layout.counts_hop_stride
        counts = inputs.counts + row * layout.counts_row_stride + hop_offset
        for start in range(split, layout.num_splits, config.splits):
            other = start + tl.arange(0, config.splits)
            mask = (row >= 0)[:, None] & (other < layout.num_splits)[None, :]
            left += tl.sum(tl.load(counts[:, None] + other[None, :], mask=mask, other=0), 1)
    return left


@triton.jit
def ages_at(layout, left, readable):
    """Return the ages of slots [rows, slots], and the number of readable slots after them.

    The age of a slot is the number of readable slots after it, at most that of the oldest row of a
    temporal table. Each smaller age has one slot per row, so a sum over that age is one store.
    ``left`` is the number of readable slots from these on.
    """
    count = readable.to(tl.int32)
    age = tl.minimum(left[:, None] - tl.cumsum(count, 1), layout.ages - 1)
    return age, left - tl.sum(count, 1)


@triton.jit
def load_table_products(inputs, hop, field: tl.constexpr, offset, readable):
    """Load a temporal table's products at the ages of slots; 0 without the table."""
    has_table = tl.load(inputs.steps + hop * STEP_FIELDS + field) >= 0
    # A scalar in the mask of a load would become an integer in triton's interpreter.
    return tl.where(has_table, tl.load(offset, mask=readable, other=0.0), 0.0)


@triton.jit
def memory_rows(inputs, layout, row, slot, readable):
    """Return the rows of the memory or bank that slots hold, int64 [rows, slots]."""
    if inputs.slots is not None:
        offset = (row * layout.slots_row_stride)[:, None] + slot[None, :]
        index = tl.load(inputs.slots + offset, mask=readable, other=0).to(tl.int64)
    else:
        index = (row * 0)[:, None] + slot[None, :]
    return index


@triton.jit
def load_keys(inputs, layout, row, index, readable, config: tl.constexpr):
    """Load the keys of slots, [rows, slots, key_width]."""
    dtype: tl.constexpr = inputs.weights.dtype.element_ty
    width: tl.constexpr = config.key_width
    rows = inputs.key_rows
    tile = load_rows(rows, layout.keys, row, index, readable, config.unit, width, dtype)
    if inputs.key_scale is not None:
        tile *= load_scales(inputs.key_scale, layout, row, index, readable)
    return tile


@triton.jit
def load_values(inputs, layout, row, index, readable, config: tl.constexpr):
    """Load the values of slots if they are not the keys, [rows, slots, value_width]."""
    dtype: tl.constexpr = inputs.weights.dtype.element_ty
    width: tl.constexpr = config.value_width
    rows = inputs.value_rows
    tile = load_rows(rows, layout.value_rows, row, index, readable, config.unit, width, dtype)
    if inputs.value_scale is not None:
        tile *= load_scales(inputs.value_scale, layout, row, index, readable)
    return tile


@triton.jit
def load_rows(
    rows, layout, row, index, readable,
    unit: tl.constexpr, width: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Load stored rows and convert them; unreadable ones are 0."""
    start = (row * layout.row_stride * unit)[:, None] + index * layout.slot_stride * unit
    column = tl.arange(0, width)
    mask = readable[:, :, None] & (column < layout.columns * unit)[None, None, :]
    tile = tl.load(rows + start[:, :, None] + column[None, None, :], mask=mask, other=0)
    return tile.to(dtype)


@triton.jit
def load_scales(scale, layout, row, index, readable):
    """Load the scales of slots, [rows, slots, 1]."""
    offset = (row * layout.scale_row_stride)[:, None] + index
    return tl.load(scale + offset, mask=readable, other=0.0)[:, :, None]
