"""Weighted bags of rows of a table: what a sentence of word vectors is.

    e_u = sum_j (plain_j + steep_j slope) * E[row_j]

over the j in bag u, * element-wise, slope [d] or none. Tables with more axes share the bags.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.fused.addresses import are_readable

WORTH_COMPILING = 128  # bags; a few never wait for the compiler


class EmbeddingBag(NamedTuple):
    """EmbeddingBag laid out one behind the other.

    Attributes:
        starts: int64 [S + 1], where each bag begins and the last one ends.
        rows: int64 [J], the rows of the table in all bags.
        bags: int64 [J], the bag that each of them is in.
        plain, slope_weight: [J], a weight each.
        slope: [d], or None where the slope_weight weights do not count.
    """

    starts: Tensor
    rows: Tensor
    bags: Tensor
    plain: Tensor
    slope_weight: Tensor
    slope: Tensor | None

    def __len__(self) -> int:
        return len(self.starts) - 1


def embedding_bag(tables: Tensor, bags: EmbeddingBag, chosen: Tensor | None) -> Tensor:
    """Sum some bags over tables.

    Args:
        tables: E, [R, T, V, d].
        bags: of rows below V, in the dtype of the tables.
        chosen: int64 [R, U], which bags for each of R; None is all of them.

    Returns:
        [T, R, U, d]
    """
    on_cpu = tables.device.type == "cpu" and tables.dtype in (torch.float32, torch.float64)
    is_worth_it = on_cpu and len(bags) >= WORTH_COMPILING and not torch.compiler.is_compiling()
    if is_worth_it and are_readable(tables, *bags, chosen):
        from memhop.ops.text import embedding_bag_cpu  # numba takes half a second to import

        if chosen is None:
            chosen = torch.arange(len(bags), device=tables.device).expand(len(tables), -1)
        return embedding_bag_cpu.embedding_bag(tables, bags, chosen)
    return _in_torch(tables, bags, chosen)


def _in_torch(tables: Tensor, bags: EmbeddingBag, chosen: Tensor | None) -> Tensor:
    """Every bag is summed, and those that are asked for taken out."""
    weights = bags.plain.unsqueeze(-1)
    if bags.slope is not None:
        weights = weights + bags.slope_weight.unsqueeze(-1) * bags.slope
    picked = tables.index_select(2, bags.rows) * weights
    empty = picked.new_zeros(*tables.shape[:2], len(bags), tables.shape[-1])
    summed = empty.index_add(2, bags.bags, picked)
    if chosen is None:
        return summed.transpose(0, 1)
    index = chosen[:, None, :, None].expand(-1, tables.shape[1], -1, tables.shape[-1])
    return summed.gather(2, index).transpose(0, 1)
