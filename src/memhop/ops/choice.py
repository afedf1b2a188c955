"""Which form is cheaper, by counting operations. Every such choice is made here."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from memhop.ops.weights import Hop

# What it costs to gather a row of a bank, counted in rows scored in a matrix product, as measured
# on CPU. In the backward the rows' gradients are added into the bank's one at a time.
GATHERED_ROW = 8
GATHERED_ROW_WITH_GRADIENT = 40


def cheaper_form(
    num_queries: int, memories: Tensor, hops: Sequence[Hop], slots: Tensor | None
) -> str:
    """Whichever of "project" and "torch" takes fewer multiplications.

    The raw form carries each query into the space of the memory and back, 2 D I in each hop, and
    scores and sums rows of size I. The projected form scores and sums rows of size D, and before
    that embeds every row of every memory, D I for each weight that is not shared between hops.
    With Q queries on each memory of N slots, K hops and W distinct A and C (2 K untied, K + 1
    adjacent, 2 layer-wise), and no ``slots``, the projected form is the cheaper one where

        Q (1/N + 1/D - 1/I) > W / 2K.

    Untied, that is Q > N where D = I, and Q > D or so where N and I are far above D.
    """
    if torch.compiler.is_exporting():
        return "torch"  # a comparison of sizes would tie the exported graph to one side of it
    memory_dim, input_dim = hops[0].a.weight.shape
    weights = {id(table.weight) for hop in hops for table in (hop.a, hop.c)}
    embedding = len(weights) * math.prod(memories.shape[:-1]) * memory_dim * input_dim
    rows = rows_read(memories, slots)
    raw = 2 * len(hops) * num_queries * (memory_dim + rows) * input_dim
    projected = 2 * len(hops) * num_queries * rows * memory_dim + embedding
    return "project" if projected < raw else "torch"


def rows_read(memories: Tensor, slots: Tensor | None) -> int:
    """What one query costs in one read, counted in rows scored."""
    if slots is None:
        return memories.shape[-2]
    return min(memories.shape[-2], slots.shape[-1] * cost_of_gathering(memories))


def scores_whole_bank(bank: Tensor, slots: Tensor) -> bool:
    """Whether scoring all rows of a bank costs less than gathering those that slots name."""
    if torch.compiler.is_exporting():
        return True  # as above
    return bank.shape[-2] <= slots.shape[-1] * cost_of_gathering(bank)


def cost_of_gathering(bank: Tensor) -> int:
    """The cost of a gathered row, in rows scored."""
    if torch.is_grad_enabled() and bank.requires_grad:
        return GATHERED_ROW_WITH_GRADIENT
    return GATHERED_ROW
