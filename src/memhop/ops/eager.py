"""The hop in plain torch, with few and large operations: over the raw memory, or projected first.

A hop is p = softmax_i(q . (A m_i + a)), o = sum_i p_i (C m_i + c), and that is exactly

    p = softmax_i((A^T q) . m_i),    o = C (sum_i p_i m_i) + c sum_i p_i:

one read of the raw memory by the vector A^T q. Nothing of size [N, memory_dim] is made. The term
q . a is the same for every slot and drops out of the softmax; without a softmax it stays.
The projected form reads A m_i and C m_i and is for a memory that many queries share; ``choice``
counts how many.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from memhop.ops.checks import broadcast
from memhop.ops.dispatch import scores_whole_bank
from memhop.ops.inputs import Hop, OncePerTensor
from memhop.ops.reference import Readable, attention, run_hops


def read(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    slots: Tensor | None,
    readable: Readable,
    softmax: bool,
) -> tuple[Tensor, Tensor]:
    """The same as ``reference.read``; a bank is scored whole, or its rows are gathered."""
    if slots is not None and not scores_whole_bank(keys, slots):
        keys, values = gather_both(keys, values, slots)
        slots = None
    scores = score(query, keys) if slots is None else score_bank(query, keys, slots)
    if readable.score_bias is not None:
        scores = scores + readable.score_bias
    weights = attention(scores, readable.ignored, softmax)
    if slots is None:
        return combine(weights, values), weights
    return combine(weights_on_bank(weights, values, slots), values), weights


def raw_multi_hop(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    hops: Sequence[Hop],
    *,
    slots: Tensor | None,
    readable: Sequence[Readable],
) -> tuple[Tensor, list[Tensor]]:
    """The same as ``reference.multi_hop``, reading the raw memory in every hop."""
    if slots is None and values is keys and everything_is_read(keys, hops, readable):
        return read_everything(query, keys, hops)
    if slots is not None and not scores_whole_bank(keys, slots):
        keys, values = gather_both(keys, values, slots)  # once for all hops
        slots = None

    def read_slots(query: Tensor, hop: Hop, may: Readable) -> tuple[Tensor, Tensor]:
        key = query @ hop.a.weight
        summary, weights = read(key, keys, values, slots=slots, readable=may, softmax=hop.softmax)
        return functional.linear(summary, hop.c.weight), weights

    return run_biased_hops(query, hops, readable, read_slots)


def everything_is_read(keys: Tensor, hops: Sequence[Hop], readable: Sequence[Readable]) -> bool:
    """Whether the weights of each hop are a softmax over all slots, so that they sum to 1."""
    for may in readable:
        for part in may:  # torch 2.9 cannot compile a comparison with EVERYTHING
            if part is not None:
                return False
    for hop in hops:
        if not hop.softmax:
            return False
    # An exported graph keeps the number of slots open, to none as well.
    return keys.shape[-2] > 0 and not torch.compiler.is_exporting()


def read_everything(
    query: Tensor, memories: Tensor, hops: Sequence[Hop]
) -> tuple[Tensor, list[Tensor]]:
    """``raw_multi_hop`` in few operations: of a small call they take longer than what they do."""
    if memories.dim() == 3 and memories.shape[0] == 1 and query.dim() == 2:
        memories = memories.squeeze(0)
    one_memory, columns = memories.dim() == query.dim() == 2, memories.mT

    def read_hop(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        hop = hops[k]
        if one_memory:
            weights = torch.softmax(torch.mm(torch.mm(query, hop.a.weight), columns), -1)
            summary = torch.mm(weights, memories)
        else:
            weights = torch.softmax(score(query @ hop.a.weight, memories), -1)
            summary = combine(weights, memories)
        return functional.linear(summary, hop.c.weight, read_bias(hop)), weights

    return run_hops(query, hops, read_hop)


def projected_multi_hop(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    hops: Sequence[Hop],
    *,
    slots: Tensor | None,
    readable: Sequence[Readable],
) -> tuple[Tensor, list[Tensor]]:
    """The same as ``reference.multi_hop``; a weight that hops share projects the memory once."""
    by_a = OncePerTensor(lambda weight: functional.linear(keys, weight))
    by_c = OncePerTensor(lambda weight: functional.linear(values, weight))
    by_c = by_a if values is keys else by_c

    def read_slots(query: Tensor, hop: Hop, may: Readable) -> tuple[Tensor, Tensor]:
        a, c = by_a(hop.a.weight), by_c(hop.c.weight)
        return read(query, a, c, slots=slots, readable=may, softmax=hop.softmax)

    return run_biased_hops(query, hops, readable, read_slots)


def run_biased_hops(
    query: Tensor,
    hops: Sequence[Hop],
    readable: Sequence[Readable],
    read_slots: Callable[[Tensor, Hop, Readable], tuple[Tensor, Tensor]],
) -> tuple[Tensor, list[Tensor]]:
    """Run hops whose ``read_slots`` reads the content of the slots only; biases and temporal rows
    are added here.
    """

    def read_hop(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        hop, may = hops[k], readable[k]
        biased = may._replace(score_bias=score_bias_of(query, hop, may))
        read_out, weights = read_slots(query, hop, biased)
        return add_biases(read_out, weights, hop, may.ages), weights

    return run_hops(query, hops, read_hop)


def score_bias_of(query: Tensor, hop: Hop, may: Readable) -> Tensor | None:
    """All of a score that does not depend on what the slot holds."""
    terms = []
    if may.score_bias is not None:
        terms.append(may.score_bias)
    if hop.a.temporal is not None and may.ages is not None:
        rows = may.ages.clamp(max=hop.a.temporal.shape[0] - 1)
        terms.append(score_bank(query, hop.a.temporal, rows))
    if hop.a.bias is not None and not hop.softmax:
        terms.append((query @ hop.a.bias).unsqueeze(-1))
    return sum(terms[1:], start=terms[0]) if terms else None


def add_biases(read_out: Tensor, weights: Tensor, hop: Hop, ages: Tensor | None) -> Tensor:
    """What a read adds beside the slots' contents; nothing where no slot is readable."""
    bias = read_bias(hop)
    if bias is not None:
        read_out = torch.addcmul(read_out, weights.sum(-1, keepdim=True), bias)
    if hop.c.temporal is not None and ages is not None:
        rows = ages.clamp(max=hop.c.temporal.shape[0] - 1)
        on_table = weights_on_bank(weights, hop.c.temporal, rows)
        read_out = read_out + on_table @ hop.c.temporal
    return read_out


def read_bias(hop: Hop) -> Tensor | None:
    """c; and where a has dropped out of the result, its gradient is zeros and not None."""
    a, c = hop.a.bias, hop.c.bias
    if a is None or not hop.softmax or not torch.is_grad_enabled():
        return c
    if not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None:
        return c  # torch.jit.trace compares a trace with one that it makes without gradients
    return 0.0 * a if c is None else torch.add(c, a, alpha=0.0)


def score(query: Tensor, keys: Tensor) -> Tensor:
    """q . k_i: query [..., I], keys [..., N, I] -> [..., N]."""
    if keys.dim() == 2:
        return functional.linear(query, keys)
    if keys.dim() == 3 and query.shape[:-1] == keys.shape[:-2]:
        return torch.bmm(query.unsqueeze(1), keys.mT).squeeze(1)
    # einsum makes one matrix product of the queries that share keys, and copies no keys.
    return torch.einsum("...i,...ni->...n", query, keys)


def combine(weights: Tensor, values: Tensor) -> Tensor:
    """sum_i p_i v_i: weights [..., N], values [..., N, V] -> [..., V]."""
    if values.dim() == 2:
        return weights @ values
    if values.dim() == 3 and weights.shape[:-1] == values.shape[:-2]:
        return torch.bmm(weights.unsqueeze(1), values).squeeze(1)
    return torch.einsum("...n,...nv->...v", weights, values)


def score_bank(query: Tensor, bank: Tensor, slots: Tensor) -> Tensor:
    """The scores [..., N] of the bank's rows that slots name, out of the scores of all its rows."""
    scores = score(query, bank)
    batch = broadcast([scores.shape[:-1], slots.shape[:-1]])
    return scores.expand(*batch, -1).gather(-1, slots.expand(*batch, -1))


def weights_on_bank(weights: Tensor, bank: Tensor, slots: Tensor) -> Tensor:
    """The weights [..., N] of slots summed onto the rows of the bank that they name: [..., U]."""
    nothing = weights.new_zeros(*weights.shape[:-1], bank.shape[-2])
    return nothing.scatter_add(-1, slots.expand(weights.shape), weights)


def gather_both(keys: Tensor, values: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of both banks that slots name; one gather where both are one."""
    rows = gather_rows(keys, slots)
    return rows, rows if values is keys else gather_rows(values, slots)


def gather_rows(bank: Tensor, slots: Tensor) -> Tensor:
    """The rows [..., N, I] of a bank [..., U, I] that slots [..., N] name; nothing is expanded."""
    leading, num_rows = bank.shape[:-2], bank.shape[-2]
    if leading:
        first_rows = torch.arange(math.prod(leading), device=slots.device) * num_rows
        slots = slots + first_rows.view(*leading, 1)
    rows = bank.reshape(-1, bank.shape[-1])
    if not torch.compiler.is_exporting() and slots.numel() == 0:
        return rows[:0].reshape(
            *slots.shape, rows.shape[-1]
        )  # embedding is not twice differentiable
    return functional.embedding(slots, rows)
