"""Embedded bags of words and one table: both forms, their common gradient, and what is refused."""

import pytest
import torch
from torch import Tensor

from memhop.ops.text import embedding_bag
from memhop.ops.text.embedding_bag import WORTH_COMPILING, WeightedBags, embed_and_select

SIZES = torch.arange(WORTH_COMPILING + 3) % 4  # words of each bag, some have none


def bags(dtype: torch.dtype) -> WeightedBags:
    generator = torch.Generator().manual_seed(0)
    count = int(SIZES.sum())
    base, slope_weight = torch.rand(2, count, dtype=dtype, generator=generator)
    return WeightedBags(
        torch.cat([torch.zeros(1, dtype=torch.int64), SIZES.cumsum(0)]),
        torch.randint(7, (count,), generator=generator),
        torch.repeat_interleave(torch.arange(len(SIZES)), SIZES),
        base,
        slope_weight,
        torch.rand(5, dtype=dtype, generator=generator),
    )


def drawn(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tables = torch.randn(2, 4, 7, 5, dtype=dtype, generator=generator)
    return tables.requires_grad_(), torch.randint(len(SIZES), (2, 9), generator=generator)


@pytest.mark.parametrize("used", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_compiled_form_equals_the_eager_one(
    dtype: torch.dtype, used: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, chosen = drawn(dtype)
    found = embed_and_select(tables, bags(dtype), chosen, 3, 2)
    total = torch.stack(
        [each.sin().sum() for each, is_used in zip(found, used, strict=True) if is_used]
    ).sum()
    (got,) = torch.autograd.grad(total, tables)
    monkeypatch.setattr(embedding_bag, "WORTH_COMPILING", 10_000)
    doubles = tables.detach().double().requires_grad_()
    exact = [
        each.double() if each.is_floating_point() else each
        for each in bags(dtype)
        if each is not None
    ]
    wanted = embed_and_select(doubles, WeightedBags(*exact), chosen, 3, 2)
    total = torch.stack(
        [each.sin().sum() for each, is_used in zip(wanted, used, strict=True) if is_used]
    ).sum()
    (gradient,) = torch.autograd.grad(total, doubles)
    tolerance = 1e-5 if dtype is torch.float32 else 1e-12
    for mine, theirs in zip((*found, got), (*wanted, gradient), strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=tolerance, atol=tolerance)
    assert found[0].shape == (3, 2, 9, 5)


def test_without_gradients_the_sums_require_none() -> None:
    tables, chosen = drawn(torch.float32)
    with torch.no_grad():
        summed, selected = embed_and_select(tables, bags(torch.float32), chosen, 3, 2)
    assert not summed.requires_grad
    assert selected.grad_fn is None
    torch.testing.assert_close(selected, tables.detach()[:, 2], rtol=0, atol=0)


@pytest.mark.parametrize("index", [0, 1])
def test_second_derivatives_are_refused(index: int) -> None:
    tables, chosen = drawn(torch.float32)
    found = embed_and_select(tables, bags(torch.float32), chosen, 3, 2)[index]
    with pytest.raises(NotImplementedError, match="expected create_graph=False over compiled"):
        torch.autograd.grad(found.sum(), tables, create_graph=True)
