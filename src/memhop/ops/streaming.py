"""Hops over a memory that is read part by part.

With r_j and lse_j of part j, and the sums of its weights by age, one hop is

    lse = log sum_j exp(lse_j),    r = sum_j exp(lse_j - lse) r_j,    q <- q + C r + ...

so that a hop reads the memory once, as in ``eager``. Merges are in float64.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from memhop.ops import eager, group_reads, heads
from memhop.ops.call import Call, Outputs
from memhop.ops.forms import cast_hop, no_autocast, weights_as_returned
from memhop.ops.fused import backends
from memhop.ops.inputs import Hop, OncePerTensor, has_temporal_tables
from memhop.ops.partial_reads import Partial, Reader, Scores, read_parts
from memhop.ops.reference import (
    Readable,
    ignored_slots,
    readable_of_heads,
    readable_slots,
    run_hops,
)
from memhop.ops.streamed import Streams


def run(
    call: Call, streams: Streams, impl: str, need_weights: bool, average_attn_weights: bool
) -> Tensor | tuple[Tensor, Tensor]:
    """Return what ``forms.run`` returns, over streams."""
    result, weights, _ = outputs_of(call, streams, impl, need_weights, average_attn_weights)
    return result if weights is None else (result, weights)


def outputs_of(
    call: Call,
    streams: Streams,
    impl: str,
    need_weights: bool,
    average_attn_weights: bool = True,
) -> Outputs:
    """Return the outputs of a checked call, whose memory has placeholders for the streams.

    Raises:
        ValueError: for slots of a bank, dropout, or ``impl="project"``.
        NotImplementedError: under ``torch.compile``, ``torch.export`` and ``torch.func``.
    """
    check(call, impl)
    if streams.exchange is not None:
        group_reads.begin(streams.exchange, call, need_weights)
    form = of_hops if call.hops else of_read
    with no_autocast(call.query):
        result, weights, lse = form(call, streams, impl, need_weights)
    if weights is not None and call.hops:
        weights = weights_as_returned(weights, call.num_heads, average_attn_weights)
    dtype = call.precision.result
    weights = None if weights is None else weights.to(dtype)
    return Outputs(result.to(dtype), weights, lse)


def of_read(call: Call, streams: Streams, impl: str, need_weights: bool) -> Outputs:
    """Return the outputs of a ``read`` in the compute dtype."""
    query, bias, _ = in_compute_dtype(call)
    excluded = readable_slots(ignored_of(call), bias)
    reader = Reader(streams, call, impl, excluded, call.softmax, need_weights)
    sums, lse, p = read_all(reader, Scores(query, score_bias=bias), 0)
    lse = None if lse is None or not call.need_lse else lse.to(query.dtype)
    return Outputs(sums[..., :-1], None if p is None else p.unsqueeze(-2), lse)


def of_hops(call: Call, streams: Streams, impl: str, need_weights: bool) -> Outputs:
    """Return the outputs of a ``multi_hop`` in the compute dtype."""
    query, score_bias, hops = in_compute_dtype(call)
    num_heads, ignored = call.num_heads, ignored_of(call)
    biases = [score_bias] * len(hops)
    if score_bias is not None and score_bias.dim() == len(call.batch) + 2:
        biases = list(score_bias.unbind(-2))

    all_excluded = [readable_slots(ignored, bias) for bias in biases]
    newer = newer_on_other_ranks(call, streams, all_excluded)

    def read_hop(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        hop, excluded, num_newer = hops[k], all_excluded[k], newer[k]
        if num_heads > 1 and isinstance(num_newer, Tensor):
            num_newer = num_newer.unsqueeze(-1)
        if num_heads > 1:
            query, hop = heads.split_units(query, num_heads), heads.split_hop(hop, num_heads)
            excluded = readable_of_heads(excluded)
        reader = Reader(
            streams, call, impl, excluded, hop.softmax, need_weights,
            ages=0 if hop.c.temporal is None else hop.c.temporal.shape[-2],
            splits_keys=num_heads > 1 and hop.a.weight is None,
            splits_values=num_heads > 1 and hop.c.weight is None,
            num_newer=num_newer,
        )  # fmt: skip
        sums, _, weights = read_all(reader, scores_of(query, hop, excluded.score_bias), k)
        read_out, by_age = embedded(sums, hop, reader.ages)
        read_out = read_out if num_heads == 1 else read_out.flatten(-2)
        return read_out, by_age if weights is None else weights

    result, attentions = run_hops(query, hops, read_hop)
    if not need_weights:
        return Outputs(result)
    of_hop = call.batch if num_heads == 1 else (*call.batch, num_heads)
    every = [weights.expand(*of_hop, -1) for weights in attentions]
    return Outputs(result, torch.stack(every, len(call.batch)))


def read_all(reader: Reader, scores: Scores, hop: int) -> Partial:
    """Return what a hop reads of all parts, on all ranks."""
    exchange = reader.streams.exchange
    if exchange is None:
        return read_parts(reader, scores)
    return group_reads.read_of_group(reader, scores, exchange, hop)


def newer_on_other_ranks(
    call: Call, streams: Streams, all_excluded: Sequence[Readable]
) -> Sequence[int | Tensor]:
    """Return for each hop the number of readable slots on ranks with newer ones, [...]."""
    if streams.exchange is None or not has_temporal_tables(call.hops):
        return [0] * len(all_excluded)
    counts = [
        torch.full(call.batch, call.num_slots, device=call.query.device)
        if excluded.ignored is None
        else (~excluded.ignored).sum(-1).expand(call.batch)
        for excluded in all_excluded
    ]
    newest_first = call.newest_first
    return group_reads.newer_slots(torch.stack(counts), newest_first, streams.exchange).unbind()


def in_compute_dtype(call: Call) -> tuple[Tensor, Tensor | None, Sequence[Hop]]:
    """Return the query [..., D] of the whole batch, the score bias and the hops."""
    dtype = call.precision.computed
    cast = OncePerTensor(lambda tensor: tensor.to(dtype))
    query = cast(call.query).expand(*call.batch, -1)
    hops = [cast_hop(hop, cast) for hop in call.hops]
    return query, cast.optional(call.memory.score_bias), hops


def scores_of(query: Tensor, hop: Hop, score_bias: Tensor | None) -> Scores:
    """Return what the scores of a hop depend on: u = A^T q, q . T_A(t) and q . a."""
    weight, bias, temporal = hop.a
    return Scores(
        query if weight is None else eager.product(query, weight),
        None if temporal is None else eager.product(query, temporal.mT),
        None if bias is None or hop.softmax else (query * bias).sum(-1, keepdim=True),
        score_bias,
    )


def embedded(sums: Tensor, hop: Hop, ages: int) -> tuple[Tensor, Tensor]:
    """Return C r + sum_i p_i (c + T_C(i)), and the sums of p by age, or of all."""
    columns = max(1, ages)
    read_out, by_age = sums[..., :-columns], sums[..., -columns:]
    if hop.c.weight is not None:
        read_out = eager.product(read_out, hop.c.weight.mT)
    each_age = torch.arange(ages, device=sums.device) if ages else None
    return eager.add_biases(read_out, by_age, hop, each_age), by_age


def check(call: Call, impl: str) -> None:
    """Check that a call can be streamed."""
    if call.memory.slots is not None:
        raise ValueError("expected memories as tensors with slots, got memories in parts")
    if call.dropout > 0:
        raise ValueError(f"expected dropout 0 over memories in parts, got {call.dropout}")
    if impl == "project":
        raise ValueError("expected another impl over memories in parts, got impl='project'")
    is_traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    if is_traced or backends.is_transformed():
        raise NotImplementedError(
            "memories in parts cannot be compiled, exported or transformed by torch.func: call "
            "the layer outside of it"
        )


def ignored_of(call: Call) -> Tensor | None:
    """Return the slots that mask or lengths exclude, [..., N], or None."""
    return ignored_slots(call.memory.padding_mask, call.memory.lengths, call.num_slots)
