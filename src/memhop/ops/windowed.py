"""Windows: consecutive queries of which each reads the N slots that end at its position.

Query t of [..., T, D] reads the slots t to t + N - 1 of a memory [..., T + N - 1, I]. Its memory is
row t of a strided view [..., T, N, I], which needs no copy: a call with a window is the call with
that view as the memory. ``window_form`` computes it without gathering the slots of the view.
"""

import operator

import torch
from torch import Tensor

from memhop.ops.call import Call
from memhop.ops.errors import Arguments, check_layouts, describe, present, raise_invalid
from memhop.ops.inputs import Memory, has_temporal_tables
from memhop.ops.reference import readable_slots


def windows_of(
    caller: str,
    query: Tensor,
    memory: Memory,
    window: int,
    slots: object = None,
    streams: object = None,
) -> Memory:
    """Return the memory [..., T, N, I] of each query, views of one [..., T + N - 1, I].

    Raises:
        ValueError: for a window with slots, lengths, a group, ``Quantized`` or a streamed memory,
            an N below 1, and sizes that do not fit.
    """
    keys, values, _, mask, lengths, bias = memory
    name = "keys" if caller == "read" else "memories"
    mask_name = "padding_mask" if caller in ("read", "multi_hop") else "memory_padding_mask"
    given = {
        "query": query, name: keys, "values": values, "score_bias": bias, mask_name: mask,
    }  # fmt: skip
    num_slots = check_window(caller, window)
    for what, argument in (("slots", slots), ("lengths", lengths)):
        if argument is not None:
            came = describe(what, argument)
            raise ValueError(f"{caller} expected no {what} with window, got {came}")
    if streams is not None:
        came = "memories in parts or a group"
        raise ValueError(f"{caller} expected {name} in one tensor with window, got {came}")
    if not all(isinstance(tensor, Tensor) for tensor in present(given).values()):
        raise_invalid(caller, "tensors with window", given)
    check_layouts(caller, given)
    check_sizes(caller, name, num_slots, given)
    num_axes = max(each.dim() for each in (query, keys, values) if each is not None) - 1
    return Memory(
        rows_of_windows(keys, num_slots),  # type: ignore[arg-type]
        None if values is None else rows_of_windows(values, num_slots),  # type: ignore[arg-type]
        padding_mask=None if mask is None else slots_of_windows(mask, num_slots),
        score_bias=None if bias is None else bias_of_windows(bias, num_axes, num_slots),
    )


def check_window(caller: str, window: object) -> int:
    """Return N, or raise ValueError."""
    try:
        num_slots = 0 if isinstance(window, bool) else operator.index(window)  # type: ignore[arg-type]
    except TypeError:
        num_slots = 0
    if num_slots < 1:
        raise ValueError(f"{caller} expected window, an integer of at least 1, got {window!r}")
    return num_slots


def check_sizes(caller: str, name: str, num_slots: int, given: Arguments) -> None:
    """Check that memory, values, mask and bias have T + N - 1 slots."""
    query, slot_axes = given["query"], {name: 2, "values": 2}
    if query is None or query.dim() < 2:
        raise_invalid(caller, f"query [..., T, D] with window N = {num_slots}", given)
    num_queries = query.shape[-2]
    size = num_queries + num_slots - 1
    for each, tensor in given.items():
        axis = slot_axes.get(each, 1)
        if each == "query" or tensor is None:
            continue
        if tensor.dim() < axis or tensor.shape[-axis] != size:
            expected = f"T + N - 1 = {size} slots of {each}"
            came = f"T = {num_queries} queries and window N = {num_slots}"
            raise_invalid(caller, f"{expected} for {came}", given)


def rows_of_windows(rows: Tensor, num_slots: int) -> Tensor:
    """Return rows [..., T + N - 1, I] as those of each window, [..., T, N, I]; no copy."""
    return windows(rows, -2, num_slots).mT


def slots_of_windows(tensor: Tensor, num_slots: int) -> Tensor:
    """Return [..., T + N - 1] as [..., T, N]; no copy."""
    return windows(tensor, -1, num_slots)


def bias_of_windows(bias: Tensor, num_axes: int, num_slots: int) -> Tensor:
    """Return a score bias of the slots [..., T, N], or of each hop [..., T, K, N]; no copy.

    ``num_axes`` is the number of leading axes of the result, T included.
    """
    found = windows(bias, -1, num_slots)
    return found.transpose(-3, -2) if bias.dim() == num_axes + 1 else found


def windows(tensor: Tensor, axis: int, num_slots: int) -> Tensor:
    """Return the windows of an axis of T + N - 1 numbers: T in its place, N last."""
    if not torch.compiler.is_exporting() and tensor.shape[axis] < num_slots:  # T = 0
        nothing = tensor.narrow(axis, 0, 0).unsqueeze(-1)
        return nothing.expand(*nothing.shape[:-1], num_slots)
    return tensor.unfold(axis, num_slots, 1)


def excluded(memory: Memory) -> Tensor | None:
    """Return the slots [..., T + N - 1] that no query reads, or None."""
    return readable_slots(memory.padding_mask, memory.score_bias).ignored


def ages_are_lags(call: Call) -> bool:
    """Return whether each slot has the age of a memory without a mask, or is ignored.

    That is so if only slots at the beginning are ignored, those before the first word of a text.
    """
    assert call.window is not None
    mask = call.window.padding_mask
    if mask is None or call.window.score_bias is not None or not has_temporal_tables(call.hops):
        return False
    if not mask.is_cpu:
        return False  # it would wait for the device
    before, after = mask[..., :-1], mask[..., 1:]
    return not bool((before < after if not call.newest_first else before > after).any())
