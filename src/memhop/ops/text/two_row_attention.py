"""A memory of slots that are sums of rows of a bank: a statement's row and its age's, say.

The memory of slot i is k_i = sum_t K[rows_ti] as a key and v_i = sum_t V[rows_ti] as a value;
p_i = softmax_i(q . k_i), o = sum_i p_i v_i.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from memhop.ops.fused.addresses import are_readable
from memhop.ops.reference import attention

WORTH_COMPILING = 8  # questions; a few never wait for the compiler, however many restarts read


class TwoRowMemory:
    """Such a memory, to be read several times; what stands on the leading axes has banks each.

    For many questions no slot is ever laid out. For a few each slot is, once for all reads: that
    takes fewer operations, which is what the time of a few goes into.

    Args:
        banks: [..., U, d] each, of which any may be K or V in a read.
        rows: int64 [..., B, S, N], which S rows of the bank each slot is the sum of. From
            ``lengths`` on, the slots of a question all name the same rows.
        lengths: int64 [..., B], slots in use.
        mask_rest: whether the slots from ``lengths`` on take no attention.
        heads: reads beside each other, each of d / ``heads`` columns with weights of its own.
    """

    def __init__(
        self,
        banks: Sequence[Tensor],
        rows: Tensor,
        lengths: Tensor,
        *,
        mask_rest: bool,
        heads: int = 1,
    ) -> None:
        self._rows, self._lengths = rows, lengths
        self._mask_rest, self._heads = mask_rest, heads
        self._compiled = _compiled_form_fits(banks[0], rows)
        if not self._compiled:
            banks = _laid_out(torch.stack(tuple(banks)), rows, heads).unbind(0)
        self._banks = banks

    def read(
        self, query: Tensor, keys: int, values: int, *, softmax: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Read once.

        Args:
            query: q, [..., B, d].
            keys, values: the places of K and V among the banks.
            softmax: without it the scores are the weights.

        Returns:
            o [..., B, d] and p [..., B, heads, N]; where no slot is left, both are zero.
        """
        given = query, self._banks[keys], self._banks[values]
        if self._compiled:
            return self._read_compiled(given, softmax)
        return _in_torch(*given, self._lengths, self._mask_rest, softmax)

    def _read_compiled(
        self, given: tuple[Tensor, Tensor, Tensor], softmax: bool
    ) -> tuple[Tensor, Tensor]:
        from memhop.ops.text import two_row_attention_cpu  # numba takes half a second to import

        rows, lengths, heads = self._rows, self._lengths, self._heads
        if heads == 1:
            read, weights = two_row_attention_cpu.read(
                *given, rows, lengths, self._mask_rest, softmax
            )
            return read, weights.unsqueeze(-2)
        query, keys, values = (
            part.view(*part.shape[:-1], heads, -1).movedim(-2, -3) for part in given
        )
        rows, lengths = _repeated(rows, -4, heads), _repeated(lengths, -2, heads)
        read, weights = two_row_attention_cpu.read(
            query, keys, values, rows, lengths, self._mask_rest, softmax
        )
        return read.movedim(-3, -2).flatten(-2), weights.movedim(-3, -2)


def _repeated(tensor: Tensor, axis: int, times: int) -> Tensor:
    """A new axis, the same all along; no copy."""
    wide = tensor.unsqueeze(axis)
    return wide.expand(*(times if place == axis else -1 for place in range(-wide.dim(), 0)))


def _compiled_form_fits(bank: Tensor, rows: Tensor) -> bool:
    on_cpu = bank.device.type == "cpu" and bank.dtype in (torch.float32, torch.float64)
    is_worth_it = on_cpu and rows.shape[-3] >= WORTH_COMPILING
    return is_worth_it and not torch.compiler.is_compiling() and are_readable(bank, rows)


def _laid_out(bank: Tensor, rows: Tensor, heads: int) -> Tensor:
    """The sums of the rows of each slot, [..., B, N, heads, d / heads]."""
    columns, index = bank.shape[-1], rows.flatten(-3)
    if index.dim() == 1:  # whole rows, and not number by number
        picked = bank.index_select(-2, index)
    else:
        picked = bank.gather(-2, index.unsqueeze(-1).expand(*bank.shape[:-2], -1, columns))
    sizes = *bank.shape[:-2], *rows.shape[-3:], heads, columns // heads
    return picked.view(sizes).sum(-4)


def _in_torch(
    query: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, mask_rest: bool, softmax: bool
) -> tuple[Tensor, Tensor]:
    """One read of keys and values that are laid out, [..., B, N, heads, d / heads]."""
    slots, heads = keys.shape[-3:-1]
    ignored = None
    if mask_rest:
        slot = torch.arange(slots, device=lengths.device)
        ignored = (slot >= lengths.unsqueeze(-1)).unsqueeze(-2)
    by_head = query.view(*query.shape[:-1], 1, heads, keys.shape[-1])
    weights = attention((keys * by_head).sum(-1).mT, ignored, softmax)
    read = (values * weights.mT.unsqueeze(-1)).sum(-3)
    return read.flatten(-2), weights
