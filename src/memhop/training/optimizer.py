"""How weights follow their gradients: plain optimizer, clipped, or Adam.

Weights and gradients start with the axis of the restarts, which never mix.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from memhop.recipe import Recipe

_FIRST, _SECOND = 0.9, 0.98  # what the moments of Adam keep of themselves in a step
_EPSILON = 1e-8


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """The rate of an epoch, from 0 on.

    ``halving``: constant in the linear start, then halved. ``linear``: constant for three tenths
    of all epochs, then falling towards zero behind the last.

    >>> [learning_rate(Recipe.paper(), epoch) for epoch in (0, 19, 20, 43, 44, 119)]
    [0.005, 0.005, 0.005, 0.005, 0.0025, 0.0003125]
    >>> falling = Recipe(schedule="linear", learning_rate=1, epochs=10, linear_start_epochs=0)
    >>> [round(learning_rate(falling, epoch), 2) for epoch in (0, 3, 4, 9)]
    [1.0, 1.0, 0.86, 0.14]
    """
    if recipe.schedule == "linear":
        epochs = recipe.linear_start_epochs + recipe.epochs
        return recipe.learning_rate * min(1.0, (epochs - epoch) / (0.7 * epochs))
    after_start = epoch - recipe.linear_start_epochs + 1
    if after_start <= 0 or not recipe.halve_every:
        return recipe.learning_rate
    return recipe.learning_rate * 0.5 ** (after_start // recipe.halve_every)


@torch.no_grad()
def clip_spectral_(gradient: Tensor, limit: float) -> None:
    """Scale each matrix [..., rows, d] whose spectral norm is above ``limit`` down to it, in place.

    Singular values cost most, so two bounds come first: the norm is at most the Frobenius norm
    of G, and its square at most that of G^T G. Matrices that are not finite are left alone.
    """
    matrices = gradient.view(-1, *gradient.shape[-2:])
    frobenius = torch.linalg.vector_norm(matrices, dim=(-2, -1))
    suspects = (frobenius > limit).nonzero().flatten()
    if not len(suspects):
        return
    large = matrices[suspects].double()
    finite = large.isfinite().all(dim=-1).all(dim=-1)  # the norm in float32 may overflow before
    suspects, large = suspects[finite], large[finite]
    squared = large.mT @ large
    over = torch.linalg.vector_norm(squared, dim=(-2, -1)) > limit**2
    spectral = torch.linalg.eigvalsh(squared[over])[:, -1].sqrt()
    matrices[suspects[over]] *= (limit / spectral).clamp_(max=1).to(gradient.dtype)[:, None, None]


class Optimizer:
    """The rule by which weights move, and what it remembers of earlier steps.

    ``sgd``: w <- w - rate g. ``adam`` (Kingma and Ba, arXiv 1412.6980), with m and v the means of
    g and g^2 that forget: w <- w - rate m' / (sqrt(v') + 1e-8), ' for what corrects their start.

    Attributes:
        moments: the m and v of ``adam`` by name, to be kept with the weights; empty with ``sgd``.
    """

    def __init__(self, weights: Mapping[str, Tensor], recipe: Recipe) -> None:
        self._weights, self._clip_norm = dict(weights), recipe.clip_norm
        self.moments = (
            {
                f"adam.{moment}.{name}": torch.zeros_like(weight, requires_grad=False)
                for name, weight in self._weights.items()
                for moment in ("first", "second")
            }
            if recipe.optimizer == "adam"
            else {}
        )

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rate: float, number: int) -> None:
        """Take step ``number``, from 1 on, down a loss; its gradients are clipped in place."""
        for (name, weight), gradient in zip(self._weights.items(), gradients, strict=True):
            if self._clip_norm:
                clip_spectral_(gradient, self._clip_norm)
            if not self.moments:
                weight.sub_(gradient, alpha=rate)
                continue
            first, second = (self.moments[f"adam.{one}.{name}"] for one in ("first", "second"))
            first.lerp_(gradient, 1 - _FIRST)
            second.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
            scale = (second / (1 - _SECOND**number)).sqrt_().add_(_EPSILON)
            weight.addcdiv_(first, scale, value=-rate / (1 - _FIRST**number))
