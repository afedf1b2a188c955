"""Calls of a layer that differ from an earlier one in their numbers alone.

Checks, the choice of the form and the record of a kernel depend on the sizes, strides and dtypes of
the arguments. ``RepeatedHops`` keep them by these, so that a small call spends its time in the
kernel and not in Python. They are used only if nothing else intercepts the call: no mode, no
transform, no trace, no autocast.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memhop.ops import dispatch
from memhop.ops.call import Call, Outputs
from memhop.ops.cpu import background, threads
from memhop.ops.eager import projected_multi_hop, raw_multi_hop
from memhop.ops.fused import autograd, backends
from memhop.ops.fused.addresses import are_addressable, is_intercepted
from memhop.ops.fused.packing import layout_of, pack
from memhop.ops.fused.problem import Problem
from memhop.ops.inputs import Hop
from memhop.ops.reference import ALL_SLOTS, MemoryView
from memhop.ops.repeated_autograd import record

MAX_KEPT = 32  # signatures of a layer; a caller with more has sizes that rarely repeat

requires_grad = operator.attrgetter("requires_grad")
ATTRIBUTES = (
    Tensor.data_ptr, operator.attrgetter("shape", "dtype"), Tensor.is_contiguous, Tensor.is_neg,
)  # fmt: skip

Signature = tuple[Any, ...]


class Arguments(NamedTuple):
    """The arguments of a call that may be repeated.

    Attributes:
        query, memories, padding_mask: [B, D], [B, N, I] and [B, N] of bool.
        need_weights: whether to return the attention [B, K, N].
    """

    query: Tensor
    memories: Tensor
    padding_mask: Tensor | None
    need_weights: bool


Kept = Callable[[Arguments], Outputs]


class RepeatedHops(tuple[Hop, ...]):
    """The hops of a layer, and what its calls share."""

    known: "Known"

    def __init__(self, hops: object = ()) -> None:
        self.known = Known((), [], {})


class Known(NamedTuple):
    """The calls of a layer by their signatures, in one state of its weights.

    Threads replace it as a whole: a call that was prepared in another state is never found.

    Attributes:
        weights: of all hops.
        state: ``state_of`` these.
        calls: how to run a call, or None for one that ran once.
    """

    weights: tuple[Tensor, ...]
    state: list[Any]
    calls: dict[Signature, Kept | None]


def state_of(weights: tuple[Tensor, ...]) -> list[Any]:
    """Return what a kernel needs of the weights; ``weight.data = other`` changes it."""
    return [state for attribute in ATTRIBUTES for state in map(attribute, weights)]


def signature_of(arguments: Arguments, weights: tuple[Tensor, ...]) -> Signature | None:
    """Return all that the choices for a call depend on, or None if it is not a plain one."""
    query, memories, mask, need_weights = arguments
    if (
        torch.compiler.is_compiling()
        or is_intercepted()
        or backends.is_transformed()
        or torch.is_autocast_enabled("cpu")
        or not are_addressable(arguments[:3])
    ):
        return None
    records = torch.is_grad_enabled() and (
        query.requires_grad or memories.requires_grad or any(map(requires_grad, weights))
    )
    if records and background.has_saved_tensor_hooks():
        return None  # activation checkpointing needs the same operations in both passes
    of_mask = None if mask is None else (mask.shape, mask.stride(), mask.dtype, mask.device)
    return (
        query.shape, query.stride(), query.dtype, query.device,
        memories.shape, memories.stride(), memories.dtype, memories.device,
        of_mask, need_weights, threads.count(), records,
    )  # fmt: skip


def repeat(hops: RepeatedHops, arguments: Arguments) -> Outputs | None:
    """Return the result of a call whose signature is known, or None."""
    weights, state, calls = hops.known
    if not calls:
        return None
    signature = signature_of(arguments, weights)
    call = None if signature is None else calls.get(signature)
    return None if call is None or state_of(weights) != state else call(arguments)


def with_is_repeated(call: Call) -> Call:
    """Return a checked call with ``is_repeated``, so that it takes the form of later ones."""
    records = torch.is_grad_enabled() and dispatch.needs_grad(call)
    is_loaded = call.query.is_cpu and background.is_loaded(call.precision.computed, records)
    has_hooks = records and background.has_saved_tensor_hooks()
    return call._replace(is_repeated=is_loaded and not has_hooks)


def keep(hops: RepeatedHops, call: Call, arguments: Arguments) -> Kept | None:
    """Keep a call with ``is_repeated`` at its second time; return how to run it, or None."""
    given = (call.query, call.memory.keys, call.memory.padding_mask)
    if any(map(operator.is_not, given, arguments)) or not call.precision.as_given:
        return None
    weights = tuple({id(part): part for part in parts_of(hops) if part is not None}.values())
    signature = signature_of(arguments, weights)
    if signature is None or not call.query.is_cpu or not are_addressable(weights):
        return None
    state, known = state_of(weights), hops.known
    if state != known.state:
        hops.known = known = Known(weights, state, {})
    calls, kept = known.calls, None
    if signature in calls:
        kept = cached_run(call, arguments, signature[-1])
    elif len(calls) >= MAX_KEPT:
        calls.pop(next(iter(calls)), None)
    calls[signature] = kept
    return kept


def parts_of(hops: Sequence[Hop]) -> Iterator[Tensor | None]:
    """Yield the weights of all hops."""
    for hop in hops:
        yield from (*hop.a, *hop.c, hop.transform)


def cached_run(call: Call, arguments: Arguments, records: bool) -> Kept | None:
    """Return how to run calls with the sizes of a checked one, if that is known to stay the best.

    It may not be for a small call while the kernels are not loaded.
    """
    dtype, need_weights = call.precision.computed, arguments.need_weights
    is_own = len(call.batch) == 1 and not backends.has_shared_memory(call)
    form = dispatch.form_of(call, need_weights)
    if form in ("eager", "project") and call.is_plain and (call.is_repeated or not is_own):
        return eager_run(call, form)
    if form != "fused" or not is_own or not backends.compiles("cpu", dtype, records):
        return None
    has_rows = all(each is None or each.stride(-1) == 1 for each in arguments[1:3])
    if not has_rows or not call.query.is_contiguous():
        return None  # packing copies them
    problem = pack(call, layout_of(call.batch, call.memory))
    given = (problem.query, problem.keys, problem.ignored)
    if any(map(operator.is_not, given, arguments)) or not are_as_given(problem.weights, call.hops):
        return None
    return (recorded if records else inferred)(problem, need_weights)


def eager_run(call: Call, form: str) -> Kept:
    """Return an eager form of calls without a mask."""
    is_raw = form == "eager"
    hops, axis = tuple(call.hops), len(call.batch)
    readable = [ALL_SLOTS] * len(hops)

    def run(arguments: Arguments) -> Outputs:
        query, memories, _, need_weights = arguments
        view = MemoryView(memories, memories, None, readable)
        if is_raw:
            result, attentions = raw_multi_hop(query, view, hops, need_weights=need_weights)
        else:
            result, attentions = projected_multi_hop(query, view, hops)
        return Outputs(result, torch.stack(attentions, axis) if need_weights else None)

    return run


def are_as_given(weights: tuple[Tensor, ...], hops: Sequence[Hop]) -> bool:
    """Return whether the weights of a problem are those of the hops, and no copies."""
    return set(map(id, parts_of(hops))).issuperset(map(id, weights))


def recorded(problem: Problem, need_weights: bool) -> Kept:
    """Return the call for a problem as an operation of autograd."""
    if not need_weights:
        from memhop.ops.cpu.prepared_training import Training  # imports numba

        training, weights = Training(problem), problem.weights
        if training.is_small:
            return lambda arguments: Outputs(record(training, *arguments[:3], weights))
    return run_of(problem, autograd.record)


def inferred(problem: Problem, need_weights: bool) -> Kept:
    """Return the call for a problem without gradients."""
    from memhop.ops.cpu.prepared import Inferences  # imports numba

    inferences = Inferences(problem, need_weights)
    return inferences if inferences.is_small else run_of(problem, backends.infer)


def run_of(problem: Problem, run_problem: Callable[[Problem, bool, bool], Outputs]) -> Kept:
    """Return the call for a problem whose record is made for each call."""
    weights, steps = problem.weights, problem.steps

    def run(arguments: Arguments) -> Outputs:
        query, memories, mask, need_weights = arguments
        return run_problem(
            Problem.plain(query, memories, mask, weights, steps), need_weights, False
        )

    return run
