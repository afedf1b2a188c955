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
from torch.autograd.function import once_differentiable

from memhop.ops.cpu.kernel_cache import KernelCache


def compiled(function: Any) -> Any:
    """Return a function that is compiled at its first call, in about two seconds for each dtype.

    Sums may be reordered, so that they are vectorized; infinities and NaN keep their meaning.
    """
    made: Any = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})(function)
    made._cache = KernelCache(function)
    return made


class ReadOptions(NamedTuple):
    """How a bank is read.

    Attributes:
        keys, values: which tables of the bank are K and V.
        heads: number of heads.
        mask_rest: whether the slots from ``lengths`` on are ignored.
        softmax: False takes the scores as p.
    """

    keys: int
    values: int
    heads: int
    mask_rest: bool
    softmax: bool


def read(
    query: Tensor, bank: Tensor, rows: Tensor, lengths: Tensor, options: ReadOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Return o [..., B, d], p [..., B, heads, N] and the bank; see ``TwoRowMemory``.

    Other reads of the bank must take the one that is returned, and nothing else may: its gradient
    passes through them all, and each adds to it in place.

    Args:
        query: q, [..., B, d].
        bank: [T, ..., U, d].
        rows, lengths: [..., B, S, N] and [..., B].
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
    shape = (*rows.shape[:-2], options.heads, rows.shape[-1])
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
    starts = (table * batches + torch.arange(batches)) * num_rows
    index = (rows.reshape(batches, -1) + starts.unsqueeze(-1)).flatten()
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
    @once_differentiable
    def backward(
        ctx: Any, grad_found: Tensor | None, grad_bank: Tensor | None
    ) -> tuple[Tensor | None, None]:
        if grad_found is None:
            return grad_bank, None
        if grad_bank is None:
            grad_bank = grad_found.new_zeros(ctx.shape)
        grad_bank.view(-1, ctx.shape[-1]).index_add_(0, *ctx.saved_tensors, grad_found)
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
        read_out = torch.zeros_like(query)
        weights = query.new_empty(*rows.shape[:2], options.heads, rows.shape[3])
        q, banks, o = _by_head(options.heads, query, bank, read_out)
        inputs = (q, banks[options.keys], banks[options.values], *arrays(rows, lengths))
        _forward(inputs, options.mask_rest, options.softmax, o, *arrays(weights))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(query, bank, rows, lengths, weights)
        ctx.options = options
        return read_out, weights, bank.view_as(bank)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_results: Tensor | None) -> tuple[Tensor | None, ...]:
        query, bank, rows, lengths, weights = ctx.saved_tensors
        keys, values, heads, *modes = ctx.options
        grad_read_out, grad_weights, grad_bank = grad_results
        if grad_read_out is None:
            grad_read_out = torch.zeros_like(query)
        if grad_weights is None:
            grad_weights = query.new_empty(0, 0, 0, 0)
        if grad_bank is None:
            grad_bank = torch.zeros_like(bank)
        grad_query = torch.zeros_like(query)
        q, banks, grad_o, grad_q, grad_banks = _by_head(
            heads, query, bank, grad_read_out.contiguous(), grad_query, grad_bank
        )
        _backward(
            (q, banks[keys], banks[values], *arrays(rows, lengths)),
            *modes,
            (*arrays(weights), grad_o, *arrays(grad_weights.contiguous())),
            (grad_q, grad_banks[keys], grad_banks[values]),
        )
        return grad_query, grad_bank, None, None, None


def _by_head(heads: int, *tensors: Tensor) -> tuple[np.ndarray[Any, Any], ...]:
    """Return contiguous tensors [..., d] as arrays [..., heads, d / heads]."""
    return arrays(*(t.view(*t.shape[:-1], heads, t.shape[-1] // heads) for t in tensors))


def arrays(*tensors: Tensor) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the tensors as arrays that share their memory."""
    return tuple(tensor.detach().numpy() for tensor in tensors)


@compiled
def _forward(inputs, mask_rest, softmax, read_out, weights):  # type: ignore[no-untyped-def]
    query, keys, values, rows, lengths = inputs
    batches, questions, num_rows, slots = rows.shape
    heads, columns = query.shape[2:]
    for r in range(batches):
        for b in range(questions):
            used = min(lengths[r, b], slots)
            num_equal = 0 if mask_rest else slots - used
            count = used + (num_equal > 0)
            for h in range(heads):
                weights[r, b, h] = 0
                score_max = -np.inf
                for i in range(count):
                    score = query.dtype.type(0)
                    for s in range(num_rows):
                        row = np.uint64(rows[r, b, s, i])  # unsigned: no test for a negative index
                        for k in range(columns):
                            score += query[r, b, h, k] * keys[r, row, h, k]
                    weights[r, b, h, i] = score
                    score_max = max(score_max, score)
                if softmax:
                    exp_sum = 0.0
                    for i in range(count):
                        weight = np.exp(weights[r, b, h, i] - query.dtype.type(score_max))
                        weights[r, b, h, i] = weight
                        exp_sum += weight * (num_equal if i == used else 1)
                    for i in range(count):
                        weights[r, b, h, i] /= exp_sum
                for i in range(count):
                    times = num_equal if i == used else 1
                    weight = weights[r, b, h, i] * query.dtype.type(times)
                    for s in range(num_rows):
                        row = np.uint64(rows[r, b, s, i])
                        for k in range(columns):
                            read_out[r, b, h, k] += weight * values[r, row, h, k]
                for i in range(count, used + num_equal):
                    weights[r, b, h, i] = weights[r, b, h, used]


@compiled
def _backward(inputs, mask_rest, softmax, results, gradients):  # type: ignore[no-untyped-def]
    query, keys, values, rows, lengths = inputs
    weights, grad_read_out, grad_weights = results  # the last one is empty if it is zero
    grad_query, grad_keys, grad_values = gradients
    batches, questions, num_rows, slots = rows.shape
    heads, columns = query.shape[2:]
    grad_weight = np.empty(slots, dtype=query.dtype)
    for r in range(batches):
        for b in range(questions):
            used = min(lengths[r, b], slots)
            num_equal = 0 if mask_rest else slots - used
            count = used + (num_equal > 0)
            for h in range(heads):
                mean = 0.0
                for i in range(count):
                    grad = query.dtype.type(0)
                    for s in range(num_rows):
                        row = np.uint64(rows[r, b, s, i])
                        for k in range(columns):
                            grad += grad_read_out[r, b, h, k] * values[r, row, h, k]
                    if grad_weights.size:
                        if i < used:
                            grad += grad_weights[r, b, h, i]
                        else:
                            grad += grad_weights[r, b, h, used:].sum() / num_equal
                    grad_weight[i] = grad
                    mean += weights[r, b, h, i] * grad * (num_equal if i == used else 1)
                for i in range(count):
                    times = query.dtype.type(num_equal if i == used else 1)
                    weight = weights[r, b, h, i] * times
                    grad_score = grad_weight[i] * times
                    if softmax:
                        grad_score = weight * (grad_weight[i] - query.dtype.type(mean))
                    for s in range(num_rows):
                        row = np.uint64(rows[r, b, s, i])
                        # separate loops: only then each is vectorized
                        for k in range(columns):
                            grad_query[r, b, h, k] += grad_score * keys[r, row, h, k]
                        for k in range(columns):
                            grad_keys[r, row, h, k] += grad_score * query[r, b, h, k]
                        for k in range(columns):
                            grad_values[r, row, h, k] += weight * grad_read_out[r, b, h, k]
