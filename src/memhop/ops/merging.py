"""Merge the reads of parts of a memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from memhop.ops.errors import raise_invalid


def merge_reads(outs: Sequence[Tensor], lses: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return what a query reads of a whole memory, from what it reads of its parts:

        lse = log sum_j exp(lse_j),    o = sum_j exp(lse_j - lse) o_j

    for parts j, each with o_j and lse_j of ``read(..., need_lse=True)``. This is exact, for any
    partition of the slots; sums are in float64. The weights p_j of a part, times exp(lse_j - lse),
    are its weights in the whole. Results without a softmax need no merge: they add up.

    Args:
        outs: o_j, [..., V], one for each part. A part without readable slots has o_j = 0.
        lses: lse_j, [...]; -inf for such a part.

    Returns:
        (o, lse), each in the dtype of the first part, differentiable with respect to all o_j and
        lse_j. If no part has readable slots, o is zero and lse is -inf.

    Raises:
        ValueError: for no part, other numbers of outs and lses, or shapes that do not fit.

    >>> query, memory = torch.tensor([0.5, 2.0]), torch.randn(5, 2)
    >>> from memhop.ops import read
    >>> parts = [read(query, part, need_lse=True) for part in memory.split([3, 2])]
    >>> o, lse = merge_reads(*zip(*parts))
    >>> torch.allclose(o, read(query, memory), atol=1e-6)
    True
    """
    check(outs, lses)
    logs = torch.stack([lse.double() for lse in lses])
    score_max = logs.detach().amax(0)
    score_max = score_max.masked_fill(score_max == -torch.inf, 0.0)
    exps = (logs - score_max).exp()
    exp_sum = exps.sum(0)
    is_empty = exp_sum == 0
    exp_sum = exp_sum.masked_fill(is_empty, 1.0)
    factors = (exps / exp_sum).unsqueeze(-1)
    merged = sum(factor * out.double() for factor, out in zip(factors, outs, strict=True))
    assert isinstance(merged, Tensor)
    lse = (score_max + exp_sum.log()).masked_fill(is_empty, -torch.inf)
    return merged.to(outs[0].dtype), lse.to(lses[0].dtype)


def check(outs: Sequence[Tensor], lses: Sequence[Tensor]) -> None:
    """Check that there is one lse [...] for each o [..., V], all on one device."""
    if len(outs) == 0 or len(outs) != len(lses):
        came = f"{len(outs)} and {len(lses)}"
        raise ValueError(f"merge_reads expected one o and one lse for each part, got {came}")
    for number, (out, lse) in enumerate(zip(outs, lses, strict=True)):
        given = {f"outs[{number}]": out, f"lses[{number}]": lse}
        if not isinstance(out, Tensor) or not isinstance(lse, Tensor):
            raise_invalid("merge_reads", "tensors", given)
        if out.device != outs[0].device or lse.device != outs[0].device:
            raise_invalid("merge_reads", "all tensors on one device", {"outs[0]": outs[0], **given})
        if not (out.is_floating_point() and lse.is_floating_point()):
            raise_invalid("merge_reads", "floating tensors", given)
        if out.dim() < 1 or out.shape[:-1] != lse.shape or out.shape != outs[0].shape:
            expected = "o [..., V] and lse [...], of the same sizes for all parts"
            raise_invalid("merge_reads", expected, {"outs[0]": outs[0], **given})
