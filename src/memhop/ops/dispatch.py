"""Which form is cheaper, by counting operations. Every such choice is made here.

It follows from sizes, dtypes and whether gradients are asked for: the same call takes the same form
each time. The numbers below were measured on two cores of a server's processor.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from memhop.ops.inputs import Hop, Memory, Quantized, storage

# What it costs to gather a row of a bank, counted in rows scored in a matrix product, as measured
# on CPU. In the backward the rows' gradients are added into the bank's one at a time.
GATHERED_ROW = 8
GATHERED_ROW_WITH_GRADIENT = 40

# From how many numbers read in all, columns times slots times rows times hops, one operation for
# all hops pays: it takes about twice as long to call as a few of torch's, and so do its gradients,
# but reads each number once a hop where torch reads it twice and, for gradients, writes it too.
WORTH_FUSING = 2**23
WORTH_FUSING_WITH_GRADIENT = 2**19
# A bank, or numbers that torch would have to widen first: it copies them, the fused form does not
WORTH_FUSING_WHAT_IS_COPIED = 2**19
# Scores [Q, N] of queries that share a memory, from which on they do not stay in a cache
WORTH_CUTTING_INTO_BLOCKS = 2**23

# What a slot of a bank costs to read in the fused form, and beside its row to look up in torch's,
# counted in numbers of a row that is scored in a matrix product.
FUSED_SLOT, FUSED_NUMBER, LOOKED_UP_SLOT = 48, 3, 40


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


def form_of_hops(
    query: Tensor, batch: tuple[int, ...], num_slots: int, memory: Memory, hops: Sequence[Hop]
) -> str:
    """The form for ``impl="auto"``: "fused" where that pays, else the cheaper of the others."""
    num_queries = math.prod(batch)
    form = cheaper_form(num_queries, storage(memory.keys), hops, memory.slots)
    grad = hops[0].a.weight.requires_grad or hops[0].c.weight.requires_grad
    if form == "torch" and fusing_pays(query, num_queries, num_slots, memory, len(hops), grad):
        return "fused"
    return form


def fusing_pays(
    query: Tensor, num_queries: int, num_slots: int, memory: Memory, num_hops: int, grad: bool
) -> bool:
    """Whether one operation for all hops is faster than a few of torch's for each."""
    keys = storage(memory.keys)
    if query.device.type != "cpu" or torch.compiler.is_exporting():
        return False  # on a GPU it has not been measured
    grad = torch.is_grad_enabled() and (grad or query.requires_grad or keys.requires_grad)
    if memory.slots is None and math.prod(keys.shape[:-2]) < num_queries:
        return num_queries * num_slots >= WORTH_CUTTING_INTO_BLOCKS
    worth = WORTH_FUSING_WITH_GRADIENT if grad else WORTH_FUSING
    columns = keys.shape[-1]
    if memory.slots is not None or is_widened(memory, query.dtype):
        worth = WORTH_FUSING_WHAT_IS_COPIED
    if memory.slots is not None:
        in_torch = keys.shape[-2] * columns + LOOKED_UP_SLOT * num_slots
        if FUSED_NUMBER * num_slots * (columns + FUSED_SLOT) > in_torch:
            return False
    return num_queries * num_slots * columns * num_hops >= worth


def is_widened(memory: Memory, dtype: torch.dtype) -> bool:
    """Whether plain torch would have to convert what the slots hold."""
    half = (torch.bfloat16, torch.float16)
    return isinstance(memory.keys, Quantized) or dtype in half or memory.keys.dtype in half
