"""The fused hop on the CPU: each hop reads every slot once, and nothing is projected.

A block of slots is scored and, while it is in the first cache, added up with an online softmax (a
running maximum, a running total and a running sum, scaled anew when the maximum grows). A row of
the batch takes all its hops one after the other, while its memory is in the second cache. Rows are
shared out between threads; where there are too few, each row's slots are, and the parts' totals
and sums are merged after every hop, exactly. Blocks are summed in float32 and the sums of blocks in
float64, so that an error does not grow with the number of slots.

Which thread does what follows from sizes and thread count alone: the same bits each time. Slots
that are not to be read are not read: what they hold, NaN too, does not matter.
"""

from array import array
from itertools import accumulate, chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memhop.ops.cpu import huge_pages, threads
from memhop.ops.cpu.forward import ATTEND, BEGIN, FINISH, NORMALIZE
from memhop.ops.cpu.jobs import JOB, compiled_job
from memhop.ops.cpu.numba_ext import AS_COMPUTED, BFLOAT16, FLOAT16, INT8
from memhop.ops.cpu.rows import FIELDS, STEP_FIELDS, TARGET, Plan, sizes_of_block
from memhop.ops.fused.addresses import address
from memhop.ops.fused.problem import Gradients, Problem, Trace, Wanted

CACHE = 2**19  # bytes of the second cache for the memories of a group of rows

PARTS_A_THREAD = 4

SERIAL = 1_000_000  # numbers read; for fewer, waking a thread costs more than its help

NOTHING = dict.fromkeys(FIELDS, 0)
NO_JOB = dict.fromkeys(JOB.names or (), 0)

KINDS = {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16, torch.int8: INT8}


class Call:
    """One call of compiled code: the record that it works on, and room for each thread.

    The record holds addresses; what they point to is kept here until the call is over.
    """

    def __init__(self, problem: Problem, sums: int, arrays: dict[str, Tensor | None]) -> None:
        """``sums`` is how many columns the parts of rows sum up; arrays go by their field."""
        self.problem = problem
        self.parts, self.workers = number_of_parts(problem), threads.count()
        self.groups = -(-problem.query.shape[0] // rows_in_group(problem))
        self._kept = [None if array is None else array.contiguous() for array in arrays.values()]
        addresses = [0 if array is None else address(array) for array in self._kept]
        fields = sizes_and_slots(problem, self.parts)
        fields.update(zip(arrays, addresses, strict=True))
        fields["query"] = address(problem.query)
        blocks = self._set_room(fields, sums)
        is_bank, weights = problem.slots is not None, problem.weights
        lists = [
            *chain.from_iterable(problem.steps),
            *(address(weight) for weight in weights),
            *(weight.shape[0] for weight in weights),
            *blocks,
        ]
        self._lists = array("q", lists)
        fields["steps"] = address_of(self._lists)
        fields["weights"] = fields["steps"] + 8 * len(problem.steps) * STEP_FIELDS
        fields["weight_rows"] = fields["weights"] + 8 * len(weights)
        self._blocks = fields["weight_rows"] + 8 * len(weights)
        self._work = array("q", rows_of(problem.keys, problem.key_scale, is_bank))
        self._work.extend(rows_of(*values_of(problem), is_bank))
        self._work.extend(fields.values())

    def _set_room(self, fields: dict[str, int], sums: int) -> list[int]:
        """Space for what the parts of rows find, in doubles; where the blocks of threads lie."""
        problem, rows = self.problem, self.problem.query.shape[0]
        keys, values = problem.keys, values_of(problem)[0]
        columns = max(keys.shape[-1], values.shape[-1])
        longest = max([weight.shape[0] for weight in problem.weights], default=0)
        block = sizes_of_block(columns, longest, len(problem.steps))
        per_part = {
            "part_score_max": 1, "part_exp_sum": 1,
            "part_sums": sums, "part_aged": problem.num_ages,
        }  # fmt: skip
        found = {name: self.parts * rows * size for name, size in per_part.items()}
        found["means"] = rows * len(problem.steps)
        sizes = [*found.values(), *block * self.workers]
        self._room = torch.empty(sum(sizes), dtype=torch.float64, device="cpu")
        first = address(self._room)
        places = [first + 8 * place for place in accumulate(sizes[:-1], initial=0)]
        fields.update(zip(found, places, strict=False))
        return places[len(found) :]

    def job(self, name: str, plan: Plan, workers: int, **fields: int) -> None:
        """Have so many threads do something with this call."""
        given = NO_JOB | {"work": address_of(self._work), "blocks": self._blocks}
        record = array("q", (given | plan._asdict() | fields).values())
        function = compiled_job(name, self.problem.query.dtype)
        threads.run(function, address_of(record), workers)


def address_of(integers: "array[int]") -> int:
    """Where an array of integers lies."""
    return integers.buffer_info()[0]


def sizes_and_slots(problem: Problem, parts: int) -> dict[str, int]:
    """The fields of sizes, and of what there is for each slot."""
    slots, ignored, bias = problem.slots, problem.ignored, problem.score_bias
    fields = NOTHING | {
        "rows": problem.query.shape[0], "hops": len(problem.steps),
        "num_slots": problem.num_slots, "memory_dim": problem.query.shape[1],
        "num_ages": problem.num_ages, "group": rows_in_group(problem), "parts": parts,
        "apart": int(problem.values is not None),
    }  # fmt: skip
    if slots is not None:
        size = slots.element_size()
        fields |= {
            "slots": address(slots), "slots_of_row": slots.stride(0) * size, "slot_bytes": size,
        }  # fmt: skip
    if ignored is not None:
        fields |= {"ignored": address(ignored), "ignored_of_row": ignored.stride(0)}
    if bias is not None:
        size = bias.element_size()
        of_hop = bias.stride(1) * size if bias.shape[1] > 1 else 0
        of_row = bias.stride(0) * size
        fields |= {"bias": address(bias), "bias_of_row": of_row, "bias_of_hop": of_hop}
    return fields


def forward(problem: Problem, keep_weights: bool) -> Trace:
    """See ``problem``."""
    query, ages = problem.query, problem.num_ages
    (rows, memory_dim), hops = query.shape, len(problem.steps)
    input_dim, width = problem.keys.shape[-1], values_of(problem)[0].shape[-1]
    trace = Trace(
        queries=query.new_empty(rows, hops + 1, memory_dim),
        projected_query=query.new_empty(rows, hops, input_dim),
        read=query.new_empty(rows, hops, width),
        weight_sum=query.new_empty(rows, hops),
        score_max=query.new_empty(rows, hops),
        exp_sum=query.new_empty(rows, hops),
        aged=query.new_empty(rows, hops, ages) if ages else None,
        weights=query.new_empty(rows, hops, problem.num_slots) if keep_weights else None,
    )
    if rows:
        call = Call(problem, width, {"lengths": problem.lengths, **fields_of(trace)})

        run(call, "forward", range(hops), normalize=keep_weights)
    return trace


def fields_of(trace: Trace) -> dict[str, Tensor | None]:
    """A trace by the fields of the record."""
    return {
        "queries": trace.queries, "projected_query": trace.projected_query, "read": trace.read,
        "weight_sum": trace.weight_sum, "score_max": trace.score_max, "exp_sum": trace.exp_sum,
        "aged": trace.aged, "kept": trace.weights,
    }  # fmt: skip


def backward(
    problem: Problem,
    trace: Trace,
    grad_result: Tensor,
    grad_weights: Tensor | None,
    wanted: Wanted,
) -> Gradients:
    """See ``problem``; the trace must hold the weights."""
    rows, hops = problem.query.shape[0], len(problem.steps)
    gradients = room_for_gradients(problem, trace, grad_result, wanted)
    if rows == 0:
        return gradients
    grad_read = torch.empty_like(trace.read)
    if not problem.steps[0].carry:
        grad_read[:, 0] = grad_result
    call = Call(problem, problem.keys.shape[-1], {
        "lengths": problem.lengths, **fields_of(trace),
        "grad_query": gradients.grad_query, "grad_out": gradients.grad_out, "grad_read": grad_read,
        "grad_u": gradients.grad_u, "grad_weight_sum": gradients.grad_weight_sum,
        "grad_aged": gradients.grad_aged, "grad_scores": gradients.grad_scores,
        "grad_weights": grad_weights,
    })  # fmt: skip
    targets, is_bank = targets_of(problem, gradients), problem.slots is not None
    own = 0 if is_bank else len(targets)
    where = {"targets": targets.ctypes.data, "num_targets": own}
    run(call, "backward", range(hops - 1, -1, -1), normalize=own > 0, **where)
    for target in targets if is_bank else ():
        write_gradient_of_bank(call, target, problem.keys.shape[0])
    return gradients


def room_for_gradients(
    problem: Problem, trace: Trace, grad_result: Tensor, wanted: Wanted
) -> Gradients:
    """The gradients, of which that of the query begins as that of the result."""
    query, shape = problem.query, trace.projected_query.shape[:2]
    values, _ = values_of(problem)
    grad_query = torch.zeros_like(query)
    if problem.steps[0].carry:
        grad_query.copy_(grad_result)
    return Gradients(
        grad_query=grad_query,
        grad_out=query.new_empty(*shape, query.shape[1]),
        grad_u=torch.empty_like(trace.projected_query),
        grad_weight_sum=torch.empty_like(trace.weight_sum),
        grad_aged=query.new_empty(*shape, problem.num_ages) if problem.num_ages else None,
        grad_scores=query.new_empty(*shape, problem.num_slots) if any(wanted) else None,
        grad_keys=new_rows(problem.keys, shape[0]) if wanted.keys else None,
        grad_values=new_rows(values, shape[0])
        if wanted.values and problem.values is not None
        else None,
    )


def values_of(problem: Problem) -> tuple[Tensor, Tensor | None]:
    """The rows that are read and their scale: the keys, where there are no others."""
    if problem.values is None:
        return problem.keys, problem.key_scale
    return problem.values, problem.value_scale


def new_rows(rows: Tensor, readers: int) -> Tensor:
    """Space for the gradient of rows; zero where nobody reads them."""
    return (
        huge_pages.empty_like(rows)
        if readers
        else torch.zeros(rows.shape, dtype=rows.dtype, device=rows.device)
    )


def targets_of(problem: Problem, gradients: Gradients) -> np.ndarray[Any, np.dtype[np.void]]:
    """Where the gradients of keys and values go; one serves both where they are one."""
    one = problem.values is None
    found = []
    for rows, of_keys, of_values in (
        (gradients.grad_keys, True, one),
        (gradients.grad_values, False, True),
    ):
        if rows is not None and rows.numel():
            kind = KINDS.get(rows.dtype, AS_COMPUTED)
            found.append((address(rows), kind, rows.shape[-1], of_keys, of_values))
    return np.array(found, TARGET)


def write_gradient_of_bank(call: Call, target: Any, bank_rows: int) -> None:
    """Each thread sums up some of the bank's rows, in the order of the slots that name them."""
    starts = np.zeros(bank_rows + 1, dtype=np.int64)
    order = np.empty(call.problem.query.shape[0] * call.problem.num_slots, dtype=np.int64)
    targets = np.array([target], TARGET)
    fields = {
        "starts": starts.ctypes.data, "order": order.ctypes.data, "bank_rows": bank_rows,
        "targets": targets.ctypes.data,
    }  # fmt: skip
    nothing = Plan(0, 0, 0, 0, 0)
    call.job("order_slots", nothing, 1, **fields)
    call.job("write_bank", nothing, call.workers, **fields)


def run(call: Call, name: str, hops: range, normalize: bool, **fields: int) -> None:
    """Have the threads do all hops of their rows, or all rows' hops of their slots."""
    count, normalizing, groups = len(hops), NORMALIZE if normalize else 0, call.groups

    def do(stages: int, first_hop: int, last_hop: int, parts: int = 0, workers: int = 1) -> None:
        plan = Plan(stages, first_hop, last_hop, int(parts == 0), parts or groups)
        call.job(name, plan, workers, **fields)

    if call.parts == 1:
        workers = min(call.workers, groups) if work_of(call.problem) > SERIAL else 1
        do(BEGIN | ATTEND | FINISH | normalizing, 0, count, workers=workers)
        return
    for hop in hops:
        do(BEGIN, hop, hop + 1)
        do(ATTEND, hop, hop + 1, call.parts, call.workers)
        do(FINISH, hop, hop + 1)
    if normalizing:
        do(NORMALIZE, 0, count, call.parts, call.workers)


def work_of(problem: Problem) -> int:
    """Numbers that are read in all, of slots and of weights."""
    (rows, memory_dim), columns = problem.query.shape, problem.keys.shape[-1]
    weights = 2 * memory_dim if problem.weights else 0
    return rows * len(problem.steps) * (problem.num_slots + weights) * columns


def is_split(problem: Problem) -> bool:
    """Whether each row's slots are shared out: where whole rows would leave threads idle."""
    rows, workers = problem.query.shape[0], threads.count()
    rows_in_time = -(-rows // workers) * workers
    return 4 * rows_in_time > 5 * rows and work_of(problem) > 4 * SERIAL


def rows_in_group(problem: Problem) -> int:
    """How many rows read a weight together: so many that their memories stay in the cache too."""
    of_slot = problem.keys.element_size() * problem.keys.shape[-1]
    fitting = min(4, CACHE // max(1, problem.num_slots * of_slot))
    of_thread = problem.query.shape[0] // threads.count()
    return max(1, min(fitting, of_thread))


def number_of_parts(problem: Problem) -> int:
    """How many parts a row is cut into: some for each thread, should one be held up."""
    if not is_split(problem):
        return 1
    return min(PARTS_A_THREAD * threads.count(), problem.num_slots)


def rows_of(rows: Tensor, scale: Tensor | None, is_bank: bool) -> tuple[int, ...]:
    """What slots hold, by address; nothing is copied."""
    size = rows.element_size()
    scales = (0, 0, 0)
    if scale is not None:
        scales = address(scale), 0 if is_bank else scale.stride(0) * 4, scale.stride(-1) * 4
    of_row = 0 if is_bank else rows.stride(0) * size
    kind = KINDS.get(rows.dtype, AS_COMPUTED)
    return (address(rows), of_row, rows.stride(-2) * size, kind, rows.shape[-1], *scales)
