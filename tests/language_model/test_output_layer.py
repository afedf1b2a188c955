"""The output layer against the cross-entropy of torch in float64."""

import pytest
import torch
from torch.nn import functional

from memhop.language_model.output_layer import OutputLayer, losses


@pytest.mark.parametrize("positions", [0, 1, 255, 256, 257, 600])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_losses_and_gradients(positions: int, scale: float) -> None:
    torch.manual_seed(positions)
    u, w = torch.randn(positions, 7) * scale, torch.randn(33, 7)
    targets = torch.randint(33, (positions,))
    u64, w64 = (one.double().requires_grad_() for one in (u, w))
    each = functional.cross_entropy(u64 @ w64.T, targets, reduction="none")
    torch.autograd.backward(each.sum())
    torch.testing.assert_close(losses(u, w, targets).double(), each.detach(), rtol=1e-5, atol=1e-5)
    layer = OutputLayer(w)
    for _ in range(2):  # the second call uses the buffers again
        loss, of_u, of_w = layer(u, targets)
        assert loss == pytest.approx(float(each.detach().sum()), rel=1e-5)
        torch.testing.assert_close(of_u.double(), u64.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(of_w.double(), w64.grad, rtol=1e-4, atol=1e-5 * scale)


def test_the_layer_uses_the_weights_of_the_moment() -> None:
    u, w, targets = torch.randn(3, 4), torch.randn(5, 4), torch.tensor([0, 1, 4])
    for dtype in (torch.float32, torch.bfloat16):
        layer = OutputLayer(w, dtype)
        before = layer(u, targets).loss
        w.mul_(2.0)
        assert layer(u, targets).loss != before
        assert layer(u, targets).loss == OutputLayer(w, dtype)(u, targets).loss


def test_bfloat16_products_err_by_less_than_half_a_percent() -> None:
    torch.manual_seed(0)
    u, w, targets = torch.randn(300, 64), torch.randn(500, 64) * 0.3, torch.randint(500, (300,))
    exact, rounded = OutputLayer(w)(u, targets), OutputLayer(w, torch.bfloat16)(u, targets)
    assert rounded.loss == pytest.approx(exact.loss, rel=1e-3)
    for one, other in zip(rounded[1:], exact[1:], strict=True):
        error = (one - other).norm() / other.norm()
        assert 1e-4 < error < 5e-3  # it is rounded, and by no more than bfloat16 does
