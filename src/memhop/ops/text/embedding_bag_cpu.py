"""``embedding_bag`` compiled for the CPU, forward and backward; imported on first use."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memhop.ops.text.two_row_attention_cpu import arrays, compiled


def embedding_bag(tables: Tensor, *bags: Tensor) -> Tensor:
    """Return the sums [T, R, U, d] of bags over tables [R, T, V, d].

    ``bags`` are offsets, rows, base, slope_weight and slope of ``WeightedBags``, and the chosen
    bags, [R, U].
    """
    return _EmbeddingBag.apply(tables, *bags)  # type: ignore[no-untyped-call,no-any-return]


class _EmbeddingBag(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tables: Tensor, *bags: Tensor) -> Tensor:
        batches, num_tables, _, columns = tables.shape
        ctx.bags, ctx.shape = arrays(*(tensor.contiguous() for tensor in bags)), tables.shape
        summed = tables.new_empty(num_tables, batches, bags[-1].shape[-1], columns)
        _forward(*arrays(tables.contiguous()), *ctx.bags, *arrays(summed))
        return summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_summed: Tensor) -> tuple[Tensor | None, ...]:
        grad_tables = grad_summed.new_zeros(ctx.shape)
        _backward(*arrays(grad_tables), *ctx.bags, *arrays(grad_summed.contiguous()))
        return grad_tables, *[None] * len(ctx.bags)


@compiled
def _forward(tables, offsets, rows, base, slope_weight, slope, chosen, summed):  # type: ignore[no-untyped-def]
    num_tables, batches, num_chosen, columns = summed.shape
    for r in range(batches):
        for t in range(num_tables):
            for u in range(num_chosen):
                bag = np.uint64(chosen[r, u])  # unsigned: no test for a negative index
                summed[t, r, u] = 0
                for j in range(offsets[bag], offsets[bag + np.uint64(1)]):
                    row = np.uint64(rows[j])
                    for k in range(columns):
                        weight = base[j] + slope_weight[j] * slope[k]
                        summed[t, r, u, k] += weight * tables[r, t, row, k]


@compiled
def _backward(grad_tables, offsets, rows, base, slope_weight, slope, chosen, grad_summed):  # type: ignore[no-untyped-def]
    num_tables, batches, num_chosen, columns = grad_summed.shape
    for r in range(batches):
        for t in range(num_tables):
            for u in range(num_chosen):
                bag = np.uint64(chosen[r, u])
                for j in range(offsets[bag], offsets[bag + np.uint64(1)]):
                    row = np.uint64(rows[j])
                    for k in range(columns):
                        weight = base[j] + slope_weight[j] * slope[k]
                        grad_tables[r, t, row, k] += weight * grad_summed[t, r, u, k]
