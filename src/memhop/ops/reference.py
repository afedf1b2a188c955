"""The formulas as the paper writes them (arXiv 1503.08895, section 2): embed, attend, read.

This form is slow. The other forms must equal it, and they are timed against it. They share with it
``readable_slots`` and ``slot_ages`` (which slots a hop reads, and their ages), ``attention``
(scores to weights), ``run_hops`` (the loop over hops) and ``update`` (the query after a read). A
comparison of the forms does not test these shared functions: ``tests/ops/oracle.py`` does, in
NumPy, written from the paper.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from memhop.ops import heads
from memhop.ops.inputs import MLP, BankHop, Hop, Table, relu_units


class Readable(NamedTuple):
    """Which slots one hop reads.

    Attributes:
        ignored: bool [..., N], True for a slot of weight zero; None if all slots are readable.
        score_bias: added to the scores, [..., N], or None.
        ages: the number of newer readable slots of each slot, [N] or [..., N]; None without
            temporal tables.
    """

    ignored: Tensor | None = None
    score_bias: Tensor | None = None
    ages: Tensor | None = None


ALL_SLOTS = Readable()


class MemoryView(NamedTuple):
    """A memory as the forms read it, in the compute dtype.

    Attributes:
        keys: [..., N, I], or with slots a bank [..., U, I].
        values: [..., N, V] or [..., U, V]; the same tensor object if they are the keys.
        slots: int64 [..., N], or None.
        readable: one entry for ``read``, or one for each hop.
    """

    keys: Tensor
    values: Tensor
    slots: Tensor | None
    readable: Sequence[Readable]


def read(
    query: Tensor, memory: MemoryView, softmax: bool, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return (o, p) with p_i = softmax_i(q . k_i + b_i) and o = sum_i p_i v_i."""
    (readable,) = memory.readable
    return attend(query, *gathered(memory), readable, softmax, dropout)


def read_with_lse(
    query: Tensor, memory: MemoryView, softmax: bool, dropout: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (o, p, log sum_i exp(q . k_i + b_i)) of a read with a softmax."""
    (readable,), (keys, _) = memory.readable, gathered(memory)
    lse = log_sum_exp(score(query, keys, readable), readable.ignored)
    return *read(query, memory, softmax, dropout), lse


def multi_hop(
    query: Tensor,
    memory: MemoryView,
    hops: Sequence[Hop],
    num_heads: int = 1,
    dropout: float = 0.0,
) -> tuple[Tensor, list[Tensor]]:
    """Return (q, [p, ...]) after p_i = softmax_i(q . A m_i), q <- q + sum_i p_i C v_i of each hop.

    The values v_i are the keys m_i unless the caller passes others. With heads, each has its part
    of q, A m_i and C v_i.
    """
    keys, values = gathered(memory)

    def read_hop(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        hop, readable = hops[k], memory.readable[k]
        a, c = embed(keys, hop.a, readable.ages), embed(values, hop.c, readable.ages)
        if num_heads == 1:
            return attend(query, a, c, readable, hop.softmax, dropout)
        a, c = heads.split_rows(a, num_heads), heads.split_rows(c, num_heads)
        query, readable = heads.split_units(query, num_heads), readable_of_heads(readable)
        read_out, weights = attend(query, a, c, readable, hop.softmax, dropout)
        return read_out.flatten(-2), weights

    return run_hops(query, hops, read_hop)


def run_hops(
    query: Tensor,
    hops: Sequence[Hop | BankHop],
    read_hop: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    mlps: Sequence[MLP] = (),
) -> tuple[Tensor, list[Tensor]]:
    """Return the query after all hops, and the attention of each: the loop of every eager form.

    Args:
        query: q, [..., D].
        hops: the options of each hop.
        read_hop: returns o and p of hop k, given the query and k.
        mlps: the MLP after each hop; empty for none.
    """
    attentions = []
    for k, hop in enumerate(hops):
        read_out, weights = read_hop(query, k)
        query = update(query, read_out, hop)
        if mlps:
            query = query + torch.relu(query @ mlps[k].w + mlps[k].b) @ mlps[k].v
        attentions.append(weights)
    return query, attentions


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    readable: Readable,
    softmax: bool,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return (o, p) of a query, keys [..., N, I] and values [..., N, V]."""
    scores = score(query, keys, readable)
    weights = attention(scores, readable.ignored, softmax, dropout)
    return (weights.unsqueeze(-2) @ values).squeeze(-2), weights


def score(query: Tensor, keys: Tensor, readable: Readable) -> Tensor:
    """Return s_i = q . k_i + b_i, [..., N]."""
    scores = (keys @ query.unsqueeze(-1)).squeeze(-1)
    return scores if readable.score_bias is None else scores + readable.score_bias


def log_sum_exp(scores: Tensor, ignored: Tensor | None) -> Tensor:
    """Return log sum_i exp(s_i) over the slots that are not ignored, [...]; -inf without any."""
    if ignored is None or scores.shape[-1] == 0:
        return torch.logsumexp(scores, -1)
    # The lowest finite number, as in ``attention``
    lse = torch.logsumexp(scores.masked_fill(ignored, torch.finfo(scores.dtype).min), -1)
    return lse.masked_fill(ignored.all(-1), -torch.inf)


def embed(memories: Tensor, table: Table, ages: Tensor | None) -> Tensor:
    """Return A m_i + a + T_A(i) for every slot."""
    embedded = memories
    if table.weight is not None:
        embedded = functional.linear(memories, table.weight, table.bias)
    elif table.bias is not None:
        embedded = memories + table.bias
    if table.temporal is None or ages is None:
        return embedded
    return embedded + table.temporal[ages.clamp(max=table.temporal.shape[0] - 1)]


def update(query: Tensor, read_out: Tensor, hop: Hop | BankHop) -> Tensor:
    """Return q + o, or H q + o with a transform, followed by the ReLU of the hop.

    Leading axes of H [..., D, D] are those of the query.
    """
    h = hop.transform
    if h is not None:  # linear takes no leading axes
        query = functional.linear(query, h) if h.dim() == 2 else query @ h.mT
    updated = query + read_out
    return activated(updated, hop.relu) if hop.relu else updated


def activated(query: Tensor, relu: bool | float) -> Tensor:
    """Return a query [..., D] with ReLU on a share of its units, as ``Hop.relu`` defines it."""
    if relu is False:
        return query
    if relu is True:
        return torch.relu(query)
    memory_dim = query.shape[-1]
    linear, rectified = query.tensor_split([memory_dim - relu_units(relu, memory_dim)], -1)
    return torch.cat([linear, torch.relu(rectified)], -1)


def gathered(memory: MemoryView) -> tuple[Tensor, Tensor]:
    """Return keys and values [..., N, I] and [..., N, V], with slots the rows of the banks."""
    keys, values, slots, _ = memory
    return (keys, values) if slots is None else (rows_of(keys, slots), rows_of(values, slots))


def rows_of(bank: Tensor, slots: Tensor) -> Tensor:
    """Return the rows [..., N, I] of a bank [..., U, I] at slots [..., N]."""
    missing = slots.dim() + 1 - bank.dim()
    bank = bank.reshape((1,) * missing + bank.shape)
    slots = slots.reshape((1,) * -missing + slots.shape)
    return torch.take_along_dim(bank, slots.unsqueeze(-1), dim=-2)


def slots_beyond(lengths: Tensor, num_slots: int) -> Tensor:
    """Return the mask [..., N] of the slots that lengths [...] exclude."""
    return torch.arange(num_slots, device=lengths.device) >= lengths.unsqueeze(-1)


def ignored_slots(
    padding_mask: Tensor | None, lengths: Tensor | None, num_slots: int
) -> Tensor | None:
    """Return the slots that a mask [..., N] or lengths [...] exclude, or None without both."""
    if lengths is None:
        return padding_mask
    excluded = slots_beyond(lengths, num_slots)
    return excluded if padding_mask is None else padding_mask | excluded


def readable_slots(ignored: Tensor | None, score_bias: Tensor | None) -> Readable:
    """Return which slots are readable: those that are not ignored and have a bias above -inf."""
    if ignored is None and score_bias is None:
        return ALL_SLOTS
    if score_bias is not None:
        excluded = score_bias == -torch.inf
        ignored = excluded if ignored is None else ignored | excluded
    return Readable(ignored, score_bias)


def readable_in_each_hop(
    hops: Sequence[Hop],
    num_slots: int,
    ignored: Tensor | None,
    biases: Sequence[Tensor | None],
    newest_first: bool = False,
) -> list[Readable]:
    """Return which slots each hop reads, for one bias of all hops or one bias a hop.

    Without hops, return the one entry of a ``read``.
    """
    tables = [table.temporal for hop in hops for table in (hop.a, hop.c)]
    temporal = next((table for table in tables if table is not None), None)
    all_readable = []
    for bias in biases:
        readable = readable_slots(ignored, bias)
        if temporal is not None:
            ages = slot_ages(num_slots, readable.ignored, temporal.device, newest_first)
            readable = readable._replace(ages=ages)
        all_readable.append(readable)
    return all_readable if len(biases) > 1 else all_readable * max(1, len(hops))


def readable_of_heads(readable: Readable) -> Readable:
    """Return which slots each head reads, with an axis for heads: the same for all."""
    return Readable._make(None if part is None else part.unsqueeze(-2) for part in readable)


def slot_ages(
    num_slots: int,
    ignored: Tensor | None,
    device: torch.device,
    newest_first: bool = False,
    num_newer: int | Tensor = 0,
) -> Tensor:
    """Return the number of newer readable slots of each slot, [N] or [..., N].

    Newer slots are those after a slot, or with ``newest_first`` those before it. ``num_newer``,
    [...], is the number of readable slots of the memory that are newer than all of these.
    """
    if ignored is None:
        ages = torch.arange(num_slots, device=device)
        ages = ages if newest_first else ages.flip(0)
    else:
        readable = ~ignored
        up_to_each = readable.cumsum(-1) if newest_first else readable.flip(-1).cumsum(-1).flip(-1)
        ages = (up_to_each - 1).clamp(min=0)
    return ages + (num_newer.unsqueeze(-1) if isinstance(num_newer, Tensor) else num_newer)


def attention(
    scores: Tensor, ignored: Tensor | None, softmax: bool, dropout: float = 0.0
) -> Tensor:
    """Return the weights of scores; ignored slots have weight zero, even if all are ignored."""
    if dropout > 0:
        return functional.dropout(attention(scores, ignored, softmax), dropout)
    if ignored is None:
        return torch.softmax(scores, -1) if softmax else scores
    if softmax:
        # The lowest finite number, because softmax of a row of -inf is NaN, as is its gradient.
        lowest = torch.finfo(scores.dtype).min
        scores = torch.softmax(scores.masked_fill(ignored, lowest), -1)
    return scores.masked_fill(ignored, 0.0)
