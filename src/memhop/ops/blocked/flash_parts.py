"""Torch's FlashAttention for the CPU over parts of the slots, merged in float64.

It computes r = softmax(u M^T + b) V and the logarithm l of the sum of exponentials. Parts of the
slots are heads of the kernel, so that threads share them out, and merge by their l.

``scaled_dot_product_attention`` calls the same kernel, but it does not return l, it reads a memory
that few queries share in one thread, and its sums over many slots err more.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default

MAX_PART_SLOTS = 1 << 13  # of a part: the kernel sums them in their own dtype
MAX_PRODUCT_SLOTS = 1 << 15  # of a part whose sums err no more than those of a matrix product
MIN_PART_SLOTS = 1 << 9  # smaller parts cost more than another thread gains
MAX_RESULTS = 1 << 19  # numbers that all parts together read before they merge
MAX_ITEMS = 4  # for each thread: of more work items, one that is left over costs little


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    most: int = MAX_PART_SLOTS,
) -> tuple[Tensor, Tensor]:
    """Return r [G, 1, Q, V] and l [G, 1, Q], in float64 if there are several parts.

    ``queries`` are u [G, 1, Q, I], ``keys`` and ``values`` [G, N, I] with at least one slot and
    contiguous rows, ``mask`` is added to the scores, [G, 1, Q, N] or [1, 1, 1, N]. Without a
    readable slot, r is zero and l is -inf. ``most`` is the largest number of slots of a part.
    """
    groups, _, group, _ = queries.shape
    block = 32 if group < 192 else 64 if group < 768 else 256  # of queries, a work item
    wanted = parts_for_threads(groups * -(-group // block))
    if mask is None and wanted == 1 and keys.shape[1] <= most:
        return read_part(queries, keys.unsqueeze(1), values.unsqueeze(1), None)
    together = max(wanted, MAX_RESULTS // max(1, groups * group * values.shape[-1]))
    found: list[tuple[Tensor, Tensor]] = []
    for part in parts(keys.shape[1], most, wanted, together):
        own = None if mask is None else part.of_mask(mask)
        key_rows = part.of_rows(keys)
        value_rows = key_rows if values is keys else part.of_rows(values)
        if len(found) > 1:
            found = [merged(found)]
        found.append(read_part(queries.expand(-1, part.num, -1, -1), key_rows, value_rows, own))
    return merged(found)


def read_part(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return r [G, P, Q, V] and l [G, P, Q] of parts that are read together.

    The kernel returns zeros where all scores are NaN, -inf or ignored, and those that are NaN are
    in the last, incomplete vector of a block.
    """
    reads, logs = _forward(queries, keys, values, 0.0, False, attn_mask=mask, scale=1.0)
    if mask is not None:  # the kernel returns 0 where nothing is readable
        logs = logs.where((mask > -torch.inf).any(-1), -torch.inf)
    if not logs.all():  # NaN and -inf are not zero
        restore_nan(reads, logs, queries @ keys.mT, mask)
    return reads, logs


def restore_nan(reads: Tensor, logs: Tensor, scores: Tensor, mask: Tensor | None) -> None:
    """Set r and l to NaN where a score is NaN or, without a mask, all are -inf."""
    if mask is None:
        is_nan = scores.isnan().any(-1) | (scores == -torch.inf).all(-1)
    else:
        scores = (scores + mask).masked_fill_(mask == -torch.inf, -torch.inf)
        is_nan = scores.isnan().any(-1)
    logs.masked_fill_(is_nan, torch.nan)
    reads.masked_fill_(is_nan.unsqueeze(-1), torch.nan)


def merged(found: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return r [G, 1, Q, V] and l [G, 1, Q] of all parts, merged in float64."""
    reads, logs = found[0]
    if len(found) > 1:
        reads, logs = (torch.cat(each, 1) for each in zip(*found, strict=True))
    if logs.shape[1] == 1:
        return reads, logs
    logs = logs.double()
    factors = torch.softmax(logs, 1).nan_to_num_(0.0)  # NaN where all parts have -inf
    read_out = (reads * factors.unsqueeze(-1)).sum(1, keepdim=True)
    return read_out, logs.logsumexp(1, keepdim=True)


class Parts(NamedTuple):
    """A range of slots that is cut into parts of one size."""

    slots: slice
    num: int

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the rows [G, N, I] of the slots as [G, P, n, I]."""
        rows = rows[:, self.slots]
        return rows.view(rows.shape[0], self.num, -1, rows.shape[-1])

    def of_mask(self, mask: Tensor) -> Tensor:
        """Return the mask [G, 1, Q, N] of the slots as [G, P, Q, n]."""
        mask = mask[:, 0, :, self.slots]
        return mask.reshape(*mask.shape[:2], self.num, -1).transpose(1, 2)


def parts(num_slots: int, most: int, wanted: int, together: int) -> Iterator[Parts]:
    """Yield all slots as at least the wanted number of parts, of at most ``most``, some together.

    What remains of the division is a part of its own.
    """
    count = max(-(-num_slots // most), min(wanted, num_slots // MIN_PART_SLOTS))
    size, first = num_slots // max(1, count), 0
    while first < num_slots:
        own = min(together, (num_slots - first) // size)
        last = first + own * size if own else num_slots
        yield Parts(slice(first, last), max(1, own))
        first = last


def parts_for_threads(work_items: int) -> int:
    """Return how many parts give all threads the same number of the kernel's work items."""
    threads = torch.get_num_threads()
    return 1 if work_items % threads == 0 or work_items >= MAX_ITEMS * threads else threads
