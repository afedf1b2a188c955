"""The fused hop on the CPU, forward, compiled: see ``fused_cpu``."""

from typing import Any, NamedTuple

import numpy as np

from memhop.ops.compiled import compiled, exponential, numbers_at
from memhop.ops.fused_cpu_rows import (
    A_BIAS,
    A_TEMPORAL,
    C_BIAS,
    C_TEMPORAL,
    CARRY,
    RELU,
    SOFTMAX,
    TRANSFORM,
    A,
    C,
    add,
    add_bias,
    add_rows,
    add_weight_transposed,
    copy,
    count_readable,
    dot_rows,
    end_of,
    fill,
    is_readable,
    new_block,
    next_block,
    scale,
    weight_times,
)

# What to do for a row and a hop, in this order; where a row is cut up, all parts do one, then wait.
BEGIN, ATTEND, FINISH, SETTLE = 1, 2, 4, 8

BLOCKS_IN_FLOAT = 16  # until what they add up to goes into the sum in double precision


class Found(NamedTuple):
    """A ``Trace`` as arrays; those that are not kept are empty."""

    queries: Any
    keyed: Any
    read: Any
    mass: Any
    tops: Any
    totals: Any
    aged: Any
    weights: Any


class Parts(NamedTuple):
    """What the parts of each row find in a hop, before it is merged: [parts, rows, ...], double."""

    tops: Any
    totals: Any
    sums: Any
    aged: Any


class Plan(NamedTuple):
    """What a thread is to do: which stages, for which rows, hops and slots, as which part."""

    stages: int
    first_row: int
    last_row: int
    first_hop: int
    last_hop: int
    first_slot: int
    last_slot: int
    part: int


@compiled(entry=True)
def forward(given, found, parts, plan):  # type: ignore[no-untyped-def]
    """Hop after hop, row after row."""
    block = new_block(given)
    near = np.empty(given.values.columns, dtype=given.query.dtype)
    for row in range(plan.first_row, plan.last_row):
        for hop in range(plan.first_hop, plan.last_hop):
            if plan.stages & BEGIN:
                _begin(given, found, row, hop)
            if plan.stages & ATTEND:
                _attend(given, found, parts, plan, row, hop, block, near)
            if plan.stages & FINISH:
                _finish(given, found, parts, row, hop)
            if plan.stages & SETTLE:
                _settle(given, found, row, hop, plan.first_slot, plan.last_slot)


@compiled
def _begin(given, found, row, hop):  # type: ignore[no-untyped-def]
    """u = A^T q."""
    if hop == 0:
        copy(given.query[row], found.queries[row, 0])
    query, keyed, a = found.queries[row, hop], found.keyed[row, hop], given.steps[hop, A]
    if a < 0:
        copy(query, keyed)
    else:
        fill(keyed, 0)
        add_weight_transposed(given, a, query, query.shape[0], keyed)


@compiled
def _attend(given, found, parts, plan, row, hop, block, near):  # type: ignore[no-untyped-def]
    """One pass over a range of slots: their largest score, total and weighted sum."""
    step, keyed = given.steps[hop], found.keyed[row, hop]
    number = given.query.dtype.type
    far, aged = parts.sums[plan.part, row], parts.aged[plan.part, row]
    fill(near, 0)
    fill(far, 0)
    fill(aged, 0)
    from_ages, constant = scores_of_ages(given, found.queries[row, hop], step)
    age = readable_after(given, row, hop, plan.first_slot) if aged.shape[0] else 0
    top, total = number(-np.inf), 0.0
    slot, last, blocks = plan.first_slot, end_of(given, row, plan.last_slot), 0
    while slot < last:
        count, slot = next_block(given, row, hop, slot, last, block)
        if count == 0:
            continue
        scores, shares = block.scores, block.shares
        dot_rows(keyed, block.keys, count, scores)
        _complete(given, row, hop, age, block, count, from_ages, constant)
        if found.weights.shape[0]:
            for j in range(count):
                found.weights[row, hop, block.slots[j]] = scores[j]
        if step[SOFTMAX]:
            largest = scores[0]
            for j in range(1, count):
                largest = max(largest, scores[j])
            if largest > top:
                less = exponential(top - largest)
                top = largest
                total *= less
                scale(near, less)
                scale(far, less)
                scale(aged, less)
            for j in range(count):
                shares[j] = exponential(scores[j] - top)
        else:
            copy(scores, shares)
        for j in range(count):
            total += shares[j]
        for j in range(count if aged.shape[0] else 0):
            aged[min(age - j, aged.shape[0] - 1)] += shares[j]
        age -= count
        if given.values.scale:
            for j in range(count):
                shares[j] *= block.value_scales[j]
        for j in range(count, (count + 3) // 4 * 4):
            shares[j] = 0
        add_rows(shares, block.values, count, near)
        blocks += 1
        if blocks % BLOCKS_IN_FLOAT == 0:
            add(near, 1, far)
            fill(near, 0)
    add(near, 1, far)
    parts.tops[plan.part, row] = top
    parts.totals[plan.part, row] = total


@compiled
def scores_of_ages(given, query, step):  # type: ignore[no-untyped-def]
    """q . T_A(t) for each age t, and what is added to all scores alike."""
    constant = query.dtype.type(0)
    if step[A_BIAS] >= 0 and not step[SOFTMAX]:
        bias = numbers_at(given.weights[step[A_BIAS]], query.shape[0], query)
        for k in range(query.shape[0]):
            constant += query[k] * bias[k]
    place = step[A_TEMPORAL]
    from_ages = np.empty(given.weight_rows[place] if place >= 0 else 0, dtype=query.dtype)
    if place >= 0:
        weight_times(given, place, query, from_ages)
    return from_ages, constant


@compiled
def readable_after(given, row, hop, slot):  # type: ignore[no-untyped-def]
    """The age of the first slot to read from this one on."""
    return count_readable(given, row, hop, slot, given.num_slots) - 1


@compiled
def _complete(given, row, hop, age, block, count, from_ages, constant):  # type: ignore[no-untyped-def]
    """All of the scores beside what the slots hold."""
    scores = block.scores
    if given.keys.scale:
        for j in range(count):
            scores[j] *= block.key_scales[j]
    if given.bias:
        address = given.bias + row * given.bias_of_row + hop * given.bias_of_hop
        bias = numbers_at(address, given.num_slots, given.query)
        for j in range(count):
            scores[j] += bias[block.slots[j]]
    for j in range(count if from_ages.shape[0] else 0):
        scores[j] += from_ages[min(age - j, from_ages.shape[0] - 1)]
    if constant != 0:
        for j in range(count):
            scores[j] += constant


@compiled
def _finish(given, found, parts, row, hop):  # type: ignore[no-untyped-def]
    """Merge the parts, and q <- q + C r + what else a read adds."""
    step, read = given.steps[hop], found.read[row, hop]
    top, total = _merge(parts, row, step[SOFTMAX])
    share = 1.0 / total if step[SOFTMAX] else 1.0
    for k in range(read.shape[0]):
        read[k] = parts.sums[0, row, k] * share
    for t in range(found.aged.shape[2]):
        found.aged[row, hop, t] = parts.aged[0, row, t] * share
    readable = top > -np.inf
    found.tops[row, hop] = top if readable else 0.0
    found.totals[row, hop] = total
    mass = found.mass.dtype.type(total if not step[SOFTMAX] else 1.0 if readable else 0.0)
    found.mass[row, hop] = mass
    if not step[CARRY]:
        return
    query, updated = found.queries[row, hop], found.queries[row, hop + 1]
    if step[C] >= 0:
        weight_times(given, step[C], read, updated)
    else:
        copy(read, updated)
    if step[C_BIAS] >= 0:
        add_bias(given, step[C_BIAS], mass, updated)
    if step[C_TEMPORAL] >= 0:
        count = given.weight_rows[step[C_TEMPORAL]]
        sums = sums_for_table(found.aged[row, hop], count)
        add_weight_transposed(given, step[C_TEMPORAL], sums, count, updated)
    if step[TRANSFORM] >= 0:
        carried = np.empty_like(query)
        weight_times(given, step[TRANSFORM], query, carried)
        add(carried, 1, updated)
    else:
        add(query, 1, updated)
    if step[RELU]:
        for k in range(updated.shape[0]):
            updated[k] = max(updated[k], updated.dtype.type(0))


@compiled
def _merge(parts, row, softmax):  # type: ignore[no-untyped-def]
    """All parts of a row into the first one."""
    top = -np.inf
    for part in range(parts.tops.shape[0]):
        top = max(top, parts.tops[part, row])
    total = 0.0
    sums, aged = parts.sums[0, row], parts.aged[0, row]
    for part in range(parts.tops.shape[0]):
        less = 1.0
        if softmax:
            less = np.exp(parts.tops[part, row] - top) if top > -np.inf else 0.0
        total += parts.totals[part, row] * less
        if part == 0:
            scale(sums, less)
            scale(aged, less)
        else:
            add(parts.sums[part, row], less, sums)
            add(parts.aged[part, row], less, aged)
    if softmax and total == 0:
        total = 1.0
    return top, total


@compiled
def sums_for_table(aged, count):  # type: ignore[no-untyped-def]
    """Sums over ages for a table of so many rows: the last one is for all that are older."""
    sums = np.zeros(count, dtype=aged.dtype)
    for t in range(aged.shape[0]):
        sums[min(t, count - 1)] += aged[t]
    return sums


@compiled
def _settle(given, found, row, hop, first, last):  # type: ignore[no-untyped-def]
    """Scores to weights, in a range of slots; a slot that is not to be read weighs zero."""
    if not found.weights.shape[0]:
        return
    weights, softmax = found.weights[row, hop], given.steps[hop, SOFTMAX]
    ends = end_of(given, row, last)
    if given.ignored or given.bias:
        for slot in range(first, ends):
            if not is_readable(given, row, hop, slot):
                weights[slot] = -np.inf if softmax else 0
    if softmax:
        top, total = found.tops[row, hop], found.totals[row, hop]
        for slot in range(first, ends):
            weights[slot] = exponential(weights[slot] - top) / total
    for slot in range(max(first, ends), last):
        weights[slot] = 0
