"""The fused hops as operators of torch, ``memhop::fused`` and ``memhop::fused_backward``.

A compiler sees them as two nodes of its graph and leaves them whole. Called directly they cost
more than ``fused.run``, which therefore uses them only while a graph is compiled.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memhop.ops.fused.autograd import gradients, keeps_weights, kernel_for, result_of, works_on
from memhop.ops.fused.problem import Problem, Step, Trace, empty_trace, tensors_of
from memhop.ops.fused.weight_grad import NUM_TENSORS, reached_by_weights

STEP_FIELDS = len(Step._fields)

works = torch.compiler.assume_constant_result(works_on)  # type: ignore[no-untyped-call]


def run(problem: Problem, need_weights: bool, grad: bool) -> tuple[Tensor, Tensor | None]:
    """Result [B, D] and weights [B, K, N], as nodes of a graph."""
    steps = [int(place) for step in problem.steps for place in step]
    given = tensors_of(problem)[:NUM_TENSORS]
    keep = need_weights or (grad and keeps_weights(problem, need_weights))
    outputs = fused(*given, problem.weights, steps, keep)
    return outputs[0], outputs[-1] if need_weights else None


def _problem(
    tensors: Sequence[Tensor | None], weights: Sequence[Tensor], steps: list[int]
) -> Problem:
    places = [Step(*steps[i : i + STEP_FIELDS]) for i in range(0, len(steps), STEP_FIELDS)]
    # A graph may be given views with the negative bit, whose numbers in memory have the other sign.
    right = (None if tensor is None else tensor.resolve_neg() for tensor in (*tensors, *weights))
    return Problem.of_tensors(tuple(right), tuple(places))


def check_slots(slots: Tensor | None, num_rows: int) -> None:
    """Refuse slots outside of the bank: a graph reads them unchecked, and compiled code would too.

    Raises:
        ValueError: on the CPU; on a GPU only the assertion in the graph finds them.
    """
    if slots is None or not slots.is_cpu or slots.numel() == 0:
        return
    least, most = (int(end) for end in slots.aminmax())
    if least < 0 or most >= num_rows:
        raise ValueError(f"expected slots from 0 to {num_rows - 1}, got {least} to {most}")


@torch.library.custom_op("memhop::fused", mutates_args=())
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
    """The result and the trace of a problem; empty tensors for what a trace has not."""
    tensors = (
        query, keys, key_scale, values, value_scale, slots, ignored, lengths, score_bias,
    )  # fmt: skip
    problem = _problem(tensors, weights, steps)
    check_slots(slots, keys.shape[-2])
    trace = kernel_for(problem).forward(problem, keep_weights)
    if not problem.steps[0].carry:
        trace.queries[:, 1] = 0  # a read alone has none, and an operator may not return chance
    empty = (query.new_empty(0) if part is None else part for part in trace)
    return result_of(problem, trace), *empty  # type: ignore[return-value]


@fused.register_fake
def _(*given: Any) -> tuple[Tensor, ...]:
    *tensors, weights, steps, keep_weights = given
    problem = _problem(tensors, weights, steps)
    trace = empty_trace(problem, keep_weights)
    empty = (problem.query.new_empty(0) if part is None else part for part in trace)
    return result_of(problem, trace), *empty


@torch.library.custom_op("memhop::fused_backward", mutates_args=())
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
    """The gradients that are needed, in a row."""
    tensors = (
        query, keys, key_scale, values, value_scale, slots, ignored, lengths, score_bias,
    )  # fmt: skip
    problem = _problem(tensors, weights, steps)
    aged = trace[-2] if problem.num_ages else None
    found = gradients(
        problem, Trace._make((*trace[:-2], aged, trace[-1])), grad_result, grad_weights, needed
    )
    whole = zip(found, (*tensors, *weights), needed, strict=True)
    return [
        torch.zeros_like(tensor) if part is None and tensor is not None else part  # type: ignore[misc]
        for part, tensor, need in whole
        if need
    ]


@fused_backward.register_fake
def _(*given: Any) -> list[Tensor]:
    *tensors, weights, _, _, _, _, needed = given
    whole = zip((*tensors, *weights), needed, strict=True)
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t, need in whole if need]


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, weights, steps, keep_weights = inputs
    _result, *trace = output
    ctx.mark_non_differentiable(*trace[:-1], *([] if keep_weights else trace[-1:]))
    ctx.set_materialize_grads(False)
    ctx.steps, ctx.needed_weights = steps, [weight.requires_grad for weight in weights]
    ctx.save_for_backward(*tensors, *weights, *trace)


def _backward(ctx: Any, grad_result: Tensor | None, *by_trace: Tensor | None) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    split = len(saved) - len(Trace._fields)
    tensors, weights = saved[:NUM_TENSORS], saved[NUM_TENSORS:split]
    needed = [*ctx.needs_input_grad[:NUM_TENSORS], *ctx.needed_weights]
    if grad_result is None:
        needed = reached_by_weights(_problem(tensors, weights, ctx.steps).steps, needed)
    found = iter(
        fused_backward(
            *tensors,
            list(weights),
            ctx.steps,
            list(saved[split:]),
            grad_result,
            by_trace[-1],
            needed,
        )
    )
    each = [next(found) if need else None for need in needed]
    return (*each[:NUM_TENSORS], each[NUM_TENSORS:], None, None)


fused.register_autograd(_backward, setup_context=_set_up)
