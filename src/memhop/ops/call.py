"""A checked call of an operation, and the short way to one that most calls take."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.inputs import Hop, Memory, is_dense

HALF = (torch.bfloat16, torch.float16)
FLOATING = (torch.float32, torch.float64, *HALF)


class Precision(NamedTuple):
    """The dtype of the results and the compute dtype; ``as_given``: nothing has to be cast."""

    result: torch.dtype
    computed: torch.dtype
    as_given: bool


OF_ONE_DTYPE = {
    dtype: Precision(dtype, torch.float32 if dtype in HALF else dtype, dtype not in HALF)
    for dtype in FLOATING
}


class Attention(NamedTuple):
    """The options of a ``multi_hop`` that concern all hops: heads, dropout, order of the slots."""

    num_heads: int = 1
    dropout: float = 0.0
    newest_first: bool = False


PLAIN = Attention()


class Outputs(NamedTuple):
    """What a form returns, in the compute dtype, each with the leading axes of the result.

    Attributes:
        result: o of a ``read``, or q after the last hop.
        weights: p [..., K, N], with heads [..., K, H, N], or None if not needed.
        lse: log sum_i exp(s_i) of a ``read``, [...], or None if not needed.
    """

    result: Tensor
    weights: Tensor | None = None
    lse: Tensor | None = None


class Call(NamedTuple):
    """A checked call of ``read``, which has no hops, or of ``multi_hop``.

    Attributes:
        batch: the leading axes of the result.
        num_slots: N.
        is_plain: there are only query, memories and tables without temporal rows, all in the
            compute dtype, and one head without dropout.
        softmax: of a ``read``.
        need_lse: a ``read`` also returns log sum_i exp(s_i).
        num_heads, dropout, newest_first: as in ``Attention``.
        window: the memory [..., T + N - 1, I] of which ``memory`` is the view [..., T, N, I] of the
            windows of T queries; None without a window.
        is_repeated: a layer repeats the call, so that little Python runs around its kernels, which
            are loaded.
    """

    query: Tensor
    memory: Memory
    hops: Sequence[Hop]
    batch: tuple[int, ...]
    num_slots: int
    precision: Precision
    is_plain: bool = False
    softmax: bool = True
    num_heads: int = 1
    dropout: float = 0.0
    newest_first: bool = False
    need_lse: bool = False
    window: Memory | None = None
    is_repeated: bool = False


def common_case(query: Tensor, memory: Memory, hops: Sequence[Hop]) -> Call | None:
    """Return a call with one head, one dtype, one memory a row or one for all, at most a mask.

    None means that the arguments include something else, or are invalid.
    """
    keys, values, slots, mask, lengths, score_bias = memory
    if not (values is None and slots is None and lengths is None and score_bias is None):
        return None
    if not (isinstance(keys, Tensor) and is_dense(query) and is_dense(keys)):
        return None
    dtype, device, shape, rows = query.dtype, query.device, query.shape, keys.shape
    if keys.dtype != dtype or keys.device != device or len(shape) < 1 or len(rows) < 2:
        return None
    precision = OF_ONE_DTYPE.get(dtype)
    if precision is None or autocast_dtype("cpu" if query.is_cpu else device.type) is not None:
        return None
    batch, num_slots = shape[:-1], rows[-2]
    if len(rows) > 2 and rows[:-2] != batch:
        return None
    # One line for each weight, since there are many. Temporal rows and H are checked one by one.
    memory_dim, sizes = shape[-1:], (shape[-1], rows[-1])
    for a, c, transform, relu, _ in hops:
        for weight, bias, temporal in (a, c):
            if weight is None:
                return None
            if weight.shape != sizes or weight.dtype != dtype or weight.device != device:
                return None
            if bias is not None and (
                bias.shape != memory_dim or bias.dtype != dtype or bias.device != device
            ):
                return None
            if temporal is not None:
                return None
        if transform is not None or not isinstance(relu, (bool, float)) or not 0 <= relu <= 1:
            return None
    if mask is None:
        return Call(query, memory, hops, batch, num_slots, precision, precision.as_given)
    over_slots = (*batch, num_slots) if len(rows) > 2 or len(mask.shape) > 1 else rows[-2:-1]
    if not is_dense(mask) or mask.dtype != torch.bool or mask.device != device:
        return None
    if mask.shape != over_slots:
        return None
    return Call(query, memory, hops, batch, num_slots, precision)


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """Return the dtype of ``torch.autocast``, or None if it is off or the device has none."""
    if device_type == "meta" or not torch.is_autocast_enabled(device_type):
        return None
    return torch.get_autocast_dtype(device_type)
