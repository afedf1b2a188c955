"""Steps: the rate of an epoch, how gradients are clipped, and the rules that weights follow."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memhop.recipe import Recipe
from memhop.training.optimizer import Optimizer, clip_spectral_, learning_rate

# The rate.


def test_the_rate_of_one_task_is_the_authors() -> None:
    """20 epochs of linear start, then 100, halved at the start of epochs 25, 50, 75 and 100."""
    rates = [learning_rate(Recipe.paper(), epoch) for epoch in range(120)]
    wanted = [0.005] * 20
    for epoch in range(1, 101):
        wanted.append(0.005 / 2 ** sum(epoch >= start for start in (25, 50, 75, 100)))
    assert rates == wanted


def test_the_rate_of_joint_training_is_the_authors() -> None:
    rates = [learning_rate(Recipe.paper(joint=True), epoch) for epoch in range(90)]
    wanted = [0.005] * 30
    for epoch in range(1, 61):
        wanted.append(0.005 / 2 ** sum(epoch >= start for start in (15, 30, 45, 60)))
    assert rates == wanted


def test_the_rate_can_be_constant() -> None:
    recipe = Recipe(halve_every=0, learning_rate=0.3, linear_start_epochs=0)
    assert {learning_rate(recipe, epoch) for epoch in range(100)} == {0.3}


# Clipping.


def clipped(matrices: Tensor, limit: float) -> Tensor:
    result = matrices.clone()
    clip_spectral_(result, limit)
    return result


@pytest.mark.parametrize("axes", [(), (5,), (3, 2)])
@pytest.mark.parametrize("shape", [(30, 4), (4, 4), (2, 7), (1, 1), (60, 20)])
def test_no_spectral_norm_is_above_the_limit(axes: tuple[int, ...], shape: tuple[int, int]) -> None:
    torch.manual_seed(len(axes))
    for scale in (0.01, 0.5, 1, 3, 1e6):
        matrices = torch.randn(*axes, *shape) * scale
        got = clipped(matrices, 5.0).view(-1, *shape).double().numpy()
        for before, after in zip(matrices.view(-1, *shape).double().numpy(), got, strict=True):
            norm = np.linalg.norm(before, 2)
            wanted = before * min(1, 5.0 / norm)
            np.testing.assert_allclose(after, wanted, rtol=1e-6)
            if norm <= 5.0:
                np.testing.assert_array_equal(after, before)


def test_close_to_the_limit() -> None:
    """Frobenius and spectral norm on either side of the limit."""
    rank_one = torch.outer(torch.ones(9), torch.ones(4)) / 6  # both norms are 1
    for factor in (0.999, 0.9999, 1.0001, 1.001, 40):
        matrix = rank_one * factor * 40
        norm = np.linalg.norm(clipped(matrix, 40.0).double().numpy(), 2)
        assert norm == pytest.approx(min(40.0, 40.0 * factor), rel=1e-6)
        assert torch.equal(clipped(matrix, 40.0), matrix) == (factor < 1)
    even = torch.eye(4) * 39.9  # spectral 39.9, Frobenius 79.8
    assert torch.equal(clipped(even, 40.0), even)


@pytest.mark.parametrize("second", [0.0, 0.3, 0.7, 0.9, 0.999, 1 - 1e-6, 1.0])
@pytest.mark.parametrize("columns", [2, 20, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_singular_values_of_any_distance(columns: int, second: float, dtype: torch.dtype) -> None:
    """The largest one is 1, or half the limit; the others reach up to ``second`` of it."""
    random = np.random.default_rng(columns)
    left, right = (np.linalg.qr(random.standard_normal((n, columns)))[0] for n in (80, columns))
    values = second * np.linspace(1, 0, columns)
    values[-1] = 1
    for factor in (0.5, 1.5, 4e3):
        matrix = torch.from_numpy(left * values * factor * 40 @ right).to(dtype)
        wanted = matrix.double().numpy() * min(1, 1 / factor)
        np.testing.assert_allclose(clipped(matrix, 40.0), wanted, rtol=1e-6)


def test_flat_matrices_below_the_limit_take_no_eigenvalues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.linalg, "eigvalsh")
    matrices = torch.linalg.qr(torch.randn(3, 80, 20))[0] * 20  # Frobenius norms are 89
    assert torch.equal(clipped(matrices, 40.0), matrices)


def test_a_matrix_is_clipped_alike_whatever_the_others_are() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(9, 30, 20) * torch.rand(9, 1, 1) * 5  # some are below the limit
    matrices[0] = torch.eye(30, 20) * 9  # takes the most products
    whole = clipped(matrices, 7.0)
    for index in range(9):
        assert torch.equal(clipped(matrices[index], 7.0), whole[index])


def test_what_is_not_finite_is_left_alone_and_its_neighbours_are_not() -> None:
    matrices = torch.randn(5, 6, 4) * 100
    matrices[1, 2, 3] = torch.nan
    matrices[2, 0, 0] = torch.inf
    matrices[3] = 0
    matrices[4] = 1e30  # its norm is more than float32 holds
    got = clipped(matrices, 40.0)
    torch.testing.assert_close(got[1:4], matrices[1:4], rtol=0, atol=0, equal_nan=True)
    for index in (0, 4):
        assert np.linalg.norm(got[index].double().numpy(), 2) == pytest.approx(40, rel=1e-6)
    alone = torch.full((2, 2), torch.nan)
    assert clipped(alone, 1.0).isnan().all()


# The rules.


def descended(recipe: Recipe, steps: int = 7) -> tuple[dict[str, Tensor], Optimizer]:
    """Two weights after some steps down a loss that is no quadratic."""
    torch.manual_seed(1)
    weights = {
        "tables": torch.randn(3, 5, 4, requires_grad=True),
        "map": torch.randn(3, 4, 4, requires_grad=True),
    }
    optimizer = Optimizer(weights, recipe)
    for number in range(1, steps + 1):
        gradients = torch.autograd.grad(loss_of(weights), list(weights.values()))
        optimizer.step(gradients, 0.03 / number, number)
    return weights, optimizer


def loss_of(weights: dict[str, Tensor]) -> Tensor:
    return (weights["tables"] @ weights["map"]).tanh().square().sum()


@pytest.mark.parametrize("is_compiled", [True, False])
def test_adam_is_that_of_torch(is_compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_compiled:
        monkeypatch.setattr("memhop.training.optimizer.are_readable", lambda *_: False)
        monkeypatch.setattr("memhop.ops.cpu.adam.adam_", None)
    torch.manual_seed(1)
    tables, other = torch.randn(3, 5, 4), torch.randn(3, 4, 4)
    theirs = {
        "tables": tables.double().requires_grad_(),
        "map": other.double().requires_grad_(),
    }
    adam = torch.optim.Adam(theirs.values(), lr=0.03, betas=(0.9, 0.98))
    for number in range(1, 8):
        adam.param_groups[0]["lr"] = 0.03 / number
        adam.zero_grad()
        loss_of(theirs).backward()  # type: ignore[no-untyped-call]
        adam.step()
    ours, optimizer = descended(Recipe(optimizer="adam", clip_norm=0))
    for name, weight in ours.items():
        torch.testing.assert_close(weight.double(), theirs[name], rtol=1e-5, atol=1e-6)
    kept = {f"adam.{moment}.{name}" for moment in ("first", "second") for name in ours}
    assert optimizer.moments.keys() == kept
    assert not any(moment.requires_grad for moment in optimizer.moments.values())


def test_plain_descent_remembers_nothing() -> None:
    weights, optimizer = descended(Recipe(clip_norm=0), steps=1)
    torch.manual_seed(1)
    start = {"tables": torch.randn(3, 5, 4), "map": torch.randn(3, 4, 4)}
    leaves = {name: weight.requires_grad_() for name, weight in start.items()}
    gradients = torch.autograd.grad(loss_of(leaves), list(leaves.values()))
    for (name, weight), gradient in zip(leaves.items(), gradients, strict=True):
        torch.testing.assert_close(weights[name], weight - 0.03 * gradient)
    assert optimizer.moments == {}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_gradients_are_clipped_before_they_are_followed(optimizer: Any) -> None:
    free, bound = (descended(Recipe(optimizer=optimizer, clip_norm=c))[0] for c in (1e6, 0.01))
    assert not torch.equal(free["map"], bound["map"])


def test_restarts_never_mix() -> None:
    """One that is not finite leaves the others as they are."""
    recipe = Recipe(optimizer="adam")
    torch.manual_seed(2)
    start = torch.randn(3, 5, 4)
    ended = []
    for poison in (1.0, torch.inf):
        weight = start.clone().requires_grad_()
        optimizer = Optimizer({"tables": weight}, recipe)
        for number in range(1, 4):
            scale = torch.tensor([1.0, poison, 1.0])
            loss = (weight.square().sum((1, 2)) * scale).sum()
            optimizer.step(torch.autograd.grad(loss, [weight]), 0.01, number)
        ended.append(weight.detach())
    assert torch.equal(ended[0][[0, 2]], ended[1][[0, 2]])
    assert not ended[1][1].isfinite().all()


def test_the_linear_rate_falls_to_nothing_behind_the_last_epoch() -> None:
    recipe = Recipe(schedule="linear", learning_rate=2.0, epochs=60, linear_start_epochs=40)
    rates = [learning_rate(recipe, epoch) for epoch in range(100)]
    assert rates[:31] == [2.0] * 31
    np.testing.assert_allclose(np.diff(rates[30:]), -2 / 70)
    assert rates[-1] == pytest.approx(2 / 70)
