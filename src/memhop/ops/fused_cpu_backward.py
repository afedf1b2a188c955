"""The fused hop on the CPU, backward, compiled: see ``fused_cpu``, and ``problem`` for formulas."""

from typing import Any, NamedTuple

import numpy as np

from memhop.ops.compiled import AS_COMPUTED, compiled, narrow, numbers_at
from memhop.ops.fused_cpu_forward import (
    ATTEND,
    BEGIN,
    BLOCKS_IN_FLOAT,
    FINISH,
    SETTLE,
    readable_after,
    sums_for_table,
)
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
    dot_rows,
    end_of,
    fill,
    new_block,
    next_block,
    place_of,
    weight_times,
)


class Sought(NamedTuple):
    """``Gradients`` as arrays, and what is worked out on the way to them.

    by_query is g to begin with; by_values is empty where the values are the keys.
    """

    by_query: Any
    by_read_out: Any
    by_read: Any
    by_keyed: Any
    by_mass: Any
    by_aged: Any
    by_scores: Any
    by_weights: Any
    means: Any


class SoughtParts(NamedTuple):
    """What the parts of each row find in a hop, before it is merged: [parts, rows, ...], double."""

    masses: Any
    sums: Any
    aged: Any


class Target(NamedTuple):
    """Where a gradient of rows goes: its address, its format, and its columns; 0 for none."""

    address: int
    kind: int
    columns: int
    of_keys: int
    of_values: int


@compiled(entry=True)
def backward(given, found, sought, parts, plan, targets):  # type: ignore[no-untyped-def]
    """Hop after hop from the last, row after row."""
    block = new_block(given)
    near = np.empty(given.keys.columns, dtype=given.query.dtype)
    for row in range(plan.first_row, plan.last_row):
        for hop in range(plan.last_hop - 1, plan.first_hop - 1, -1):
            if plan.stages & BEGIN:
                _begin(given, found, sought, row, hop)
            if plan.stages & ATTEND:
                _attend(given, found, sought, parts, plan, row, hop, block, near)
            if plan.stages & FINISH:
                _finish(given, found, sought, parts, row, hop)
        if plan.stages & SETTLE:
            for target in targets:
                if target.address:
                    _write_rows(given, found, sought, target, row, plan.first_slot, plan.last_slot)


@compiled
def _begin(given, found, sought, row, hop):  # type: ignore[no-untyped-def]
    """g, w = C^T g, and the mean of what p gets: sum_j p_j by_p_j."""
    step, gradient = given.steps[hop], sought.by_query[row]
    by_read_out, by_read = sought.by_read_out[row, hop], sought.by_read[row, hop]
    mean = 0.0
    if step[CARRY]:
        updated = found.queries[row, hop + 1]
        for k in range(gradient.shape[0]):
            stopped = step[RELU] and not updated[k] > 0
            by_read_out[k] = gradient.dtype.type(0) if stopped else gradient[k]
        if step[C] < 0:
            copy(by_read_out, by_read)
        else:
            fill(by_read, 0)
            add_weight_transposed(given, step[C], by_read_out, by_read_out.shape[0], by_read)
        from_ages, _ = slopes_of_ages(given, by_read_out, step)
        for t in range(found.aged.shape[2] if from_ages.shape[0] else 0):
            mean += found.aged[row, hop, t] * from_ages[min(t, from_ages.shape[0] - 1)]
    else:
        fill(by_read_out, 0)
    read = found.read[row, hop]
    for k in range(read.shape[0]):
        mean += np.float64(by_read[k]) * read[k]
    if sought.by_weights.shape[0]:
        for slot in range(given.num_slots):
            mean += np.float64(found.weights[row, hop, slot]) * sought.by_weights[row, hop, slot]
    sought.means[row, hop] = mean


@compiled
def slopes_of_ages(given, by_read_out, step):  # type: ignore[no-untyped-def]
    """g . T_C(t) for each age t, and g . c, which all p get alike; a softmax cancels that."""
    constant = by_read_out.dtype.type(0)
    if step[C_BIAS] >= 0 and not step[SOFTMAX]:
        bias = numbers_at(given.weights[step[C_BIAS]], by_read_out.shape[0], by_read_out)
        for k in range(by_read_out.shape[0]):
            constant += by_read_out[k] * bias[k]
    place = step[C_TEMPORAL]
    from_ages = np.empty(given.weight_rows[place] if place >= 0 else 0, dtype=by_read_out.dtype)
    if place >= 0:
        weight_times(given, place, by_read_out, from_ages)
    return from_ages, constant


@compiled
def _attend(given, found, sought, parts, plan, row, hop, block, near):  # type: ignore[no-untyped-def]
    """One pass over a range of slots: d, and its sums over slots."""
    step, by_read = given.steps[hop], sought.by_read[row, hop]
    far, aged = parts.sums[plan.part, row], parts.aged[plan.part, row]
    fill(near, 0)
    fill(far, 0)
    fill(aged, 0)
    if sought.by_scores.shape[0]:
        fill(sought.by_scores[row, hop, plan.first_slot : plan.last_slot], 0)
    from_ages, constant = slopes_of_ages(given, sought.by_read_out[row, hop], step)
    age = readable_after(given, row, hop, plan.first_slot) if aged.shape[0] else 0
    weights, mean = found.weights[row, hop], given.query.dtype.type(sought.means[row, hop])
    mass, slot, last, blocks = 0.0, plan.first_slot, end_of(given, row, plan.last_slot), 0
    while slot < last:
        count, slot = next_block(given, row, hop, slot, last, block)
        if count == 0:
            continue
        slopes, slots = block.scores, block.slots
        dot_rows(by_read, block.values, count, slopes)
        if given.values.scale:
            for j in range(count):
                slopes[j] *= block.value_scales[j]
        for j in range(count if from_ages.shape[0] else 0):
            slopes[j] += from_ages[min(age - j, from_ages.shape[0] - 1)]
        if sought.by_weights.shape[0]:
            for j in range(count):
                slopes[j] += sought.by_weights[row, hop, slots[j]]
        for j in range(count):
            if step[SOFTMAX]:
                slopes[j] = weights[slots[j]] * (slopes[j] - mean)
            else:
                slopes[j] += constant
            mass += slopes[j]
        if sought.by_scores.shape[0]:
            for j in range(count):
                sought.by_scores[row, hop, slots[j]] = slopes[j]
        for j in range(count if aged.shape[0] else 0):
            aged[min(age - j, aged.shape[0] - 1)] += slopes[j]
        age -= count
        if given.keys.scale:
            for j in range(count):
                slopes[j] *= block.key_scales[j]
        for j in range(count, (count + 3) // 4 * 4):
            slopes[j] = 0
        add_rows(slopes, block.keys, count, near)
        blocks += 1
        if blocks % BLOCKS_IN_FLOAT == 0:
            add(near, 1, far)
            fill(near, 0)
    add(near, 1, far)
    parts.masses[plan.part, row] = mass


@compiled
def _finish(given, found, sought, parts, row, hop):  # type: ignore[no-untyped-def]
    """Merge the parts; the gradient of q before the hop."""
    step, by_keyed = given.steps[hop], sought.by_keyed[row, hop]
    by_read_out, gradient = sought.by_read_out[row, hop], sought.by_query[row]
    for part in range(1, parts.masses.shape[0]):
        parts.masses[0, row] += parts.masses[part, row]
        add(parts.sums[part, row], 1, parts.sums[0, row])
        add(parts.aged[part, row], 1, parts.aged[0, row])
    copy(parts.sums[0, row], by_keyed)
    mass = gradient.dtype.type(parts.masses[0, row])
    sought.by_mass[row, hop] = mass
    for t in range(sought.by_aged.shape[2]):
        sought.by_aged[row, hop, t] = parts.aged[0, row, t]
    if step[TRANSFORM] >= 0:
        fill(gradient, 0)
        count = by_read_out.shape[0]
        add_weight_transposed(given, step[TRANSFORM], by_read_out, count, gradient)
    else:
        copy(by_read_out, gradient)
    if step[A] >= 0:
        through = np.empty_like(gradient)
        weight_times(given, step[A], by_keyed, through)
        add(through, 1, gradient)
    else:
        add(by_keyed, 1, gradient)
    if step[A_BIAS] >= 0 and not step[SOFTMAX]:
        add_bias(given, step[A_BIAS], mass, gradient)
    if step[A_TEMPORAL] >= 0:
        count = given.weight_rows[step[A_TEMPORAL]]
        sums = sums_for_table(sought.by_aged[row, hop], count)
        add_weight_transposed(given, step[A_TEMPORAL], sums, count, gradient)


@compiled
def _new_terms(given, target):  # type: ignore[no-untyped-def]
    """Room for the factors and rows of sum_k p w_k + d u_k, and for the sum itself."""
    room = 2 * given.steps.shape[0] + 3
    factors, rows = np.zeros(room, dtype=given.query.dtype), np.zeros(room, dtype=np.int64)
    return factors, rows, np.empty(target.columns, dtype=given.query.dtype)


@compiled
def _terms(found, sought, target, row, slot, factors, rows):  # type: ignore[no-untyped-def]
    """Fill in the terms of one slot; how many they are."""
    count, number_bytes = 0, factors.itemsize
    for hop in range(found.keyed.shape[1]):
        place = row * found.keyed.shape[1] + hop
        if target.of_values:
            factors[count] = found.weights[row, hop, slot]
            rows[count] = sought.by_read.ctypes.data + place * target.columns * number_bytes
            count += 1
        if target.of_keys:
            factors[count] = sought.by_scores[row, hop, slot]
            rows[count] = found.keyed.ctypes.data + place * target.columns * number_bytes
            count += 1
    for spare in range(count, count + 3):
        factors[spare] = 0
        rows[spare] = rows[0]
    return count


@compiled
def _write_rows(given, found, sought, target, row, first, last):  # type: ignore[no-untyped-def]
    """The gradient of what a range of slots holds, written once for all hops."""
    factors, rows, total = _new_terms(given, target)
    row_bytes = target.columns * (total.itemsize if target.kind == AS_COMPUTED else 2)
    for slot in range(first, last):
        address = target.address + (row * given.num_slots + slot) * row_bytes
        count = _terms(found, sought, target, row, slot, factors, rows)
        if target.kind == AS_COMPUTED:
            total = numbers_at(address, target.columns, total)
        fill(total, 0)
        add_rows(factors, rows, count, total)
        if target.kind != AS_COMPUTED:
            narrow(target.kind, total, address)


@compiled(entry=True)
def order_by_place(given, rows, starts, order):  # type: ignore[no-untyped-def]
    """Sort all slots of all rows by the row of the bank that they name; equal ones keep order.

    ``starts`` [U + 1] is zero to begin with; ``order`` [B N] gets row N + slot.
    """
    for row in range(rows):
        for slot in range(given.num_slots):
            starts[place_of(given, row, slot) + 1] += 1
    for place in range(starts.shape[0] - 1):
        starts[place + 1] += starts[place]
    for row in range(rows):
        for slot in range(given.num_slots):
            place = place_of(given, row, slot)
            order[starts[place]] = row * given.num_slots + slot
            starts[place] += 1
    for place in range(starts.shape[0] - 1, 0, -1):
        starts[place] = starts[place - 1]
    starts[0] = 0


@compiled(entry=True)
def write_bank(given, found, sought, target, starts, order, first, last):  # type: ignore[no-untyped-def]
    """The gradient of a range of a bank's rows: for each, the sum over the slots that name it."""
    factors, rows, total = _new_terms(given, target)
    far = np.empty(target.columns)
    row_bytes = target.columns * (total.itemsize if target.kind == AS_COMPUTED else 2)
    for place in range(first, last):
        address = target.address + place * row_bytes
        if target.kind == AS_COMPUTED:
            total = numbers_at(address, target.columns, total)
        fill(total, 0)
        begin, end = starts[place], starts[place + 1]
        many = end - begin > 64
        if many:
            fill(far, 0)
        for entry in range(begin, end):
            row, slot = order[entry] // given.num_slots, order[entry] % given.num_slots
            add_rows(factors, rows, _terms(found, sought, target, row, slot, factors, rows), total)
            if many and (entry - begin) % 64 == 63:
                add(total, 1, far)
                fill(total, 0)
        if many:
            add(total, 1, far)
            copy(far, total)
        if target.kind != AS_COMPUTED:
            narrow(target.kind, total, address)
