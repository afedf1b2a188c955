"""Arithmetic in one fixed order: the same bits on every processor.

The BLAS of a machine sums a matrix product in an order and with instructions of its own, and torch
has vectorized sums and exponentials for each instruction set, so their rounding errors differ
between processors. A budget that is measured with ``FixedOrder`` does not.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a running sum: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b``: for k = 0, 1, ... one fused multiply-add.

    The product of two float32 numbers is exact in float64.
    """
    total = torch.zeros(*a.shape[:-1], b.shape[-1], dtype=accumulator(a.dtype))
    for k in range(a.shape[-1]):
        product = a[..., :, k, None].double() * b[..., k, None, :].double()
        total = (total.double() + product).to(total.dtype)
    return total.to(a.dtype)


def linear(bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b + bias``, rounded to the dtype after both steps."""
    return sum_of_products(a, b) + bias


def sum_over(x: Tensor, axes: Sequence[int] | None, keepdim: bool = False, **_: Any) -> Tensor:
    """Return the sum over axes, one addition after the other."""
    total = x.to(accumulator(x.dtype))
    for axis in axes or range(x.dim()):
        parts = total.unbind(axis)
        total = torch.zeros_like(total.narrow(axis, 0, 1) if parts else total.sum(axis, True))
        for part in parts:
            total = total + part.unsqueeze(axis)
    if not keepdim:
        total = total.squeeze(tuple(axes or range(x.dim())))
    return total.to(x.dtype)


def mean_over(x: Tensor, axes: Sequence[int] | None, keepdim: bool = False, **_: Any) -> Tensor:
    """Return the mean over axes, the sum of which is in order."""
    count = math.prod(x.shape[axis] for axis in axes or range(x.dim()))
    return (sum_over(x.to(accumulator(x.dtype)), axes, keepdim) / count).to(x.dtype)


def softmax(scores: Tensor, axis: int, _: bool) -> Tensor:
    """Return the softmax; exp is computed in float64, as that of float32 differs by processor."""
    if scores.shape[axis] == 0:
        return scores.clone()
    full = scores.to(accumulator(scores.dtype))
    powers = (full - full.amax(axis, keepdim=True)).double().exp().to(full.dtype)
    return (powers / sum_over(powers, [axis], True)).to(scores.dtype)


def softmax_backward(grad: Tensor, weights: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    """Return the gradient of the scores: p (g - sum p g)."""
    p = weights.to(accumulator(dtype))
    product = p * grad
    return (product - p * sum_over(product, [axis], True)).to(dtype)


IN_ORDER: dict[Any, Callable[..., Tensor]] = {
    aten.mm.default: sum_of_products,
    aten.bmm.default: sum_of_products,
    aten.addmm.default: linear,
    aten.sum.default: lambda x, **_: sum_over(x, None),
    aten.sum.dim_IntList: sum_over,
    aten.mean.dim: mean_over,
    aten._softmax.default: softmax,
    aten._softmax_backward_data.default: softmax_backward,
}
# Their order of summation is not fixed here: a test that needs one of them extends ``IN_ORDER``.
REFUSED = {"mv", "dot", "addmv", "addbmm", "baddbmm", "mean", "logsumexp", "prod", "_log_softmax"}


class FixedOrder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """In this context torch's products, sums and softmax, and their gradients, are in order."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        assert func in IN_ORDER or name not in REFUSED, f"{name} has no fixed order of summation"
        return IN_ORDER.get(func, func)(*args, **(kwargs or {}))


class WithoutCancellation(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """In this context a backward adds absolute values: a bound for every intermediate sum.

    The rounding error of a sum is proportional to the sum of its absolute values, however small
    the sum itself is.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is aten._softmax_backward_data.default:
            grad, p, axis, _ = args
            return p * (grad.abs() + (p * grad.abs()).sum(axis, keepdim=True))
        if func in IN_ORDER or func is aten.mul.Tensor:
            args = [arg.abs() if isinstance(arg, Tensor) else arg for arg in args]
        return func(*args, **(kwargs or {}))
