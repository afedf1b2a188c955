"""Train text models: R restarts at once, linear start, learning-rate annealing, gradient clipping.

As in the paper, R models start from R random initializations, and the one with the lowest error on
its training questions is kept. They are one model with a leading axis. Each has its own random
generators, seeded by (seed, restart, epoch): restart r is the same for any R, and a resumed
training gives the same bits as an uninterrupted one.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memhop.errors import DivergedError, MemhopError, MemhopWarning, check_integer
from memhop.example import Example, story_numbers
from memhop.recipe import Recipe
from memhop.text.augmentation.sampling import PhraseSwap
from memhop.text.encoding import Batch, Encoded, Sizes, training_vocabulary
from memhop.text.model import MemN2N
from memhop.text.reading import SplitSentences, Words, readable, readable_texts, single_words
from memhop.text.stored_examples import choose_examples
from memhop.training.evaluation import score
from memhop.training.optimizer import Optimizer, learning_rate
from memhop.training.run import Metric, RestartScore, State, TrainingRun, checksum, fingerprint
from memhop.training.sampler import EpochBatches, EpochSampler

_WEIGHTS, _EPOCHS, _SPLIT = 0, 1, 2  # the purposes of generators
MAX_RESTARTS = 1_000_000
_EVERY_EPOCHS, _EVERY_SECONDS = 10, 30.0  # between two checkpoints at most


@dataclass(frozen=True)
class Progress:
    """The state of a training after an epoch.

    Attributes:
        epoch, epochs: the number of the epoch, from 1 on, and of all epochs.
        metrics: one for each restart.
        diverged: the restarts whose loss became infinite or NaN, with the epoch.
    """

    epoch: int
    epochs: int
    metrics: tuple[Metric, ...]
    diverged: dict[int, int]


@dataclass(frozen=True)
class TrainingResult:
    """A finished training.

    Attributes:
        model: the restart that was kept.
        restarts: the score of every restart, in order.
        kept: index of the restart that was kept.
        seconds: time of all epochs, including those before a resume.
        all_restarts: all restarts as one model; None if a finished run was only read.
    """

    model: MemN2N
    restarts: tuple[RestartScore, ...]
    kept: int
    seconds: float
    all_restarts: MemN2N | None = None

    @property
    def best(self) -> RestartScore:
        """The score of the restart that was kept."""
        return self.restarts[self.kept]


def train(
    train_examples: Sequence[Example] | Sequence[Sequence[Example]],
    test_examples: Sequence[Example] = (),
    *,
    valid_examples: Sequence[Example] = (),
    recipe: Recipe | None = None,
    restarts: int | range = 10,
    seed: int = 0,
    run: str | Path | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    device: str | torch.device = "cpu",
    store_examples: bool = True,
) -> TrainingResult:
    """Train a `MemN2N` on examples.

    The restart with the lowest error after the last epoch is kept. The error is measured without
    noise on the training examples (section 4.2), or on those held out (`Recipe.keep`); ties go to
    the lower training loss. Test examples are only scored, once, at the end.

    Args:
        train_examples: at least one; or several texts, each a sequence of examples (phrase-swap
            augmentation swaps phrases within a text). Vocabulary, longest sentence and answers
            come from here.
        test_examples: scored for every restart; may be empty.
        valid_examples: the held-out examples. If empty, a share of the training examples is held
            out (`Recipe`).
        recipe: settings; None is ``Recipe.paper()``.
        restarts: R, at least 1; or a range of numbers, to train only these restarts of a larger
            training, with the same result.
        seed: from 0 on. Same seed, same number of threads, same machine: same bits (on the CPU).
        run: folder for checkpoints; None writes nothing to disk.
        resume: continue from the newest checkpoint in ``run``, or start if there is none.
        on_progress: called after every epoch.
        store_examples: save up to three short training stories with the model, which
            ``memhop serve`` shows as examples; no effect on the weights.

    Raises:
        MemhopError: no examples, an item that is no `Example` (named by its index), a number out
            of range, a run that exists (without ``resume``) or has other data or settings (with
            ``resume``), or every restart diverged.
        KeyboardInterrupt: after a last checkpoint of the finished epochs.

    Warns:
        MemhopWarning: nearly every sentence is a single word, as in a script without spaces.
    """
    recipe = recipe or Recipe.paper()
    if not isinstance(restarts, range):
        restarts = range(check_integer("restarts", restarts, 1, MAX_RESTARTS))
    check_integer("seed", seed, 0)
    check_integer("restarts", len(restarts), 1)
    words = SplitSentences()
    texts = readable_texts(train_examples, words)
    test_examples = readable(test_examples, "test example {}", words)
    held_out = readable(valid_examples, "held-out example {}", words)
    examples = [example for text in texts for example in text]
    if not examples:
        raise MemhopError("expected at least 1 training example, got none")
    if advice := single_words(examples, words):
        warnings.warn(advice, MemhopWarning, stacklevel=2)
    identity = fingerprint(examples, test_examples, recipe, len(restarts), seed)
    identity |= {"texts": list(map(len, texts))} if recipe.exchange and len(texts) > 1 else {}
    identity |= {"first_restart": restarts.start} if restarts.start else {}
    identity |= {"valid": checksum(held_out)} if held_out else {}
    folder = TrainingRun.open(run, identity, resume=resume)
    if folder is not None and (ended := folder.finished()):
        model, state, scores = ended
        return TrainingResult(model.to(device), scores, _kept(scores, recipe), state.seconds)
    trainer = Trainer(texts, recipe, restarts, seed, torch.device(device), held_out, words)
    trainer.model.examples = choose_examples(texts) if store_examples else ()
    if folder is not None:
        folder.restore(trainer.model.vocabulary, trainer.tensors(), trainer.state)
    _run_epochs(trainer, folder, on_progress)
    scores = trainer.scores(test_examples)
    kept = _kept(scores, recipe)
    scores = tuple(replace(one, kept=one.restart == kept) for one in scores)
    model = trainer.model.pick(kept)
    if folder is not None:
        folder.finish(model, trainer.state, scores)
    return TrainingResult(model, scores, kept, trainer.state.seconds, trainer.model)


class Trainer:
    """R restarts and their examples."""

    def __init__(
        self,
        texts: Sequence[Sequence[Example]],
        recipe: Recipe,
        restart_numbers: range,
        seed: int,
        device: torch.device,
        valid_examples: Sequence[Example] = (),
        words: Words | None = None,
    ) -> None:
        self.recipe, self.seed, self.device = recipe, seed, device
        self.restart_numbers, restarts = restart_numbers, len(restart_numbers)
        self.words = SplitSentences() if words is None else words
        examples = [example for text in texts for example in text]
        sources = [number for number, text in enumerate(texts) for _ in text]
        sizes = Sizes.of(examples, recipe, self.words)
        vocabulary = training_vocabulary(examples, self.words)
        self.model = MemN2N(vocabulary, recipe, sizes, restarts=restarts, device=device)
        self.state = State(epoch=0, seconds=0.0, diverged={}, metrics=[])
        self._init_weights()
        self.optimizer = Optimizer(dict(self.model.named_parameters()), recipe)
        numbers, held_out = list(range(len(examples))), valid_examples
        if not valid_examples:
            numbers, rest = self._split(examples)
            held_out = [examples[number] for number in rest]
        self.held_out = self._encoded(held_out)
        self.sampler = self._sampler([examples[n] for n in numbers], [sources[n] for n in numbers])

    @property
    def restarts(self) -> range:
        return range(self.model.restarts or 1)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that training changes: the weights and the optimizer's moments."""
        return self.model.state_dict() | self.optimizer.moments

    def _generator(self, purpose: int, *key: int) -> np.random.Generator:
        seeds = np.random.SeedSequence([self.seed, purpose, *key])
        return np.random.Generator(np.random.Philox(seeds))

    @torch.no_grad()
    def _init_weights(self) -> None:
        generators = [self._generator(_WEIGHTS, restart) for restart in self.restart_numbers]
        for name, weight in self.model.named_parameters():
            init_std = np.float32(self.model.init_std(name))
            for one, random in zip(weight, generators, strict=True):
                normal = random.standard_normal(one.shape, dtype=np.float32)
                one.copy_(torch.from_numpy(normal * init_std))
        self.model.zero_reserved_rows_()

    def _split(self, examples: Sequence[Example]) -> tuple[list[int], list[int]]:
        """Return the indices of the examples to train on, and of those held out."""
        count = len(examples)
        order = story = np.arange(count)
        if self.recipe.held_out == "random":
            order = self._generator(_SPLIT).permutation(order)
        elif self.recipe.held_out == "stories":
            story = np.array(story_numbers(example.story for example in examples))
            rank = self._generator(_SPLIT).permutation(story[-1] + 1)
            order = rank[story].argsort(kind="stable")
        cut = count - int(count * self.recipe.validation_share)
        while 0 < cut < count and story[order[cut - 1]] == story[order[cut]]:
            cut += 1  # a story is never split
        return order[:cut].tolist(), order[cut:].tolist()

    def _sampler(self, examples: Sequence[Example], sources: Sequence[int]) -> EpochSampler:
        num_slots = self.model.sizes.memory_slots
        if not self.recipe.exchange:
            return EpochSampler(self._encoded(examples), self.recipe, num_slots)
        phrase_swap = PhraseSwap(examples, sources, self.model.encoder, self.words)
        encoded = phrase_swap.encoded.at(self.device)
        return EpochSampler(encoded, self.recipe, num_slots, phrase_swap)

    def _encoded(self, examples: Sequence[Example]) -> Encoded:
        return self.model.encoder.encode(examples, self.words).at(self.device)

    def run_epoch(self) -> tuple[Metric, ...]:
        """Train one epoch and return the metrics of the restarts."""
        epoch = self.state.epoch
        rate, softmax = learning_rate(self.recipe, epoch), epoch >= self.recipe.linear_start_epochs
        batches = self.sample_epoch()
        wrong = torch.zeros(len(self.restarts), device=self.device)
        losses = torch.zeros(len(self.restarts), device=self.device)
        for step in range(self.sampler.steps):
            number = epoch * self.sampler.steps + step + 1
            batch = EpochBatches(*(tensor[step] for tensor in batches))
            loss, num_wrong = self.step(batch, rate, softmax, number)
            losses += loss
            wrong += num_wrong
        self._zero_diverged(losses, epoch)
        held_out, _ = score(self.model, self.held_out)
        asked = self.sampler.steps * self.recipe.batch_size
        rows = zip((losses / asked).tolist(), (wrong * 100 / asked).tolist(), held_out.tolist(),
                   strict=True)  # fmt: skip
        has_held_out = len(self.held_out.answers) > 0
        return tuple(
            Metric(epoch + 1, restart, rate, softmax, *row[:2], row[2] if has_held_out else None)
            for restart, row in enumerate(rows)
        )

    def sample_epoch(self) -> EpochBatches:
        """Return the batches of the next epoch."""
        epoch, restarts = self.state.epoch, self.restart_numbers
        return self.sampler.sample([self._generator(_EPOCHS, r, epoch) for r in restarts])

    def forward(self, batch: EpochBatches, softmax: bool) -> tuple[Tensor, Tensor]:
        """Return the scores [R, B, rows] and losses [R, B] of one batch."""
        scores, _ = self.model(Batch(self.sampler.encoded.sentences, *batch[:-1]), softmax=softmax)
        rows = self.model.answer_rows(batch.answers)
        losses = functional.cross_entropy(
            scores.flatten(0, -2), rows.flatten(), reduction="none"
        ).view(rows.shape)
        return scores, losses

    def step(
        self, batch: EpochBatches, rate: float, softmax: bool, number: int
    ) -> tuple[Tensor, Tensor]:
        """Take an optimizer step on the loss summed over the batch.

        Returns:
            The loss and the number of wrong answers, [R].
        """
        scores, losses = self.forward(batch, softmax)
        gradients = torch.autograd.grad(losses.sum(), list(self.model.parameters()))
        self.optimizer.step(gradients, rate, number)
        self.model.zero_reserved_rows_()
        with torch.no_grad():
            guesses = self.model.guesses(scores)
            return losses.detach().sum(-1), (guesses != batch.answers).sum(-1)

    @torch.no_grad()
    def _zero_diverged(self, losses: Tensor, epoch: int) -> None:
        """Record the restarts that have diverged, and set their weights to zero."""
        for restart in self.restarts:
            weights = [weight[restart] for weight in self.model.parameters()]
            finite = losses[restart].isfinite() and all(w.isfinite().all() for w in weights)
            if not finite and restart not in self.state.diverged:
                self.state.diverged[restart] = epoch + 1
            if restart in self.state.diverged:
                losses[restart] = torch.nan
                for weight in weights:
                    weight.zero_()

    def scores(self, test_examples: Sequence[Example]) -> tuple[RestartScore, ...]:
        """Return the score of each restart on the training, held-out and test examples."""
        error, loss = score(self.model, self.sampler.encoded)
        parts = [self.held_out, self._encoded(test_examples)]
        held_out, test = (
            score(self.model, part)[0].tolist() if len(part.answers) else [None] * len(error)
            for part in parts
        )
        errors = list(zip(error.tolist(), loss.tolist(), held_out, test, strict=True))
        # Finite weights can be so large that the loss is not finite.
        late = {
            restart: self.state.epoch for restart in self.restarts if not loss[restart].isfinite()
        }
        diverged = late | self.state.diverged
        return tuple(
            RestartScore(restart, diverged=diverged[restart])
            if restart in diverged
            else RestartScore(restart, *errors[restart])
            for restart in self.restarts
        )


def _run_epochs(
    trainer: Trainer, folder: TrainingRun | None, on_progress: Callable[[Progress], None] | None
) -> None:
    """Run the remaining epochs, and write checkpoints, a last one when interrupted."""
    model, state, recipe = trainer.model, trainer.state, trainer.recipe
    epochs = recipe.linear_start_epochs + recipe.epochs
    last = time.perf_counter()

    def checkpoint() -> None:
        if folder is not None:
            kept = _kept(trainer.scores(()), recipe)
            folder.write(model.pick(kept), state, trainer.tensors())

    while state.epoch < epochs:
        before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
        started, first, diverged = time.perf_counter(), state.epoch, dict(state.diverged)
        try:
            metrics = trainer.run_epoch()
            state.metrics.extend(metrics)
            state.epoch += 1
            state.seconds += time.perf_counter() - started
            if on_progress is not None:
                on_progress(Progress(state.epoch, epochs, metrics, dict(state.diverged)))
            due = state.epoch % _EVERY_EPOCHS == 0 or time.perf_counter() - last > _EVERY_SECONDS
            if due and state.epoch < epochs:
                checkpoint()
                last = time.perf_counter()
        except KeyboardInterrupt:
            if state.epoch in (first, epochs):  # undo it: partial, or for `finish` to write
                for name, tensor in trainer.tensors().items():
                    tensor.copy_(before[name])
                state.epoch, state.diverged = first, diverged
                del state.metrics[first * len(trainer.restarts) :]
            checkpoint()
            raise


def _kept(scores: Sequence[RestartScore], recipe: Recipe) -> int:
    """Return the restart with the lowest error, ties by training loss, that has not diverged."""

    def error(one: RestartScore) -> float | None:
        by_held_out = recipe.keep == "validation" and one.validation_error is not None
        return one.validation_error if by_held_out else one.train_error

    ranked = [(error(one), one.train_loss, one.restart) for one in scores if one.diverged is None]
    if not ranked:
        first = min(one.diverged or 0 for one in scores)
        raise DivergedError(
            f"the loss of all {len(scores)} restarts became infinite, first in epoch {first}: "
            "try a lower learning_rate"
        )
    return min(ranked)[2]
