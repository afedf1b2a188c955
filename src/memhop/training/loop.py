"""Training of text models: R restarts at once, linear start, annealing, clipping.

The protocol is the paper's: R models from R random starts, of which the one with the lowest
error on its own training questions is kept. They are one model with one more axis, and draw from
generators of their own, named by (seed, restart, epoch): restart r is the same whatever R is, and
a training that goes on from a checkpoint is the one that never stopped.
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

from memhop.errors import DivergedError, MemhopError, MemhopWarning
from memhop.example import Example, story_numbers
from memhop.recipe import Recipe
from memhop.text.augmentation.sampling import Exchange
from memhop.text.batch import Batch
from memhop.text.encoding import Encoded, Sizes, training_vocabulary
from memhop.text.model import MemN2N
from memhop.text.reading import SplitSentences, readable, readable_texts, single_words
from memhop.text.stored_examples import choose_examples
from memhop.training.evaluation import score
from memhop.training.optimizer import Optimizer, learning_rate
from memhop.training.run import Metric, RestartScore, State, TrainingRun, checksum, fingerprint
from memhop.training.sampler import EpochBatches, EpochSampler

_WEIGHTS, _EPOCHS, _SPLIT = 0, 1, 2  # which of a restart's generators
MOST_RESTARTS = 1_000_000
_EVERY_EPOCHS, _EVERY_SECONDS = 10, 30.0  # a checkpoint at the latest after


@dataclass(frozen=True)
class Progress:
    """What a training says of itself after each epoch.

    Attributes:
        epoch, epochs: this one, from 1, and how many there are.
        metrics: one for each restart.
        diverged: restarts that met a loss that is not finite, with the epoch of it.
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
        restarts: how every restart ended, in order.
        kept: index of the one that was kept.
        seconds: time of all epochs, those before a resume too.
        all_restarts: every restart, side by side; None where a finished run was only read.
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

    Kept is the restart with the lowest error on the part that was trained on (section 4.2), or
    on the part held out (`Recipe.keep`), without noise, after the last epoch; ties go to the
    lower training loss. Test questions are only
    scored, once, at the end.

    Args:
        train_examples: at least one; or several texts, each a sequence of examples
            (``Recipe.exchange`` exchanges phrases within a text). Vocabulary, longest sentence
            and answers come from here.
        test_examples: scored for every restart; may be empty.
        valid_examples: the part held out, never trained on; all training examples are trained on
            then. May be empty: a share of the training examples is held out (`Recipe`).
        recipe: settings; None is ``Recipe.paper()``.
        restarts: R, at least 1; or a range of numbers, for those restarts of a larger training
            alone: each ends as it does there.
        seed: from 0 on. Same seed, same number of threads, same machine: same bits (on the CPU).
        run: folder for checkpoints; None keeps nothing on disk.
        resume: go on from the newest checkpoint in ``run``, or start where there is none.
        on_progress: called after every epoch.
        store_examples: keep up to three short training stories with the model, which
            ``memhop serve`` shows as examples; no effect on the weights.

    Raises:
        MemhopError: no examples, something else than an `Example` (named by its index), a number
            out of range, a run that exists (without
            ``resume``) or is of other data or settings (with it), or every restart diverged.
        KeyboardInterrupt: passed on after a last checkpoint of the epochs that are done.

    Warns:
        MemhopWarning: nearly every sentence is a single word, as in a script without spaces.
    """
    recipe = recipe or Recipe.paper()
    numbered = (
        restarts
        if isinstance(restarts, range)
        else range(_whole("restarts", restarts, 1, MOST_RESTARTS))
    )
    _whole("seed", seed, 0)
    _whole("restarts", len(numbered), 1)
    words = SplitSentences()
    texts = readable_texts(train_examples, words)
    test_examples = readable(test_examples, "test example {}", words)
    held_out = readable(valid_examples, "held-out example {}", words)
    examples = [example for text in texts for example in text]
    if not examples:
        raise MemhopError("training needs at least 1 example, got none")
    if advice := single_words(examples, words):
        warnings.warn(advice, MemhopWarning, stacklevel=2)
    question = fingerprint(examples, test_examples, recipe, len(numbered), seed)
    question |= {"texts": list(map(len, texts))} if recipe.exchange and len(texts) > 1 else {}
    question |= {"first_restart": numbered.start} if numbered.start else {}
    question |= {"valid": checksum(held_out)} if held_out else {}
    folder = TrainingRun.open(run, question, resume=resume)
    if folder is not None and (ended := folder.finished()):
        model, state, scores = ended
        return TrainingResult(model.to(device), scores, _kept(scores, recipe), state.seconds)
    trainer = Trainer(texts, recipe, numbered, seed, torch.device(device), held_out)
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


def _whole(name: str, value: int, least: int, most: int | None = None) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        to = "" if most is None else f" to {most:,}"
        raise MemhopError(f"{name} must be a whole number from {least}{to}, not {value!r:.60}")
    return value


class Trainer:
    """R restarts and the examples they learn from."""

    def __init__(
        self,
        texts: Sequence[Sequence[Example]],
        recipe: Recipe,
        numbered: range,
        seed: int,
        device: torch.device,
        valid_examples: Sequence[Example] = (),
    ) -> None:
        self.recipe, self.seed, self.device = recipe, seed, device
        self.numbered, restarts = numbered, len(numbered)  # what their generators are named by
        examples = [example for text in texts for example in text]
        sources = [number for number, text in enumerate(texts) for _ in text]
        sizes = Sizes.of(examples, recipe)
        vocabulary = training_vocabulary(examples)
        self.model = MemN2N(vocabulary, recipe, sizes, restarts=restarts, device=device)
        self.state = State(epoch=0, seconds=0.0, diverged={}, metrics=[])
        self._draw_weights()
        self.optimizer = Optimizer(dict(self.model.named_parameters()), recipe)
        numbers, held_out = list(range(len(examples))), valid_examples
        if not valid_examples:
            numbers, rest = self._split(examples)
            held_out = [examples[number] for number in rest]
        self.held_out = self._encoded(held_out)
        self.deck = self._deck([examples[n] for n in numbers], [sources[n] for n in numbers])

    @property
    def restarts(self) -> range:
        return range(self.model.restarts or 1)

    def tensors(self) -> dict[str, Tensor]:
        """All that an epoch moves: to go on from a copy of these is never to have stopped."""
        return self.model.state_dict() | self.optimizer.moments

    def _random(self, use: int, *path: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence([self.seed, use, *path]))
        )

    @torch.no_grad()
    def _draw_weights(self) -> None:
        generators = [self._random(_WEIGHTS, restart) for restart in self.numbered]
        for name, weight in self.model.named_parameters():
            spread = np.float32(self.model.init_std(name))
            for one, random in zip(weight, generators, strict=True):
                drawn = random.standard_normal(one.shape, dtype=np.float32)
                one.copy_(torch.from_numpy(drawn * spread))
        self.model.zero_reserved_rows_()

    def _split(self, examples: Sequence[Example]) -> tuple[list[int], list[int]]:
        """The numbers of the examples to train on, and of those held out."""
        count = len(examples)
        order = story = np.arange(count)
        if self.recipe.held_out == "random":
            order = self._random(_SPLIT).permutation(order)
        elif self.recipe.held_out == "stories":
            story = np.array(story_numbers(example.story for example in examples))
            place = self._random(_SPLIT).permutation(story[-1] + 1)
            order = place[story].argsort(kind="stable")
        cut = count - int(count * self.recipe.validation_share)
        while 0 < cut < count and story[order[cut - 1]] == story[order[cut]]:
            cut += 1  # a story that is begun is trained on to its end
        return order[:cut].tolist(), order[cut:].tolist()

    def _deck(self, examples: Sequence[Example], sources: Sequence[int]) -> EpochSampler:
        most = self.model.sizes.memory_slots
        if not self.recipe.exchange:
            return EpochSampler(self._encoded(examples), self.recipe, most)
        exchange = Exchange(examples, sources, self.model.encoder)
        return EpochSampler(exchange.encoded.at(self.device), self.recipe, most, exchange)

    def _encoded(self, examples: Sequence[Example]) -> Encoded:
        return self.model.encoder.encode(examples).at(self.device)

    def run_epoch(self) -> tuple[Metric, ...]:
        """Train one epoch; the metrics of the restarts in it."""
        epoch = self.state.epoch
        rate, softmax = learning_rate(self.recipe, epoch), epoch >= self.recipe.linear_start_epochs
        draws = self.draw_epoch()
        wrong = torch.zeros(len(self.restarts), device=self.device)
        losses = torch.zeros(len(self.restarts), device=self.device)
        for step in range(self.deck.steps):
            number = epoch * self.deck.steps + step + 1
            batch = EpochBatches(*(tensor[step] for tensor in draws))
            loss, missed = self.step(batch, rate, softmax, number)
            losses += loss
            wrong += missed
        self._set_aside_diverged(losses, epoch)
        held_out, _ = score(self.model, self.held_out)
        asked = self.deck.steps * self.recipe.batch_size
        rows = zip((losses / asked).tolist(), (wrong * 100 / asked).tolist(), held_out.tolist(),
                   strict=True)  # fmt: skip
        has_held_out = len(self.held_out.answers) > 0
        return tuple(
            Metric(epoch + 1, restart, rate, softmax, *row[:2], row[2] if has_held_out else None)
            for restart, row in enumerate(rows)
        )

    def draw_epoch(self) -> EpochBatches:
        """The batches of the epoch that comes next."""
        return self.deck.draw([self._random(_EPOCHS, r, self.state.epoch) for r in self.numbered])

    def forward(self, draws: EpochBatches, softmax: bool) -> tuple[Tensor, Tensor]:
        """Scores [R, B, rows] of one batch and losses [R, B]."""
        scores, _ = self.model(Batch(self.deck.encoded.sentences, *draws[:-1]), softmax=softmax)
        rows = self.model.answer_rows(draws.answers)
        losses = functional.cross_entropy(
            scores.flatten(0, -2), rows.flatten(), reduction="none"
        ).view(rows.shape)
        return scores, losses

    def step(
        self, draws: EpochBatches, rate: float, softmax: bool, number: int
    ) -> tuple[Tensor, Tensor]:
        """One step of optimizer on the loss summed over the batch; loss and mistakes [R]."""
        scores, losses = self.forward(draws, softmax)
        gradients = torch.autograd.grad(losses.sum(), list(self.model.parameters()))
        self.optimizer.step(gradients, rate, number)
        self.model.zero_reserved_rows_()
        with torch.no_grad():
            guesses = self.model.guesses(scores)
            return losses.detach().sum(-1), (guesses != draws.answers).sum(-1)

    @torch.no_grad()
    def _set_aside_diverged(self, losses: Tensor, epoch: int) -> None:
        """Note the restarts that are not finite any more, and rest them at zero."""
        for restart in self.restarts:
            weights = [weight[restart] for weight in self.model.parameters()]
            finite = losses[restart].isfinite() and all(w.isfinite().all() for w in weights)
            if not finite and restart not in self.state.diverged:
                self.state.diverged[restart] = epoch + 1
            if restart in self.state.diverged:
                losses[restart] = torch.nan  # what is trained on after that is no training
                for weight in weights:
                    weight.zero_()

    def scores(self, test_examples: Sequence[Example]) -> tuple[RestartScore, ...]:
        """How each restart does on the three parts, without noise."""
        error, loss = score(self.model, self.deck.encoded)
        parts = [self.held_out, self._encoded(test_examples)]
        held_out, test = (
            score(self.model, part)[0].tolist() if len(part.answers) else [None] * len(error)
            for part in parts
        )
        errors = list(zip(error.tolist(), loss.tolist(), held_out, test, strict=True))
        # Weights may be finite and yet too large to be used.
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
    """All epochs that are left, with checkpoints; one more checkpoint when interrupted."""
    model, state, recipe = trainer.model, trainer.state, trainer.recipe
    epochs = recipe.linear_start_epochs + recipe.epochs
    last = time.perf_counter()

    def checkpoint() -> None:
        if folder is not None:
            kept = _kept(trainer.scores(()), recipe)
            folder.write(model.pick(kept), state, trainer.tensors())

    while state.epoch < epochs:
        before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
        started, begun, diverged = time.perf_counter(), state.epoch, dict(state.diverged)
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
            if state.epoch in (begun, epochs):  # in an epoch, or where only the end is written
                for name, tensor in trainer.tensors().items():
                    tensor.copy_(before[name])
                state.epoch, state.diverged = begun, diverged
                del state.metrics[begun * len(trainer.restarts) :]
            checkpoint()
            raise


def _kept(scores: Sequence[RestartScore], recipe: Recipe) -> int:
    """The restart to keep: lowest error, ties by training loss, never one that diverged."""

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
