"""The form of calls with a window: matrix products on blocks of queries, and nothing is gathered.

With weights w [T, N], vectors x [T, D] and rows y [T + N - 1, D], all that a read and its gradients
need are derivatives of one sum,

    f(w, x, y) = sum_t sum_i w_ti x_t . y_(t + i):

the scores df/dw, the sums over a window df/dx and the gradients of the rows df/dy. Each is linear
in two of w, x and y, and its gradients are the other two.

The R queries of a block read R + N - 1 rows. Their scores are a matrix product [R, R + N - 1], of
which the windows are a diagonal band. All are in one buffer [T, N + R]: its first N columns are the
windows, and the strided matrix whose rows are N + R - 1 numbers apart is the product, because query
r of a block begins one column later than the query before.

The numbers outside of the band are zeros, and zero times NaN or infinity is NaN. So vectors and
rows that are not finite are replaced by zeros, and the numbers that depend on them by NaN.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from memhop.ops.checks import broadcast
from memhop.ops.fused.packing import ensure_last_contiguous
from memhop.ops.reference import MemoryView, Readable, attention, log_sum_exp

MAX_ROWS = 32  # of a block: more compute more outside of the band, fewer are less efficient


class Blocks(NamedTuple):
    """Blocks of which one batched product computes all.

    Attributes:
        sequence: which of P sequences has the blocks; None for one block of each.
        first: the first query of the first block.
        num_blocks, rows: how many blocks, and R.
    """

    sequence: int | None
    first: int
    num_blocks: int
    rows: int

    def of(self, tensor: Tensor, more_rows: int = 0) -> Tensor:
        """Return the rows of the blocks, [num_blocks, R + more_rows, D], of a tensor [P, T, D]."""
        sizes = (self.num_blocks, self.rows + more_rows, tensor.shape[2])
        return self._strided(tensor, sizes, tensor.stride(1))

    def bands(self, buffer: Tensor, num_slots: int) -> Tensor:
        """Return the products, [num_blocks, R, R + N - 1], of a buffer [P, T, N + R]."""
        sizes = (self.num_blocks, self.rows, self.rows + num_slots - 1)
        return self._strided(buffer, sizes, buffer.stride(1) - 1)

    def _strided(self, tensor: Tensor, sizes: tuple[int, int, int], pitch: int) -> Tensor:
        of_sequence, of_row, _ = tensor.stride()
        of_block = of_sequence if self.sequence is None else self.rows * of_row
        offset = (self.sequence or 0) * of_sequence + self.first * of_row
        return tensor.as_strided(sizes, (of_block, pitch, 1), tensor.storage_offset() + offset)


def rows_of_blocks(num_queries: int) -> int:
    """Return R, the queries of a block; the last block may have fewer."""
    return -(-num_queries // -(-num_queries // MAX_ROWS))


def all_blocks(num_sequences: int, num_queries: int) -> Iterator[Blocks]:
    """Yield all blocks, in as few batches as possible."""
    rows = rows_of_blocks(num_queries)
    whole, rest = divmod(num_queries, rows)
    for first, count, size in ((0, whole, rows), (whole * rows, 1 if rest else 0, rest)):
        if count <= num_sequences:
            for block in range(count):
                yield Blocks(None, first + block * size, num_sequences, size)
        else:
            for sequence in range(num_sequences):
                yield Blocks(sequence, first, count, size)


class Scores(Function):
    """s [P, T, N] with s_ti = x_t . y_(t + i), of x [P, T, D] and y [P, T + N - 1, D]."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        num_sequences, num_queries, _ = x.shape
        num_slots = y.shape[1] - num_queries + 1
        width = num_slots + rows_of_blocks(num_queries)
        buffer = x.new_empty(num_sequences, num_queries, width)
        for blocks in all_blocks(num_sequences, num_queries):
            rows = blocks.of(y, num_slots - 1)
            torch.bmm(blocks.of(x), rows.mT, out=blocks.bands(buffer, num_slots))
        return buffer[..., :num_slots]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, y = ctx.saved_tensors
        needs_x, needs_y = ctx.needs_input_grad
        return (
            derivative(Sums, grad, ensure_last_contiguous(y)) if needs_x else None,
            derivative(Spread, grad, ensure_last_contiguous(x)) if needs_y else None,
        )


class Sums(Function):
    """x [P, T, D] with x_t = sum_i w_ti y_(t + i), of w [P, T, N] and y [P, T + N - 1, D]."""

    @staticmethod
    def forward(w: Tensor, y: Tensor) -> Tensor:
        return sums(band_buffer(w), y, num_queries=w.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        w, y = ctx.saved_tensors
        needs_w, needs_y = ctx.needs_input_grad
        grad = ensure_last_contiguous(grad)
        return derivative(Scores, grad, y) if needs_w else None, derivative(
            Spread, w, grad
        ) if needs_y else None


class Spread(Function):
    """y [P, T + N - 1, D] with y_j = sum_t w_t(j - t) x_t, of w [P, T, N] and x [P, T, D]."""

    @staticmethod
    def forward(w: Tensor, x: Tensor) -> Tensor:
        gradient = RowGradient(x, w.shape[2], x.shape[2])
        gradient.add(band_buffer(w), x)
        return gradient.total()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        w, x = ctx.saved_tensors
        needs_w, needs_x = ctx.needs_input_grad
        grad = ensure_last_contiguous(grad)
        return derivative(Scores, x, grad) if needs_w else None, derivative(
            Sums, w, grad
        ) if needs_x else None


class RowGradient:
    """The gradient of rows [P, T + N - 1, D]: y_j = sum_t w_t(j - t) x_t, summed over many w and x.

    Args:
        x: a tensor [P, T, ...] of the dtype of the rows.
        num_slots: N.
        columns: D.
    """

    def __init__(self, x: Tensor, num_slots: int, columns: int) -> None:
        num_sequences, num_queries = x.shape[:2]
        self._found = x.new_zeros(num_sequences, num_queries + num_slots - 1, columns)
        self._num_slots, self._blocks = num_slots, [*all_blocks(num_sequences, num_queries)]
        self._parts: dict[Blocks, Tensor] = {}

    def add(self, buffer: Tensor, x: Tensor) -> None:
        """Add the sum over weights in a buffer [P, T, N + R] and vectors x.

        The gradients of the N slots of a vector that is not finite become NaN.
        """
        if not (x.is_cpu and math.isfinite(x.sum().item())):  # on a GPU that is not known
            is_bad = ~x.isfinite().all(-1, keepdim=True)
            buffer = band_buffer(buffer[..., : self._num_slots].masked_fill(is_bad, torch.nan))
            x = x.masked_fill(is_bad, 0.0)
        for blocks in self._blocks:
            columns, queries = blocks.bands(buffer, self._num_slots).mT, blocks.of(x)
            if blocks.sequence is None:
                blocks.of(self._found, self._num_slots - 1).baddbmm_(columns, queries)
            elif blocks in self._parts:
                self._parts[blocks].baddbmm_(columns, queries)
            else:
                self._parts[blocks] = torch.bmm(columns, queries)

    def total(self) -> Tensor:
        """Return the gradient; those of neighboring blocks overlap, and R rows do not."""
        for blocks, parts in self._parts.items():
            for start in range(0, parts.shape[1], blocks.rows):
                part = parts[:, start : start + blocks.rows]
                shifted = blocks._replace(first=blocks.first + start)
                shifted.of(self._found, part.shape[1] - blocks.rows).add_(part)
        return self._found


def sums(buffer: Tensor, y: Tensor, num_queries: int) -> Tensor:
    """Return ``Sums`` of weights in a buffer [P, T, N + R].

    On the CPU, a row that is not finite reaches its readers only, as NaN.
    """
    num_sequences, num_rows, columns = y.shape
    num_slots = num_rows - num_queries + 1
    found = y.new_empty(num_sequences, num_queries, columns)
    for blocks in all_blocks(num_sequences, num_queries):
        bands = blocks.bands(buffer, num_slots)
        torch.bmm(bands, blocks.of(y, num_slots - 1), out=blocks.of(found))
    if found.is_cpu and not math.isfinite(found.sum().item()):
        is_bad = ~y.isfinite().all(-1, keepdim=True)
        if is_bad.any():
            is_read = is_bad.unfold(1, num_slots, 1).any(-1)
            rows = y.masked_fill(is_bad, 0.0)
            return sums(buffer, rows, num_queries).masked_fill_(is_read, torch.nan)
    return found


def derivative(of: type[Function], first: Tensor, second: Tensor) -> Tensor:
    """Return ``Scores``, ``Sums`` or ``Spread`` of two tensors."""
    found: Tensor = of.apply(first, second)  # type: ignore[no-untyped-call]
    return found


def band_buffer(w: Tensor) -> Tensor:
    """Return a buffer [P, T, N + R] with weights [P, T, N] and zeros."""
    return functional.pad(w, (0, rows_of_blocks(w.shape[1])))


def score(query: Tensor, keys: Tensor) -> Tensor:
    """Return q_t . k_(t + i), [..., T, N], of queries [..., T, I] and keys [..., T + N - 1, I]."""
    batch = broadcast([query.shape[:-2], keys.shape[:-2]])
    found = derivative(Scores, sequences(query, batch), sequences(keys, batch))
    return found.view(*batch, *found.shape[1:])


def combine(weights: Tensor, values: Tensor) -> Tensor:
    """Return sum_i p_ti v_(t + i), [..., T, V], of weights [..., T, N] and their values."""
    batch = broadcast([weights.shape[:-2], values.shape[:-2]])
    found = derivative(Sums, sequences(weights, batch), sequences(values, batch))
    return found.view(*batch, *found.shape[1:])


def sequences(tensor: Tensor, batch: tuple[int, ...]) -> Tensor:
    """Return a tensor [..., T, D] as [P, T, D], without a copy if the whole batch shares it."""
    expanded = tensor.expand(*batch, -1, -1)
    return ensure_last_contiguous(expanded.reshape(-1, *tensor.shape[-2:]))


def read(
    query: Tensor, memory: MemoryView, softmax: bool, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the same as ``eager.read`` of the windows of a memory [..., T + N - 1, I]."""
    _, values, _, (readable,) = memory
    weights = attention(scored(query, memory), readable.ignored, softmax, dropout)
    return combine(weights, values), weights


def read_with_lse(
    query: Tensor, memory: MemoryView, softmax: bool, dropout: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same as ``eager.read_with_lse``."""
    _, values, _, (readable,) = memory
    scores = scored(query, memory)
    weights = attention(scores, readable.ignored, softmax, dropout)
    return combine(weights, values), weights, log_sum_exp(scores, readable.ignored)


def scored(query: Tensor, memory: MemoryView) -> Tensor:
    """Return the scores [..., T, N]."""
    keys, _, _, (readable,) = memory
    scores = score(query, keys)
    return scores if readable.score_bias is None else scores + readable.score_bias


def read_by_heads(
    query: Tensor, memory: MemoryView, softmax: bool, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the same as ``eager.read`` of queries [..., T, H, I] over rows [..., H, M, I]."""
    keys, values, _, (readable,) = memory
    ignored, bias, _ = (None if each is None else swap_heads(each) for each in readable)
    memory = MemoryView(keys, values, None, (Readable(ignored, bias),))
    read_out, weights = read(swap_heads(query), memory, softmax, dropout)
    return swap_heads(read_out), swap_heads(weights)


def swap_heads(tensor: Tensor) -> Tensor:
    """Return [..., T, H, D] as [..., H, T, D], and back; without an axis T as it is."""
    return tensor.transpose(-3, -2) if tensor.dim() > 2 else tensor
