"""The fused hop on the CPU, backward, compiled: see ``fused_cpu``, and ``problem`` for formulas."""

import numpy as np

from memhop.ops.cpu import simd
from memhop.ops.cpu.forward import (
    ATTEND,
    BEGIN,
    BLOCKS_IN_FLOAT,
    DOUBLE,
    FINISH,
    NORMALIZE,
    beside,
    query_of,
    sums_for_table,
)
from memhop.ops.cpu.gemv import (
    add_products,
    add_transposed_products,
    add_weight_transposed,
    line_at,
    lines_of,
    weight_vector,
)
from memhop.ops.cpu.numba_ext import AS_COMPUTED, bytes_of, compiled, narrow, numbers_at, take_turn
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
    copy,
    dot_rows,
    end_of,
    fill,
    in_vectors,
    integers_at,
    next_block,
    piece_of,
    place_of,
    readable_from,
    step_of,
)

ROWS_A_TURN = 1024  # of a bank, that a thread writes at once

MANY = 64  # slots that name one row of a bank, from which on their sum is kept in double precision


@compiled
def backward(work, targets, turns, plan, block, like):  # type: ignore[no-untyped-def]
    """Piece after piece, hop after hop from the last; then the gradients of what slots hold."""
    while True:
        turn = take_turn(turns)
        if turn >= plan.pieces:
            return
        piece = piece_of(work, plan, turn)
        group = piece.first_row, piece.last_row
        for hop in range(plan.last_hop - 1, plan.first_hop - 1, -1):
            if plan.stages & BEGIN:
                if step_of(work, hop)[CARRY]:
                    _begin(work, group, hop, block, like)
                for row in range(group[0], group[1]):
                    _set_mean(work, row, hop, block, like)
            if plan.stages & ATTEND:
                for row in range(group[0], group[1]):
                    _attend(work, piece, row, hop, block, like)
            if plan.stages & FINISH:
                _finish(work, group, hop, block, like)
        if plan.stages & NORMALIZE:
            for row in range(group[0], group[1]):
                for number in range(targets.shape[0]):
                    _write_rows(
                        work, targets[number], row, piece.first_slot, piece.last_slot, block, like
                    )


@compiled
def _begin(work, group, hop, block, like):  # type: ignore[no-untyped-def]
    """g, and w = C^T g."""
    step, columns = step_of(work, hop), work.memory_dim
    grad_out = lines_of(work.grad_out, work.hops, hop, columns, like)
    grad_read = lines_of(work.grad_read, work.hops, hop, work.values.columns, like)
    for row in range(group[0], group[1]):
        gradient, stopped = at(work.grad_query, row, columns, like), line_at(grad_out, row, like)
        updated = query_of(work, row, hop + 1, like)
        for k in range(columns):
            stopped[k] = like if step[RELU] and updated[k] <= 0 else gradient[k]
        if step[C] < 0:
            copy(stopped, line_at(grad_read, row, like))
        else:
            fill(line_at(grad_read, row, like), 0)
    if step[C] >= 0:
        add_transposed_products(work, step[C], grad_out, grad_read, group, block, like)


@compiled
def _set_mean(work, row, hop, block, like):  # type: ignore[no-untyped-def]
    """The mean of what p gets: sum_j p_j grad_p_j."""
    step, place = step_of(work, hop), row * work.hops + hop
    grad_out = at(work.grad_out, place, work.memory_dim, like)
    grad_read = at(work.grad_read, place, work.values.columns, like)
    mean = 0.0
    if not step[CARRY]:
        fill(grad_out, 0)
    elif step[C_TEMPORAL] >= 0:
        from_ages, _ = beside(work, grad_out, -1, step[C_TEMPORAL], block)
        aged = at(work.aged, place, work.num_ages, like)
        for t in range(work.num_ages):
            mean += aged[t] * from_ages[min(t, from_ages.shape[0] - 1)]
    read = at(work.read, place, work.values.columns, like)
    for k in range(read.shape[0]):
        mean += np.float64(grad_read[k]) * read[k]
    if work.grad_weights:
        weights = at(work.kept, place, work.num_slots, like)
        grad_weights = at(work.grad_weights, place, work.num_slots, like)
        for slot in range(work.num_slots):
            mean += np.float64(weights[slot]) * grad_weights[slot]
    at(work.means, place, 1, DOUBLE)[0] = mean


@compiled
def _attend(work, piece, row, hop, block, like):  # type: ignore[no-untyped-def]
    """One pass over a range of slots: d, and its sums over slots."""
    part, place = piece.part * work.rows + row, row * work.hops + hop
    grad_read = at(work.grad_read, place, work.values.columns, like)
    acc = numbers_at(block.acc, work.keys.columns, like)
    acc_f64 = at(work.part_sums, part, work.keys.columns, DOUBLE)
    aged = at(work.part_aged, part, work.num_ages, DOUBLE)
    grad_scores = at(work.grad_scores, place, work.num_slots, like)
    fill(acc, 0)
    fill(acc_f64, 0)
    fill(aged, 0)
    if work.grad_scores:
        for slot in range(piece.first_slot, piece.last_slot):
            grad_scores[slot] = 0
    age = readable_from(work, row, hop, piece.first_slot, like) - 1 if work.num_ages else 0
    slots, slopes = integers_at(block.slots, BLOCK), numbers_at(block.scores, BLOCK, like)
    keys = integers_at(block.keys, BLOCK)
    values = integers_at(block.values if work.apart else block.keys, BLOCK)
    from_ages, constant = _slopes_beside(work, row, hop, block, like)
    weight_sum, slot, last, blocks = 0.0, piece.first_slot, end_of(work, row, piece.last_slot), 0
    while slot < last:
        count, slot = next_block(work, row, hop, slot, last, block, like)
        if count == 0:
            continue
        dot_rows(grad_read, values, count, slopes, work.values.kind)
        _complete(work, row, hop, age, block, count, from_ages, constant)
        for j in range(count):
            weight_sum += slopes[j]
        if work.grad_scores:
            for j in range(count):
                grad_scores[slots[j]] = slopes[j]
        for j in range(count if work.num_ages else 0):
            aged[min(age - j, work.num_ages - 1)] += slopes[j]
        age -= count
        if work.keys.scale:
            scales = numbers_at(block.key_scales, BLOCK, np.float32(0))
            for j in range(count):
                slopes[j] *= scales[j]
        add_rows(slopes, keys, count, acc, work.keys.kind)
        blocks += 1
        if blocks % BLOCKS_IN_FLOAT == 0:
            add(acc, 1, acc_f64)
            fill(acc, 0)
    add(acc, 1, acc_f64)
    at(work.part_exp_sum, part, 1, DOUBLE)[0] = weight_sum


@compiled
def _slopes_beside(work, row, hop, block, like):  # type: ignore[no-untyped-def]
    """g . T_C(t) for each age t, and g . c, which all p get alike; a softmax cancels that."""
    step = step_of(work, hop)
    grad_out = at(work.grad_out, row * work.hops + hop, work.memory_dim, like)
    c_bias = step[C_BIAS] if not step[SOFTMAX] else -1
    return beside(work, grad_out, c_bias, step[C_TEMPORAL], block)


@compiled
def _complete(work, row, hop, age, block, count, from_ages, constant):  # type: ignore[no-untyped-def]
    """From w . m_i to d_i."""
    place, softmax = row * work.hops + hop, step_of(work, hop)[SOFTMAX]
    slots, slopes = integers_at(block.slots, BLOCK), numbers_at(block.scores, BLOCK, constant)
    if work.values.scale:
        scales_at = block.value_scales if work.apart else block.key_scales
        scales = numbers_at(scales_at, BLOCK, np.float32(0))
        for j in range(count):
            slopes[j] *= scales[j]
    for j in range(count if from_ages.shape[0] else 0):
        slopes[j] += from_ages[min(age - j, from_ages.shape[0] - 1)]
    if work.grad_weights:
        grad_weights = at(work.grad_weights, place, work.num_slots, constant)
        for j in range(count):
            slopes[j] += grad_weights[slots[j]]
    if softmax:
        weights = at(work.kept, place, work.num_slots, constant)
        mean = slopes.dtype.type(at(work.means, place, 1, DOUBLE)[0])
        for j in range(count):
            slopes[j] = weights[slots[j]] * (slopes[j] - mean)
    else:
        for j in range(count):
            slopes[j] += constant


@compiled
def _finish(work, group, hop, block, like):  # type: ignore[no-untyped-def]
    """The gradient of q before the hop."""
    step = step_of(work, hop)
    gradients = lines_of(work.grad_query, 1, 0, work.memory_dim, like)
    grad_out = lines_of(work.grad_out, work.hops, hop, work.memory_dim, like)
    grad_u = lines_of(work.grad_u, work.hops, hop, work.keys.columns, like)
    for row in range(group[0], group[1]):
        gradient = line_at(gradients, row, like)
        _gather(work, row, hop, like)
        if step[TRANSFORM] >= 0:
            fill(gradient, 0)
        else:
            copy(line_at(grad_out, row, like), gradient)
        if step[A] < 0:
            add(line_at(grad_u, row, like), 1, gradient)
    if step[TRANSFORM] >= 0:
        place = step[TRANSFORM]
        add_transposed_products(work, place, grad_out, gradients, group, block, like)
    if step[A] >= 0:
        add_products(work, step[A], grad_u, gradients, group, block, like)
    for row in range(group[0], group[1]):
        gradient, place = line_at(gradients, row, like), row * work.hops + hop
        if step[A_BIAS] >= 0 and not step[SOFTMAX]:
            weight_sum = at(work.grad_weight_sum, place, 1, like)[0]
            add(weight_vector(work, step[A_BIAS], like), weight_sum, gradient)
        if step[A_TEMPORAL] >= 0:
            grad_aged = at(work.grad_aged, place, work.num_ages, like)
            sums = sums_for_table(work, step[A_TEMPORAL], grad_aged)
            add_weight_transposed(work, step[A_TEMPORAL], sums, block, gradient)


@compiled
def _gather(work, row, hop, like):  # type: ignore[no-untyped-def]
    """Merge the parts: what all slots of a row give."""
    place, grad_weight_sum = (
        row * work.hops + hop,
        at(work.grad_weight_sum, row * work.hops + hop, 1, like),
    )
    grad_weight_sum[0] = _merge(work, row)
    columns, ages = work.keys.columns, work.num_ages
    copy(at(work.part_sums, row, columns, DOUBLE), at(work.grad_u, place, columns, like))
    copy(at(work.part_aged, row, ages, DOUBLE), at(work.grad_aged, place, ages, like))


@compiled
def _merge(work, row):  # type: ignore[no-untyped-def]
    """All parts of a row into the first one."""
    weight_sums = numbers_at(work.part_exp_sum, work.parts * work.rows, DOUBLE)
    sums = at(work.part_sums, row, work.keys.columns, DOUBLE)
    aged = at(work.part_aged, row, work.num_ages, DOUBLE)
    weight_sum = weight_sums[row]
    for part in range(1, work.parts):
        place = part * work.rows + row
        weight_sum += weight_sums[place]
        add(at(work.part_sums, place, work.keys.columns, DOUBLE), 1, sums)
        add(at(work.part_aged, place, work.num_ages, DOUBLE), 1, aged)
    return weight_sum


@compiled
def _set_terms(work, target, row, block, like):  # type: ignore[no-untyped-def]
    """What sum_k p_k w_k + d_k u_k is made of, for the slots of a row: rows, and their factors.

    Gives how many they are. The factors' addresses are those of the first slot.
    """
    count, row_bytes = 0, target.columns * bytes_of(like)
    slot_bytes = work.num_slots * bytes_of(like)
    rows = integers_at(block.term_rows, 2 * work.hops)
    factors = integers_at(block.term_factors, 2 * work.hops)
    for hop in range(work.hops):
        place = row * work.hops + hop
        if target.of_values:
            rows[count] = work.grad_read + place * row_bytes
            factors[count] = work.kept + place * slot_bytes
            count += 1
        if target.of_keys:
            rows[count] = work.projected_query + place * row_bytes
            factors[count] = work.grad_scores + place * slot_bytes
            count += 1
    return count


@compiled
def _add_columns_of_terms(block, count, shift, out, first, columns, like):  # type: ignore[no-untyped-def]
    """out += the terms of a slot, from a column on."""
    rows = integers_at(block.term_rows, count)
    factors, total = integers_at(block.term_factors, count), numbers_at(out, columns, like)
    for j in range(count):
        factor, row = numbers_at(factors[j] + shift, 1, like)[0], numbers_at(rows[j], columns, like)
        for k in range(first, columns):
            total[k] += factor * row[k]


@compiled
def _write_rows(work, target, row, first, last, block, like):  # type: ignore[no-untyped-def]
    """The gradient of what a range of slots holds, written once for all hops."""
    if target.address == 0:
        return
    columns, number = target.columns, bytes_of(like)
    whole, count = in_vectors(columns, like), _set_terms(work, target, row, block, like)
    row_bytes = columns * (number if target.kind == AS_COMPUTED else 2)
    for slot in range(first, last):
        address = target.address + (row * work.num_slots + slot) * row_bytes
        out = address if target.kind == AS_COMPUTED else block.acc
        simd.combine_terms(
            block.term_factors, slot * number, block.term_rows, count, out, whole * number, like
        )
        if whole < columns:
            fill(numbers_at(out + whole * number, columns - whole, like), 0)
            _add_columns_of_terms(block, count, slot * number, out, whole, columns, like)
        if target.kind != AS_COMPUTED:
            narrow(target.kind, numbers_at(out, columns, like), address)


@compiled
def order_by_place(work, starts, order):  # type: ignore[no-untyped-def]
    """Sort all slots of all rows by the row of the bank that they name; equal ones keep order.

    ``starts`` [U + 1] is zero to begin with; ``order`` [B N] gets row N + slot.
    """
    for row in range(work.rows):
        for slot in range(work.num_slots):
            starts[place_of(work, row, slot) + 1] += 1
    for place in range(starts.shape[0] - 1):
        starts[place + 1] += starts[place]
    for row in range(work.rows):
        for slot in range(work.num_slots):
            place = place_of(work, row, slot)
            order[starts[place]] = row * work.num_slots + slot
            starts[place] += 1
    for place in range(starts.shape[0] - 1, 0, -1):
        starts[place] = starts[place - 1]
    starts[0] = 0


@compiled
def write_bank(work, target, starts, order, turns, block, like):  # type: ignore[no-untyped-def]
    """The gradient of a bank, some rows a turn: for each, the sum over the slots that name it."""
    columns, number = target.columns, bytes_of(like)
    total, acc_f64 = numbers_at(block.acc, columns, like), np.empty(columns)
    row_bytes = columns * (number if target.kind == AS_COMPUTED else 2)
    while True:
        first = take_turn(turns) * ROWS_A_TURN
        if first >= starts.shape[0] - 1:
            return
        for place in range(first, min(first + ROWS_A_TURN, starts.shape[0] - 1)):
            fill(total, 0)
            begin, end = starts[place], starts[place + 1]
            many = end - begin > MANY
            if many:
                fill(acc_f64, 0)
            for entry in range(begin, end):
                row, slot = order[entry] // work.num_slots, order[entry] % work.num_slots
                _add_slot(work, target, row, slot, block, like)
                if many and (entry - begin) % MANY == MANY - 1:
                    add(total, 1, acc_f64)
                    fill(total, 0)
            if many:
                add(total, 1, acc_f64)
                copy(acc_f64, total)
            narrow(target.kind, total, target.address + place * row_bytes)


@compiled
def _add_slot(work, target, row, slot, block, like):  # type: ignore[no-untyped-def]
    """The gradient of what one slot holds, added to the running sum of the block."""
    columns, number = target.columns, bytes_of(like)
    whole, count = in_vectors(columns, like), _set_terms(work, target, row, block, like)
    simd.add_terms(
        block.term_factors, slot * number, block.term_rows, count, block.acc, whole * number, like
    )
    if whole < columns:
        _add_columns_of_terms(block, count, slot * number, block.acc, whole, columns, like)
