"""Dropout of the weights: what is returned is what was read, in every form that supports it."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from memhop.ops import multi_hop, read
from tests.ops import oracle, textbook

FORMS = ["reference", "eager", "project"]
every_form = pytest.mark.parametrize("impl", [*FORMS, "auto"])
RATE = 0.25


def dropped(case: oracle.Case, impl: str) -> tuple[Tensor, Tensor]:
    """Return the result and the weights [..., K, num_heads, N] of a case with a dropout."""
    options = case.options | {"need_weights": True, "average_attn_weights": False}
    result, weights = multi_hop(
        case.query, case.memories, case.hops, dropout=RATE, impl=impl, **options
    )
    return result, weights


@every_form
def test_a_result_is_read_with_the_weights_that_are_returned(impl: str) -> None:
    torch.manual_seed(0)
    num_kept = num_weights = 0
    for seed in range(120):
        case = oracle.draw_case(seed)
        result, weights = dropped(case, impl)
        kept = weights != 0
        by_textbook = partial(textbook.multi_hop, factors=kept.double() / (1 - RATE))
        options = case.options | {"average_attn_weights": False}
        expected = by_textbook(case.query, case.memories, case.hops, **options)
        for found, exact in zip((result, weights), expected, strict=True):
            scale = max(1.0, float(exact.abs().max())) if exact.numel() else 1.0
            torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-10 * scale)
        if case.hops[0].softmax:  # else a score may be zero
            readable = oracle.multi_hop(case.query, case.memories, case.hops, **options)[1] > 0
            num_weights += int(readable.sum())
            num_kept += int(kept.sum())
    assert num_weights > 2000
    assert num_kept / num_weights == pytest.approx(1 - RATE, abs=0.04)


@every_form
def test_gradients_pass_through_the_weights_that_are_kept(impl: str) -> None:
    for seed in range(60):
        case = oracle.draw_case(seed)
        held = [case.memories, case.options.get("values"), case.options.get("score_bias")]
        weights_of_hop = [*case.hops[0].a, *case.hops[0].c]
        leaves = [
            leaf.requires_grad_()
            for leaf in (case.query, *held, *weights_of_hop)
            if leaf is not None
        ]
        torch.manual_seed(seed)
        result, weights = dropped(case, impl)
        factors = (weights != 0).double() / (1 - RATE)
        options = case.options | {"average_attn_weights": False, "factors": factors}
        exact = textbook.multi_hop(case.query, case.memories, case.hops, **options)
        found, truth = (
            torch.autograd.grad(one.cos().sum() + other.square().sum(), leaves)
            for one, other in ((result, weights), exact)
        )
        largest = max([1.0, *(float(grad.abs().max()) for grad in truth if grad.numel())])
        for grad, expected in zip(found, truth, strict=True):
            torch.testing.assert_close(grad, expected, rtol=1e-8, atol=1e-9 * largest)


@every_form
@pytest.mark.parametrize("softmax", [True, False])
def test_a_dropout_of_one_read(impl: str, softmax: bool) -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(3, 4), torch.randn(3, 500, 4), torch.randn(3, 500, 2)
    given: dict[str, Any] = {"softmax": softmax, "need_weights": True, "impl": impl}
    _, exact = read(query, keys, values, **given)
    read_out, weights = read(query, keys, values, dropout=0.4, **given)
    kept = weights != 0
    assert 0.55 < kept.float().mean() < 0.65
    torch.testing.assert_close(weights, torch.where(kept, exact / 0.6, 0.0))
    torch.testing.assert_close(read_out, (weights.unsqueeze(1) @ values).squeeze(1))
    nothing, zeros = read(query, keys, values, dropout=1.0, **given)
    assert not nothing.any()
    assert not zeros.any()


def test_the_fused_form_has_no_dropout() -> None:
    query, keys = torch.randn(3, 4), torch.randn(3, 5, 4)
    with pytest.raises(NotImplementedError, match="dropout"):
        read(query, keys, dropout=0.1, impl="fused")
    case = oracle.draw_case(0)
    with pytest.raises(NotImplementedError, match="dropout"):
        dropped(case, "fused")


@pytest.mark.parametrize("impl", FORMS)
def test_no_dropout_equals_the_default(impl: str) -> None:
    for seed in range(20):
        case = oracle.draw_case(seed)
        given: dict[str, Any] = case.options | {"impl": impl}
        result = multi_hop(case.query, case.memories, case.hops, **given)
        given["dropout"] = 0.0
        assert torch.equal(multi_hop(case.query, case.memories, case.hops, **given), result)
