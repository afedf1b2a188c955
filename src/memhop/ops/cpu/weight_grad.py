"""The gradients of small weights on the CPU, compiled.

Each is a sum of outer products over rows and hops. For few rows and columns, the calls of torch
take longer than the products.
"""

import numpy as np

from memhop.ops.cpu import simd
from memhop.ops.cpu.gemv import vectors_of
from memhop.ops.cpu.numba_ext import compiled, integers_at, itemsize_of
from memhop.ops.cpu.rows import step_of


@compiled
def write_weights(call, job, like):  # type: ignore[no-untyped-def]
    """Write the gradient of each weight to its address in ``job.targets``, if that is not 0."""
    targets, most_terms = integers_at(job.targets, job.num_targets), 3 * call.rows * call.hops
    factors, rows = np.empty(most_terms, np.int64), np.empty(most_terms, np.int64)
    for weight in range(job.num_targets):
        if targets[weight]:
            _write_weight(call, weight, targets[weight], factors, rows, like)


@compiled
def _write_weight(call, weight, out, factors, rows, like):  # type: ignore[no-untyped-def]
    """Write the sum of all terms of a weight; zeros if it has none."""
    dim, hops, terms, count = call.memory_dim, call.hops, (factors, rows), 0
    num_rows, columns, itemsize = 1, dim, itemsize_of(like)  # those of a bias
    for hop in range(hops):
        step = step_of(call, hop)
        queries = vectors_of(call.queries, hops + 1, hop, dim, like)
        grads_out = vectors_of(call.grad_out, hops, hop, dim, like)
        if step.a == weight:
            num_rows, columns = dim, call.keys.columns
            grads_u = vectors_of(call.grad_u, hops, hop, columns, like)
            count = _add_terms(call, queries, grads_u, terms, count)
        if step.c == weight:
            num_rows, columns = dim, call.values.columns
            read = vectors_of(call.read, hops, hop, columns, like)
            count = _add_terms(call, grads_out, read, terms, count)
        if step.transform == weight:
            num_rows = dim
            count = _add_terms(call, grads_out, queries, terms, count)
        if step.c_bias == weight:
            weight_sums = vectors_of(call.weight_sum, hops, hop, 1, like)
            count = _add_terms(call, weight_sums, grads_out, terms, count)
        if step.a_bias == weight and not step.softmax:
            weight_sums = vectors_of(call.grad_weight_sum, hops, hop, 1, like)
            count = _add_terms(call, weight_sums, queries, terms, count)
    size = columns * itemsize
    for row in range(num_rows):
        simd.write_gradient(
            factors.ctypes.data, row * itemsize, rows.ctypes.data, count, out + row * size, size,
            like,
        )  # fmt: skip


@compiled
def _add_terms(call, left, right, terms, count):  # type: ignore[no-untyped-def]
    """Append the addresses of two vectors of each row; return the number of terms."""
    factors, rows = terms
    for row in range(call.rows):
        factors[count + row] = left.address + row * left.row_stride
        rows[count + row] = right.address + row * right.row_stride
    return count + call.rows
