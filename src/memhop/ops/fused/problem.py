"""The interface of the fused kernels: one flat batch, whatever shapes the caller passes.

``packing`` turns a call into a ``Problem``. Every backend of the registry in ``backends`` that
reads a ``Problem`` has

    forward(problem, keep_weights) -> Trace
    backward(problem, trace, grad_result, grad_weights, wanted, grad_lse) -> Gradients

With u_k = A_k^T q_k, hop k of K over readable slots i is

    s_i = u_k . m_i + q_k . T_A(i) + b_ki (+ q_k . a without a softmax)
    p   = softmax(s), or s without a softmax,      weight_sum = sum_i p_i
    r_k = sum_i p_i m_i,                aged_kt = sum of p_i over the slots of age t
    o_k = C r_k + weight_sum c + sum_t aged_kt T_C(t)
    q_{k+1} = o_k + q_k (or + H q_k), followed by ReLU on the last units, as many as ``Step.relu``.

A hop without A or C has the identity in its place, without a product: u_k = q_k, and o_k begins
with r_k. Its biases and temporal tables do not depend on that.

A slot is readable if it is not ignored, its index is below the row's length and its bias is above
-inf; other slots have p = 0. Its age is the number of readable slots after it; ages beyond a
temporal table use the table's last row. r_k may sum values that differ from the keys.

Backward, with g_k the gradient of o_k, and G_i the gradient of p_i if weights are returned:

    w_k  = C^T g_k,                      grad_p_i = w_k . m_i + g_k . (T_C(i) + c) + G_i
    d_i  = p_i (grad_p_i - sum_j p_j grad_p_j), or grad_p_i without a softmax: the gradient of s_i
    du_k = sum_i d_i m_i,                grad_aged_kt = sum of d_i over the slots of age t
    dq_k = A du_k + sum_t grad_aged_kt T_A(t) (+ sum_i d_i a) + g_k (or H^T g_k)
    dm_i = sum_k p_ki w_k + d_ki u_k

sum_j p_j w_k . m_j = w_k . r_k needs no further pass, and with the softmax the terms of c cancel.
A gradient of log sum_i exp(s_i), which a single read may return, is subtracted from that sum.
``gradients`` computes the gradients of the weights as products of these results, unless the backend
does.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Step(NamedTuple):
    """One hop; its weights are indices into ``Problem.weights``, -1 for one that it lacks.

    ``relu`` is the number of last units with ReLU. Kernels take the order of fields from here:
    ``Step._fields.index("a_bias")``.

    Without ``carry`` it is a single ``read`` and no hop: r is the result, V may differ from D, the
    query is not added, and the gradient of the result is w.
    """

    a: int = -1
    a_bias: int = -1
    a_temporal: int = -1
    c: int = -1
    c_bias: int = -1
    c_temporal: int = -1
    transform: int = -1
    relu: int = 0
    softmax: int = 1
    carry: int = 1


class Problem(NamedTuple):
    """B rows that each read N slots. The compute dtype is that of the query.

    Attributes:
        query: [B, D], contiguous.
        keys: the contents of the slots, the last axis contiguous: [G, N, I], where B / G
            consecutive rows share each memory, or with ``slots`` a bank [U, I]. float64 if that is
            the compute dtype; float32, bfloat16, float16 or int8 if float32 is.
        key_scale: float32 [G, N] or [U], for int8 only: a row is its scale times its integers.
        values: [G, N, V] or [U, V], or None if they are the keys.
        value_scale: as key_scale.
        slots: int64 or int32 [B, N], rows of the bank, checked; or None.
        ignored: bool [B, N], or None.
        lengths: int64 [B], or None.
        score_bias: [B, K, N] or [B, 1, N], in the compute dtype, or None.
        weights: A, C [D, I], H [D, D], biases [D], temporal tables [T, D] in the compute dtype,
            each contiguous and listed once however many hops share it.
        steps: the hops.

    Slots, ignored, lengths and bias are contiguous along their last axis; their other strides are
    arbitrary and may be 0.
    """

    query: Tensor
    keys: Tensor
    key_scale: Tensor | None
    values: Tensor | None
    value_scale: Tensor | None
    slots: Tensor | None
    ignored: Tensor | None
    lengths: Tensor | None
    score_bias: Tensor | None
    weights: tuple[Tensor, ...]
    steps: tuple[Step, ...]

    @classmethod
    def of_tensors(cls, tensors: Sequence[Tensor | None], steps: tuple[Step, ...]) -> Self:
        """Return a problem from its tensors in the order of ``tensors_of``."""
        return cls._make((*tensors[:NUM_TENSORS], tuple(tensors[NUM_TENSORS:]), steps))

    @classmethod
    def plain(
        cls,
        query: Tensor,
        keys: Tensor,
        ignored: Tensor | None,
        weights: Sequence[Tensor],
        steps: tuple[Step, ...],
    ) -> Self:
        """Return a problem whose values are the keys, with a mask or without."""
        optional = (None, None, None, None, ignored, None, None)
        return cls(query, keys, *optional, tuple(weights), steps)

    def weight(self, index: int) -> Tensor | None:
        """Return the weight at an index of a step, None for -1."""
        return None if index < 0 else self.weights[index]

    @property
    def num_slots(self) -> int:
        """N."""
        return self.keys.shape[-2] if self.slots is None else self.slots.shape[-1]

    @property
    def num_ages(self) -> int:
        """T: the number of rows of the longest temporal table, 0 without any."""
        longest = 0
        for step in self.steps:
            for index in (step.a_temporal, step.c_temporal):
                if index >= 0:
                    longest = max(longest, self.weights[index].shape[0])
        return longest


NUM_TENSORS = len(Problem._fields) - 2  # of a problem, before its weights


def tensors_of(problem: Problem) -> tuple[Tensor | None, ...]:
    """Return all tensors of a problem, the weights last.

    This is not a property, because Dynamo of torch 2.9 does not trace properties.
    """
    return (*problem[:-2], *problem.weights)


def is_shared(problem: Problem) -> bool:
    """Return whether several rows read each memory."""
    return problem.slots is None and problem.keys.shape[0] != problem.query.shape[0]


def value_rows(problem: Problem) -> tuple[Tensor, Tensor | None]:
    """Return the values and their scale, or those of the keys if the problem has no values."""
    if problem.values is None:
        return problem.keys, problem.key_scale
    return problem.values, problem.value_scale


class Trace(NamedTuple):
    """What the forward pass saves for the backward pass, in the compute dtype.

    Attributes:
        queries: q_k, [B, K + 1, D]; the last is the result.
        projected_query: u_k, [B, K, I].
        read: r_k, [B, K, V].
        weight_sum: the sum of p, [B, K].
        score_max, exp_sum: a number near the largest score, and sum_i exp(s_i - score_max), [B, K],
            so that p_i is exp(s_i - score_max) / exp_sum; 0 and 1 without readable slots. Unused
            without a softmax.
        aged: [B, K, T], or None without temporal tables.
        weights: p, [B, K, N], or None if they are not kept.
    """

    queries: Tensor
    projected_query: Tensor
    read: Tensor
    weight_sum: Tensor
    score_max: Tensor
    exp_sum: Tensor
    aged: Tensor | None
    weights: Tensor | None


def result_of(problem: Problem, trace: Trace) -> Tensor:
    """Return a copy of the query after the last hop, or of what a single read returns."""
    return (trace.queries[:, -1] if problem.steps[0].carry else trace.read[:, 0]).clone()


def log_sum_exp(trace: Trace) -> Tensor:
    """Return log sum_i exp(s_i) of a single read, [B]; -inf without readable slots."""
    is_empty = (trace.weight_sum[:, 0] == 0) & trace.exp_sum[:, 0].isfinite()  # NaN stays NaN
    lse = trace.score_max[:, 0] + trace.exp_sum[:, 0].log()
    return lse.masked_fill_(is_empty, -torch.inf)


def empty_result(problem: Problem) -> Tensor:
    """Return an uninitialized result."""
    query = problem.query
    if problem.steps[0].carry:
        return torch.empty_like(query)
    return query.new_empty(query.shape[0], value_rows(problem)[0].shape[-1])


def empty_weights(problem: Problem, is_needed: bool) -> Tensor | None:
    """Return uninitialized weights, or None."""
    if not is_needed:
        return None
    return problem.query.new_empty(problem.query.shape[0], len(problem.steps), problem.num_slots)


def empty_trace(problem: Problem, keep_weights: bool) -> Trace:
    """Return a trace of uninitialized contiguous tensors."""
    new, (rows, memory_dim), hops = problem.query.new_empty, problem.query.shape, len(problem.steps)
    ages, values = problem.num_ages, problem.keys if problem.values is None else problem.values
    return Trace(
        queries=new(rows, hops + 1, memory_dim),
        projected_query=new(rows, hops, problem.keys.shape[-1]),
        read=new(rows, hops, values.shape[-1]),
        weight_sum=new(rows, hops),
        score_max=new(rows, hops),
        exp_sum=new(rows, hops),
        aged=new(rows, hops, ages) if ages else None,
        weights=empty_weights(problem, keep_weights),
    )


class Wanted(NamedTuple):
    """Which gradients to compute.

    Attributes:
        keys, values, scores: the large ones.
        weights: those of the weights, or () for none.
    """

    keys: bool
    values: bool
    scores: bool
    weights: tuple[bool, ...] = ()


class Gradients(NamedTuple):
    """The results of a backward pass, in the compute dtype except those of keys and values.

    Attributes:
        grad_query: [B, D].
        grad_out: g_k, [B, K, D].
        grad_u: du_k, [B, K, I].
        grad_weight_sum: sum_i d_i, [B, K].
        grad_aged: [B, K, T], or None without temporal tables.
        grad_scores: d, [B, K, N], or None if not wanted.
        grad_keys: in the shape and dtype of the keys, or None if not wanted; the sum for keys and
            values if the values are the keys.
        grad_values: in the shape and dtype of the values, or None if not wanted.
        of_weights: the gradient of each weight, None for one that is not wanted; None if they are
            not computed.
    """

    grad_query: Tensor
    grad_out: Tensor
    grad_u: Tensor
    grad_weight_sum: Tensor
    grad_aged: Tensor | None
    grad_scores: Tensor | None
    grad_keys: Tensor | None
    grad_values: Tensor | None
    of_weights: list[Tensor | None] | None = None


def empty_gradients(
    problem: Problem,
    grad_result: Tensor,
    wanted: Wanted,
    needs_scores: bool,
    new_rows: Callable[[Tensor], Tensor],
) -> Gradients:
    """Return uninitialized contiguous gradients, except that grad_query is that of the last query.

    Args:
        needs_scores: whether to allocate grad_scores.
        new_rows: allocates the gradient of keys or values.
    """
    query, hops = problem.query, len(problem.steps)
    new, (rows, memory_dim), ages = query.new_empty, query.shape, problem.num_ages
    carry = problem.steps[0].carry
    has_values = wanted.values and problem.values is not None
    return Gradients(
        grad_query=grad_result.clone() if carry else torch.zeros_like(query),
        grad_out=new(rows, hops, memory_dim),
        grad_u=new(rows, hops, problem.keys.shape[-1]),
        grad_weight_sum=new(rows, hops),
        grad_aged=new(rows, hops, ages) if ages else None,
        grad_scores=new(rows, hops, problem.num_slots) if needs_scores else None,
        grad_keys=new_rows(problem.keys) if wanted.keys else None,
        grad_values=new_rows(value_rows(problem)[0]) if has_values else None,
    )
