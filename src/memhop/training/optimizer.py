"""SGD and Adam with gradient clipping by spectral norm, and the learning-rate schedules.

Weights and gradients have a leading axis of independent restarts.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from memhop.ops.fused.addresses import are_readable
from memhop.recipe import Recipe

_BETA1, _BETA2, _EPSILON = 0.9, 0.98, 1e-8
_DOUBLINGS = 4  # of the power of G^T G that bounds a spectral norm
_SHARP = 1e-4  # difference of the logarithms of two bounds, of which the second is exact


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Return the learning rate of an epoch, from 0 on.

    ``halving``: constant in the linear start, then halved every ``halve_every`` epochs. ``linear``:
    constant for 30% of all epochs, then linearly to zero after the last.

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
    """Scale matrices [..., rows, d] in place so that no spectral norm is above ``limit``.

    Matrices that are not finite stay unchanged.
    """
    matrices = gradient.view(-1, *gradient.shape[-2:])
    frobenius = torch.linalg.vector_norm(matrices, dim=(-2, -1))
    suspects = (frobenius > limit).nonzero().flatten()  # the spectral norm is at most this
    if not len(suspects):
        return
    norms, is_exact = _spectral_norms(matrices[suspects])
    scales = torch.ones_like(frobenius)
    scales[suspects] = (limit / norms).clamp_(max=1).to(scales.dtype)
    is_known = is_exact | (norms <= limit)
    if not is_known.all():
        rest = suspects[~is_known]
        large = matrices[rest].double()
        finite = large.isfinite().all(dim=-1).all(dim=-1)  # their float32 norm may be infinite
        large = large[finite]
        spectral = torch.linalg.eigvalsh(large.mT @ large)[:, -1].sqrt()
        scales[rest] = 1
        scales[rest[finite]] = (limit / spectral).clamp_(max=1).to(scales.dtype)
    matrices.mul_(scales[:, None, None])


def _spectral_norms(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return upper bounds of spectral norms, float64, and whether each is exact but for rounding
    in the dtype of the matrices.

    For A = G^T G and any m, the norm is at most |A^m|^(1 / 2m), with the Frobenius norm |.|. With
    s the sum of (lambda_i / lambda_1)^2m over all eigenvalues but the largest, the logarithm of the
    bound of lambda_1 is too large by log(1 + s) / 2m, that of 2m by at most s^2 / 4m. If the two
    differ by e, at most ``_SHARP``, then s is about 2m e, and the latter by about m e^2.
    """
    power = matrices.mT @ matrices
    log_norm = torch.zeros(len(power), dtype=torch.float64, device=power.device)
    bound = torch.full_like(log_norm, torch.inf)
    is_exact = torch.zeros(len(power), dtype=torch.bool, device=power.device)
    for doublings in range(_DOUBLINGS + 1):
        norm = torch.linalg.vector_norm(power, dim=(-2, -1))
        log_norm += norm.double().log()
        tighter = log_norm / 2**doublings
        is_sharp = bound - tighter < _SHARP
        bound = torch.where(is_exact, bound, tighter)  # whatever the other matrices need
        is_exact |= is_sharp
        if doublings == _DOUBLINGS or is_exact.all():
            break
        power /= norm[:, None, None]
        power = power @ power
        log_norm *= 2
    return (bound / 2).exp_(), is_exact


class Optimizer:
    """SGD, or Adam (arXiv 1412.6980); gradients are clipped first.

    Unlike ``torch.optim.Adam`` it takes the square root after the bias correction, as the paper
    does, which rounds differently.

    Attributes:
        moments: the moments of Adam by name, for checkpoints; empty for SGD.
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
        """Take step ``number``, from 1 on; the gradients are clipped in place."""
        for (name, weight), gradient in zip(self._weights.items(), gradients, strict=True):
            if self._clip_norm:
                clip_spectral_(gradient, self._clip_norm)
            if not self.moments:
                weight.sub_(gradient, alpha=rate)
                continue
            is_readable = weight.is_cpu and are_readable(weight, gradient)
            first, second = (self.moments[f"adam.{m}.{name}"] for m in ("first", "second"))
            if is_readable and weight.is_contiguous():
                from memhop.ops.cpu.adam import adam_  # numba takes half a second to import

                tensors, betas = (weight, first, second, gradient), (_BETA1, _BETA2)
                adam_(tensors, betas, _EPSILON, rate, number)
                continue
            first.lerp_(gradient, 1 - _BETA1)
            second.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
            scale = (second / (1 - _BETA2**number)).sqrt_().add_(_EPSILON)
            weight.addcdiv_(first, scale, value=-rate / (1 - _BETA1**number))
