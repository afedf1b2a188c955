"""Check the options of the operations: heads, dropout, order of the slots, pairs of slots, hops."""

import operator
import warnings
from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from memhop.ops.call import PLAIN, Attention, Call
from memhop.ops.checks import INTEGERS, broadcast, check_quantized, check_range
from memhop.ops.errors import check_layouts, check_share, check_word, raise_invalid
from memhop.ops.inputs import Hop, Quantized, Stored, Table, storage

IMPLEMENTATIONS = ("auto", "fused", "eager", "project", "reference")
SlotOrder = Literal["oldest_first", "newest_first"]


def check_attention(caller: str, num_heads: int, dropout: float, slot_order: str) -> Attention:
    """Return the options of all hops, or raise ValueError; ``PLAIN`` itself for the defaults."""
    if num_heads == 1 and dropout == 0 and slot_order == "oldest_first":
        return PLAIN
    try:
        heads = 0 if isinstance(num_heads, bool) else operator.index(num_heads)
    except TypeError:
        heads = 0
    if heads < 1:
        expected = "num_heads to be an integer of at least 1"
        raise ValueError(f"{caller} expected {expected}, got {num_heads!r}")
    check_share(caller, "dropout", dropout)
    check_word(caller, "slot_order", slot_order, get_args(SlotOrder))
    return Attention(heads, float(dropout), slot_order == "newest_first")


def with_lse(call: Call) -> Call:
    """Return the call of a ``read`` that also returns lse, or raise ValueError."""
    if not call.softmax:
        raise ValueError(
            "read expected softmax=True with need_lse, got softmax=False, where the results of "
            "parts of a memory add up"
        )
    return call._replace(need_lse=True)


def check_types_of_hops(hops: Sequence[Hop]) -> None:
    """Check that they are hops of tables."""
    for hop in (hops,) if isinstance(hops, Hop) else hops:
        if not isinstance(hop, Hop):
            came = type(hop).__name__
        elif not isinstance(hop.a, Table):
            came = f"Hop with a of type {type(hop.a).__name__}"
        elif not isinstance(hop.c, Table):
            came = f"Hop with c of type {type(hop.c).__name__}"
        else:
            continue
        raise ValueError(f"multi_hop expected hops, a sequence of Hop(Table, Table), got {came}")
    if isinstance(hops, Hop):
        raise ValueError("multi_hop expected hops, a sequence of Hop(Table, Table), got one Hop")


def pair_of(caller: str, slots: Sequence[Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
    """Return the slots of the keys and those of the values, or raise ValueError."""
    if len(slots) != 2:
        expected = "slots as a tensor or as a tuple (slots of the keys, slots of the values)"
        raise ValueError(f"{caller} expected {expected}, got {len(slots)} objects")
    return slots[0], slots[1]


def check_pair(
    caller: str,
    keys: Stored,
    values: Stored | None,
    slots: tuple[Tensor | None, Tensor | None],
) -> None:
    """Check the slots of keys and values, of which each has a bank of its own."""
    banks: dict[str, Stored] = {"keys": keys, "values": keys if values is None else values}
    for (side, bank), each in zip(banks.items(), slots, strict=True):
        if each is None:
            continue
        name = f"slots of the {side}"
        given = {side: bank, name: each}
        if not isinstance(bank, (Tensor, Quantized)) or not isinstance(each, Tensor):
            raise_invalid(caller, "tensors", given)
        if isinstance(bank, Quantized):
            check_quantized(caller, side, bank, given)
        check_layouts(caller, given)
        if each.device != storage(bank).device:
            raise_invalid(caller, "all tensors on one device", given)
        if each.dim() < 1 or each.dtype not in INTEGERS or storage(bank).dim() < 2:
            raise_invalid(caller, f"{side} [..., U, I] and {name} [..., N] of integers", given)
        try:
            broadcast([storage(bank).shape[:-2], each.shape[:-1]])
        except ValueError:
            raise_invalid(caller, "leading axes that broadcast together", given)
        check_range(caller, name, storage(bank).shape[-2] - 1, given)
    sides = zip(banks.items(), slots, strict=True)
    given = {
        side if each is None else f"slots of the {side}": bank if each is None else each
        for (side, bank), each in sides
    }
    of_keys, of_values = (
        storage(stored).shape[-1 if name.startswith("slots") else -2]
        for name, stored in given.items()
        if stored is not None
    )
    if of_keys != of_values:
        raise_invalid(caller, "keys and values with one N, that of their slots", given)


def check_impl(caller: str, impl: str) -> str:
    """Return the word that selects a form, or raise ValueError."""
    if impl == "torch":
        message = f"{caller}: impl='torch' is deprecated, use impl='eager'"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
        return "eager"
    check_word(caller, "impl", impl, IMPLEMENTATIONS)
    return impl
