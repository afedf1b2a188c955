"""Make the memory of a call from its arguments; the rows of a pair of slots are gathered."""

import torch
from torch import Tensor

from memhop.ops import eager, options
from memhop.ops.call import HALF
from memhop.ops.inputs import Memory, Quantized, Stored

Pair = tuple[Tensor | None, Tensor | None]  # slots of the keys, and of the values


def memory_of(
    caller: str,
    keys: Stored,
    values: Stored | None,
    slots: Tensor | Pair | None,
    padding_mask: Tensor | None,
    lengths: Tensor | None,
    score_bias: Tensor | None,
) -> Memory:
    """Return a memory; that of a pair of slots is gathered."""
    if isinstance(slots, tuple):
        of_keys, of_values = options.pair_of(caller, slots)
        options.check_pair(caller, keys, values, (of_keys, of_values))
        if of_keys is of_values:
            slots = of_keys
        else:
            values = gathered_rows(keys if values is None else values, of_values)
            keys, slots = gathered_rows(keys, of_keys), None
    if values is keys:
        values = None
    return Memory(keys, values, slots, padding_mask, lengths, score_bias)


def gathered_rows(bank: Stored, slots: Tensor | None) -> Stored:
    """Return the rows of a bank at slots [..., N], or the bank without slots."""
    if slots is None:
        return bank
    slots = slots.long()
    if isinstance(bank, Quantized):
        scale = eager.gather_rows(bank.scale.unsqueeze(-1), slots).squeeze(-1)
        return Quantized(eager.gather_rows(bank.data, slots), scale)
    if bank.dtype in HALF and bank.requires_grad and torch.is_grad_enabled():
        # the backward adds the gradients of a row that several slots read: in float32
        return eager.gather_rows(bank.float(), slots).to(bank.dtype)
    return eager.gather_rows(bank, slots)
