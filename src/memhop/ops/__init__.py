"""Tensors in, tensors out: one read of a memory, and several hops over it.

``read`` and ``multi_hop`` check, choose a form and call it. The words for ``impl``:

- ``"reference"``: the formulas as the paper writes them; slow, and what the others must equal.
- ``"project"``: the memory is projected first, by large matrix products, and then read.
- ``"torch"``: the raw memory is read; nothing of size [N, memory_dim] is made.
- ``"auto"``: of the last two the one with fewer multiplications; ``choice`` says when that is.

Half types are computed in float32 and rounded once, at the end: for now a memory in one of them,
under ``torch.autocast`` too, is converted for the call, a copy of twice its size. Under autocast
float32 and half inputs mix, nothing that comes in is rounded, and the results have autocast's
dtype; float64 stays float64.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, overload

import torch
from torch import Tensor

from memhop.ops import checks, plain, reference
from memhop.ops.checks import Precision
from memhop.ops.choice import cheaper_form
from memhop.ops.reference import Readable
from memhop.ops.weights import Hop, OncePerTensor, Table

__all__ = ["IMPLEMENTATIONS", "Hop", "Table", "multi_hop", "read"]

IMPLEMENTATIONS = ("auto", "torch", "project", "reference")


@overload
def read(
    query: Tensor,
    keys: Tensor,
    values: Tensor | None = None,
    *,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
    score_bias: Tensor | None = None,
    softmax: bool = True,
    need_weights: Literal[False] = False,
    impl: str = "auto",
) -> Tensor: ...


@overload
def read(
    query: Tensor,
    keys: Tensor,
    values: Tensor | None = None,
    *,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
    score_bias: Tensor | None = None,
    softmax: bool = True,
    need_weights: Literal[True],
    impl: str = "auto",
) -> tuple[Tensor, Tensor]: ...


def read(
    query: Tensor,
    keys: Tensor,
    values: Tensor | None = None,
    *,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
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
        padding_mask: bool, [..., N], True = ignore that slot. What it holds must still be finite.
        score_bias: b, [..., N]; -inf makes a slot one to ignore.
        softmax: False takes the scores themselves as p.
        need_weights: also return p, [..., N].
        impl: a word; see the module. Here nothing is projected, so "project" is "torch".

    Returns:
        o, [..., V], or (o, p), in the dtype of the inputs. Where all slots are ignored, or N = 0,
        o and p are zero and so are their gradients.

    Raises:
        ValueError: for shapes, dtypes and devices that do not fit, and slots outside of the bank.

    >>> keys = torch.eye(3)
    >>> read_out, weights = read(torch.tensor([0.0, 9.0, 0.0]), keys, need_weights=True)
    >>> weights.argmax()
    tensor(1)
    """
    checks.check_word("read", "impl", impl, IMPLEMENTATIONS)
    given = {
        "query": query, "keys": keys, "values": values, "score_bias": score_bias, "slots": slots,
        "padding_mask": padding_mask,
    }  # fmt: skip
    precision = checks.check_alike("read", given)
    sizes = checks.read_sizes(query, keys, values, slots, given)
    checks.check_over_slots("read", sizes, padding_mask, score_bias, given)
    values = keys if values is None else values
    if not precision.as_given:
        cast = OncePerTensor(lambda tensor: tensor.to(precision.computed))
        query, keys, values = cast(query), cast(keys), cast(values)
        score_bias = cast.optional(score_bias)
    form = reference.read if impl == "reference" else plain.read
    with no_autocast(precision, query):
        read_out, weights = form(
            query, keys, values,
            slots=None if slots is None else slots.long(),
            readable=reference.readable_slots(padding_mask, score_bias),
            softmax=softmax,
        )  # fmt: skip
    if not need_weights:
        return read_out.to(precision.result)
    weights = weights.expand(*sizes.batch, -1)
    return read_out.to(precision.result), weights.to(precision.result)


@overload
def multi_hop(
    query: Tensor,
    memories: Tensor,
    hops: Sequence[Hop],
    *,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
    score_bias: Tensor | None = None,
    need_weights: Literal[False] = False,
    impl: str = "auto",
) -> Tensor: ...


@overload
def multi_hop(
    query: Tensor,
    memories: Tensor,
    hops: Sequence[Hop],
    *,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
    score_bias: Tensor | None = None,
    need_weights: Literal[True],
    impl: str = "auto",
) -> tuple[Tensor, Tensor]: ...


@overload
def multi_hop(
    query: Tensor,
    memories: Tensor,
    hops: Sequence[Hop],
    *,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
    score_bias: Tensor | None = None,
    need_weights: bool,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]: ...


def multi_hop(
    query: Tensor,
    memories: Tensor,
    hops: Sequence[Hop],
    *,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
    score_bias: Tensor | None = None,
    need_weights: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Several hops over one memory, sections 2.1 and 2.2 of arXiv 1503.08895. Each hop is

        p_i = softmax_i(q . (A m_i + a + T_A(i)) + b_i)
        o   = sum_i p_i (C m_i + c + T_C(i))
        q  <- q + o

    with q <- H q + o where the hop has a transform, and ReLU of that where it asks for it. T(i) is
    row 0 of the table for the last slot that is not ignored, row 1 for the one before it, and the
    last row for all that are older.

    Args:
        query: q, [..., D]; D is memory_dim.
        memories: m, [..., N, I]. Leading axes broadcast with those of the query by the rules of
            torch; along axes of size 1 or missing the memory is shared, and not expanded for that.
        hops: the weights and options of each hop; see ``Hop`` and ``Table``. A weight that several
            hops share is to be the same tensor object in each.
        slots: integers, [..., N]. Then memories is a bank [..., U, I], and each row of the batch
            holds the rows of the bank that its slots name.
        padding_mask: bool, [..., N], True = ignore that slot. What it holds must still be finite.
        score_bias: b, [..., N], or with one more axis [..., K, N] for a bias of each hop; -inf
            makes a slot one to ignore.
        need_weights: also return p of every hop, [..., K, N].
        impl: a word; see the module.

    Returns:
        q after the last hop, [..., D], or (q, p), in the dtype of the inputs. Where all slots are
        ignored, or N = 0, o and p are zero and so are their gradients, and no bias is added. With
        the softmax the gradient of a is zeros: it does not change p.

    Raises:
        ValueError: for shapes, dtypes and devices that do not fit, and slots outside of the bank.

    >>> table = Table(torch.eye(3))
    >>> query, weights = multi_hop(
    ...     torch.ones(3), 5 * torch.eye(3), [Hop(table, table)] * 2, need_weights=True
    ... )
    >>> weights.shape
    torch.Size([2, 3])
    """
    checks.check_word("multi_hop", "impl", impl, IMPLEMENTATIONS)
    if not hops:
        raise ValueError("multi_hop needs at least one hop; got none")
    given = {
        "query": query, "memories": memories, "score_bias": score_bias, "slots": slots,
        "padding_mask": padding_mask,
    }  # fmt: skip
    precision = checks.check_alike("multi_hop", given, hops)
    sizes = checks.multi_hop_sizes(query, memories, slots, given)
    checks.check_weights(hops, query.shape[-1], memories.shape[-1], given)
    biases = list(checks.bias_of_each_hop(score_bias, len(hops), sizes, given))
    checks.check_over_slots("multi_hop", sizes, padding_mask, biases[0], given)
    if impl == "auto":
        impl = cheaper_form(math.prod(sizes.batch), memories, hops, slots)
    if not precision.as_given:
        cast = OncePerTensor(lambda tensor: tensor.to(precision.computed))
        query, memories = cast(query), cast(memories)
        hops = [cast_hop(hop, cast) for hop in hops]
        biases = [cast.optional(bias) for bias in biases]
    readable = readable_in_each_hop(hops, sizes.num_slots, padding_mask, biases, query.device)
    with no_autocast(precision, query):
        result, attentions = FORMS[impl](
            query, memories, hops,
            slots=None if slots is None else slots.long(),
            readable=readable,
        )  # fmt: skip
    if not need_weights:
        return result.to(precision.result)
    attention = torch.stack([weights.expand(*sizes.batch, -1) for weights in attentions], -2)
    return result.to(precision.result), attention.to(precision.result)


FORMS = {
    "reference": reference.multi_hop,
    "project": plain.projected_multi_hop,
    "torch": plain.raw_multi_hop,
}


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


def readable_in_each_hop(
    hops: Sequence[Hop],
    num_slots: int,
    padding_mask: Tensor | None,
    biases: Sequence[Tensor | None],
    device: torch.device,
) -> list[Readable]:
    """What each hop may read, worked out once where it is the same for all of them."""
    aged = any(table.temporal is not None for hop in hops for table in (hop.a, hop.c))
    readable = []
    for bias in biases:
        may = reference.readable_slots(padding_mask, bias)
        if aged:
            may = may._replace(ages=reference.slot_ages(num_slots, may.ignored, device))
        readable.append(may)
    return readable if len(biases) == len(hops) else readable * len(hops)
