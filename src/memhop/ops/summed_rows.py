"""One read of slots that are sums of rows of a bank: a statement's row and its age's, say.

The memory of slot i is k_i = sum_t K[rows_ti] as a key and v_i = sum_t V[rows_ti] as a value;
p_i = softmax_i(q . k_i), o = sum_i p_i v_i. No slot's memory is ever laid out.
"""

import torch
from torch import Tensor

from memhop.ops.reference import attention

_WORTH_COMPILING = 8  # questions; a few never wait for the compiler, however many restarts read


def read_summed_rows(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: Tensor,
    lengths: Tensor,
    *,
    mask_rest: bool,
    softmax: bool = True,
    heads: int = 1,
) -> tuple[Tensor, Tensor]:
    """Read slots that are sums of rows; what stands on the leading axes has a bank each.

    Args:
        query: q, [..., B, d].
        keys, values: K and V, [..., U, d].
        rows: int64 [..., B, S, N], which S rows of the bank each slot is the sum of. From
            ``lengths`` on, the slots of a question all name the same rows.
        lengths: int64 [..., B], slots in use.
        mask_rest: whether the slots from ``lengths`` on take no attention.
        softmax: without it the scores are the weights.
        heads: reads beside each other, each of d / ``heads`` columns with weights of its own.

    Returns:
        o [..., B, d] and p [..., B, N], the mean of all heads; where no slot is left, both are
        zero.
    """
    if not _compiled_form_fits(query, rows):
        return _in_torch(query, keys, values, rows, lengths, mask_rest, softmax, heads)
    from memhop.ops import summed_rows_cpu  # numba takes half a second to import

    if heads == 1:
        return summed_rows_cpu.read(query, keys, values, rows, lengths, mask_rest, softmax)
    query, keys, values = (
        part.view(*part.shape[:-1], heads, -1).movedim(-2, -3) for part in (query, keys, values)
    )
    rows, lengths = _repeated(rows, -4, heads), _repeated(lengths, -2, heads)
    read, weights = summed_rows_cpu.read(query, keys, values, rows, lengths, mask_rest, softmax)
    return read.movedim(-3, -2).flatten(-2), weights.mean(-3)


def _repeated(tensor: Tensor, axis: int, times: int) -> Tensor:
    """A new axis, the same all along; no copy."""
    wide = tensor.unsqueeze(axis)
    return wide.expand(*(times if place == axis else -1 for place in range(-wide.dim(), 0)))


def _compiled_form_fits(query: Tensor, rows: Tensor) -> bool:
    on_cpu = query.device.type == "cpu" and query.dtype in (torch.float32, torch.float64)
    return on_cpu and rows.shape[-3] >= _WORTH_COMPILING and not torch.compiler.is_compiling()


def _in_torch(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: Tensor,
    lengths: Tensor,
    mask_rest: bool,
    softmax: bool,
    heads: int = 1,
) -> tuple[Tensor, Tensor]:
    """The memory of each slot is laid out: few operations, where there are few questions."""
    slot = torch.arange(rows.shape[-1], device=rows.device)
    ignored = (slot >= lengths.unsqueeze(-1)).unsqueeze(-2) if mask_rest else None
    by_head = query.view(*query.shape[:-1], 1, heads, query.shape[-1] // heads)
    scores = (_slots(keys, rows, heads) * by_head).sum(-1).mT
    weights = attention(scores, ignored, softmax)
    read = (_slots(values, rows, heads) * weights.mT.unsqueeze(-1)).sum(-3)
    return read.flatten(-2), weights.mean(-2)


def _slots(bank: Tensor, rows: Tensor, heads: int) -> Tensor:
    """The sums of the rows of each slot, [..., B, N, heads, d / heads]."""
    index = rows.flatten(-3).unsqueeze(-1)
    picked = bank.gather(-2, index.expand(*index.shape[:-1], bank.shape[-1]))
    return picked.view(*rows.shape, heads, bank.shape[-1] // heads).sum(-4)
