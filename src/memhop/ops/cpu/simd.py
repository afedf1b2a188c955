"""Rows by whole vectors of numbers, in the instructions of LLVM, for code compiled by numba.

From a plain loop the compiler makes vectors of half the width that the processor has, and reads and
writes a sum once for every four rows; these are all that a hop spends its time on. A vector
has 64 bytes, whatever the processor: LLVM makes several of one that is too wide. Sums are taken in
an order that follows from the sizes alone.

Each takes rows by their addresses and ``size``, the bytes that are whole vectors in the dtype of
``like``, which is computed in; rows of a memory may be ``stored`` in another format and are
converted in registers. The few columns that are left over are for the caller.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils

from memhop.ops.cpu.numba_ext import AS_COMPUTED, BFLOAT16, FLOAT16, INT8, instructions

cgutils: Any = _cgutils  # its types know less than it takes

VECTOR = 64  # bytes

CONTRACT = ("contract",)  # a product and a sum may become one operation


def _vector_type(context: Any, like: Any) -> Any:
    return ir.VectorType(context.get_value_type(like), VECTOR * 8 // like.bitwidth)


def _place(builder: Any, kind: Any, address: Any, offset: Any) -> Any:
    return builder.inttoptr(builder.add(address, offset), ir.PointerType(kind))


def _load(builder: Any, kind: Any, address: Any, offset: Any) -> Any:
    """A vector, or a number; it need not be aligned."""
    return builder.load(_place(builder, kind, address, offset), align=1)


def _load_stored(builder: Any, kind: Any, stored: int, address: Any, offset: Any) -> Any:
    """A vector of numbers that are stored in another format; ``offset`` is for their own."""
    if stored == AS_COMPUTED:
        return _load(builder, kind, address, offset)
    bits = 8 if stored == INT8 else 16
    offset = builder.lshr(offset, _integer((32 // bits).bit_length() - 1))
    numbers = _load(builder, ir.VectorType(ir.IntType(bits), kind.count), address, offset)
    if stored == FLOAT16:
        halves = builder.bitcast(numbers, ir.VectorType(ir.HalfType(), kind.count))
        return builder.fpext(halves, kind)
    wide = ir.VectorType(ir.IntType(32), kind.count)
    if stored == INT8:
        return builder.sitofp(builder.sext(numbers, wide), kind)
    high = ir.Constant(wide, [16] * kind.count)
    return builder.bitcast(builder.shl(builder.zext(numbers, wide), high), kind)


def _for_each_format(builder: Any, like: Any, stored: Any, write: Callable[[int], None]) -> None:
    """Write code for every format that rows may be stored in; float64 is stored as such only."""
    if like.bitwidth > 32:
        write(AS_COMPUTED)
        return
    for each in (AS_COMPUTED, BFLOAT16, FLOAT16, INT8):
        with builder.if_then(builder.icmp_signed("==", stored, _integer(each))):
            write(each)


def _store(builder: Any, value: Any, address: Any, offset: Any) -> None:
    builder.store(value, _place(builder, value.type, address, offset), align=1)


def _repeated(builder: Any, kind: Any, number: Any) -> Any:
    """A vector of one number."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, _integer(0, 32))
    places = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), places)


def _number(like: Any) -> Any:
    """The bytes of a number."""
    return _integer(like.bitwidth // 8)


def _integer(number: int, bits: int = 64) -> Any:
    return ir.Constant(ir.IntType(bits), number)


def _multiplied_and_added(builder: Any, left: Any, right: Any, total: Any) -> Any:
    return builder.fadd(total, builder.fmul(left, right, flags=CONTRACT), flags=CONTRACT)


def _range(builder: Any, first: Any, last: Any, step: int) -> Any:
    """A loop; its body is given the number."""
    return cgutils.for_range_slice(builder, first, last, _integer(step))


def _halved(builder: Any, left: Any, right: Any, piece: int) -> Any:
    """Of each piece of so many numbers, first half plus second half; left's, then right's."""
    count = left.type.count * (1 if right is left else 2)
    first = [i for i in range(count) if i % piece < piece // 2]
    kind = ir.VectorType(ir.IntType(32), len(first))
    parts = [
        builder.shuffle_vector(left, right, ir.Constant(kind, [i + shift for i in first]))
        for shift in (0, piece // 2)
    ]
    return builder.fadd(*parts)


def _sums(builder: Any, vectors: list[Any]) -> Any:
    """Four numbers, the sum of each of four vectors: all four in one, halved again and again."""
    piece = vectors[0].type.count
    first, second, third, fourth = vectors
    left, right = _halved(builder, first, second, piece), _halved(builder, third, fourth, piece)
    total = _halved(builder, left, right, piece // 2)
    while total.type.count > 4:
        piece = total.type.count // 4
        total = _halved(builder, total, total, piece)
    return total


@instructions
def dot(typing, vector, rows, stored, count, out, size, like):  # type: ignore[no-untyped-def]
    """out j = vector . row j, for rows in steps of four."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        vector, rows, stored, count, out, size, _ = given
        kind = _vector_type(context, like)

        def four(each: int, addresses: list[Any]) -> Any:
            totals = [cgutils.alloca_once(builder, kind) for _ in addresses]
            for total in totals:
                builder.store(ir.Constant(kind, None), total)
            with _range(builder, _integer(0), size, VECTOR) as (offset, _):
                left = _load(builder, kind, vector, offset)
                for address, total in zip(addresses, totals, strict=True):
                    right = _load_stored(builder, kind, each, address, offset)
                    sum_ = _multiplied_and_added(builder, left, right, builder.load(total))
                    builder.store(sum_, total)
            return _sums(builder, [builder.load(total) for total in totals])

        def all_rows(each: int) -> None:
            with _range(builder, _integer(0), count, 4) as (j, _):
                at = builder.mul(j, _integer(8))
                addresses = [
                    _load(builder, ir.IntType(64), rows, builder.add(at, _integer(8 * i)))
                    for i in range(4)
                ]
                sums = four(each, addresses)
                _store(builder, sums, out, builder.mul(j, _number(like)))

        _for_each_format(builder, like, stored, all_rows)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6, like), generate


def _sum_of_rows(
    builder: Any,
    kind: Any,
    rows: tuple[Any, int, Any],
    out: tuple[Any, Any],
    factor_at: Any,
    anew: bool = False,
) -> None:
    """Rows times factors, added up in registers, for as many columns at once as there are some."""
    (addresses, stored, count), (out, size) = rows, out

    def columns(first: Any, last: Any, vectors: int) -> None:
        """Columns of so many vectors at once."""
        with _range(builder, first, last, vectors * VECTOR) as (begin, _):
            places = [builder.add(begin, _integer(i * VECTOR)) for i in range(vectors)]
            totals = [cgutils.alloca_once(builder, kind) for _ in places]
            for place, total in zip(places, totals, strict=True):
                there = ir.Constant(kind, None) if anew else _load(builder, kind, out, place)
                builder.store(there, total)
            with _range(builder, _integer(0), count, 1) as (j, _):
                factor = _repeated(builder, kind, factor_at(j))
                row = _load(builder, ir.IntType(64), addresses, builder.mul(j, _integer(8)))
                for place, total in zip(places, totals, strict=True):
                    right = _load_stored(builder, kind, stored, row, place)
                    sum_ = _multiplied_and_added(builder, factor, right, builder.load(total))
                    builder.store(sum_, total)
            for place, total in zip(places, totals, strict=True):
                _store(builder, builder.load(total), out, place)

    first = _integer(0)
    for vectors in (8, 4, 1):
        last = builder.and_(size, _integer(-vectors * VECTOR))
        columns(first, last, vectors)
        first = last


@instructions
def add(typing, factors, rows, stored, count, total, size, like):  # type: ignore[no-untyped-def]
    """total += sum_j factor j row j."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        factors, rows, stored, count, total, size, _ = given
        kind = _vector_type(context, like)

        def factor_at(j: Any) -> Any:
            return _load(builder, kind.element, factors, builder.mul(j, _number(like)))

        def all_rows(each: int) -> None:
            _sum_of_rows(builder, kind, (rows, each, count), (total, size), factor_at)

        _for_each_format(builder, like, stored, all_rows)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6, like), generate


def _sum_of_terms(anew: bool) -> Any:
    """Rows times factors that lie ``shift`` bytes behind the addresses given for them."""

    def signature_and_code(  # type: ignore[no-untyped-def]
        typing, factors, shift, rows, count, total, size, like
    ):
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            factors, shift, rows, count, total, size, _ = given
            kind = _vector_type(context, like)

            def factor_at(j: Any) -> Any:
                at = builder.mul(j, _integer(8))
                address = _load(builder, ir.IntType(64), factors, at)
                return _load(builder, kind.element, address, shift)

            computed = rows, AS_COMPUTED, count
            _sum_of_rows(builder, kind, computed, (total, size), factor_at, anew)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6, like), generate

    return instructions(signature_and_code)


combine_terms, add_terms = _sum_of_terms(anew=True), _sum_of_terms(anew=False)


@instructions
def largest(typing, numbers, size, like):  # type: ignore[no-untyped-def]
    """The largest of the numbers at an address, which fill whole vectors, at least one."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        numbers, size, _ = given
        kind = _vector_type(context, like)
        top = cgutils.alloca_once_value(builder, _load(builder, kind, numbers, _integer(0)))

        def larger(left: Any, right: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", left, right), left, right)

        with _range(builder, _integer(VECTOR), size, VECTOR) as (offset, _):
            other = _load(builder, kind, numbers, offset)
            builder.store(larger(other, builder.load(top)), top)
        numbers = [
            builder.extract_element(builder.load(top), _integer(i, 32)) for i in range(kind.count)
        ]
        while len(numbers) > 1:
            numbers = [larger(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
        return numbers[0]

    return like(types.int64, types.int64, like), generate
