"""One read of a memory whose slots lie on several ranks: every rank merges what all have read.

All ranks have the same queries, weights and loss, and each has its own slots. Forward, the ranks
exchange what each has read, [B, V + 2], and merge it in the order of the ranks, so that all have
the same bits. Backward, each rank has the gradient of its part without a message, because the
gradient of the result is the same everywhere; the gradients of the queries are then summed over the
ranks. Those of local slots and biases stay local.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from memhop.ops.call import Call
from memhop.ops.checks import named_weights
from memhop.ops.errors import refuse_create_graph
from memhop.ops.exchange import Exchange
from memhop.ops.inputs import Stored, has_temporal_tables, storage
from memhop.ops.merging import merge_reads
from memhop.ops.partial_reads import (
    Partial,
    Reader,
    Scores,
    factor_of,
    gradients_of_part,
    less_mean,
    read_parts,
)


def begin(exchange: Exchange, call: Call, need_weights: bool) -> None:
    """Set what all ranks must have in common."""
    memory, hops = call.memory, call.hops
    values = memory.keys if memory.values is None else memory.values
    named = list(named_weights(hops))
    grads = [has_grad([tensor]) for _, tensor in [("query", call.query), *named]]
    local = [memory.keys, memory.values, memory.score_bias]
    # then all hops have a sum in the backward pass, whatever else has a gradient
    reaches_all = has_grad([call.query, hops[0].a.weight if hops else None])
    facts = {
        "number of hops": len(hops),
        "number of queries": math.prod(call.batch),
        "size of a query": call.query.shape[-1],
        "input_dim": memory.keys.shape[-1],
        "value_dim": values.shape[-1],
        "num_heads": call.num_heads,
        "dtype of queries": call.query.dtype,
        "compute dtype": call.precision.computed,
        "dtype of memories": storage(memory.keys).dtype,
        "dtype of values": storage(values).dtype,
        "softmax": [hop.softmax for hop in hops] or [call.softmax],
        "shapes of weights": [(name, tuple(each.shape)) for name, each in named],
        "newest_first": int(call.newest_first),
        "need_weights": int(need_weights),
        "need_lse": int(call.need_lse),
        "gradients of query and weights": grads if any(grads) else None,
        "gradients of local tensors": int(not reaches_all and has_grad(local)),
    }
    exchange.begin(max(1, len(hops)) + int(has_temporal_tables(hops)), facts)
    exchange.expect(0, 0)


def has_grad(tensors: Sequence[Stored | None]) -> bool:
    """Return whether a gradient of one of the tensors is recorded."""
    return torch.is_grad_enabled() and any(
        isinstance(tensor, Tensor) and tensor.requires_grad for tensor in tensors
    )


def read_of_group(reader: Reader, scores: Scores, exchange: Exchange, hop: int) -> Partial:
    """Return what a hop reads of the slots of all ranks; the weights are those of its own."""
    exchange.expect(hop, num_bytes(reader, scores))
    *shared, score_bias = scores
    replicated = _Replicated.apply(exchange, hop, *shared)  # type: ignore[no-untyped-call]
    if has_grad(shared):
        numbers = sum(tensor.numel() for tensor in shared if tensor is not None)
        send = partial(exchange.fail_sum, scores.query.detach(), numbers, hop)
        reader = reader._replace(on_backward_error=send)
    own = read_parts(reader, Scores._make((*replicated, score_bias)))
    return Partial(*_Merged.apply(exchange, hop, *own))  # type: ignore[no-untyped-call]


def newer_slots(counts: Tensor, newest_first: bool, exchange: Exchange) -> Tensor:
    """Return the number of readable slots on ranks with newer slots, from own counts [...].

    The slots of a rank are newer than those of the ranks before it, or older with
    ``newest_first``.
    """
    payload = counts.contiguous().view(-1).view(torch.uint8)
    exchange.expect(0, len(payload))
    every = exchange.gather(payload).contiguous().view(torch.int64)
    every = every.view(exchange.num_ranks, *counts.shape)
    ranks = slice(0, exchange.rank) if newest_first else slice(exchange.rank + 1, None)
    return every[ranks].sum(0)


class _Replicated(torch.autograd.Function):
    """The identity; its gradient is the sum over the ranks."""

    @staticmethod
    def forward(
        ctx: Any, exchange: Exchange, hop: int, *tensors: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        ctx.exchange, ctx.hop = exchange, hop
        ctx.shapes = [None if tensor is None else tensor.shape for tensor in tensors]
        ctx.like = next(tensor for tensor in tensors if tensor is not None).detach()
        ctx.set_materialize_grads(False)
        return tuple(None if tensor is None else tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        # of all tensors, whether needed or not, so that the sizes are equal on all ranks
        flat = [
            (ctx.like.new_zeros(shape) if grad is None else grad).flatten()
            for grad, shape in zip(grads, ctx.shapes, strict=True)
            if shape is not None
        ]
        summed = ctx.exchange.sum_(torch.cat(flat), ctx.hop)
        parts = iter(torch.split(summed, [len(each) for each in flat]))
        found = [None if shape is None else next(parts).view(shape) for shape in ctx.shapes]
        return None, None, *found


class _Merged(torch.autograd.Function):
    """Merge what all ranks have read; weights become those in the whole memory."""

    @staticmethod
    def forward(
        ctx: Any,
        exchange: Exchange,
        hop: int,
        sums: Tensor,
        lse: Tensor | None,
        weights: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        own = Partial(sums, lse, weights)
        total = merged(own, exchange)
        ctx.exchange, ctx.hop = exchange, hop
        ctx.save_for_backward(*own, *total)
        ctx.set_materialize_grads(False)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_create_graph("over a group")
        saved, grad = ctx.saved_tensors, Partial._make(grads)
        own, total = Partial._make(saved[:3]), Partial._make(saved[3:])
        if total.weights is not None and total.lse is not None:
            if grad.weights is None:
                grad = grad._replace(weights=torch.zeros_like(total.weights))
            own_mean = less_mean(Partial(total.sums, None, grad.weights), total).lse
            assert own_mean is not None
            shape = own_mean.shape
            own_mean = ctx.exchange.sum_(own_mean.flatten(), ctx.hop, True).view(shape)
            grad = grad._replace(lse=own_mean if grad.lse is None else grad.lse + own_mean)
        leaves = Partial._make(
            None if tensor is None else tensor.detach().requires_grad_() for tensor in own
        )
        pairs = zip(*gradients_of_part(leaves, total, grad, slice(None)), strict=True)
        found = {id(output): each for output, each in pairs}
        return None, None, *(found.get(id(leaf)) for leaf in leaves)


def merged(own: Partial, exchange: Exchange) -> Partial:
    """Return what all ranks have read together."""
    sums, lse, weights = own
    parts = [
        part.contiguous().view(-1).view(torch.uint8) for part in (sums, lse) if part is not None
    ]
    every = exchange.gather(torch.cat(parts))
    split = sums.numel() * sums.element_size()
    all_sums = every[:, :split].contiguous().view(sums.dtype).view(-1, *sums.shape).double()
    if lse is None:
        return Partial(
            sum(all_sums, start=torch.zeros_like(all_sums[0])).to(sums.dtype), None, weights
        )
    all_lse = every[:, split:].contiguous().view(lse.dtype).view(-1, *lse.shape)
    total, total_lse = merge_reads(list(all_sums), list(all_lse))
    if weights is not None:
        weights = weights * factor_of(lse, total_lse, weights.dtype)
    return Partial(total.to(sums.dtype), total_lse, weights)


def num_bytes(reader: Reader, scores: Scores) -> int:
    """Return the size of the message of a read."""
    keys, values, num_heads = *reader.call.memory[:2], reader.call.num_heads
    columns = (keys if values is None else values).shape[-1]
    columns = columns // num_heads if reader.splits_values else columns
    rows, columns = scores.query.shape[:-1].numel(), columns + max(1, reader.ages)
    return rows * (columns * scores.query.element_size() + 8 * int(reader.softmax))
