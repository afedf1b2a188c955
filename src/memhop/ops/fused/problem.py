"""What a fused kernel is given and gives back: one flat batch, whatever shapes the caller had.

``fused`` lays a call out as a ``Problem`` and hands it to ``fused_cpu``, ``fused_cuda`` or
``shared``, each of which has

    forward(problem, keep_weights) -> Trace
    backward(problem, trace, grad_result, grad_weights, wanted) -> Gradients

With u_k = A_k^T q_k (or q_k where there is no A), the k-th of K hops over readable slots i is

    s_i = u_k . m_i + q_k . T_A(i) + b_ki (+ q_k . a without a softmax)
    p   = softmax(s), or s itself,      weight_sum = sum_i p_i
    r_k = sum_i p_i m_i,                aged_kt = sum of p_i over the slots of age t
    o_k = C r_k + weight_sum c + sum_t aged_kt T_C(t)
    q_{k+1} = o_k + q_k (or + H q_k), and ReLU of that where the hop asks for it.

A slot is readable when it is not ignored, stands before the row's length and has a bias above
-inf; the others have p = 0. Its age is the number of readable slots after it, and ages beyond a
temporal table take the table's last row. The values that r_k sums may be other rows than the keys.

Backward, with g_k the gradient of o_k, and G_i that of p_i itself where weights were asked for:

    w_k  = C^T g_k,                      grad_p_i = w_k . m_i + g_k . (T_C(i) + c) + G_i
    d_i  = p_i (grad_p_i - sum_j p_j grad_p_j), or grad_p_i without a softmax: the gradient of s_i
    du_k = sum_i d_i m_i,                grad_aged_kt = sum of d_i over the slots of age t
    dq_k = A du_k + sum_t grad_aged_kt T_A(t) (+ sum_i d_i a) + g_k (or H^T g_k)
    dm_i = sum_k p_ki w_k + d_ki u_k

where sum_j p_j w_k . m_j = w_k . r_k takes no further pass, and with the softmax the terms of c
drop out. The weights' gradients are products of what comes back here, and left to ``fused``.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Step(NamedTuple):
    """One hop; its weights are indices into ``Problem.weights``, -1 for one that it lacks.

    Kernels take the order of fields from here: ``Step._fields.index("a_bias")``.

    Without ``carry`` it is one read alone, no hop: r is the result, V may differ from D, nothing
    is added to q, and the gradient that comes in is w itself.
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
    """B rows that each read N slots. All but what the slots hold is in the dtype computed in.

    Attributes:
        query: [B, D], contiguous.
        keys: what the slots hold, the last axis contiguous: [G, N, I] with B / G rows one after
            the other on each, or with ``slots`` a bank [U, I]. float64 where that is computed in;
            float32, bfloat16, float16 or int8 where float32 is.
        key_scale: float32 [G, N] or [U], for int8 only: a row is its scale times its numbers.
        values: [G, N, V] or [U, V], or None where they are the keys.
        value_scale: as key_scale.
        slots: int64 or int32 [B, N], rows of the bank, known to exist; or None.
        ignored: bool [B, N], or None.
        lengths: int64 [B], or None.
        score_bias: [B, K, N] or [B, 1, N], or None.
        weights: A, C [D, I], H [D, D], biases [D], temporal tables [T, D], each contiguous and
            here once however many hops share it.
        steps: the hops.

    Slots, ignored, lengths and bias are contiguous along their last axis; along the others
    strides may be anything, 0 too.
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

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All of its tensors in a row, the weights behind the others."""
        return tensors_of(self)

    @classmethod
    def of_tensors(cls, tensors: Sequence[Tensor | None], steps: tuple[Step, ...]) -> Self:
        """A problem out of its tensors in a row."""
        before = len(cls._fields) - 2
        return cls._make((*tensors[:before], tuple(tensors[before:]), steps))

    def weight(self, place: int) -> Tensor | None:
        """The weight at a place of a step, None for -1."""
        return None if place < 0 else self.weights[place]

    @property
    def num_slots(self) -> int:
        """N."""
        return self.keys.shape[-2] if self.slots is None else self.slots.shape[-1]

    @property
    def num_ages(self) -> int:
        """T: the rows of the longest temporal table, 0 where there is none."""
        places = [place for step in self.steps for place in (step.a_temporal, step.c_temporal)]
        return max((self.weights[place].shape[0] for place in places if place >= 0), default=0)


def value_rows(problem: Problem) -> tuple[Tensor, Tensor | None]:
    """Return the values and their scale, or those of the keys if the problem has no values."""
    if problem.values is None:
        return problem.keys, problem.key_scale
    return problem.values, problem.value_scale


def tensors_of(problem: Problem) -> tuple[Tensor | None, ...]:
    """Return ``problem.tensors``; a function, as the Dynamo of torch 2.9 traces no properties."""
    return (*problem[:-2], *problem.weights)


class Trace(NamedTuple):
    """What a forward pass leaves for the backward pass, in the dtype computed in.

    Attributes:
        queries: q_k, [B, K + 1, D]; the last is the result.
        projected_query: u_k, [B, K, I].
        read: r_k, [B, K, V].
        weight_sum: the sum of p, [B, K].
        score_max, exp_sum: the largest score m and sum_i exp(s_i - m), [B, K]; p_i is
            exp(s_i - m) / total. Where no slot is readable, 0 and 1. Unused without a softmax.
        aged: [B, K, T], or None where there are no temporal tables.
        weights: p, [B, K, N], or None where they were not to be kept.
    """

    queries: Tensor
    projected_query: Tensor
    read: Tensor
    weight_sum: Tensor
    score_max: Tensor
    exp_sum: Tensor
    aged: Tensor | None
    weights: Tensor | None


def empty_trace(problem: Problem, keep_weights: bool) -> Trace:
    """Return a trace of uninitialized contiguous tensors."""
    new, (rows, memory_dim), hops = problem.query.new_empty, problem.query.shape, len(problem.steps)
    return Trace(
        queries=new(rows, hops + 1, memory_dim),
        projected_query=new(rows, hops, problem.keys.shape[-1]),
        read=new(rows, hops, value_rows(problem)[0].shape[-1]),
        weight_sum=new(rows, hops),
        score_max=new(rows, hops),
        exp_sum=new(rows, hops),
        aged=new(rows, hops, problem.num_ages) if problem.num_ages else None,
        weights=new(rows, hops, problem.num_slots) if keep_weights else None,
    )


class Wanted(NamedTuple):
    """Which of the large gradients are asked for."""

    keys: bool
    values: bool
    scores: bool


class Gradients(NamedTuple):
    """What a backward pass gives, in the dtype computed in but for those of keys and values.

    Attributes:
        grad_query: [B, D].
        grad_out: g_k, [B, K, D].
        grad_u: du_k, [B, K, I].
        grad_weight_sum: sum_i d_i, [B, K].
        grad_aged: [B, K, T], or None where there are no temporal tables.
        grad_scores: d, [B, K, N], where it was asked for, or None.
        grad_keys: in the shape and dtype of the keys, where asked for, or None; where the values
            are the keys, that of both.
        grad_values: in the shape and dtype of the values, where asked for, or None.
    """

    grad_query: Tensor
    grad_out: Tensor
    grad_u: Tensor
    grad_weight_sum: Tensor
    grad_aged: Tensor | None
    grad_scores: Tensor | None
    grad_keys: Tensor | None
    grad_values: Tensor | None


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
    grad_query = torch.zeros_like(query)
    if problem.steps[0].carry:
        grad_query.copy_(grad_result)
    has_values = wanted.values and problem.values is not None
    return Gradients(
        grad_query=grad_query,
        grad_out=new(rows, hops, memory_dim),
        grad_u=new(rows, hops, problem.keys.shape[-1]),
        grad_weight_sum=new(rows, hops),
        grad_aged=new(rows, hops, ages) if ages else None,
        grad_scores=new(rows, hops, problem.num_slots) if needs_scores else None,
        grad_keys=new_rows(problem.keys) if wanted.keys else None,
        grad_values=new_rows(value_rows(problem)[0]) if has_values else None,
    )
