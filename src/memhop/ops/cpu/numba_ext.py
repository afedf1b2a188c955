"""Extensions of numba: compilation options, arrays and records at an address, atomics, exp."""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.ccallback import CFunc
from numba.extending import intrinsic, overload

from memhop.ops.cpu.kernel_cache import KernelCache

_untyped: Any = numba  # its type stubs are incomplete
carray, njit = _untyped.carray, _untyped.njit

OPTIONS: dict[str, Any] = {"error_model": "numpy"}
REORDERED: dict[str, Any] = {"fastmath": {"reassoc", "contract"}}


def compiled(function: Any = None, *, strict: bool = False) -> Any:
    """Return a function that compiled code can call, compiled once for each dtype.

    Sums may be reordered, so that they are vectorized; infinities and NaN keep their meaning.
    ``strict`` keeps the order of operations. Python cannot call it: the wrapper for that takes
    half of the compile time.
    """
    if function is None:
        return lambda function: compiled(function, strict=strict)
    options = OPTIONS if strict else OPTIONS | REORDERED
    return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function)


JOB_SIGNATURE = types.void(types.int64)


def job(function: Any) -> Any:
    """Return a function of the address of a record as a C function, compiled or from the cache.

    It is a C function because OpenMP threads call it without the interpreter.
    """
    signature, options = ((types.int64,), types.void), OPTIONS | REORDERED
    made: Any = CFunc(function, signature, locals={}, options=options)
    made._cache = cache = KernelCache(function)
    with cache.exclusive(JOB_SIGNATURE):
        made.compile()
    return made


def llvm(function: Any) -> Any:
    """Return an intrinsic: a function that generates LLVM IR, for compiled code to call."""
    return intrinsic(function)


@llvm
def _pointer(typing: Any, address: Any, like: Any) -> Any:
    """An address as a pointer to elements of the dtype of an array or scalar."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    pointer: Any = types.CPointer
    return pointer(getattr(like, "dtype", like))(types.int64, like), generate


@llvm
def _void_pointer(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.int64), generate


@llvm
def fetch_and_add(typing: Any, address: Any, number: Any) -> Any:
    """Add to the int64 at an address in one atomic operation; return the previous number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.PointerType(ir.IntType(64)))
        return builder.atomic_rmw("add", pointer, args[1], "monotonic")

    return types.int64(types.int64, types.int64), generate


@compiled
def array_at(address, count, like):  # type: ignore[no-untyped-def]
    """Return the array at an address, in the dtype of an array or scalar; a view, no copy."""
    return carray(_pointer(address, like), count)


@compiled
def integers_at(address, count):  # type: ignore[no-untyped-def]
    """Return the int64 array at an address."""
    return array_at(address, count, np.int64(0))


@compiled
def records_at(address, count, layout):  # type: ignore[no-untyped-def]
    """Return the array of records at an address; a view, no copy."""
    return carray(_void_pointer(address), count, layout)


def exponential(x: Any) -> Any:
    """Return e to the x, for x at most 0, in compiled code."""
    raise NotImplementedError("for compiled code")


@compiled(strict=True)
def _exponential32(x):  # type: ignore[no-untyped-def]
    """Return e to the x within 2 units in the last place, in operations that vectorize.

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
    exponent = np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23)
    power = np.uint32(exponent).view(np.float32)
    return np.float32(0) if x < np.float32(-87) else series * power + power


@overload(exponential)
def _exponential_of(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _exponential32(x)
    return lambda x: np.exp(x)


def itemsize_of(number: Any) -> Any:
    """Return the bytes of a number of this dtype, in compiled code."""
    raise NotImplementedError("for compiled code")


@overload(itemsize_of)
def _itemsize_of(number):  # type: ignore[no-untyped-def]
    size = number.bitwidth // 8
    return lambda number: size
