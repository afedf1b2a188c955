"""The fused form as operators of torch, ``memhop::fused_v1`` and ``memhop::fused_backward_v1``.

Exported programs name operators, so a change of the meaning of an argument takes a new number. A
compiler keeps them as two nodes of its graph. A direct call has more overhead than
``autograd.run``, which therefore uses them only while a graph is compiled.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memhop.ops.checks import range_outside
from memhop.ops.fused import backends
from memhop.ops.fused.gradients import gradients, keeps_weights, reached_by_weights
from memhop.ops.fused.packing import as_kernel_inputs
from memhop.ops.fused.problem import (
    NUM_TENSORS,
    Problem,
    Step,
    Trace,
    empty_trace,
    result_of,
    tensors_of,
)

STEP_FIELDS = len(Step._fields)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def compiles(device_type: str, dtype: torch.dtype, backward: bool) -> bool:
    """Return ``backends.compiles``, as a constant of the graph."""
    return backends.compiles(device_type, dtype, backward)


def run(problem: Problem, need_weights: bool, grad: bool) -> tuple[Tensor, Tensor | None]:
    """Return the result [B, D] and the weights [B, K, N], as nodes of a graph."""
    steps = [int(index) for step in problem.steps for index in step]
    tensors = tensors_of(problem)[:NUM_TENSORS]
    keep = need_weights or (grad and keeps_weights(problem, need_weights))
    outputs = fused(*tensors, problem.weights, steps, keep)
    return outputs[0], outputs[-1] if need_weights else None


def _problem(
    tensors: Sequence[Tensor | None], weights: Sequence[Tensor], steps: list[int]
) -> Problem:
    each = [Step(*steps[i : i + STEP_FIELDS]) for i in range(0, len(steps), STEP_FIELDS)]
    return as_kernel_inputs(Problem.of_tensors((*tensors, *weights), tuple(each)))


def _check_slots(slots: Tensor | None, num_rows: int) -> None:
    """Raise ValueError for slots outside of the bank on the CPU.

    Exported graphs contain no assertion, and kernels would read beyond the bank. On a GPU only the
    assertion of a compiled graph checks slots.
    """
    if slots is None or not slots.is_cpu or slots.numel() == 0:
        return
    outside = range_outside(slots, num_rows - 1)
    if outside is not None:
        raise ValueError(
            f"expected slots from 0 to {num_rows - 1}, got {outside[0]} to {outside[1]}"
        )


@torch.library.custom_op("memhop::fused_v1", mutates_args=())
def fused(
    query: Tensor,
    keys: Tensor,
    key_scale: Tensor | None,
    values: Tensor | None,
    value_scale: Tensor | None,
    slots: Tensor | None,
    ignored: Tensor | None,
    lengths: Tensor | None,
    score_bias: Tensor | None,
    weights: Sequence[Tensor],
    steps: list[int],
    keep_weights: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the result and the trace of a problem; None of a trace becomes an empty tensor."""
    tensors = (
        query, keys, key_scale, values, value_scale, slots, ignored, lengths, score_bias,
    )  # fmt: skip
    problem = _problem(tensors, weights, steps)
    _check_slots(slots, keys.shape[-2])
    trace = backends.kernel_for(problem).forward(problem, keep_weights)
    if not problem.steps[0].carry:
        trace.queries[:, 1] = (
            0  # a single read writes none, and operators return no uninitialized numbers
        )
    empty = (query.new_empty(0) if part is None else part for part in trace)
    return result_of(problem, trace), *empty  # type: ignore[return-value]


@fused.register_fake
def _(*given: Any) -> tuple[Tensor, ...]:
    *tensors, weights, steps, keep_weights = given
    problem = _problem(tensors, weights, steps)
    trace = empty_trace(problem, keep_weights)
    empty = (problem.query.new_empty(0) if part is None else part for part in trace)
    return result_of(problem, trace), *empty


@torch.library.custom_op("memhop::fused_backward_v1", mutates_args=())
def fused_backward(
    query: Tensor,
    keys: Tensor,
    key_scale: Tensor | None,
    values: Tensor | None,
    value_scale: Tensor | None,
    slots: Tensor | None,
    ignored: Tensor | None,
    lengths: Tensor | None,
    score_bias: Tensor | None,
    weights: Sequence[Tensor],
    steps: list[int],
    trace: Sequence[Tensor],
    grad_result: Tensor | None,
    grad_weights: Tensor | None,
    needed: list[bool],
) -> list[Tensor]:
    """Return the needed gradients."""
    tensors = (
        query, keys, key_scale, values, value_scale, slots, ignored, lengths, score_bias,
    )  # fmt: skip
    problem = _problem(tensors, weights, steps)
    aged = trace[-2] if problem.num_ages else None
    grads = gradients(
        problem, Trace._make((*trace[:-2], aged, trace[-1])), grad_result, grad_weights, needed
    )
    parts = zip(grads, (*tensors, *weights), needed, strict=True)
    return [
        torch.zeros_like(tensor) if part is None and tensor is not None else part  # type: ignore[misc]
        for part, tensor, need in parts
        if need
    ]


@fused_backward.register_fake
def _(*given: Any) -> list[Tensor]:
    *tensors, weights, _, _, _, _, needed = given
    pairs = zip((*tensors, *weights), needed, strict=True)
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t, need in pairs if need]


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, weights, steps, keep_weights = inputs
    _result, *trace = output
    ctx.mark_non_differentiable(*trace[:-1], *([] if keep_weights else trace[-1:]))
    ctx.set_materialize_grads(False)
    ctx.steps, ctx.needed_weights = steps, [weight.requires_grad for weight in weights]
    ctx.save_for_backward(*tensors, *weights, *trace)


def _backward(ctx: Any, grad_result: Tensor | None, *grad_trace: Tensor | None) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    split = len(saved) - len(Trace._fields)
    tensors, weights = saved[:NUM_TENSORS], saved[NUM_TENSORS:split]
    needed = [*ctx.needs_input_grad[:NUM_TENSORS], *ctx.needed_weights]
    if grad_result is None:
        needed = reached_by_weights(_problem(tensors, weights, ctx.steps).steps, needed)
    grads = iter(
        fused_backward(
            *tensors,
            list(weights),
            ctx.steps,
            list(saved[split:]),
            grad_result,
            grad_trace[-1],
            needed,
        )
    )
    each = [next(grads) if need else None for need in needed]
    return (*each[:NUM_TENSORS], each[NUM_TENSORS:], None, None)


fused.register_autograd(_backward, setup_context=_set_up)
