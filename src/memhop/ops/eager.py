"""The eager forms: plain torch operations over the raw memory, or over a projected memory.

A hop is p = softmax_i(q . (A m_i + a)), o = sum_i p_i (C m_i + c), which equals exactly

    p = softmax_i((A^T q) . m_i),    o = C (sum_i p_i m_i) + c sum_i p_i:

one read of the raw memory by the vector A^T q, without a tensor of size [N, memory_dim]. The term
q . a is the same for every slot and cancels in the softmax; without a softmax it stays.
The projected form reads A m_i and C m_i. It pays off for a memory that many queries share;
``dispatch`` counts how many.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from memhop.ops import heads
from memhop.ops.blocked import one_memory
from memhop.ops.checks import broadcast
from memhop.ops.dispatch import scores_whole_bank
from memhop.ops.inputs import Hop, OncePerTensor
from memhop.ops.reference import (
    MemoryView,
    Readable,
    attention,
    log_sum_exp,
    readable_of_heads,
    run_hops,
)

ReadForm = Callable[[Tensor, MemoryView, bool], tuple[Tensor, Tensor]]
ReadSlots = Callable[[Tensor, int, Readable], tuple[Tensor, Tensor]]


def read(
    query: Tensor, memory: MemoryView, softmax: bool, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the same as ``reference.read``; a bank is scored whole, or its rows are gathered."""
    scores, (_, values, slots, (readable,)) = scored(query, memory)
    weights = attention(scores, readable.ignored, softmax, dropout)
    return combine_slots(weights, values, slots), weights


def read_with_lse(
    query: Tensor, memory: MemoryView, softmax: bool, dropout: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same as ``reference.read_with_lse``."""
    scores, (_, values, slots, (readable,)) = scored(query, memory)
    weights = attention(scores, readable.ignored, softmax, dropout)
    lse = log_sum_exp(scores, readable.ignored)
    return combine_slots(weights, values, slots), weights, lse


def scored(query: Tensor, memory: MemoryView) -> tuple[Tensor, MemoryView]:
    """Return the scores [..., N] of a memory, and the memory, if that is cheaper without slots."""
    keys, values, slots, (readable,) = memory
    if slots is not None and not scores_whole_bank(keys, slots):
        keys, values = gather_both(keys, values, slots)
        slots, memory = None, MemoryView(keys, values, None, (readable,))
    scores = score(query, keys) if slots is None else score_bank(query, keys, slots)
    return scores if readable.score_bias is None else scores + readable.score_bias, memory


def combine_slots(weights: Tensor, values: Tensor, slots: Tensor | None) -> Tensor:
    """Return sum_i p_i v_i of a memory, or of the slots of a bank."""
    return combine(weights if slots is None else scatter_weights(weights, values, slots), values)


def raw_multi_hop(
    query: Tensor,
    memory: MemoryView,
    hops: Sequence[Hop],
    num_heads: int = 1,
    dropout: float = 0.0,
    need_weights: bool = True,
) -> tuple[Tensor, list[Tensor]]:
    """Return the same as ``reference.multi_hop``, reading the raw memory in every hop.

    Weights that are not needed may be left out.
    """
    keys, values, slots, readable = memory
    is_simple = slots is None and values is keys and num_heads == 1 and dropout == 0
    if is_simple and weights_sum_to_one(keys, hops, readable):
        return read_all_slots(query, keys, hops, need_weights)
    if slots is not None and not scores_whole_bank(keys, slots):
        keys, values = gather_both(keys, values, slots)  # once for all hops
        memory = MemoryView(keys, values, None, readable)
    read_form = read if dropout == 0 else partial(read, dropout=dropout)
    return raw_hops(query, memory, hops, num_heads, read_form)


def raw_hops(
    query: Tensor, memory: MemoryView, hops: Sequence[Hop], num_heads: int, read_form: ReadForm
) -> tuple[Tensor, list[Tensor]]:
    """Run hops, each with one read of the raw memory by ``read_form``, as ``read`` is one."""
    keys, values, slots, all_readable = memory

    def read_by_one_head(query: Tensor, k: int, readable: Readable) -> tuple[Tensor, Tensor]:
        (a, _, _), (c, _, _), _, _, softmax = hops[k]
        view = MemoryView(keys, values, slots, (readable,))
        summary, weights = read_form(query if a is None else query @ a, view, softmax)
        return summary if c is None else functional.linear(summary, c), weights

    read_slots: ReadSlots = read_by_one_head
    if num_heads > 1:
        read_slots = read_slots_of_heads(memory, hops, num_heads, read_form)
    return run_biased_hops(query, hops, all_readable, read_slots, num_heads)


def read_slots_of_heads(
    memory: MemoryView, hops: Sequence[Hop], num_heads: int, read_form: ReadForm
) -> ReadSlots:
    """Return the ``read_slots`` of heads, in which each reads the memory by its u = A^T q.

    Without a weight, a head reads its columns of the memory.
    """
    keys, values, slots, _ = memory
    slots = None if slots is None else slots.unsqueeze(-2)

    def rows_of_heads(rows: Tensor, is_identity: bool) -> Tensor:
        return heads.split_rows(rows, num_heads) if is_identity else heads.shared_rows(rows)

    def read_slots(query: Tensor, k: int, readable: Readable) -> tuple[Tensor, Tensor]:
        (a, _, _), (c, _, _), _, _, softmax = hops[k]
        key_rows = rows_of_heads(keys, a is None)
        is_same = values is keys and (a is None) == (c is None)
        value_rows = key_rows if is_same else rows_of_heads(values, c is None)
        if a is not None:
            query = product(query, heads.split_weight(a, num_heads))
        view = MemoryView(key_rows, value_rows, slots, (readable,))
        summary, weights = read_form(query, view, softmax)
        if c is not None:
            summary = product(summary, heads.split_weight(c, num_heads).mT)
        return summary, weights

    return read_slots


def weights_sum_to_one(keys: Tensor, hops: Sequence[Hop], readable: Sequence[Readable]) -> bool:
    """Return whether the weights of each hop are a softmax over all slots without any bias."""
    for ignored, score_bias, ages in readable:  # torch 2.9 cannot compile "is ALL_SLOTS"
        if ignored is not None or score_bias is not None or ages is not None:
            return False
    for hop in hops:
        if not hop.softmax:
            return False
    # An exported graph keeps the number of slots dynamic, and it may be 0.
    return keys.shape[-2] > 0 and not torch.compiler.is_exporting()


def read_all_slots(
    query: Tensor, memories: Tensor, hops: Sequence[Hop], need_weights: bool
) -> tuple[Tensor, list[Tensor]]:
    """Compute ``raw_multi_hop`` in few operations, whose overhead dominates small calls."""
    if memories.dim() == 3 and memories.shape[0] == 1 and query.dim() == 2:
        memories = memories.squeeze(0)
    columns, is_matrix = memories.mT, query.dim() == 2
    is_one = is_matrix and memories.dim() == 2
    own_memories = is_matrix and memories.dim() == 3 and memories.shape[0] == query.shape[0]
    if not need_weights and memories.dim() == 2 and one_memory.pays(query, memories, hops):
        return one_memory.multi_hop(query, memories, hops)
    left_out = query[:0]  # kept, the weights of all hops would be in different memory

    def read_hop(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        hop = hops[k]
        (a, _, _), (c, _, _), _, _, _ = hop
        u = query
        if a is not None:
            u = torch.mm(query, a) if is_matrix else query @ a
        if is_one:
            weights = torch.softmax(torch.mm(u, columns), -1)
            summary = torch.mm(weights, memories)
        elif own_memories:
            rows = torch.softmax(torch.bmm(u.unsqueeze(1), columns), -1)
            summary, weights = torch.bmm(rows, memories).squeeze(1), rows.squeeze(1)
        else:
            weights = torch.softmax(score(u, memories), -1)
            summary = combine(weights, memories)
        if not need_weights:
            weights = left_out
        bias = read_bias(hop)
        if c is not None:
            return functional.linear(summary, c, bias), weights
        return summary if bias is None else summary + bias, weights

    return run_hops(query, hops, read_hop)


def projected_multi_hop(
    query: Tensor,
    memory: MemoryView,
    hops: Sequence[Hop],
    num_heads: int = 1,
    dropout: float = 0.0,
    read_form: ReadForm | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Return the same as ``reference.multi_hop``; each distinct weight projects the memory once."""
    keys, values, slots, all_readable = memory

    by_a = OncePerTensor(lambda weight: functional.linear(keys, weight))
    by_c = OncePerTensor(lambda weight: functional.linear(values, weight))
    by_c = by_a if values is keys else by_c
    read_form = read_form or partial(read, dropout=dropout)
    if num_heads > 1 and slots is not None:
        slots = slots.unsqueeze(-2)

    def read_slots(query: Tensor, k: int, readable: Readable) -> tuple[Tensor, Tensor]:
        a, c = hops[k].a.weight, hops[k].c.weight
        key_rows = keys if a is None else by_a(a)
        value_rows = values if c is None else by_c(c)
        if num_heads > 1:
            key_rows = heads.split_rows(key_rows, num_heads)
            value_rows = heads.split_rows(value_rows, num_heads)
        view = MemoryView(key_rows, value_rows, slots, (readable,))
        return read_form(query, view, hops[k].softmax)

    return run_biased_hops(query, hops, all_readable, read_slots, num_heads)


def run_biased_hops(
    query: Tensor,
    hops: Sequence[Hop],
    all_readable: Sequence[Readable],
    read_slots: ReadSlots,
    num_heads: int = 1,
) -> tuple[Tensor, list[Tensor]]:
    """Run hops of which ``read_slots`` reads the slots."""
    return run_hops(query, hops, biased_read(hops, all_readable, read_slots, num_heads))


def biased_read(
    hops: Sequence[Hop],
    all_readable: Sequence[Readable],
    read_slots: ReadSlots,
    num_heads: int,
) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """Return the ``read_hop`` of ``run_hops`` that adds biases and temporal rows to a read.

    ``read_slots`` gets the query, with heads that of each head, and what to add to the scores.
    """
    if num_heads > 1:
        hops = [heads.split_hop(hop, num_heads) for hop in hops]
        all_readable = [readable_of_heads(readable) for readable in all_readable]

    def read_hop(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        hop, readable = hops[k], all_readable[k]
        if num_heads > 1:
            query = heads.split_units(query, num_heads)
        biased = readable._replace(score_bias=score_bias_of(query, hop, readable))
        read_out, weights = read_slots(query, k, biased)
        read_out = add_biases(read_out, weights, hop, readable.ages)
        return (read_out if num_heads == 1 else read_out.flatten(-2)), weights

    return read_hop


def score_bias_of(query: Tensor, hop: Hop, readable: Readable) -> Tensor | None:
    """Return the part of the scores that does not depend on the contents of the slots."""
    terms = []
    if readable.score_bias is not None:
        terms.append(readable.score_bias)
    if hop.a.temporal is not None and readable.ages is not None:
        terms.append(score_ages(query, hop.a.temporal, readable.ages))
    if hop.a.bias is not None and not hop.softmax:
        terms.append((query * hop.a.bias).sum(-1, keepdim=True))
    return sum(terms[1:], start=terms[0]) if terms else None


def add_biases(read_out: Tensor, weights: Tensor, hop: Hop, ages: Tensor | None) -> Tensor:
    """Return what a hop reads, with the bias and the temporal rows; zero without readable slots."""
    bias = read_bias(hop)
    if bias is not None:
        read_out = torch.addcmul(read_out, weights.sum(-1, keepdim=True), bias)
    if hop.c.temporal is not None and ages is not None:
        read_out = read_out + read_ages(weights, hop.c.temporal, ages)
    return read_out


def score_ages(query: Tensor, temporal: Tensor, ages: Tensor) -> Tensor:
    """Return q . T(i) [..., N] of a temporal table [T, D], or [H, T, d] for a query [..., H, d]."""
    if ages.dim() == 1:
        return score(query, rows_of_ages(temporal, ages))
    return score_bank(query, temporal, ages.clamp(max=temporal.shape[-2] - 1))


def read_ages(weights: Tensor, temporal: Tensor, ages: Tensor) -> Tensor:
    """Return sum_i p_i T(i) [..., D] of a temporal table [T, D], or [..., H, d] of [H, T, d]."""
    if ages.dim() == 1:
        return combine(weights, rows_of_ages(temporal, ages))
    rows = ages.clamp(max=temporal.shape[-2] - 1)
    return combine(scatter_weights(weights, temporal, rows), temporal)


def rows_of_ages(temporal: Tensor, ages: Tensor) -> Tensor:
    """Return T(i) [..., N, D] for ages [N] that all queries share."""
    return temporal.index_select(-2, ages.clamp(max=temporal.shape[-2] - 1))


def read_bias(hop: Hop) -> Tensor | None:
    """Return c, plus zero times a if a cancels: its gradient is zeros and not None."""
    a, c = hop.a.bias, hop.c.bias
    if a is None or not hop.softmax or not torch.is_grad_enabled():
        return c
    if not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None:
        return c  # torch.jit.trace compares a trace with one without gradients
    return 0.0 * a if c is None else torch.add(c, a, alpha=0.0)


def score(query: Tensor, keys: Tensor) -> Tensor:
    """Return q . k_i, [..., N], of a query [..., I] and keys [..., N, I]."""
    if keys.dim() == 2:
        return functional.linear(query, keys)
    if keys.dim() == query.dim() + 1 == 3 and query.shape[0] == keys.shape[0]:
        return torch.bmm(query.unsqueeze(1), keys.mT).squeeze(1)
    return product(query, keys.mT)


def combine(weights: Tensor, values: Tensor) -> Tensor:
    """Return sum_i p_i v_i, [..., V], of weights [..., N] and values [..., N, V]."""
    if values.dim() == 2:
        return weights @ values
    if values.dim() == weights.dim() + 1 == 3 and weights.shape[0] == values.shape[0]:
        return torch.bmm(weights.unsqueeze(1), values).squeeze(1)
    return product(weights, values)


def product(vectors: Tensor, matrices: Tensor) -> Tensor:
    """Return x @ M, [..., J], of vectors [..., I] and matrices [..., I, J].

    Vectors that share a matrix are the rows of one product, without a copy of the matrix.
    """
    if not torch.compiler.is_exporting():
        return torch.einsum("...i,...ij->...j", vectors, matrices)
    # onnxruntime divides by zero in an Einsum of an empty batch
    matrices = matrices[(None,) * (vectors.dim() + 1 - matrices.dim())]
    sizes = vectors.shape[:-1]
    shared = [axis for axis, size in enumerate(sizes) if matrices.shape[axis] == 1 != size]
    if not shared:
        return (vectors.unsqueeze(-2) @ matrices).squeeze(-2)
    axes = [axis for axis in range(len(sizes)) if axis not in shared]
    first = len(axes)
    axes += shared
    rows = vectors.permute(*axes, -1).flatten(first, -2) @ matrices.squeeze(shared)
    rows = rows.reshape(*rows.shape[:-2], *[sizes[axis] for axis in shared], rows.shape[-1])
    return rows.permute(*sorted(range(len(axes)), key=axes.__getitem__), -1)


def score_bank(query: Tensor, bank: Tensor, slots: Tensor) -> Tensor:
    """Return the scores [..., N] of slots, gathered from the scores of all rows of the bank."""
    scores = score(query, bank)
    batch = broadcast([scores.shape[:-1], slots.shape[:-1]])
    return scores.expand(*batch, -1).gather(-1, slots.expand(*batch, -1))


def scatter_weights(weights: Tensor, bank: Tensor, slots: Tensor) -> Tensor:
    """Return weights [..., N] of slots, summed over the slots of each row of the bank: [..., U]."""
    zeros = weights.new_zeros(*weights.shape[:-1], bank.shape[-2])
    return zeros.scatter_add(-1, slots.expand(weights.shape), weights)


def gather_both(keys: Tensor, values: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of both banks that slots index, with one gather if both are one tensor."""
    rows = gather_rows(keys, slots)
    return rows, rows if values is keys else gather_rows(values, slots)


def gather_rows(bank: Tensor, slots: Tensor) -> Tensor:
    """Return the rows [..., N, I] of a bank [..., U, I] at slots [..., N] without expanding it."""
    leading, num_rows = bank.shape[:-2], bank.shape[-2]
    if leading:
        first_rows = torch.arange(math.prod(leading), device=slots.device) * num_rows
        slots = slots + first_rows.view(*leading, 1)
    rows = bank.reshape(-1, bank.shape[-1])
    if not torch.compiler.is_exporting() and slots.numel() == 0:
        # The gradient of an empty embedding is not differentiable.
        return rows[:0].reshape(*slots.shape, rows.shape[-1])
    return functional.embedding(slots, rows)
