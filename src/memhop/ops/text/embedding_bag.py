"""Embed sentences as weighted bags of words, for several embedding tables at once.

    e_u = sum_j (base_j + slope_weight_j * slope) * E[row_j]

over the rows j in bag u, where * is element-wise. ``torch.nn.EmbeddingBag`` has one weight for each
row; position encoding needs one for each row and column, which is of rank two.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.fused.addresses import are_readable

WORTH_COMPILING = 128  # bags; below that a call must not wait for the compiler


class WeightedBags(NamedTuple):
    """Bags of table rows with weights, in the layout of ``torch.nn.EmbeddingBag``.

    Attributes:
        offsets: int64 [S + 1], the first row of each bag, and the number of rows.
        rows: int64 [J], the table rows of all bags.
        bag_of_row: int64 [J], the bag of each row.
        base, slope_weight: [J], two weights for each row.
        slope: [d], what ``slope_weight`` is multiplied with in each column; None for zero.
    """

    offsets: Tensor
    rows: Tensor
    bag_of_row: Tensor
    base: Tensor
    slope_weight: Tensor
    slope: Tensor | None

    def __len__(self) -> int:
        return len(self.offsets) - 1


def embedding_bag(tables: Tensor, bags: WeightedBags, chosen: Tensor | None) -> Tensor:
    """Return the sums of bags over tables, [T, R, U, d].

    Args:
        tables: E, [R, T, V, d].
        bags: rows below V, weights in the dtype of the tables.
        chosen: int64 [R, U], the bags to sum for each of R; None for all bags.
    """
    return embed_and_select(tables, bags, chosen, tables.shape[1], 0)[0]


def embed_and_select(
    tables: Tensor, bags: WeightedBags, chosen: Tensor | None, count: int, table: int
) -> tuple[Tensor, Tensor]:
    """Return the sums of bags over the first ``count`` tables, and one of all tables, [R, V, d].

    Together they have one gradient of the tables, where ``select`` has another of the same size.
    """
    on_cpu = tables.device.type == "cpu" and tables.dtype in (torch.float32, torch.float64)
    is_worth_it = on_cpu and len(bags) >= WORTH_COMPILING and not torch.compiler.is_compiling()
    if is_worth_it and are_readable(tables, *bags, chosen):
        from memhop.ops.text import embedding_bag_cpu  # numba takes half a second to import

        if chosen is None:
            chosen = torch.arange(len(bags), device=tables.device).expand(len(tables), -1)
        slope = tables.new_zeros(tables.shape[-1]) if bags.slope is None else bags.slope
        weights = bags.base, bags.slope_weight, slope
        return embedding_bag_cpu.embed_and_select(
            tables, (bags.offsets, bags.rows, *weights, chosen), count, table
        )
    return _eager(tables[:, :count], bags, chosen), tables.select(1, table)


def _eager(tables: Tensor, bags: WeightedBags, chosen: Tensor | None) -> Tensor:
    """Sum all bags, then take the chosen ones."""
    weights = bags.base.unsqueeze(-1)
    if bags.slope is not None:
        weights = weights + bags.slope_weight.unsqueeze(-1) * bags.slope
    weighted = tables.index_select(2, bags.rows) * weights
    empty = weighted.new_zeros(*tables.shape[:2], len(bags), tables.shape[-1])
    summed = empty.index_add(2, bags.bag_of_row, weighted)
    if chosen is None:
        return summed.transpose(0, 1)
    index = chosen[:, None, :, None].expand(-1, tables.shape[1], -1, tables.shape[-1])
    return summed.gather(2, index).transpose(0, 1)
