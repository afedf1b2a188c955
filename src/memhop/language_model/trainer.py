"""Trainer: a language model in training, step by step."""

import copy
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np
import torch
from torch import Tensor

from memhop.errors import DivergedError
from memhop.language_model.batches import Batch, epoch_batches, steps_of
from memhop.language_model.evaluation import mean_loss, unscored_words
from memhop.language_model.model import LanguageModel
from memhop.language_model.network import LanguageNetwork
from memhop.language_model.optimizer import Gradients, Optimizer, RowGradient, cosine_rate
from memhop.language_model.output_layer import OutputLayer
from memhop.language_model.recipe import LanguageRecipe
from memhop.language_model.training_run import Metric, State
from memhop.language_model.vocabulary import WordVocabulary
from memhop.rng import generator, seeded

_WEIGHTS, _EPOCHS = 0, 1  # the purposes of generators
_FALLS = 0.9999  # "plateau": the validation loss is below this share of the one before


class Trainer:
    """A network in training, and its texts.

    Attributes:
        average: the network with the averages of the weights, or the network itself.
        best: the network of the epoch with the lowest validation loss; new before the first one.
        state: what else a checkpoint has.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        valid_tokens: np.ndarray,
        vocabulary: WordVocabulary,
        recipe: LanguageRecipe,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.vocabulary, self.recipe, self.seed = vocabulary, recipe, seed
        self.tokens, self.valid_tokens = tokens, valid_tokens
        self.steps = steps_of(len(tokens), recipe)
        with seeded(seed, _WEIGHTS):
            self.network = LanguageNetwork(len(vocabulary), recipe)
            self.network.reset_parameters()
        self.network.to(device)
        self.best = copy.deepcopy(self.network)
        self.average = copy.deepcopy(self.network) if recipe.averaging else self.network
        dtype = getattr(torch, recipe.output_precision)
        self.output_layer = OutputLayer(self.network.output, dtype)
        self.optimizer = Optimizer(self.network, recipe)
        self.state = State(rate=recipe.learning_rate)

    def best_model(self) -> LanguageModel:
        """Return the model of the best epoch so far."""
        return LanguageModel(self.vocabulary, self.recipe, self.best)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that training changes: weights, moments of Adam, averages."""
        tensors = dict(self.network.state_dict()) | self.optimizer.moments
        if self.recipe.averaging:
            own = self.average.state_dict().items()
            tensors |= {f"average.{name}": tensor for name, tensor in own}
        return tensors

    def run_steps(self) -> Iterator[float]:
        """Take the steps of an epoch that are left, and yield the learning rate of each."""
        state = self.state
        draws = generator(self.seed, _EPOCHS, state.epoch)
        for batch in epoch_batches(self.tokens, self.recipe, draws, state.step):
            started, cpu = time.perf_counter(), time.process_time()
            rate = self.rate()
            with without_interrupt():
                dropout = seeded(self.seed, _EPOCHS, state.epoch, state.step)
                with dropout, matmul_precision(self.recipe.matmul_precision):
                    loss = self.take_step(batch.to(self.network.output.device), rate)
                state.add_step(loss, len(batch.targets))
                state.add_time(started, cpu)
            if not math.isfinite(loss):
                raise DivergedError(
                    f"the loss became infinite in epoch {state.epoch + 1}: try a lower "
                    "learning_rate"
                )
            yield rate

    def rate(self) -> float:
        """Return the learning rate of the next step."""
        recipe, state = self.recipe, self.state
        if recipe.schedule == "plateau":
            return state.rate
        return cosine_rate(
            recipe, state.epoch * self.steps + state.step, recipe.epochs * self.steps
        )

    def take_step(self, batch: Batch, rate: float) -> float:
        """Take a step; return the loss, summed over the batch."""
        loss, gradients = self.gradients(batch)
        self.optimizer.step(gradients, rate)
        if self.recipe.averaging:
            self.update_average()
        return loss

    def gradients(self, batch: Batch) -> tuple[float, Gradients]:
        """Return the loss summed over a batch, and the gradients of the optimizer's loss.

        The tables of the words in memory are cut to the rows of the batch, whose gradient is small.
        """
        network, recipe = self.network.train(), self.recipe
        rows, inverse = torch.unique(batch.words.rows, return_inverse=True)
        a, c = network.tables()
        own = [table.detach()[rows].requires_grad_() for table in ((a,) if c is a else (a, c))]
        tables = ("word_a", "word_c", "output")
        others = {name: w for name, w in network.named_parameters() if name not in tables}
        words = batch.words._replace(rows=inverse)
        hidden = network(words, (own[0], own[-1])).flatten(0, -2)
        loss, of_hidden, of_output = self.output_layer(hidden.detach(), batch.targets)
        if recipe.optimizer == "adam":
            of_hidden /= len(batch.targets)
            of_output /= len(batch.targets)
        found = torch.autograd.grad(hidden, [*own, *others.values()], of_hidden)
        gradients: dict[str, Tensor | RowGradient] = {"output": of_output}
        if c is a:
            of_output.index_add_(0, rows, found[0])
        else:
            gradients |= {
                "word_a": RowGradient(rows, found[0]),
                "word_c": RowGradient(rows, found[1]),
            }
        return loss, gradients | dict(zip(others, found[len(own) :], strict=True))

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averages towards the weights; the first ones have a large part."""
        count = self.state.epoch * self.steps + self.state.step
        share = 1 - min(self.recipe.averaging, (count + 1) / (count + 10))
        for average, weight in zip(
            self.average.parameters(), self.network.parameters(), strict=True
        ):
            average.lerp_(weight, share)

    def end_epoch(self) -> Metric:
        """Score the validation text, keep the weights if they are the best, set the next rate."""
        state, recipe = self.state, self.recipe
        started, cpu = time.perf_counter(), time.process_time()
        network = self.average
        valid = mean_loss(network, self.valid_tokens, unscored_words(recipe.protocol, recipe))
        if not math.isfinite(valid):
            raise DivergedError(
                f"the validation loss became infinite in epoch {state.epoch + 1}: try a lower "
                "learning_rate"
            )
        with without_interrupt():
            state.add_time(started, cpu)
            before = state.metrics[-1].valid_loss if state.metrics else math.inf
            metric = state.end_epoch(valid, self.rate())
            if state.best_epoch == state.epoch:
                self.best.load_state_dict(network.state_dict())
            if valid > _FALLS * before:
                state.rate /= recipe.decay
        return metric

    def is_done(self) -> bool:
        """Return whether all epochs are run, or the learning rate is too low to go on."""
        recipe, state = self.recipe, self.state
        is_low = recipe.schedule == "plateau" and state.rate < recipe.min_learning_rate
        return state.epoch >= recipe.epochs or is_low


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Set the precision of float32 matrix products, and restore it at the end."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def without_interrupt() -> Iterator[None]:
    """Delay Ctrl-C to the end of the block, so that no step is half done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python interrupts the main thread only
        return
    came: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda *own: came.append(own))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came and callable(before):
        before(*came[0])
