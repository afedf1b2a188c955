"""Keep the content of ignored slots out of results and gradients, whatever it is.

A weight of zero is not enough: zero times NaN or infinity is NaN. The eager forms multiply every
slot by its weight, which is fastest, and add exact zeros for content that is finite and not huge.
Other content is replaced by zeros before the form is called. Where a branch on values is impossible
or slow (compiled and transformed functions, GPUs) content is always replaced.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memhop.ops.checks import broadcast
from memhop.ops.eager import gather_both
from memhop.ops.fused.addresses import are_readable
from memhop.ops.inputs import Hop
from memhop.ops.reference import MemoryView

ReadForm = Callable[[Tensor, MemoryView, bool], tuple[Tensor, ...]]
HopsForm = Callable[[Tensor, MemoryView, Sequence[Hop]], tuple[Tensor, list[Tensor]]]

HUGE = math.sqrt(torch.finfo(torch.float32).max)  # products of larger numbers may be infinite


def read(
    form: ReadForm, query: Tensor, memory: MemoryView, softmax: bool, is_random: bool = False
) -> tuple[Tensor, ...]:
    """Return the result of ``form``, a ``read`` of ``reference``, with zeros in ignored slots."""

    def as_hops(query: Tensor, memory: MemoryView, _: Sequence[Hop]) -> tuple[Tensor, list[Tensor]]:
        read_out, *others = form(query, memory, softmax)
        return read_out, others

    result, others = multi_hop(as_hops, query, memory, (), is_random)
    return result, *others


def multi_hop(
    form: HopsForm,
    query: Tensor,
    memory: MemoryView,
    hops: Sequence[Hop],
    is_random: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """Return the result of ``form``, a ``multi_hop`` of ``reference``, with zeros likewise.

    A random form, one with dropout, runs once: a seed gives the same with and without gradients.
    """
    keys, values, slots, readable = memory
    ignored = readable[0].ignored
    if slots is None and ignored is None:
        return form(query, memory, hops)
    is_visible = not torch.compiler.is_compiling() and are_readable(query, keys, values)
    if is_visible and query.is_cpu:
        # A finite result is right, but gradients are products of their own.
        is_tried = not (torch.is_grad_enabled() or is_random)
        result = form(query, memory, hops) if is_tried else None
        if result is not None and math.isfinite(result[0].sum().item()):
            return result
        if is_tame(keys) and (values is keys or is_tame(values)):
            return result or form(query, memory, hops)
        with_zeros = with_zeros_by_value
    else:
        with_zeros = with_zeros_unseen
    if all(each.ignored is ignored for each in readable):
        return form(*with_zeros(query, memory, ignored), hops)
    attentions = []
    for hop, each in zip(hops, readable, strict=True):  # each hop's bias ignores other slots
        view = memory._replace(readable=[each])
        query, weights = form(*with_zeros(query, view, each.ignored), [hop])
        attentions += weights
    return query, attentions


def finite_windows(
    query: Tensor, memory: MemoryView, ignored: Tensor | None, num_slots: int
) -> tuple[Tensor, MemoryView] | None:
    """Return a query and a memory [..., T + N - 1, I] without content that spoils products.

    The product of a block multiplies slots by zeros for the queries that do not read them. Slots
    that are ``ignored`` by all queries hold zeros if others would matter. None if a readable slot
    is not finite, or huge; on a GPU, where that is not known, its readers become NaN.
    """
    keys, values, _, readable = memory
    if not query.is_cpu:
        if ignored is not None:
            keys, values = zero_both(keys, values, ignored, ignored_by_all)
        rows: list[Tensor] = []
        for each in (keys,) if values is keys else (keys, values):
            is_bad = ~each.isfinite().all(-1)
            is_read = is_bad.unfold(-1, num_slots, 1).any(-1, keepdim=True)
            query = torch.where(is_read, torch.nan, query)
            rows.append(each.masked_fill(is_bad.unsqueeze(-1), 0.0))
        return query, MemoryView(rows[0], rows[-1], None, readable)
    if not (is_tame(keys) and (values is keys or is_tame(values))):
        if ignored is None:
            return None
        keys, values = zero_both(keys, values, ignored, ignored_by_all)
        if not (is_tame(keys) and (values is keys or is_tame(values))):
            return None
    return query, MemoryView(keys, values, None, readable)


def is_tame(tensor: Tensor) -> bool:
    """Return whether all numbers are finite and not huge, so that their products are finite."""
    if tensor.numel() == 0:
        return True
    least, most = tensor.detach().aminmax()
    return least.item() > -HUGE and most.item() < HUGE  # False for NaN


def with_zeros_by_value(
    query: Tensor, memory: MemoryView, ignored: Tensor | None
) -> tuple[Tensor, MemoryView]:
    """Return the memory with zeros in ignored slots, expanded only if its readers differ."""
    keys, values, slots, readable = memory
    if slots is not None:
        keys, values = gather_both(keys, values, slots)
    if ignored is not None:
        keys, values = zero_both(keys, values, ignored, ignored_by_all)
        if not (is_tame(keys) and (values is keys or is_tame(values))):
            keys, values = zero_both(keys, values, ignored, lambda ignored, rows: ignored)
    return query, MemoryView(keys, values, None, readable)


def with_zeros_unseen(
    query: Tensor, memory: MemoryView, ignored: Tensor | None
) -> tuple[Tensor, MemoryView]:
    """Return the memory with zeros in slots that all readers ignore, without an expansion.

    If readers differ, or slots name rows of a bank, rows that are not finite become zeros too, and
    the queries that read one of them become NaN, as their results would.
    """
    keys, values, slots, readable = memory
    if slots is None and ignored is not None:
        keys, values = zero_both(keys, values, ignored, ignored_by_all)
        if all(ignored_by_all(ignored, rows) is ignored for rows in (keys, values)):
            return query, MemoryView(keys, values, None, readable)
    clean: list[Tensor] = []
    for rows in (keys,) if values is keys else (keys, values):
        is_bad = ~rows.isfinite().all(-1)
        clean.append(rows.masked_fill(is_bad.unsqueeze(-1), 0.0))
        if slots is not None:
            batch = broadcast([is_bad.shape[:-1], slots.shape[:-1]])
            is_bad = is_bad.expand(*batch, -1).gather(-1, slots.expand(*batch, -1))
        is_read = is_bad if ignored is None else is_bad & ~ignored
        # A sum and not any(): some ONNX runtimes return True for any() of zero slots.
        query = torch.where(is_read.sum(-1, keepdim=True) > 0, torch.nan, query)
    return query, MemoryView(clean[0], clean[-1], slots, readable)


def zero_both(
    keys: Tensor, values: Tensor, ignored: Tensor, of: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return keys and values, still one tensor if they are, with zeros in ``of(ignored, rows)``."""
    zeros = keys.masked_fill(of(ignored, keys).unsqueeze(-1), 0.0)
    if values is keys:
        return zeros, zeros
    return zeros, values.masked_fill(of(ignored, values).unsqueeze(-1), 0.0)


def ignored_by_all(ignored: Tensor, rows: Tensor) -> Tensor:
    """Return the slots of ``rows`` [..., N, I] that all readers ignore, of ``ignored`` [..., N]."""
    leading = rows.shape[:-2]
    while ignored.dim() - 1 > len(leading):
        ignored = ignored.all(0)
    if torch.compiler.is_exporting():  # no guard on B = 1
        return ignored
    axes = ignored.dim() - 1
    for axis, size in enumerate(leading[len(leading) - axes :]):
        if size == 1 and ignored.shape[axis] != 1:
            ignored = ignored.all(axis, keepdim=True)
    return ignored
