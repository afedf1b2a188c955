"""The fused form: all hops as one differentiable operation around the kernels of a backend.

The forward pass saves the queries, what they were matched with, what they read, and the weights;
the backward pass needs no more, so nothing of size [N, memory_dim] is allocated. ``fallback``
computes the same by eager operations where a gradient is itself differentiated, and for tensors
that kernels cannot read.
"""

from typing import Any

import torch
from torch import Tensor

from memhop.ops.call import Call
from memhop.ops.fused import backends, fallback
from memhop.ops.fused.addresses import are_readable
from memhop.ops.fused.gradients import gradients, keeps_weights
from memhop.ops.fused.packing import as_kernel_inputs, is_flat, layout_of, pack, pack_flat
from memhop.ops.fused.problem import Problem, Step, Trace, is_shared, result_of, tensors_of


def run(call: Call, need_weights: bool) -> tuple[Tensor, Tensor | None]:
    """Return the result [..., D] and the weights [..., K, N] of a call, in the compute dtype.

    The weights of a ``read`` are [..., 1, N].
    """
    if is_flat(call):
        return run_problem(pack_flat(call), need_weights)
    layout = layout_of(call.batch, call.memory)
    result, weights = run_problem(pack(call, layout), need_weights)
    return layout.unflatten(result), None if weights is None else layout.unflatten(weights)


def run_problem(problem: Problem, need_weights: bool) -> tuple[Tensor, Tensor | None]:
    """Return the result [B, D] and the weights [B, K, N], differentiable."""
    tensors = tensors_of(problem)
    device_type, dtype = problem.query.device.type, problem.query.dtype
    grad = False
    if torch.is_grad_enabled():
        for tensor in tensors:
            grad = grad or (tensor is not None and tensor.requires_grad)
    if torch.compiler.is_compiling():
        from memhop.ops.fused import custom_op  # imports torch._dynamo

        if is_shared(problem) or custom_op.compiles(device_type, dtype, grad):
            return custom_op.run(problem, need_weights, grad)
    if not are_readable(*tensors) or not (
        is_shared(problem) or backends.compiles(device_type, dtype, grad)
    ):
        result, weights = fallback.forward(problem)
        return result, weights if need_weights else None
    if grad:
        result, weights = _Fused.apply(problem.steps, need_weights, *tensors)  # type: ignore[no-untyped-call]
        return result, weights
    return backends.infer(problem, need_weights)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, steps: tuple[Step, ...], need_weights: bool, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        problem = Problem.of_tensors(tensors, steps)
        keep = keeps_weights(problem, need_weights)
        trace = backends.kernel_for(problem).forward(problem, keep)
        ctx.steps, ctx.need_weights = steps, need_weights
        ctx.save_for_backward(*tensors, *trace)
        ctx.set_materialize_grads(False)
        return result_of(problem, trace), trace.weights if need_weights else None

    @staticmethod
    def backward(
        ctx: Any, grad_result: Tensor | None, grad_weights: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        split = len(saved) - len(Trace._fields)
        problem = as_kernel_inputs(Problem.of_tensors(saved[:split], ctx.steps))
        trace = Trace._make(saved[split:])
        needed = ctx.needs_input_grad[2:]
        is_eager = (
            torch.is_grad_enabled()
            or backends.is_transformed()
            or _is_batched(grad_result, grad_weights)
            or not are_readable(*saved)
        )
        if is_eager:
            return (None, None, *fallback.backward(problem, grad_result, grad_weights, needed))
        return (None, None, *gradients(problem, trace, grad_result, grad_weights, needed))


def _is_batched(*tensors: Tensor | None) -> bool:
    """Return whether a batch of gradients arrives at once, as with ``is_grads_batched``."""
    is_batched = torch._C._functorch.is_legacy_batchedtensor
    return any(tensor is not None and is_batched(tensor) for tensor in tensors)
