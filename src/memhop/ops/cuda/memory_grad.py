"""The gradient of what the slots hold, on the GPU: written once for all hops, and nothing is read
of the memory. See ``fused_cuda_backward``, which finds out p, w, d and u.

    dm_i = sum_k p_ki w_k + d_ki u_k

Memories of their own: grid [tiles of slots of all rows]. A bank is summed by its rows: the pairs of
a batch row and a slot are sorted by the row of the bank that they name, in a stable order, and cut
into windows. Grid [rows of the bank]: each sums its pairs in that order as far as the end of a
window, and adds what a launch before it, grid [windows], has found of it in later ones, so that a
row named by all slots is no one program's work. There are no atomic sums: the same bits each time.
"""

# mypy: disable-error-code="import-untyped, import-not-found, no-untyped-def"
# mypy: disallow-untyped-decorators=False

from dataclasses import replace
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from memhop.ops.cuda.tiling import Block, options
from memhop.ops.fused.problem import Gradients, Problem, Trace

WINDOW = 256  # pairs of a batch row and a slot that one program sums, at most
PAIR_TILE = 2048  # numbers in a tile of such a program


class Target(NamedTuple):
    """A gradient of rows: sum_k f_k x_k over one or two pairs of factors and vectors.

    Attributes:
        to: [B, N, columns], or of a bank [U, columns].
        factors, vectors: [B, K, N] and [B, K, columns].
        more_factors, more_vectors: the same, or None.
    """

    to: Any
    factors: Any
    vectors: Any
    more_factors: Any
    more_vectors: Any


class Extent(NamedTuple):
    """Sizes; ``columns`` counted in ``Block.unit`` numbers."""

    columns: int
    slots: int
    hops: int
    bank_rows: int
    window: int


class Pairs(NamedTuple):
    """The pairs of a batch row and a slot, b N + i, in the order of the bank's rows they name.

    Attributes:
        named: the rows of the bank, sorted; those that are not to be read last, as row U.
        order: the pairs.
        bounds: where the pairs of each row of the bank begin, [U + 1].
    """

    named: Any
    order: Any
    bounds: Any


def write_gradients_of_rows(
    problem: Problem, trace: Trace, gradients: Gradients, grad_read: Tensor, block: Block
) -> None:
    """Those of keys and values, in one where the values are the keys; ``grad_read``: w."""
    targets, both = [], problem.values is None
    if gradients.grad_keys is not None:
        more = (trace.weights, grad_read) if both else (None, None)
        of_keys = Target(gradients.grad_keys, gradients.grad_scores, trace.projected_query, *more)
        targets.append((of_keys, block.key_width))
    if gradients.grad_values is not None:
        of_values = Target(gradients.grad_values, trace.weights, grad_read, None, None)
        targets.append((of_values, block.value_width))
    pairs = None if problem.slots is None or not targets else pairs_of(problem)
    rows, slots = problem.query.shape[0], problem.num_slots
    for target, width in targets:
        columns, hops = target.to.shape[-1] // block.unit, len(problem.steps)
        extent = Extent(columns, slots, hops, target.to.shape[0], WINDOW)
        if pairs is not None:
            write_bank(target, pairs, extent, block, width)
        elif slots:
            tiles = triton.cdiv(slots, block.slots)
            normalize[(rows * tiles,)](target, extent, tiles, block, width, **options(block))


def pairs_of(problem: Problem) -> Pairs:
    """The slots of all rows sorted by the rows of the bank that they name; see ``Pairs``."""
    bank_rows, named = problem.keys.shape[0], problem.slots
    assert named is not None
    if problem.ignored is not None:
        named = named.masked_fill(problem.ignored, bank_rows)
    if problem.lengths is not None:
        place = torch.arange(problem.num_slots, device=named.device)
        named = named.masked_fill(place >= problem.lengths.unsqueeze(1), bank_rows)
    if problem.score_bias is not None:
        excluded = (problem.score_bias == -torch.inf).all(1)  # in every hop
        named = named.masked_fill(excluded, bank_rows)
    named, order = named.reshape(-1).sort(stable=True)
    ends = torch.arange(bank_rows + 1, device=named.device, dtype=named.dtype)
    return Pairs(named, order, torch.searchsorted(named, ends))


def write_bank(target: Target, pairs: Pairs, extent: Extent, block: Block, width: int) -> None:
    """The gradient of a bank: what each window has of a row that began before it, then the rows."""
    windows = max(1, triton.cdiv(pairs.order.numel(), extent.window))
    rest = target.factors.new_empty(windows, target.to.shape[-1])
    # In place of the slots of a tile; half as many numbers, since each has a vector of its own.
    block = replace(block, slots=max(1, PAIR_TILE // width))
    launch = options(block)
    if windows > 1:
        sum_windows[(windows,)](target, extent, pairs, rest, block, width, **launch)
    settle_bank[(extent.bank_rows,)](target, extent, pairs, rest, block, width, **launch)


@triton.jit(do_not_specialize=["extent", "tiles"])
def normalize(target, extent, tiles, block: tl.constexpr, width: tl.constexpr):
    """Grid [rows * tiles]: the gradient of a tile of slots of one row."""
    row = (tl.program_id(0) // tiles).to(tl.int64) + tl.arange(0, 1)
    slot = (tl.program_id(0) % tiles) * block.slots + tl.arange(0, block.slots)
    there = slot < extent.slots
    total = sum_of_hops(target, extent, row, slot, there, block, width)
    column, columns = tl.arange(0, width), extent.columns * block.unit
    at = ((row * extent.slots + slot) * columns)[:, None] + column[None, :]
    tl.store(target.to + at, total, mask=there[:, None] & (column < columns)[None, :])


@triton.jit(do_not_specialize=["extent"])
def sum_windows(target, extent, pairs, rest, block: tl.constexpr, width: tl.constexpr):
    """Grid [windows]: the sum over the first pairs of a window, of a row that began before it."""
    index, window = tl.program_id(0).to(tl.int64), extent.window
    start = index * window
    row = tl.load(pairs.named + start)
    first = tl.load(pairs.bounds + row)  # there is one for row U too
    if (row < extent.bank_rows) & (first < start):
        last = tl.minimum(tl.load(pairs.bounds + row + 1), start + window)
        total = sum_of_pairs(target, extent, pairs, start, last, block, width)
        column, columns = tl.arange(0, width), extent.columns * block.unit
        tl.store(rest + index * columns + column, total, mask=column < columns)


@triton.jit(do_not_specialize=["extent"])
def settle_bank(target, extent, pairs, rest, block: tl.constexpr, width: tl.constexpr):
    """Grid [rows of the bank]: the gradient of one row."""
    row, window = tl.program_id(0).to(tl.int64), extent.window
    first, last = tl.load(pairs.bounds + row), tl.load(pairs.bounds + row + 1)
    following = first // window + 1  # the window after the one that the row begins in
    end = tl.minimum(last, following * window)
    total = sum_of_pairs(target, extent, pairs, first, end, block, width)
    column, columns = tl.arange(0, width), extent.columns * block.unit
    for start in range(following, (last + window - 1) // window, block.slots):
        index = start + tl.arange(0, block.slots)
        inside = (index * window < last)[:, None] & (column < columns)[None, :]
        at = (index * columns)[:, None] + column[None, :]
        total += tl.sum(tl.load(rest + at, mask=inside, other=0.0), 0)
    tl.store(target.to + row * columns + column, total, mask=column < columns)


@triton.jit
def sum_of_pairs(target, extent, pairs, first, last, block: tl.constexpr, width: tl.constexpr):
    """The sum [width] over pairs in their order."""
    total = tl.full([block.slots, width], 0.0, target.factors.dtype.element_ty)
    for start in range(first, last, block.slots):
        place = start + tl.arange(0, block.slots)
        pair = tl.load(pairs.order + place, mask=place < last, other=0)
        row, slot = pair // extent.slots, pair % extent.slots
        total += sum_of_hops(target, extent, row, slot, place < last, block, width)
    return tl.sum(total, 0)


@triton.jit
def sum_of_hops(target, extent, row, slot, there, block: tl.constexpr, width: tl.constexpr):
    """sum_k f_k x_k for slots [slots] of rows [slots] or [1], [slots, width]."""
    column, columns = tl.arange(0, width), extent.columns * block.unit
    # What is no pair has factor 0 and the vector of row 0, in which a NaN may stand.
    inside = there[:, None] & (column < columns)[None, :]
    total = tl.full([block.slots, width], 0.0, target.factors.dtype.element_ty)
    for hop in range(extent.hops):
        here = row * extent.hops + hop
        at = here * extent.slots + slot
        vector = (here * columns)[:, None] + column[None, :]
        factor = tl.load(target.factors + at, mask=there, other=0.0)
        total += factor[:, None] * tl.load(target.vectors + vector, mask=inside, other=0.0)
        if target.more_factors is not None:
            factor = tl.load(target.more_factors + at, mask=there, other=0.0)
            total += factor[:, None] * tl.load(target.more_vectors + vector, mask=inside, other=0.0)
    return total
