"""Keep what ignored slots hold out of results and gradients, whatever it is.

A weight of zero is not enough: zero times NaN or infinity is NaN. The forms in plain torch multiply
every slot by its weight, since that is fastest, and content that is finite then adds exact zeros.
So the form is called on the memory as it is; if the result is not finite, it is called again on a
copy in which the ignored slots hold zeros. Where values cannot be looked at (compiled or
transformed functions, GPUs, where that would wait for the device) it is called on such a copy at
once.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memhop.ops.addresses import has_address, is_intercepted
from memhop.ops.plain import gather_rows
from memhop.ops.reference import Readable
from memhop.ops.weights import Hop

ReadForm = Callable[..., tuple[Tensor, Tensor]]
HopsForm = Callable[..., tuple[Tensor, list[Tensor]]]


def read(
    form: ReadForm,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    slots: Tensor | None,
    readable: Readable,
    softmax: bool,
) -> tuple[Tensor, Tensor]:
    """Return what ``form`` does, a ``read`` of ``reference``, with zeros in ignored slots."""
    if all_is_readable(slots, [readable]) or values_are_visible(query):
        found = form(query, keys, values, slots=slots, readable=readable, softmax=softmax)
        if all_is_readable(slots, [readable]) or is_finite(found[0]):
            return found
    keys, values = zeroed(keys, values, slots, readable.ignored)
    return form(query, keys, values, slots=None, readable=readable, softmax=softmax)


def multi_hop(
    form: HopsForm,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    hops: Sequence[Hop],
    *,
    slots: Tensor | None,
    readable: Sequence[Readable],
) -> tuple[Tensor, list[Tensor]]:
    """Return what ``form`` does, a ``multi_hop`` of ``reference``, with zeros in ignored slots."""
    if all_is_readable(slots, readable) or values_are_visible(query):
        found = form(query, keys, values, hops, slots=slots, readable=readable)
        if all_is_readable(slots, readable) or is_finite(found[0]):
            return found
    ignored = readable[0].ignored
    if all(may.ignored is ignored for may in readable):
        keys, values = zeroed(keys, values, slots, ignored)
        return form(query, keys, values, hops, slots=None, readable=readable)
    attentions = []
    for hop, may in zip(hops, readable, strict=True):  # a bias of each ignores other slots in each
        k, v = zeroed(keys, values, slots, may.ignored)
        query, weights = form(query, k, v, [hop], slots=None, readable=[may])
        attentions += weights
    return query, attentions


def all_is_readable(slots: Tensor | None, readable: Sequence[Readable]) -> bool:
    """Return whether no slot is ignored, and no row of a bank is left unnamed."""
    return slots is None and all(may.ignored is None for may in readable)


def values_are_visible(tensor: Tensor) -> bool:
    """Return whether a program may branch on the tensor's values, at no great cost."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and has_address(tensor)
        and tensor.is_cpu
        and not is_intercepted()
    )


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers are finite; a sum beyond the dtype's range counts as not."""
    return math.isfinite(tensor.detach().sum().item())


def zeroed(
    keys: Tensor, values: Tensor, slots: Tensor | None, ignored: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the rows [..., N, I] and [..., N, V] that the slots hold, zeros in those ignored."""
    rows = keys if slots is None else gather_rows(keys, slots)
    others = rows
    if values is not keys:
        others = values if slots is None else gather_rows(values, slots)
    if ignored is None:
        return rows, others
    zeros = rows.masked_fill(ignored.unsqueeze(-1), 0.0)
    return zeros, zeros if others is rows else others.masked_fill(ignored.unsqueeze(-1), 0.0)
