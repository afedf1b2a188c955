"""Hops over a memory whose slots are sums of rows of a bank: a sentence's row and its age's.

Slot i is the key k_i = sum_s K[rows_si] and the value v_i = sum_s V[rows_si], where K and V are
banks of embedded rows; a hop reads p_i = softmax_i(q . k_i), o = sum_i p_i v_i.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from memhop.ops.fused.addresses import are_readable
from memhop.ops.inputs import MLP, BankHop
from memhop.ops.reference import attention, run_hops, slots_beyond

WORTH_COMPILING = 8  # questions; fewer must not wait for the compiler, whatever the restarts


class TwoRowMemory:
    """A memory that several hops read. Leading axes, such as restarts, have banks of their own.

    With many questions the compiled form looks rows up and never gathers them. With few, gathering
    all slots once for all hops takes fewer operations, which dominate the time of a small call.

    Args:
        bank: [T, ..., U, d]; any of the T tables may be K or V of a hop.
        rows: int64 [..., B, S, N], the S bank rows of each slot. From ``lengths`` on, all slots of
            a question have the same rows.
        lengths: int64 [..., B], the number of slots in use.
        mask_rest: whether the slots from ``lengths`` on are ignored.
        heads: number of heads, each of d / ``heads`` columns with weights of its own.
    """

    def __init__(
        self,
        bank: Tensor,
        rows: Tensor,
        lengths: Tensor,
        *,
        mask_rest: bool,
        heads: int = 1,
    ) -> None:
        self._rows, self._lengths = rows, lengths
        self._mask_rest, self._heads = mask_rest, heads
        self._is_compiled = _is_worth_compiling(bank, rows)
        self._bank = bank
        self._slots = () if self._is_compiled else _gathered(bank, rows, heads).unbind(0)

    def look_up(self, table: int, rows: Tensor) -> Tensor:
        """Return rows of a table, int64 [..., B] of the bank: [..., B, d]."""
        if self._is_compiled:
            from memhop.ops.text import two_row_attention_cpu  # numba takes half a second to import

            found, self._bank = two_row_attention_cpu.look_up(self._bank, table, rows)
            return found
        bank = self._bank[table]
        return bank.gather(-2, rows.unsqueeze(-1).expand(*rows.shape, bank.shape[-1]))

    def multi_hop(
        self, query: Tensor, hops: Sequence[BankHop], mlps: Sequence[MLP] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the query [..., B, d] after all hops, and p [..., B, heads, N] of each hop.

        Args:
            query: q, [..., B, d].
            hops: the banks that each hop reads, and its options.
            mlps: the MLP after each hop; empty for none.
        """

        is_plain = not mlps and not any(hop.transform is not None or hop.relu for hop in hops)
        modes = {hop.softmax for hop in hops}
        if self._is_compiled and is_plain and len(modes) == 1:
            pairs = tuple((hop.keys, hop.values) for hop in hops)
            read_out, weights = self._read_compiled(query, pairs, *modes)
            return query + read_out, list(weights.unbind(0))

        def read_hop(query: Tensor, k: int) -> tuple[Tensor, Tensor]:
            hop = hops[k]
            return self.read(query, hop.keys, hop.values, softmax=hop.softmax)

        return run_hops(query, hops, read_hop, mlps)

    def read(
        self, query: Tensor, keys: int, values: int, *, softmax: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return o [..., B, d] and p [..., B, heads, N]; both are zero without a readable slot.

        Args:
            query: q, [..., B, d].
            keys, values: which of the banks are K and V.
            softmax: False takes the scores as p.
        """
        if not self._is_compiled:
            tensors = query, self._slots[keys], self._slots[values]
            return _read_eager(*tensors, self._lengths, self._mask_rest, softmax)
        read_out, weights = self._read_compiled(query, ((keys, values),), softmax)
        return read_out, weights[0]

    def _read_compiled(
        self, query: Tensor, hops: tuple[tuple[int, int], ...], softmax: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of o of hops, which add o to the query, and p of each."""
        from memhop.ops.text import two_row_attention_cpu  # numba takes half a second to import

        options = two_row_attention_cpu.ReadOptions(hops, self._heads, self._mask_rest, softmax)
        read_out, weights, self._bank = two_row_attention_cpu.read(
            query, self._bank, self._rows, self._lengths, options
        )
        return read_out, weights


def _is_worth_compiling(bank: Tensor, rows: Tensor) -> bool:
    on_cpu = bank.device.type == "cpu" and bank.dtype in (torch.float32, torch.float64)
    is_worth_it = on_cpu and rows.shape[-3] >= WORTH_COMPILING
    return is_worth_it and not torch.compiler.is_compiling() and are_readable(bank, rows)


def _gathered(bank: Tensor, rows: Tensor, heads: int) -> Tensor:
    """Return the slots, [..., B, N, heads, d / heads]."""
    columns, index = bank.shape[-1], rows.flatten(-3)
    if index.dim() == 1:  # index_select copies whole rows, gather number by number
        picked = bank.index_select(-2, index)
    else:
        picked = bank.gather(-2, index.unsqueeze(-1).expand(*bank.shape[:-2], -1, columns))
    sizes = *bank.shape[:-2], *rows.shape[-3:], heads, columns // heads
    return picked.view(sizes).sum(-4)


def _read_eager(
    query: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, mask_rest: bool, softmax: bool
) -> tuple[Tensor, Tensor]:
    """Return o and p of gathered keys and values, [..., B, N, heads, d / heads]."""
    slots, heads = keys.shape[-3:-1]
    ignored = slots_beyond(lengths, slots).unsqueeze(-2) if mask_rest else None
    by_head = query.view(*query.shape[:-1], 1, heads, keys.shape[-1])
    weights = attention((keys * by_head).sum(-1).mT, ignored, softmax)
    read_out = (values * weights.mT.unsqueeze(-1)).sum(-3)
    return read_out.flatten(-2), weights
