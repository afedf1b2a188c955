"""Train a knowledge model from questions and answers alone."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from memhop.errors import DivergedError, MemhopError, check_integer
from memhop.knowledge.encoding import EncodedQuestion, batch_of
from memhop.knowledge.evaluation import (
    KnowledgeEvaluation,
    Score,
    encode_all,
    evaluate,
    losses,
    score,
)
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.knowledge.topics import TopicFinder
from memhop.knowledge.training_run import KnowledgeRun, Metric, State, identity_of
from memhop.resume import new_adam_state
from memhop.rng import generator, seeded

_WEIGHTS, _EPOCHS, _SPLIT = 0, 1, 2  # the purposes of generators
_EVERY_SECONDS = 30.0  # between two checkpoints at least


@dataclass(frozen=True)
class Progress:
    """The state of a training after an epoch; ``epochs`` is the largest number of epochs."""

    epoch: int
    epochs: int
    metric: Metric


@dataclass(frozen=True)
class KnowledgeResult:
    """A finished training.

    Attributes:
        model: the model of the best epoch.
        epoch, epochs: that epoch, and how many were run.
        valid: its error in percent and its loss on the held-out questions; None without any.
        test: its evaluation on the test questions; None without any.
        seconds: time of all epochs, including those before a resume.
    """

    model: KnowledgeModel
    epoch: int
    epochs: int
    valid: Score | None
    test: KnowledgeEvaluation | None
    seconds: float


def train(
    kb: KnowledgeBase,
    questions: Sequence[Question],
    test_questions: Sequence[Question] = (),
    *,
    valid_questions: Sequence[Question] = (),
    recipe: KnowledgeRecipe | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> KnowledgeResult:
    """Train a `KnowledgeModel` on questions with their answers; no path is given.

    The loss is the mean of -log of the weight of all right answers. After each epoch the held-out
    questions are answered; the epoch with the lowest error is kept, and of several with the same
    error that with the lowest loss. Test questions are only scored, once, at the end.

    Args:
        kb: the facts.
        questions: at least one that names an entity and has an answer in the facts. The others
            are left out.
        test_questions: scored at the end; may be empty.
        valid_questions: the held-out questions. If empty, a share of the training questions is held
            out (`KnowledgeRecipe.validation_share`); those with the same text and topics stay
            together.
        recipe: settings; None for the defaults.
        seed: from 0 on. Same seed, same number of threads, same machine: same bits.
        run: folder for checkpoints; None writes nothing to disk.
        resume: continue from the newest checkpoint in ``run``, or start if there is none.
        on_progress: called after every epoch.

    Raises:
        MemhopError: no question to train on, a run that exists (without ``resume``) or has other
            data or settings (with ``resume``), or a loss that became infinite.
        KeyboardInterrupt: after a last checkpoint of the finished epochs.
    """
    recipe = recipe or KnowledgeRecipe()
    check_integer("seed", seed, 0)
    parts = questions, valid_questions, test_questions
    folder = KnowledgeRun.open(run, identity_of(kb, parts, recipe, seed), resume=resume)
    if folder is not None and (ended := folder.finished()):
        model, state, test = ended
        return _result(model, state, test)
    trainer = Trainer(kb, questions, valid_questions, recipe, seed)
    if folder is not None:
        folder.restore(trainer.tensors(), trainer.state)
    _run_epochs(trainer, folder, on_progress)
    trainer.load_best()
    try:
        test = evaluate(trainer.model, test_questions) if test_questions else None
        if folder is not None:
            folder.finish(trainer.model, trainer.state, test)
    except KeyboardInterrupt:
        if folder is not None:
            folder.write(trainer.model, trainer.state, trainer.tensors())
        raise
    return _result(trainer.model, trainer.state, test)


def _result(
    model: KnowledgeModel, state: State, test: KnowledgeEvaluation | None
) -> KnowledgeResult:
    valid = None if state.best is None else Score(*state.best)
    return KnowledgeResult(model, state.best_epoch, state.epoch, valid, test, state.seconds)


def unusable(kb: KnowledgeBase, questions: Sequence[Question]) -> tuple[int, int]:
    """Return the number of questions without an entity of the facts, and without such an answer.

    >>> kb = KnowledgeBase.from_triples([("Faust", "directed by", "Murnau")])
    >>> unusable(kb, [Question("who directed Faust", ("Lang",)), Question("who?", ("Murnau",))])
    (1, 1)
    """
    finder = TopicFinder(kb)
    without_topic = sum(not finder.find(one).entities for one in questions)
    return without_topic, sum(not has_answer(kb, one) for one in questions)


def has_answer(kb: KnowledgeBase, question: Question) -> bool:
    """Return whether a right answer is an entity of the facts."""
    return any(map(kb.find, question.answers))


class Trainer:
    """A model in training, and its questions."""

    def __init__(
        self,
        kb: KnowledgeBase,
        questions: Sequence[Question],
        valid_questions: Sequence[Question],
        recipe: KnowledgeRecipe,
        seed: int,
    ) -> None:
        self.recipe, self.seed = recipe, seed
        count = len(questions)
        if not valid_questions:
            questions, valid_questions = self._split(questions)
        finder = TopicFinder(kb)
        usable = [one for one in questions if has_answer(kb, one) and finder.find(one).entities]
        if not usable:
            expected = "expected a training question with an entity and an answer of the facts"
            raise MemhopError(f"{expected}, got none in {count:,} questions")
        with seeded(seed, _WEIGHTS):
            self.model = KnowledgeModel.untrained(kb, usable, recipe, finder)
        network = self.model.network
        self.optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate)
        self.state = State()
        self.train = encode_all(self.model, usable)
        self.held_out = encode_all(self.model, valid_questions)
        self._best = {name: one.clone() for name, one in network.state_dict().items()}
        self._moments = new_adam_state(self.optimizer, dict(network.named_parameters()))

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that training changes: weights, moments of Adam, best weights."""
        best = {f"best.{name}": tensor for name, tensor in self._best.items()}
        return dict(self.model.network.state_dict()) | self._moments | best

    def _split(self, questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
        """Return the questions to train on, and those held out."""
        groups = list(dict.fromkeys((one.text, one.topics) for one in questions))
        order = generator(self.seed, _SPLIT).permutation(len(groups)).tolist()
        count = int(len(groups) * self.recipe.validation_share)
        held_out = {groups[place] for place in order[:count]}
        parts: tuple[list[Question], list[Question]] = [], []
        for one in questions:
            parts[(one.text, one.topics) in held_out].append(one)
        return parts

    def run_epoch(self) -> Metric:
        """Train one epoch and return its metric."""
        epoch, size = self.state.epoch, self.recipe.batch_size
        order = generator(self.seed, _EPOCHS, epoch).permutation(len(self.train))
        total = 0.0
        with seeded(self.seed, _EPOCHS, epoch):  # of the dropout
            self.model.network.train()
            for start in range(0, len(order), size):
                total += self.step([self.train[n] for n in order[start : start + size]])
        loss = total / len(order)
        metric = Metric(epoch + 1, loss, None, None)
        if self.held_out:
            metric = Metric(epoch + 1, loss, *score(self.model, self.held_out))
        weights = self.model.network.parameters()  # the last step can spoil them
        figures = [loss, metric.valid_loss or 0.0, *(float(one.detach().sum()) for one in weights)]
        if not np.isfinite(figures).all():
            raise DivergedError(
                f"the loss became infinite in epoch {epoch + 1}: try a lower learning_rate"
            )
        return metric

    def step(self, questions: Sequence[EncodedQuestion]) -> float:
        """Take a step on the mean loss of a batch, and return the sum of its losses."""
        batch = batch_of(questions)
        each = losses(self.model, self.model.track(batch), batch)
        self.optimizer.zero_grad(set_to_none=True)
        each.mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.network.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        return float(each.detach().sum())

    def keep(self, metric: Metric) -> None:
        """Remember the weights if the epoch is the best so far, or if none is held out."""
        state = self.state
        error, loss = metric.valid_error, metric.valid_loss
        scored = None if error is None or loss is None else (error, loss)
        if scored is None or state.best is None or scored < state.best:
            state.best, state.best_epoch = scored, metric.epoch
            for name, tensor in self.model.network.state_dict().items():
                self._best[name].copy_(tensor)

    def is_done(self) -> bool:
        """Return whether all epochs are run, or too many without a better held-out part."""
        state, recipe = self.state, self.recipe
        waited = state.epoch - state.best_epoch
        return state.epoch >= recipe.epochs or (state.epoch > 0 and waited >= recipe.patience)

    def load_best(self) -> None:
        """Load the weights of the best epoch into the model."""
        self.model.network.load_state_dict(self._best)


def _run_epochs(
    trainer: Trainer, folder: KnowledgeRun | None, on_progress: Callable[[Progress], None] | None
) -> None:
    """Run the remaining epochs, and write checkpoints, a last one when interrupted."""
    state, last = trainer.state, time.perf_counter()
    while not trainer.is_done():
        try:
            _whole_epoch(trainer, on_progress)
            if folder is not None and time.perf_counter() - last > _EVERY_SECONDS:
                folder.write(trainer.model, state, trainer.tensors())
                last = time.perf_counter()
        except KeyboardInterrupt:
            if folder is not None and state.epoch:
                folder.write(trainer.model, state, trainer.tensors())
            raise


def _whole_epoch(trainer: Trainer, on_progress: Callable[[Progress], None] | None) -> None:
    """Run an epoch and report it; when interrupted, restore the weights and the state before it."""
    state = trainer.state
    before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    started, kept = time.perf_counter(), state.copy()
    try:
        metric = trainer.run_epoch()
        state.metrics.append(metric)
        state.epoch += 1
        trainer.keep(metric)
        state.seconds += time.perf_counter() - started
        if on_progress is not None:
            on_progress(Progress(state.epoch, trainer.recipe.epochs, metric))
    except KeyboardInterrupt:
        for name, tensor in trainer.tensors().items():
            tensor.copy_(before[name])
        state.assign(kept)
        raise
