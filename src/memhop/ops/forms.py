"""Run a checked call by one of the forms."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from memhop.ops import (
    checks,
    dispatch,
    eager,
    ignored_content,
    reference,
    window_form,
    window_hops,
    windowed,
)
from memhop.ops.call import OF_ONE_DTYPE, Call, Outputs
from memhop.ops.fused import autograd, backends
from memhop.ops.inputs import (
    Hop,
    Memory,
    OncePerTensor,
    Quantized,
    Table,
    converted,
    with_short_tables,
)
from memhop.ops.reference import ALL_SLOTS, MemoryView, ignored_slots, readable_in_each_hop

Form = Callable[..., tuple[Tensor, list[Tensor]]]


def run(
    call: Call, impl: str, need_weights: bool, average_attn_weights: bool = True
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the result of a checked call, and with ``need_weights`` p [..., K, N].

    The weights of a ``read`` are [..., 1, N].
    """
    result, weights, _ = outputs_of(call, impl, need_weights, average_attn_weights)
    return result if weights is None else (result, weights)


def outputs_of(
    call: Call, impl: str, need_weights: bool, average_attn_weights: bool = True
) -> Outputs:
    """Return the outputs of a checked call, in the dtype of the result; lse in that computed in."""
    if impl == "auto":
        impl = dispatch.form_of(call, need_weights)
    else:
        backends.check_supported(impl, call)
    precision = call.precision
    if precision.as_given:
        result, weights, lse = compute(call, impl, need_weights)
    else:
        with no_autocast(call.query):
            result, weights, lse = compute(call, impl, need_weights)
    if weights is not None:
        weights = weights_as_returned(weights, call.num_heads, average_attn_weights)
    if not precision.as_given:
        result = result.to(precision.result)
        weights = None if weights is None else weights.to(precision.result)
    return Outputs(result, weights, lse)


def weights_as_returned(weights: Tensor, num_heads: int, average_attn_weights: bool) -> Tensor:
    """Return the attention of one head, [..., N], or of several, [..., H, N], as a caller wants it.

    That is the mean over heads, [..., N], or that of each head, [..., H, N].
    """
    if num_heads == 1:
        return weights if average_attn_weights else weights.unsqueeze(-2)
    return weights.mean(-2) if average_attn_weights else weights


def compute(call: Call, impl: str, need_weights: bool) -> Outputs:
    """Return the outputs of a call by a form."""
    if impl == "fused" and call.num_heads == 1:
        return autograd.run(call, need_weights)
    lse: Tensor | None = None
    if impl == "fused":
        result, attentions = run_fused_heads(call, need_weights)
    else:
        result, attentions, lse = run_form(impl, call, need_weights)
    outputs = Outputs(result, None, None if lse is None else lse.expand(call.batch))
    if not need_weights:
        return outputs
    of_one_hop = call.batch if call.num_heads == 1 else (*call.batch, call.num_heads)
    expanded = [p.expand(*of_one_hop, -1) for p in attentions]
    if not call.hops:
        return outputs._replace(weights=expanded[0].unsqueeze(-2))
    return outputs._replace(weights=torch.stack(expanded, len(call.batch)))


FORMS: dict[str, Form] = {
    "reference": reference.multi_hop,
    "project": eager.projected_multi_hop,
    "eager": eager.raw_multi_hop,
}


def run_form(
    impl: str, call: Call, need_weights: bool = True
) -> tuple[Tensor, list[Tensor], Tensor | None]:
    """Return the result, the weights of each hop and lse, if needed, by a form without kernels."""
    if impl == "window":
        found = run_windows(call, need_weights)
        if found is not None:
            return found
        impl = "eager"
    query, memory, hops, _, _, _, is_plain, *_ = call
    keys = memory.keys
    if is_plain and isinstance(keys, Tensor):
        view = MemoryView(keys, keys, None, [ALL_SLOTS] * len(hops))
        options = (1, 0.0, need_weights) if impl == "eager" else ()
        return *FORMS[impl](query, view, hops, *options), None
    query, view, hops = view_of(call)
    is_random = call.dropout > 0
    if not hops:
        read_form = partial(read_of(impl, call.need_lse), dropout=call.dropout)
        result, weights, *lse = ignored_content.read(
            read_form, query, view, call.softmax, is_random
        )
        return result, [weights], lse[0] if lse else None
    form = FORMS[impl]
    if call.num_heads > 1 or call.dropout > 0:
        form = partial(form, num_heads=call.num_heads, dropout=call.dropout)
    return *ignored_content.multi_hop(form, query, view, hops, is_random), None


def run_windows(
    call: Call, need_weights: bool
) -> tuple[Tensor, list[Tensor], Tensor | None] | None:
    """Return the same as ``run_form`` by products of blocks, or None if a slot is not finite."""
    window, memory, num_slots = call.window, call.memory, call.num_slots
    assert window is not None
    has_lags = windowed.ages_are_lags(call)
    mask = None if has_lags else memory.padding_mask
    memory = Memory(window.keys, window.values, None, mask, None, memory.score_bias)
    query, view, hops = view_of(call._replace(memory=memory))
    if has_lags and call.memory.padding_mask is not None:
        readable = view.readable[0]._replace(ignored=call.memory.padding_mask)
        view = view._replace(readable=[readable] * len(view.readable))
    finite = ignored_content.finite_windows(query, view, windowed.excluded(window), num_slots)
    if finite is None:
        return None
    query, view = finite
    dropout = call.dropout
    needs_all = need_weights or call.need_lse or dropout > 0
    if not hops and not needs_all and view.readable[0].score_bias is None:
        return window_hops.read(query, view, call.softmax), [], None
    if not hops:
        read_form = window_form.read_with_lse if call.need_lse else window_form.read
        result, weights, *lse = read_form(query, view, call.softmax, dropout)
        return result, [weights], lse[0] if lse else None
    projects = dispatch.projects_windows(call)
    is_plain = call.num_heads == 1 and not needs_all
    if is_plain and window_hops.are_supported(view, hops, projects):
        return window_hops.multi_hop(query, view, hops), [], None
    read_form = window_form.read if call.num_heads == 1 else window_form.read_by_heads
    read_form = partial(read_form, dropout=dropout)
    if projects:
        form = partial(eager.projected_multi_hop, read_form=read_form)
        return *form(query, view, hops, call.num_heads), None
    return *eager.raw_hops(query, view, hops, call.num_heads, read_form), None


def read_of(impl: str, need_lse: bool) -> Callable[..., tuple[Tensor, ...]]:
    """Return the ``read`` of a form without kernels."""
    if impl == "reference":
        return reference.read_with_lse if need_lse else reference.read
    return eager.read_with_lse if need_lse else eager.read


def run_fused_heads(call: Call, need_weights: bool) -> tuple[Tensor, list[Tensor]]:
    """Return the same as ``run_form``, with one fused read a hop and the heads in its batch.

    Weights that are not needed are replaced by their sum, [..., 1], all that a bias needs.
    """
    query, view, hops = view_of(call)
    needed = need_weights or any(hop.c.temporal is not None or not hop.softmax for hop in hops)
    precision = OF_ONE_DTYPE[query.dtype]

    def read_form(query: Tensor, view: MemoryView, softmax: bool) -> tuple[Tensor, Tensor]:
        keys, values, slots, (readable,) = view
        ignored, bias, _ = readable
        if bias is not None:  # without a softmax q . a is one number for all slots
            bias = bias.expand(*bias.shape[:-1], call.num_slots)
        memory = Memory(keys, None if values is keys else values, slots, ignored, None, bias)
        read_call = checks.check_read(query, memory, softmax)._replace(precision=precision)
        read_out, weights, _ = autograd.run(read_call, needed)
        if weights is not None:
            return read_out, weights.squeeze(-2)
        if call.num_slots == 0 or ignored is None:
            return read_out, read_out.new_full((1,), float(call.num_slots > 0))
        return read_out, (~ignored).any(-1, keepdim=True).to(read_out.dtype)

    return eager.raw_hops(query, view, hops, call.num_heads, read_form)


def view_of(call: Call) -> tuple[Tensor, MemoryView, Sequence[Hop]]:
    """Return the query, the memory and the hops in the compute dtype."""
    memory, batch, num_slots = call.memory, call.batch, call.num_slots
    query, keys, values, score_bias, hops = in_compute_dtype(call)
    biases: Sequence[Tensor | None] = [score_bias]
    if score_bias is not None and score_bias.dim() == len(batch) + 2:
        biases = score_bias.unbind(-2)
    ignored = ignored_slots(memory.padding_mask, memory.lengths, num_slots)
    hops = with_short_tables(hops, num_slots)
    readable = readable_in_each_hop(hops, num_slots, ignored, biases, call.newest_first)
    slots = None if memory.slots is None else memory.slots.long()
    return query, MemoryView(keys, values, slots, readable), hops


def in_compute_dtype(
    call: Call,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Sequence[Hop]]:
    """Return query, keys, values, score bias and hops in the compute dtype.

    Weights that hops share stay one tensor, and so do keys and values.
    """
    query, memory, hops = call.query, call.memory, call.hops
    keys, values, score_bias, dtype = (
        memory.keys, memory.values, memory.score_bias, call.precision.computed,
    )  # fmt: skip
    if call.precision.as_given and isinstance(keys, Tensor) and not isinstance(values, Quantized):
        return query, keys, keys if values is None else values, score_bias, hops
    cast = OncePerTensor(lambda tensor: tensor.to(dtype))
    k = converted(keys, dtype)
    v = k if values is None else converted(values, dtype)
    return cast(query), k, v, cast.optional(score_bias), [cast_hop(hop, cast) for hop in hops]


def no_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast: the checks choose the dtypes, not each product."""
    if tensor.is_meta:
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def cast_hop(hop: Hop, cast: OncePerTensor) -> Hop:
    """Return a hop with cast weights."""
    (a, a_bias, a_temporal), (c, c_bias, c_temporal) = hop.a, hop.c
    return hop._replace(
        a=Table(cast.optional(a), cast.optional(a_bias), cast.optional(a_temporal)),
        c=Table(cast.optional(c), cast.optional(c_bias), cast.optional(c_temporal)),
        transform=cast.optional(hop.transform),
    )
