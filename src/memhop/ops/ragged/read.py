"""Read a ragged memory: each query follows the slots of the nodes on its frontier.

In a knowledge base the nodes are entities, and a slot is a fact (subject, relation, object). One
read turns the weights x of a query's nodes into weights x' of the nodes that their slots lead to:

    p_i = softmax_i(log x[start_i] + q . K[key_i] + b_i),    x'[n] = sum of p_i over target_i = n

over the slots i of all nodes on the frontier, so p_i is proportional to
x[start_i] exp(q . K[key_i] + b_i), and the scale of x has no effect. The cost is that of the slots
that are read, whatever the size of the memory.
"""

import torch
from torch import Tensor

from memhop.ops.errors import raise_invalid
from memhop.ops.fused.addresses import are_readable
from memhop.ops.ragged.frontier import (
    Frontier,
    RaggedMemory,
    Reads,
    offsets_of,
    row_sums,
    rows_of,
)

WORTH_COMPILING = 256  # slots; a smaller read must not wait for the compiler


def read_ragged(
    query: Tensor,
    keys: Tensor,
    memory: RaggedMemory,
    frontier: Frontier,
    *,
    score_bias: Tensor | None = None,
) -> tuple[Frontier, Reads]:
    """Return the frontier x' after one read, and the slots that were read; see the module.

    Args:
        query: q, [B, d].
        keys: K, [R, d].
        memory: the slots.
        frontier: x; entries of weight zero are not followed.
        score_bias: b, [S]; -inf hides a slot.

    Returns:
        The new frontier, whose nodes are in the order in which they were reached, and the slots
        with their p. Both are differentiable with respect to the query, the keys, x and b. A query
        that reaches no slot has no entries. Weights are in the dtype of the query.

    Raises:
        ValueError: for incompatible shapes, dtypes and devices.

    >>> from memhop.ops.ragged.frontier import ragged_memory, uniform_frontier
    >>> memory = ragged_memory(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([1, 2]), 3)
    >>> query = torch.tensor([[0.0, 9.0]])
    >>> after, _ = read_ragged(query, torch.eye(2), memory, uniform_frontier([(0,)]))
    >>> after.nodes, after.weights.round(decimals=3)
    (tensor([1, 2]), tensor([0., 1.]))
    """
    check(query, keys, memory, frontier, score_bias)
    scores = query @ keys.mT
    starts = memory.offsets[frontier.nodes]
    counts = memory.offsets[frontier.nodes + 1] - starts
    counts = counts.masked_fill(frontier.weights.detach() <= 0, 0)
    offsets = offsets_of(counts)
    entries = rows_of(offsets)  # of the frontier, of each slot that is read
    slots = torch.arange(len(entries), device=entries.device) + (starts - offsets[:-1])[entries]
    reads = offsets[frontier.offsets]
    tensors = scores, frontier.weights, score_bias
    if is_worth_compiling(tensors, len(slots)):
        from memhop.ops.ragged import read_cpu  # numba takes half a second to import

        return read_cpu.read(tensors, memory, frontier, entries, slots, reads)
    return read_eager(tensors, memory, frontier, entries, slots, reads)


def check(
    query: Tensor,
    keys: Tensor,
    memory: RaggedMemory,
    frontier: Frontier,
    score_bias: Tensor | None,
) -> None:
    """Check shapes, dtypes and devices; indices are those of the caller."""
    arguments = {"query": query, "keys": keys, "weights of the frontier": frontier.weights}
    if score_bias is not None:
        arguments["score_bias"] = score_bias
    if query.dim() != 2 or keys.dim() != 2 or query.shape[1] != keys.shape[1]:
        raise_invalid("read_ragged", "query [B, d] and keys [R, d]", arguments)
    if len(frontier.offsets) != len(query) + 1:
        expected = f"a frontier of {len(query)} queries"
        raise_invalid("read_ragged", expected, {**arguments, "its offsets": frontier.offsets})
    if len(frontier.nodes) != len(frontier.weights):
        raise_invalid("read_ragged", "a weight of each node of the frontier", arguments)
    if score_bias is not None and score_bias.shape != memory.keys.shape:
        raise_invalid("read_ragged", f"score_bias [{memory.num_slots}]", arguments)
    if len({(one.dtype, one.device) for one in arguments.values()}) > 1:
        raise_invalid("read_ragged", "one dtype and device", arguments)
    if query.dtype not in (torch.float32, torch.float64):
        raise_invalid("read_ragged", "float32 or float64", arguments)


def is_worth_compiling(tensors: tuple[Tensor, Tensor, Tensor | None], num_slots: int) -> bool:
    """Return whether the compiled form reads the slots."""
    if num_slots < WORTH_COMPILING or not tensors[0].is_cpu or torch.compiler.is_compiling():
        return False
    return are_readable(*tensors)


def read_eager(
    tensors: tuple[Tensor, Tensor, Tensor | None],
    memory: RaggedMemory,
    frontier: Frontier,
    entries: Tensor,
    slots: Tensor,
    reads: Tensor,
) -> tuple[Frontier, Reads]:
    """Read by torch operations.

    Args:
        tensors: the scores [B, R] of all keys, x [M] and b.
        memory: the slots.
        frontier: the frontier.
        entries: int64 [P], the entry of the frontier from which each slot is read.
        slots: int64 [P], the slots that are read.
        reads: int64 [B + 1], the offsets of the slots of each query.
    """
    scores, weights, score_bias = tensors
    rows = rows_of(reads)
    total = weights[entries].log() + scores[rows, memory.keys[slots]]
    if score_bias is not None:
        total = total + score_bias[slots]
    top = total.detach().new_full((len(scores),), -torch.inf)
    top = top.scatter_reduce(0, rows, total.detach(), "amax")
    shifted = (total - top.masked_fill(top == -torch.inf, 0.0)[rows]).exp()
    sums = row_sums(shifted, reads)
    shares = shifted / sums.masked_fill(sums == 0, 1.0)[rows]
    reached = rows * memory.num_nodes + memory.targets[slots]
    after, places = first_occurrences(reached)
    sums = shares.new_zeros(len(after), dtype=torch.float64).index_add(0, places, shares.double())
    counts = torch.bincount(after // memory.num_nodes, minlength=len(scores))
    nodes = after % memory.num_nodes
    result = Frontier(offsets_of(counts), nodes, sums.to(shares.dtype))
    return result, Reads(reads, slots, shares)


def first_occurrences(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct values in the order of their first occurrence, and the place of each.

    >>> first_occurrences(torch.tensor([7, 3, 7]))
    (tensor([7, 3]), tensor([0, 1, 0]))
    """
    distinct, inverse = torch.unique(values, return_inverse=True)
    numbers = torch.arange(len(values), device=values.device)
    first = torch.full_like(distinct, len(values)).scatter_reduce(0, inverse, numbers, "amin")
    order = first.argsort()
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return distinct[order], place[inverse]
