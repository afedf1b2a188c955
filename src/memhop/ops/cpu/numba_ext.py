"""What code compiled by numba needs beyond Python: options, memory by address, number formats."""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.ccallback import CFunc
from numba.extending import intrinsic, overload

from memhop.ops.cpu.kernel_cache import KernelCache

_untyped: Any = numba  # its types know less than it takes
carray, njit = _untyped.carray, _untyped.njit

# What the bytes of a row are; the first is whatever is computed in.
AS_COMPUTED, BFLOAT16, FLOAT16, INT8 = range(4)


OPTIONS: dict[str, Any] = {"error_model": "numpy"}
REORDERED: dict[str, Any] = {"fastmath": {"reassoc", "contract"}}


def compiled(function: Any = None, *, strict: bool = False) -> Any:
    """A function for compiled code to call, compiled once for each dtype.

    Sums may be reordered, so that they are vectorized; infinities and NaN keep their meaning.
    ``strict`` leaves the order of operations as it is written. There is none of the wrapping for
    calls from Python, which takes half of the time to compile.
    """
    if function is None:
        return lambda function: compiled(function, strict=strict)
    options = OPTIONS if strict else OPTIONS | REORDERED
    return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function)


JOB_SIGNATURE = types.void(types.int64)


def job(function: Any) -> Any:
    """Return a function of the address of a record as a C function, compiled or from the cache.

    C, as threads that know no Python call it.
    """
    signature, options = ((types.int64,), types.void), OPTIONS | REORDERED
    made: Any = CFunc(function, signature, locals={}, options=options)
    made._cache = cache = KernelCache(function)
    with cache.exclusive(JOB_SIGNATURE):
        made.compile()
    return made


def instructions(function: Any) -> Any:
    """Something that compiled code is to do, in the instructions of LLVM."""
    return intrinsic(function)


@instructions
def _pointer(typing: Any, address: Any, like: Any) -> Any:
    """An address as a pointer to numbers of the dtype of an array or scalar."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.inttoptr(given[0], context.get_value_type(signature.return_type))

    pointer: Any = types.CPointer
    return pointer(getattr(like, "dtype", like))(types.int64, like), generate


@instructions
def _float_of_bits(typing: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.bitcast(given[0], ir.FloatType())

    return types.float32(types.uint32), generate


@instructions
def _bits_of_float(typing: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.bitcast(given[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@instructions
def _float_of_half(typing: Any, bits: Any) -> Any:
    """IEEE half precision, which numba has no type for; the processor converts eight at a time."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.fpext(builder.bitcast(given[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@instructions
def _half_of_float(typing: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.bitcast(builder.fptrunc(given[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), generate


@instructions
def _add_to(typing: Any, address: Any, number: Any) -> Any:
    """Add to the number at an address, as one step that threads cannot share: what it was."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = builder.inttoptr(given[0], ir.PointerType(ir.IntType(64)))
        return builder.atomic_rmw("add", place, given[1], "monotonic")

    return types.int64(types.int64, types.int64), generate


@compiled
def numbers_at(address, count, like):  # type: ignore[no-untyped-def]
    """The numbers at an address, in the dtype of an array or scalar; nothing is copied."""
    return carray(_pointer(address, like), count)


@compiled
def take_turn(turns):  # type: ignore[no-untyped-def]
    """Which piece of work is next, 0, 1, ...; each is given to one thread only."""
    return _add_to(turns, 1)


@instructions
def _any_pointer(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.inttoptr(given[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), generate


@compiled
def records_at(address, count, layout):  # type: ignore[no-untyped-def]
    """The records at an address; nothing is copied."""
    return carray(_any_pointer(address), count, layout)


@compiled
def number_at(kind, address, place, like):  # type: ignore[no-untyped-def]
    """One of the numbers at an address, whatever their format."""
    if kind == AS_COMPUTED:
        return numbers_at(address, place + 1, like)[place]
    if kind == INT8:
        return like + numbers_at(address, place + 1, np.int8(0))[place]
    half = numbers_at(address, place + 1, np.uint16(0))[place]
    if kind == BFLOAT16:
        return like + _float_of_bits(np.uint32(half) << np.uint32(16))
    return like + _float_of_half(half)


@compiled
def narrow(kind, row, address):  # type: ignore[no-untyped-def]
    """Round a row to the format at an address: to nearest, ties to even."""
    count = row.shape[0]
    if kind == AS_COMPUTED:
        numbers = numbers_at(address, count, row)
        for k in range(count):
            numbers[k] = row[k]
    elif kind == BFLOAT16:
        halves = numbers_at(address, count, np.uint16(0))
        for k in range(count):
            bits = _bits_of_float(np.float32(row[k]))
            even = (bits >> np.uint32(16)) & np.uint32(1)
            rounded = (bits + np.uint32(0x7FFF) + even) >> np.uint32(16)
            number = np.float32(row[k])
            halves[k] = np.uint16(0x7FC0) if number != number else np.uint16(rounded)
    elif kind == FLOAT16:
        halves = numbers_at(address, count, np.uint16(0))
        for k in range(count):
            halves[k] = _half_of_float(np.float32(row[k]))


def exponential(x: Any) -> Any:
    """e to the x, for x at most 0; compiled code calls it."""
    raise NotImplementedError("for compiled code")


@compiled(strict=True)
def _exponential32(x):  # type: ignore[no-untyped-def]
    """In operations that the processor has for eight numbers at once; within 2 units at the end.

    x = n ln 2 + r, with ln 2 in two parts so that n times the first is exact; then a series in r.
    """
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    n = max(n, np.float32(-126))
    r = (x - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
    series = np.float32(1 / 720)
    series = series * r + np.float32(1 / 120)
    series = series * r + np.float32(1 / 24)
    series = series * r + np.float32(1 / 6)
    series = series * r + np.float32(0.5)
    series = (series * r) * r + r
    power = _float_of_bits(np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23))
    return np.float32(0) if x < np.float32(-87) else series * power + power


@overload(exponential)
def _exponential_of(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _exponential32(x)
    return lambda x: np.exp(x)


def bytes_of(number: Any) -> Any:
    """How many bytes a number of this dtype takes; compiled code calls it."""
    raise NotImplementedError("for compiled code")


@overload(bytes_of)
def _bytes_of(number):  # type: ignore[no-untyped-def]
    size = number.bitwidth // 8
    return lambda number: size
