"""Convert a call of any shape to a ``Problem``, one flat batch, and its results back."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.call import Call
from memhop.ops.checks import broadcast
from memhop.ops.fused.problem import Problem, Step
from memhop.ops.inputs import (
    Hop,
    Memory,
    Quantized,
    Stored,
    relu_units,
    storage,
    with_short_tables,
)


class BatchLayout(NamedTuple):
    """The batch axes of a call, permuted so that rows that share a memory are consecutive.

    Attributes:
        batch: the sizes of the axes.
        axes: the permutation; axes along which the memory is shared come last.
        num_own: the number of leading axes in the new order along which memories differ.
    """

    batch: tuple[int, ...]
    axes: tuple[int, ...]
    num_own: int

    def is_permuted(self) -> bool:
        """Return whether any axis moves."""
        return self.axes != tuple(range(len(self.axes)))

    def flatten(self, tensor: Tensor, inner: tuple[int, ...]) -> Tensor:
        """Return [..., *inner] as [B, *inner] with permuted rows."""
        if len(self.batch) == 1 and tensor.shape == (*self.batch, *inner):
            return tensor
        tensor = tensor.expand((*self.batch, *inner))
        if self.is_permuted():
            tensor = tensor.permute((*self.axes, *range(len(self.axes), tensor.dim())))
        return tensor.reshape((math.prod(self.batch), *inner))

    def unflatten(self, tensor: Tensor) -> Tensor:
        """Return [B, ...] as [*batch, ...] with the axes in their original order."""
        if len(self.batch) == 1:
            return tensor
        inner = tensor.shape[1:]
        if not self.is_permuted():
            return tensor.reshape((*self.batch, *inner))
        tensor = tensor.reshape(*(self.batch[axis] for axis in self.axes), *inner)
        inverse = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return tensor.permute(*inverse, *range(len(self.axes), tensor.dim()))


def layout_of(batch: tuple[int, ...], memory: Memory) -> BatchLayout:
    """Return the layout of a batch for a memory; with slots no axis moves."""
    own: list[int] = []
    shared: list[int] = []
    for axis, size in enumerate(batch):
        is_own = size <= 1 or memory.slots is not None
        for stored in memory[:2]:
            if stored is not None and not is_own:
                leading = stored.shape[:-2]
                missing = len(batch) - len(leading)
                is_own = axis >= missing and leading[axis - missing] != 1
        (own if is_own else shared).append(axis)
    return BatchLayout(batch, (*own, *shared), len(own))


def is_flat(call: Call) -> bool:
    """Return whether a call has queries [B, D], memories [B, N, I] and weights alone."""
    keys = call.memory.keys
    return call.is_plain and len(call.batch) == 1 and len(keys.shape) == 3 and bool(call.hops)


def pack_flat(call: Call) -> Problem:
    """Return the same as ``pack`` for a flat call, in fewer steps."""
    query, keys = call.query, storage(call.memory.keys)
    weights, steps = steps_of(call.hops, call.precision.computed, query.shape[-1])
    optional = (None,) * 7
    return Problem.of_tensors(
        (query.contiguous(), ensure_last_contiguous(keys), *optional, *weights), steps
    )


def pack(call: Call, layout: BatchLayout) -> Problem:
    """Return the problem of a call; contents of slots are copied only if their layout demands it.

    A ``read`` becomes a single step without ``carry``.
    """
    memory, num_slots, dtype = call.memory, call.num_slots, call.precision.computed
    weights: tuple[Tensor, ...] = ()
    steps: tuple[Step, ...] = (Step(softmax=int(call.softmax), carry=0),)
    if call.hops:
        hops = with_short_tables(call.hops, num_slots)
        weights, steps = steps_of(hops, dtype, call.query.shape[-1])
    banks = None if memory.slots is None else leading_of_banks(memory)
    keys, key_scale = flat_rows(memory.keys, layout, banks, dtype)
    values, value_scale = None, None
    if memory.values is not None:
        values, value_scale = flat_rows(memory.values, layout, banks, dtype)
    ignored, lengths, bias = memory.padding_mask, memory.lengths, memory.score_bias
    if bias is not None:
        bias = bias if bias.dim() == len(layout.batch) + 2 else bias.unsqueeze(-2)
        bias = layout.flatten(bias.to(dtype), (bias.shape[-2], num_slots))
        bias = ensure_last_contiguous(bias)
    if ignored is not None:
        ignored = ensure_last_contiguous(layout.flatten(ignored, (num_slots,)))
    return Problem(
        layout.flatten(call.query.to(dtype), (call.query.shape[-1],)).contiguous(),
        keys,
        key_scale,
        values,
        value_scale,
        None if memory.slots is None else flat_slots(memory.slots, memory, layout, num_slots),
        ignored,
        None if lengths is None else layout.flatten(lengths.long(), ()).contiguous(),
        bias,
        weights,
        steps,
    )


def leading_of_banks(memory: Memory) -> tuple[int, ...]:
    """Return the leading axes of the banks."""
    stored = [memory.keys] if memory.values is None else [memory.keys, memory.values]
    return broadcast([each.shape[:-2] for each in stored])


def flat_rows(
    stored: Stored, layout: BatchLayout, banks: tuple[int, ...] | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Return a memory as [G, N, I], or a bank as [U, I]; and the scale of int8, [G, N] or [U]."""
    rows = storage(stored)
    scale = stored.scale if isinstance(stored, Quantized) else None
    if banks is None and rows.dim() == 3 and layout.batch == tuple(rows.shape[:1]):
        return ensure_last_contiguous(rows), scale
    own = tuple(layout.batch[axis] for axis in layout.axes[: layout.num_own])
    is_repeated = math.prod(rows.shape[:-2]) != math.prod(own if banks is None else banks)
    if is_repeated and rows.requires_grad:
        rows = rows.to(dtype)  # the gradient is a sum over repetitions and is rounded once
    if banks is not None:
        rows = ensure_last_contiguous(rows.expand(*banks, -1, -1).reshape(-1, rows.shape[-1]))
        return rows, None if scale is None else scale.expand(*banks, -1).reshape(-1)

    def flatten(tensor: Tensor, inner: torch.Size) -> Tensor:
        missing = len(layout.batch) - (tensor.dim() - len(inner))
        tensor = tensor.reshape((1,) * missing + tensor.shape)
        tensor = tensor.permute((*layout.axes, *range(len(layout.batch), tensor.dim())))
        if layout.num_own < len(layout.axes):
            tensor = tensor.reshape((*tensor.shape[: layout.num_own], *inner))
        return tensor.expand((*own, *inner)).reshape((math.prod(own), *inner))

    flat_scale = None if scale is None else flatten(scale, rows.shape[-2:-1])
    return ensure_last_contiguous(flatten(rows, rows.shape[-2:])), flat_scale


def flat_slots(slots: Tensor, memory: Memory, layout: BatchLayout, num_slots: int) -> Tensor:
    """Return slots as [B, N] into one bank; several banks are concatenated."""
    if slots.dtype not in (torch.int64, torch.int32):
        slots = slots.long()
    banks = leading_of_banks(memory)
    if math.prod(banks) > 1:
        first_rows = torch.arange(math.prod(banks), device=slots.device) * memory.keys.shape[-2]
        slots = slots + first_rows.view(*banks, 1)
    return ensure_last_contiguous(layout.flatten(slots, (num_slots,)))


def ensure_last_contiguous(tensor: Tensor) -> Tensor:
    """Return the tensor, copied only if it is not contiguous along its last axis."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def steps_of(
    hops: Sequence[Hop], dtype: torch.dtype, memory_dim: int
) -> tuple[tuple[Tensor, ...], tuple[Step, ...]]:
    """Return the distinct weights in the compute dtype, and the steps with indices into them."""
    weights: list[Tensor] = []
    indices: dict[int, int] = {}
    steps = []
    for a, c, transform, relu, softmax in hops:
        step: list[int] = []
        for weight in (*a, *c, transform):
            if weight is None:
                step.append(-1)
                continue
            index = indices.get(id(weight))
            if index is None:
                index = indices[id(weight)] = len(weights)
                is_ready = weight.dtype == dtype and weight.is_contiguous()
                weights.append(weight if is_ready else weight.to(dtype).contiguous())
            step.append(index)
        units = relu_units(relu, memory_dim) if relu else 0
        steps.append(Step._make((*step, units, int(softmax), 1)))
    return tuple(weights), tuple(steps)


def as_kernel_input(tensor: Tensor | None, is_flat: bool = False) -> Tensor | None:
    """Return a tensor in the layout that kernels expect; see ``Problem``.

    Views with the negative bit store numbers with the opposite sign.
    """
    if tensor is None:
        return None
    tensor = tensor.resolve_neg()
    return tensor.contiguous() if is_flat else ensure_last_contiguous(tensor)


def as_kernel_inputs(problem: Problem) -> Problem:
    """Return a problem in the layout that kernels expect.

    Hooks on saved tensors may return another layout, and graphs may pass one.
    """
    if has_kernel_inputs(problem):
        return problem
    fields = dict(zip(problem._fields[:-2], problem[:-2], strict=True))
    flat = ("query", "lengths")
    tensors = [as_kernel_input(tensor, name in flat) for name, tensor in fields.items()]
    weights = [as_kernel_input(weight, is_flat=True) for weight in problem.weights]
    return Problem.of_tensors((*tensors, *weights), problem.steps)


def has_kernel_inputs(problem: Problem) -> bool:
    """Return whether a problem has the layout that kernels expect."""
    for tensor in (problem.query, *problem.weights):
        if tensor.is_neg() or not tensor.is_contiguous():
            return False
    keys, *optional = problem[1:-2]
    is_plain = all(tensor is None for tensor in optional)
    return is_plain and not keys.is_neg() and keys.stride(-1) == 1
