"""``embedding_bag`` compiled for the CPU, forward and backward; imported at its first use."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memhop.ops.text.embedding_bag import EmbeddingBag
from memhop.ops.text.two_row_attention_cpu import arrays, compiled


def embedding_bag(tables: Tensor, bags: EmbeddingBag, chosen: Tensor) -> Tensor:
    """See `memhop.ops.text.embedding_bag.embedding_bag`."""
    return _SumBags.apply(tables, bags, chosen)  # type: ignore[no-untyped-call,no-any-return]


class _SumBags(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tables: Tensor, bags: EmbeddingBag, chosen: Tensor) -> Tensor:
        groups, each, _, columns = tables.shape
        summed = tables.new_zeros(each, groups, chosen.shape[-1], columns)
        ctx.given, ctx.shape = _given(tables, bags, chosen), tables.shape
        _forward(*arrays(tables.contiguous()), *ctx.given, *arrays(summed))
        return summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_summed: Tensor) -> tuple[Tensor | None, ...]:
        grad_tables = grad_summed.new_zeros(ctx.shape)
        _backward(*arrays(grad_tables), *ctx.given, *arrays(grad_summed.contiguous()))
        return grad_tables, None, None


def _given(tables: Tensor, bags: EmbeddingBag, chosen: Tensor) -> tuple[np.ndarray[Any, Any], ...]:
    slope = tables.new_zeros(tables.shape[-1]) if bags.slope is None else bags.slope
    return arrays(bags.starts, bags.rows, bags.plain, bags.slope_weight, slope, chosen.contiguous())


@compiled
def _forward(tables, starts, rows, plain, slope_weight, slope, chosen, summed):  # type: ignore[no-untyped-def]
    each, groups, count, columns = summed.shape
    leaning = np.empty(columns, summed.dtype)
    for r in range(groups):
        for t in range(each):
            for u in range(count):
                bag = np.uint64(chosen[r, u])  # unsigned: no look for a negative index
                leaning[:] = 0
                for j in range(starts[bag], starts[bag + np.uint64(1)]):
                    row = np.uint64(rows[j])
                    for k in range(columns):
                        summed[t, r, u, k] += plain[j] * tables[r, t, row, k]
                    for k in range(columns):
                        leaning[k] += slope_weight[j] * tables[r, t, row, k]
                for k in range(columns):
                    summed[t, r, u, k] += leaning[k] * slope[k]


@compiled
def _backward(grad_tables, starts, rows, plain, slope_weight, slope, chosen, grad_summed):  # type: ignore[no-untyped-def]
    each, groups, count, columns = grad_summed.shape
    leaning = np.empty(columns, grad_summed.dtype)
    for r in range(groups):
        for t in range(each):
            for u in range(count):
                bag = np.uint64(chosen[r, u])
                for k in range(columns):
                    leaning[k] = grad_summed[t, r, u, k] * slope[k]
                for j in range(starts[bag], starts[bag + np.uint64(1)]):
                    row = np.uint64(rows[j])
                    for k in range(columns):
                        grad_tables[r, t, row, k] += (
                            plain[j] * grad_summed[t, r, u, k] + slope_weight[j] * leaning[k]
                        )
