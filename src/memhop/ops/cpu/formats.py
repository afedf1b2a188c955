"""Storage formats of memories on the CPU: how compiled code widens and narrows their elements.

A memory may be stored in fewer bits than the dtype computed in. ``FORMATS`` lists these dtypes: a
new one is one more entry. The functions generate LLVM IR for one element or for a SIMD vector.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils

from memhop.ops.cpu.numba_ext import llvm

cgutils: Any = _cgutils  # its type stubs are incomplete

LANES = 16  # elements that a row is narrowed in at once


class Format(NamedTuple):
    """A storage dtype that is computed in float32.

    Attributes:
        dtype: the dtype of the tensors.
        bits: of an element.
        widen: (builder, integers, float type) -> floats; the integers are the stored bits.
        narrow: (builder, floats, integer type) -> integers, rounded to nearest, ties to even;
            None where a memory has no gradient.
    """

    dtype: torch.dtype
    bits: int
    widen: Callable[[Any, Any, Any], Any]
    narrow: Callable[[Any, Any, Any], Any] | None


def _like(kind: Any, element: Any) -> Any:
    """Return a scalar or vector type of other elements."""
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def _constant(kind: Any, number: Any) -> Any:
    is_vector = isinstance(kind, ir.VectorType)
    return ir.Constant(kind, [number] * kind.count if is_vector else number)


def _widen_bfloat16(builder: Any, integers: Any, kind: Any) -> Any:
    wide = _like(kind, ir.IntType(32))
    return builder.bitcast(builder.shl(builder.zext(integers, wide), _constant(wide, 16)), kind)


def _narrow_bfloat16(builder: Any, floats: Any, kind: Any) -> Any:
    wide = _like(kind, ir.IntType(32))
    bits, half = builder.bitcast(floats, wide), _constant(wide, 16)
    odd = builder.and_(builder.lshr(bits, half), _constant(wide, 1))
    rounded = builder.add(builder.add(bits, _constant(wide, 0x7FFF)), odd)
    rounded = builder.trunc(builder.lshr(rounded, half), kind)
    is_nan = builder.fcmp_unordered("uno", floats, floats)
    return builder.select(is_nan, _constant(kind, 0x7FC0), rounded)


def _widen_float16(builder: Any, integers: Any, kind: Any) -> Any:
    return builder.fpext(builder.bitcast(integers, _like(kind, ir.HalfType())), kind)


def _narrow_float16(builder: Any, floats: Any, kind: Any) -> Any:
    return builder.bitcast(builder.fptrunc(floats, _like(kind, ir.HalfType())), kind)


def _widen_int8(builder: Any, integers: Any, kind: Any) -> Any:
    return builder.sitofp(builder.sext(integers, _like(kind, ir.IntType(32))), kind)


# A format's code is its index here plus 1.
FORMATS = (
    Format(torch.bfloat16, 16, _widen_bfloat16, _narrow_bfloat16),
    Format(torch.float16, 16, _widen_float16, _narrow_float16),
    Format(torch.int8, 8, _widen_int8, None),
)
NATIVE = 0  # the code of the dtype computed in
CODES = {each.dtype: code for code, each in enumerate(FORMATS, 1)}


def code_of(dtype: torch.dtype) -> int:
    """Return the code of a storage dtype."""
    return CODES.get(dtype, NATIVE)


def integer(number: int, bits: int = 64) -> Any:
    """Return a constant of LLVM."""
    return ir.Constant(ir.IntType(bits), number)


def pointer_to(builder: Any, kind: Any, address: Any, offset: Any) -> Any:
    """Return the pointer to a value so many bytes after an address."""
    return builder.inttoptr(builder.add(address, offset), ir.PointerType(kind))


def load(builder: Any, kind: Any, address: Any, offset: Any, mask: Any = None) -> Any:
    """Load a vector or scalar; it need not be aligned. Lanes outside of a mask are zero."""
    pointer = pointer_to(builder, kind, address, offset)
    if mask is None:
        return builder.load(pointer, align=1)
    zeros = ir.Constant(kind, None)
    return _masked(builder, "load", kind, kind, [pointer, integer(1, 32), mask, zeros])


def store(builder: Any, value: Any, address: Any, offset: Any, mask: Any = None) -> None:
    """Store a vector or scalar, or its lanes in a mask; it need not be aligned."""
    kind, pointer = value.type, pointer_to(builder, value.type, address, offset)
    if mask is None:
        builder.store(value, pointer, align=1)
        return
    _masked(builder, "store", kind, ir.VoidType(), [value, pointer, integer(1, 32), mask])


def _masked(builder: Any, name: str, kind: Any, result: Any, arguments: list[Any]) -> Any:
    """Call ``llvm.masked.load`` or ``llvm.masked.store`` for a vector type."""
    element = kind.element
    letter = f"i{element.width}" if isinstance(element, ir.IntType) else element.intrinsic_name
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    full_name = f"llvm.masked.{name}.v{kind.count}{letter}.p0"
    function = cgutils.get_or_insert_function(builder.module, signature, full_name)
    return builder.call(function, arguments)


def load_stored(
    builder: Any, kind: Any, code: int, address: Any, offset: Any, mask: Any = None
) -> Any:
    """Load a float32 vector or scalar from a format; ``offset`` is that in an array of float32."""
    if code == NATIVE:
        return load(builder, kind, address, offset, mask)
    stored = FORMATS[code - 1]
    offset = builder.lshr(offset, integer((32 // stored.bits).bit_length() - 1))
    integers = load(builder, _like(kind, ir.IntType(stored.bits)), address, offset, mask)
    return stored.widen(builder, integers, kind)


def for_each_format(builder: Any, like: Any, code: Any, generate: Callable[[int], None]) -> None:
    """Generate one branch for each format; float64 has its own format only."""
    if like.bitwidth > 32:
        generate(NATIVE)
        return
    for each in range(len(FORMATS) + 1):
        with builder.if_then(builder.icmp_signed("==", code, integer(each))):
            generate(each)


@llvm
def store_row(typing, code, row, count, address, like):  # type: ignore[no-untyped-def]
    """Write the row of so many floats at one address to another, in a format."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code, row, count, address, _ = args
        kind, itemsize = context.get_value_type(like), like.bitwidth // 8
        whole = builder.and_(count, integer(-LANES))
        ranges = (
            (ir.VectorType(kind, LANES), integer(0), whole, LANES),
            (kind, whole, count, 1),
        )

        def store_as(each: int) -> None:
            stored = None if each == NATIVE else FORMATS[each - 1]
            if stored is not None and stored.narrow is None:
                return
            size = itemsize if stored is None else stored.bits // 8
            for part, first, last, step in ranges:
                with cgutils.for_range_slice(builder, first, last, integer(step)) as (index, _):
                    numbers = load(builder, part, row, builder.mul(index, integer(itemsize)))
                    if stored is not None and stored.narrow is not None:
                        integers = _like(part, ir.IntType(stored.bits))
                        numbers = stored.narrow(builder, numbers, integers)
                    store(builder, numbers, address, builder.mul(index, integer(size)))

        for_each_format(builder, like, code, store_as)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, like), generate
