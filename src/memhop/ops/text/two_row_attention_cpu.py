"""``TwoRowMemory.read`` compiled for the CPU, forward and backward; imported at its first use.

Looking up the rows of each slot costs S N d operations a question, scoring a whole bank U d, and
a story has far fewer statements than its bank. The slots from ``lengths`` on are all alike: the
first of them is computed and stands for all.
"""

from typing import Any

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


def read(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: Tensor,
    lengths: Tensor,
    mask_rest: bool,
    softmax: bool,
) -> tuple[Tensor, Tensor]:
    """See `memhop.ops.text.two_row_attention.TwoRowMemory`."""
    batches = query.shape[:-2].numel()  # said, not -1: there may be no slots to tell it from
    banks = [part.reshape(batches, *part.shape[-2:]) for part in (query, keys, values)]
    slots = rows.reshape(batches, *rows.shape[-3:]), lengths.reshape(batches, lengths.shape[-1])
    read_out, weights = _Read.apply(*banks, *slots, mask_rest, softmax)  # type: ignore[no-untyped-call]
    return read_out.view(query.shape), weights.view(*rows.shape[:-2], rows.shape[-1])


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        rows: Tensor,
        lengths: Tensor,
        mask_rest: bool,
        softmax: bool,
    ) -> tuple[Tensor, Tensor]:
        tensors = [part.contiguous() for part in (query, keys, values, rows, lengths)]
        read_out, weights = (
            torch.zeros_like(tensors[0]),
            query.new_empty(*rows.shape[:2], rows.shape[3]),
        )
        _forward(arrays(*tensors), mask_rest, softmax, *arrays(read_out, weights))
        ctx.save_for_backward(*tensors, weights)
        ctx.options = mask_rest, softmax
        return read_out, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_results: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, weights = ctx.saved_tensors
        gradients = [torch.zeros_like(part) for part in tensors[:3]]
        found = arrays(weights, *(part.contiguous() for part in grad_results))
        _backward(arrays(*tensors), *ctx.options, found, arrays(*gradients))
        return (*gradients, None, None, None, None)


def arrays(*tensors: Tensor) -> tuple[np.ndarray[Any, Any], ...]:
    """The tensors as arrays, nothing copied."""
    return tuple(tensor.detach().numpy() for tensor in tensors)


@compiled
def _forward(given, mask_rest, softmax, read, weights):  # type: ignore[no-untyped-def]
    query, keys, values, rows, lengths = given
    batches, questions, terms, slots = rows.shape
    columns = query.shape[2]
    for r in range(batches):
        for b in range(questions):
            used = min(lengths[r, b], slots)
            alike = 0 if mask_rest else slots - used
            count = used + (alike > 0)
            weights[r, b] = 0
            top = -np.inf
            for i in range(count):
                score = query.dtype.type(0)
                for t in range(terms):
                    row = np.uint64(rows[r, b, t, i])  # unsigned: no look for a negative index
                    for k in range(columns):
                        score += query[r, b, k] * keys[r, row, k]
                weights[r, b, i] = score
                top = max(top, score)
            if softmax:
                total = 0.0
                for i in range(count):
                    share = np.exp(weights[r, b, i] - query.dtype.type(top))
                    weights[r, b, i] = share
                    total += share * (alike if i == used else 1)
                for i in range(count):
                    weights[r, b, i] /= total
            for i in range(count):
                weight = weights[r, b, i] * query.dtype.type(alike if i == used else 1)
                for t in range(terms):
                    row = np.uint64(rows[r, b, t, i])
                    for k in range(columns):
                        read[r, b, k] += weight * values[r, row, k]
            for i in range(count, used + alike):
                weights[r, b, i] = weights[r, b, used]


@compiled
def _backward(given, mask_rest, softmax, found, gradients):  # type: ignore[no-untyped-def]
    query, keys, values, rows, lengths = given
    weights, grad_read, grad_weights = found
    query_gradient, keys_gradient, values_gradient = gradients
    batches, questions, terms, slots = rows.shape
    columns = query.shape[2]
    grad_weight = np.empty(slots, dtype=query.dtype)
    for r in range(batches):
        for b in range(questions):
            used = min(lengths[r, b], slots)
            alike = 0 if mask_rest else slots - used
            count = used + (alike > 0)
            mean = 0.0
            for i in range(count):
                slope = query.dtype.type(0)
                for t in range(terms):
                    row = np.uint64(rows[r, b, t, i])
                    for k in range(columns):
                        slope += grad_read[r, b, k] * values[r, row, k]
                if i < used:
                    slope += grad_weights[r, b, i]
                else:
                    slope += grad_weights[r, b, used:].sum() / alike
                grad_weight[i] = slope
                mean += weights[r, b, i] * slope * (alike if i == used else 1)
            for i in range(count):
                times = query.dtype.type(alike if i == used else 1)
                weight = weights[r, b, i] * times
                grad_score = grad_weight[i] * times
                if softmax:
                    grad_score = weight * (grad_weight[i] - query.dtype.type(mean))
                for t in range(terms):
                    row = np.uint64(rows[r, b, t, i])
                    # a loop for each sum: only then each is vectorized
                    for k in range(columns):
                        query_gradient[r, b, k] += grad_score * keys[r, row, k]
                    for k in range(columns):
                        keys_gradient[r, row, k] += grad_score * query[r, b, k]
                    for k in range(columns):
                        values_gradient[r, row, k] += weight * grad_read[r, b, k]
