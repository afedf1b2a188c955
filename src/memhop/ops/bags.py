"""Weighted bags of rows of a table: what a sentence of word vectors is.

    e_u = sum_j (plain_j + steep_j slope) * E[row_j]

over the j in bag u, * element-wise, slope [d] or none. Tables with more axes share the bags.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_WORTH_COMPILING = 128  # bags; a few never wait for the compiler


class Bags(NamedTuple):
    """Bags laid out one behind the other.

    Attributes:
        starts: int64 [S + 1], where each bag begins and the last one ends.
        rows: int64 [J], the rows of the table in all bags.
        plain, steep: [J], a weight each.
        slope: [d], or None where the steep weights do not count.
    """

    starts: Tensor
    rows: Tensor
    plain: Tensor
    steep: Tensor
    slope: Tensor | None

    def __len__(self) -> int:
        return len(self.starts) - 1


def sum_bags(tables: Tensor, bags: Bags, chosen: Tensor) -> Tensor:
    """Sum some bags over tables.

    Args:
        tables: E, [R, T, V, d].
        bags: of rows below V, in the dtype of the tables.
        chosen: int64 [R, U], which bags for each of R.

    Returns:
        [T, R, U, d]
    """
    on_cpu = tables.device.type == "cpu" and tables.dtype in (torch.float32, torch.float64)
    if on_cpu and len(bags) >= _WORTH_COMPILING and not torch.compiler.is_compiling():
        from memhop.ops import bags_cpu  # numba takes half a second to import

        return bags_cpu.sum_bags(tables, bags, chosen)
    return _in_torch(tables, bags, chosen)


def _in_torch(tables: Tensor, bags: Bags, chosen: Tensor) -> Tensor:
    """Every bag is summed, by the product of a matrix of weights with the tables."""
    count, width = len(bags), tables.shape[-2]
    sizes = bags.starts[1:] - bags.starts[:-1]
    bag = torch.repeat_interleave(torch.arange(count, device=sizes.device), sizes)
    place = bag * width + bags.rows

    def by(weights: Tensor) -> Tensor:
        matrix = weights.new_zeros(count * width).index_add(0, place, weights)
        return matrix.view(count, width) @ tables

    summed = by(bags.plain)
    if bags.slope is not None:
        summed = summed + by(bags.steep) * bags.slope
    index = chosen[:, None, :, None].expand(-1, tables.shape[1], -1, tables.shape[-1])
    return summed.gather(2, index).transpose(0, 1)
