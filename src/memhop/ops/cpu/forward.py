"""The fused hop on the CPU, forward, compiled: see ``fused_cpu``, and ``problem`` for formulas."""

import numpy as np

from memhop.ops.cpu import simd
from memhop.ops.cpu.gemv import (
    add_products,
    add_transposed_products,
    add_weight_transposed,
    line_at,
    lines_of,
    rows_of_weight,
    weight_times,
    weight_vector,
)
from memhop.ops.cpu.numba_ext import bytes_of, compiled, exponential, numbers_at, take_turn
from memhop.ops.cpu.rows import (
    A_BIAS,
    A_TEMPORAL,
    BLOCK,
    C_BIAS,
    C_TEMPORAL,
    CARRY,
    RELU,
    SOFTMAX,
    TRANSFORM,
    A,
    C,
    add,
    add_rows,
    at,
    bias_of,
    copy,
    dot_rows,
    end_of,
    fill,
    integers_at,
    is_readable,
    next_block,
    piece_of,
    readable_from,
    scale,
    step_of,
)

# What to do for a row and a hop, in this order; where a row is cut up, all parts do one, then wait.
BEGIN, ATTEND, FINISH, NORMALIZE = 1, 2, 4, 8

BLOCKS_IN_FLOAT = 16  # until what they add up to goes into the sum in double precision

DOUBLE = np.float64(0)


@compiled
def forward(work, turns, plan, block, like):  # type: ignore[no-untyped-def]
    """Piece after piece, hop after hop."""
    while True:
        turn = take_turn(turns)
        if turn >= plan.pieces:
            return
        piece = piece_of(work, plan, turn)
        group = piece.first_row, piece.last_row
        for hop in range(plan.first_hop, plan.last_hop):
            if plan.stages & BEGIN:
                _begin(work, group, hop, block, like)
            if plan.stages & ATTEND:
                for row in range(group[0], group[1]):
                    _attend(work, piece, row, hop, block, like)
            if plan.stages & FINISH:
                for row in range(group[0], group[1]):
                    _finish(work, row, hop, like)
                if step_of(work, hop)[CARRY]:
                    _update(work, group, hop, block, like)
            if plan.stages & NORMALIZE and work.kept:
                for row in range(group[0], group[1]):
                    _settle(work, row, hop, piece.first_slot, piece.last_slot, like)


@compiled
def _begin(work, group, hop, block, like):  # type: ignore[no-untyped-def]
    """u = A^T q."""
    a = step_of(work, hop)[A]
    for row in range(group[0], group[1]):
        query = query_of(work, row, hop, like)
        if hop == 0:
            copy(at(work.query, row, work.memory_dim, like), query)
        projected_query = at(work.projected_query, row * work.hops + hop, work.keys.columns, like)
        if a < 0:
            copy(query, projected_query)
        else:
            fill(projected_query, 0)
    if a >= 0:
        queries = lines_of(work.queries, work.hops + 1, hop, work.memory_dim, like)
        projected_query = lines_of(work.projected_query, work.hops, hop, work.keys.columns, like)
        add_transposed_products(work, a, queries, projected_query, group, block, like)


@compiled
def query_of(work, row, hop, like):  # type: ignore[no-untyped-def]
    """q before a hop."""
    return at(work.queries, row * (work.hops + 1) + hop, work.memory_dim, like)


@compiled
def _attend(work, piece, row, hop, block, like):  # type: ignore[no-untyped-def]
    """One pass over a range of slots: their largest score, total and weighted sum."""
    part, place = piece.part * work.rows + row, row * work.hops + hop
    softmax = step_of(work, hop)[SOFTMAX]
    projected_query = at(work.projected_query, place, work.keys.columns, like)
    acc = numbers_at(block.acc, work.values.columns, like)
    acc_f64 = at(work.part_sums, part, work.values.columns, DOUBLE)
    aged = at(work.part_aged, part, work.num_ages, DOUBLE)
    fill(acc, 0)
    fill(acc_f64, 0)
    fill(aged, 0)
    from_ages, constant = _scores_beside(work, row, hop, block, like)
    age = readable_from(work, row, hop, piece.first_slot, like) - 1 if work.num_ages else 0
    slots, scores = integers_at(block.slots, BLOCK), numbers_at(block.scores, BLOCK, like)
    shares = numbers_at(block.shares, BLOCK, like)
    kept = at(work.kept, place, work.num_slots, like)
    keys = integers_at(block.keys, BLOCK)
    values = integers_at(block.values if work.apart else block.keys, BLOCK)
    scales_at = block.value_scales if work.apart else block.key_scales
    top, total = scores.dtype.type(-np.inf), 0.0
    slot, last, blocks = piece.first_slot, end_of(work, row, piece.last_slot), 0
    while slot < last:
        count, slot = next_block(work, row, hop, slot, last, block, like)
        if count == 0:
            continue
        dot_rows(projected_query, keys, count, scores, work.keys.kind)
        _complete(work, row, hop, age, block, count, from_ages, constant)
        if work.kept:
            for j in range(count):
                kept[slots[j]] = scores[j]
        if softmax:
            fill(scores[count:], -np.inf)
            highest = simd.largest(block.scores, BLOCK * bytes_of(like), like)
            if highest > top:
                less = exponential(top - highest)
                top = highest
                total *= less
                _scale_sums(acc, acc_f64, aged, less)
            for j in range(BLOCK):
                shares[j] = exponential(scores[j] - top)
        else:
            copy(scores, shares)
            fill(shares[count:], 0)
        total += _sum_of_block(shares, like)
        for j in range(count if work.num_ages else 0):
            aged[min(age - j, work.num_ages - 1)] += shares[j]
        age -= count
        if work.values.scale:
            scales = numbers_at(scales_at, BLOCK, np.float32(0))
            for j in range(count):
                shares[j] *= scales[j]
        add_rows(shares, values, count, acc, work.values.kind)
        blocks += 1
        if blocks % BLOCKS_IN_FLOAT == 0:
            add(acc, 1, acc_f64)
            fill(acc, 0)
    add(acc, 1, acc_f64)
    at(work.part_score_max, part, 1, DOUBLE)[0] = top
    at(work.part_exp_sum, part, 1, DOUBLE)[0] = total


@compiled
def _sum_of_block(numbers, like):  # type: ignore[no-untyped-def]
    """The sum of a block's numbers, in their own dtype: blocks are summed in double precision."""
    total = like
    for j in range(BLOCK):
        total += numbers[j]
    return total


@compiled
def _scale_sums(acc, acc_f64, aged, factor):  # type: ignore[no-untyped-def]
    """What was summed up under a smaller maximum, under a larger one."""
    scale(acc, factor)
    scale(acc_f64, factor)
    scale(aged, factor)


@compiled
def _scores_beside(work, row, hop, block, like):  # type: ignore[no-untyped-def]
    """q . T_A(t) for each age t, and q . a, which a softmax cancels."""
    query, step = query_of(work, row, hop, like), step_of(work, hop)
    a_bias = step[A_BIAS] if not step[SOFTMAX] else -1
    return beside(work, query, a_bias, step[A_TEMPORAL], block)


@compiled
def beside(work, vector, bias_place, temporal, block):  # type: ignore[no-untyped-def]
    """vector . T(t) for each age t, and vector . b; nothing for what is not there."""
    constant = vector.dtype.type(0)
    if bias_place >= 0:
        bias = weight_vector(work, bias_place, constant)
        for k in range(vector.shape[0]):
            constant += vector[k] * bias[k]
    from_ages = np.empty(rows_of_weight(work, temporal) if temporal >= 0 else 0, vector.dtype)
    if temporal >= 0:
        weight_times(work, temporal, vector, block, from_ages)
    return from_ages, constant


@compiled
def _complete(work, row, hop, age, block, count, from_ages, constant):  # type: ignore[no-untyped-def]
    """All of the scores beside what the slots hold."""
    slots, scores = integers_at(block.slots, BLOCK), numbers_at(block.scores, BLOCK, constant)
    if work.keys.scale:
        scales = numbers_at(block.key_scales, BLOCK, np.float32(0))
        for j in range(count):
            scores[j] *= scales[j]
    if work.bias:
        bias = bias_of(work, row, hop, constant)
        for j in range(count):
            scores[j] += bias[slots[j]]
    for j in range(count if from_ages.shape[0] else 0):
        scores[j] += from_ages[min(age - j, from_ages.shape[0] - 1)]
    if constant != 0:
        for j in range(count):
            scores[j] += constant


@compiled
def _finish(work, row, hop, like):  # type: ignore[no-untyped-def]
    """Merge the parts: what the row has read."""
    step, place = step_of(work, hop), row * work.hops + hop
    read = at(work.read, place, work.values.columns, like)
    aged = at(work.aged, place, work.num_ages, like)
    top, total = _merge(work, row, step[SOFTMAX])
    share = 1.0 / total if step[SOFTMAX] else 1.0
    sums = at(work.part_sums, row, work.values.columns, DOUBLE)
    for k in range(read.shape[0]):
        read[k] = sums[k] * share
    sums = at(work.part_aged, row, work.num_ages, DOUBLE)
    for t in range(work.num_ages):
        aged[t] = sums[t] * share
    readable = top > -np.inf
    at(work.score_max, place, 1, like)[0] = top if readable else 0.0
    at(work.exp_sum, place, 1, like)[0] = total
    weight_sum = read.dtype.type(total if not step[SOFTMAX] else 1.0 if readable else 0.0)
    at(work.weight_sum, place, 1, like)[0] = weight_sum


@compiled
def _update(work, group, hop, block, like):  # type: ignore[no-untyped-def]
    """q <- q + C r + weight_sum c + what the ages add, or H q in place of q, and ReLU."""
    step, memory_dim = step_of(work, hop), work.memory_dim
    queries = lines_of(work.queries, work.hops + 1, hop, memory_dim, like)
    updated = lines_of(work.queries, work.hops + 1, hop + 1, memory_dim, like)
    read = lines_of(work.read, work.hops, hop, work.values.columns, like)
    for row in range(group[0], group[1]):
        if step[TRANSFORM] >= 0:
            fill(line_at(updated, row, like), 0)
        else:
            copy(line_at(queries, row, like), line_at(updated, row, like))
        if step[C] < 0:
            add(line_at(read, row, like), 1, line_at(updated, row, like))
    if step[TRANSFORM] >= 0:
        add_products(work, step[TRANSFORM], queries, updated, group, block, like)
    if step[C] >= 0:
        add_products(work, step[C], read, updated, group, block, like)
    for row in range(group[0], group[1]):
        _add_the_rest(work, row, hop, block, line_at(updated, row, like))


@compiled
def _add_the_rest(work, row, hop, block, updated):  # type: ignore[no-untyped-def]
    """weight_sum c, what the ages add, and ReLU."""
    step, place, zero = step_of(work, hop), row * work.hops + hop, updated.dtype.type(0)
    if step[C_BIAS] >= 0:
        weight_sum = at(work.weight_sum, place, 1, zero)[0]
        add(weight_vector(work, step[C_BIAS], zero), weight_sum, updated)
    if step[C_TEMPORAL] >= 0:
        sums = sums_for_table(work, step[C_TEMPORAL], at(work.aged, place, work.num_ages, zero))
        add_weight_transposed(work, step[C_TEMPORAL], sums, block, updated)
    if step[RELU]:
        for k in range(updated.shape[0]):
            updated[k] = max(updated[k], zero)


@compiled
def _merge(work, row, softmax):  # type: ignore[no-untyped-def]
    """All parts of a row into the first one."""
    score_max = numbers_at(work.part_score_max, work.parts * work.rows, DOUBLE)
    exp_sum = numbers_at(work.part_exp_sum, work.parts * work.rows, DOUBLE)
    sums = at(work.part_sums, row, work.values.columns, DOUBLE)
    aged = at(work.part_aged, row, work.num_ages, DOUBLE)
    top, total = -np.inf, 0.0
    for part in range(work.parts):
        top = max(top, score_max[part * work.rows + row])
    for part in range(work.parts):
        place, less = part * work.rows + row, 1.0
        if softmax:
            less = np.exp(score_max[place] - top) if top > -np.inf else 0.0
        total += exp_sum[place] * less
        if part == 0:
            scale(sums, less)
            scale(aged, less)
        else:
            add(at(work.part_sums, place, work.values.columns, DOUBLE), less, sums)
            add(at(work.part_aged, place, work.num_ages, DOUBLE), less, aged)
    if softmax and total == 0:
        total = 1.0
    return top, total


@compiled
def sums_for_table(work, place, aged):  # type: ignore[no-untyped-def]
    """Sums over ages for a temporal table: its last row is for all that are older."""
    count = rows_of_weight(work, place)
    sums = np.zeros(count, dtype=aged.dtype)
    for t in range(aged.shape[0]):
        sums[min(t, count - 1)] += aged[t]
    return sums


@compiled
def _settle(work, row, hop, first, last, like):  # type: ignore[no-untyped-def]
    """Scores to weights, in a range of slots; a slot that is not to be read weighs zero."""
    place, softmax = row * work.hops + hop, step_of(work, hop)[SOFTMAX]
    weights, ends = at(work.kept, place, work.num_slots, like), end_of(work, row, last)
    if work.ignored or work.bias:
        for slot in range(first, ends):
            if not is_readable(work, row, hop, slot, like):
                weights[slot] = -np.inf if softmax else 0
    if softmax:
        top, total = at(work.score_max, place, 1, like)[0], at(work.exp_sum, place, 1, like)[0]
        for slot in range(first, ends):
            weights[slot] = exponential(weights[slot] - top) / total
    for slot in range(max(first, ends), last):
        weights[slot] = 0
