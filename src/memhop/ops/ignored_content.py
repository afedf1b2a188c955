"""Keep the content of ignored slots out of results and gradients, whatever it is.

A weight of zero is not enough: zero times NaN or infinity is NaN. The forms in plain torch multiply
every slot by its weight, since that is fastest, and add exact zeros for content that is finite and
not huge. Other content is replaced by zeros before the form is called. Where values cannot be
looked at (compiled and transformed functions; GPUs, which a look would hold up) it always is.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memhop.ops.checks import broadcast
from memhop.ops.eager import gather_both
from memhop.ops.fused.addresses import are_readable
from memhop.ops.inputs import Hop
from memhop.ops.reference import Readable

ReadForm = Callable[..., tuple[Tensor, Tensor]]
HopsForm = Callable[..., tuple[Tensor, list[Tensor]]]

HUGE = math.sqrt(torch.finfo(torch.float32).max)  # beyond, products may not be finite


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
    result, (weights,) = multi_hop(
        lambda query, keys, values, _, *, slots, readable: _as_hop(
            form(query, keys, values, slots=slots, readable=readable[0], softmax=softmax)
        ),
        query, keys, values, (), slots=slots, readable=[readable],
    )  # fmt: skip
    return result, weights


def _as_hop(found: tuple[Tensor, Tensor]) -> tuple[Tensor, list[Tensor]]:
    return found[0], [found[1]]


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
    ignored = readable[0].ignored
    if slots is None and ignored is None:
        return form(query, keys, values, hops, slots=slots, readable=readable)
    if is_visible := values_are_visible(query, keys, values):
        # A finite result is right, but gradients are products of their own.
        grad = torch.is_grad_enabled()
        found = None if grad else form(query, keys, values, hops, slots=slots, readable=readable)
        if found is not None and is_finite(found[0]):
            return found
        if is_tame(keys) and (values is keys or is_tame(values)):
            return found or form(query, keys, values, hops, slots=slots, readable=readable)
    zeroed = zeroed_visible if is_visible else zeroed_blindly
    if all(may.ignored is ignored for may in readable):
        query, keys, values, slots = zeroed(query, keys, values, slots, ignored)
        return form(query, keys, values, hops, slots=slots, readable=readable)
    attentions = []
    for hop, may in zip(hops, readable, strict=True):  # a bias of each ignores other slots in each
        given = zeroed(query, keys, values, slots, may.ignored)
        query, weights = form(*given[:3], [hop], slots=given[3], readable=[may])
        attentions += weights
    return query, attentions


def values_are_visible(*tensors: Tensor) -> bool:
    """Return whether a program may branch on the values of tensors, at no great cost."""
    return not torch.compiler.is_compiling() and are_readable(*tensors) and tensors[0].is_cpu


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers are finite; a sum beyond the dtype's range counts as not."""
    return math.isfinite(tensor.sum().item())


def is_tame(tensor: Tensor) -> bool:
    """Return whether all numbers are finite and not huge, so that their products are finite."""
    if tensor.numel() == 0:
        return True
    least, most = tensor.detach().aminmax()
    return least.item() > -HUGE and most.item() < HUGE  # False for NaN


Given = tuple[Tensor, Tensor, Tensor, Tensor | None]  # query, keys, values, slots


def zeroed_visible(
    query: Tensor, keys: Tensor, values: Tensor, slots: Tensor | None, ignored: Tensor | None
) -> Given:
    """Return the memory with zeros in ignored slots, expanded if its readers need it."""
    if slots is not None:
        keys, values = gather_both(keys, values, slots)
    if ignored is None:
        return query, keys, values, None
    keys, values = zero_both(keys, values, ignored, by_all_readers)
    if is_tame(keys) and (values is keys or is_tame(values)):
        return query, keys, values, None
    return query, *zero_both(keys, values, ignored, lambda ignored, rows: ignored), None


def zeroed_blindly(
    query: Tensor, keys: Tensor, values: Tensor, slots: Tensor | None, ignored: Tensor | None
) -> Given:
    """Return the memory with zeros in slots that all their readers ignore, without an expansion.

    Where readers differ, or slots name rows of a bank, rows that are not finite are zeros too, and
    the queries that read one of them are NaN, as their results would be.
    """
    if slots is None and ignored is not None:
        keys, values = zero_both(keys, values, ignored, by_all_readers)
        stored = (keys, values)
        if all(by_all_readers(ignored, rows) is ignored for rows in stored):
            return query, keys, values, None
    clean: list[Tensor] = []
    for rows in (keys,) if values is keys else (keys, values):
        is_bad = ~rows.isfinite().all(-1)
        clean.append(rows.masked_fill(is_bad.unsqueeze(-1), 0.0))
        if slots is not None:
            batch = broadcast([is_bad.shape[:-1], slots.shape[:-1]])
            is_bad = is_bad.expand(*batch, -1).gather(-1, slots.expand(*batch, -1))
        is_read = is_bad if ignored is None else is_bad & ~ignored
        # A sum and not any(): that of no slots at all is not False in every ONNX runtime.
        query = torch.where(is_read.sum(-1, keepdim=True) > 0, torch.nan, query)
    return query, clean[0], clean[-1], slots


def zero_both(
    keys: Tensor, values: Tensor, ignored: Tensor, of: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return keys and values, one tensor if they are one, with zeros in the slots ``of`` says."""
    zeros = keys.masked_fill(of(ignored, keys).unsqueeze(-1), 0.0)
    if values is keys:
        return zeros, zeros
    return zeros, values.masked_fill(of(ignored, values).unsqueeze(-1), 0.0)


def by_all_readers(ignored: Tensor, rows: Tensor) -> Tensor:
    """Return the slots of ``rows`` [..., N, I] that all readers ignore, of ``ignored`` [..., N]."""
    leading = rows.shape[:-2]
    while ignored.dim() - 1 > len(leading):
        ignored = ignored.all(0)
    if torch.compiler.is_exporting():  # B = 1 is to be no case of its own
        return ignored
    axes = ignored.dim() - 1
    for axis, size in enumerate(leading[len(leading) - axes :]):
        if size == 1 and ignored.shape[axis] != 1:
            ignored = ignored.all(axis, keepdim=True)
    return ignored
