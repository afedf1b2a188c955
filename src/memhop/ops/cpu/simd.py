"""SIMD loops over rows, generated as LLVM IR for code compiled by numba.

A hop spends nearly all its time in these loops. From a plain loop LLVM makes vectors of half the
processor's width, and loads and stores an accumulator once per row. Here a vector has 64 bytes on
every processor (LLVM splits one that is too wide), and accumulators stay in registers. The order
of each sum depends on sizes alone.

Each function takes the addresses of rows and ``size``, the bytes of their columns in the dtype of
``like``, the dtype computed in. Rows of a memory may be in another format and are widened in
registers.
"""

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

from llvmlite import binding, ir
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
GROUPS = 6, 4, 2, 1  # numbers of vectors that share each load of a row
# A vector fills one of 32 registers with AVX-512, two or more of 16 or 32 without.
HAS_WIDE_REGISTERS = bool(binding.get_host_cpu_features().get("avx512f"))
PAIR: Any = types.UniTuple(types.int64, 2)  # type: ignore[no-untyped-call]

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


def _shuffle(builder: Any, left: Any, right: Any, lanes: list[int]) -> Any:
    """Return some lanes of ``left``, and of ``right``, whose indices follow."""
    index = ir.VectorType(ir.IntType(32), len(lanes))
    return builder.shuffle_vector(left, right, ir.Constant(index, lanes))


def _horizontal_sums(builder: Any, vectors: list[Any]) -> Any:
    """Return a vector of the sums of 1, 2, 4, ... vectors, by a tree of adds on all at once.

    In each step two vectors become one: half of its lanes are sums of lanes of the first, the
    others of the second.
    """
    num_lanes, num_sums = vectors[0].type.count, len(vectors)
    half = num_lanes // 2
    while half:
        shifts = [num_lanes if lane & half else 0 for lane in range(num_lanes)]
        own = [shift + lane for lane, shift in enumerate(shifts)]
        other = [shift + (lane ^ half) for lane, shift in enumerate(shifts)]
        middle = (len(vectors) + 1) // 2
        vectors = [
            builder.fadd(_shuffle(builder, left, right, own), _shuffle(builder, left, right, other))
            for left, right in zip(vectors[:middle], vectors[-middle:], strict=True)
        ]
        half //= 2
    return _shuffle(builder, vectors[0], vectors[0], [*range(0, num_lanes, num_lanes // num_sums)])


def _for_vectors(
    builder: Any, kind: Any, first: Any, size: Any, generate: Callable[[Any, Any], None]
) -> None:
    """Generate a loop over whole vectors, and what remains with a mask of its lanes."""
    whole = builder.and_(size, integer(-VECTOR))
    with _range(builder, first, whole, VECTOR) as (offset, _):
        generate(offset, None)
    with builder.if_then(builder.icmp_signed("<", whole, size)):
        rest = builder.sdiv(builder.sub(size, whole), integer(VECTOR // kind.count))
        lanes = ir.Constant(ir.VectorType(ir.IntType(64), kind.count), [*range(kind.count)])
        generate(whole, builder.icmp_signed("<", lanes, _broadcast(builder, lanes.type, rest)))


def _dot_rows(
    builder: Any,
    kind: Any,
    vectors: list[Any],
    rows: tuple[Any, int, Any],
    size: Any,
    write: Callable[[Any, list[list[Any]]], None],
) -> None:
    """Write the products of each vector and each row; one load of a row serves all vectors.

    ``write`` takes the index of the first of four rows, and for each vector four vectors of sums.
    """
    addresses, code, count = rows
    with _range(builder, integer(0), count, 4) as (j, _):
        offset = builder.mul(j, integer(8))
        four_rows = [
            load(builder, ir.IntType(64), addresses, builder.add(offset, integer(8 * i)))
            for i in range(4)
        ]
        totals = [[cgutils.alloca_once(builder, kind) for _ in four_rows] for _ in vectors]
        for total in chain(*totals):
            builder.store(ir.Constant(kind, None), total)

        def add_columns(offset: Any, mask: Any) -> None:
            lefts = [load(builder, kind, vector, offset, mask) for vector in vectors]
            for i, address in enumerate(four_rows):
                right = load_stored(builder, kind, code, address, offset, mask)
                for left, total in zip(lefts, totals, strict=True):
                    sum_ = _multiply_add(builder, left, right, builder.load(total[i]))
                    builder.store(sum_, total[i])

        _for_vectors(builder, kind, integer(0), size, add_columns)
        write(j, [[builder.load(each) for each in total] for total in totals])


@llvm
def dot(typing, vector, rows, code, count, out, size, like):  # type: ignore[no-untyped-def]
    """out[j] = vector . row j, for rows in steps of four."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, rows, code, count, out, size, _ = args
        kind = _vector_type(context, like)

        def write(j: Any, totals: list[list[Any]]) -> None:
            sums = _horizontal_sums(builder, totals[0])
            store(builder, sums, out, builder.mul(j, _itemsize(like)))

        def all_rows(each: int) -> None:
            _dot_rows(builder, kind, [vector], (rows, each, count), size, write)

        for_each_format(builder, like, code, all_rows)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6, like), generate


@llvm
def dot_group(typing, vectors, rows, count, outs, size, group, like):  # type: ignore[no-untyped-def]
    """out[j] += vector . row j for a group of vectors, of a size in ``GROUPS``.

    Vectors and outs are given by the first address and a stride.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors, rows, count, outs, size, group, _ = args
        kind, native = _vector_type(context, like), (rows, NATIVE, count)

        def products(lefts: list[Any], outs: list[Any]) -> None:
            at_once = len(outs) if HAS_WIDE_REGISTERS else 2
            for i in range(0, len(outs), at_once):
                write = partial(_add_sums, builder, outs[i : i + at_once], count)
                _dot_rows(builder, kind, lefts[i : i + at_once], native, size, write)

        _for_each_group(builder, group, (vectors, outs), products)
        return context.get_dummy_value()

    integer = types.int64
    return types.void(PAIR, integer, integer, PAIR, integer, integer, like), generate


def _for_each_group(
    builder: Any,
    group: Any,
    pairs: tuple[Any, Any],
    generate: Callable[[list[Any], list[Any]], None],
) -> None:
    """Generate one branch for each size of a group, with the addresses that two pairs give."""
    (first, stride), (other, step) = (cgutils.unpack_tuple(builder, pair, 2) for pair in pairs)
    for size in GROUPS:
        with builder.if_then(builder.icmp_signed("==", group, integer(size))):
            steps = [integer(i) for i in range(size)]
            generate(
                [builder.add(first, builder.mul(stride, i)) for i in steps],
                [builder.add(other, builder.mul(step, i)) for i in steps],
            )


def _add_sums(builder: Any, outs: list[Any], count: Any, j: Any, totals: list[list[Any]]) -> None:
    """Add the sums of four vectors to the numbers j to j + 3 of each out, of those below count."""
    kind, num_lanes = totals[0][0].type.element, totals[0][0].type.count
    four, index = ir.VectorType(kind, 4), ir.VectorType(ir.IntType(64), 4)
    offset, rest = builder.mul(j, integer(VECTOR // num_lanes)), builder.sub(count, j)
    lanes = ir.Constant(index, [0, 1, 2, 3])
    mask = builder.icmp_signed("<", lanes, _broadcast(builder, index, rest))
    at_once = num_lanes // 4
    for first in range(0, len(outs), at_once):
        sums = _horizontal_sums(builder, [*chain(*totals[first : first + at_once])])
        for i, out in enumerate(outs[first : first + at_once]):
            own = _shuffle(builder, sums, sums, [*range(4 * i, 4 * i + 4)])
            total = builder.fadd(load(builder, four, out, offset, mask), own)
            store(builder, total, out, offset, mask)


def _power_of_two(number: int) -> int:
    """Return the largest power of two up to a number, at least 1."""
    return 1 << max(0, number.bit_length() - 1)


def _weighted_sums(
    builder: Any,
    kind: Any,
    rows: tuple[Any, int, Any],
    outs: list[Any],
    span: tuple[Any, Any],
    factor_at: Any,
    accumulate: bool = True,
) -> None:
    """Sum rows times factors for each out, with accumulators in registers.

    ``factor_at`` returns the factor of a row for an out. Several rows are added at once where there
    are few accumulators, since each addition waits for the one before it.
    """
    addresses, code, count = rows
    accumulators = 8 if len(outs) == 1 else 24 if HAS_WIDE_REGISTERS else 6

    def add_row(j: Any, offsets: list[Any], totals: list[list[Any]], mask: Any) -> None:
        row = load(builder, ir.IntType(64), addresses, builder.mul(j, integer(8)))
        rights = [load_stored(builder, kind, code, row, offset, mask) for offset in offsets]
        for i, total in enumerate(totals):
            factor = _broadcast(builder, kind, factor_at(j, i))
            for right, each in zip(rights, total, strict=True):
                builder.store(_multiply_add(builder, factor, right, builder.load(each)), each)

    def columns(begin: Any, vectors: int, mask: Any = None) -> None:
        """Columns of so many vectors at once."""
        at_once = _power_of_two(accumulators // (vectors * len(outs)))
        offsets = [builder.add(begin, integer(i * VECTOR)) for i in range(vectors)]
        totals = [
            [[cgutils.alloca_once(builder, kind) for _ in offsets] for _ in outs]
            for _ in range(at_once)
        ]
        for each in chain(*chain(*totals)):
            builder.store(ir.Constant(kind, None), each)
        whole = builder.and_(count, integer(-at_once))
        with _range(builder, integer(0), whole, at_once) as (j, _):
            for i, own in enumerate(totals):
                add_row(builder.add(j, integer(i)), offsets, own, mask)
        if at_once > 1:
            with _range(builder, whole, count, 1) as (j, _):
                add_row(j, offsets, totals[0], mask)
        for i, out in enumerate(outs):
            for k, offset in enumerate(offsets):
                total = builder.load(totals[0][i][k])
                for own in totals[1:]:
                    total = builder.fadd(total, builder.load(own[i][k]))
                if accumulate:
                    total = builder.fadd(load(builder, kind, out, offset, mask), total)
                store(builder, total, out, offset, mask)

    first, end = span
    widths = (8, 4) if len(outs) == 1 else (4, 2) if HAS_WIDE_REGISTERS else ()
    for vectors in widths:
        size = builder.and_(builder.sub(end, first), integer(-vectors * VECTOR))
        last = builder.add(first, size)
        with _range(builder, first, last, vectors * VECTOR) as (begin, _):
            columns(begin, vectors)
        first = last
    _for_vectors(builder, kind, first, end, lambda begin, mask: columns(begin, 1, mask))


@llvm
def add(typing, factors, rows, code, count, total, span, like):  # type: ignore[no-untyped-def]
    """total += sum_j factors[j] row j, for the columns in a span of bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factors, rows, code, count, total, span, _ = args
        kind, ends = _vector_type(context, like), cgutils.unpack_tuple(builder, span, 2)

        def factor_at(j: Any, _: int) -> Any:
            return load(builder, kind.element, factors, builder.mul(j, _itemsize(like)))

        def all_rows(each: int) -> None:
            _weighted_sums(builder, kind, (rows, each, count), [total], ends, factor_at)

        for_each_format(builder, like, code, all_rows)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5, PAIR, like), generate


@llvm
def add_group(typing, factors, rows, count, totals, span, group, like):  # type: ignore[no-untyped-def]
    """The same for a group of totals and their factors, of a size in ``GROUPS``.

    Totals and factors are given by the first address and a stride.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factors, rows, count, totals, span, group, _ = args
        kind, ends = _vector_type(context, like), cgutils.unpack_tuple(builder, span, 2)

        def factor_at(factors: list[Any], j: Any, i: int) -> Any:
            return load(builder, kind.element, factors[i], builder.mul(j, _itemsize(like)))

        def sums(factors: list[Any], totals: list[Any]) -> None:
            at_once = len(totals) if HAS_WIDE_REGISTERS else max(2, len(totals) // 2)
            for i in range(0, len(totals), at_once):
                outs, own = totals[i : i + at_once], partial(factor_at, factors[i:])
                _weighted_sums(builder, kind, (rows, NATIVE, count), outs, ends, own)

        _for_each_group(builder, group, (factors, totals), sums)
        return context.get_dummy_value()

    integer = types.int64
    return types.void(PAIR, integer, integer, PAIR, PAIR, integer, like), generate


def _sum_of_gradient_terms(accumulate: bool) -> Any:
    """Return an intrinsic for rows times factors, each factor ``shift`` bytes after an address."""

    def signature_and_code(  # type: ignore[no-untyped-def]
        typing, factors, shift, rows, count, total, size, like
    ):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            factors, shift, rows, count, total, size, _ = args
            kind = _vector_type(context, like)

            def factor_at(j: Any, _: int) -> Any:
                address = load(builder, ir.IntType(64), factors, builder.mul(j, integer(8)))
                return load(builder, kind.element, address, shift)

            native = rows, NATIVE, count
            _weighted_sums(
                builder, kind, native, [total], (integer(0), size), factor_at, accumulate
            )
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
        total = builder.load(largest)
        while total.type.count > 1:
            half = total.type.count // 2
            index = ir.VectorType(ir.IntType(32), half)
            total = larger(*(
                builder.shuffle_vector(
                    total, total, ir.Constant(index, [*range(first, first + half)])
                )
                for first in (0, half)
            ))  # fmt: skip
        return builder.extract_element(total, integer(0, 32))

    return like(types.int64, types.int64, like), generate
