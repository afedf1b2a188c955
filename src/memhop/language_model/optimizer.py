"""SGD and Adam on gradients of which some have few rows, and the schedule of the learning rate."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from memhop.language_model.recipe import LanguageRecipe
from memhop.resume import new_adam_state


class RowGradient(NamedTuple):
    """A gradient of a table that is zero but for some rows, all different.

    Attributes:
        rows: int64, [R].
        values: [R, D].
    """

    rows: Tensor
    values: Tensor


Gradients = Mapping[str, Tensor | RowGradient]


class Optimizer:
    """SGD or Adam with a bound on the norm of the whole gradient.

    Attributes:
        moments: the state of Adam by name, for checkpoints; empty for SGD.
    """

    def __init__(self, network: nn.Module, recipe: LanguageRecipe) -> None:
        self._weights = dict(network.named_parameters())
        self._clip_norm = recipe.clip_norm
        self.moments: dict[str, Tensor] = {}
        self._adam: torch.optim.Adam | None = None
        if recipe.optimizer == "adam":
            self._adam = torch.optim.Adam(self._weights.values(), fused=True)
            self.moments = new_adam_state(self._adam, self._weights)

    @torch.no_grad()
    def step(self, gradients: Gradients, rate: float) -> None:
        """Take a step; the gradients may be scaled in place."""
        scale = min(1.0, self._clip_norm / max(norm_of(gradients), 1e-30))
        if self._adam is None:
            for name, gradient in gradients.items():
                descend(self._weights[name], gradient, -rate * scale)
            return
        for name, gradient in gradients.items():
            weight = self._weights[name]
            weight.grad = dense(gradient, weight)
            if scale < 1:
                weight.grad.mul_(scale)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        for weight in self._weights.values():
            weight.grad = None


def norm_of(gradients: Gradients) -> float:
    """Return the Euclidean norm of all gradients together."""
    each = [
        torch.linalg.vector_norm(one.values if isinstance(one, RowGradient) else one)
        for one in gradients.values()
    ]
    return float(torch.linalg.vector_norm(torch.stack(each)))


def descend(weight: Tensor, gradient: Tensor | RowGradient, factor: float) -> None:
    """Add a multiple of a gradient to a weight."""
    if isinstance(gradient, RowGradient):
        weight.index_add_(0, gradient.rows, gradient.values, alpha=factor)
    else:
        weight.add_(gradient, alpha=factor)


def dense(gradient: Tensor | RowGradient, weight: Tensor) -> Tensor:
    """Return a gradient of the shape of its weight."""
    if isinstance(gradient, RowGradient):
        return torch.zeros_like(weight).index_copy_(0, gradient.rows, gradient.values)
    return gradient


def cosine_rate(recipe: LanguageRecipe, step: int, steps: int) -> float:
    """Return the learning rate of step ``step`` of ``steps``, from 0 on; see `LanguageRecipe`.

    >>> recipe = LanguageRecipe(learning_rate=1.0, min_learning_rate=0.0, warmup_steps=2)
    >>> [round(cosine_rate(recipe, step, 8), 2) for step in (0, 1, 4, 7)]
    [0.5, 0.96, 0.5, 0.04]
    """
    low, high = recipe.min_learning_rate, recipe.learning_rate
    rate = low + (high - low) * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2
    return rate * min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else rate
