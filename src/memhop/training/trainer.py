"""Trainer: R restarts of a text model at once, with their examples.

They are one model with a leading axis. Each has its own random generators, seeded by (seed,
restart, epoch), so that its epochs are the same for any R.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from memhop.example import Example, story_numbers
from memhop.ops.text.answer_loss import answer_loss
from memhop.recipe import Recipe
from memhop.text.augmentation.classes import PhraseClass
from memhop.text.augmentation.sampling import PhraseSwap
from memhop.text.encoding import Batch, Encoded, Sizes, training_vocabulary
from memhop.text.model import MemN2N
from memhop.text.reading import SplitSentences, Words
from memhop.training.error_sampling import ErrorSampling
from memhop.training.evaluation import score
from memhop.training.optimizer import Optimizer, learning_rate
from memhop.training.run import Metric, RestartScore, State
from memhop.training.sampler import EpochBatches, EpochSampler

_WEIGHTS, EPOCHS, _SPLIT, CLASSES = range(4)  # the purposes of generators


class Trainer:
    """R restarts and their examples.

    Args:
        texts: the training examples of each text.
        recipe: settings.
        restart_numbers: of the R restarts.
        seed: of the training.
        device: of the model.
        valid_texts: the held-out examples of each text; if there are none, a share of the training
            examples is held out.
        words: the words of each sentence; None splits the sentences.

    Attributes:
        held_out_texts: the held-out examples of each text.
        held_out: the same, encoded.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[Example]],
        recipe: Recipe,
        restart_numbers: range,
        seed: int,
        device: torch.device,
        valid_texts: Sequence[Sequence[Example]] = (),
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
        numbers, rest = (list(range(len(examples))), []) if valid_texts else self._split(examples)
        self.held_out_texts = valid_texts or _by_text(texts, rest)
        self.held_out = self.encoded([one for text in self.held_out_texts for one in text])
        chosen = [sources[n] for n in numbers]
        self.sampler = self._sampler([examples[n] for n in numbers], chosen)
        self._error_sampling: ErrorSampling | None = None
        if recipe.sampling == "error" and len(texts) > 1:
            self._error_sampling = ErrorSampling(self.sampler.encoded, chosen)

    @property
    def restarts(self) -> range:
        return range(self.model.restarts or 1)

    @property
    def phrase_classes(self) -> list[tuple[int, PhraseClass]]:
        """The classes of exchangeable phrases, each with the number of its text."""
        swap = self.sampler.phrase_swap
        return [] if swap is None else swap.classes

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that training changes: the weights and the optimizer's moments."""
        return self.model.state_dict() | self.optimizer.moments

    def generator(self, purpose: int, *key: int) -> np.random.Generator:
        """Return the random generator of a purpose."""
        seeds = np.random.SeedSequence([self.seed, purpose, *key])
        return np.random.Generator(np.random.Philox(seeds))

    @torch.no_grad()
    def _init_weights(self) -> None:
        generators = [self.generator(_WEIGHTS, restart) for restart in self.restart_numbers]
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
            order = self.generator(_SPLIT).permutation(order)
        elif self.recipe.held_out == "stories":
            story = np.array(story_numbers(example.story for example in examples))
            rank = self.generator(_SPLIT).permutation(story[-1] + 1)
            order = rank[story].argsort(kind="stable")
        cut = count - int(count * self.recipe.validation_share)
        while 0 < cut < count and story[order[cut - 1]] == story[order[cut]]:
            cut += 1  # a story is never split
        return order[:cut].tolist(), order[cut:].tolist()

    def _sampler(self, examples: Sequence[Example], sources: Sequence[int]) -> EpochSampler:
        num_slots = self.model.sizes.memory_slots
        if not self.recipe.exchange:
            return EpochSampler(self.encoded(examples), self.recipe, num_slots)
        phrase_swap = PhraseSwap(examples, sources, self.model.encoder, self.words)
        encoded = phrase_swap.encoded.at(self.device)
        return EpochSampler(encoded, self.recipe, num_slots, phrase_swap)

    def encoded(self, examples: Sequence[Example], words: Words | None = None) -> Encoded:
        """Return examples as tensors; ``words`` as in `Encoder.encode`, by default the texts'."""
        words = self.words if words is None else words
        return self.model.encoder.encode(examples, words).at(self.device)

    def run_epoch(self) -> tuple[Metric, ...]:
        """Train one epoch and return the metrics of the restarts, without held-out errors."""
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
        asked = self.sampler.steps * self.recipe.batch_size
        rows = zip((losses / asked).tolist(), (wrong * 100 / asked).tolist(), strict=True)
        return tuple(
            Metric(epoch + 1, restart, rate, softmax, *row, None)
            for restart, row in enumerate(rows)
        )

    def with_held_out_errors(self, metrics: Sequence[Metric]) -> tuple[Metric, ...]:
        """Return the metrics of the restarts with the errors on the held-out questions, if any."""
        if not len(self.held_out.answers):
            return tuple(metrics)
        errors = score(self.model, self.held_out)[0].tolist()
        pairs = zip(metrics, errors, strict=True)
        return tuple(metric._replace(validation_error=error) for metric, error in pairs)

    def sample_epoch(self) -> EpochBatches:
        """Return the batches of the next epoch."""
        generators = [self.generator(EPOCHS, r, self.state.epoch) for r in self.restart_numbers]
        if self._error_sampling is None:
            return self.sampler.sample(generators)
        return self.sampler.sample(generators, self._error_sampling.probabilities(self.model))

    def forward(self, batch: EpochBatches, softmax: bool) -> tuple[Tensor, Tensor]:
        """Return the scores [R, B, rows] and losses [R, B] of one batch."""
        questions = Batch(self.sampler.encoded.sentences, *batch[:-1])
        query, answers, _ = self.model.read(questions, softmax)
        losses, scores = answer_loss(query, answers, self.model.answer_rows(batch.answers))
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
        parts = [self.held_out, self.encoded(test_examples)]
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


def _by_text(texts: Sequence[Sequence[Example]], numbers: Iterable[int]) -> list[list[Example]]:
    """Return the examples of some numbers, counted through all texts, by text and in order."""
    wanted, start, parts = set(numbers), 0, []
    for text in texts:
        parts.append([one for number, one in enumerate(text, start) if number in wanted])
        start += len(text)
    return parts
