"""The formulas as the paper writes them (arXiv 1503.08895, section 2): embed, attend, read.

Nothing here is fast. It is what the fast forms must equal, and the baseline they are timed against.
Those forms share with it ``readable_slots`` and ``slot_ages`` (what a slot may be read as),
``attention`` (scores to weights), ``run_hops`` (the loop over hops) and ``update`` (the query after
a read). Comparing the forms with
each other says nothing about these: they are judged by the tests' oracle, NumPy written from the
paper, ``tests/ops/oracle.py``.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from memhop.ops.inputs import MLP, BankHop, Hop, Table


class Readable(NamedTuple):
    """What one hop may read.

    Attributes:
        ignored: bool [..., N], True for a slot that weighs nothing; None where all are readable.
        score_bias: added to the scores, [..., N], or None.
        ages: how many readable slots follow each slot, [N] or [..., N]; None where no table asks.
    """

    ignored: Tensor | None = None
    score_bias: Tensor | None = None
    ages: Tensor | None = None


EVERYTHING = Readable()


def read(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    slots: Tensor | None,
    readable: Readable,
    softmax: bool,
) -> tuple[Tensor, Tensor]:
    """p_i = softmax_i(q . k_i + b_i), o = sum_i p_i v_i; returns (o, p)."""
    if slots is not None:
        keys, values = rows_of(keys, slots), rows_of(values, slots)
    scores = (keys @ query.unsqueeze(-1)).squeeze(-1)
    if readable.score_bias is not None:
        scores = scores + readable.score_bias
    weights = attention(scores, readable.ignored, softmax)
    return (weights.unsqueeze(-2) @ values).squeeze(-2), weights


def multi_hop(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    hops: Sequence[Hop],
    *,
    slots: Tensor | None,
    readable: Sequence[Readable],
) -> tuple[Tensor, list[Tensor]]:
    """p_i = softmax_i(q . A m_i), q <- q + sum_i p_i C m_i, hop by hop; returns (q, [p, ...]).

    C embeds the values, which are other rows than the keys m_i where the caller has them apart.
    """
    if slots is not None:
        keys, values = rows_of(keys, slots), rows_of(values, slots)

    def read_hop(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        hop, ages = hops[k], readable[k].ages
        a, c = embed(keys, hop.a, ages), embed(values, hop.c, ages)
        return read(query, a, c, slots=None, readable=readable[k], softmax=hop.softmax)

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


def embed(memories: Tensor, table: Table, ages: Tensor | None) -> Tensor:
    """A m_i + a + T_A(i) for every slot."""
    embedded = functional.linear(memories, table.weight, table.bias)
    if table.temporal is None or ages is None:
        return embedded
    return embedded + table.temporal[ages.clamp(max=table.temporal.shape[0] - 1)]


def update(query: Tensor, read_out: Tensor, hop: Hop | BankHop) -> Tensor:
    """Return q + o, or H q + o, with ReLU if the hop has it. Leading axes of H [..., D, D] are
    those of the query.
    """
    h = hop.transform
    if h is not None:  # linear takes no leading axes
        query = functional.linear(query, h) if h.dim() == 2 else query @ h.mT
    updated = query + read_out
    return torch.relu(updated) if hop.relu else updated


def rows_of(bank: Tensor, slots: Tensor) -> Tensor:
    """The rows [..., N, I] of a bank [..., U, I] that slots [..., N] name."""
    missing = slots.dim() + 1 - bank.dim()
    bank = bank.reshape((1,) * missing + bank.shape)
    slots = slots.reshape((1,) * -missing + slots.shape)
    return torch.take_along_dim(bank, slots.unsqueeze(-1), dim=-2)


def beyond(lengths: Tensor, num_slots: int) -> Tensor:
    """The padding mask [..., N] that is the same as lengths [...]."""
    return torch.arange(num_slots, device=lengths.device) >= lengths.unsqueeze(-1)


def readable_slots(padding_mask: Tensor | None, score_bias: Tensor | None) -> Readable:
    """Ignored are padding and slots with a score bias of -inf; ``EVERYTHING`` with neither."""
    if padding_mask is None and score_bias is None:
        return EVERYTHING
    ignored = padding_mask
    if score_bias is not None:
        excluded = score_bias == -torch.inf
        ignored = excluded if padding_mask is None else padding_mask | excluded
    return Readable(ignored, score_bias)


def slot_ages(num_slots: int, ignored: Tensor | None, device: torch.device) -> Tensor:
    """How many readable slots follow each slot: 0 for the last readable one. [N] or [..., N]."""
    if ignored is None:
        return torch.arange(num_slots, device=device).flip(0)
    counted_from_the_end = (~ignored).flip(-1).cumsum(-1).flip(-1)
    return (counted_from_the_end - 1).clamp(min=0)


def attention(scores: Tensor, ignored: Tensor | None, softmax: bool) -> Tensor:
    """Scores to weights; an ignored slot weighs zero, also where that leaves no slot at all."""
    if ignored is None:
        return torch.softmax(scores, -1) if softmax else scores
    if softmax:
        # The lowest finite number, not -inf: a row of -inf only is NaN here and in the backward.
        lowest = torch.finfo(scores.dtype).min
        scores = torch.softmax(scores.masked_fill(ignored, lowest), -1)
    return scores.masked_fill(ignored, 0.0)


def readable_in_each_hop(
    hops: Sequence[Hop], num_slots: int, ignored: Tensor | None, biases: Sequence[Tensor | None]
) -> list[Readable]:
    """What each hop may read, worked out once where it is the same for all of them."""
    aged = any(hop.a.temporal is not None or hop.c.temporal is not None for hop in hops)
    readable = []
    for bias in biases:
        may = readable_slots(ignored, bias)
        if aged:
            ages = slot_ages(num_slots, may.ignored, hops[0].a.weight.device)
            may = may._replace(ages=ages)
        readable.append(may)
    return readable if len(biases) == len(hops) else readable * len(hops)
