"""The output layer: -log softmax(W u) of the next word, in blocks of positions.

The scores of a block are held, [256, V], never those of all positions. The gradients are computed
with the loss, from the same scores, as in arXiv 2410.10989 (section 3.2).
"""

from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 256  # positions whose scores are held at once


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


class OutputLayer:
    """The losses and gradients of one W, in buffers that are used again at each step.

    New memory of this size costs more than the products: the system clears each of its pages.

    Args:
        weight: W, [V, D].
        dtype: of the matrix products: that of W, or ``torch.bfloat16``, which rounds their inputs
            and results. The softmax and the sums over blocks have the dtype of W.
    """

    def __init__(self, weight: Tensor, dtype: torch.dtype = torch.float32) -> None:
        self._weight, self._dtype = weight.detach(), dtype
        self._gradient = torch.empty_like(self._weight)
        self._log_p = weight.new_empty(_BLOCK, len(weight)).detach()
        self._rounded = None
        if dtype != weight.dtype:
            own = self._weight, self._gradient, self._log_p
            self._rounded = tuple(torch.empty_like(one, dtype=dtype) for one in own)

    @torch.no_grad()
    def __call__(self, hidden: Tensor, targets: Tensor) -> LossAndGradients:
        """Return the sum of `losses` and its gradients; that of W is valid until the next call.

        >>> found = OutputLayer(torch.eye(2))(torch.zeros(1, 2), torch.tensor([0]))
        >>> found.hidden
        tensor([[-0.5000,  0.5000]])
        """
        of_hidden, of_weight = torch.empty_like(hidden), self._gradient
        if self._rounded is not None:
            self._rounded[0].copy_(self._weight)
            hidden = hidden.to(self._dtype)
        loss = 0.0
        for start in range(0, len(hidden), _BLOCK):
            rows = slice(start, start + _BLOCK)
            wanted = targets[rows].unsqueeze(1)
            loss += self._block(hidden[rows], wanted, of_hidden[rows], is_first=start == 0)
        if not len(hidden):
            of_weight.zero_()
        return LossAndGradients(loss, of_hidden, of_weight)

    def _block(self, u: Tensor, targets: Tensor, of_hidden: Tensor, *, is_first: bool) -> float:
        """Return the loss of a block; write the gradient of u, and write or add that of W."""
        log_p, of_weight = self._log_p[: len(u)], self._gradient
        weight, product, scores = self._rounded or (self._weight, of_weight, self._log_p)
        scores = scores[: len(u)]
        torch.mm(u, weight.T, out=scores)
        if scores is not log_p:
            log_p.copy_(scores)
        torch.log_softmax(log_p, -1, out=log_p)
        loss = -float(log_p.gather(1, targets).sum(dtype=torch.float64))
        log_p.exp_().scatter_add_(1, targets, log_p.new_full(targets.shape, -1.0))
        if self._rounded is None:
            torch.mm(log_p, weight, out=of_hidden)
            of_weight.addmm_(log_p.T, u, beta=0.0 if is_first else 1.0)
            return loss
        of_hidden.copy_(scores.copy_(log_p) @ weight)
        torch.mm(scores.T, u, out=product)
        if is_first:
            of_weight.copy_(product)
        else:
            of_weight.add_(product)
        return loss
