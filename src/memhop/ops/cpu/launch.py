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
from itertools import accumulate, chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memhop.ops.cpu import huge_pages, threads
from memhop.ops.cpu.background import ready_job
from memhop.ops.cpu.backward import SORT
from memhop.ops.cpu.formats import code_of
from memhop.ops.cpu.forward import ATTEND, BEGIN, FINISH, NORMALIZE
from memhop.ops.cpu.rows import FIELDS, JOB, STEP, TARGET, workspace_sizes
from memhop.ops.fused.addresses import address, addresses
from memhop.ops.fused.problem import (
    Gradients,
    Problem,
    Trace,
    Wanted,
    empty_gradients,
    empty_trace,
    value_rows,
)

L2_CACHE_BYTES = 2**19  # for the memories of a group of rows

SPLITS_PER_THREAD = 4  # several, so that a thread that is held up leaves work to the others

SERIAL = 1_000_000  # numbers read; for fewer, waking a thread costs more than its help

NO_FIELDS = dict.fromkeys(FIELDS, 0)
NO_JOB = dict.fromkeys(JOB.names or (), 0)


class Call:
    """A call of the kernels: its record, and the workspaces of threads.

    The record holds addresses; the object keeps the tensors behind them alive.
    """

    def __init__(
        self, problem: Problem, sum_columns: int, arrays: dict[str, Tensor | None]
    ) -> None:
        """``arrays`` go by field; ``sum_columns`` is the size of a weighted sum of rows."""
        self.problem = problem
        self.num_splits, self.workers = num_splits(problem), threads.count()
        group_rows = rows_per_group(problem)
        self.num_groups = -(-problem.query.shape[0] // group_rows)
        self._kept = [None if array is None else array.contiguous() for array in arrays.values()]
        fields = sizes_and_inputs(problem, self.num_splits, group_rows)
        fields.update(zip(arrays, addresses(self._kept), strict=True))
        workspaces = self._allocate(fields, sum_columns)
        weights = problem.weights
        lists = [
            *chain.from_iterable(problem.steps),
            *addresses(weights),
            *[weight.shape[0] for weight in weights],
            *workspaces,
        ]
        self._lists = array("q", lists)
        fields["steps"] = address_of(self._lists)
        fields["weight_addresses"] = fields["steps"] + STEP.itemsize * len(problem.steps)
        fields["weight_rows"] = fields["weight_addresses"] + 8 * len(weights)
        self._workspaces = fields["weight_rows"] + 8 * len(weights)
        is_bank = problem.slots is not None
        self._record = array("q", rows_fields(problem.keys, problem.key_scale, is_bank))
        self._record.extend(rows_fields(*value_rows(problem), is_bank))
        self._record.extend(fields.values())

    def _allocate(self, fields: dict[str, int], sum_columns: int) -> list[int]:
        """Allocate the results of splits and the workspaces; return the latter's addresses."""
        problem, rows = self.problem, self.problem.query.shape[0]
        columns = max(problem.keys.shape[-1], value_rows(problem)[0].shape[-1])
        weight_rows = max([weight.shape[0] for weight in problem.weights], default=0)
        workspace = workspace_sizes(columns, weight_rows, len(problem.steps))
        per_split = {
            "split_max": 1, "split_total": 1,
            "split_sums": sum_columns, "split_aged": problem.num_ages,
        }  # fmt: skip
        results = {name: self.num_splits * rows * size for name, size in per_split.items()}
        results["grad_means"] = rows * len(problem.steps)
        sizes = [*results.values(), *workspace * self.workers]
        self._buffer = torch.empty(sum(sizes), dtype=torch.float64, device="cpu")
        begin = address(self._buffer)
        places = [begin + 8 * offset for offset in accumulate(sizes[:-1], initial=0)]
        fields.update(zip(results, places, strict=False))
        return places[len(results) :]

    def run(self, name: str, workers: int, **fields: int) -> None:
        """Run a job on so many threads; the fields are those of ``JOB``."""
        given = {"call": address_of(self._record), "workspaces": self._workspaces}
        record = array("q", (NO_JOB | given | fields).values())
        job = ready_job(name, self.problem.query.dtype)
        threads.run(job, address_of(record), workers)


def address_of(integers: "array[int]") -> int:
    """Return the address of an array of integers."""
    return integers.buffer_info()[0]


def sizes_and_inputs(problem: Problem, num_splits: int, group_rows: int) -> dict[str, int]:
    """Return the fields of a record that do not depend on the pass."""
    slots, ignored, bias = problem.slots, problem.ignored, problem.score_bias
    fields = NO_FIELDS | {
        "rows": problem.query.shape[0], "hops": len(problem.steps),
        "num_slots": problem.num_slots, "memory_dim": problem.query.shape[1],
        "num_ages": problem.num_ages, "group_rows": group_rows,
        "num_splits": num_splits, "has_values": int(problem.values is not None),
        "query": address(problem.query),
    }  # fmt: skip
    if slots is not None:
        size = slots.element_size()
        fields |= {
            "slots": address(slots), "slots_row_stride": slots.stride(0) * size, "slot_bytes": size,
        }  # fmt: skip
    if ignored is not None:
        fields |= {"ignored": address(ignored), "ignored_row_stride": ignored.stride(0)}
    if bias is not None:
        row_stride, hop_stride = (stride * bias.element_size() for stride in bias.stride()[:2])
        fields |= {
            "bias": address(bias), "bias_row_stride": row_stride,
            "bias_hop_stride": hop_stride if bias.shape[1] > 1 else 0,
        }  # fmt: skip
    return fields


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
        arrays = {"lengths": problem.lengths, **trace._asdict()}
        call = Call(problem, trace.read.shape[-1], arrays)
        run_hops(call, "forward", range(len(problem.steps)), normalize=keep_weights)
    return trace


def backward(
    problem: Problem,
    trace: Trace,
    grad_result: Tensor,
    grad_weights: Tensor | None,
    wanted: Wanted,
) -> Gradients:
    """Run all hops backward; see ``problem``. The trace must hold the weights."""
    rows, hops = problem.query.shape[0], len(problem.steps)
    new_rows = huge_pages.empty_like if rows else huge_pages.zeros_like
    gradients = empty_gradients(problem, grad_result, wanted, any(wanted), new_rows)
    if rows == 0:
        return gradients
    grad_read = torch.empty_like(trace.read)
    if not problem.steps[0].carry:
        grad_read[:, 0] = grad_result
    arrays = {"lengths": problem.lengths, **trace._asdict(), **gradients._asdict()}
    del arrays["grad_keys"], arrays["grad_values"]
    arrays |= {"grad_read": grad_read, "grad_weights": grad_weights}
    call = Call(problem, problem.keys.shape[-1], arrays)
    targets, is_bank = targets_of(problem, gradients), problem.slots is not None
    num_targets = 0 if is_bank else len(targets)
    fields = {"targets": targets.ctypes.data, "num_targets": num_targets}
    run_hops(call, "backward", range(hops - 1, -1, -1), normalize=num_targets > 0, **fields)
    for target in targets if is_bank else ():
        write_gradient_of_bank(call, target)
    return gradients


def targets_of(problem: Problem, gradients: Gradients) -> np.ndarray[Any, np.dtype[np.void]]:
    """Return the records of the gradients of keys and values, one where the values are the keys."""
    is_same = problem.values is None
    targets = [
        (address(rows), code_of(rows.dtype), rows.stride(-2) * rows.element_size(),
         rows.shape[-1], of_keys, of_values)
        for rows, of_keys, of_values in (
            (gradients.grad_keys, True, is_same),
            (gradients.grad_values, False, True),
        )
        if rows is not None and rows.numel()
    ]  # fmt: skip
    return np.array(targets, TARGET)


def write_gradient_of_bank(call: Call, target: Any) -> None:
    """Write the gradient of a bank; threads share out its rows, each summed in a fixed order."""
    problem, bank_rows = call.problem, call.problem.keys.shape[0]
    starts = np.zeros(bank_rows + 1, dtype=np.int64)
    order = np.empty(problem.query.shape[0] * problem.num_slots, dtype=np.int64)
    targets = np.array([target], TARGET)
    fields = {
        "starts": starts.ctypes.data, "order": order.ctypes.data, "bank_rows": bank_rows,
        "targets": targets.ctypes.data,
    }  # fmt: skip
    call.run("write_bank", 1, stages=SORT, **fields)
    call.run("write_bank", call.workers, **fields)


def run_hops(call: Call, name: str, hops: range, normalize: bool, **fields: int) -> None:
    """Run all hops in one job by rows, or each stage of each hop in a job by splits."""
    count, normalizing, num_groups = len(hops), NORMALIZE if normalize else 0, call.num_groups

    def run(stages: int, first_hop: int, last_hop: int, splits: int = 0, workers: int = 1) -> None:
        call.run(
            name, workers, stages=stages, first_hop=first_hop, last_hop=last_hop,
            by_rows=int(splits == 0), num_items=splits or num_groups, **fields,
        )  # fmt: skip

    if call.num_splits == 1:
        workers = min(call.workers, num_groups) if numbers_read(call.problem) > SERIAL else 1
        run(BEGIN | ATTEND | FINISH | normalizing, 0, count, workers=workers)
        return
    for hop in hops:
        run(BEGIN, hop, hop + 1)
        run(ATTEND, hop, hop + 1, call.num_splits, call.workers)
        run(FINISH, hop, hop + 1)
    if normalizing:
        run(NORMALIZE, 0, count, call.num_splits, call.workers)


def numbers_read(problem: Problem) -> int:
    """Return how many numbers of slots and weights all hops read."""
    (rows, memory_dim), columns = problem.query.shape, problem.keys.shape[-1]
    weights = 2 * memory_dim if problem.weights else 0
    return rows * len(problem.steps) * (problem.num_slots + weights) * columns


def is_split(problem: Problem) -> bool:
    """Return whether to split each row's slots, because whole rows would leave threads idle."""
    rows, workers = problem.query.shape[0], threads.count()
    rows_in_time = -(-rows // workers) * workers
    return 4 * rows_in_time > 5 * rows and numbers_read(problem) > 4 * SERIAL


def rows_per_group(problem: Problem) -> int:
    """Return how many rows share each load of a weight while their memories fit the L2 cache."""
    slot_bytes = problem.keys.element_size() * problem.keys.shape[-1]
    fitting = min(4, L2_CACHE_BYTES // max(1, problem.num_slots * slot_bytes))
    rows_per_thread = problem.query.shape[0] // threads.count()
    return max(1, min(fitting, rows_per_thread))


def num_splits(problem: Problem) -> int:
    """Return the number of splits of each row's slots."""
    if not is_split(problem):
        return 1
    return min(SPLITS_PER_THREAD * threads.count(), problem.num_slots)
