"""Calls whose record is kept: later calls of the same sizes change only its addresses.

The problems have no values, slots, lengths and bias. Each thread that calls has its own record.
"""

import torch
from torch import Tensor

from memhop.ops.call import Outputs
from memhop.ops.cpu import threads
from memhop.ops.cpu.background import ready_job
from memhop.ops.cpu.forward import NORMALIZE
from memhop.ops.cpu.launch import Call, address_of, whole_job
from memhop.ops.cpu.rows import FIELDS, ROWS
from memhop.ops.fused.addresses import addresses
from memhop.ops.fused.problem import Problem, value_rows

KEYS, VALUES = 0, len(ROWS.names or ())  # places in a record


def place_of(field: str) -> int:
    """Return the place of a field in a record."""
    return 2 * VALUES + FIELDS.index(field)


QUERY, IGNORED = place_of("query"), place_of("ignored")
RESULT, WEIGHTS = place_of("result"), place_of("weights")


class Prepared:
    """The records of a call and of a job, for one call at a time."""

    def __init__(self, call: Call, name: str, workers: int, stages: int, **fields: int) -> None:
        self.call, self.record, self.workers = call, call.record, workers
        self._kernel, self._job = ready_job(name, call.dtype), call.job(stages, **fields)
        self._address = address_of(self._job)

    @classmethod
    def all_hops(cls, call: Call, name: str, hops: int, stages: int, **fields: int) -> "Prepared":
        """Return the records of a job that runs all hops."""
        workers, of_job = whole_job(call, range(hops), stages)
        return cls(call, name, workers, **of_job, **fields)

    @property
    def is_small(self) -> bool:
        """Return whether the call takes little scratch memory, and one job."""
        return self.call.num_splits == 1 and self.call.has_reusable_scratch

    def set_inputs(self, query: Tensor, keys: Tensor, ignored: Tensor | None) -> None:
        """Write the addresses of the inputs; the values are the keys."""
        record = self.record
        record[QUERY], of_keys, record[IGNORED] = addresses((query, keys, ignored))
        record[KEYS] = record[VALUES] = of_keys

    def run(self) -> None:
        """Run the job on the addresses that the record holds."""
        self._job[0] = self._job[1] = 0  # the counters that threads share
        threads.run(self._kernel, self._address, self.workers)


class Inferences:
    """Inferences like a problem."""

    def __init__(self, problem: Problem, need_weights: bool) -> None:
        self._steps, self._tables = problem.steps, problem.weights
        self._weights_shape = problem.query.shape[0], len(problem.steps), problem.num_slots
        self._unused = [self._prepare(problem, need_weights)]
        self.is_small = self._unused[0].is_small

    def _prepare(self, problem: Problem, need_weights: bool) -> Prepared:
        columns, stages = value_rows(problem)[0].shape[-1], NORMALIZE if need_weights else 0
        call = Call(problem, columns, (None,), trace_is_scratch=True)
        return Prepared.all_hops(call, "forward", len(problem.steps), stages)

    def __call__(self, given: tuple[Tensor, Tensor, Tensor | None, bool]) -> Outputs:
        """Return the outputs for a query, keys, ignored slots, and whether to return weights."""
        query, keys, ignored, need_weights = given
        result, weights = torch.empty_like(query), None
        try:
            one = self._unused.pop()
        except IndexError:  # other threads use all
            problem = Problem.plain(query, keys, ignored, self._tables, self._steps)
            one = self._prepare(problem, need_weights)
        one.set_inputs(query, keys, ignored)
        one.record[RESULT] = result.data_ptr()
        if need_weights:
            weights = query.new_empty(self._weights_shape)
            one.record[WEIGHTS] = weights.data_ptr()
        one.run()
        self._unused.append(one)
        return Outputs(result, weights)
