"""Check the sizes and the inputs of the layers, and lay the inputs out for the operations."""

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from memhop.ops import checks
from memhop.ops.banks import Pair, memory_of
from memhop.ops.errors import PAIR, Arguments, raise_invalid
from memhop.ops.inputs import Memory, Quantized, Stored, storage
from memhop.ops.streamed import Streams

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Inputs(NamedTuple):
    """The arguments of a layer's ``forward``, under their names."""

    query: Tensor
    memories: Stored
    values: Stored | None = None
    slots: Tensor | Pair | None = None
    lengths: Tensor | None = None
    memory_padding_mask: Tensor | None = None
    score_bias: Tensor | None = None
    streams: Streams | None = None  # then memories and values may be placeholders
    group: "ProcessGroup | None" = None
    window: int | None = None

    def memory(self, layer: str) -> Memory:
        """Return the memory as an operation reads it; that of a pair of slots is gathered."""
        _, memories, values, slots, lengths, mask, score_bias, *_ = self
        return memory_of(layer, memories, values, slots, mask, lengths, score_bias)

    def given(self) -> dict[str, Stored | None]:
        """Return the arguments by name, a pair of slots as two."""
        arguments = self._asdict()
        del arguments["streams"], arguments["group"], arguments["window"]
        if isinstance(self.slots, tuple):
            del arguments["slots"]
            arguments |= zip(PAIR, self.slots, strict=True)
        return arguments


class Dims(NamedTuple):
    """The sizes of a layer's query, slots and values, and its number of hops."""

    query: int
    memories: int
    values: int
    num_hops: int


def check_layer_sizes(layer: str, **sizes: int | None) -> None:
    """Check that every size is None or an integer of at least 1."""
    for name, size in sizes.items():
        if size is not None and not is_a_size(size):
            given = {name: size for name, size in sizes.items() if size is not None}
            came = ", ".join(f"{name}={size!r}" for name, size in given.items())
            raise ValueError(f"{layer} expected {name} to be an integer of at least 1, got {came}")


def is_a_size(size: object) -> bool:
    """Return whether an object is an integer of at least 1, of any type but bool."""
    try:
        return not isinstance(size, bool | np.bool_) and operator.index(size) >= 1  # type: ignore[arg-type]
    except TypeError:
        return False


def check_inputs(
    layer: str, dims: Dims, inputs: Inputs, weight: Tensor | None, num_memories: int | None = None
) -> None:
    """Check that the inputs fit each other and the layer.

    ``weight`` is one of its weights, or None if they are unknown.
    """
    required = ("query", "memories")
    given: Arguments = {k: v for k, v in inputs.given().items() if v is not None or k in required}
    checks.check_together(layer, given if weight is None else {**given, "weights": weight})
    query, memories, values, *_ = inputs

    def fail(expected: str) -> NoReturn:
        raise_invalid(layer, expected, given)

    if (
        query.dim() not in (1, 2, 3)
        or query.shape[-1] != dims.query
        or (not are_rows(memories, dims.memories, query, inputs.window))
    ):
        fail(
            f"query [B, {dims.query}] with memories [B, N, {dims.memories}] or "
            f"[N, {dims.memories}], or query [{dims.query}] with memories [N, {dims.memories}], or "
            f"L queries a row, [B, L, {dims.query}]"
        )
    if values is not None and not are_rows(values, dims.values, query, inputs.window):
        fail(f"values [B, N, {dims.values}] or [N, {dims.values}]")
    if values is None and dims.values != dims.memories:
        fail(f"values [..., N, {dims.values}], which value_dim={dims.values} requires")
    if inputs.window is not None and query.dim() == 1:
        fail(f"query [B, T, {dims.query}] or [T, {dims.query}] with window={inputs.window}")
    check_over_slots(dims, inputs, num_memories, fail)


def are_rows(stored: Stored, size: int, query: Tensor, window: int | None = None) -> bool:
    """Return whether the shape of memories or values fits a size and the batch of the query."""
    shape = storage(stored).shape
    if len(shape) == 3:
        num_axes = 1 if window is None else 2
        return query.dim() > num_axes and shape[0] == query.shape[0] and shape[-1] == size
    return len(shape) == 2 and shape[-1] == size


def check_over_slots(
    dims: Dims, inputs: Inputs, num_memories: int | None, fail: Callable[[str], NoReturn]
) -> None:
    """Check the shapes of slots, lengths, mask and score bias."""
    query, memories, _, slots, lengths, mask, bias, *_ = inputs
    leading, num_slots = query.shape[:-1], storage(memories).shape[-2]
    if inputs.window is not None:
        leading = query.shape[:-2]
    pair = slots if isinstance(slots, tuple) else (slots, None)
    names = PAIR if isinstance(slots, tuple) else ("slots", "")
    for name, each in zip(names, pair, strict=True):
        if each is None:
            continue
        has_leading = each.dim() > 0 and fits(each.shape[:-1], leading)
        if each.dtype not in checks.INTEGERS or not has_leading:
            fail(f"{name} {choices_of(leading, 'N')} of integers")
    if pair[0] is not None:
        num_slots = pair[0].shape[-1]
    num_read = num_slots if inputs.window is None else inputs.window
    if num_memories is not None and num_read != num_memories:
        fail(f"{num_memories} slots (num_memories), not {num_read}")
    if lengths is not None and mask is not None:
        fail("memory_padding_mask or lengths, not both")
    if lengths is not None and (
        lengths.dtype not in checks.INTEGERS or not fits(lengths.shape, leading)
    ):
        fail(f"lengths {choices_of(leading)} of integers")
    if mask is not None and (mask.dtype != torch.bool or not is_over(mask, leading, num_slots)):
        choices = choices_of(leading, num_slots)
        fail(f"memory_padding_mask {choices} of bool (True = ignore that slot)")
    if bias is None or is_over(bias, leading, num_slots):
        return
    is_per_hop = bias.dim() == len(leading) + 2 and bias.shape[-2] == dims.num_hops
    if not (is_per_hop and is_over(bias.select(-2, 0), leading, num_slots)):
        of_hops = [*leading, dims.num_hops, num_slots]
        fail(f"score_bias {choices_of(leading, num_slots)}, or of each hop {of_hops}")


def is_over(tensor: Tensor, leading: Sequence[int], num_slots: int) -> bool:
    """Return whether the last axis is that of the slots and the others fit the queries."""
    return tensor.dim() > 0 and tensor.shape[-1] == num_slots and fits(tensor.shape[:-1], leading)


def fits(shape: Sequence[int], leading: Sequence[int]) -> bool:
    """Return whether a shape has the first axes of the queries [B, L], or 1 in their place.

    Equality comes first: B and L stay dynamic in an exported graph, without a guard on 1.
    """
    return len(shape) <= len(leading) and all(
        size == leading[axis] or size == 1 for axis, size in enumerate(shape)
    )


def choices_of(leading: Sequence[int], last: int | str | None = None) -> str:
    """Return the shapes that fit, as words: ``[4, 5], [1, 5] or [5]``."""
    ends = [] if last is None else [last]
    shapes = [list(leading[:axes]) for axes in range(len(leading), -1, -1)]
    if leading:
        shapes.insert(-1, [1])
    *others, final = dict.fromkeys(str([*shape, *ends]).replace("'", "") for shape in shapes)
    return f"{', '.join(others)} or {final}" if others else final


def over_queries(inputs: Inputs) -> Inputs:
    """Return inputs for several queries on each memory, [B, L, D], with an axis for L in all."""
    query, memories, values, slots, lengths, mask, bias, streams, *_ = inputs
    if query.dim() < 3 or inputs.window is not None:
        return inputs
    if isinstance(slots, tuple):
        slots = (with_axis(slots[0], 2), with_axis(slots[1], 2))
    else:
        slots = with_axis(slots, 2)
    return Inputs(
        query, rows_with_axis(memories), None if values is None else rows_with_axis(values), slots,
        with_axis(lengths, 1), with_axis(mask, 2), with_axis(bias, 2),
        None if streams is None else streams.of_tensors(rows_with_axis),
    )  # fmt: skip


def with_axis(tensor: Tensor | None, num_axes: int) -> Tensor | None:
    """Return a tensor [B, ...] of so many axes as [B, 1, ...], and others as they are."""
    return tensor if tensor is None or tensor.dim() != num_axes else tensor.unsqueeze(1)


def rows_with_axis(stored: Stored) -> Stored:
    """Return rows [B, N, I] as [B, 1, N, I], and [N, I] as they are."""
    if storage(stored).dim() == 2:
        return stored
    if isinstance(stored, Quantized):
        return Quantized(stored.data.unsqueeze(1), stored.scale.unsqueeze(1))
    return stored.unsqueeze(1)
