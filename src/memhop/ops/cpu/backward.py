"""The backward kernel on the CPU, compiled: gradients of scores, queries and stored rows.

``launch`` describes the algorithm, ``memhop.ops.fused.problem`` the formulas. There is one more
pass over the slots per hop; then the gradient of each stored row is written once for all hops.
"""

import numpy as np

from memhop.ops.cpu import simd
from memhop.ops.cpu.formats import NATIVE, store_row
from memhop.ops.cpu.forward import (
    ATTEND,
    BEGIN,
    DOUBLE,
    FINISH,
    FLOAT_BLOCKS,
    NORMALIZE,
    add_table_rows,
    dot_table,
    flush,
    query_of,
)
from memhop.ops.cpu.gemv import (
    add_products,
    add_transposed_products,
    bias_vector,
    vector_of,
    vectors_of,
)
from memhop.ops.cpu.numba_ext import array_at, compiled, fetch_and_add, integers_at, itemsize_of
from memhop.ops.cpu.rows import (
    BLOCK_SLOTS,
    add,
    add_by_age,
    add_rows,
    copy,
    dot_rows,
    end_of,
    fill,
    memory_row,
    multiply_scales,
    next_block,
    readable_from,
    row_at,
    step_of,
    sum_by_age,
    work_item,
)

SORT = 16  # a stage: sort slots by the bank row that they hold

ITEM_ROWS = 1024  # rows of a bank in a work item

MANY_SLOTS = 64  # slots of one bank row that are summed in float32 before they are in float64


@compiled
def backward(call, targets, job, counter, workspace, like):  # type: ignore[no-untyped-def]
    """Take work items until none is left: all hops from the last, then the stored rows."""
    while True:
        index = fetch_and_add(counter, 1)
        if index >= job.num_items:
            return
        item = work_item(call, job, index, workspace)
        group = item.first_row, item.last_row
        for hop in range(job.last_hop - 1, job.first_hop - 1, -1):
            if job.stages & BEGIN:
                if step_of(call, hop).carry:
                    _begin(call, group, hop, workspace, like)
                for row in range(group[0], group[1]):
                    _set_mean(call, row, hop, workspace, like)
            if job.stages & ATTEND:
                for row in range(group[0], group[1]):
                    _attend(call, item, row, hop, workspace, like)
            if job.stages & FINISH:
                _finish(call, item, hop, workspace, like)
        if job.stages & NORMALIZE:
            for row in range(group[0], group[1]):
                for target in range(targets.shape[0]):
                    _write_slots(call, targets[target], row, item, workspace, like)


@compiled
def _begin(call, group, hop, workspace, like):  # type: ignore[no-untyped-def]
    """Compute g, and w = C^T g."""
    step, columns = step_of(call, hop), call.memory_dim
    grads_out = vectors_of(call.grad_out, call.hops, hop, columns, like)
    grads_read = vectors_of(call.grad_read, call.hops, hop, call.values.columns, like)
    for row in range(group[0], group[1]):
        grad_out = vector_of(grads_out, row, like)
        copy(row_at(call.grad_query, row, columns, like), grad_out)
        if step.relu:
            last = grad_out[columns - step.relu :]  # indices from 0 on: the loop is vectorized
            updated = query_of(call, row, hop + 1, like)[columns - step.relu :]
            for k in range(last.shape[0]):
                last[k] = like if updated[k] <= 0 else last[k]
        if step.c < 0:
            copy(grad_out, vector_of(grads_read, row, like))
        else:
            fill(vector_of(grads_read, row, like), 0)
    if step.c >= 0:
        add_transposed_products(call, step.c, grads_out, grads_read, group, workspace, like)


@compiled
def _set_mean(call, row, hop, workspace, like):  # type: ignore[no-untyped-def]
    """Compute sum_j p_j grad_p_j, less the gradient of log sum_j exp(s_j)."""
    step, index = step_of(call, hop), row * call.hops + hop
    grad_out = row_at(call.grad_out, index, call.memory_dim, like)
    grad_read = row_at(call.grad_read, index, call.values.columns, like)
    mean = 0.0
    if not step.carry:
        fill(grad_out, 0)
    elif step.c_temporal >= 0:
        by_age, _ = dot_table(call, grad_out, -1, step.c_temporal, workspace)
        aged = row_at(call.aged, index, call.num_ages, like)
        for t in range(call.num_ages):
            mean += aged[t] * by_age[min(t, by_age.shape[0] - 1)]
    read = row_at(call.read, index, call.values.columns, like)
    for k in range(read.shape[0]):
        mean += np.float64(grad_read[k]) * read[k]
    if call.grad_weights:
        weights = row_at(call.weights, index, call.num_slots, like)
        grad_weights = row_at(call.grad_weights, index, call.num_slots, like)
        for slot in range(call.num_slots):
            mean += np.float64(weights[slot]) * grad_weights[slot]
    if call.grad_lse:
        mean -= row_at(call.grad_lse, row, 1, like)[0]
    row_at(call.grad_means, index, 1, DOUBLE)[0] = mean


@compiled
def _attend(call, item, row, hop, workspace, like):  # type: ignore[no-untyped-def]
    """Compute d over a range of slots, and its sums."""
    partial, index = item.partial + row, row * call.hops + hop
    grad_read = row_at(call.grad_read, index, call.values.columns, like)
    acc = array_at(workspace.acc, call.keys.columns, like)
    acc_f64 = row_at(call.partial_sums, partial, call.keys.columns, DOUBLE)
    aged = row_at(call.partial_aged, partial, call.num_ages, DOUBLE)
    grad_scores = row_at(call.grad_scores, index, call.num_slots, like)
    fill(acc, 0)
    fill(aged, 0)
    if call.grad_scores:
        for slot in range(item.first_slot, item.last_slot):
            grad_scores[slot] = 0
    age = readable_from(call, row, hop, item.first_slot, like) - 1 if call.num_ages else 0
    slots = integers_at(workspace.slots, BLOCK_SLOTS)
    grads = array_at(workspace.scores, BLOCK_SLOTS, like)
    keys = integers_at(workspace.keys, BLOCK_SLOTS)
    values = integers_at(workspace.values if call.has_values else workspace.keys, BLOCK_SLOTS)
    by_age, constant = _grad_terms(call, row, hop, workspace, like)
    total, slot, last, blocks = 0.0, item.first_slot, end_of(call, row, item.last_slot), 0
    while slot < last:
        count, slot = next_block(call, row, hop, slot, last, workspace, like)
        if count == 0:
            continue
        dot_rows(grad_read, values, count, grads, call.values.format)
        _add_grad_terms(call, row, hop, age, workspace, count, by_age, constant)
        for j in range(count):
            total += grads[j]
        if call.grad_scores:
            for j in range(count):
                grad_scores[slots[j]] = grads[j]
        sum_by_age(grads, aged, age, count)
        age -= count
        if call.keys.scale:
            multiply_scales(grads, workspace.key_scales, count)
        add_rows(grads, keys, count, acc, call.keys.format)
        blocks += 1
        if blocks % FLOAT_BLOCKS == 0:
            flush(acc, acc_f64, blocks == FLOAT_BLOCKS)
    flush(acc, acc_f64, blocks < FLOAT_BLOCKS)
    row_at(call.partial_total, partial, 1, DOUBLE)[0] = total


@compiled
def _grad_terms(call, row, hop, workspace, like):  # type: ignore[no-untyped-def]
    """Return g . T_C(t) for each age t, and g . c, which cancels in a softmax."""
    step = step_of(call, hop)
    grad_out = row_at(call.grad_out, row * call.hops + hop, call.memory_dim, like)
    c_bias = step.c_bias if not step.softmax else -1
    return dot_table(call, grad_out, c_bias, step.c_temporal, workspace)


@compiled
def _add_grad_terms(call, row, hop, age, workspace, count, by_age, constant):  # type: ignore[no-untyped-def]
    """Complete the gradients of a block: from w . rows to d."""
    index, softmax = row * call.hops + hop, step_of(call, hop).softmax
    slots = integers_at(workspace.slots, BLOCK_SLOTS)
    grads = array_at(workspace.scores, BLOCK_SLOTS, constant)
    if call.values.scale:
        scales_at = workspace.value_scales if call.has_values else workspace.key_scales
        multiply_scales(grads, scales_at, count)
    add_by_age(grads, by_age, age, count)
    if call.grad_weights:
        grad_weights = row_at(call.grad_weights, index, call.num_slots, constant)
        for j in range(count):
            grads[j] += grad_weights[slots[j]]
    if softmax:
        weights = row_at(call.weights, index, call.num_slots, constant)
        mean = grads.dtype.type(row_at(call.grad_means, index, 1, DOUBLE)[0])
        for j in range(count):
            grads[j] = weights[slots[j]] * (grads[j] - mean)
    else:
        for j in range(count):
            grads[j] += constant


@compiled
def _finish(call, item, hop, workspace, like):  # type: ignore[no-untyped-def]
    """Compute the gradient of q before the hop."""
    step, group = step_of(call, hop), (item.first_row, item.last_row)
    grads_query = vectors_of(call.grad_query, 1, 0, call.memory_dim, like)
    grads_out = vectors_of(call.grad_out, call.hops, hop, call.memory_dim, like)
    grads_u = vectors_of(call.grad_u, call.hops, hop, call.keys.columns, like)
    for row in range(group[0], group[1]):
        grad_query = vector_of(grads_query, row, like)
        _merge_splits(call, item.partial + row, row * call.hops + hop, like)
        if step.transform >= 0:
            fill(grad_query, 0)
        else:
            copy(vector_of(grads_out, row, like), grad_query)
        if step.a < 0:
            add(vector_of(grads_u, row, like), 1, grad_query)
    if step.transform >= 0:
        transform = step.transform
        add_transposed_products(call, transform, grads_out, grads_query, group, workspace, like)
    if step.a >= 0:
        add_products(call, step.a, grads_u, grads_query, group, workspace, like)
    for row in range(group[0], group[1]):
        grad_query, index = vector_of(grads_query, row, like), row * call.hops + hop
        if step.a_bias >= 0 and not step.softmax:
            weight_sum = row_at(call.grad_weight_sum, index, 1, like)[0]
            add(bias_vector(call, step.a_bias, like), weight_sum, grad_query)
        if step.a_temporal >= 0:
            grad_aged = row_at(call.grad_aged, index, call.num_ages, like)
            add_table_rows(call, step.a_temporal, grad_aged, workspace, grad_query)


@compiled
def _merge_splits(call, partial, index, like):  # type: ignore[no-untyped-def]
    """Add up all splits of a row, and write the sums."""
    columns, ages, end = call.keys.columns, call.num_ages, partial + call.num_splits * call.rows
    totals = array_at(call.partial_total, end, DOUBLE)
    sums = row_at(call.partial_sums, partial, columns, DOUBLE)
    aged = row_at(call.partial_aged, partial, ages, DOUBLE)
    total = totals[partial]
    for other in range(partial + call.rows, end, call.rows):
        total += totals[other]
        add(row_at(call.partial_sums, other, columns, DOUBLE), 1, sums)
        add(row_at(call.partial_aged, other, ages, DOUBLE), 1, aged)
    row_at(call.grad_weight_sum, index, 1, like)[0] = total
    copy(sums, row_at(call.grad_u, index, columns, like))
    copy(aged, row_at(call.grad_aged, index, ages, like))


@compiled
def _set_terms(call, target, row, workspace, like):  # type: ignore[no-untyped-def]
    """Write the addresses of the terms p_k w_k and d_k u_k of a row's slots; return their number.

    The addresses of factors are those of slot 0.
    """
    count, row_bytes = 0, target.columns * itemsize_of(like)
    weights_bytes = call.num_slots * itemsize_of(like)
    rows = integers_at(workspace.term_rows, 2 * call.hops)
    factors = integers_at(workspace.term_factors, 2 * call.hops)
    for hop in range(call.hops):
        index = row * call.hops + hop
        if target.of_values:
            rows[count] = call.grad_read + index * row_bytes
            factors[count] = call.weights + index * weights_bytes
            count += 1
        if target.of_keys:
            rows[count] = call.projected_query + index * row_bytes
            factors[count] = call.grad_scores + index * weights_bytes
            count += 1
    return count


@compiled
def _write_slots(call, target, row, item, workspace, like):  # type: ignore[no-untyped-def]
    """Write the gradients of a range of slots, the sum over all hops."""
    if target.address == 0:
        return
    itemsize, count = itemsize_of(like), _set_terms(call, target, row, workspace, like)
    for slot in range(item.first_slot, item.last_slot):
        address = target.address + (row * call.num_slots + slot) * target.row_bytes
        out, shift = address if target.format == NATIVE else workspace.acc, slot * itemsize
        simd.write_gradient(
            workspace.term_factors, shift, workspace.term_rows, count, out,
            target.columns * itemsize, like,
        )  # fmt: skip
        if target.format != NATIVE:
            store_row(target.format, out, target.columns, address, like)


@compiled
def sort_slots(call, starts, order):  # type: ignore[no-untyped-def]
    """Sort all slots by the bank row that they hold: a counting sort, stable.

    ``starts`` [U + 1] holds zeros at first; ``order`` [B N] gets row N + slot.
    """
    for row in range(call.rows):
        for slot in range(call.num_slots):
            starts[memory_row(call, row, slot) + 1] += 1
    for bank_row in range(starts.shape[0] - 1):
        starts[bank_row + 1] += starts[bank_row]
    for row in range(call.rows):
        for slot in range(call.num_slots):
            bank_row = memory_row(call, row, slot)
            order[starts[bank_row]] = row * call.num_slots + slot
            starts[bank_row] += 1
    for bank_row in range(starts.shape[0] - 1, 0, -1):
        starts[bank_row] = starts[bank_row - 1]
    starts[0] = 0


@compiled
def write_bank(call, target, starts, order, counter, workspace, like):  # type: ignore[no-untyped-def]
    """Write the gradient of a bank: of each row, the sum over its slots in their order."""
    columns, acc = target.columns, array_at(workspace.acc, target.columns, like)
    acc_f64 = np.empty(columns)
    while True:
        first = fetch_and_add(counter, 1) * ITEM_ROWS
        if first >= starts.shape[0] - 1:
            return
        for bank_row in range(first, min(first + ITEM_ROWS, starts.shape[0] - 1)):
            fill(acc, 0)
            begin, end = starts[bank_row], starts[bank_row + 1]
            is_long = end - begin > MANY_SLOTS
            if is_long:
                fill(acc_f64, 0)
            for entry in range(begin, end):
                row, slot = order[entry] // call.num_slots, order[entry] % call.num_slots
                _add_slot(call, target, row, slot, workspace, like)
                if is_long and (entry - begin) % MANY_SLOTS == MANY_SLOTS - 1:
                    add(acc, 1, acc_f64)
                    fill(acc, 0)
            if is_long:
                add(acc, 1, acc_f64)
                copy(acc_f64, acc)
            address = target.address + bank_row * target.row_bytes
            store_row(target.format, workspace.acc, columns, address, like)


@compiled
def _add_slot(call, target, row, slot, workspace, like):  # type: ignore[no-untyped-def]
    """Add the gradient of one slot to the accumulator."""
    count, itemsize = _set_terms(call, target, row, workspace, like), itemsize_of(like)
    factors, rows, acc = workspace.term_factors, workspace.term_rows, workspace.acc
    size = target.columns * itemsize
    simd.add_gradient(factors, slot * itemsize, rows, count, acc, size, like)
