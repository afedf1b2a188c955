"""A batch of questions: which sentences of a bank stand in which slots, and how old they are."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from memhop.text.encoding import Sentences

_MARKS = 2**24  # of sentences in batches at once, to find the distinct ones


class Batch(NamedTuple):
    """Questions for the model; the leading axes may hold restarts.

    Attributes:
        sentences: the bank that the rows below name.
        slots: [..., B, N] rows of the bank, 0 the empty sentence.
        ages: [..., B, N] age of each slot, 1 the newest, 0 for none.
        lengths: [..., B] slots in use; those beyond are padding.
        question: [..., B] rows of the bank.
        chosen: [..., U] rows of the bank that slots and questions name by their place here, the
            last of them all ages in order; None for a whole bank.
    """

    sentences: Sentences
    slots: Tensor
    ages: Tensor
    lengths: Tensor
    question: Tensor
    chosen: Tensor | None = None


def ages(lengths: Tensor, width: int) -> Tensor:
    """Ages [..., N] of slots that hold ``lengths`` [...] sentences, oldest first.

    >>> ages(torch.tensor([3, 1]), 4)
    tensor([[3, 2, 1, 0],
            [1, 0, 0, 0]])
    """
    slot = torch.arange(width, device=lengths.device)
    return (lengths.unsqueeze(-1) - slot).clamp_(min=0)


def chosen_rows(
    sentences: Sentences, slots: Tensor, question: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct sentences of batches, so that a step embeds no others.

    Args:
        sentences: the bank.
        slots: [..., B, N] rows of the bank.
        question: [..., B] rows of the bank.

    Returns:
        ``chosen`` [..., U], and slots and question as places in it; U is that of the batch with
        the most, others are filled up with row 0. The ages stand at the end.
    """
    axes, count = question.shape[:-1], sentences.num_sentences
    sizes = [slots.shape[-2:].numel(), question.shape[-1]]
    named = torch.cat([slots.flatten(-2), question], dim=-1).view(-1, sum(sizes))
    parts = [_distinct(part, count) for part in torch.split(named, max(1, _MARKS // count))]
    width = max((rows.shape[1] for rows, _ in parts), default=0)
    chosen = torch.cat([functional.pad(rows, (0, width - rows.shape[1])) for rows, _ in parts])
    places = torch.cat([part for _, part in parts])
    every_age = torch.arange(count, len(sentences), device=named.device).expand(len(named), -1)
    found = torch.split(places, sizes, dim=1)
    return (
        torch.cat([chosen, every_age], dim=1).view(*axes, -1),
        found[0].reshape(slots.shape),
        found[1].reshape(question.shape),
    )


def _distinct(named: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The distinct numbers below ``count`` in each row, 0 among them, ascending; and their places.

    >>> _distinct(torch.tensor([[4, 2, 4], [3, 0, 0]]), 5)
    (tensor([[0, 2, 4],
            [0, 3, 0]]), tensor([[2, 1, 2],
            [1, 0, 0]]))
    """
    used = torch.zeros(len(named), count, dtype=torch.bool, device=named.device)
    used.scatter_(1, named, True)
    used[:, 0] = True  # the empty sentence keeps its place
    places = used.cumsum(1, dtype=torch.int32) - 1
    row, number = used.nonzero(as_tuple=True)
    chosen = named.new_zeros(len(named), int(places[:, -1].max()) + 1 if len(named) else 0)
    chosen[row, places[row, number]] = number
    return chosen, places.gather(1, named).long()
