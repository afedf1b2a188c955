"""The compiled step of Adam against that of torch."""

import pytest
import torch
from torch import Tensor

from memhop.ops.cpu.adam import adam_

BETAS, EPSILON, RATE = (0.9, 0.98), 1e-8, 0.03


def start(dtype: torch.dtype, size: int) -> tuple[list[Tensor], Tensor]:
    """Weight and moments, and the gradients of three steps."""
    make = torch.Generator().manual_seed(size)
    weight = torch.randn(size, generator=make, dtype=torch.float64).to(dtype)
    gradients = torch.randn(3, size, generator=make, dtype=torch.float64).to(dtype)
    return [weight, torch.zeros_like(weight), torch.zeros_like(weight)], gradients


def steps(tensors: list[Tensor], gradients: Tensor) -> list[Tensor]:
    for number, gradient in enumerate(gradients, start=1):
        adam_([*tensors, gradient], BETAS, EPSILON, RATE, number)
    return tensors


@pytest.mark.parametrize(("dtype", "budget"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_steps_equal_those_of_torch(dtype: torch.dtype, budget: float) -> None:
    tensors, gradients = start(dtype, 77)
    expected = tensors[0].double().requires_grad_()
    adam = torch.optim.Adam([expected], lr=RATE, betas=BETAS, eps=EPSILON)
    for gradient in gradients:
        expected.grad = gradient.double()
        adam.step()
    steps(tensors, gradients)
    state = adam.state[expected]
    truth = expected.detach(), state["exp_avg"], state["exp_avg_sq"]
    for tensor, exact in zip(tensors, truth, strict=True):
        assert tensor.dtype == dtype
        torch.testing.assert_close(tensor.double(), exact, rtol=budget, atol=budget)


def test_a_number_is_bit_equal_at_any_position() -> None:
    tensors, gradients = start(torch.float32, 77)
    for first, last in ((0, 1), (3, 36), (70, 77)):
        part = [tensor[first:last].clone() for tensor in tensors]
        steps(part, gradients[:, first:last])
        whole = steps([tensor.clone() for tensor in tensors], gradients)
        for one, all_of_them in zip(part, whole, strict=True):
            assert torch.equal(one, all_of_them[first:last])


def test_a_gradient_of_any_layout_changes_the_weight_in_place() -> None:
    weight, first, second = (torch.zeros(3, 2) for _ in range(3))
    adam_([weight, first, second, torch.tensor([[1.0, 2, 3], [4, 5, 6]]).mT], BETAS, 0.0, RATE, 1)
    torch.testing.assert_close(weight, torch.full((3, 2), -RATE))
    torch.testing.assert_close(first, 0.1 * torch.tensor([[1.0, 4], [2, 5], [3, 6]]))
