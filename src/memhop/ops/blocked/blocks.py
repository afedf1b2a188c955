"""Chunks of rows and blocks of slots that fit the L2 cache, for rows that share memories.

A chunk is several small memories with all their queries, or some queries of one memory. Blocks run
from the last slot to the first, because a slot's age is the number of readable slots after it.
"""

import functools
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.fused.problem import Problem
from memhop.ops.ignored_content import is_tame

# A limit for the scores of a block, and for its slots. Smaller blocks make more calls; the scores
# and gradients of larger ones do not fit an L2 cache of 2 MiB.
_BLOCK_BYTES = 1 << 20
_MAX_QUERIES = 512  # of a chunk, so that a block has many slots


class Chunk(NamedTuple):
    """Rows of a problem that are computed together: Q queries on each of g memories.

    Attributes:
        problem: the problem of these rows and memories.
        rows, memories: their ranges in the whole problem.
        block: the number of slots in a block.
        longest: the greatest length; slots from here on are readable to none of the rows.
        zero_ignored: blocks hold zeros in ignored slots; all rows on a memory ignore the same.
    """

    problem: Problem
    rows: slice
    memories: slice
    block: int
    longest: int
    zero_ignored: bool

    def grouped(self, tensor: Tensor) -> Tensor:
        """Return a view [g, Q, ...] of a tensor [g Q, ...], or [1, 1, ...] if it is expanded."""
        if tensor.stride(0) == 0:
            return tensor[:1].unsqueeze(0)
        memories = self.problem.keys.shape[0]
        return tensor.view(memories, tensor.shape[0] // memories, *tensor.shape[1:])


class Block(NamedTuple):
    """A range of slots, and everything about them that does not depend on the queries.

    Attributes:
        slots: the range.
        ignored: bool [g, Q, n], or [1, 1, n] if it is the same in all rows; or None.
        bias: a term of the scores, of the same shapes, or None.
        ages: of the same shapes, or None if all have the greatest age of the temporal tables.
        keys, values: [g, n, I] and [g, n, V], in the dtype computed in.
    """

    slots: slice
    ignored: Tensor | None
    bias: Tensor | None
    ages: Tensor | None
    keys: Tensor
    values: Tensor


class AffineScore(NamedTuple):
    """x . m_i + by_age[age of i] + constant: the form of scores and of gradients of weights.

    Shapes are [B, I], [B, T], [B, 1] for all rows, and [g, Q, ...] for those of a chunk.
    """

    vector: Tensor
    by_age: Tensor | None
    constant: Tensor | None

    def of(self, chunk: Chunk) -> "AffineScore":
        """Return the terms of a chunk's rows."""
        return AffineScore._make(
            None if term is None else chunk.grouped(term[chunk.rows]) for term in self
        )


class Workspace:
    """Buffers that all blocks share: a new large tensor would cost page faults."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self.dtype = like.dtype
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a buffer in a shape, with the content that it last held."""
        size = prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = self._like.new_empty(size)
        return buffer[:size].view(shape)


def must_zero(problem: Problem) -> bool:
    """Return whether slots may be ignored, and some content may make their products not finite."""
    may_ignore = (problem.ignored, problem.lengths, problem.score_bias)
    if problem.query.shape[0] == 0 or all(tensor is None for tensor in may_ignore):
        return False
    longest = problem.num_slots if problem.lengths is None else int(problem.lengths.max())
    stored = (problem.keys, problem.key_scale, problem.values, problem.value_scale)
    return not all(rows is None or is_tame(rows[:, :longest]) for rows in stored)


def ignores_the_same(problem: Problem) -> bool:
    """Return whether all rows ignore the same slots, as far as can be seen without reading them."""
    over_slots = (problem.ignored, problem.score_bias)
    is_one = all(tensor is None or tensor.stride(0) == 0 for tensor in over_slots)
    lengths = problem.lengths
    return is_one and (lengths is None or bool((lengths == lengths[:1]).all()))


def chunks(problem: Problem, *, zero_ignored: bool = False) -> Iterator[Chunk]:
    """Yield all rows in chunks.

    With ``zero_ignored``, rows that ignore different slots are in different chunks.
    """
    rows, (memories, num_slots, width) = problem.query.shape[0], problem.keys.shape
    if rows == 0:
        return
    group = rows // memories
    if problem.values is not None:
        width = max(width, problem.values.shape[-1])
    block_size = _BLOCK_BYTES // problem.query.element_size()
    queries = min(group, max(_MAX_QUERIES, block_size // max(num_slots, width)))
    largest = max(num_slots * queries, num_slots * width, queries * width)
    if zero_ignored and not ignores_the_same(problem):
        queries = 1
    num_memories = 1 if queries < group else max(1, block_size // largest)
    block = max(1, block_size // (num_memories * max(queries, width)))
    block -= block % 64 if block > 64 else 0  # whole cache lines
    for first in range(0, memories, num_memories):
        last = min(first + num_memories, memories)
        longest = num_slots
        if problem.lengths is not None:
            lengths = problem.lengths[first * group : last * group]
            longest = int(lengths.max().clamp(0, num_slots))
        for start in range(first * group, last * group, num_memories * queries):
            own = (
                slice(start, min(start + num_memories * queries, last * group)),
                slice(first, last),
            )
            yield Chunk(slice_problem(problem, *own), *own, block, longest, zero_ignored)


def slice_problem(problem: Problem, rows: slice, memories: slice) -> Problem:
    """Return the problem of some rows and memories."""
    return problem._replace(
        query=problem.query[rows],
        keys=problem.keys[memories],
        key_scale=slice_rows(problem.key_scale, memories),
        values=slice_rows(problem.values, memories),
        value_scale=slice_rows(problem.value_scale, memories),
        ignored=slice_rows(problem.ignored, rows),
        lengths=slice_rows(problem.lengths, rows),
        score_bias=slice_rows(problem.score_bias, rows),
    )


def slice_rows(tensor: Tensor | None, rows: slice) -> Tensor | None:
    """Return a slice of the first axis, or None."""
    return None if tensor is None else tensor[rows]


def slots_of_blocks(chunk: Chunk) -> Iterator[slice]:
    """Yield the slots of each block, last to first."""
    for stop in range(chunk.longest, 0, -chunk.block):
        yield slice(max(0, stop - chunk.block), stop)


def blocks(chunk: Chunk, hop: int, workspace: Workspace) -> Iterator[Block]:
    """Yield the blocks, last to first; each is valid until the next."""
    problem, oldest = chunk.problem, chunk.problem.num_ages - 1
    after = torch.zeros((1, 1, 1), dtype=torch.int32, device=problem.query.device)
    for slots in slots_of_blocks(chunk):
        bias = None
        if problem.score_bias is not None:
            hop_of_bias = min(hop, problem.score_bias.shape[1] - 1)
            bias = chunk.grouped(problem.score_bias[:, hop_of_bias, slots])
        ignored, ages = ignored_slots(chunk, slots, bias), None
        if oldest > 0 and int(after.min()) < oldest:
            ages, after = ages_of_slots(slots, ignored, after)
            ages.clamp_(0, oldest)
        keys = values = load_rows(
            problem.keys[:, slots], problem.key_scale, slots, workspace, "keys"
        )
        if problem.values is not None:
            stored = problem.values[:, slots]
            values = load_rows(stored, problem.value_scale, slots, workspace, "values")
        if chunk.zero_ignored and ignored is not None:
            zeros = ignored[:, 0, :, None]
            rows = keys
            keys = rows.masked_fill(zeros, 0.0)
            values = keys if values is rows else values.masked_fill(zeros, 0.0)
        yield Block(slots, ignored, bias, ages, keys, values)


def ages_of_slots(slots: slice, ignored: Tensor | None, after: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ages of slots, and the number of readable slots from these on.

    ``after`` is the number of readable slots after these. Ages of ignored slots are 1 too small.
    """
    size = slots.stop - slots.start
    readable = after.new_ones(1, 1, size) if ignored is None else ~ignored
    counted = readable.flip(-1).cumsum(-1, dtype=after.dtype).flip(-1).add_(after)
    return counted - 1, counted[..., :1].clone()


def ignored_slots(chunk: Chunk, slots: slice, bias: Tensor | None) -> Tensor | None:
    """Return ``Block.ignored``, or None if all slots are readable."""
    masks = []
    if chunk.problem.ignored is not None:
        masks.append(chunk.grouped(chunk.problem.ignored[:, slots]))
    if chunk.problem.lengths is not None:
        lengths = chunk.grouped(chunk.problem.lengths).unsqueeze(-1)
        masks.append(torch.arange(slots.start, slots.stop, device=lengths.device) >= lengths)
    if bias is not None:
        masks.append(bias == -torch.inf)
    return functools.reduce(torch.bitwise_or, masks) if masks else None


def load_rows(
    stored: Tensor, scale: Tensor | None, slots: slice, workspace: Workspace, name: str
) -> Tensor:
    """Return stored rows in the dtype computed in."""
    if stored.dtype == workspace.dtype:
        return stored
    rows = workspace.take(name, *stored.shape).copy_(stored)
    return rows if scale is None else rows.mul_(scale[:, slots].unsqueeze(-1))


def multiply(left: Tensor, right: Tensor, out: Tensor, add: bool = False) -> Tensor:
    """out = left @ right, or out += left @ right, for each memory; a single one is not batched."""
    if out.shape[0] == 1:
        out[0].addmm_(left[0], right[0], beta=int(add))
    else:
        out.baddbmm_(left, right, beta=int(add))
    return out


def evaluate(terms: AffineScore, rows: Tensor, block: Block, out: Tensor) -> None:
    """Evaluate the sum of terms for every query and slot of a block."""
    multiply(terms.vector, rows.mT, out)
    if terms.constant is not None:
        out.add_(terms.constant)
    if terms.by_age is not None and block.ages is not None:
        out.add_(terms.by_age.gather(-1, block.ages.expand_as(out).long()))
    elif terms.by_age is not None:
        out.add_(terms.by_age[..., -1:])


def evaluate_scores(terms: AffineScore, block: Block, softmax: bool, out: Tensor) -> None:
    """Evaluate the scores of a block; the score of an ignored slot gives it weight 0."""
    evaluate(terms, block.keys, block, out)
    if block.bias is not None:
        out.add_(block.bias)
    if block.ignored is not None and softmax:
        # Adding the lowest number takes a tenth of the time of masked_fill_.
        out.add_(block.ignored.view(torch.uint8), alpha=torch.finfo(out.dtype).min)
    elif block.ignored is not None:
        out.masked_fill_(block.ignored, 0.0)


def add_by_age(aged: Tensor, block: Block, numbers: Tensor) -> None:
    """Add the numbers of a block's slots to the sums of their ages."""
    if block.ages is not None:
        aged.scatter_add_(-1, block.ages.expand_as(numbers).long(), numbers.to(aged.dtype))
    elif aged.shape[-1]:
        aged[..., -1:] += numbers.sum(-1, keepdim=True)


def matmul_f64(vectors: Tensor, matrix: Tensor | None) -> Tensor:
    """Return x M for every row x, summed in float64; x if there is no matrix."""
    if matrix is None:
        return vectors
    wide = matrix.double()
    return torch.cat([(x.double() @ wide).to(x.dtype) for x in torch.split(vectors, 2048)])


def dot_table(vectors: Tensor, table: Tensor | None, num_ages: int) -> Tensor | None:
    """Return x . T(age), [B, T], for every age up to that of the longest table."""
    if table is None:
        return None
    dots = matmul_f64(vectors, table.mT)
    return torch.cat([dots, dots[:, -1:].expand(-1, num_ages - table.shape[0])], -1)


def embed_sums(
    problem: Problem,
    table: tuple[int, int, int],
    hop: int,
    sums: tuple[Tensor, Tensor, Tensor | None],
) -> Tensor:
    """Return W r + weight_sum b + sum_t aged_t T(t), [B, D]; W None is the identity.

    ``table`` are the indices of W, b and T; ages beyond T take its last row. ``sums`` are r,
    weight_sum and aged of all hops.
    """
    weight, bias, temporal = map(problem.weight, table)
    rows, weight_sum, aged = sums
    out = matmul_f64(rows[:, hop], None if weight is None else weight.mT)
    if bias is not None:
        out = torch.addcmul(out, weight_sum[:, hop, None], bias)
    if temporal is not None and aged is not None:
        last = temporal.shape[0] - 1
        older = aged[:, hop, last:].sum(-1, keepdim=True)
        out = out + matmul_f64(torch.cat([aged[:, hop, :last], older], -1), temporal)
    return out
