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
from memhop.ops.fused_cpu_backward import backward as compiled_backward
from memhop.ops.fused_cpu_backward import order_by_place, write_bank
from memhop.ops.fused_cpu_forward import ATTEND, BEGIN, FINISH, SETTLE
from memhop.ops.fused_cpu_forward import forward as compiled_forward
from memhop.ops.fused_cpu_rows import TARGET, WORK, Block, Plan, bytes_of_block
from memhop.ops.problem import Gradients, Problem, Trace, Wanted

SERIAL = 1_000_000  # numbers read; for fewer, waking a thread costs more than its help

KINDS = {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16, torch.int8: INT8}


class Call:
    """One call of compiled code: the record that it works on, and room for each thread.

    The record holds addresses; what they point to is kept here until the call is over.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.work = np.zeros(1, WORK)
        self.like = ZEROS[problem.query.dtype]
        self._kept: list[Any] = []
        self.set(
            rows=problem.query.shape[0], hops=len(problem.steps), num_slots=problem.num_slots,
            memory_dim=problem.query.shape[1], num_ages=problem.num_ages,
            parts=number_of_parts(problem), apart=problem.values is not None,
        )  # fmt: skip
        is_bank = problem.slots is not None
        values, value_scale = values_of(problem)
        self.work["keys"] = rows_of(problem.keys, problem.key_scale, is_bank)
        self.work["values"] = rows_of(values, value_scale, is_bank)
        self._set_per_slot()
        weights = problem.weights
        self.point(
            query=problem.query,
            steps=np.array(problem.steps, dtype=np.int64),
            weights=np.array([weight.data_ptr() for weight in weights], dtype=np.int64),
            weight_rows=np.array([weight.shape[0] for weight in weights], dtype=np.int64),
        )

    def _set_per_slot(self) -> None:
        slots, ignored, bias = self.problem.slots, self.problem.ignored, self.problem.score_bias
        if slots is not None:
            size = slots.element_size()
            self.set(slots=slots.data_ptr(), slots_of_row=slots.stride(0) * size, slot_bytes=size)
        if ignored is not None:
            self.set(ignored=ignored.data_ptr(), ignored_of_row=ignored.stride(0))
        if bias is not None:
            size = bias.element_size()
            of_hop = bias.stride(1) * size if bias.shape[1] > 1 else 0
            self.set(bias=bias.data_ptr(), bias_of_row=bias.stride(0) * size, bias_of_hop=of_hop)
        self.point(lengths=self.problem.lengths)

    def set(self, **numbers: int) -> None:
        """Put numbers into the record."""
        for name, number in numbers.items():
            self.work[name] = number

    def point(self, **arrays: Tensor | np.ndarray[Any, Any] | None) -> None:
        """Put the addresses of contiguous arrays into the record, 0 for None, and keep them."""
        for name, array in arrays.items():
            if isinstance(array, Tensor):
                array = array.contiguous()
                self.work[name] = array.data_ptr()
            elif array is not None:
                self.work[name] = array.ctypes.data
            self._kept.append(array)

    def add_parts(self, columns: int) -> None:
        """Room for what the parts of rows find, with sums of so many columns."""
        shape = int(self.work["parts"][0]), int(self.work["rows"][0])
        self.point(
            part_tops=np.empty(shape), part_totals=np.empty(shape),
            part_sums=np.empty((*shape, columns)), part_aged=np.empty((*shape, self.problem.num_ages)),
        )  # fmt: skip

    def block(self) -> Block:
        """Room for a thread to work in."""
        columns = max(self.problem.keys.shape[-1], values_of(self.problem)[0].shape[-1])
        sizes = [weight.shape[0] for weight in self.problem.weights]
        widened = self.problem.keys.element_size() < 4
        sizes_of_parts = bytes_of_block(columns, max(sizes, default=0), widened)
        room = np.empty(sum(sizes_of_parts), dtype=np.uint8)
        self._kept.append(room)
        places = np.cumsum((room.ctypes.data, *sizes_of_parts[:-1]))
        return Block(*map(int, places))


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
    if rows:
        call = Call(problem)
        point_to_trace(call, trace)
        call.add_parts(width)

        def work(plan: Plan) -> None:
            compiled_forward(call.work, plan, call.block(), call.like)

        run(problem, range(hops), work, settle=keep_weights)
    return trace


def point_to_trace(call: Call, trace: Trace) -> None:
    """Put a trace into the record of a call."""
    call.point(
        queries=trace.queries, keyed=trace.keyed, read=trace.read, mass=trace.mass,
        tops=trace.tops, totals=trace.totals, aged=trace.aged, kept=trace.weights,
    )  # fmt: skip


def backward(
    problem: Problem,
    trace: Trace,
    by_result: Tensor,
    by_weights: Tensor | None,
    wanted: Wanted,
) -> Gradients:
    """See ``problem``; the trace must hold the weights."""
    query, ages, rows, hops = (
        problem.query, problem.num_ages, problem.query.shape[0], len(problem.steps),
    )  # fmt: skip
    values, _ = values_of(problem)
    carried, apart = problem.steps[0].carry, problem.values is not None
    gradients = Gradients(
        by_query=by_result.clone(memory_format=torch.contiguous_format)
        if carried
        else torch.zeros_like(query),
        by_read_out=torch.empty_like(trace.queries[:, 1:], memory_format=torch.contiguous_format),
        by_keyed=torch.empty_like(trace.keyed),
        by_mass=torch.empty_like(trace.mass),
        by_aged=query.new_empty(rows, hops, ages) if ages else None,
        by_scores=query.new_empty(rows, hops, problem.num_slots) if any(wanted) else None,
        by_keys=new_rows(problem.keys, rows) if wanted.keys else None,
        by_values=new_rows(values, rows) if wanted.values and apart else None,
    )
    if rows == 0:
        return gradients
    call, by_read = Call(problem), torch.empty_like(trace.read)
    if not carried:
        by_read[:, 0] = by_result
    point_to_trace(call, trace)
    call.point(
        by_query=gradients.by_query, by_read_out=gradients.by_read_out, by_read=by_read,
        by_keyed=gradients.by_keyed, by_mass=gradients.by_mass, by_aged=gradients.by_aged,
        by_scores=gradients.by_scores, by_weights=by_weights, means=np.empty((rows, hops)),
    )  # fmt: skip
    call.add_parts(problem.keys.shape[-1])
    targets = targets_of(problem, gradients)
    is_bank = problem.slots is not None
    own = np.empty(0, TARGET) if is_bank else targets

    def work(plan: Plan) -> None:
        compiled_backward(call.work, own, plan, call.block(), call.like)

    run(problem, range(hops - 1, -1, -1), work, settle=len(own) > 0)
    for target in targets if is_bank else ():
        write_gradient_of_bank(call, target, problem.keys.shape[0])
    return gradients


def values_of(problem: Problem) -> tuple[Tensor, Tensor | None]:
    """The rows that are read and their scale: the keys, where there are no others."""
    if problem.values is None:
        return problem.keys, problem.key_scale
    return problem.values, problem.value_scale


def new_rows(rows: Tensor, readers: int) -> Tensor:
    """Room for the gradient of rows; zero where nobody reads them."""
    return (torch.empty if readers else torch.zeros)(rows.shape, dtype=rows.dtype)


def targets_of(problem: Problem, gradients: Gradients) -> np.ndarray[Any, np.dtype[np.void]]:
    """Where the gradients of keys and values go; one serves both where they are one."""
    one = problem.values is None
    found = []
    for rows, of_keys, of_values in (
        (gradients.by_keys, True, one),
        (gradients.by_values, False, True),
    ):
        if rows is not None and rows.numel():
            kind = KINDS.get(rows.dtype, AS_COMPUTED)
            found.append((rows.data_ptr(), kind, rows.shape[-1], of_keys, of_values))
    return np.array(found, TARGET)


def write_gradient_of_bank(call: Call, target: Any, bank_rows: int) -> None:
    """Each thread sums up a range of the bank's rows, in the order of the slots that name them."""
    starts = np.zeros(bank_rows + 1, dtype=np.int64)
    order = np.empty(call.problem.query.shape[0] * call.problem.num_slots, dtype=np.int64)
    order_by_place(call.work, starts, order)
    targets = np.array([target], TARGET)
    threads.run([
        partial(write_bank, call.work, targets, starts, order, first, last, call.like)
        for first, last in threads.ranges(bank_rows, threads.count())
    ])  # fmt: skip


def run(problem: Problem, hops: range, work: Callable[[Plan], object], settle: bool) -> None:
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


ZEROS = {torch.float32: np.float32(0), torch.float64: np.float64(0)}


def rows_of(rows: Tensor, scale: Tensor | None, is_bank: bool) -> tuple[int, ...]:
    """What slots hold, by address; nothing is copied."""
    size = rows.element_size()
    scales = (0, 0, 0)
    if scale is not None:
        scales = scale.data_ptr(), 0 if is_bank else scale.stride(0) * 4, scale.stride(-1) * 4
    of_row = 0 if is_bank else rows.stride(0) * size
    kind = KINDS.get(rows.dtype, AS_COMPUTED)
    return (rows.data_ptr(), of_row, rows.stride(-2) * size, kind, rows.shape[-1], *scales)
