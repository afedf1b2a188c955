"""Tensors in, tensors out: one read of a memory, and several hops over it.

``read`` and ``multi_hop`` check their arguments, choose a form and call it. ``impl`` selects it:

- ``"reference"``: the formulas as the paper writes them; slow, and what the others must equal.
- ``"project"``: project the memory first, by large matrix products, and read the projections.
- ``"eager"``: read the raw memory by torch operations; nothing of size [N, memory_dim] is made.
- ``"fused"``: the same as one operation, forward and backward, compiled by numba (CPU) or triton
  (CUDA). The first call on a machine waits for the compiler, about half a minute; later processes
  load the kernels from disk. Without a working compiler the eager form runs, with a warning.
- ``"auto"``: the fastest form by the cost model of ``dispatch``. It does not wait for a compiler:
  while another process compiles the kernels, the eager form runs. ``memhop.warmup()`` compiles them
  ahead of time; ``background`` lists the exceptions.

All tensors have one dtype, float32, float64, bfloat16 or float16, and so do the results. Half types
are computed in float32 and rounded once, at the end. A memory (keys, memories, values) may be
smaller than the compute dtype: bfloat16 or float16 with float32 (its gradient has its own dtype),
or ``Quantized`` with all dtypes but float64. The fused form reads such a memory in place, the
others make a float32 copy for the call. Under ``torch.autocast`` float32 and half inputs mix,
inputs are not rounded, and the results have autocast's dtype; float64 stays float64.

The fused form supports second derivatives and ``torch.compile`` with ``fullgraph=True``. With the
transforms of ``torch.func`` and forward mode "auto" takes the eager form, and "fused" is an error.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor

from memhop.ops import checks, dispatch, eager, errors, ignored_content, reference
from memhop.ops.checks import Call
from memhop.ops.fused import autograd, backends
from memhop.ops.inputs import (
    Hop,
    Memory,
    OncePerTensor,
    Quantized,
    Stored,
    Table,
    converted,
    with_short_tables,
)
from memhop.ops.reference import ALL_SLOTS, MemoryView, ignored_slots, readable_in_each_hop

__all__ = ["IMPLEMENTATIONS", "Hop", "Quantized", "Table", "multi_hop", "read"]

Form = Callable[[Tensor, MemoryView, Sequence[Hop]], tuple[Tensor, list[Tensor]]]

IMPLEMENTATIONS = ("auto", "fused", "eager", "project", "reference")


class Options(TypedDict, total=False):
    """The optional arguments that ``read`` and ``multi_hop`` share."""

    slots: Tensor | None
    padding_mask: Tensor | None
    lengths: Tensor | None
    score_bias: Tensor | None
    impl: str


@overload
def read(
    query: Tensor,
    keys: Stored,
    values: Stored | None = None,
    *,
    softmax: bool = True,
    need_weights: Literal[False] = False,
    **options: Unpack[Options],
) -> Tensor: ...


@overload
def read(
    query: Tensor,
    keys: Stored,
    values: Stored | None = None,
    *,
    softmax: bool = True,
    need_weights: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, Tensor]: ...


def read(
    query: Tensor,
    keys: Stored,
    values: Stored | None = None,
    *,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    score_bias: Tensor | None = None,
    softmax: bool = True,
    need_weights: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Return what a query reads: p_i = softmax_i(q . k_i + b_i), o = sum_i p_i v_i.

    Section 2.1 of arXiv 1503.08895, where the keys are m_i and the values c_i.

    Args:
        query: q, [..., I].
        keys: k, [..., N, I]. Leading axes broadcast with those of the query as in torch; along axes
            that are missing or of size 1 the memory is shared, without expanding it.
        values: v, [..., N, V]; None means the keys.
        slots: integers, [..., N]. Then keys and values are banks [..., U, I] and [..., U, V], and
            each row of the batch reads the rows of the bank at its slots.
        padding_mask: bool, [..., N], True = ignore that slot, whose content has no effect.
        lengths: integers, [...]: slot i is readable if i < length; instead of a padding mask.
        score_bias: b, [..., N]; -inf makes a slot ignored.
        softmax: False uses the scores themselves as p.
        need_weights: also return p, [..., N].
        impl: see the module. Nothing is projected here, so "project" equals "eager".

    Returns:
        o, [..., V], or (o, p), in the dtype of the query. If all slots are ignored, or N = 0,
        o and p are zero and so are their gradients.

    Raises:
        ValueError: for incompatible shapes, dtypes and devices, slots outside of the bank, and
            lengths outside of 0 to N.

    >>> keys = torch.eye(3)
    >>> read_out, weights = read(torch.tensor([0.0, 9.0, 0.0]), keys, need_weights=True)
    >>> weights.argmax()
    tensor(1)
    """
    impl = check_impl("read", impl)
    values = None if values is keys else values
    memory = Memory(keys, values, slots, padding_mask, lengths, score_bias)
    result = run(checks.check_read(query, memory, softmax), impl, need_weights)
    return (result[0], result[1].squeeze(-2)) if need_weights else result


@overload
def multi_hop(
    query: Tensor,
    memories: Stored,
    hops: Sequence[Hop],
    *,
    values: Stored | None = None,
    need_weights: Literal[False] = False,
    **options: Unpack[Options],
) -> Tensor: ...


@overload
def multi_hop(
    query: Tensor,
    memories: Stored,
    hops: Sequence[Hop],
    *,
    values: Stored | None = None,
    need_weights: Literal[True],
    **options: Unpack[Options],
) -> tuple[Tensor, Tensor]: ...


@overload
def multi_hop(
    query: Tensor,
    memories: Stored,
    hops: Sequence[Hop],
    *,
    values: Stored | None = None,
    need_weights: bool,
    **options: Unpack[Options],
) -> Tensor | tuple[Tensor, Tensor]: ...


def multi_hop(
    query: Tensor,
    memories: Stored,
    hops: Sequence[Hop],
    *,
    values: Stored | None = None,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    score_bias: Tensor | None = None,
    need_weights: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the query after several hops over one memory. Each hop is

        p_i = softmax_i(q . (A m_i + a + T_A(i)) + b_i)
        o   = sum_i p_i (C v_i + c + T_C(i))
        q  <- q + o

    (sections 2.1 and 2.2 of arXiv 1503.08895). The values v_i are the m_i unless passed separately
    (key-value memory, arXiv 1606.03126). A hop with a transform computes q <- H q + o; one with
    ``relu`` applies ReLU to the result. T(i) is row 0 of the temporal table for the last slot that
    is not ignored, row 1 for the one before it, and the last row for all older ones.

    Args:
        query: q, [..., D]; D is memory_dim.
        memories: m, [..., N, I]. Leading axes broadcast with those of the query as in torch; along
            axes that are missing or of size 1 the memory is shared, without expanding it.
        hops: the weights and options of each hop; see ``Hop`` and ``Table``. A weight that several
            hops share must be the same tensor object in each.
        values: v, [..., N, V], which C [D, V] reads instead of m; None means m.
        slots: integers, [..., N]. Then memories is a bank [..., U, I], values one [..., U, V], and
            each row of the batch reads the rows of the bank at its slots.
        padding_mask: bool, [..., N], True = ignore that slot, whose content has no effect.
        lengths: integers, [...]: slot i is readable if i < length; instead of a padding mask.
        score_bias: b, [..., N], or with one more axis [..., K, N] for a bias of each hop; -inf
            makes a slot ignored.
        need_weights: also return p of every hop, [..., K, N].
        impl: see the module.

    Returns:
        q after the last hop, [..., D], or (q, p), in the dtype of the query. If all slots are
        ignored, or N = 0, o and p are zero and so are their gradients, and no bias is added. With
        the softmax the gradient of a is zeros: it does not change p.

    Raises:
        ValueError: for incompatible shapes, dtypes and devices, slots outside of the bank, and
            lengths outside of 0 to N.

    >>> table = Table(torch.eye(3))
    >>> query, weights = multi_hop(
    ...     torch.ones(3), 5 * torch.eye(3), [Hop(table, table)] * 2, need_weights=True
    ... )
    >>> weights.shape
    torch.Size([2, 3])
    """
    impl = check_impl("multi_hop", impl)
    values = None if values is memories else values
    memory = Memory(memories, values, slots, padding_mask, lengths, score_bias)
    return run(checks.check_multi_hop(query, memory, hops), impl, need_weights)


def check_impl(caller: str, impl: str) -> str:
    """Return the word that selects a form, or raise ValueError."""
    if impl == "torch":
        message = f"{caller}: impl='torch' is deprecated, use impl='eager'"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
        return "eager"
    errors.check_word(caller, "impl", impl, IMPLEMENTATIONS)
    return impl


def run(call: Call, impl: str, need_weights: bool) -> Tensor | tuple[Tensor, Tensor]:
    """Return the result of a checked call, and with ``need_weights`` p [..., K, N].

    The weights of a ``read`` are [..., 1, N].
    """
    if impl == "auto":
        impl = dispatch.form_of(call)
    else:
        backends.check_supported(impl, call)
    precision = call.precision
    if precision.as_given:
        result, weights = compute(call, impl, need_weights)
    else:
        with no_autocast(call.query):
            result, weights = compute(call, impl, need_weights)
        result = result.to(precision.result)
        weights = None if weights is None else weights.to(precision.result)
    return result if weights is None else (result, weights)


def compute(call: Call, impl: str, need_weights: bool) -> tuple[Tensor, Tensor | None]:
    """Return the result of a call by a form, and its weights [..., K, N] if they are needed."""
    if impl == "fused":
        return autograd.run(call, need_weights)
    result, attentions = run_form(impl, call)
    if not need_weights:
        return result, None
    expanded = [p.expand(*call.batch, -1) for p in attentions]
    return result, torch.stack(expanded, -2) if call.hops else expanded[0].unsqueeze(-2)


FORMS: dict[str, Form] = {
    "reference": reference.multi_hop,
    "project": eager.projected_multi_hop,
    "eager": eager.raw_multi_hop,
}


def run_form(impl: str, call: Call) -> tuple[Tensor, list[Tensor]]:
    """Return the result and the weights of each hop by a form without kernels."""
    query, memory, hops, batch, num_slots, _, is_plain, softmax = call
    if is_plain and isinstance(memory.keys, Tensor):
        view = MemoryView(memory.keys, memory.keys, None, [ALL_SLOTS] * len(hops))
        return FORMS[impl](query, view, hops)
    query, keys, values, score_bias, hops = in_compute_dtype(call)
    biases: Sequence[Tensor | None] = [score_bias]
    if score_bias is not None and score_bias.dim() == len(batch) + 2:
        biases = score_bias.unbind(-2)
    ignored = ignored_slots(memory.padding_mask, memory.lengths, num_slots)
    hops = with_short_tables(hops, num_slots)
    readable = readable_in_each_hop(hops, num_slots, ignored, biases)
    slots = None if memory.slots is None else memory.slots.long()
    view = MemoryView(keys, values, slots, readable)
    if hops:
        return ignored_content.multi_hop(FORMS[impl], query, view, hops)
    form = reference.read if impl == "reference" else eager.read
    result, weights = ignored_content.read(form, query, view, softmax)
    return result, [weights]


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
        a=Table(cast(a), cast.optional(a_bias), cast.optional(a_temporal)),
        c=Table(cast(c), cast.optional(c_bias), cast.optional(c_temporal)),
        transform=cast.optional(hop.transform),
    )
