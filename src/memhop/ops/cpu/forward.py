"""The forward kernel on the CPU, compiled: online softmax over blocks of slots.

``launch`` describes the algorithm, ``memhop.ops.fused.problem`` the formulas.
"""

import numpy as np

from memhop.ops.cpu import simd
from memhop.ops.cpu.gemv import (
    add_products,
    add_transposed_product,
    add_transposed_products,
    bias_vector,
    multiply_weight,
    num_rows,
    vector_of,
    vectors_of,
)
from memhop.ops.cpu.numba_ext import (
    array_at,
    compiled,
    exponential,
    fetch_and_add,
    integers_at,
    itemsize_of,
)
from memhop.ops.cpu.rows import (
    BLOCK_SLOTS,
    add,
    add_by_age,
    add_rows,
    bias_of,
    copy,
    dot_rows,
    end_of,
    fill,
    is_readable,
    multiply_scales,
    next_block,
    readable_from,
    round_up,
    row_at,
    scale,
    step_of,
    sum_by_age,
    work_item,
)

# Stages of a hop, in this order. Where rows are split, all splits finish one before the next.
BEGIN, ATTEND, FINISH, NORMALIZE = 1, 2, 4, 8

LANES = 16  # numbers of a block that are computed together

FLOAT_BLOCKS = 16  # blocks that are summed in float32 before their sum is added in float64

DOUBLE = np.float64(0)


@compiled
def forward(call, job, counter, workspace, like):  # type: ignore[no-untyped-def]
    """Take work items until none is left, and run their stages hop by hop."""
    while True:
        index = fetch_and_add(counter, 1)
        if index >= job.num_items:
            return
        item = work_item(call, job, index, workspace)
        group = item.first_row, item.last_row
        for hop in range(job.first_hop, job.last_hop):
            if job.stages & BEGIN:
                _begin(call, group, hop, workspace, like)
            if job.stages & ATTEND:
                for row in range(group[0], group[1]):
                    _attend(call, item, row, hop, workspace, like)
            if job.stages & FINISH:
                for row in range(group[0], group[1]):
                    _finish(call, item.partial + row, row, hop, like)
                if step_of(call, hop).carry:
                    _update(call, group, hop, workspace, like)
            if job.stages & NORMALIZE and call.weights:
                for row in range(group[0], group[1]):
                    _normalize(call, row, hop, item.first_slot, item.last_slot, like)


@compiled
def _begin(call, group, hop, workspace, like):  # type: ignore[no-untyped-def]
    """u = A^T q."""
    a = step_of(call, hop).a
    for row in range(group[0], group[1]):
        query = query_of(call, row, hop, like)
        if hop == 0:
            copy(row_at(call.query, row, call.memory_dim, like), query)
        index = row * call.hops + hop
        projected_query = row_at(call.projected_query, index, call.keys.columns, like)
        if a < 0:
            copy(query, projected_query)
        else:
            fill(projected_query, 0)
    if a >= 0:
        queries = vectors_of(call.queries, call.hops + 1, hop, call.memory_dim, like)
        projected_query = vectors_of(call.projected_query, call.hops, hop, call.keys.columns, like)
        add_transposed_products(call, a, queries, projected_query, group, workspace, like)


@compiled
def query_of(call, row, hop, like):  # type: ignore[no-untyped-def]
    """Return q before a hop."""
    return row_at(call.queries, row * (call.hops + 1) + hop, call.memory_dim, like)


@compiled
def _attend(call, item, row, hop, workspace, like):  # type: ignore[no-untyped-def]
    """Compute the maximum score, sum of exponentials and weighted sum over a range of slots."""
    partial, index = item.partial + row, row * call.hops + hop
    softmax = step_of(call, hop).softmax
    projected_query = row_at(call.projected_query, index, call.keys.columns, like)
    acc = array_at(workspace.acc, call.values.columns, like)
    acc_f64 = row_at(call.partial_sums, partial, call.values.columns, DOUBLE)
    aged = row_at(call.partial_aged, partial, call.num_ages, DOUBLE)
    fill(acc, 0)
    fill(aged, 0)
    by_age, constant = _score_terms(call, row, hop, workspace, like)
    age = readable_from(call, row, hop, item.first_slot, like) - 1 if call.num_ages else 0
    slots = integers_at(workspace.slots, BLOCK_SLOTS)
    scores = array_at(workspace.scores, BLOCK_SLOTS, like)
    weights = array_at(workspace.weights, BLOCK_SLOTS, like)
    kept_scores = row_at(call.weights, index, call.num_slots, like)
    keys = integers_at(workspace.keys, BLOCK_SLOTS)
    values = integers_at(workspace.values if call.has_values else workspace.keys, BLOCK_SLOTS)
    scales_at = workspace.value_scales if call.has_values else workspace.key_scales
    score_max, total = scores.dtype.type(-np.inf), 0.0
    slot, last, blocks = item.first_slot, end_of(call, row, item.last_slot), 0
    while slot < last:
        count, slot = next_block(call, row, hop, slot, last, workspace, like)
        if count == 0:
            continue
        dot_rows(projected_query, keys, count, scores, call.keys.format)
        _add_score_terms(call, row, hop, age, workspace, count, by_age, constant)
        if call.weights:
            for j in range(count):
                kept_scores[slots[j]] = scores[j]
        used = round_up(count, LANES)
        if softmax:
            fill(scores[count:used], -np.inf)
            block_max = simd.maximum(workspace.scores, used * itemsize_of(like), like)
            if block_max > score_max:
                if blocks:
                    rescale = exponential(score_max - block_max)
                    total *= rescale
                    scale(acc, rescale)
                    scale(aged, rescale)
                    if blocks >= FLOAT_BLOCKS:
                        scale(acc_f64, rescale)
                score_max = block_max
            total += _exponentials(scores, score_max, weights[:used])
        else:
            copy(scores, weights[:count])
            total += _sum(weights[:count])
        sum_by_age(weights, aged, age, count)
        age -= count
        if call.values.scale:
            multiply_scales(weights, scales_at, count)
        add_rows(weights, values, count, acc, call.values.format)
        blocks += 1
        if blocks % FLOAT_BLOCKS == 0:
            flush(acc, acc_f64, blocks == FLOAT_BLOCKS)
    flush(acc, acc_f64, blocks < FLOAT_BLOCKS)
    row_at(call.partial_max, partial, 1, DOUBLE)[0] = score_max
    row_at(call.partial_total, partial, 1, DOUBLE)[0] = total


@compiled
def _exponentials(scores, score_max, weights):  # type: ignore[no-untyped-def]
    """weights = exp(scores - score_max) for a multiple of ``LANES``; return their sum."""
    for j in range(weights.shape[0]):
        weights[j] = exponential(scores[j] - score_max)
    return _sum(weights)  # a loop of its own, or this one is not vectorized


@compiled
def _sum(numbers):  # type: ignore[no-untyped-def]
    """Return the sum of numbers in their own dtype."""
    total = numbers.dtype.type(0)
    for j in range(numbers.shape[0]):
        total += numbers[j]
    return total


@compiled
def flush(acc, acc_f64, is_first):  # type: ignore[no-untyped-def]
    """Move the sum of some blocks to the sum in float64, which the first one begins."""
    if is_first:
        copy(acc, acc_f64)
    else:
        add(acc, 1, acc_f64)
    fill(acc, 0)


@compiled
def _score_terms(call, row, hop, workspace, like):  # type: ignore[no-untyped-def]
    """Return q . T_A(t) for each age t, and q . a, which cancels in a softmax."""
    query, step = query_of(call, row, hop, like), step_of(call, hop)
    a_bias = step.a_bias if not step.softmax else -1
    return dot_table(call, query, a_bias, step.a_temporal, workspace)


@compiled
def dot_table(call, vector, bias, temporal, workspace):  # type: ignore[no-untyped-def]
    """Return vector . T(t) for each age t, and vector . b; empty and 0 for an index of -1."""
    constant = vector.dtype.type(0)
    if bias >= 0:
        numbers = bias_vector(call, bias, constant)
        for k in range(vector.shape[0]):
            constant += vector[k] * numbers[k]
    ages = num_rows(call, temporal) if temporal >= 0 else 0
    by_age = array_at(workspace.by_age, ages, constant)
    if temporal >= 0:
        multiply_weight(call, temporal, vector, workspace, by_age)
    return by_age, constant


@compiled
def _add_score_terms(call, row, hop, age, workspace, count, by_age, constant):  # type: ignore[no-untyped-def]
    """Complete the scores of a block: from q . rows to s."""
    slots = integers_at(workspace.slots, BLOCK_SLOTS)
    scores = array_at(workspace.scores, BLOCK_SLOTS, constant)
    if call.keys.scale:
        multiply_scales(scores, workspace.key_scales, count)
    if call.bias:
        bias = bias_of(call, row, hop, constant)
        for j in range(count):
            scores[j] += bias[slots[j]]
    add_by_age(scores, by_age, age, count)
    if constant != 0:
        for j in range(count):
            scores[j] += constant


@compiled
def _finish(call, partial, row, hop, like):  # type: ignore[no-untyped-def]
    """Write r and the other sums of a row."""
    step, index = step_of(call, hop), row * call.hops + hop
    read = row_at(call.read, index, call.values.columns, like)
    aged = row_at(call.aged, index, call.num_ages, like)
    score_max, total = _merge_splits(call, partial, step.softmax)
    factor = 1.0 / total if step.softmax else 1.0
    sums = row_at(call.partial_sums, partial, call.values.columns, DOUBLE)
    for k in range(read.shape[0]):
        read[k] = sums[k] * factor
    sums = row_at(call.partial_aged, partial, call.num_ages, DOUBLE)
    for t in range(call.num_ages):
        aged[t] = sums[t] * factor
    readable = score_max > -np.inf
    row_at(call.score_max, index, 1, like)[0] = score_max if readable else 0.0
    row_at(call.exp_sum, index, 1, like)[0] = total
    weight_sum = read.dtype.type(total if not step.softmax else 1.0 if readable else 0.0)
    row_at(call.weight_sum, index, 1, like)[0] = weight_sum
    if call.result and not step.carry:
        copy(read, row_at(call.result, row, call.values.columns, like))


@compiled
def _update(call, group, hop, workspace, like):  # type: ignore[no-untyped-def]
    """q <- q (or H q) + C r + weight_sum c + sum_t aged_t T_C(t), then ReLU."""
    step, memory_dim = step_of(call, hop), call.memory_dim
    queries = vectors_of(call.queries, call.hops + 1, hop, memory_dim, like)
    updated = vectors_of(call.queries, call.hops + 1, hop + 1, memory_dim, like)
    read = vectors_of(call.read, call.hops, hop, call.values.columns, like)
    for row in range(group[0], group[1]):
        if step.transform >= 0:
            fill(vector_of(updated, row, like), 0)
        else:
            copy(vector_of(queries, row, like), vector_of(updated, row, like))
        if step.c < 0:
            add(vector_of(read, row, like), 1, vector_of(updated, row, like))
    if step.transform >= 0:
        add_products(call, step.transform, queries, updated, group, workspace, like)
    if step.c >= 0:
        add_products(call, step.c, read, updated, group, workspace, like)
    for row in range(group[0], group[1]):
        _finish_update(call, row, hop, workspace, vector_of(updated, row, like))


@compiled
def _finish_update(call, row, hop, workspace, updated):  # type: ignore[no-untyped-def]
    """Add weight_sum c and sum_t aged_t T_C(t), and apply ReLU to the last units."""
    step, index, zero = step_of(call, hop), row * call.hops + hop, updated.dtype.type(0)
    if step.c_bias >= 0:
        weight_sum = row_at(call.weight_sum, index, 1, zero)[0]
        add(bias_vector(call, step.c_bias, zero), weight_sum, updated)
    if step.c_temporal >= 0:
        aged = row_at(call.aged, index, call.num_ages, zero)
        add_table_rows(call, step.c_temporal, aged, workspace, updated)
    if step.relu:
        last = updated[updated.shape[0] - step.relu :]  # indices from 0 on: the loop is vectorized
        for k in range(last.shape[0]):
            last[k] = max(last[k], zero)
    if call.result and hop == call.hops - 1:
        copy(updated, row_at(call.result, row, call.memory_dim, zero))


@compiled
def _merge_splits(call, partial, softmax):  # type: ignore[no-untyped-def]
    """Merge all splits of a row into the first; return the maximum score and the total."""
    end = partial + (call.num_splits - 1) * call.rows + 1
    partial_max = array_at(call.partial_max, end, DOUBLE)
    partial_total = array_at(call.partial_total, end, DOUBLE)
    score_max, total = partial_max[partial], partial_total[partial]
    if call.num_splits > 1:
        sums = row_at(call.partial_sums, partial, call.values.columns, DOUBLE)
        aged = row_at(call.partial_aged, partial, call.num_ages, DOUBLE)
        for index in range(partial, end, call.rows):
            score_max = max(score_max, partial_max[index])
        total = 0.0
        for index in range(partial, end, call.rows):
            rescale = 1.0
            if softmax:
                rescale = np.exp(partial_max[index] - score_max) if score_max > -np.inf else 0.0
            total += partial_total[index] * rescale
            if index == partial:
                scale(sums, rescale)
                scale(aged, rescale)
            else:
                add(row_at(call.partial_sums, index, call.values.columns, DOUBLE), rescale, sums)
                add(row_at(call.partial_aged, index, call.num_ages, DOUBLE), rescale, aged)
    if softmax and total == 0:
        total = 1.0
    return score_max, total


@compiled
def add_table_rows(call, table, aged, workspace, total):  # type: ignore[no-untyped-def]
    """total += sum_t aged_t T(t); all ages beyond the table take its last row."""
    count = num_rows(call, table)
    sums = np.zeros(count, dtype=aged.dtype)
    for t in range(aged.shape[0]):
        sums[min(t, count - 1)] += aged[t]
    add_transposed_product(call, table, sums, workspace, total)


@compiled
def _normalize(call, row, hop, first, last, like):  # type: ignore[no-untyped-def]
    """Turn the scores of a range of slots into weights; an unreadable slot has weight 0."""
    index, softmax = row * call.hops + hop, step_of(call, hop).softmax
    weights, end = row_at(call.weights, index, call.num_slots, like), end_of(call, row, last)
    if call.ignored or call.bias:
        for slot in range(first, end):
            if not is_readable(call, row, hop, slot, like):
                weights[slot] = -np.inf if softmax else 0
    if softmax:
        score_max = row_at(call.score_max, index, 1, like)[0]
        exp_sum = row_at(call.exp_sum, index, 1, like)[0]
        for slot in range(first, end):
            weights[slot] = exponential(weights[slot] - score_max) / exp_sum
    for slot in range(max(first, end), last):
        weights[slot] = 0
