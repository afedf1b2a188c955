"""``embedding_bag`` compiled for the CPU, forward and backward; imported on first use."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from memhop.ops.errors import refuse_create_graph
from memhop.ops.text.two_row_attention_cpu import arrays, compiled


def embed_and_select(
    tables: Tensor, bags: tuple[Tensor, ...], count: int, table: int
) -> tuple[Tensor, Tensor]:
    """Return the sums [count, R, U, d] of bags over tables [R, T, V, d], and one table [R, V, d].

    ``bags`` are offsets, rows, base, slope_weight and slope of ``WeightedBags``, and the chosen
    bags, [R, U].
    """
    given = tuple(tensor.contiguous() for tensor in bags)
    if not (torch.is_grad_enabled() and tables.requires_grad):
        return _sums(tables, given, count), tables.select(1, table)
    summed, selected = _EmbeddingBag.apply(tables, count, table, *given)  # type: ignore[no-untyped-call]
    return summed, selected


def _sums(tables: Tensor, bags: tuple[Tensor, ...], count: int) -> Tensor:
    """Return the sums of contiguous bags over the first ``count`` tables."""
    summed = tables.new_empty(count, len(tables), bags[-1].shape[-1], tables.shape[-1])
    _forward(*arrays(tables.contiguous(), *bags, summed))
    return summed


class _EmbeddingBag(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tables: Tensor, count: int, table: int, *bags: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.bags, ctx.shape, ctx.table = arrays(*bags), tables.shape, table
        return _sums(tables, bags, count), tables.select(1, table)

    @staticmethod
    def backward(
        ctx: Any, grad_summed: Tensor | None, grad_selected: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        refuse_create_graph("over compiled embeddings of sentences")
        given = grad_summed if grad_selected is None else grad_selected
        if given is None:
            return (None,) * (3 + len(ctx.bags))
        grad_tables = given.new_zeros(ctx.shape)
        if grad_selected is not None:
            grad_tables.select(1, ctx.table).copy_(grad_selected)
        if grad_summed is not None:
            _backward(*arrays(grad_tables), *ctx.bags, *arrays(grad_summed.contiguous()))
        return grad_tables, *[None] * (2 + len(ctx.bags))


@compiled
def _forward(tables, offsets, rows, base, slope_weight, slope, chosen, summed):  # type: ignore[no-untyped-def]
    num_tables, batches, num_chosen, columns = summed.shape
    for r in range(batches):
        for u in range(num_chosen):
            bag = np.uint64(chosen[r, u])  # unsigned: no test for a negative index
            for t in range(num_tables):
                summed[t, r, u] = 0
            for j in range(offsets[bag], offsets[bag + np.uint64(1)]):
                row, weight, steepness = np.uint64(rows[j]), base[j], slope_weight[j]
                for t in range(num_tables):
                    for k in range(columns):
                        summed[t, r, u, k] += (weight + steepness * slope[k]) * tables[r, t, row, k]


@compiled
def _backward(grad_tables, offsets, rows, base, slope_weight, slope, chosen, grad_summed):  # type: ignore[no-untyped-def]
    num_tables, batches, num_chosen, columns = grad_summed.shape
    for r in range(batches):
        for u in range(num_chosen):
            bag = np.uint64(chosen[r, u])
            for j in range(offsets[bag], offsets[bag + np.uint64(1)]):
                row, weight, steepness = np.uint64(rows[j]), base[j], slope_weight[j]
                for t in range(num_tables):
                    for k in range(columns):
                        grad = (weight + steepness * slope[k]) * grad_summed[t, r, u, k]
                        grad_tables[r, t, row, k] += grad
