"""Forward and backward passes whose records are kept.

The trace is one buffer, which autograd saves, and so is what only the backward pass uses.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.cpu import huge_pages, threads
from memhop.ops.cpu.formats import code_of
from memhop.ops.cpu.forward import NORMALIZE
from memhop.ops.cpu.launch import Call, address_of, has_small_weights
from memhop.ops.cpu.prepared import RESULT, Prepared, place_of
from memhop.ops.cpu.rows import CALL
from memhop.ops.fused.addresses import addresses
from memhop.ops.fused.gradients import weight_gradients
from memhop.ops.fused.problem import Gradients, Problem, Trace

ALIGNED = 16  # numbers: each array of a buffer begins at a multiple

TRACE = place_of("queries")
TABLES = CALL.itemsize // 8  # the weights of the hops

Saved = Sequence[Tensor | None]
"""Query, keys, ignored slots or None, the weights of the hops, and the buffer of the trace."""


class Buffer(NamedTuple):
    """Arrays in one buffer: their shapes, their offsets and, last, the size of the buffer."""

    shapes: list[tuple[int, ...]]
    offsets: list[int]

    @classmethod
    def of(cls, *shapes: tuple[int, ...]) -> "Buffer":
        """Return the layout of arrays with these shapes."""
        sizes = [-(-torch.Size(shape).numel() // ALIGNED) * ALIGNED for shape in shapes]
        return cls(list(shapes), [*accumulate(sizes, initial=0)])

    def new(self, like: Tensor) -> Tensor:
        """Return a buffer."""
        return like.new_empty(self.offsets[-1])

    def addresses(self, buffer: Tensor) -> list[int]:
        """Return the address of each array."""
        begin, size = buffer.data_ptr(), buffer.element_size()
        return [begin + size * offset for offset in self.offsets[:-1]]

    def views(self, buffer: Tensor) -> list[Tensor]:
        """Return each array."""
        return [
            buffer[offset : offset + torch.Size(shape).numel()].view(shape)
            for shape, offset in zip(self.shapes, self.offsets, strict=False)
        ]


class Training:
    """Passes like those of a problem without values, slots, lengths, bias and temporal rows."""

    def __init__(self, problem: Problem) -> None:
        self.steps, self._tables = problem.steps, problem.weights
        (rows, dim), hops, columns = problem.query.shape, len(problem.steps), problem.keys.shape[-1]
        read, sums, slots = (rows, hops, columns), (rows, hops), (rows, hops, problem.num_slots)
        none = (0,)  # the sums by age
        self._trace = Buffer.of((rows, hops + 1, dim), read, read, sums, sums, sums, none, slots)
        self._gradients = Buffer.of((rows, hops, dim), read, sums, none, slots, read)
        self._layouts = layouts_of(problem.query, problem.keys, problem.ignored, *problem.weights)
        self._threads = threads.count()
        self._forward = [self._prepare_forward(problem)]
        self._backward: dict[bool, list[Backward]] = {True: [], False: []}
        self._has_small_weights = has_small_weights(problem)
        self.is_small = self._forward[0].is_small and problem.num_ages == 0

    def _prepare_forward(self, problem: Problem) -> Prepared:
        call = Call(problem, problem.keys.shape[-1], (None,))
        return Prepared.all_hops(call, "forward", len(self.steps), NORMALIZE)

    def problem_of(self, saved: Saved) -> Problem:
        """Return the problem of what was saved."""
        query, keys, ignored, *tables, _ = saved
        assert query is not None
        assert keys is not None
        weights = [table for table in tables if table is not None]
        return Problem.plain(query, keys, ignored, weights, self.steps)

    def trace_of(self, saved: Saved) -> Trace:
        """Return the trace of what was saved."""
        buffer = saved[-1]
        assert buffer is not None
        *sums, _, weights = self._trace.views(buffer)
        return Trace._make([*sums, None, weights])

    def forward(self, query: Tensor, keys: Tensor, ignored: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the result and the buffer of the trace."""
        result, trace = torch.empty_like(query), self._trace.new(query)
        try:
            one = self._forward.pop()
        except IndexError:  # other threads use all
            problem = self.problem_of((query, keys, ignored, *self._tables, None))
            one = self._prepare_forward(problem)
        one.set_inputs(query, keys, ignored)
        one.record[RESULT] = result.data_ptr()
        places = self._trace.addresses(trace)
        one.record[TRACE : TRACE + len(places)] = array("q", places)
        one.run()
        self._forward.append(one)
        return result, trace

    def can_read(self, saved: Saved) -> bool:
        """Return whether a record fits tensors: a hook, or ``weight.data``, may have others."""
        *given, trace = saved
        return (
            trace is not None and trace.is_contiguous()
            and layouts_of(*given) == self._layouts and threads.count() == self._threads
        )  # fmt: skip

    def backward(
        self, saved: Saved, grad_result: Tensor, needed: Sequence[bool]
    ) -> list[Tensor | None]:
        """Return the needed gradients of query, keys, ignored slots (None) and weights."""
        query, keys, ignored, *tables, trace = saved
        assert query is not None
        assert keys is not None
        assert trace is not None
        unused = self._backward[needed[1]]
        try:
            one = unused.pop()
        except IndexError:  # the first time, or other threads use all
            one = Backward(self.problem_of(saved), needed[1])
        grad_query = grad_result.clone(memory_format=torch.contiguous_format)
        grad_keys = huge_pages.empty_like(keys) if needed[1] else None
        grad_tables: list[Tensor | None] = []
        if self._has_small_weights:
            grad_tables = [
                torch.empty_like(table) if need and table is not None else None
                for table, need in zip(tables, needed[3:], strict=True)
            ]
        buffer = self._gradients.new(query)
        places = [
            0, *self._trace.addresses(trace),
            grad_query.data_ptr(), *self._gradients.addresses(buffer),
        ]  # fmt: skip
        one.hops.set_inputs(query, keys, ignored)
        one.run(places, addresses(tables), grad_keys, grad_tables)
        unused.append(one)
        if not self._has_small_weights:
            grad_tables = self._products(saved, grad_query, buffer, needed[3:])
        return [grad_query if needed[0] else None, grad_keys, None, *grad_tables]

    def _products(
        self, saved: Saved, grad_query: Tensor, buffer: Tensor, needed: Sequence[bool]
    ) -> list[Tensor | None]:
        """Return the needed gradients of large weights, as matrix products."""
        grad_out, grad_u, grad_weight_sum, _, grad_scores, _ = self._gradients.views(buffer)
        gradients = Gradients(
            grad_query, grad_out, grad_u, grad_weight_sum, None, grad_scores, None, None
        )
        problem, trace = self.problem_of(saved), self.trace_of(saved)
        return weight_gradients(problem, trace, gradients, needed)


class Backward:
    """The records of a backward pass, for one at a time."""

    def __init__(self, problem: Problem, needs_keys: bool) -> None:
        keys, num_tables = problem.keys, len(problem.weights)
        columns, itemsize = keys.shape[-1], keys.element_size()
        self._of_keys = array("q", (0, code_of(keys.dtype), columns * itemsize, columns, 1, 1))
        self._of_tables = array("q", [0] * num_tables)
        call = Call(problem, columns, (None,))
        self.hops = Prepared.all_hops(
            call, "backward", len(problem.steps), NORMALIZE if needs_keys else 0,
            targets=address_of(self._of_keys), num_targets=int(needs_keys),
        )  # fmt: skip
        targets = address_of(self._of_tables)
        self._tables = Prepared(
            call, "write_weights", 1, 0, targets=targets, num_targets=num_tables
        )  # fmt: skip

    def run(
        self,
        places: list[int],
        tables: list[int],
        grad_keys: Tensor | None,
        grad_tables: Sequence[Tensor | None],
    ) -> None:
        """Compute the gradients of the keys and, if there are any, the weights.

        ``places`` are the addresses of the arrays of a record from the result on, and ``tables``
        those of the weights.
        """
        record = self.hops.record
        record[RESULT : RESULT + len(places)] = array("q", places)
        record[TABLES:] = array("q", tables)
        self._of_keys[0] = 0 if grad_keys is None else grad_keys.data_ptr()
        self.hops.run()
        if any(table is not None for table in grad_tables):
            self._of_tables[:] = array("q", addresses(grad_tables))
            self._tables.run()


def layouts_of(*tensors: Tensor | None) -> list[tuple[object, ...] | None]:
    """Return shape, strides and dtype of each tensor."""
    return [
        None if tensor is None else (tensor.shape, tensor.stride(), tensor.dtype)
        for tensor in tensors
    ]
