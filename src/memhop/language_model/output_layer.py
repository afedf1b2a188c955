"""The output layer: -log softmax(W u) of the next word, in blocks of positions.

The scores of a block are held, [128, V], never those of all positions. The gradients are computed
with the loss, from the same scores, as in arXiv 2410.10989 (section 3.2).
"""

from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 128  # positions whose scores are held at once


class LossAndGradients(NamedTuple):
    """The loss summed over the positions, and its gradients by u [P, D] and by W [V, D]."""

    loss: float
    hidden: Tensor
    weight: Tensor


@torch.no_grad()
def losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return -log p of the target word at each position, [P]; p = softmax(W u).

    Args:
        hidden: u, [P, D].
        weight: W, [V, D].
        targets: int64, [P].

    >>> losses(torch.zeros(2, 3), torch.ones(4, 3), torch.tensor([0, 3]))  # log 4
    tensor([1.3863, 1.3863])
    """
    found = hidden.new_empty(len(hidden))
    for start in range(0, len(hidden), _BLOCK):
        rows = slice(start, start + _BLOCK)
        log_p = torch.log_softmax(hidden[rows] @ weight.T, -1)
        found[rows] = -log_p.gather(1, targets[rows].unsqueeze(1)).squeeze(1)
    return found


@torch.no_grad()
def loss_and_gradients(
    hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype = torch.float32
) -> LossAndGradients:
    """Return the sum of `losses` and its gradients.

    Args:
        hidden, weight, targets: as in `losses`.
        dtype: of the matrix products: that of ``weight``, or ``torch.bfloat16``, which rounds their
            inputs and results. Scores become float32 before the softmax, and sums over blocks are
            float32.

    >>> found = loss_and_gradients(torch.zeros(1, 2), torch.eye(2), torch.tensor([0]))
    >>> found.hidden
    tensor([[-0.5000,  0.5000]])
    """
    exact = weight.dtype
    multiplied, u = weight.to(dtype), hidden.to(dtype)
    of_hidden, of_weight = torch.empty_like(hidden), torch.empty_like(weight)
    loss = 0.0
    for start in range(0, len(hidden), _BLOCK):
        rows = slice(start, start + _BLOCK)
        wanted = targets[rows].unsqueeze(1)
        log_p = torch.log_softmax((u[rows] @ multiplied.T).to(exact), -1)
        loss -= float(log_p.gather(1, wanted).sum(dtype=torch.float64))
        by_score = log_p.exp_()
        by_score.scatter_add_(1, wanted, by_score.new_full(wanted.shape, -1.0))
        by_score = by_score.to(dtype)
        of_hidden[rows] = by_score @ multiplied
        product = by_score.T @ u[rows]
        of_weight = product.to(exact) if start == 0 else of_weight.add_(product)
    return LossAndGradients(loss, of_hidden, of_weight)
