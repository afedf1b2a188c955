"""The gradients of stored rows on the GPU, written once for all hops without reading the memory.

    dm_i = sum_k p_ki w_k + d_ki u_k

``backward`` computes p, w, d and u. Memories of single rows: grid [tiles of slots of all rows].

Bank: a segmented sum without atomics, so results are deterministic. The pairs of a batch row and a
slot are sorted by the bank row that they hold (stable), and cut into windows. A first launch, grid
[windows], sums the head of each window: the pairs of a bank row that began in an earlier window. A
second, grid [bank rows], sums each row's pairs up to the end of its first window and adds the heads
of the later ones, so that no program sums more than a window of pairs.
"""

# mypy: disable-error-code="import-untyped, import-not-found, no-untyped-def"
# mypy: disallow-untyped-decorators=False

from dataclasses import replace
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from memhop.ops.cuda.tiling import TileConfig, launch_options
from memhop.ops.fused.problem import Gradients, Problem, Trace

WINDOW = 256  # pairs
PAIR_TILE = 2048  # elements in a tile of pairs


class Target(NamedTuple):
    """A gradient of stored rows: the sum over hops of factors times vectors.

    Attributes:
        grad_rows: [B, N, columns], or of a bank [U, columns].
        factors, vectors: [B, K, N] and [B, K, columns].
        value_factors, value_vectors: a second term if the values are the keys, or None.
    """

    grad_rows: Any
    factors: Any
    vectors: Any
    value_factors: Any
    value_vectors: Any


class GradLayout(NamedTuple):
    """Sizes, as an argument that the compiler does not specialize on; columns in units."""

    columns: int
    slots: int
    hops: int
    bank_rows: int
    window: int


class Pairs(NamedTuple):
    """The pairs of a batch row b and a slot i, sorted by bank row.

    Attributes:
        bank_rows: the sorted bank rows; U for unreadable slots, which come last.
        order: the pairs, b N + i.
        bounds: the begin of each bank row's pairs, [U + 1].
    """

    bank_rows: Any
    order: Any
    bounds: Any


def write_gradients_of_rows(
    problem: Problem, trace: Trace, gradients: Gradients, grad_read: Tensor, config: TileConfig
) -> None:
    """Write the gradients of keys and values; ``grad_read`` is w, [B, K, V]."""
    targets, both = [], problem.values is None
    if gradients.grad_keys is not None:
        more = (trace.weights, grad_read) if both else (None, None)
        of_keys = Target(gradients.grad_keys, gradients.grad_scores, trace.projected_query, *more)
        targets.append((of_keys, config.key_width))
    if gradients.grad_values is not None:
        of_values = Target(gradients.grad_values, trace.weights, grad_read, None, None)
        targets.append((of_values, config.value_width))
    pairs = None if problem.slots is None or not targets else pairs_of(problem)
    rows, slots = problem.query.shape[0], problem.num_slots
    for target, width in targets:
        columns, hops = target.grad_rows.shape[-1] // config.unit, len(problem.steps)
        layout = GradLayout(columns, slots, hops, target.grad_rows.shape[0], WINDOW)
        if pairs is not None:
            write_bank(target, pairs, layout, config, width)
        elif slots:
            tiles = triton.cdiv(slots, config.slots)
            options = launch_options(config)
            write_slot_gradients[(rows * tiles,)](target, layout, tiles, config, width, **options)


def pairs_of(problem: Problem) -> Pairs:
    """Return the pairs of a bank, sorted."""
    num_rows, rows = problem.keys.shape[0], problem.slots
    assert rows is not None
    if problem.ignored is not None:
        rows = rows.masked_fill(problem.ignored, num_rows)
    if problem.lengths is not None:
        slot = torch.arange(problem.num_slots, device=rows.device)
        rows = rows.masked_fill(slot >= problem.lengths.unsqueeze(1), num_rows)
    if problem.score_bias is not None:
        excluded = (problem.score_bias == -torch.inf).all(1)  # in every hop
        rows = rows.masked_fill(excluded, num_rows)
    rows, order = rows.reshape(-1).sort(stable=True)
    ends = torch.arange(num_rows + 1, device=rows.device, dtype=rows.dtype)
    return Pairs(rows, order, torch.searchsorted(rows, ends))


def write_bank(
    target: Target, pairs: Pairs, layout: GradLayout, config: TileConfig, width: int
) -> None:
    """Write the gradient of a bank: sum the heads of windows, then the rows."""
    windows = max(1, triton.cdiv(pairs.order.numel(), layout.window))
    heads = target.factors.new_empty(windows, target.grad_rows.shape[-1])
    # A tile of pairs is half as large as one of slots, because each pair has its own vector.
    config = replace(config, slots=max(1, PAIR_TILE // width))
    arguments, options = (target, layout, pairs, heads), launch_options(config)
    if windows > 1:
        sum_window_heads[(windows,)](*arguments, config, width, **options)
    write_bank_rows[(layout.bank_rows,)](*arguments, config, width, **options)


@triton.jit(do_not_specialize=["layout", "tiles"])
def write_slot_gradients(target, layout, tiles, config: tl.constexpr, width: tl.constexpr):
    """Grid [rows * tiles]: write the gradient of a tile of slots of one row."""
    row = (tl.program_id(0) // tiles).to(tl.int64) + tl.arange(0, 1)
    slot = (tl.program_id(0) % tiles) * config.slots + tl.arange(0, config.slots)
    mask = slot < layout.slots
    acc = sum_of_hops(target, layout, row, slot, mask, config, width)
    column, columns = tl.arange(0, width), layout.columns * config.unit
    offset = ((row * layout.slots + slot) * columns)[:, None] + column[None, :]
    tl.store(target.grad_rows + offset, acc, mask=mask[:, None] & (column < columns)[None, :])


@triton.jit(do_not_specialize=["layout"])
def sum_window_heads(target, layout, pairs, heads, config: tl.constexpr, width: tl.constexpr):
    """Grid [windows]: sum the head of a window, if a bank row began before it."""
    index, window = tl.program_id(0).to(tl.int64), layout.window
    start = index * window
    row = tl.load(pairs.bank_rows + start)
    first = tl.load(pairs.bounds + row)  # also defined for row U
    if (row < layout.bank_rows) & (first < start):
        last = tl.minimum(tl.load(pairs.bounds + row + 1), start + window)
        acc = sum_of_pairs(target, layout, pairs, start, last, config, width)
        column, columns = tl.arange(0, width), layout.columns * config.unit
        tl.store(heads + index * columns + column, acc, mask=column < columns)


@triton.jit(do_not_specialize=["layout"])
def write_bank_rows(target, layout, pairs, heads, config: tl.constexpr, width: tl.constexpr):
    """Grid [bank rows]: write the gradient of one bank row."""
    row, window = tl.program_id(0).to(tl.int64), layout.window
    first, last = tl.load(pairs.bounds + row), tl.load(pairs.bounds + row + 1)
    following = first // window + 1  # the window after the one that the row begins in
    end = tl.minimum(last, following * window)
    acc = sum_of_pairs(target, layout, pairs, first, end, config, width)
    column, columns = tl.arange(0, width), layout.columns * config.unit
    for start in range(following, (last + window - 1) // window, config.slots):
        index = start + tl.arange(0, config.slots)
        mask = (index * window < last)[:, None] & (column < columns)[None, :]
        offset = (index * columns)[:, None] + column[None, :]
        acc += tl.sum(tl.load(heads + offset, mask=mask, other=0.0), 0)
    tl.store(target.grad_rows + row * columns + column, acc, mask=column < columns)


@triton.jit
def sum_of_pairs(target, layout, pairs, first, last, config: tl.constexpr, width: tl.constexpr):
    """Return the sum [width] over a range of pairs."""
    acc = tl.full([config.slots, width], 0.0, target.factors.dtype.element_ty)
    for start in range(first, last, config.slots):
        entry = start + tl.arange(0, config.slots)
        pair = tl.load(pairs.order + entry, mask=entry < last, other=0)
        row, slot = pair // layout.slots, pair % layout.slots
        acc += sum_of_hops(target, layout, row, slot, entry < last, config, width)
    return tl.sum(acc, 0)


@triton.jit
def sum_of_hops(target, layout, row, slot, is_valid, config: tl.constexpr, width: tl.constexpr):
    """Return sum_k f_k x_k for slots [slots] of rows [slots] or [1], [slots, width]."""
    column, columns = tl.arange(0, width), layout.columns * config.unit
    # An invalid pair must not load the vector of row 0, which may have a NaN.
    mask = is_valid[:, None] & (column < columns)[None, :]
    acc = tl.full([config.slots, width], 0.0, target.factors.dtype.element_ty)
    for hop in range(layout.hops):
        row_hop = row * layout.hops + hop
        offset = row_hop * layout.slots + slot
        vector = (row_hop * columns)[:, None] + column[None, :]
        factor = tl.load(target.factors + offset, mask=is_valid, other=0.0)
        acc += factor[:, None] * tl.load(target.vectors + vector, mask=mask, other=0.0)
        if target.value_factors is not None:
            factor = tl.load(target.value_factors + offset, mask=is_valid, other=0.0)
            acc += factor[:, None] * tl.load(target.value_vectors + vector, mask=mask, other=0.0)
    return acc
