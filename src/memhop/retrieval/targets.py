"""The right rows of each hop, and the loss of a model that should read them."""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from memhop.errors import MemhopError, shown
from memhop.retrieval.memory import Memory
from memhop.retrieval.questions import Questions

RightRows = tuple[tuple[int, ...], ...]  # of a question, for each hop; () where nothing is known


def right_rows(memory: Memory, questions: Questions, num_hops: int) -> list[RightRows]:
    """Return the right rows of each question and hop.

    They are the rows of the gold ids. Where the last hop has no gold id, they are all rows that
    give one of the right answers.

    Raises:
        MemhopError: another number of hops, an id that is not in the memory, or a question of
            which no hop is known.
    """
    return [_of_question(memory, questions, number, num_hops) for number in range(len(questions))]


def _of_question(memory: Memory, questions: Questions, number: int, num_hops: int) -> RightRows:
    hops: list[tuple[int, ...]] = [()] * num_hops
    if questions.gold is not None:
        gold = questions.gold[number]
        if len(gold) != num_hops:
            raise MemhopError(
                f"gold of question {number}: expected {num_hops} hops, got {len(gold)}"
            )
        hops = [_rows_of_hop(memory, item, number) for item in gold]
    answers: Sequence[Hashable] = ()
    if questions.answers is not None and not hops[-1]:
        answers = questions.answers[number]
        rows = [row for answer in answers for row in memory.rows_answering(answer)]
        hops[-1] = tuple(dict.fromkeys(rows))
    if not any(hops):
        if answers:
            raise MemhopError(
                f"question {number}: expected an answer of the memory, got {shown(answers)}"
            )
        raise MemhopError(f"question {number}: expected gold ids or answers, got neither")
    return tuple(hops)


def _rows_of_hop(memory: Memory, item: Any, number: int) -> tuple[int, ...]:
    rows: list[int] = []
    for name in item if isinstance(item, list | set | frozenset) else [item]:
        found = memory.rows_of(name)
        if not found:
            raise MemhopError(
                f"gold of question {number}: expected an id of the memory, got {shown(name)}"
            )
        rows += found
    return tuple(rows)


def loss_of(weights: Tensor, targets: Sequence[RightRows]) -> Tensor:
    """Return the mean over the questions of - sum_k log sum_{i right at hop k} p_ki.

    The sum is over the hops of which something is known. A weight below the smallest normal
    float32 counts as that number.

    Args:
        weights: p, [B, K, N].
        targets: the right rows of the B questions.

    >>> weights = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]])
    >>> loss_of(weights, [((0,), (0, 1))])
    tensor(0.6931)
    """
    index = [
        (question, hop, row)
        for question, hops in enumerate(targets)
        for hop, rows in enumerate(hops)
        for row in rows
    ]
    question, hop, row = torch.tensor(index, device=weights.device).unbind(-1)
    num_hops = weights.shape[1]
    groups = question * num_hops + hop
    sums = weights.new_zeros(len(targets) * num_hops)
    sums = sums.index_add(0, groups, weights[question, hop, row])
    known = torch.zeros_like(sums, dtype=torch.bool)
    known[groups] = True
    smallest = torch.finfo(weights.dtype).tiny
    return -sums[known].clamp_min(smallest).log().sum() / len(targets)
