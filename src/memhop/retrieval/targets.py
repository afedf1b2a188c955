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
    return tuple(dict.fromkeys(rows))  # a row that is named twice counts once


def loss_of(log_weights: Sequence[Tensor], targets: Sequence[RightRows]) -> Tensor:
    """Return the mean over the questions of - sum_k log sum_{i right at hop k} p_ki.

    The sum over k is over the hops of which something is known.

    Args:
        log_weights: log p of each of the K hops, [B, N]. Logarithms, because a p that is 0 in
            float32 has a gradient too.
        targets: the right rows of the B questions.

    >>> hops = torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]])
    >>> loss_of(hops.log().unbind(), [((0,), (0, 1))])
    tensor(0.6931)
    """
    total = log_weights[0].new_zeros(())
    for hop, of_hop in enumerate(log_weights):
        index = [(number, row) for number, hops in enumerate(targets) for row in hops[hop]]
        if index:
            numbers, rows = torch.tensor(index, device=of_hop.device).unbind(-1)
            total = total - _log_sums(of_hop[numbers, rows], numbers).sum()
    return total / len(targets)


def _log_sums(logs: Tensor, numbers: Tensor) -> Tensor:
    """Return log sum exp of the logs with the same number, in the order of the numbers."""
    distinct, places = torch.unique(numbers, return_inverse=True)
    greatest = torch.full_like(distinct, -torch.inf, dtype=logs.dtype)
    greatest = greatest.scatter_reduce(0, places, logs.detach(), "amax")
    sums = torch.zeros_like(greatest).index_add(0, places, (logs - greatest[places]).exp())
    return greatest + sums.log()
