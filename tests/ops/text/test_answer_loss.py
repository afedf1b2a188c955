"""The cross entropy of answers and its gradients against those of torch in float64."""

import pytest
import torch
from torch.nn import functional

from memhop.ops.text.answer_loss import answer_loss


@pytest.mark.parametrize("axes", [(), (3,)])
def test_losses_and_gradients(axes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    query = (3 * torch.randn(*axes, 6, 4)).requires_grad_()
    table = torch.randn(*axes, 5, 4, requires_grad=True)
    rows = torch.randint(5, (*axes, 6))
    weight = torch.rand(*axes, 6)
    losses, scores = answer_loss(query, table, rows)
    got = torch.autograd.grad((losses * weight).sum(), [query, table])

    doubles = [tensor.detach().double().requires_grad_() for tensor in (query, table)]
    wanted_scores = doubles[0] @ doubles[1].mT
    wanted = functional.cross_entropy(
        wanted_scores.flatten(0, -2), rows.flatten(), reduction="none"
    ).view(rows.shape)
    gradients = torch.autograd.grad((wanted * weight).sum(), doubles)
    torch.testing.assert_close(scores.double(), wanted_scores, rtol=1e-5, atol=1e-5)
    assert not scores.requires_grad
    torch.testing.assert_close(losses.double(), wanted, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(got, gradients, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_refused() -> None:
    query, table = torch.randn(6, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    losses, _ = answer_loss(query, table, torch.arange(6) % 5)
    with pytest.raises(NotImplementedError, match="expected create_graph=False through the loss"):
        torch.autograd.grad(losses.sum(), query, create_graph=True)
    torch.autograd.grad(losses.sum(), query)
