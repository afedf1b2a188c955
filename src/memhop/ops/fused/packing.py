"""A call of any shape as a ``Problem``, one flat batch; its results in the shape of the call."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.checks import broadcast
from memhop.ops.fused.problem import Problem, Step
from memhop.ops.inputs import Hop, Memory, Quantized, Stored, storage


class Order(NamedTuple):
    """The axes of a batch, those along which a memory is shared moved behind the others.

    Rows that share a memory then follow one another.

    Attributes:
        batch: the sizes of the axes.
        axes: the axes in the new order.
        own: how many of them, the first ones, the memory has too.
    """

    batch: tuple[int, ...]
    axes: tuple[int, ...]
    own: int

    @property
    def is_as_it_was(self) -> bool:
        """Whether no axis has moved."""
        return self.axes == tuple(range(len(self.axes)))

    def flat(self, tensor: Tensor, inner: tuple[int, ...]) -> Tensor:
        """[..., *inner] as [B, *inner], its rows in the new order."""
        if len(self.batch) == 1 and tensor.shape == (*self.batch, *inner):
            return tensor
        tensor = tensor.expand((*self.batch, *inner))
        if not self.is_as_it_was:
            kept = range(len(self.axes), tensor.dim())
            tensor = tensor.permute((*self.axes, *kept))
        return tensor.reshape((_product(self.batch), *inner))

    def restored(self, tensor: Tensor) -> Tensor:
        """[B, ...] as [*batch, ...], the axes where they were."""
        inner = tensor.shape[1:]
        if len(self.batch) == 1:
            return tensor
        if self.is_as_it_was:
            return tensor.reshape((*self.batch, *inner))
        tensor = tensor.reshape(*(self.batch[axis] for axis in self.axes), *inner)
        back = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return tensor.permute(*back, *range(len(self.axes), tensor.dim()))


def order_of(batch: tuple[int, ...], memory: Memory) -> Order:
    """The order of the axes of a batch for a memory; with slots no axis has to move."""
    axes = tuple(range(len(batch)))
    if memory.slots is not None:
        return Order(batch, axes, len(batch))
    stored = [memory.keys] if memory.values is None else [memory.keys, memory.values]
    leading = [storage(each).shape[:-2] for each in stored]
    shared = tuple(
        axis
        for axis in axes
        if batch[axis] > 1 and all(_size_along(shape, axis, len(batch)) == 1 for shape in leading)
    )
    own = tuple(axis for axis in axes if axis not in shared)
    return Order(batch, own + shared, len(own))


def _size_along(shape: torch.Size, axis: int, axes: int) -> int:
    """The size of a shape along an axis of the batch; 1 where it has none."""
    missing = axes - len(shape)
    return 1 if axis < missing else shape[axis - missing]


def _product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def flat_problem(
    query: Tensor,
    memory: Memory,
    order: Order,
    num_slots: int,
    computed: torch.dtype,
    weights: tuple[Tensor, ...],
    steps: tuple[Step, ...],
) -> Problem:
    """The problem of a call; what the slots hold stays where and as it is wherever it can."""
    banks = None if memory.slots is None else leading_of_banks(memory)
    keys, key_scale = flat_rows(memory.keys, order, banks, computed)
    values, value_scale = None, None
    if memory.values is not None:
        values, value_scale = flat_rows(memory.values, order, banks, computed)
    ignored, lengths, bias = memory.padding_mask, memory.lengths, memory.score_bias
    if bias is not None:
        of_each_hop = bias.dim() == len(order.batch) + 2
        bias = bias if of_each_hop else bias.unsqueeze(-2)
        bias = order.flat(bias.to(computed), (bias.shape[-2], num_slots))
    return Problem(
        order.flat(query.to(computed), (query.shape[-1],)).contiguous(),
        keys,
        key_scale,
        values,
        value_scale,
        flat_slots(memory, order, num_slots),
        None if ignored is None else ensure_last_contiguous(order.flat(ignored, (num_slots,))),
        None if lengths is None else order.flat(lengths.long(), ()).contiguous(),
        None if bias is None else ensure_last_contiguous(bias),
        weights,
        steps,
    )


def leading_of_banks(memory: Memory) -> tuple[int, ...]:
    """The leading axes of the banks that slots name rows of."""
    stored = [memory.keys] if memory.values is None else [memory.keys, memory.values]
    return broadcast([storage(each).shape[:-2] for each in stored])


def flat_rows(
    stored: Stored, order: Order, banks: tuple[int, ...] | None, computed: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """What slots hold as [G, N, I], or a bank as [U, I]; and the scale of int8, [G, N] or [U]."""
    rows = storage(stored)
    scale = stored.scale if isinstance(stored, Quantized) else None
    own = tuple(order.batch[axis] for axis in order.axes[: order.own])
    is_repeated = _product(rows.shape[:-2]) != _product(own if banks is None else banks)
    if is_repeated and rows.requires_grad:
        rows = rows.to(computed)  # its gradient, summed over what is repeated, is rounded once
    if banks is not None:
        rows = ensure_last_contiguous(rows.expand(*banks, -1, -1).reshape(-1, rows.shape[-1]))
        return rows, None if scale is None else scale.expand(*banks, -1).reshape(-1)

    def flat(tensor: Tensor, inner: torch.Size) -> Tensor:
        missing = len(order.batch) - (tensor.dim() - len(inner))
        tensor = tensor.reshape((1,) * missing + tensor.shape)
        shared = order.axes[order.own :]
        tensor = tensor.permute((*order.axes, *range(len(order.batch), tensor.dim())))
        tensor = tensor.reshape((*tensor.shape[: order.own], *inner)) if shared else tensor
        return tensor.expand((*own, *inner)).reshape((_product(own), *inner))

    if rows.dim() != 3 or order.batch != tuple(rows.shape[:1]):
        flat_scale = None if scale is None else flat(scale, rows.shape[-2:-1])
        return ensure_last_contiguous(flat(rows, rows.shape[-2:])), flat_scale
    return ensure_last_contiguous(rows), scale


def flat_slots(memory: Memory, order: Order, num_slots: int) -> Tensor | None:
    """Slots as [B, N], of one bank: where the batch has several, they lie one behind another."""
    slots, shape = memory.slots, storage(memory.keys).shape
    if slots is None:
        return None
    if slots.dtype not in (torch.int64, torch.int32):
        slots = slots.long()
    banks = leading_of_banks(memory)
    if _product(banks) > 1:
        first_rows = torch.arange(_product(banks), device=slots.device) * shape[-2]
        slots = slots + first_rows.view(*banks, 1)
    return ensure_last_contiguous(order.flat(slots, (num_slots,)))


def ensure_last_contiguous(tensor: Tensor) -> Tensor:
    """The tensor, contiguous along its last axis; a copy only where it is not."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def steps_of(
    hops: Sequence[Hop], computed: torch.dtype
) -> tuple[tuple[Tensor, ...], tuple[Step, ...]]:
    """The weights, each once and in the dtype computed in, and the places that the hops use."""
    used = [(*hop.a, *hop.c, hop.transform) for hop in hops]
    weights: list[Tensor] = []
    places: dict[int, int] = {}
    for weight in chain.from_iterable(used):
        if weight is not None and id(weight) not in places:
            places[id(weight)] = len(weights)
            right = weight.dtype == computed and weight.is_contiguous()
            weights.append(weight if right else weight.to(computed).contiguous())
    steps = tuple(
        Step._make(
            [-1 if weight is None else places[id(weight)] for weight in tensors]
            + [int(hop.relu), int(hop.softmax), 1]
        )
        for hop, tensors in zip(hops, used, strict=True)
    )
    return tuple(weights), steps


def with_kernel_strides(problem: Problem) -> Problem:
    """Return a problem with the strides that kernels expect.

    Hooks on saved tensors may give them others.
    """
    return problem._replace(
        query=problem.query.contiguous(),
        keys=ensure_last_contiguous(problem.keys),
        values=None if problem.values is None else ensure_last_contiguous(problem.values),
        slots=None if problem.slots is None else ensure_last_contiguous(problem.slots),
        ignored=None if problem.ignored is None else ensure_last_contiguous(problem.ignored),
        lengths=None if problem.lengths is None else problem.lengths.contiguous(),
        score_bias=None
        if problem.score_bias is None
        else ensure_last_contiguous(problem.score_bias),
        weights=tuple(weight.contiguous() for weight in problem.weights),
    )
