"""``TwoRowMemory.read`` compiled for the CPU, forward and backward; imported on first use.

Looking rows up costs S N d operations a question, scoring a whole bank U d, and a story has far
fewer statements than its bank has rows. The slots from ``lengths`` on are equal: the kernels
compute the first of them for all.
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
    """Return o [..., B, d] and p [..., B, N] of one head; see ``TwoRowMemory``."""
    batches = query.shape[:-2].numel()  # -1 would be ambiguous without slots
    banks = [tensor.reshape(batches, *tensor.shape[-2:]) for tensor in (query, keys, values)]
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
        tensors = [tensor.contiguous() for tensor in (query, keys, values, rows, lengths)]
        read_out = torch.zeros_like(tensors[0])
        weights = query.new_empty(*rows.shape[:2], rows.shape[3])
        _forward(arrays(*tensors), mask_rest, softmax, *arrays(read_out, weights))
        ctx.save_for_backward(*tensors, weights)
        ctx.options = mask_rest, softmax
        return read_out, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_results: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, weights = ctx.saved_tensors
        gradients = [torch.zeros_like(tensor) for tensor in tensors[:3]]
        results = arrays(weights, *(tensor.contiguous() for tensor in grad_results))
        _backward(arrays(*tensors), *ctx.options, results, arrays(*gradients))
        return (*gradients, None, None, None, None)


def arrays(*tensors: Tensor) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the tensors as arrays that share their memory."""
    return tuple(tensor.detach().numpy() for tensor in tensors)


@compiled
def _forward(inputs, mask_rest, softmax, read_out, weights):  # type: ignore[no-untyped-def]
    query, keys, values, rows, lengths = inputs
    batches, questions, num_rows, slots = rows.shape
    columns = query.shape[2]
    for r in range(batches):
        for b in range(questions):
            used = min(lengths[r, b], slots)
            num_equal = 0 if mask_rest else slots - used
            count = used + (num_equal > 0)
            weights[r, b] = 0
            score_max = -np.inf
            for i in range(count):
                score = query.dtype.type(0)
                for s in range(num_rows):
                    row = np.uint64(rows[r, b, s, i])  # unsigned: no test for a negative index
                    for k in range(columns):
                        score += query[r, b, k] * keys[r, row, k]
                weights[r, b, i] = score
                score_max = max(score_max, score)
            if softmax:
                exp_sum = 0.0
                for i in range(count):
                    weight = np.exp(weights[r, b, i] - query.dtype.type(score_max))
                    weights[r, b, i] = weight
                    exp_sum += weight * (num_equal if i == used else 1)
                for i in range(count):
                    weights[r, b, i] /= exp_sum
            for i in range(count):
                weight = weights[r, b, i] * query.dtype.type(num_equal if i == used else 1)
                for s in range(num_rows):
                    row = np.uint64(rows[r, b, s, i])
                    for k in range(columns):
                        read_out[r, b, k] += weight * values[r, row, k]
            for i in range(count, used + num_equal):
                weights[r, b, i] = weights[r, b, used]


@compiled
def _backward(inputs, mask_rest, softmax, results, gradients):  # type: ignore[no-untyped-def]
    query, keys, values, rows, lengths = inputs
    weights, grad_read_out, grad_weights = results
    grad_query, grad_keys, grad_values = gradients
    batches, questions, num_rows, slots = rows.shape
    columns = query.shape[2]
    grad_weight = np.empty(slots, dtype=query.dtype)
    for r in range(batches):
        for b in range(questions):
            used = min(lengths[r, b], slots)
            num_equal = 0 if mask_rest else slots - used
            count = used + (num_equal > 0)
            mean = 0.0
            for i in range(count):
                grad = query.dtype.type(0)
                for s in range(num_rows):
                    row = np.uint64(rows[r, b, s, i])
                    for k in range(columns):
                        grad += grad_read_out[r, b, k] * values[r, row, k]
                if i < used:
                    grad += grad_weights[r, b, i]
                else:
                    grad += grad_weights[r, b, used:].sum() / num_equal
                grad_weight[i] = grad
                mean += weights[r, b, i] * grad * (num_equal if i == used else 1)
            for i in range(count):
                times = query.dtype.type(num_equal if i == used else 1)
                weight = weights[r, b, i] * times
                grad_score = grad_weight[i] * times
                if softmax:
                    grad_score = weight * (grad_weight[i] - query.dtype.type(mean))
                for s in range(num_rows):
                    row = np.uint64(rows[r, b, s, i])
                    # separate loops: only then each is vectorized
                    for k in range(columns):
                        grad_query[r, b, k] += grad_score * keys[r, row, k]
                    for k in range(columns):
                        grad_keys[r, row, k] += grad_score * query[r, b, k]
                    for k in range(columns):
                        grad_values[r, row, k] += weight * grad_read_out[r, b, k]
