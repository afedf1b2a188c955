"""Tensors in, tensors out: one read of a memory, and several hops over it.

``read`` and ``multi_hop`` check, choose a form and call it. The words for ``impl``:

- ``"reference"``: the formulas as the paper writes them; slow, and what the others must equal.
- ``"project"``: the memory is projected first, by large matrix products, and then read.
- ``"torch"``: the raw memory is read; nothing of size [N, memory_dim] is made.
- ``"fused"``: the same as one operation, forward and backward, compiled by numba (CPU) or triton
  (CUDA). The first call on a machine waits for the compiler, about half a minute; later processes
  load the kernels from disk. Where no compiler works, plain torch takes over with a warning.
- ``"auto"``: the one that counting says is the fastest; ``choice`` says when that is. It does not
  wait for a compiler: until the kernels are compiled, by another process in the background, plain
  torch serves. ``memhop.warmup()`` compiles them ahead; see ``background`` for the exceptions.

All is of one dtype, float32, float64, bfloat16 or float16, and so are the results; half types are
computed in float32 and rounded once, at the end. A memory (keys, memories, values) may be in
fewer bytes than what is computed in: bfloat16 or float16 beside float32, its gradient in its own
dtype, or ``Quantized`` beside all but float64. The fused form reads such a memory where it is, the
others convert it for the call, a float32 copy. Under ``torch.autocast`` float32 and half inputs
mix, nothing that comes in is rounded, and the results have autocast's dtype; float64 stays float64.

The fused form can be differentiated twice, and compiled with ``fullgraph=True``; the transforms of
``torch.func`` and forward mode take plain torch with "auto" and are an error with "fused".
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, overload

import torch
from torch import Tensor

from memhop.ops import checks, eager, errors, ignored_content, reference
from memhop.ops.checks import Checked, Precision
from memhop.ops.cpu import background
from memhop.ops.dispatch import form_of_hops, fusing_pays
from memhop.ops.fused import autograd
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
from memhop.ops.reference import EVERYTHING, readable_in_each_hop

__all__ = ["IMPLEMENTATIONS", "Hop", "Quantized", "Table", "multi_hop", "read"]

Form = Callable[..., tuple[Tensor, list[Tensor]]]

IMPLEMENTATIONS = ("auto", "fused", "torch", "project", "reference")


@overload
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
    need_weights: Literal[False] = False,
    impl: str = "auto",
) -> Tensor: ...


@overload
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
    need_weights: Literal[True],
    impl: str = "auto",
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
    """Read a memory by a query: p_i = softmax_i(q . k_i + b_i), o = sum_i p_i v_i.

    Section 2.1 of arXiv 1503.08895, where the keys are m_i and the values c_i.

    Args:
        query: q, [..., I].
        keys: k, [..., N, I]. Leading axes broadcast with those of the query by the rules of torch;
            along axes of size 1 or missing the memory is shared, and it is not expanded for that.
        values: v, [..., N, V]; None means the keys.
        slots: integers, [..., N]. Then keys and values are banks [..., U, I] and [..., U, V], and
            each row of the batch holds the rows of the bank that its slots name.
        padding_mask: bool, [..., N], True = ignore that slot. Its content has no effect.
        lengths: integers, [...]: slot i may be read where i < length; in place of a padding mask.
        score_bias: b, [..., N]; -inf makes a slot one to ignore.
        softmax: False takes the scores themselves as p.
        need_weights: also return p, [..., N].
        impl: a word; see the module. Here nothing is projected, so "project" is "torch".

    Returns:
        o, [..., V], or (o, p), in the dtype of the query. Where all slots are ignored, or N = 0,
        o and p are zero and so are their gradients.

    Raises:
        ValueError: for shapes, dtypes and devices that do not fit, slots outside of the bank, and
            lengths outside of 0 to N.

    >>> keys = torch.eye(3)
    >>> read_out, weights = read(torch.tensor([0.0, 9.0, 0.0]), keys, need_weights=True)
    >>> weights.argmax()
    tensor(1)
    """
    errors.check_word("read", "impl", impl, IMPLEMENTATIONS)
    values = None if values is keys else values
    memory = Memory(keys, values, slots, padding_mask, lengths, score_bias)
    batch, num_slots, precision, _ = checks.check_read(query, memory)
    if impl == "auto" and fusing_pays(query, math.prod(batch), num_slots, memory, 1, grad=False):
        impl = fused_or_eager(math.prod(batch), memory, precision)
    if impl == "fused":
        with no_autocast(precision, query):
            read_out, p = autograd.read(
                query, memory, batch, num_slots, precision.computed, softmax, need_weights
            )
        return in_result_dtype(precision, read_out, p)
    (query, k, v, score_bias), _ = in_precision(precision, query, memory, ())
    form = reference.read if impl == "reference" else eager.read
    with no_autocast(precision, query):
        read_out, weights = ignored_content.read(
            form, query, k, v,
            slots=None if slots is None else slots.long(),
            readable=reference.readable_slots(ignored_slots(memory, num_slots), score_bias),
            softmax=softmax,
        )  # fmt: skip
    p = weights.expand(*batch, -1) if need_weights else None
    return in_result_dtype(precision, read_out, p)


@overload
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
    need_weights: Literal[False] = False,
    impl: str = "auto",
) -> Tensor: ...


@overload
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
    need_weights: Literal[True],
    impl: str = "auto",
) -> tuple[Tensor, Tensor]: ...


@overload
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
    need_weights: bool,
    impl: str = "auto",
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
    """Several hops over one memory, sections 2.1 and 2.2 of arXiv 1503.08895. Each hop is

        p_i = softmax_i(q . (A m_i + a + T_A(i)) + b_i)
        o   = sum_i p_i (C v_i + c + T_C(i))
        q  <- q + o

    where the values v_i are the m_i if not given apart (key-value memory, arXiv 1606.03126), and
    with q <- H q + o where the hop has a transform, and ReLU of that where it asks for it. T(i) is
    row 0 of the table for the last slot that is not ignored, row 1 for the one before it, and the
    last row for all that are older.

    Args:
        query: q, [..., D]; D is memory_dim.
        memories: m, [..., N, I]. Leading axes broadcast with those of the query by the rules of
            torch; along axes of size 1 or missing the memory is shared, and not expanded for that.
        hops: the weights and options of each hop; see ``Hop`` and ``Table``. A weight that several
            hops share is to be the same tensor object in each.
        values: v, [..., N, V], read in place of m by a C of [D, V]; None means m.
        slots: integers, [..., N]. Then memories is a bank [..., U, I], values one [..., U, V], and
            each row of the batch holds the rows of the bank that its slots name.
        padding_mask: bool, [..., N], True = ignore that slot. Its content has no effect.
        lengths: integers, [...]: slot i may be read where i < length; in place of a padding mask.
        score_bias: b, [..., N], or with one more axis [..., K, N] for a bias of each hop; -inf
            makes a slot one to ignore.
        need_weights: also return p of every hop, [..., K, N].
        impl: a word; see the module.

    Returns:
        q after the last hop, [..., D], or (q, p), in the dtype of the query. Where all slots are
        ignored, or N = 0, o and p are zero and so are their gradients, and no bias is added. With
        the softmax the gradient of a is zeros: it does not change p.

    Raises:
        ValueError: for shapes, dtypes and devices that do not fit, slots outside of the bank, and
            lengths outside of 0 to N.

    >>> table = Table(torch.eye(3))
    >>> query, weights = multi_hop(
    ...     torch.ones(3), 5 * torch.eye(3), [Hop(table, table)] * 2, need_weights=True
    ... )
    >>> weights.shape
    torch.Size([2, 3])
    """
    errors.check_word("multi_hop", "impl", impl, IMPLEMENTATIONS)
    values = None if values is memories else values
    memory = Memory(memories, values, slots, padding_mask, lengths, score_bias)
    checked = checks.check_multi_hop(query, memory, hops)
    return take_hops(query, memory, hops, checked, need_weights=need_weights, impl=impl)


def take_hops(
    query: Tensor,
    memory: Memory,
    hops: Sequence[Hop],
    checked: Checked,
    *,
    need_weights: bool,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """``multi_hop`` of what was checked."""
    keys = memory.keys
    if impl == "auto":
        impl = form_of_hops(query, checked.batch, checked.num_slots, memory, hops)
        if impl == "fused":
            impl = fused_or_eager(math.prod(checked.batch), memory, checked.precision)
    batch, num_slots, precision, is_plain = checked
    if impl == "fused":
        with no_autocast(precision, query):
            result, p = autograd.multi_hop(
                query, memory, hops, batch, num_slots, precision.computed, need_weights
            )
        return in_result_dtype(precision, result, p)
    if is_plain and isinstance(keys, Tensor):
        everything = [EVERYTHING] * len(hops)
        result, attentions = FORMS[impl](query, keys, keys, hops, slots=None, readable=everything)
    else:
        result, attentions = take_prepared(FORMS[impl], query, memory, hops, checked)
    p = None
    if need_weights:
        p = torch.stack([weights.expand(*batch, -1) for weights in attentions], -2)
    return in_result_dtype(precision, result, p)


def fused_or_eager(num_queries: int, memory: Memory, precision: Precision) -> str:
    """The form of a call that pays to be fused: "torch" where that cannot be, or not yet."""
    # A trace must not depend on whether gradients are recorded.
    if not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None:
        return "torch"
    if autograd.is_transformed() or not background.is_ready(
        memory, num_queries, precision.computed
    ):
        return "torch"
    return "fused"


def take_prepared(
    form: Form, query: Tensor, memory: Memory, hops: Sequence[Hop], checked: Checked
) -> tuple[Tensor, list[Tensor]]:
    """A form of several hops, given all in one dtype and what may be read of each hop."""
    batch, num_slots, precision, _ = checked
    (query, keys, values, score_bias), hops = in_precision(precision, query, memory, hops)
    biases: Sequence[Tensor | None] = [score_bias]
    if score_bias is not None and score_bias.dim() == len(batch) + 2:
        biases = score_bias.unbind(-2)
    ignored = ignored_slots(memory, num_slots)
    hops = with_short_tables(hops, num_slots)
    with no_autocast(precision, query):
        result, attentions = ignored_content.multi_hop(
            form, query, keys, values, hops,
            slots=None if memory.slots is None else memory.slots.long(),
            readable=readable_in_each_hop(hops, num_slots, ignored, biases),
        )  # fmt: skip
    return result, attentions


def in_result_dtype(
    precision: Precision, result: Tensor, weights: Tensor | None
) -> Tensor | tuple[Tensor, Tensor]:
    """The result, with weights where there are some, in the dtype that the caller expects."""
    if not precision.as_given:
        result = result.to(precision.result)
        weights = None if weights is None else weights.to(precision.result)
    return result if weights is None else (result, weights)


FORMS: dict[str, Form] = {
    "reference": reference.multi_hop,
    "project": eager.projected_multi_hop,
    "torch": eager.raw_multi_hop,
}


def in_precision(
    precision: Precision, query: Tensor, memory: Memory, hops: Sequence[Hop]
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor | None], Sequence[Hop]]:
    """Query, keys, values, score bias and hops in the dtype computed in; what was one stays one."""
    keys, values, score_bias = memory.keys, memory.values, memory.score_bias
    if precision.as_given and isinstance(keys, Tensor) and not isinstance(values, Quantized):
        return (query, keys, keys if values is None else values, score_bias), hops
    cast = OncePerTensor(lambda tensor: tensor.to(precision.computed))
    k = converted(keys, precision.computed)
    v = k if values is None else converted(values, precision.computed)
    cast_hops = [cast_hop(hop, cast) for hop in hops]
    return (cast(query), k, v, cast.optional(score_bias)), cast_hops


def no_autocast(precision: Precision, tensor: Tensor) -> AbstractContextManager[object]:
    """Autocast off where it is on: dtypes are chosen here, and not again in each product."""
    if precision.as_given or tensor.is_meta:
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


def cast_hop(hop: Hop, cast: OncePerTensor) -> Hop:
    """The hop with its weights in the dtype that is computed in; shared weights stay shared."""
    (a, a_bias, a_temporal), (c, c_bias, c_temporal) = hop.a, hop.c
    return hop._replace(
        a=Table(cast(a), cast.optional(a_bias), cast.optional(a_temporal)),
        c=Table(cast(c), cast.optional(c_bias), cast.optional(c_temporal)),
        transform=cast.optional(hop.transform),
    )


def ignored_slots(memory: Memory, num_slots: int) -> Tensor | None:
    """The padding mask, or what is the same as the lengths; None where there is neither."""
    if memory.lengths is None:
        return memory.padding_mask
    return reference.beyond(memory.lengths, num_slots)
