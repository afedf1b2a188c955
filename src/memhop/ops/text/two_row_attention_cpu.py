"""``TwoRowMemory.read`` compiled for the CPU, forward and backward; imported on first use.

Looking rows up costs S N d operations a question, scoring a whole bank U d, and a story has far
fewer statements than its bank has rows. The slots from ``lengths`` on are equal: the kernels
compute the first of them for all.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from memhop.ops.cpu.kernel_cache import KernelCache
from memhop.ops.errors import refuse_create_graph


def compiled(function: Any) -> Any:
    """Return a function that is compiled at its first call, in about two seconds for each dtype.

    Sums may be reordered, so that they are vectorized; infinities and NaN keep their meaning.
    """
    made: Any = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})(function)
    made._cache = KernelCache(function)
    return made


class ReadOptions(NamedTuple):
    """How hops read a bank.

    Attributes:
        hops: K pairs, the tables that are K and V of each hop.
        heads: number of heads.
        mask_rest: whether the slots from ``lengths`` on are ignored.
        softmax: False takes the scores as p.
    """

    hops: tuple[tuple[int, int], ...]
    heads: int
    mask_rest: bool
    softmax: bool


def read(
    query: Tensor, bank: Tensor, rows: Tensor, lengths: Tensor, options: ReadOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sum of the o of all hops [..., B, d], their p [K, ..., B, heads, N], and the bank.

    The query of a hop is q plus the o of those before it. Another read of the bank must take the
    one that is returned, and nothing else may: its gradient passes through all reads, and each adds
    to it in place.

    Args:
        query: q, [..., B, d].
        bank: [T, ..., U, d].
        rows, lengths: [..., B, S, N] and [..., B]; see ``TwoRowMemory``.
        options: see there.
    """
    batches = query.shape[:-2].numel()  # -1 would be ambiguous without slots
    read_out, weights, after = _Read.apply(  # type: ignore[no-untyped-call]
        query.reshape(batches, *query.shape[-2:]).contiguous(),
        _flat(bank),
        rows.reshape(batches, *rows.shape[-3:]).contiguous(),
        lengths.reshape(batches, lengths.shape[-1]).contiguous(),
        options,
    )
    shape = (len(options.hops), *rows.shape[:-2], options.heads, rows.shape[-1])
    return read_out.view(query.shape), weights.view(shape), after.view(bank.shape)


def look_up(bank: Tensor, table: int, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows [..., B, d] of a table, and the bank as `read` does.

    Args:
        bank: [T, ..., U, d].
        table: a number below T.
        rows: int64 [..., B].
    """
    flat = _flat(bank)
    _, batches, num_rows, columns = flat.shape
    first, size = table * batches * num_rows, batches * num_rows
    starts = torch.arange(first, first + size, num_rows)
    index = (rows.reshape(batches, rows.shape[-1]) + starts.unsqueeze(-1)).view(-1)
    found, after = _LookUp.apply(flat, index)  # type: ignore[no-untyped-call]
    return found.view(*rows.shape, columns), after.view(bank.shape)


def _flat(bank: Tensor) -> Tensor:
    """Return a bank with one leading axis after that of the tables."""
    batches = bank.shape[1:-2].numel()
    return bank.reshape(len(bank), batches, *bank.shape[-2:]).contiguous()


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bank: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(index)
        ctx.shape = bank.shape
        return bank.view(-1, bank.shape[-1]).index_select(0, index), bank.view_as(bank)

    @staticmethod
    def backward(
        ctx: Any, grad_found: Tensor | None, grad_bank: Tensor | None
    ) -> tuple[Tensor | None, None]:
        refuse_create_graph("over compiled hops of a text")
        if grad_found is None:
            return grad_bank, None
        if grad_bank is None:
            grad_bank = grad_found.new_zeros(ctx.shape)
        (index,) = ctx.saved_tensors
        grad_bank.view(-1, ctx.shape[-1]).index_add_(0, index, grad_found)
        return grad_bank, None


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        bank: Tensor,
        rows: Tensor,
        lengths: Tensor,
        options: ReadOptions,
    ) -> tuple[Tensor, Tensor, Tensor]:
        hops, heads, *modes = options
        queries = query.new_empty(len(hops), *query.shape)
        queries[0] = query
        read_out = torch.zeros_like(query)
        weights = query.new_empty(len(hops), *rows.shape[:2], heads, rows.shape[3])
        found = *_by_head(heads, queries, read_out), *arrays(weights)
        _forward((*_by_head(heads, bank), *arrays(rows, lengths)), np.array(hops), *modes, found)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(bank, rows, lengths, queries, weights)
        ctx.options = options
        return read_out, weights, bank.view_as(bank)

    @staticmethod
    def backward(ctx: Any, *grad_results: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_create_graph("over compiled hops of a text")
        bank, rows, lengths, queries, weights = ctx.saved_tensors
        hops, heads, *modes = ctx.options
        grad_read_out, grad_weights, grad_bank = grad_results
        if grad_read_out is None:
            grad_read_out = torch.zeros_like(queries[0])
        if grad_weights is None:
            grad_weights = weights.new_empty(0, 0, 0, 0, 0)
        if grad_bank is None:
            grad_bank = torch.zeros_like(bank)
        grad_query = torch.zeros_like(queries[0])
        _backward(
            (*_by_head(heads, bank), *arrays(rows, lengths)),
            np.array(hops),
            *modes,
            (*_by_head(heads, queries), *arrays(weights)),
            (*_by_head(heads, grad_read_out.contiguous()), *arrays(grad_weights.contiguous())),
            _by_head(heads, grad_query, grad_bank),
        )
        return grad_query, grad_bank, None, None, None


def _by_head(heads: int, *tensors: Tensor) -> tuple[np.ndarray[Any, Any], ...]:
    """Return contiguous tensors [..., d] as arrays [..., heads, d / heads]."""
    return tuple(
        each.reshape(*each.shape[:-1], heads, each.shape[-1] // heads) for each in arrays(*tensors)
    )


def arrays(*tensors: Tensor) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the tensors as arrays that share their memory."""
    return tuple(tensor.detach().numpy() for tensor in tensors)


@compiled
def _forward(inputs, hops, mask_rest, softmax, found):  # type: ignore[no-untyped-def]
    bank, rows, lengths = inputs
    queries, read_out, weights = found  # all but the first of the queries are results
    _, batches, questions, heads, columns = queries.shape
    num_rows, slots = rows.shape[2:]
    number = queries.dtype.type
    for r in range(batches):
        for b, hop in np.ndindex(questions, len(hops)):
            used = min(lengths[r, b], slots)
            num_equal = 0 if mask_rest else slots - used
            count = used + (num_equal > 0)
            keys, values = np.uint64(hops[hop, 0]), np.uint64(hops[hop, 1])
            for h in range(heads):
                if hop:
                    for k in range(columns):
                        queries[hop, r, b, h, k] = queries[0, r, b, h, k] + read_out[r, b, h, k]
            for h in range(heads):
                weights[hop, r, b, h] = 0
                score_max = -np.inf
                for i in range(count):
                    score = number(0)
                    for s in range(num_rows):
                        row = np.uint64(rows[r, b, s, i])  # unsigned: no test for a negative index
                        for k in range(columns):
                            score += queries[hop, r, b, h, k] * bank[keys, r, row, h, k]
                    weights[hop, r, b, h, i] = score
                    score_max = max(score_max, score)
                if softmax:
                    exp_sum = 0.0
                    for i in range(count):
                        weight = np.exp(weights[hop, r, b, h, i] - number(score_max))
                        weights[hop, r, b, h, i] = weight
                        exp_sum += weight * (num_equal if i == used else 1)
                    for i in range(count):
                        weights[hop, r, b, h, i] /= exp_sum
                for i in range(count):
                    weight = weights[hop, r, b, h, i] * number(num_equal if i == used else 1)
                    for s in range(num_rows):
                        row = np.uint64(rows[r, b, s, i])
                        for k in range(columns):
                            read_out[r, b, h, k] += weight * bank[values, r, row, h, k]
                for i in range(count, used + num_equal):
                    weights[hop, r, b, h, i] = weights[hop, r, b, h, used]


@compiled
def _backward(inputs, hops, mask_rest, softmax, found, grad_found, gradients):  # type: ignore[no-untyped-def]
    bank, rows, lengths = inputs
    queries, weights = found
    grad_read_out, grad_weights = grad_found  # the last one is empty if it is zero
    grad_query, grad_bank = gradients
    _, batches, questions, heads, columns = queries.shape
    num_rows, slots = rows.shape[2:]
    number = queries.dtype.type
    grad_o, grad_weight = np.empty(columns, queries.dtype), np.empty(slots, queries.dtype)
    for r in range(batches):
        for b, later in np.ndindex(questions, len(hops)):
            hop = len(hops) - 1 - later
            used = min(lengths[r, b], slots)
            num_equal = 0 if mask_rest else slots - used
            count = used + (num_equal > 0)
            keys, values = np.uint64(hops[hop, 0]), np.uint64(hops[hop, 1])
            for h in range(heads):
                for k in range(columns):  # o is in the sum, and in the queries of later hops
                    grad_o[k] = grad_read_out[r, b, h, k] + grad_query[r, b, h, k]
                mean = 0.0
                for i in range(count):
                    grad = number(0)
                    for s in range(num_rows):
                        row = np.uint64(rows[r, b, s, i])
                        for k in range(columns):
                            grad += grad_o[k] * bank[values, r, row, h, k]
                    if grad_weights.size:
                        if i < used:
                            grad += grad_weights[hop, r, b, h, i]
                        else:
                            grad += grad_weights[hop, r, b, h, used:].sum() / num_equal
                    grad_weight[i] = grad
                    mean += weights[hop, r, b, h, i] * grad * (num_equal if i == used else 1)
                for i in range(count):
                    times = number(num_equal if i == used else 1)
                    weight = weights[hop, r, b, h, i] * times
                    grad_score = grad_weight[i] * times
                    if softmax:
                        grad_score = weight * (grad_weight[i] - number(mean))
                    for s in range(num_rows):
                        row = np.uint64(rows[r, b, s, i])
                        # separate loops: only then each is vectorized
                        for k in range(columns):
                            grad_query[r, b, h, k] += grad_score * bank[keys, r, row, h, k]
                        for k in range(columns):
                            grad_bank[keys, r, row, h, k] += grad_score * queries[hop, r, b, h, k]
                        for k in range(columns):
                            grad_bank[values, r, row, h, k] += weight * grad_o[k]
