"""Recall at k of each hop."""

from collections.abc import Sequence

from memhop.errors import MemhopError, check_integer
from memhop.retrieval.memory import Memory
from memhop.retrieval.model import RetrievalModel
from memhop.retrieval.questions import Questions
from memhop.retrieval.targets import RightRows, right_rows


def recall(
    model: RetrievalModel, memory: Memory, questions: Questions, k: Sequence[int] = (1, 5)
) -> list[dict[int, float]]:
    """Return for each hop the share of questions with a right row among the k read most.

    Right are the gold rows of a hop; at the last hop of questions without gold rows, those that
    give a right answer. Questions of which nothing is known at a hop do not count there.

    Args:
        model: trained or not.
        memory, questions: their vectors have the sizes of the model's.
        k: numbers from 1 on.

    Returns:
        A dictionary from k to a share from 0 to 1 for each hop; empty for a hop at which nothing
        is known of any question.

    Raises:
        MemhopError: as for `train`, or a k that is no positive integer.

    >>> import torch
    >>> memory = Memory(torch.eye(3), ids="abc")
    >>> model = RetrievalModel(key_dim=3, value_dim=3, num_hops=1)
    >>> recall(model, memory, Questions(torch.eye(3), gold=[["a"], ["b"], ["a"]]), k=(1, 3))
    [{1: 0.6666666666666666, 3: 1.0}]
    """
    targets = right_rows(memory, questions, model.num_hops)
    return recall_of(model, memory, questions, targets, k)


def recall_of(
    model: RetrievalModel,
    memory: Memory,
    questions: Questions,
    targets: Sequence[RightRows],
    k: Sequence[int],
) -> list[dict[int, float]]:
    """Return the same as `recall`, from right rows."""
    if not k:
        raise MemhopError("k: expected at least 1 number, got none")
    most = max(check_integer("k", number, 1) for number in k)
    _, rows = model.top_rows(memory, questions, most)
    shares: list[dict[int, float]] = []
    for hop in range(model.num_hops):
        known = [(set(right[hop]), found[hop]) for right, found in
                 zip(targets, rows.tolist(), strict=True) if right[hop]]  # fmt: skip
        counts = {number: sum(not right.isdisjoint(found[:number]) for right, found in known)
                  for number in k}  # fmt: skip
        shares.append({number: count / len(known) for number, count in counts.items() if known})
    return shares
