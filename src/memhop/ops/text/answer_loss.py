"""The answer's scores and its cross entropy, with one pass for both gradients."""

from typing import Any

import torch
from torch import Tensor

from memhop.ops.errors import refuse_create_graph


def answer_loss(query: Tensor, table: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross entropy of answers, [..., B], and all scores W q, [..., B, V].

    Gradients pass through the cross entropy only.

    Args:
        query: q, [..., B, d].
        table: W, [..., V, d].
        rows: int64 [..., B], the right row of W, from 0 on.
    """
    losses, scores = _AnswerLoss.apply(query, table, rows)  # type: ignore[no-untyped-call]
    return losses, scores


class _AnswerLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        scores = query @ table.mT
        logarithms = scores.log_softmax(-1)
        ctx.save_for_backward(query, table, rows, logarithms)
        ctx.mark_non_differentiable(scores)
        ctx.set_materialize_grads(False)
        return -logarithms.gather(-1, rows.unsqueeze(-1)).squeeze(-1), scores

    @staticmethod
    def backward(ctx: Any, grad_losses: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
        refuse_create_graph("through the loss of answers")
        query, table, rows, logarithms = ctx.saved_tensors
        grad_scores = logarithms.exp().mul_(grad_losses.unsqueeze(-1))
        grad_scores.scatter_add_(-1, rows.unsqueeze(-1), -grad_losses.unsqueeze(-1))
        return grad_scores @ table, grad_scores.mT @ query, None
