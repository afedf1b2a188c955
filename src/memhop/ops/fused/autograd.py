"""The fused form: all hops as one differentiable operation around the kernels of a backend.

The forward pass saves the queries, what they were matched with, what they read, and the weights;
the backward pass needs no more, so nothing of size [N, memory_dim] is allocated. ``fallback``
computes the same by eager operations where a gradient is itself differentiated, and for tensors
that kernels cannot read.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memhop.ops.call import Call, Outputs
from memhop.ops.fused import backends, fallback
from memhop.ops.fused.addresses import are_readable
from memhop.ops.fused.gradients import gradients, keeps_weights
from memhop.ops.fused.packing import as_kernel_inputs, is_flat, layout_of, pack, pack_flat
from memhop.ops.fused.problem import (
    Problem,
    Step,
    Trace,
    is_shared,
    log_sum_exp,
    result_of,
    tensors_of,
)


def run(call: Call, need_weights: bool) -> Outputs:
    """Return the outputs of a call; the weights of a ``read`` are [..., 1, N]."""
    if is_flat(call):
        return run_problem(pack_flat(call), need_weights)
    layout = layout_of(call.batch, call.memory)
    result, weights, lse = run_problem(pack(call, layout), need_weights, call.need_lse)
    return Outputs(
        layout.unflatten(result),
        None if weights is None else layout.unflatten(weights),
        None if lse is None else layout.unflatten(lse),
    )


def run_problem(problem: Problem, need_weights: bool, need_lse: bool = False) -> Outputs:
    """Return the result [B, D], the weights [B, K, N] and lse [B], differentiable."""
    tensors = tensors_of(problem)
    device_type, dtype = problem.query.device.type, problem.query.dtype
    grad = False
    if torch.is_grad_enabled():
        for tensor in tensors:
            grad = grad or (tensor is not None and tensor.requires_grad)
    if torch.compiler.is_compiling():
        from memhop.ops.fused import custom_op  # imports torch._dynamo

        if is_shared(problem) or custom_op.compiles(device_type, dtype, grad):
            return Outputs(*custom_op.run(problem, need_weights, grad))
    if not are_readable(*tensors) or not (
        is_shared(problem) or backends.compiles(device_type, dtype, grad)
    ):
        outputs = fallback.forward(problem, need_lse)
        return outputs if need_weights else outputs._replace(weights=None)
    if grad:
        return record(problem, need_weights, need_lse)
    return backends.infer(problem, need_weights, need_lse)


def record(problem: Problem, need_weights: bool, need_lse: bool = False) -> Outputs:
    """Return the outputs of a problem as an operation of autograd."""
    return Outputs(*_Fused.apply(problem.steps, need_weights, need_lse, *tensors_of(problem)))  # type: ignore[no-untyped-call]


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        steps: tuple[Step, ...],
        need_weights: bool,
        need_lse: bool,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        problem = Problem.of_tensors(tensors, steps)
        keep = keeps_weights(problem, need_weights)
        trace = backends.kernel_for(problem).forward(problem, keep)
        ctx.steps, ctx.need_weights = steps, need_weights
        ctx.save_for_backward(*tensors, *trace)
        ctx.set_materialize_grads(False)
        weights = trace.weights if need_weights else None
        return result_of(problem, trace), weights, log_sum_exp(trace) if need_lse else None

    @staticmethod
    def backward(
        ctx: Any,
        grad_result: Tensor | None,
        grad_weights: Tensor | None,
        grad_lse: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        split = len(saved) - len(Trace._fields)
        problem, trace = Problem.of_tensors(saved[:split], ctx.steps), Trace._make(saved[split:])
        needed, grads = ctx.needs_input_grad[3:], (grad_result, grad_weights, grad_lse)
        return (None, None, None, *backpropagate(problem, trace, grads, needed))


def backpropagate(
    problem: Problem,
    trace: Trace,
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of the tensors of a problem from those of result, weights and lse."""
    problem = as_kernel_inputs(problem)
    if must_be_eager(*grads, *tensors_of(problem), *trace):
        return fallback.backward(problem, grads, needed)
    grad_result, grad_weights, grad_lse = grads
    return gradients(problem, trace, grad_result, grad_weights, needed, grad_lse)


def must_be_eager(*tensors: Tensor | None) -> bool:
    """Return whether kernels cannot compute gradients from these tensors."""
    return (
        torch.is_grad_enabled()
        or backends.is_transformed()
        or _is_batched(*tensors)
        or not are_readable(*tensors)
    )


def _is_batched(*tensors: Tensor | None) -> bool:
    """Return whether a batch of gradients arrives at once, as with ``is_grads_batched``."""
    is_batched = torch._C._functorch.is_legacy_batchedtensor
    return any(tensor is not None and is_batched(tensor) for tensor in tensors)
