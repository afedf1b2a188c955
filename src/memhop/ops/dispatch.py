"""Choose the form of a call by a cost model, among the forms whose backends support it.

The choice depends on sizes, strides, dtypes, whether gradients are recorded and weights are needed,
and in a layer on whether its kernels are loaded: equal calls take equal forms. The constants were
measured on two cores of a server's processor.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from memhop.ops.call import Call
from memhop.ops.fused import backends
from memhop.ops.fused.addresses import are_readable
from memhop.ops.inputs import Hop, Quantized, Stored, storage

# The cost of gathering a row of a bank, in rows scored by a matrix product, measured on the CPU.
# The backward adds the rows' gradients to the bank one at a time.
GATHERED_ROW = 8
GATHERED_ROW_WITH_GRADIENT = 40

# The numbers read in all hops (columns x slots x rows x hops), times the hops, from which the fused
# form pays off, without and with gradients: in small calls the Python code around a kernel takes
# longer than a few eager operations, and only the eager form takes more of them for another hop.
# There must also be enough slots a row: if the weights dominate for many rows, the eager form is
# faster.
WORTH_FUSING, WORTH_FUSING_WITH_GRADIENT = 2**17, 3 * 2**15
MIN_SLOTS_TO_DIM, LARGE_DIM, MANY_ROWS = 1 / 16, 128, 128
# The same in a compiled graph, without and with gradients, and for a bank
WORTH_FUSING_IN_A_GRAPH = 2**20
WORTH_FUSING_IN_A_GRAPH_WITH_GRADIENT = 2**17
WORTH_FUSING_A_BANK = 2**19
# The number of scores [Q, N] of a shared memory from which they exceed the cache
WORTH_CUTTING_INTO_BLOCKS = 2**21
# The cost of a score beyond the cache, in numbers of a row scored by a matrix product
STORED_SCORE = 64

# The cost of a slot of a bank in the fused form, of one of its numbers, and of one index lookup in
# the eager form, in numbers of a row scored by a matrix product.
FUSED_SLOT, FUSED_NUMBER, LOOKED_UP_SLOT = 48, 3, 40


def form_of(call: Call, need_weights: bool = False) -> str:
    """Return the form for ``impl="auto"``: the cheapest one, or "eager" if that is not available.

    The fused form is not available while its kernels compile in the background.
    """
    if call.window is not None and has_block_products(call):
        return "window"
    form = cheapest_form(call, need_weights)
    if form == "project" and backends.why_not("project", call) is not None:
        return "eager"
    if form != "fused":
        return form
    # A trace must not depend on whether gradients are recorded.
    if not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None:
        return "eager"
    return "fused" if backends.is_usable(call) else "eager"


def has_block_products(call: Call) -> bool:
    """Return whether the queries of a window are computed in blocks, and not each by its view."""
    memory, window = call.memory, call.window
    if torch.compiler.is_compiling() or backends.is_transformed():
        return False
    assert window is not None
    assert isinstance(window.keys, Tensor)
    assert not isinstance(window.values, Quantized)
    if call.batch[-1] < 2 or 0 in call.batch or window.keys.numel() == 0:
        return False
    if memory.score_bias is not None and memory.score_bias.dim() == len(call.batch) + 2:
        return False  # a hop may ignore slots that another reads, and that are not finite
    return are_readable(call.query, window.keys, window.values)


def projects_windows(call: Call) -> bool:
    """Return whether a call with a window projects the memory once, or the query in every hop.

    The costs are those of ``cheaper_form``, with N slots for each query.
    """
    window = call.window
    assert window is not None
    keys = storage(window.keys)
    values = keys if window.values is None else storage(window.values)
    num_queries, memory_dim = math.prod(call.batch), call.query.shape[-1]
    raw, projected, embedded = 0, 0, set[tuple[bool, int]]()
    for hop in call.hops:
        for is_value, weight in enumerate((hop.a.weight, hop.c.weight)):
            if weight is None:
                continue
            input_dim = weight.shape[1]
            raw += num_queries * input_dim * (memory_dim + call.num_heads * call.num_slots)
            projected += num_queries * memory_dim * call.num_slots
            key = (bool(is_value) and values is not keys, id(weight))
            if key not in embedded:
                embedded.add(key)
                rows = values if is_value else keys
                projected += math.prod(rows.shape[:-1]) * memory_dim * input_dim
    return projected < raw


def cheapest_form(call: Call, need_weights: bool = False) -> str:
    """Return "fused" if one operation for all hops pays off, else "project" or "eager"."""
    if torch.compiler.is_exporting():
        return "eager"  # a comparison of sizes would become a guard of the exported graph
    query, num_queries, form = call.query, math.prod(call.batch), "eager"
    is_bank = call.memory.slots is not None
    if call.hops and (is_bank or backends.has_shared_memory(call)):
        is_large = num_queries * call.num_slots >= WORTH_CUTTING_INTO_BLOCKS and not is_bank
        form = cheaper_form(num_queries, call, STORED_SCORE if is_large and query.is_cpu else 0)
    if form != "eager":
        return form
    is_one = call.is_plain and not need_weights and len(call.memory.keys.shape) == 2
    if is_one and reads_by_flash_attention(query, call.memory.keys, call.hops):
        return form
    return "fused" if fusing_pays(call, num_queries * call.num_heads) else form


def reads_by_flash_attention(query: Tensor, memories: Stored, hops: Sequence[Hop]) -> bool:
    """Return whether the eager form reads a memory [N, I] by the kernel that the fused form calls.

    It does so only where no gradient is recorded.
    """
    if torch.compiler.is_compiling() or backends.is_transformed():
        return False
    if not isinstance(memories, Tensor) or memories.dim() != 2 or memories.stride(-1) != 1:
        return False
    weights = [tensor for hop in hops for tensor in (*hop.a, *hop.c, hop.transform)]
    if torch.is_grad_enabled() and any(
        each is not None and each.requires_grad for each in (query, memories, *weights)
    ):
        return False
    is_softmax = all(hop.softmax for hop in hops)
    return is_softmax and query.is_cpu and are_readable(query, memories)


def fusing_pays(call: Call, num_queries: int) -> bool:
    """Return whether one operation for all hops is faster than the eager operations."""
    query, memory, hops, num_slots = call.query, call.memory, call.hops, call.num_slots
    if not query.is_cpu:
        return False  # not measured on a GPU
    keys, slots = storage(memory.keys), memory.slots
    num_scores, columns = num_queries * num_slots, keys.shape[-1]
    if call.num_heads > 1 and (slots is not None or has_identity(hops)):
        return False  # not measured
    if backends.has_shared_memory(call):
        return num_scores >= WORTH_CUTTING_INTO_BLOCKS
    num_hops = max(1, len(hops))
    num_reads = num_scores * columns * num_hops
    if slots is not None:
        eager = keys.shape[-2] * columns + LOOKED_UP_SLOT * num_slots
        is_cheaper = FUSED_NUMBER * num_slots * (columns + FUSED_SLOT) <= eager
        return num_reads >= WORTH_FUSING_A_BANK and is_cheaper
    is_compiling = torch.compiler.is_compiling()
    if torch.is_grad_enabled() and needs_grad(call):
        if is_compiling:
            return num_reads >= WORTH_FUSING_IN_A_GRAPH_WITH_GRADIENT
        return call.is_repeated or num_reads * num_hops >= WORTH_FUSING_WITH_GRADIENT
    if is_compiling:
        return num_reads >= WORTH_FUSING_IN_A_GRAPH
    if num_reads * num_hops < WORTH_FUSING and not call.is_repeated:
        return False
    memory_dim = query.shape[-1]
    has_large_weights = memory_dim >= LARGE_DIM and num_slots < MIN_SLOTS_TO_DIM * memory_dim
    return num_queries < MANY_ROWS or not has_large_weights


def needs_grad(call: Call) -> bool:
    """Return whether query, memory or the weights of the first hop require a gradient."""
    query, (keys, values, *_), hops = call.query, call.memory, call.hops
    if query.requires_grad or storage(keys).requires_grad:
        return True
    if values is not None and storage(values).requires_grad:
        return True
    tables = (hops[0].a, hops[0].c) if hops else ()
    return any(table.weight is not None and table.weight.requires_grad for table in tables)


def has_identity(hops: Sequence[Hop]) -> bool:
    """Return whether a table of a hop is the identity."""
    return any(hop.a.weight is None or hop.c.weight is None for hop in hops)


def cheaper_form(num_queries: int, call: Call, stored_score: int = 0) -> str:
    """Return "project" or "eager", whichever takes fewer multiplications.

    The eager form maps each query into the space of the memory and back, 2 D I in each hop, and
    each of its H heads scores and sums rows of size I. The projected form scores and sums rows of
    size D, after it embeds every row of every memory, D I for each weight that is not shared
    between hops. Where a table is the identity, both score or sum rows of size D.
    With Q queries on each memory of N slots, K hops and W distinct A and C (2 K untied, K + 1
    adjacent, 2 layer-wise), one head and without ``slots``, the projected form is cheaper if

        Q (1/N + 1/D - 1/I) > W / 2K.

    Untied, that is Q > N if D = I, and about Q > D if N and I are far above D. The projected form
    stores all scores, at a cost of ``stored_score`` each.
    """
    memories, slots, memory_dim = call.memory.keys, call.memory.slots, call.query.shape[-1]
    rows = memories.shape[-2]
    if slots is not None:
        rows = min(rows, slots.shape[-1] * cost_of_gathering(storage(memories)))
    values = memories if call.memory.values is None else call.memory.values
    all_a: list[int] = []
    all_c: list[int] = []
    for (a, _, _), (c, _, _), _, _, _ in call.hops:
        if a is not None:
            all_a.append(id(a))
        if c is not None:
            all_c.append(id(c))
    input_dim, value_dim = memories.shape[-1], values.shape[-1]
    columns = len(all_a) * input_dim + len(all_c) * value_dim
    identities = 2 * len(call.hops) - len(all_a) - len(all_c)
    raw = (memory_dim + call.num_heads * rows) * columns + rows * memory_dim * identities
    projected = len(call.hops) * rows * (2 * memory_dim + stored_score)
    of_a = set(all_a)
    columns = len(of_a) * input_dim + len(set(all_c) - of_a) * value_dim
    embedding = math.prod(memories.shape[:-1]) * memory_dim * columns
    return "project" if num_queries * projected + embedding < num_queries * raw else "eager"


def scores_whole_bank(bank: Tensor, slots: Tensor) -> bool:
    """Return whether scoring all rows of a bank costs less than gathering those of the slots."""
    if torch.compiler.is_exporting():
        return True  # as in ``cheapest_form``
    return bank.shape[-2] <= slots.shape[-1] * cost_of_gathering(bank)


def cost_of_gathering(bank: Tensor) -> int:
    """Return the cost of a gathered row, in rows scored."""
    if torch.is_grad_enabled() and bank.requires_grad:
        return GATHERED_ROW_WITH_GRADIENT
    return GATHERED_ROW
