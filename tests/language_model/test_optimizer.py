"""SGD and Adam on gradients of few rows, against ``torch.optim``."""

import itertools
from typing import Literal

import pytest
import torch
from torch import nn

from memhop.language_model.optimizer import Gradients, Optimizer, RowGradient, cosine_rate, norm_of
from memhop.language_model.recipe import LanguageRecipe

OTHERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


class Weights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(6, 3, generator=generator))
        self.map = nn.Parameter(torch.randn(3, 3, generator=generator))


@pytest.mark.parametrize("clip_norm", [1e6, 0.5])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_steps_equal_those_of_torch(optimizer: Literal["sgd", "adam"], clip_norm: float) -> None:
    own, theirs = Weights(), Weights()
    ours = Optimizer(own, LanguageRecipe(optimizer=optimizer, clip_norm=clip_norm))
    other = OTHERS[optimizer](theirs.parameters(), lr=1.0)
    torch.manual_seed(1)
    for rows, rate in (([0, 4], 0.1), ([5], 0.2), ([4, 1, 2], 0.05)):
        values, of_map = torch.randn(len(rows), 3), torch.randn(3, 3)
        theirs.table.grad = torch.zeros(6, 3).index_copy_(0, torch.tensor(rows), values)
        theirs.map.grad = of_map.clone()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        gradients: Gradients = {"table": RowGradient(torch.tensor(rows), values), "map": of_map}
        assert norm_of(gradients) == pytest.approx(float(norm))
        for group in other.param_groups:
            group["lr"] = rate
        other.step()
        ours.step(gradients, rate)
        for one, wanted in zip(own.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, wanted)


def test_moments_are_those_of_adam() -> None:
    network = Weights()
    optimizer = Optimizer(network, LanguageRecipe(optimizer="adam"))
    gradient = torch.ones(3, 3)
    optimizer.step({"map": gradient, "table": torch.zeros(6, 3)}, 0.1)
    assert float(optimizer.moments["adam.map.step"]) == 1
    torch.testing.assert_close(optimizer.moments["adam.map.exp_avg"], 0.1 * gradient)
    assert Optimizer(network, LanguageRecipe()).moments == {}


def test_the_rate_falls_along_a_cosine_after_the_warm_up() -> None:
    recipe = LanguageRecipe(learning_rate=0.4, min_learning_rate=0.1, warmup_steps=4)
    rates = [cosine_rate(recipe, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[1] == pytest.approx(0.2, rel=1e-3)
    assert rates[50] == pytest.approx(0.25)
    assert rates[100] == pytest.approx(0.1)
    assert all(one > other for one, other in itertools.pairwise(rates[4:]))
