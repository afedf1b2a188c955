"""SIMD loops over rows, generated as LLVM IR for code compiled by numba.

A hop spends nearly all its time in these loops. From a plain loop LLVM makes vectors of half the
processor's width, and loads and stores an accumulator once per row. Here a vector has 64 bytes on
every processor (LLVM splits one that is too wide), and accumulators stay in registers. The order
of each sum depends on sizes alone.

Each function takes the addresses of rows and ``size``, the bytes of the columns that fill whole
vectors in the dtype of ``like``, the dtype computed in. Rows of a memory may be in another format
and are widened in registers. The caller handles the remaining columns.
"""

from typing import Any

from llvmlite import ir
from numba import types

from memhop.ops.cpu.formats import (
    NATIVE,
    cgutils,
    for_each_format,
    integer,
    load,
    load_stored,
    store,
)
from memhop.ops.cpu.numba_ext import llvm

VECTOR = 64  # bytes

CONTRACT = ("contract",)  # permits fused multiply-add


def _vector_type(context: Any, like: Any) -> Any:
    return ir.VectorType(context.get_value_type(like), VECTOR * 8 // like.bitwidth)


def _broadcast(builder: Any, kind: Any, number: Any) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, integer(0, 32))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), lanes)


def _itemsize(like: Any) -> Any:
    return integer(like.bitwidth // 8)


def _multiply_add(builder: Any, left: Any, right: Any, total: Any) -> Any:
    return builder.fadd(total, builder.fmul(left, right, flags=CONTRACT), flags=CONTRACT)


def _range(builder: Any, first: Any, last: Any, step: int) -> Any:
    """Open a loop; as a context it gives the index."""
    return cgutils.for_range_slice(builder, first, last, integer(step))


def _add_halves(builder: Any, left: Any, right: Any, group: int) -> Any:
    """Add the two halves of each group of lanes: those of ``left``, then those of ``right``."""
    count = left.type.count * (1 if right is left else 2)
    first = [i for i in range(count) if i % group < group // 2]
    kind = ir.VectorType(ir.IntType(32), len(first))
    halves = [
        builder.shuffle_vector(left, right, ir.Constant(kind, [i + shift for i in first]))
        for shift in (0, group // 2)
    ]
    return builder.fadd(*halves)


def _horizontal_sums(builder: Any, vectors: list[Any]) -> Any:
    """Return a vector of the sums of four vectors, by a tree of adds on all four at once."""
    group = vectors[0].type.count
    first, second, third, fourth = vectors
    left = _add_halves(builder, first, second, group)
    right = _add_halves(builder, third, fourth, group)
    total = _add_halves(builder, left, right, group // 2)
    while total.type.count > 4:
        group = total.type.count // 4
        total = _add_halves(builder, total, total, group)
    return total


@llvm
def dot(typing, vector, rows, code, count, out, size, like):  # type: ignore[no-untyped-def]
    """out[j] = vector . row j, for rows in steps of four."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, rows, code, count, out, size, _ = args
        kind = _vector_type(context, like)

        def four_rows(each: int, addresses: list[Any]) -> Any:
            totals = [cgutils.alloca_once(builder, kind) for _ in addresses]
            for total in totals:
                builder.store(ir.Constant(kind, None), total)
            with _range(builder, integer(0), size, VECTOR) as (offset, _):
                left = load(builder, kind, vector, offset)
                for address, total in zip(addresses, totals, strict=True):
                    right = load_stored(builder, kind, each, address, offset)
                    sum_ = _multiply_add(builder, left, right, builder.load(total))
                    builder.store(sum_, total)
            return _horizontal_sums(builder, [builder.load(total) for total in totals])

        def all_rows(each: int) -> None:
            with _range(builder, integer(0), count, 4) as (j, _):
                offset = builder.mul(j, integer(8))
                addresses = [
                    load(builder, ir.IntType(64), rows, builder.add(offset, integer(8 * i)))
                    for i in range(4)
                ]
                sums = four_rows(each, addresses)
                store(builder, sums, out, builder.mul(j, _itemsize(like)))

        for_each_format(builder, like, code, all_rows)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6, like), generate


def _weighted_sum(
    builder: Any,
    kind: Any,
    rows: tuple[Any, int, Any],
    out: tuple[Any, Any],
    factor_at: Any,
    accumulate: bool = True,
) -> None:
    """Sum rows times factors, with accumulators in registers for up to eight vectors of columns."""
    (addresses, code, count), (out, size) = rows, out

    def columns(first: Any, last: Any, vectors: int) -> None:
        """Columns of so many vectors at once."""
        with _range(builder, first, last, vectors * VECTOR) as (begin, _):
            offsets = [builder.add(begin, integer(i * VECTOR)) for i in range(vectors)]
            totals = [cgutils.alloca_once(builder, kind) for _ in offsets]
            for offset, total in zip(offsets, totals, strict=True):
                zero = ir.Constant(kind, None)
                builder.store(load(builder, kind, out, offset) if accumulate else zero, total)
            with _range(builder, integer(0), count, 1) as (j, _):
                factor = _broadcast(builder, kind, factor_at(j))
                row = load(builder, ir.IntType(64), addresses, builder.mul(j, integer(8)))
                for offset, total in zip(offsets, totals, strict=True):
                    right = load_stored(builder, kind, code, row, offset)
                    sum_ = _multiply_add(builder, factor, right, builder.load(total))
                    builder.store(sum_, total)
            for offset, total in zip(offsets, totals, strict=True):
                store(builder, builder.load(total), out, offset)

    first = integer(0)
    for vectors in (8, 4, 1):
        last = builder.and_(size, integer(-vectors * VECTOR))
        columns(first, last, vectors)
        first = last


@llvm
def add(typing, factors, rows, code, count, total, size, like):  # type: ignore[no-untyped-def]
    """total += sum_j factors[j] row j."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factors, rows, code, count, total, size, _ = args
        kind = _vector_type(context, like)

        def factor_at(j: Any) -> Any:
            return load(builder, kind.element, factors, builder.mul(j, _itemsize(like)))

        def all_rows(each: int) -> None:
            _weighted_sum(builder, kind, (rows, each, count), (total, size), factor_at)

        for_each_format(builder, like, code, all_rows)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6, like), generate


def _sum_of_gradient_terms(accumulate: bool) -> Any:
    """Return an intrinsic for rows times factors, each factor ``shift`` bytes after an address."""

    def signature_and_code(  # type: ignore[no-untyped-def]
        typing, factors, shift, rows, count, total, size, like
    ):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            factors, shift, rows, count, total, size, _ = args
            kind = _vector_type(context, like)

            def factor_at(j: Any) -> Any:
                address = load(builder, ir.IntType(64), factors, builder.mul(j, integer(8)))
                return load(builder, kind.element, address, shift)

            native = rows, NATIVE, count
            _weighted_sum(builder, kind, native, (total, size), factor_at, accumulate)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6, like), generate

    return llvm(signature_and_code)


write_gradient = _sum_of_gradient_terms(accumulate=False)
add_gradient = _sum_of_gradient_terms(accumulate=True)


@llvm
def maximum(typing, numbers, size, like):  # type: ignore[no-untyped-def]
    """Return the largest number of an array that fills whole vectors, at least one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, size, _ = args
        kind = _vector_type(context, like)
        largest = cgutils.alloca_once_value(builder, load(builder, kind, array, integer(0)))

        def larger(left: Any, right: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", left, right), left, right)

        with _range(builder, integer(VECTOR), size, VECTOR) as (offset, _):
            other = load(builder, kind, array, offset)
            builder.store(larger(other, builder.load(largest)), largest)
        lanes = [
            builder.extract_element(builder.load(largest), integer(i, 32))
            for i in range(kind.count)
        ]
        while len(lanes) > 1:
            lanes = [larger(*pair) for pair in zip(lanes[::2], lanes[1::2], strict=True)]
        return lanes[0]

    return like(types.int64, types.int64, like), generate
