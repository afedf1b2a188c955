"""The fused form on the CPU: each hop reads every slot once, in the space of the stored rows.

The algorithm is that of FlashAttention with one query per memory. A block of slots is scored and,
while it is in the L1 cache, added to the accumulators by an online softmax: a running maximum, a
running sum of exponentials and a running weighted sum, rescaled when the maximum grows. A group of
rows takes all hops in sequence while its memories are in the L2 cache. Threads share out groups of
rows; where there are too few rows, they share out splits of each row's slots (split-K), whose
results are merged after every hop. A block is summed in float32, blocks in float64, so that the
error does not grow with the number of slots.

Work items depend on sizes and the number of threads alone, so results are deterministic.
Unreadable slots are not loaded, so their content, NaN included, has no effect.
"""

from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memhop.ops.cpu import huge_pages, threads
from memhop.ops.cpu.background import ready_job
from memhop.ops.cpu.backward import SORT
from memhop.ops.cpu.formats import code_of
from memhop.ops.cpu.forward import ATTEND, BEGIN, FINISH, NORMALIZE
from memhop.ops.cpu.rows import ARRAYS, CALL, FIELDS, ROWS, STEP, Job, workspace_sizes
from memhop.ops.fused.addresses import address, addresses
from memhop.ops.fused.problem import (
    Gradients,
    Problem,
    Step,
    Trace,
    Wanted,
    empty_gradients,
    empty_result,
    empty_trace,
    empty_weights,
    value_rows,
)

L2_CACHE_BYTES = 2**19  # for the memories of a group of rows
MAX_GROUP_ROWS = 64  # rows that share each load of a weight

SPLITS_PER_THREAD = 4  # several, so that a thread that is held up leaves work to the others

SERIAL = 1_000_000  # numbers read; for fewer, waking a thread costs more than its help

# Rows, and multiplications a hop, up to which a kernel computes the gradient of a weight
MAX_OUTER_ROWS, MAX_OUTER_PRODUCTS = 64, 2**19

MAX_KEPT_NUMBERS = 1 << 15  # of a scratch memory that later calls use again

NUM_ARRAYS = len(ARRAYS)
WEIGHT_ADDRESSES = 2 * len(ROWS.names or ()) + FIELDS.index("weight_addresses")


class Layout(NamedTuple):
    """What the scratch memory of a call depends on.

    Attributes:
        sizes: the fields ``SIZES`` of the record.
        columns: of a row of the keys, of the values, and of a weighted sum of rows.
        steps: the hops.
        weight_rows: the number of rows of each weight.
        workers: the number of threads.
        trace_bytes: of a number of the trace if that is scratch memory too, or 0.
    """

    sizes: tuple[int, ...]
    columns: tuple[int, int, int]
    steps: tuple[Step, ...]
    weight_rows: tuple[int, ...]
    workers: int
    trace_bytes: int


class Scratch:
    """The memory of a call that nothing reads after it: partial results, workspaces of threads."""

    def __init__(self, layout: Layout) -> None:
        rows, hops, _, memory_dim, ages, group_rows, splits, _ = layout.sizes
        (key_columns, value_columns, sum_columns), workers = layout.columns, layout.workers
        partial = splits * rows if splits > 1 else workers * group_rows
        numbers = [partial, partial, partial * sum_columns, partial * ages, rows * hops]
        trace_at = len(numbers)
        if layout.trace_bytes:
            of_row = [
                (hops + 1) * memory_dim, hops * key_columns, hops * value_columns,
                hops, hops, hops, hops * ages,
            ]  # fmt: skip
            numbers += [-(-rows * count * layout.trace_bytes // 8) for count in of_row]
        own_at = len(numbers)
        most_rows = max(layout.weight_rows, default=0)
        workspace = workspace_sizes(max(key_columns, value_columns), most_rows, hops)
        numbers += workspace * workers
        self.is_kept = sum(numbers) <= MAX_KEPT_NUMBERS
        self._buffer = torch.empty(sum(numbers), dtype=torch.float64, device="cpu")
        begin, size = address(self._buffer), len(workspace)
        places = [begin + 8 * offset for offset in accumulate(numbers, initial=0)]
        workspaces = [
            (*places[own_at + size * worker : own_at + size * (worker + 1)], worker * group_rows)
            for worker in range(workers)
        ]
        lists = [*layout.steps, layout.weight_rows, *workspaces]
        self._lists = array("q", chain.from_iterable(lists))
        steps = address_of(self._lists)
        weight_rows = steps + STEP.itemsize * len(layout.steps)
        self.workspaces = weight_rows + 8 * len(layout.weight_rows)
        self.fields = (steps, weight_rows, *places[:trace_at])
        self.trace = places[trace_at:own_at]


@lru_cache(maxsize=64)
def unused(layout: Layout) -> list[Scratch]:
    """Return the scratch memories of a layout that no call is using."""
    return []


class Call:
    """A call of the kernels: its record, which holds addresses, and its scratch memory.

    The caller keeps the tensors behind the addresses alive.
    """

    def __init__(
        self,
        problem: Problem,
        sum_columns: int,
        arrays: Sequence[Tensor | None],
        trace_is_scratch: bool = False,
    ) -> None:
        """``arrays`` go by field in the order of ``ARRAYS``, without a trace in scratch memory.

        ``sum_columns`` is the size of a weighted sum of rows.
        """
        (rows, memory_dim), keys, values = problem.query.shape, problem.keys, problem.values
        num_slots, columns, workers = problem.num_slots, keys.shape[-1], threads.count()
        value_columns = columns if values is None else values.shape[-1]
        self.dtype, self.workers = problem.query.dtype, workers
        self.numbers, self.num_splits = numbers_read(problem, rows, num_slots), 1
        if is_split(rows, workers, self.numbers):
            self.num_splits = min(SPLITS_PER_THREAD * workers, num_slots)
        group_rows = rows_per_group(
            -(-rows // workers), num_slots * columns * keys.element_size(),
            2 * memory_dim * columns * problem.query.element_size() if problem.weights else 0,
        )  # fmt: skip
        self.num_groups = -(-rows // group_rows)
        layout = Layout(
            (rows, len(problem.steps), num_slots, memory_dim, problem.num_ages, group_rows,
             self.num_splits, int(values is not None)),
            (columns, value_columns, sum_columns),
            problem.steps,
            tuple([weight.shape[0] for weight in problem.weights]),
            workers,
            problem.query.element_size() if trace_is_scratch else 0,
        )  # fmt: skip
        self._unused = unused(layout)
        try:
            self._scratch = self._unused.pop()
        except IndexError:
            self._scratch = Scratch(layout)
        of_keys = rows_fields(keys, problem.key_scale, problem.slots is not None)
        of_values = of_keys
        if values is not None:
            of_values = rows_fields(values, problem.value_scale, problem.slots is not None)
        places = addresses(arrays)
        places[1:1] = self._scratch.trace
        fields = [
            *of_keys, *of_values, *layout.sizes, *fields_of_inputs(problem),
            *self._scratch.fields, 0, *places, *[0] * (NUM_ARRAYS - len(places)),
            *addresses(problem.weights),
        ]  # fmt: skip
        self.record, self.has_reusable_scratch = array("q", fields), self._scratch.is_kept
        self._address = address_of(self.record)
        self.record[WEIGHT_ADDRESSES] = self._address + CALL.itemsize

    def job(self, stages: int, **fields: int) -> "array[int]":
        """Return the record of a job; the fields are those of ``Job``."""
        return array("q", (0, 0, *Job(self._address, self._scratch.workspaces, stages, **fields)))

    def run(self, name: str, workers: int, stages: int, **fields: int) -> None:
        """Run a job on so many threads."""
        record = self.job(stages, **fields)
        threads.run(ready_job(name, self.dtype), address_of(record), workers)

    def end(self) -> None:
        """Let a later call use the scratch memory."""
        if self.has_reusable_scratch:
            self._unused.append(self._scratch)


def address_of(integers: "array[int]") -> int:
    """Return the address of an array of integers."""
    return integers.buffer_info()[0]


def fields_of_inputs(problem: Problem) -> tuple[int, ...]:
    """Return the fields ``INPUTS`` of a record."""
    slots, ignored, bias = problem.slots, problem.ignored, problem.score_bias
    of_slots, of_ignored, of_bias = (0, 0, 0), (0, 0), (0, 0, 0)
    if slots is not None:
        size = slots.element_size()
        of_slots = address(slots), slots.stride(0) * size, size
    if ignored is not None:
        of_ignored = address(ignored), ignored.stride(0)
    if bias is not None:
        row_stride, hop_stride = (stride * bias.element_size() for stride in bias.stride()[:2])
        of_bias = address(bias), row_stride, hop_stride if bias.shape[1] > 1 else 0
    lengths = 0 if problem.lengths is None else address(problem.lengths)
    return address(problem.query), *of_slots, *of_ignored, lengths, *of_bias


def rows_fields(rows: Tensor, scale: Tensor | None, is_bank: bool) -> tuple[int, ...]:
    """Return the fields of ``ROWS``."""
    size, (row_stride, slot_stride) = rows.element_size(), (0, *rows.stride())[-3:-1]
    scales = (0, 0, 0)
    if scale is not None:
        scales = address(scale), 0 if is_bank else scale.stride(0) * 4, scale.stride(-1) * 4
    return (
        address(rows), row_stride * size, slot_stride * size,
        code_of(rows.dtype), rows.shape[-1], *scales,
    )  # fmt: skip


def forward(problem: Problem, keep_weights: bool) -> Trace:
    """Run all hops; see ``problem``."""
    trace = empty_trace(problem, keep_weights)
    if problem.query.shape[0]:
        call = Call(problem, trace.read.shape[-1], (None, *trace))
        run_hops(call, "forward", range(len(problem.steps)), normalize=keep_weights)
        call.end()
    return trace


def infer(problem: Problem, need_weights: bool) -> tuple[Tensor, Tensor | None]:
    """Run all hops; return the result, and the weights if they are needed."""
    result, weights = empty_result(problem), empty_weights(problem, need_weights)
    if problem.query.shape[0]:
        columns = value_rows(problem)[0].shape[-1]
        call = Call(problem, columns, (result, weights), trace_is_scratch=True)
        run_hops(call, "forward", range(len(problem.steps)), normalize=need_weights)
        call.end()
    return result, weights


def backward(
    problem: Problem,
    trace: Trace,
    grad_result: Tensor,
    grad_weights: Tensor | None,
    wanted: Wanted,
    grad_lse: Tensor | None = None,
) -> Gradients:
    """Run all hops backward; see ``problem``. The trace must hold the weights."""
    rows, hops = problem.query.shape[0], len(problem.steps)
    new_rows = huge_pages.empty_like if rows else huge_pages.zeros_like
    gradients = empty_gradients(problem, grad_result, wanted, any(wanted[:3]), new_rows)
    if rows == 0:
        return gradients
    grad_read = torch.empty_like(trace.read)
    if not problem.steps[0].carry:
        grad_read[:, 0] = grad_result
    arrays = (None, *trace, *gradients[:-3], grad_read, grad_weights, grad_lse)
    call = Call(problem, problem.keys.shape[-1], arrays)
    targets, is_bank = targets_of(problem, gradients), problem.slots is not None
    num_targets = 0 if is_bank else len(targets)
    records = array("q", chain.from_iterable(targets))
    fields = {"targets": address_of(records), "num_targets": num_targets}
    run_hops(call, "backward", range(hops - 1, -1, -1), normalize=num_targets > 0, **fields)
    for target in targets if is_bank else ():
        write_gradient_of_bank(problem, call, target)
    if any(wanted.weights) and has_small_weights(problem):
        of_weights = gradients_of_weights(problem, call, wanted.weights)
        gradients = gradients._replace(of_weights=of_weights)
    call.end()
    return gradients


def has_small_weights(problem: Problem) -> bool:
    """Return whether a kernel computes the gradients of weights; otherwise matrix products do."""
    rows = problem.query.shape[0]
    largest = max([weight.numel() for weight in problem.weights], default=0)
    is_small = rows <= MAX_OUTER_ROWS and rows * largest <= MAX_OUTER_PRODUCTS
    return is_small and problem.num_ages == 0


def gradients_of_weights(
    problem: Problem, call: Call, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients of the needed weights from those of the hops."""
    found = [
        torch.empty_like(weight) if need else None
        for weight, need in zip(problem.weights, needed, strict=True)
    ]
    targets = array("q", addresses(found))
    call.run("write_weights", 1, 0, targets=address_of(targets), num_targets=len(targets))
    return found


def targets_of(problem: Problem, gradients: Gradients) -> list[tuple[int, ...]]:
    """Return the records of the gradients of keys and values, one where the values are the keys."""
    is_same = problem.values is None
    return [
        (address(rows), code_of(rows.dtype), rows.stride(-2) * rows.element_size(),
         rows.shape[-1], of_keys, of_values)
        for rows, of_keys, of_values in (
            (gradients.grad_keys, True, is_same),
            (gradients.grad_values, False, True),
        )
        if rows is not None and rows.numel()
    ]  # fmt: skip


def write_gradient_of_bank(problem: Problem, call: Call, target: tuple[int, ...]) -> None:
    """Write the gradient of a bank; threads share out its rows, each summed in a fixed order."""
    bank_rows = problem.keys.shape[0]
    starts = np.zeros(bank_rows + 1, dtype=np.int64)
    order = np.empty(problem.query.shape[0] * problem.num_slots, dtype=np.int64)
    record = array("q", target)
    fields = {
        "starts": starts.ctypes.data, "order": order.ctypes.data, "bank_rows": bank_rows,
        "targets": address_of(record),
    }  # fmt: skip
    call.run("write_bank", 1, SORT, **fields)
    call.run("write_bank", call.workers, 0, **fields)


def run_hops(call: Call, name: str, hops: range, normalize: bool, **fields: int) -> None:
    """Run all hops in one job by rows, or each stage of each hop in a job by splits."""
    normalizing = NORMALIZE if normalize else 0
    if call.num_splits == 1:
        workers, of_job = whole_job(call, hops, normalizing)
        call.run(name, workers, **of_job, **fields)
        return

    def run(stages: int, first_hop: int, last_hop: int, splits: int = 0, workers: int = 1) -> None:
        call.run(
            name, workers, stages, first_hop=first_hop, last_hop=last_hop,
            by_rows=int(splits == 0), num_items=splits or call.num_groups, **fields,
        )  # fmt: skip

    for hop in hops:
        run(BEGIN, hop, hop + 1)
        run(ATTEND, hop, hop + 1, call.num_splits, call.workers)
        run(FINISH, hop, hop + 1)
    if normalizing:
        run(NORMALIZE, 0, len(hops), call.num_splits, call.workers)


def whole_job(call: Call, hops: range, normalizing: int = 0) -> tuple[int, dict[str, int]]:
    """Return the number of threads and the fields of a job that runs all hops, group by group."""
    workers = min(call.workers, call.num_groups) if call.numbers > SERIAL else 1
    return workers, {
        "stages": BEGIN | ATTEND | FINISH | normalizing,
        "last_hop": len(hops), "by_rows": 1, "num_items": call.num_groups,
    }  # fmt: skip


def numbers_read(problem: Problem, rows: int, num_slots: int) -> int:
    """Return how many numbers of slots and weights all hops read."""
    weights = 2 * problem.query.shape[1] if problem.weights else 0
    return rows * len(problem.steps) * (num_slots + weights) * problem.keys.shape[-1]


def is_split(rows: int, workers: int, numbers: int) -> bool:
    """Return whether to split each row's slots, because whole rows would leave threads idle."""
    rows_in_time = -(-rows // workers) * workers
    return 4 * rows_in_time > 5 * rows and numbers > 4 * SERIAL


def rows_per_group(rows: int, memory_bytes: int, weight_bytes: int) -> int:
    """Return how many of a thread's rows share each load of a weight.

    That is as many as have memories that fit the L2 cache, where the next hop finds them; if so few
    share it that the weights are read more often than the memories, then as many as possible.
    """
    fitting = L2_CACHE_BYTES // max(1, memory_bytes)
    if fitting * memory_bytes < weight_bytes:
        fitting = MAX_GROUP_ROWS
    count = min(fitting, MAX_GROUP_ROWS, rows)
    if count % 2 and 1 < count < rows:
        count -= 1  # one row by itself takes about the time of two
    return max(1, count)
