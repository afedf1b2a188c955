"""The fused hop on the CPU: each hop reads every slot once, and nothing is projected.

A block of slots is scored and, while it is in the first cache, added up with an online softmax (a
running maximum, a running total and a running sum, scaled anew when the maximum grows). A row of
the batch takes all its hops one after the other, while its memory is in the second cache. Rows are
shared out between threads; where there are too few, each row's slots are, and the parts' totals and
sums are merged after every hop, exactly. Blocks are summed in float32 and the sums of blocks in
float64, so that an error does not grow with the number of slots.

Which thread does what follows from sizes and thread count alone: the same bits each time. Slots
that are not to be read are not read: what they hold, NaN too, does not matter.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memhop.ops import threads
from memhop.ops.compiled import AS_COMPUTED, BFLOAT16, FLOAT16, INT8
from memhop.ops.fused_cpu_backward import (
    Sought,
    SoughtParts,
    Target,
    order_by_place,
    write_bank,
)
from memhop.ops.fused_cpu_backward import backward as compiled_backward
from memhop.ops.fused_cpu_forward import ATTEND, BEGIN, FINISH, SETTLE, Found, Parts, Plan
from memhop.ops.fused_cpu_forward import forward as compiled_forward
from memhop.ops.fused_cpu_rows import Given, Rows
from memhop.ops.problem import Gradients, Problem, Trace, Wanted

SERIAL = 1_000_000  # numbers read; for fewer, waking a thread costs more than its help

KINDS = {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16, torch.int8: INT8}


def forward(problem: Problem, keep_weights: bool) -> Trace:
    """See ``problem``."""
    query, ages = problem.query, problem.num_ages
    (rows, memory_dim), hops = query.shape, len(problem.steps)
    input_dim, width = problem.keys.shape[-1], values_of(problem)[0].shape[-1]
    trace = Trace(
        queries=query.new_empty(rows, hops + 1, memory_dim),
        keyed=query.new_empty(rows, hops, input_dim),
        read=query.new_empty(rows, hops, width),
        mass=query.new_empty(rows, hops),
        tops=query.new_empty(rows, hops),
        totals=query.new_empty(rows, hops),
        aged=query.new_empty(rows, hops, ages) if ages else None,
        weights=query.new_empty(rows, hops, problem.num_slots) if keep_weights else None,
    )
    if rows == 0:
        return trace
    given, found = as_given(problem), Found(*(as_array(tensor, query) for tensor in trace))
    room = number_of_parts(problem), rows
    parts = Parts(np.empty(room), np.empty(room), np.empty((*room, width)), np.empty((*room, ages)))
    run(problem, range(hops), partial(compiled_forward, given, found, parts))
    return trace


def backward(
    problem: Problem,
    trace: Trace,
    by_result: Tensor,
    by_weights: Tensor | None,
    wanted: Wanted,
) -> Gradients:
    """See ``problem``; the trace must hold the weights."""
    query, ages = problem.query, problem.num_ages
    rows, hops = query.shape[0], len(problem.steps)
    values, _ = values_of(problem)
    carried = problem.steps[0].carry
    gradients = Gradients(
        by_query=by_result.clone() if carried else torch.zeros_like(query),
        by_read_out=torch.empty_like(trace.queries[:, 1:]),
        by_keyed=torch.empty_like(trace.keyed),
        by_mass=torch.empty_like(trace.mass),
        by_aged=query.new_empty(rows, hops, ages) if ages else None,
        by_scores=query.new_empty(rows, hops, problem.num_slots) if any(wanted) else None,
        by_keys=new_rows(problem.keys) if wanted.keys else None,
        by_values=new_rows(values) if wanted.values and problem.values is not None else None,
    )
    by_read = torch.empty_like(trace.read)
    if not carried:
        by_read[:, 0] = by_result
    if rows == 0:
        return zeroed_rows(gradients)
    given, found = as_given(problem), Found(*(as_array(tensor, query) for tensor in trace))
    sought = Sought(
        gradients.by_query.numpy(), gradients.by_read_out.numpy(), by_read.numpy(),
        gradients.by_keyed.numpy(), gradients.by_mass.numpy(),
        as_array(gradients.by_aged, query), as_array(gradients.by_scores, query),
        as_array(by_weights, query), np.empty((rows, hops)),
    )  # fmt: skip
    room = number_of_parts(problem), rows
    parts = SoughtParts(
        np.empty(room), np.empty((*room, problem.keys.shape[-1])), np.empty((*room, ages))
    )
    targets = targets_of(problem, gradients)
    own = targets if problem.slots is None else (NO_TARGET, NO_TARGET)
    work = partial(compiled_backward, given, found, sought, parts)
    run(
        problem,
        range(hops - 1, -1, -1),
        lambda plan: work(plan, own),
        bool(own[0].address or own[1].address),
    )
    if problem.slots is not None:
        for target, bank in zip(targets, (problem.keys, values), strict=True):
            if target.address:
                write_gradient_of_bank(given, found, sought, target, bank.shape[0], rows)
    return gradients


NO_TARGET = Target(0, 0, 0, 0, 0)


def values_of(problem: Problem) -> tuple[Tensor, Tensor | None]:
    """The rows that are read and their scale: the keys, where there are no others."""
    if problem.values is None:
        return problem.keys, problem.key_scale
    return problem.values, problem.value_scale


def new_rows(rows: Tensor) -> Tensor:
    """Room for the gradient of rows."""
    return torch.empty(rows.shape, dtype=rows.dtype)


def zeroed_rows(gradients: Gradients) -> Gradients:
    """The gradients where no row read anything."""
    for tensor in (gradients.by_keys, gradients.by_values):
        if tensor is not None:
            tensor.zero_()
    return gradients


def targets_of(problem: Problem, gradients: Gradients) -> tuple[Target, Target]:
    """Where the gradients of keys and values go; the first one serves both where they are one."""
    apart = problem.values is not None
    return (
        target_of(gradients.by_keys, of_keys=True, of_values=not apart),
        target_of(gradients.by_values, of_keys=False, of_values=True),
    )


def target_of(rows: Tensor | None, of_keys: bool, of_values: bool) -> Target:
    """The place of one gradient."""
    if rows is None or rows.numel() == 0:
        return NO_TARGET
    kind = KINDS.get(rows.dtype, AS_COMPUTED)
    return Target(rows.data_ptr(), kind, rows.shape[-1], int(of_keys), int(of_values))


def write_gradient_of_bank(
    given: Given, found: Found, sought: Sought, target: Target, bank_rows: int, rows: int
) -> None:
    """Each thread sums up a range of the bank's rows, in the order of the slots that name them."""
    starts = np.zeros(bank_rows + 1, dtype=np.int64)
    order = np.empty(rows * given.num_slots, dtype=np.int64)
    order_by_place(given, rows, starts, order)
    work = partial(write_bank, given, found, sought, target, starts, order)
    ranges = threads.ranges(bank_rows, threads.count())
    threads.run([partial(work, first, last) for first, last in ranges])


def run(problem: Problem, hops: range, work: Callable[[Plan], object], settle: bool = True) -> None:
    """Have the threads do all hops of their rows, or all rows' hops of their slots."""
    rows, num_slots, count = problem.query.shape[0], problem.num_slots, len(hops)
    settling = SETTLE if settle else 0
    if not is_split(problem):
        stages = BEGIN | ATTEND | FINISH | settling
        workers = threads.count() if work_of(problem) > SERIAL else 1
        plans = [
            Plan(stages, first, last, 0, count, 0, num_slots, 0)
            for first, last in threads.ranges(rows, workers)
        ]
        threads.run([partial(work, plan) for plan in plans])
        return
    slots = threads.ranges(num_slots, threads.count())
    for hop in hops:
        work(Plan(BEGIN, 0, rows, hop, hop + 1, 0, num_slots, 0))
        threads.run([
            partial(work, Plan(ATTEND, 0, rows, hop, hop + 1, first, last, part))
            for part, (first, last) in enumerate(slots)
        ])  # fmt: skip
        work(Plan(FINISH, 0, rows, hop, hop + 1, 0, num_slots, 0))
    if settling:
        plans = [Plan(SETTLE, 0, rows, 0, count, first, last, 0) for first, last in slots]
        threads.run([partial(work, plan) for plan in plans])


def work_of(problem: Problem) -> int:
    """Numbers that are read in all."""
    return problem.query.shape[0] * problem.num_slots * len(problem.steps) * problem.keys.shape[-1]


def is_split(problem: Problem) -> bool:
    """Whether each row's slots are shared out: where whole rows would leave threads idle."""
    rows, workers = problem.query.shape[0], threads.count()
    rows_in_time = -(-rows // workers) * workers
    return 4 * rows_in_time > 5 * rows and work_of(problem) > 4 * SERIAL


def number_of_parts(problem: Problem) -> int:
    """How many parts a row is cut into."""
    return len(threads.ranges(problem.num_slots, threads.count())) if is_split(problem) else 1


def as_array(tensor: Tensor | None, like: Tensor) -> Any:
    """A tensor as an array; an empty one [0, 0, 0] for None."""
    if tensor is None:
        return EMPTY[like.dtype]
    return tensor.contiguous().numpy()


EMPTY = {
    dtype: torch.empty(0, 0, 0, dtype=dtype).numpy() for dtype in (torch.float32, torch.float64)
}
NO_LENGTHS = np.empty(0, dtype=np.int64)


def as_given(problem: Problem) -> Given:
    """A problem as compiled code takes it."""
    slots, ignored, bias = problem.slots, problem.ignored, problem.score_bias
    bias_strides = (0, 0)
    if bias is not None:
        size = bias.element_size()
        bias_strides = bias.stride(0) * size, bias.stride(1) * size * (bias.shape[1] > 1)
    return Given(
        query=problem.query.numpy(),
        keys=as_rows(problem.keys, problem.key_scale, slots is not None),
        values=as_rows(*values_of(problem), slots is not None),
        apart=int(problem.values is not None),
        slots=0 if slots is None else slots.data_ptr(),
        slots_of_row=0 if slots is None else slots.stride(0) * slots.element_size(),
        slot_bytes=0 if slots is None else slots.element_size(),
        ignored=0 if ignored is None else ignored.data_ptr(),
        ignored_of_row=0 if ignored is None else ignored.stride(0),
        lengths=NO_LENGTHS if problem.lengths is None else problem.lengths.contiguous().numpy(),
        bias=0 if bias is None else bias.data_ptr(),
        bias_of_row=bias_strides[0],
        bias_of_hop=bias_strides[1],
        num_slots=problem.num_slots,
        steps=np.array(problem.steps, dtype=np.int64),
        weights=np.array([weight.data_ptr() for weight in problem.weights], dtype=np.int64),
        weight_rows=np.array([weight.shape[0] for weight in problem.weights], dtype=np.int64),
    )


def as_rows(rows: Tensor, scale: Tensor | None, is_bank: bool) -> Rows:
    """What slots hold, by address; nothing is copied."""
    size = rows.element_size()
    scales = (0, 0, 0)
    if scale is not None:
        scales = scale.data_ptr(), 0 if is_bank else scale.stride(0) * 4, scale.stride(-1) * 4
    of_row = 0 if is_bank else rows.stride(0) * size
    kind = KINDS.get(rows.dtype, AS_COMPUTED)
    return Rows(rows.data_ptr(), of_row, rows.stride(-2) * size, kind, rows.shape[-1], *scales)
