"""All hops over a window as one operation, whose gradients are sums over the hops.

A hop is that of ``window_form``, over keys [P, T + N - 1, D] and values that are embedded already:

    s = q k + q T_A,    p = softmax(s),    q <- ReLU(H q + p v + p T_C)

with the temporal rows [N, D] in the order of the slots. The gradients of keys, values, temporal
rows and H are added in place, hop by hop; the second derivatives are those of the same hops as
several operations.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from memhop.ops import window_form
from memhop.ops.checks import broadcast
from memhop.ops.eager import rows_of_ages
from memhop.ops.inputs import Hop, OncePerTensor, Table, relu_units
from memhop.ops.reference import MemoryView, attention, update
from memhop.ops.window_form import RowGradient, band_buffer, sequences, sums


class Step(NamedTuple):
    """One hop, with the places of its tensors among those of the operation; None for none.

    Attributes:
        keys, values: [P, T + N - 1, D].
        of_keys, of_values: temporal rows [N, D].
        transform: [D, D].
        num_rectified: how many units, the last ones, have a ReLU.
        softmax: as in ``Hop``.
        is_read: only o = p v is wanted, without H q + o.
    """

    keys: int
    values: int
    of_keys: int | None
    of_values: int | None
    transform: int | None
    num_rectified: int
    softmax: bool
    is_read: bool = False


def are_supported(memory: MemoryView, hops: Sequence[Hop], projects: bool) -> bool:
    """Return whether hops have no biases, one mask, and ages that all queries share.

    Tables with weights ``projects`` must embed the memory, and not the query of every hop.
    """
    if not projects and any(table.weight is not None for hop in hops for table in hop[:2]):
        return False
    first = memory.readable[0]
    if first.score_bias is not None or not (first.ages is None or first.ages.dim() == 1):
        return False
    if any(readable is not first for readable in memory.readable):
        return False
    return all(hop.a.bias is None and hop.c.bias is None for hop in hops)


def read(query: Tensor, memory: MemoryView, softmax: bool) -> Tensor:
    """Return o, [..., T, V], of a read of a memory without a score bias."""
    keys, values, _, (readable,) = memory
    batch = broadcast([query.shape[:-2], keys.shape[:-2], values.shape[:-2]])
    both = (keys,) if values is keys else (keys, values)
    step = Step(0, len(both) - 1, None, None, None, 0, softmax, is_read=True)
    return run((step,), readable.ignored, query, [sequences(rows, batch) for rows in both], batch)


def multi_hop(query: Tensor, memory: MemoryView, hops: Sequence[Hop]) -> Tensor:
    """Return the query [..., T, D] after all hops over a memory [..., T + N - 1, I]."""
    keys, values, _, (readable, *_) = memory
    batch = broadcast([query.shape[:-2], keys.shape[:-2], values.shape[:-2]])
    ages = readable.ages
    by_keys = OncePerTensor(lambda rows: sequences(rows, batch))
    by_a = OncePerTensor(lambda weight: by_keys(functional.linear(keys, weight)))
    by_c = OncePerTensor(lambda weight: by_keys(functional.linear(values, weight)))
    by_age = OncePerTensor(lambda rows: rows if ages is None else rows_of_ages(rows, ages))
    tensors: list[Tensor] = []

    def place(tensor: Tensor | None) -> Any:
        if tensor is None:
            return None
        for number, known in enumerate(tensors):
            if known is tensor:
                return number
        tensors.append(tensor)
        return len(tensors) - 1

    by_c = by_a if values is keys else by_c
    steps = tuple(
        Step(
            place(by_keys(keys) if hop.a.weight is None else by_a(hop.a.weight)),
            place(by_keys(values) if hop.c.weight is None else by_c(hop.c.weight)),
            place(by_age.optional(hop.a.temporal)),
            place(by_age.optional(hop.c.temporal)),
            place(hop.transform),
            relu_units(hop.relu, query.shape[-1]),
            hop.softmax,
        )
        for hop in hops
    )
    return run(steps, readable.ignored, query, tensors, batch)


def run(
    steps: tuple[Step, ...],
    ignored: Tensor | None,
    query: Tensor,
    tensors: Sequence[Tensor],
    batch: tuple[int, ...],
) -> Tensor:
    """Return the query [..., T, D] after all steps over tensors of P sequences."""
    if ignored is not None:
        ignored = ignored.expand(*batch, -1, -1).reshape(-1, *ignored.shape[-2:])
    query = sequences(query, batch).contiguous()
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, *tensors)):
        query = _Hops.apply(steps, ignored, query, *tensors)  # type: ignore[no-untyped-call]
    else:
        for step in steps:
            query, _ = run_hop(step, ignored, query, tensors)
    return query.view(*batch, *query.shape[1:])


def run_hop(
    step: Step, ignored: Tensor | None, query: Tensor, tensors: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the query after a hop, and its weights in a buffer [P, T, N + R]."""
    scores = products(query, tensors[step.keys], tensor_at(tensors, step.of_keys))
    buffer = band_buffer(attention(scores, ignored, step.softmax))
    weights = buffer[..., : scores.shape[-1]]
    found = sums(buffer, tensors[step.values], query.shape[1])
    flat, of_values = found.view(-1, found.shape[-1]), tensor_at(tensors, step.of_values)
    if of_values is not None:
        flat.addmm_(weights.flatten(0, 1), of_values)
    if step.transform is None:
        if not step.is_read:
            found += query
    else:
        flat.addmm_(query.view(flat.shape), tensors[step.transform].t())
    if step.num_rectified:
        found[..., -step.num_rectified :].relu_()
    return found, buffer


def products(query: Tensor, rows: Tensor, of_ages: Tensor | None) -> Tensor:
    """Return q_t . (k_(t + i) + T(i)), [P, T, N], of contiguous queries [P, T, D]."""
    scores = window_form.Scores.forward(query, rows)
    if of_ages is None:
        return scores
    return torch.addmm(scores.flatten(0, 1), query.flatten(0, 1), of_ages.t()).view(scores.shape)


def tensor_at(tensors: Sequence[Tensor], place: int | None) -> Tensor | None:
    """Return the tensor of a place, or None."""
    return None if place is None else tensors[place]


class _Hops(Function):
    @staticmethod
    def forward(
        ctx: Any, steps: tuple[Step, ...], ignored: Tensor | None, query: Tensor, *tensors: Tensor
    ) -> Tensor:
        queries, buffers = [query], []
        for step in steps:
            query, buffer = run_hop(step, ignored, query, tensors)
            queries.append(query)
            buffers.append(buffer)
        ctx.steps = steps
        ctx.save_for_backward(ignored, *tensors, *queries, *buffers)
        return query

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        steps, (ignored, *saved) = ctx.steps, ctx.saved_tensors
        num_tensors = len(saved) - 2 * len(steps) - 1
        tensors, queries = saved[:num_tensors], saved[num_tensors : num_tensors + len(steps) + 1]
        if torch.is_grad_enabled():
            # Views, because one input may be computed from another: each has its own gradient.
            inputs = [each.view_as(each) for each in (queries[0], *tensors)]
            found = composed(steps, ignored, *inputs)
            wanted = [each for each in inputs if each.requires_grad]
            grads = iter(
                torch.autograd.grad(found, wanted, grad, create_graph=True, allow_unused=True)
            )
            return None, None, *(next(grads) if each.requires_grad else None for each in inputs)
        gradients = Gradients(tensors, ctx.needs_input_grad[3:], queries[0], steps)
        for k in reversed(range(len(steps))):
            buffer = saved[num_tensors + len(steps) + 1 + k]
            grad = gradients.through_hop(
                steps[k], ignored, (queries[k], queries[k + 1]), buffer, grad
            )
        return None, None, grad, *gradients.totals()


class Gradients:
    """The gradients of the tensors of all hops, added up from the last hop to the first."""

    def __init__(
        self,
        tensors: Sequence[Tensor],
        needed: Sequence[bool],
        query: Tensor,
        steps: Sequence[Step],
    ) -> None:
        self._tensors = tensors
        num_slots = tensors[steps[0].keys].shape[1] - query.shape[1] + 1
        rows = {place for step in steps for place in (step.keys, step.values)}
        self._rows = {
            k: RowGradient(query, num_slots, tensors[k].shape[2]) for k in rows if needed[k]
        }
        self._others = {
            k: torch.zeros_like(tensor)
            for k, tensor in enumerate(tensors)
            if needed[k] and k not in rows
        }

    def through_hop(
        self,
        step: Step,
        ignored: Tensor | None,
        queries: tuple[Tensor, Tensor],
        buffer: Tensor,
        grad: Tensor,
    ) -> Tensor:
        """Return the gradient of the query before a hop, of queries before and after it."""
        query, after = queries
        tensors, num_slots = self._tensors, buffer.shape[-1]
        if step.num_rectified:
            grad = grad.clone()
            rectified = after[..., -step.num_rectified :]
            grad[..., -step.num_rectified :].masked_fill_(rectified <= 0, 0.0)
        grad = grad.contiguous()
        of_keys, of_values = tensor_at(tensors, step.of_keys), tensor_at(tensors, step.of_values)
        grad_weights = products(grad, tensors[step.values], of_values)
        num_slots = grad_weights.shape[-1]
        weights = buffer[..., :num_slots]
        if step.softmax:
            grad_scores = torch.ops.aten._softmax_backward_data(
                grad_weights, weights, -1, weights.dtype
            )
        else:
            grad_scores = (
                grad_weights if ignored is None else grad_weights.masked_fill(ignored, 0.0)
            )
        bands = band_buffer(grad_scores)
        found = sums(bands, tensors[step.keys], query.shape[1])
        flat, flat_query, flat_grad = (x.view(-1, x.shape[-1]) for x in (found, query, grad))
        flat_scores, flat_weights = bands[..., :num_slots].flatten(0, 1), weights.flatten(0, 1)
        if of_keys is not None:
            flat.addmm_(flat_scores, of_keys)
        if step.transform is None:
            if not step.is_read:
                found += grad
        else:
            flat.addmm_(flat_grad, tensors[step.transform])
        for rows, each, vectors in ((step.keys, bands, query), (step.values, buffer, grad)):
            if rows in self._rows:
                self._rows[rows].add(each, vectors)
        self._add(step.of_keys, flat_scores, flat_query)
        self._add(step.of_values, flat_weights, flat_grad)
        self._add(step.transform, flat_grad, flat_query)
        return found

    def _add(self, place: int | None, left: Tensor, right: Tensor) -> None:
        """Add the product of a transposed matrix with another to the gradient of a matrix."""
        if place in self._others:
            self._others[place].addmm_(left.t(), right)

    def totals(self) -> list[Tensor | None]:
        """Return the gradient of each tensor, or None where it is not needed."""
        rows = {k: gradient.total() for k, gradient in self._rows.items()}
        found = {**rows, **self._others}
        return [found.get(k) for k in range(len(self._tensors))]


def composed(
    steps: Sequence[Step], ignored: Tensor | None, query: Tensor, *tensors: Tensor
) -> Tensor:
    """Return the query after all hops by several operations, which can be differentiated twice."""
    for step in steps:
        of_keys, of_values = tensor_at(tensors, step.of_keys), tensor_at(tensors, step.of_values)
        scores = window_form.score(query, tensors[step.keys])
        scores = scores if of_keys is None else scores + query @ of_keys.mT
        weights = attention(scores, ignored, step.softmax)
        read_out = window_form.combine(weights, tensors[step.values])
        read_out = read_out if of_values is None else read_out + weights @ of_values
        share = step.num_rectified / query.shape[-1]
        hop = Hop(Table(None), Table(None), tensor_at(tensors, step.transform), share)
        query = read_out if step.is_read else update(query, read_out, hop)
    return query
