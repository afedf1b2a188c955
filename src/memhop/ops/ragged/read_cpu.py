"""``read_ragged`` compiled for the CPU, forward and backward; imported on first use."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from memhop.ops.errors import refuse_create_graph
from memhop.ops.ragged.frontier import Frontier, RaggedMemory, Reads
from memhop.ops.text.two_row_attention_cpu import arrays, compiled


def read(
    tensors: tuple[Tensor, Tensor, Tensor | None],
    memory: RaggedMemory,
    frontier: Frontier,
    entries: Tensor,
    slots: Tensor,
    reads: Tensor,
) -> tuple[Frontier, Reads]:
    """Return the new frontier and the slots read; arguments as in ``read.read_eager``."""
    scores, weights, bias = tensors
    bias = scores.new_zeros(0) if bias is None else bias
    places = entries, slots, reads, memory.keys, memory.targets
    after, shares, offsets, nodes = _Read.apply(  # type: ignore[no-untyped-call]
        scores, weights, bias, memory.num_nodes, *places
    )
    return Frontier(offsets, nodes, after), Reads(reads, slots, shares)


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, weights: Tensor, bias: Tensor, num_nodes: int, *places: Tensor
    ) -> tuple[Tensor, ...]:
        tensors = [tensor.contiguous() for tensor in (scores, weights, bias, *places)]
        slots = places[1]
        shares = scores.new_empty(len(slots))
        sums = scores.new_zeros(len(slots), dtype=torch.float64)
        nodes, reached = torch.empty_like(slots), torch.empty_like(slots)
        offsets = torch.zeros_like(places[2])
        place_of = np.full(num_nodes, -1)
        _forward(arrays(*tensors), place_of, arrays(shares, sums, nodes, reached, offsets))
        used = int(offsets[-1])
        ctx.save_for_backward(*tensors, shares, reached)
        nodes = nodes[:used].clone()
        ctx.mark_non_differentiable(offsets, nodes)
        return sums[:used].to(scores.dtype), shares, offsets, nodes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_create_graph("over compiled reads of facts")
        *tensors, shares, reached = ctx.saved_tensors
        gradients = [torch.zeros_like(tensor) for tensor in tensors[:3]]
        results = arrays(shares, reached, *(grad.contiguous() for grad in grads[:2]))
        _backward(arrays(*tensors), results, arrays(*gradients))
        return (*gradients, *[None] * 6)


@compiled
def _forward(inputs, place_of, results):  # type: ignore[no-untyped-def]
    scores, weights, bias, entries, slots, reads, keys, targets = inputs
    shares, sums, nodes, reached, offsets = results
    used = 0
    for b in range(len(reads) - 1):
        begin, end, first = reads[b], reads[b + 1], used
        score_max, entry, log_weight = -np.inf, -1, 0.0
        for j in range(begin, end):
            if entries[j] != entry:  # the slots of an entry follow each other
                entry = entries[j]
                log_weight = np.log(np.float64(weights[entry]))
            score = log_weight + scores[b, keys[slots[j]]]
            if len(bias):
                score += bias[slots[j]]
            shares[j] = score
            score = np.float64(shares[j])  # as it is rounded
            if not score <= score_max:  # NaN counts as the maximum
                score_max = score
        shift = 0.0 if score_max == -np.inf else score_max
        exp_sum = 0.0
        for j in range(begin, end):
            share = np.exp(np.float64(shares[j]) - shift)
            shares[j] = share
            exp_sum += share
        factor = 1 / exp_sum if exp_sum != 0 else 0.0
        for j in range(begin, end):
            shares[j] *= factor
            node = targets[slots[j]]
            place = place_of[node]
            if place < 0:
                place = place_of[node] = used
                nodes[used] = node
                used += 1
            reached[j] = place
            sums[place] += shares[j]
        for place in range(first, used):
            place_of[nodes[place]] = -1
        offsets[b + 1] = used


@compiled
def _backward(inputs, results, gradients):  # type: ignore[no-untyped-def]
    _, weights, bias, entries, slots, reads, keys, _ = inputs
    shares, reached, grad_sums, grad_shares = results
    grad_scores, grad_weights, grad_bias = gradients
    for b in range(len(reads) - 1):
        mean = 0.0
        for j in range(reads[b], reads[b + 1]):
            mean += shares[j] * np.float64(grad_sums[reached[j]] + grad_shares[j])
        for j in range(reads[b], reads[b + 1]):
            if shares[j] != 0:
                grad = grad_sums[reached[j]] + grad_shares[j]
                grad_score = shares[j] * (np.float64(grad) - mean)
                grad_scores[b, keys[slots[j]]] += grad_score
                grad_weights[entries[j]] += grad_score / weights[entries[j]]
                if len(bias):
                    grad_bias[slots[j]] += grad_score
