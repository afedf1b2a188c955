"""The fused form of a call that repeats another one, as an operation of autograd."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from memhop.ops.fused.autograd import backpropagate, must_be_eager
from memhop.ops.fused.problem import NUM_TENSORS

if TYPE_CHECKING:
    from memhop.ops.cpu.prepared_training import Training


def record(
    training: "Training",
    query: Tensor,
    keys: Tensor,
    ignored: Tensor | None,
    weights: tuple[Tensor, ...],
) -> Tensor:
    """Return the result of a call."""
    result: Tensor = _Repeated.apply(training, query, keys, ignored, *weights)  # type: ignore[no-untyped-call]
    return result


class _Repeated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        training: "Training",
        query: Tensor,
        keys: Tensor,
        ignored: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        result, trace = training.forward(query, keys, ignored)
        ctx.training = training
        ctx.save_for_backward(query, keys, ignored, *weights, trace)
        return result

    @staticmethod
    def backward(ctx: Any, grad_result: Tensor) -> tuple[Tensor | None, ...]:
        training, saved, needed = ctx.training, ctx.saved_tensors, ctx.needs_input_grad[1:]
        if training.can_read(saved) and not must_be_eager(grad_result, *saved):
            return (None, *training.backward(saved, grad_result, needed))
        problem, trace = training.problem_of(saved), training.trace_of(saved)
        query, keys, ignored, *weights = needed
        by_name = {"query": query, "keys": keys, "ignored": ignored}
        of_problem = [by_name.get(name, False) for name in problem._fields[:NUM_TENSORS]]
        found = backpropagate(problem, trace, (grad_result, None, None), [*of_problem, *weights])
        return (None, found[0], found[1], None, *found[NUM_TENSORS:])
