"""Hops over one memory that all queries share, by FlashAttention, where no gradient is recorded."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from memhop.ops.blocked import flash_parts
from memhop.ops.dispatch import WORTH_CUTTING_INTO_BLOCKS, reads_by_flash_attention
from memhop.ops.inputs import Hop
from memhop.ops.reference import run_hops

# The number of scores from which the kernel is faster than two matrix products, which store them,
# and the numbers of a memory from which it is for few queries: the products read the memory twice
MIN_SCORES = 1 << 18
MIN_NUMBERS, FEW_QUERIES = 1 << 20, 32

# From so many slots for each column of A on, small products in float64 take little time
SLOTS_TO_DIM_FOR_FLOAT64 = 8


def pays(query: Tensor, memories: Tensor, hops: Sequence[Hop]) -> bool:
    """Return whether FlashAttention can read a memory [N, I] for all queries, and is faster."""
    num_queries, (num_slots, width) = math.prod(query.shape[:-1]), memories.shape
    is_small = num_queries > FEW_QUERIES or num_slots * width < MIN_NUMBERS
    if num_queries == 0 or (num_queries * num_slots < MIN_SCORES and is_small):
        return False
    return reads_by_flash_attention(query, memories, hops)


def multi_hop(query: Tensor, memories: Tensor, hops: Sequence[Hop]) -> tuple[Tensor, list[Tensor]]:
    """Return ``eager.raw_multi_hop`` of one memory [N, I], without weights and a gradient.

    Where scores are many, small products are in float64, as in the fused form.
    """
    rows = memories.unsqueeze(0)
    num_slots, memory_dim = memories.shape[0], query.shape[-1]
    is_large = math.prod(query.shape[:-1]) * num_slots >= WORTH_CUTTING_INTO_BLOCKS
    most = flash_parts.MAX_PART_SLOTS if is_large else flash_parts.MAX_PRODUCT_SLOTS
    is_exact = is_large and num_slots > SLOTS_TO_DIM_FOR_FLOAT64 * memory_dim

    def read_hop(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        (a, _, _), (c, bias, _), _, _, _ = hops[k]
        u = query
        if a is not None:
            u = (query.double() @ a.double()).to(query.dtype) if is_exact else query @ a
        read_out, _ = flash_parts.attend(u.view(1, 1, -1, u.shape[-1]), rows, rows, most=most)
        read_out = read_out.view(u.shape)
        if c is not None and is_exact:
            read_out = functional.linear(read_out.double(), c.double())
        read_out = read_out.to(query.dtype)
        if c is not None and not is_exact:
            return functional.linear(read_out, c, bias), read_out
        return read_out if bias is None else read_out + bias, read_out

    return run_hops(query, hops, read_hop)
