"""Slots in blocks that fit the processor's cache, for rows that share memories.

Rows on different memories have nothing to do with each other: they are worked on in parts, as
many small memories at once as fill a block, or some of the queries of one. Blocks go from the last
slot to the first, since a slot's age counts the readable slots after it.
"""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.fused.problem import Problem
from memhop.ops.ignored_content import is_tame

# The scores of a block take no more than this, nor do the slots that it reads. Smaller blocks make
# more calls; of larger ones the scores and their gradients leave a second-level cache of 2 MiB.
_BLOCK_BYTES = 1 << 20
# More queries on one memory are worked on in parts, lest a block be of few slots.
_MOST_QUERIES = 512


class Part(NamedTuple):
    """Rows of a problem that are worked on together: Q each on g memories.

    Attributes:
        problem: those rows and memories alone.
        rows, memories: which of the whole problem they are.
        block: the number of slots in a block.
        longest: slots from here on are readable to none of the rows on these memories.
        zero_ignored: blocks hold zeros in ignored slots; all rows on a memory ignore the same.
    """

    problem: Problem
    rows: slice
    memories: slice
    block: int
    longest: int
    zero_ignored: bool

    def grouped(self, tensor: Tensor) -> Tensor:
        """[g, Q, ...] of a tensor [g Q, ...], or [1, 1, ...] where all rows are one."""
        if tensor.stride(0) == 0:
            return tensor[:1].unsqueeze(0)
        memories = self.problem.keys.shape[0]
        return tensor.view(memories, tensor.shape[0] // memories, *tensor.shape[1:])


class Block(NamedTuple):
    """Some slots, and all that does not depend on the queries.

    Attributes:
        slots: which they are.
        ignored: bool [g, Q, n], or with 1 for g and Q where all rows are one; or None.
        bias: likewise, a term of the scores.
        ages: likewise, or None where all are of the greatest age that a temporal table tells apart.
        keys, values: what the slots hold, [g, n, I] and [g, n, V], in the dtype computed in.
    """

    slots: slice
    ignored: Tensor | None
    bias: Tensor | None
    ages: Tensor | None
    keys: Tensor
    values: Tensor


class AffineScore(NamedTuple):
    """x . m_i + by_age[age of i] + same: what a score is, and what the gradient of a weight is.

    [B, I], [B, T], [B, 1] for all rows, and [g, Q, ...] for those of a part.
    """

    vector: Tensor
    by_age: Tensor | None
    same: Tensor | None

    def of(self, part: Part) -> "AffineScore":
        """Those of the rows of a part."""
        return AffineScore._make(
            None if term is None else part.grouped(term[part.rows]) for term in self
        )


class Workspace:
    """Buffers used again for every block: a new large tensor costs its page faults."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self.dtype = like.dtype
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """The buffer of that name in that shape, holding whatever it last held."""
        size = prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = self._like.new_empty(size)
        return buffer[:size].view(shape)


def must_zero(problem: Problem) -> bool:
    """Return whether slots may be ignored, and some content may make their products not finite."""
    may_ignore = (problem.ignored, problem.lengths, problem.score_bias)
    if problem.query.shape[0] == 0 or all(part is None for part in may_ignore):
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


def parts(problem: Problem, *, zero_ignored: bool = False) -> Iterator[Part]:
    """The rows in parts, those on one memory next to each other.

    With ``zero_ignored`` rows that ignore different slots are in different parts.
    """
    rows, (memories, num_slots, width) = problem.query.shape[0], problem.keys.shape
    if rows == 0:
        return
    each = rows // memories
    if problem.values is not None:
        width = max(width, problem.values.shape[-1])
    room = _BLOCK_BYTES // problem.query.element_size()
    queries = min(each, max(_MOST_QUERIES, room // max(num_slots, width)))
    largest = max(num_slots * queries, num_slots * width, queries * width)
    if zero_ignored and not ignores_the_same(problem):
        queries = 1
    together = 1 if queries < each else max(1, room // largest)
    block = max(1, room // (together * max(queries, width)))
    block -= block % 64 if block > 64 else 0  # whole cache lines
    for first in range(0, memories, together):
        last = min(first + together, memories)
        of_memories = slice(first * each, last * each)
        longest = num_slots
        if problem.lengths is not None:
            longest = int(problem.lengths[of_memories].max().clamp(0, num_slots))
        for start in range(first * each, last * each, together * queries):
            chosen = slice(start, min(start + together * queries, last * each))
            own = part_of(problem, chosen, slice(first, last))
            yield Part(own, chosen, slice(first, last), block, longest, zero_ignored)


def part_of(problem: Problem, rows: slice, memories: slice) -> Problem:
    """Some of the rows, with the memories that they read."""
    return problem._replace(
        query=problem.query[rows],
        keys=problem.keys[memories],
        key_scale=cut(problem.key_scale, memories),
        values=cut(problem.values, memories),
        value_scale=cut(problem.value_scale, memories),
        ignored=cut(problem.ignored, rows),
        lengths=cut(problem.lengths, rows),
        score_bias=cut(problem.score_bias, rows),
    )


def cut(tensor: Tensor | None, rows: slice) -> Tensor | None:
    """Some of the first axis of a tensor, where there is one."""
    return None if tensor is None else tensor[rows]


def slots_of_blocks(part: Part) -> Iterator[slice]:
    """The slots in blocks, last to first."""
    for stop in range(part.longest, 0, -part.block):
        yield slice(max(0, stop - part.block), stop)


def blocks(part: Part, hop: int, room: Workspace) -> Iterator[Block]:
    """The slots in blocks, last to first, each to be used before the next is asked for."""
    problem, oldest = part.problem, part.problem.num_ages - 1
    after = torch.zeros((1, 1, 1), dtype=torch.int32, device=problem.query.device)
    for slots in slots_of_blocks(part):
        bias = None
        if problem.score_bias is not None:
            hop_of_bias = min(hop, problem.score_bias.shape[1] - 1)
            bias = part.grouped(problem.score_bias[:, hop_of_bias, slots])
        ignored, ages = ignored_slots(part, slots, bias), None
        if oldest > 0 and int(after.min()) < oldest:
            ages, after = ages_of_slots(slots, ignored, after)
            ages.clamp_(0, oldest)
        keys = values = widened(problem.keys[:, slots], problem.key_scale, slots, room, "keys")
        if problem.values is not None:
            stored = problem.values[:, slots]
            values = widened(stored, problem.value_scale, slots, room, "values")
        if part.zero_ignored and ignored is not None:
            zeros = ignored[:, 0, :, None]
            rows = keys
            keys = rows.masked_fill(zeros, 0.0)
            values = keys if values is rows else values.masked_fill(zeros, 0.0)
        yield Block(slots, ignored, bias, ages, keys, values)


def ages_of_slots(slots: slice, ignored: Tensor | None, after: Tensor) -> tuple[Tensor, Tensor]:
    """How many readable slots follow each, given how many follow all; and how many follow the next.

    Those ignored, whose ages are not asked for, come out one below.
    """
    size = slots.stop - slots.start
    readable = after.new_ones(1, 1, size) if ignored is None else ~ignored
    counted = readable.flip(-1).cumsum(-1, dtype=after.dtype).flip(-1).add_(after)
    return counted - 1, counted[..., :1].clone()


def ignored_slots(part: Part, slots: slice, bias: Tensor | None) -> Tensor | None:
    """bool [g, Q, n], or [1, 1, n] where all rows are one; None where all may be read."""
    reasons = []
    if part.problem.ignored is not None:
        reasons.append(part.grouped(part.problem.ignored[:, slots]))
    if part.problem.lengths is not None:
        lengths = part.grouped(part.problem.lengths).unsqueeze(-1)
        reasons.append(torch.arange(slots.start, slots.stop, device=lengths.device) >= lengths)
    if bias is not None:
        reasons.append(bias == -torch.inf)
    if not reasons:
        return None
    ignored = reasons[0]
    for reason in reasons[1:]:
        ignored = ignored | reason
    return ignored


def widened(
    stored: Tensor, scale: Tensor | None, slots: slice, room: Workspace, name: str
) -> Tensor:
    """What the slots hold, in the dtype computed in."""
    if stored.dtype == room.dtype:
        return stored
    rows = room.take(name, *stored.shape).copy_(stored)
    return rows if scale is None else rows.mul_(scale[:, slots].unsqueeze(-1))


def multiply(left: Tensor, right: Tensor, out: Tensor, add: bool = False) -> Tensor:
    """out = left @ right, or out += that, for each memory; for one without a batch of products."""
    if out.shape[0] == 1:
        out[0].addmm_(left[0], right[0], beta=int(add))
    else:
        out.baddbmm_(left, right, beta=int(add))
    return out


def evaluate(terms: AffineScore, rows: Tensor, block: Block, out: Tensor) -> None:
    """The terms' sum for every query and slot of a block."""
    multiply(terms.vector, rows.mT, out)
    if terms.same is not None:
        out.add_(terms.same)
    if terms.by_age is not None and block.ages is not None:
        out.add_(terms.by_age.gather(-1, block.ages.expand_as(out).long()))
    elif terms.by_age is not None:
        out.add_(terms.by_age[..., -1:])


def evaluate_scores(terms: AffineScore, block: Block, softmax: bool, out: Tensor) -> None:
    """The scores of a block; where a slot is ignored, what gives it no weight."""
    evaluate(terms, block.keys, block, out)
    if block.bias is not None:
        out.add_(block.bias)
    if block.ignored is not None and softmax:
        # Adding the lowest number takes a tenth of the time of filling it in.
        out.add_(block.ignored.view(torch.uint8), alpha=torch.finfo(out.dtype).min)
    elif block.ignored is not None:
        out.masked_fill_(block.ignored, 0.0)


def add_by_age(aged: Tensor, block: Block, numbers: Tensor) -> None:
    """Add what the slots of a block have to what is summed for their ages."""
    if block.ages is not None:
        aged.scatter_add_(-1, block.ages.expand_as(numbers).long(), numbers.to(aged.dtype))
    elif aged.shape[-1]:
        aged[..., -1:] += numbers.sum(-1, keepdim=True)


def times(vectors: Tensor, matrix: Tensor | None) -> Tensor:
    """x M for every row, summed in float64; x itself where there is no matrix."""
    if matrix is None:
        return vectors
    wide = matrix.double()
    some_at_once = [(some.double() @ wide).to(vectors.dtype) for some in torch.split(vectors, 2048)]
    return torch.cat(some_at_once)


def by_age(vectors: Tensor, table: Tensor | None, num_ages: int) -> Tensor | None:
    """x . T(age), [B, T], for every age up to that of the longest table."""
    if table is None:
        return None
    known = times(vectors, table.mT)
    return torch.cat([known, known[:, -1:].expand(-1, num_ages - table.shape[0])], -1)


def onto_table(aged: Tensor | None, table: Tensor | None) -> Tensor | None:
    """sum_t aged_t T(t): [B, D]; the last row of a shorter table takes all that are left."""
    if aged is None or table is None:
        return None
    last = table.shape[0] - 1
    return times(torch.cat([aged[:, :last], aged[:, last:].sum(-1, keepdim=True)], -1), table)
