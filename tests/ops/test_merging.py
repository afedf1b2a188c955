"""``read(need_lse=True)`` and ``merge_reads``: any partition of the slots gives the whole."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memhop.ops import IMPLEMENTATIONS, Quantized, merge_reads, read
from tests.ops import oracle
from tests.ops.fixed_order import FixedOrder
from tests.seeds import seeds

FORMS = [impl for impl in IMPLEMENTATIONS if impl != "project"]
SHARED, OWN, ONE = ((5, 6), (7, 6)), ((5, 6), (5, 7, 6)), ((6,), (7, 6))


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


def lse_in_numpy(
    query: Tensor, keys: Tensor, mask: Tensor | None, bias: Tensor | None
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """log sum_i exp(q . k_i + b_i) over the readable slots, one row at a time."""
    batch, num_slots = query.shape[:-1], keys.shape[-2]
    excluded = oracle.layout(batch, num_slots, mask, bias)
    scores = (keys.double() @ query.double().unsqueeze(-1)).squeeze(-1).numpy() + excluded
    found = np.full(batch, -np.inf)
    for row in np.ndindex(*batch):
        readable = [
            score for score in np.broadcast_to(scores, excluded.shape)[row] if score > -np.inf
        ]
        if readable:
            top = max(readable)
            found[row] = top + math.log(math.fsum(math.exp(score - top) for score in readable))
    return found


@pytest.mark.parametrize("num_slots", [0, 1, 7])
@pytest.mark.parametrize("shapes", [SHARED, OWN, ONE], ids=["shared", "own", "unbatched"])
@pytest.mark.parametrize("impl", FORMS)
def test_lse_equals_the_formula(impl: str, shapes: Any, num_slots: int) -> None:
    query, keys = normal(*shapes[0]), normal(*shapes[1])[..., :num_slots, :]
    batch = query.shape[:-1]
    mask = torch.rand(*batch, num_slots) < 0.4
    if batch:
        mask[0] = True
    bias = normal(num_slots).masked_fill(torch.rand(num_slots) < 0.2, -torch.inf)
    for excluded, added in ((mask, bias), (None, None)):
        o, p, lse = read(
            query, keys, padding_mask=excluded, score_bias=added, need_weights=True,
            need_lse=True, impl=impl,
        )  # fmt: skip
        truth = oracle.read(query, keys, padding_mask=excluded, score_bias=added)
        expected = (*truth, lse_in_numpy(query, keys, excluded, added))
        for tensor, exact in zip((o, p, lse), expected, strict=True):
            np.testing.assert_allclose(tensor.numpy(), exact, rtol=1e-12, atol=1e-12)
            assert tensor.shape == exact.shape
        only = read(query, keys, padding_mask=excluded, score_bias=added, need_lse=True, impl=impl)
        torch.testing.assert_close(only, (o, lse), rtol=1e-12, atol=1e-12)


def partition(num_slots: int, generator: torch.Generator) -> list[slice]:
    """Cut the slots at random places, so that some parts are empty."""
    count = int(torch.randint(1, 6, (), generator=generator))
    cuts = torch.randint(0, num_slots + 1, (count,), generator=generator).sort().values.tolist()
    return [slice(*ends) for ends in zip([0, *cuts], [*cuts, num_slots], strict=True)]


@pytest.mark.parametrize("seed", seeds(6, 60))
@pytest.mark.parametrize("shapes", [SHARED, OWN, ONE], ids=["shared", "own", "unbatched"])
@pytest.mark.parametrize("impl", FORMS)
def test_any_partition_gives_the_whole(impl: str, shapes: Any, seed: int) -> None:
    """Results, weights, lse and all gradients, with masks, biases and values."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    query, keys = normal(*shapes[0]), normal(*shapes[1])
    values = normal(*keys.shape[:-1], 3) if seed % 2 else None
    batch = query.shape[:-1]
    mask = torch.rand(*batch, 7) < 0.3
    mask[..., :3] |= torch.rand(*batch, 1) < 0.5
    if batch and seed % 3 == 0:
        mask[1] = True
    bias = normal(*batch, 7)
    leaves = [leaf.requires_grad_() for leaf in (query, keys, values, bias) if leaf is not None]

    def of_slots(slots: slice) -> Any:
        value_rows = None if values is None else values[..., slots, :]
        return read(
            query, keys[..., slots, :], value_rows, padding_mask=mask[..., slots],
            score_bias=bias[..., slots], need_weights=True, need_lse=True, impl=impl,
        )  # fmt: skip

    whole, p, whole_lse = of_slots(slice(None))
    outs, weights, lses = zip(*map(of_slots, partition(7, generator)), strict=True)
    o, lse = merge_reads(outs, lses)
    factors = [(each - lse.detach()).exp().nan_to_num(0.0).unsqueeze(-1) for each in lses]
    merged_p = torch.cat([f * w for f, w in zip(factors, weights, strict=True)], -1)
    for found, expected in ((o, whole), (lse, whole_lse), (merged_p, p)):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    grad_o, grad_lse = torch.randn_like(o), torch.randn_like(lse)
    of_parts = torch.autograd.grad([o, lse], leaves, [grad_o, grad_lse])
    of_whole = torch.autograd.grad([whole, whole_lse], leaves, [grad_o, grad_lse])
    for leaf, found, expected in zip(leaves, of_parts, of_whole, strict=True):
        assert found.isfinite().all()
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12, msg=str(leaf.shape))


@pytest.mark.parametrize("shapes", [SHARED, OWN], ids=["shared", "own"])
@pytest.mark.parametrize("impl", ["eager", "fused"])
def test_gradients_of_lse_equal_those_of_the_formula(impl: str, shapes: Any) -> None:
    query, keys = normal(*shapes[0]).requires_grad_(), normal(*shapes[1]).requires_grad_()
    mask = torch.rand(5, 7) < 0.3
    mask[2] = True

    def lse_of(query: Tensor, keys: Tensor) -> Tensor:
        return read(query, keys, padding_mask=mask, need_lse=True, impl=impl)[1][[0, 1, 3, 4]]

    assert torch.autograd.gradcheck(lse_of, (query, keys))
    assert torch.autograd.gradgradcheck(lse_of, (query, keys))
    (grad,) = torch.autograd.grad(
        read(query, keys, padding_mask=mask, need_lse=True, impl=impl)[1][2], query
    )
    assert grad.abs().max() == 0  # nothing is readable


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("impl", ["eager", "fused"])
def test_float32_is_within_the_error_budget(impl: str, dtype: torch.dtype) -> None:
    """Parts and their merge err no more than twice as much as one float32 read in a fixed order."""
    query, keys = normal(3, 32).to(dtype), normal(1000, 32).to(dtype)
    truth, truth_lse = read(query.double(), keys.double(), need_lse=True, impl="reference")
    with FixedOrder():  # type: ignore[no-untyped-call]
        one = read(query.float(), keys.float(), impl="reference")
    parts = [
        read(query, part, need_lse=True, impl=impl) for part in torch.split(keys, [1, 299, 0, 700])
    ]
    o, lse = merge_reads(*zip(*parts, strict=True))
    assert o.dtype == dtype
    assert lse.dtype == torch.float32
    rounding = torch.finfo(dtype).eps if dtype != torch.float32 else 0
    budget = 2 * (one.double() - truth).abs().max() + 2 * rounding * truth.abs().max()
    assert (o.double() - truth).abs().max() <= budget
    torch.testing.assert_close(lse.double(), truth_lse, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("impl", ["eager", "fused"])
@pytest.mark.parametrize("store", [lambda rows: rows.bfloat16(), Quantized.of])
def test_a_smaller_storage(impl: str, store: Any) -> None:
    query, rows = normal(3, 16, dtype=torch.float32), normal(50, 16, dtype=torch.float32)
    stored = store(rows)
    parts = [read(query, stored[a:b], need_lse=True, impl=impl) for a, b in ((0, 20), (20, 50))]
    o, lse = merge_reads(*zip(*parts, strict=True))
    exact = stored.dequantized() if isinstance(stored, Quantized) else stored
    truth = read(query.double(), exact.double(), need_lse=True, impl="reference")
    torch.testing.assert_close(o.double(), truth[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lse.double(), truth[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("impl", FORMS)
def test_nan_stays_nan_and_is_not_taken_for_an_empty_part(impl: str) -> None:
    keys = normal(4, 6)
    for query in (normal(2, 6), normal(6)):
        bad = query.clone()
        bad[..., 0] = torch.nan
        o, lse = read(bad, keys, need_lse=True, impl=impl)
        assert lse.isnan().all()
        good = read(query, keys, need_lse=True, impl=impl)
        assert merge_reads([good[0], o], [good[1], lse])[0].isnan().all()


@pytest.mark.parametrize("impl", FORMS)
@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_huge_scores(impl: str, scale: float) -> None:
    query, keys = scale * normal(2, 6), normal(5, 6)
    whole = read(query, keys, need_lse=True, impl=impl)
    parts = [read(query, part, need_lse=True, impl=impl) for part in torch.split(keys, 2)]
    merged = merge_reads(*zip(*parts, strict=True))
    torch.testing.assert_close(merged, whole, rtol=1e-12, atol=1e-12)
    assert whole[1].isfinite().all()


def test_parts_without_readable_slots() -> None:
    nothing = torch.zeros(2, 3), torch.full((2,), -torch.inf)
    some = torch.ones(2, 3), torch.zeros(2)
    o, lse = merge_reads(*zip(nothing, nothing, strict=True))
    assert torch.equal(o, torch.zeros(2, 3))
    assert torch.equal(lse, nothing[1])
    leaves = [part.clone().requires_grad_() for part in (*nothing, *some)]
    o, lse = merge_reads([leaves[0], leaves[2]], [leaves[1], leaves[3]])
    assert torch.equal(o, some[0])
    assert torch.equal(lse, some[1])
    for grad in torch.autograd.grad(o.sum() + lse.sum(), leaves):
        assert grad.isfinite().all()


def test_parts_in_stacked_tensors() -> None:
    outs, lses = normal(4, 2, 3), normal(4, 2)
    found = merge_reads(outs, lses)  # type: ignore[arg-type]
    torch.testing.assert_close(found, merge_reads(list(outs), list(lses)))
    with pytest.raises(ValueError, match="one lse for each part, got 0 and 0"):
        merge_reads(outs[:0], lses[:0])  # type: ignore[arg-type]


def test_many_parts_of_a_bank_with_slots() -> None:
    query, bank = normal(3, 6), normal(40, 6)
    slots = torch.randint(40, (3, 25))
    for impl in FORMS:
        parts = [
            read(query, bank, slots=each, need_lse=True, impl=impl)
            for each in torch.split(slots, 1, -1)
        ]
        found = merge_reads(*zip(*parts, strict=True))
        expected = read(query, bank, slots=slots, need_lse=True, impl="reference")
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_dropout_scales_o_and_not_lse() -> None:
    query, keys = normal(3, 6), normal(20, 6)
    torch.manual_seed(0)
    o, p, lse = read(query, keys, dropout=0.5, need_weights=True, need_lse=True)
    torch.testing.assert_close(o, p @ keys)
    torch.testing.assert_close(lse, read(query, keys, need_lse=True)[1])


def test_compiled() -> None:
    query, keys = normal(3, 6), normal(20, 6)
    compiled = torch.compile(
        lambda query: read(query, keys, need_lse=True), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(query), read(query, keys, need_lse=True))


ONE_PART = torch.zeros(2, 3), torch.zeros(2)


@pytest.mark.parametrize(
    ("outs", "lses", "message"),
    [
        ([], [], "merge_reads expected one o and one lse for each part, got 0 and 0"),
        ([ONE_PART[0]], [], "merge_reads expected one o and one lse for each part, got 1 and 0"),
        (
            [ONE_PART[0]], [torch.zeros(3)],
            "merge_reads expected o [..., V] and lse [...], of the same sizes for all parts, got "
            "outs[0] [2, 3] float32 on cpu, lses[0] [3] float32 on cpu",
        ),
        (
            [ONE_PART[0], torch.zeros(2, 4)], [ONE_PART[1]] * 2,
            "merge_reads expected o [..., V] and lse [...], of the same sizes for all parts, got "
            "outs[0] [2, 3] float32 on cpu, outs[1] [2, 4] float32 on cpu, lses[1] [2] float32 on "
            "cpu",
        ),
        (
            [ONE_PART[0].long()], [ONE_PART[1]],
            "merge_reads expected floating tensors, got outs[0] [2, 3] int64 on cpu, lses[0] [2] "
            "float32 on cpu",
        ),
        (
            [1.0], [2.0],
            "merge_reads expected tensors, got outs[0] of type float, lses[0] of type float",
        ),
    ],
)  # fmt: skip
def test_wrong_parts(outs: Any, lses: Any, message: str) -> None:
    with pytest.raises(ValueError, match="merge_reads") as caught:
        merge_reads(outs, lses)
    assert str(caught.value) == message


def test_a_read_without_a_softmax_has_no_lse() -> None:
    with pytest.raises(ValueError, match="softmax=True with need_lse, got softmax=False"):
        read(normal(6), normal(4, 6), softmax=False, need_lse=True)
