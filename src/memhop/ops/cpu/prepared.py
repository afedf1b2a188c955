"""Inferences whose record is kept: later calls of the same sizes change only its addresses."""

from typing import Any

import torch
from torch import Tensor

from memhop.ops.call import Outputs
from memhop.ops.cpu import threads
from memhop.ops.cpu.background import ready_job
from memhop.ops.cpu.forward import NORMALIZE
from memhop.ops.cpu.launch import Call, address_of, whole_job
from memhop.ops.cpu.rows import FIELDS, ROWS
from memhop.ops.fused.problem import Problem, value_rows

# Places in a record
KEYS, VALUES = 0, len(ROWS.names or ())
QUERY, IGNORED, RESULT, WEIGHTS = (
    2 * VALUES + FIELDS.index(name) for name in ("query", "ignored", "result", "weights")
)


class Prepared:
    """The records of a call and of its job, for one call at a time."""

    def __init__(self, problem: Problem, need_weights: bool) -> None:
        columns, normalizing = value_rows(problem)[0].shape[-1], NORMALIZE if need_weights else 0
        call = Call(problem, columns, (None,), trace_is_scratch=True)
        self.is_small = call.num_splits == 1 and call.is_kept
        self.workers, fields = whole_job(call, range(len(problem.steps)), normalizing)
        self.record, self._job = call.record, call.job(**fields)
        self._call, self._address = call, address_of(self._job)

    def run(self, job: Any) -> None:
        """Run the job on the addresses that the record holds."""
        self._job[0] = self._job[1] = 0  # the counters that threads share
        threads.run(job, self._address, self.workers)


class Inferences:
    """Inferences on other queries, keys and masks of the same sizes, as many as there are threads.

    The problem has no values, slots, lengths and bias.
    """

    def __init__(self, problem: Problem, need_weights: bool) -> None:
        first = Prepared(problem, need_weights)
        self.is_small, self._unused = first.is_small, [first]
        self._job = ready_job("forward", problem.query.dtype)
        self._weights, self._steps = problem.weights, problem.steps
        self._of_weights = problem.query.shape[0], len(problem.steps), problem.num_slots

    def __call__(self, given: tuple[Tensor, Tensor, Tensor | None, bool]) -> Outputs:
        query, keys, ignored, need_weights = given
        result, weights = torch.empty_like(query), None
        try:
            one = self._unused.pop()
        except IndexError:  # other threads use all
            tensors = (query, keys, *[None] * 4, ignored, None, None, *self._weights)
            one = Prepared(Problem.of_tensors(tensors, self._steps), need_weights)
        record = one.record
        record[QUERY], record[RESULT] = query.data_ptr(), result.data_ptr()
        record[KEYS] = record[VALUES] = keys.data_ptr()
        if ignored is not None:
            record[IGNORED] = ignored.data_ptr()
        if need_weights:
            weights = query.new_empty(self._of_weights)
            record[WEIGHTS] = weights.data_ptr()
        one.run(self._job)
        self._unused.append(one)
        return Outputs(result, weights)


def prepare(problem: Problem, need_weights: bool) -> Inferences | None:
    """Return the inferences like a problem, or None for a large one.

    That gains nothing, and would keep the scratch memory of its call.
    """
    inferences = Inferences(problem, need_weights)
    return inferences if inferences.is_small else None
