"""The textbook form in plain torch, in the dtype of its arguments: project, attend, sum.

Its gradients are those of autograd, and its rounding errors in a dtype are the budget of the forms
that ``memhop.ops`` computes. It does not read ``memhop.ops.reference``, which it tests.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memhop.ops import Hop, Quantized, Table
from tests.ops.oracle import Slots, Stored, both


class SlotsOfHop(NamedTuple):
    """The score bias, which slots are ignored, and how many are newer, [..., N] each."""

    bias: Tensor
    ignored: Tensor
    ages: Tensor


def multi_hop(
    query: Tensor,
    memories: Stored,
    hops: Sequence[Hop],
    *,
    values: Stored | None = None,
    slots: Slots = None,
    padding_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    score_bias: Tensor | None = None,
    slot_order: str = "oldest_first",
    num_heads: int = 1,
    average_attn_weights: bool = True,
    factors: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What ``ops.multi_hop`` returns with ``need_weights``, computed in the dtype of the query.

    ``factors`` [..., K, num_heads, N] are those that a dropout multiplied the weights by.
    """
    stored, rows = (memories, memories if values is None else values), []
    for each, numbers in zip(stored, both(slots), strict=True):
        own = (each.dequantized() if isinstance(each, Quantized) else each).to(query.dtype)
        rows.append(own if numbers is None else gather(own, numbers))
    keys, read = rows
    batch = np.broadcast_shapes(query.shape[:-1], keys.shape[:-2], read.shape[:-2])
    num_slots = keys.shape[-2]
    bias = query.new_zeros(num_slots) if score_bias is None else score_bias
    if bias.dim() < len(batch) + 2:  # one for all hops
        bias = bias.unsqueeze(-2)
    bias = bias.expand(*batch, len(hops), num_slots)
    ignored = bias == -torch.inf
    if padding_mask is not None:
        ignored = ignored | padding_mask.expand(*batch, num_slots).unsqueeze(-2)
    if lengths is not None:
        ignored = ignored | (torch.arange(num_slots) >= lengths[..., None, None])
    query, attention = query.expand(*batch, -1), []
    for k, hop in enumerate(hops):
        ages = ages_of(ignored[..., k, :], slot_order)
        view = SlotsOfHop(bias[..., k, :], ignored[..., k, :], ages)
        kept = None if factors is None else factors[..., k, :, :]
        query, weights = one_hop(query, keys, read, hop, view, num_heads, kept)
        attention.append(weights)
    all_weights = torch.stack(attention, -3)
    return query, all_weights.sum(-2) / num_heads if average_attn_weights else all_weights


def gather(bank: Tensor, numbers: Tensor) -> Tensor:
    """Return the rows [..., N, I] of a bank [..., U, I]."""
    batch = np.broadcast_shapes(bank.shape[:-2], numbers.shape[:-1])
    index = numbers.long().expand(*batch, -1)[..., None].expand(*batch, -1, bank.shape[-1])
    return bank.expand(*batch, -1, -1).gather(-2, index)


def ages_of(ignored: Tensor, slot_order: str) -> Tensor:
    """Return how many readable slots are newer than each slot, [..., N]."""
    readable = (~ignored).long()
    if slot_order == "newest_first":
        return readable.cumsum(-1) - readable
    return readable.flip(-1).cumsum(-1).flip(-1) - readable


def one_hop(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    hop: Hop,
    slots: SlotsOfHop,
    num_heads: int,
    factors: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the updated query [..., D] and the weights [..., num_heads, N]."""
    bias, ignored, ages = slots
    memory_dim = query.shape[-1]
    heads = num_heads, memory_dim // num_heads
    head_keys, head_values = (
        embedded.reshape(*embedded.shape[:-1], *heads).transpose(-2, -3)
        for embedded in (embed(keys, hop.a, ignored, ages), embed(values, hop.c, ignored, ages))
    )
    head_queries = query.reshape(*query.shape[:-1], *heads, 1)
    ignored = ignored.unsqueeze(-2)
    scores = (head_keys @ head_queries).squeeze(-1) + bias.unsqueeze(-2)
    scores = scores.masked_fill(ignored, torch.finfo(scores.dtype).min if hop.softmax else 0.0)
    weights = torch.softmax(scores, -1) if hop.softmax else scores
    weights = weights.masked_fill(ignored, 0.0)
    weights = weights if factors is None else weights * factors
    read_out = (weights.unsqueeze(-2) @ head_values).squeeze(-2).flatten(-2)
    if hop.transform is not None:
        query = (hop.transform @ query.unsqueeze(-1)).squeeze(-1)
    linear = memory_dim - round(hop.relu * memory_dim)
    updated = query + read_out
    return torch.cat([updated[..., :linear], torch.relu(updated[..., linear:])], -1), weights


def embed(rows: Tensor, table: Table, ignored: Tensor, ages: Tensor) -> Tensor:
    """Return A m_i + a + T_A(age of i) of each slot, [..., N, D]; ignored slots hold zeros."""
    weight, bias, temporal = table
    rows = rows.expand(*ignored.shape[:-1], *rows.shape[-2:])
    embedded = rows.masked_fill(ignored.unsqueeze(-1), 0.0)
    if weight is not None:
        embedded = embedded @ weight.mT
    if bias is not None:
        embedded = embedded + bias
    return embedded if temporal is None else embedded + temporal[ages.clamp(max=len(temporal) - 1)]
