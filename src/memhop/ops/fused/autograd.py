"""All hops as one operation, forward and backward: what surrounds the kernels of ``problem``.

Forward keeps the queries, what they were matched with, what they read, and the weights; backward
works from those, so that nothing of size [N, memory_dim] is ever made. Where a gradient is itself
to be differentiated, and wherever torch transforms functions (vmap, forward mode), plain torch
does the same from the same inputs.
"""

import importlib
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from memhop.ops import eager, ignored_content, reference
from memhop.ops.blocked import attention
from memhop.ops.cpu import background
from memhop.ops.fused.addresses import are_readable
from memhop.ops.fused.packing import flat_problem, order_of, steps_of, with_kernel_strides
from memhop.ops.fused.problem import Gradients, Problem, Step, Trace, Wanted, tensors_of
from memhop.ops.fused.weight_grad import (
    NUM_TENSORS,
    ignored_slots,
    reached_by_weights,
    weight_gradients,
    zero_where_ignored,
)
from memhop.ops.inputs import Hop, Memory, Table, with_short_tables


class Kernel(NamedTuple):
    """Forward and backward as ``problem`` says."""

    forward: Callable[[Problem, bool], Trace]
    backward: Callable[[Problem, Trace, Tensor, Tensor | None, Wanted], Gradients]


def multi_hop(
    query: Tensor,
    memory: Memory,
    hops: Sequence[Hop],
    batch: tuple[int, ...],
    num_slots: int,
    computed: torch.dtype,
    need_weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """The result [..., D] and the weights [..., K, N] of a checked call, in the dtype computed."""
    order = order_of(batch, memory)
    weights, steps = steps_of(with_short_tables(hops, num_slots), computed)
    problem = flat_problem(query, memory, order, num_slots, computed, weights, steps)
    result, attention = run(problem, need_weights)
    return order.restored(result), None if attention is None else order.restored(attention)


def read(
    query: Tensor,
    memory: Memory,
    batch: tuple[int, ...],
    num_slots: int,
    computed: torch.dtype,
    softmax: bool,
    need_weights: bool,
) -> tuple[Tensor, Tensor | None]:
    """o [..., V] and p [..., N] of a checked call of ``ops.read``."""
    order, step = order_of(batch, memory), Step(softmax=int(softmax), carry=0)
    problem = flat_problem(query, memory, order, num_slots, computed, (), (step,))
    result, attention = run(problem, need_weights)
    if attention is None:
        return order.restored(result), None
    return order.restored(result), order.restored(attention.squeeze(1))


def is_transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is at work."""
    return bool(torch._C._are_functorch_transforms_active()) or forward_ad._current_level >= 0


def is_batched(*tensors: Tensor | None) -> bool:
    """Whether a batch of gradients is handed back at once, as with ``is_grads_batched``."""
    is_one = torch._C._functorch.is_legacy_batchedtensor
    return any(tensor is not None and is_one(tensor) for tensor in tensors)


def run(problem: Problem, need_weights: bool) -> tuple[Tensor, Tensor | None]:
    """Result [B, D] and weights [B, K, N], differentiable."""
    tensors = tensors_of(problem)
    place = problem.query.device.type, problem.query.dtype
    grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if torch.compiler.is_compiling():
        from memhop.ops.fused import custom_op

        if is_shared(problem) or custom_op.works(*place, grad):
            return custom_op.run(problem, need_weights, grad)
    if is_transformed():
        raise NotImplementedError(
            "impl='fused' has no rule for the transforms of torch.func (vmap, grad, jvp and the "
            "like) and for forward-mode differentiation; impl='auto' takes plain torch there"
        )
    if not are_readable(*tensors) or not (is_shared(problem) or works_on(*place, grad)):
        result, attention = in_torch(problem)
        return result, attention if need_weights else None
    if grad:
        result, attention = _Fused.apply(problem.steps, need_weights, *tensors)  # type: ignore[no-untyped-call]
        return result, attention
    trace = kernel_for(problem).forward(problem, need_weights)
    return result_of(problem, trace), trace.weights


def is_shared(problem: Problem) -> bool:
    """Whether several rows read each memory."""
    return problem.slots is None and problem.keys.shape[0] != problem.query.shape[0]


def keeps_weights(problem: Problem, need_weights: bool) -> bool:
    """Whether a backward works from kept weights; of a shared memory there are too many."""
    return need_weights or not is_shared(problem)


def kernel_for(problem: Problem) -> Kernel:
    """The kernel for where the memory lies and whether rows share it."""
    if is_shared(problem):
        return Kernel(attention.forward, attention.backward)
    return kernel_on(problem.query.device.type)


@cache
def kernel_on(device_type: str) -> Kernel:
    """The kernel for rows that share nothing; its compiler is imported at the first use."""
    kernel = importlib.import_module(
        "memhop.ops.cuda.forward" if device_type == "cuda" else "memhop.ops.cpu.launch"
    )
    return Kernel(kernel.forward, kernel.backward)


def works_on(device_type: str, dtype: torch.dtype, backward: bool) -> bool:
    """Whether the kernel can be imported and compiled here; where not, a warning says why, once."""
    return _works_on(device_type, dtype, backward)


@cache
def _works_on(device_type: str, dtype: torch.dtype, backward: bool) -> bool:
    if device_type not in ("cpu", "cuda"):
        return False
    try:
        with torch.no_grad():
            try_out(
                kernel_on(device_type), torch.zeros(1, 1, dtype=dtype, device=device_type), backward
            )
    except Exception as error:  # whatever a compiler may raise, plain torch does the same
        warn_once(f"{type(error).__name__}: {error}".partition("\n")[0])
        background.give_up(dtype)
        return False
    return True


def try_out(kernel: Kernel, query: Tensor, backward: bool) -> None:
    """Have the kernel compiled, or what was compiled before loaded, by the smallest problem."""
    problem = Problem.of_tensors((query, query.unsqueeze(0), *[None] * 7), (Step(),))
    trace = kernel.forward(problem, True)
    if backward:
        kernel.backward(problem, trace, query, None, Wanted(True, False, False))


@cache
def warn_once(reason: str) -> None:
    """Say once why the fused kernel is not there."""
    message = f"memhop's fused kernel does not work here, so plain torch is used: {reason}"
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def result_of(problem: Problem, trace: Trace) -> Tensor:
    """The query after the last hop; of a read alone, what was read. Nothing else refers to it."""
    return (trace.queries[:, -1] if problem.steps[0].carry else trace.read[:, 0]).clone()


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, steps: tuple[Step, ...], need_weights: bool, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        problem = Problem.of_tensors(tensors, steps)
        trace = kernel_for(problem).forward(problem, keeps_weights(problem, need_weights))
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
        problem = with_kernel_strides(Problem.of_tensors(saved[:split], ctx.steps))
        trace = Trace._make(None if t is None else t.contiguous() for t in saved[split:])
        needed = ctx.needs_input_grad[2:]
        in_eager = (
            torch.is_grad_enabled() or is_transformed() or is_batched(grad_result, grad_weights)
        )
        if in_eager or not are_readable(*saved):
            return (None, None, *gradients_in_torch(problem, grad_result, grad_weights, needed))
        return (None, None, *gradients(problem, trace, grad_result, grad_weights, needed))


def gradients(
    problem: Problem,
    trace: Trace,
    grad_result: Tensor | None,
    grad_weights: Tensor | None,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Of the tensors of a problem, in a row: those that are needed, and None for others."""
    if grad_result is None:
        needed = reached_by_weights(problem.steps, needed)
        grad_result = torch.zeros_like(result_of(problem, trace))
    if grad_weights is not None:
        grad_weights = zero_where_ignored(problem, grad_weights.resolve_neg())
    grad_result = grad_result.resolve_neg()
    names = dict(zip(Problem._fields, needed, strict=False))
    wanted = Wanted(names["keys"], names["values"], names["score_bias"])
    found = kernel_for(problem).backward(
        problem, trace, grad_result.contiguous(),
        None if grad_weights is None else grad_weights.contiguous(), wanted,
    )  # fmt: skip
    of_bias = None
    if problem.score_bias is not None and found.grad_scores is not None and wanted.scores:
        of_each_hop = problem.score_bias.shape[1] == len(problem.steps)
        of_bias = found.grad_scores if of_each_hop else found.grad_scores.sum(1, keepdim=True)
    of_weights = weight_gradients(problem, trace, found, needed[NUM_TENSORS:])
    return [
        found.grad_query, found.grad_keys, None, found.grad_values, None, None, None, None, of_bias,
        *of_weights,
    ]  # fmt: skip


def gradients_in_torch(
    problem: Problem,
    grad_result: Tensor | None,
    grad_weights: Tensor | None,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """The same through plain torch, itself differentiable."""
    tensors = problem.tensors
    sought = [t for t, need in zip(tensors, needed, strict=True) if need and t is not None]
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        results = in_torch(problem)
        pairs = [
            (result, by)
            for result, by in zip(results, (grad_result, grad_weights), strict=True)
            if by is not None and result.requires_grad
        ]
        found = torch.autograd.grad(
            [result for result, _ in pairs], sought, [by for _, by in pairs],
            create_graph=create_graph, allow_unused=True,
        )  # fmt: skip
    given = iter(found)
    return [next(given) if need else None for need in needed]


def in_torch(problem: Problem) -> tuple[Tensor, Tensor]:
    """The result and the weights of a problem in plain torch, over the raw memory."""
    query, rows = problem.query, problem.query.shape[0]
    keys = widened(problem.keys, problem.key_scale, query.dtype)
    values = keys
    if problem.values is not None:
        values = widened(problem.values, problem.value_scale, query.dtype)
    ignored = ignored_slots(problem)
    biases: list[Tensor | None] = [None]
    if problem.score_bias is not None:
        biases = list(problem.score_bias.unbind(1))
    if problem.slots is None:
        groups = (keys.shape[0], rows // max(1, keys.shape[0]))
        query = query.view(*groups, query.shape[-1])
        keys, values = (
            (keys.unsqueeze(1),) * 2 if values is keys else (keys.unsqueeze(1), values.unsqueeze(1))
        )
        over_slots = (*groups, problem.num_slots)
        ignored = None if ignored is None else ignored.reshape(over_slots)
        biases = [None if bias is None else bias.reshape(over_slots) for bias in biases]
    slots = None if problem.slots is None else problem.slots.long()
    step = problem.steps[0]
    if not step.carry:
        may = reference.readable_slots(ignored, biases[0])
        result, weights = ignored_content.read(
            eager.read, query, keys, values,
            slots=slots, readable=may, softmax=bool(step.softmax),
        )  # fmt: skip
        attentions = [weights]
    else:
        hops = [hop_of(problem, step) for step in problem.steps]
        readable = reference.readable_in_each_hop(hops, problem.num_slots, ignored, biases)
        result, attentions = ignored_content.multi_hop(
            eager.raw_multi_hop, query, keys, values, hops, slots=slots, readable=readable
        )
    shape = (rows, problem.num_slots)
    weights = torch.stack([p.expand(*query.shape[:-1], -1).reshape(shape) for p in attentions], 1)
    return result.reshape(rows, result.shape[-1]), weights


def widened(rows: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What the slots hold, in the dtype computed in."""
    rows = rows.to(dtype)
    return rows if scale is None else rows * scale.to(dtype).unsqueeze(-1)


def hop_of(problem: Problem, step: Step) -> Hop:
    """A step with its weights, as it was given."""
    a, c = problem.weight(step.a), problem.weight(step.c)
    assert a is not None
    assert c is not None
    return Hop(
        Table(a, problem.weight(step.a_bias), problem.weight(step.a_temporal)),
        Table(c, problem.weight(step.c_bias), problem.weight(step.c_temporal)),
        problem.weight(step.transform),
        bool(step.relu),
        bool(step.softmax),
    )
