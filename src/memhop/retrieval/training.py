"""Train the matrices of the hops, with gold rows or with answers alone."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.errors import DivergedError, MemhopError, check_integer, shown
from memhop.retrieval.evaluation import recall_of
from memhop.retrieval.memory import Memory
from memhop.retrieval.model import RetrievalModel
from memhop.retrieval.questions import Questions
from memhop.retrieval.targets import RightRows, loss_of, right_rows

BATCH_SIZE = 64
PATIENCE = 12  # epochs without a lower held-out loss, after which training stops
_HELD_OUT_PARTS = 10  # a tenth of the questions is held out
_MAX_SEED = 2**63 - 1
_SCALE_RATE = 0.01  # learning rate of the logarithm of the scale


class Epoch(NamedTuple):
    """The state of a training after an epoch.

    Attributes:
        epoch: its number, from 1 on.
        loss: the mean loss of the training questions, while they were trained on.
        valid_loss: that of the held-out questions after the epoch; None if none is held out.
        seconds: time since the start.
    """

    epoch: int
    loss: float
    valid_loss: float | None
    seconds: float


class TrainingResult(NamedTuple):
    """A finished training.

    Attributes:
        model: with the weights of the best epoch.
        epochs: all epochs that were trained.
        best_epoch: the number of the epoch with the lowest held-out loss; of the training loss if
            no question is held out.
        valid_recall: recall at 1 and 5 of the held-out questions, as `recall` returns it; empty
            if none is held out.
    """

    model: RetrievalModel
    epochs: tuple[Epoch, ...]
    best_epoch: int
    valid_recall: list[dict[int, float]]


class _Part(NamedTuple):
    """Questions with the right rows of each."""

    questions: Questions
    targets: list[RightRows]

    def batch(self, rows: Tensor) -> "_Part":
        return _Part(self.questions.select(rows), [self.targets[row] for row in rows.tolist()])


def train(
    memory: Memory,
    questions: Questions,
    *,
    num_hops: int = 2,
    valid: Questions | None = None,
    seed: int = 0,
    epochs: int = 100,
    learning_rate: float = 1e-3,
    on_progress: Callable[[Epoch], None] | None = None,
    device: torch.device | str = "cpu",
) -> TrainingResult:
    """Train a `RetrievalModel`; the vectors stay as they are.

    The loss of a question is - sum_k log sum_i p_ki over the hops k of which something is known
    and the rows i that are right there: with gold rows all hops, with answers only the last one,
    where the rows that give a right answer are right. Adam with batches of 64 questions; training
    stops after 12 epochs without a lower held-out loss, and the best epoch is kept.

    A batch needs some 6 to 10 x 64 x num_hops x N float32 numbers for a memory of N rows.

    Args:
        memory: the facts or passages.
        questions: with ``gold``, ``answers`` or both. Gold rows count where a question has both.
        num_hops: K, at least 1.
        valid: the held-out questions. None holds out a tenth of the questions at random;
            of fewer than 10 distinct questions none is held out.
        seed: from 0 to 2^63 - 1. Same seed, same number of threads, same machine: same bits (on
            the CPU).
        epochs: at most so many.
        learning_rate: of the matrices; that of the logarithm of the scale is 0.01.
        on_progress: called after every epoch.

    Raises:
        MemhopError: vectors of other sizes than the memory's, an id that is not in the memory, a
            question of which nothing is known, no questions, or a number out of range.
        DivergedError: the training loss or the held-out one became infinite.

    >>> memory = Memory(torch.eye(6), ids="abcdef")
    >>> questions = Questions(torch.eye(6).roll(1, 0), gold=[[one] for one in "abcdef"])
    >>> result = train(memory, questions, num_hops=1, epochs=40, learning_rate=0.05)
    >>> [[hop]] = result.model.search(memory, questions.select([2]), k=1)
    >>> hop.ids
    ('c',)
    """
    check_integer("seed", seed, 0, _MAX_SEED)
    check_integer("epochs", epochs, 1)
    if not isinstance(learning_rate, int | float) or not 0 < learning_rate <= 1:
        raise MemhopError(
            f"learning_rate: expected a number above 0, at most 1, got {shown(learning_rate)}"
        )
    key_dim, value_dim = memory.keys.shape[1], memory.values.shape[1]
    model = RetrievalModel(key_dim, value_dim, num_hops, device=device)
    random = torch.Generator().manual_seed(seed)
    rows, held_out = list(range(len(questions))), valid
    if valid is None:
        rows, rest = split(questions, random)
        held_out = questions.select(rest) if rest else None
    memory = memory.to(device)
    training = _Training(model, memory, _part(model, memory, questions.select(rows)), random)
    valid_part = None if held_out is None else _part(model, memory, held_out)
    done, best_epoch = training.run(valid_part, epochs, learning_rate, on_progress)
    found = [] if valid_part is None else recall_of(model, memory, *valid_part, (1, 5))
    return TrainingResult(model, tuple(done), best_epoch, found)


def split(questions: Questions, random: torch.Generator) -> tuple[list[int], list[int]]:
    """Return the numbers of the questions to train on, and of those held out.

    Questions of one text stay together. A tenth of the distinct texts is held out.
    """
    texts = questions.texts or tuple(map(str, range(len(questions))))
    numbers: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        numbers.setdefault(text, []).append(number)
    groups = list(numbers.values())
    order = torch.randperm(len(groups), generator=random).tolist()
    num_held_out = len(groups) // _HELD_OUT_PARTS
    held_out = sorted(number for group in order[:num_held_out] for number in groups[group])
    rows = sorted(number for group in order[num_held_out:] for number in groups[group])
    return rows, held_out


def _part(model: RetrievalModel, memory: Memory, questions: Questions) -> _Part:
    if not len(questions):
        raise MemhopError("questions: expected at least 1, got 0")
    model.check_sizes(memory, questions)
    targets = right_rows(memory, questions, model.num_hops)
    return _Part(questions.to(memory.keys.device), targets)


class _Training:
    """A model in training on its part of the questions."""

    def __init__(
        self, model: RetrievalModel, memory: Memory, part: _Part, random: torch.Generator
    ) -> None:
        self.model, self.memory, self.part, self.random = model, memory, part, random

    def run(
        self,
        valid: _Part | None,
        epochs: int,
        learning_rate: float,
        on_progress: Callable[[Epoch], None] | None,
    ) -> tuple[list[Epoch], int]:
        """Train until the held-out loss stops falling; leave the best weights in the model.

        Returns:
            The epochs, and the number of the best.
        """
        groups = [
            {"params": [self.model.question_maps], "lr": learning_rate},
            {"params": [self.model.log_scale], "lr": _SCALE_RATE},
        ]
        optimizer, start = torch.optim.Adam(groups), time.perf_counter()
        done: list[Epoch] = []
        best, best_epoch, kept = math.inf, 0, self.weights()
        for number in range(1, epochs + 1):
            loss = self.run_epoch(optimizer)
            valid_loss = None if valid is None else self.loss(valid)
            self._check_finite(loss, valid_loss)
            done.append(Epoch(number, loss, valid_loss, time.perf_counter() - start))
            if on_progress is not None:
                on_progress(done[-1])
            if _judged_loss(done[-1]) < best:
                best, best_epoch = _judged_loss(done[-1]), number
                kept = self.weights()
            elif number - best_epoch >= PATIENCE:
                break
        self.model.load_state_dict(kept)
        return done, best_epoch

    def run_epoch(self, optimizer: torch.optim.Optimizer) -> float:
        """Train on every question once; return the mean loss."""
        order = torch.randperm(len(self.part.questions), generator=self.random)
        total = 0.0
        for rows in torch.split(order, BATCH_SIZE):
            batch = self.part.batch(rows)
            loss = loss_of(self.model.log_attention(self.memory, batch.questions), batch.targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() * len(rows)
        return total / len(order)

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights of the model."""
        return {name: weight.clone() for name, weight in self.model.state_dict().items()}

    def _check_finite(self, *losses: float | None) -> None:
        is_finite = all(loss is None or math.isfinite(loss) for loss in losses)
        weights = self.model.state_dict().values()
        if not is_finite or not all(weight.isfinite().all() for weight in weights):
            raise DivergedError("the loss became infinite: try a lower learning_rate")

    @torch.no_grad()
    def loss(self, part: _Part) -> float:
        """Return the mean loss of questions."""
        total = 0.0
        for rows in torch.split(torch.arange(len(part.questions)), BATCH_SIZE):
            batch = part.batch(rows)
            log_weights = self.model.log_attention(self.memory, batch.questions)
            total += loss_of(log_weights, batch.targets).item() * len(rows)
        return total / len(part.questions)


def _judged_loss(epoch: Epoch) -> float:
    return epoch.loss if epoch.valid_loss is None else epoch.valid_loss
