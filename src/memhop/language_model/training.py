"""Train a language model on a text."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from memhop.errors import MemhopError, check_integer
from memhop.language_model.evaluation import (
    Perplexity,
    evaluate,
    perplexity_of,
    perplexity_with,
    unscored_words,
)
from memhop.language_model.model import LanguageModel
from memhop.language_model.recipe import LanguageRecipe
from memhop.language_model.text import EncodedText
from memhop.language_model.trainer import Trainer
from memhop.language_model.training_run import LanguageRun, Scores, State, identity_of
from memhop.language_model.vocabulary import WordVocabulary

_EVERY_SECONDS = 60.0  # between two checkpoints at least


@dataclass(frozen=True)
class Progress:
    """The state of a training after a step.

    Attributes:
        epoch, epochs: the number of the epoch, from 1 on, and of all epochs at most.
        step, steps: the same of the steps of the epoch.
        loss: the mean of -log p in this epoch so far, in nats.
        valid_perplexity: after the last step of an epoch, otherwise None.
        learning_rate: of this step.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    valid_perplexity: float | None
    learning_rate: float


@dataclass(frozen=True)
class LanguageResult:
    """A finished training.

    Attributes:
        model: the model of the epoch with the lowest validation loss.
        valid, test: its perplexities, with the protocol of the recipe; ``test`` is None without a
            test text.
        epoch, epochs: that epoch, and how many were run.
        seconds, cpu_seconds: time of all steps and validations, also before a resume.
    """

    model: LanguageModel
    valid: Perplexity
    test: Perplexity | None
    epoch: int
    epochs: int
    seconds: float
    cpu_seconds: float


def train(
    train_text: EncodedText,
    valid_text: EncodedText,
    test_text: EncodedText | None,
    vocabulary: WordVocabulary,
    *,
    recipe: LanguageRecipe | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    device: torch.device | str = "cpu",
) -> LanguageResult:
    """Train a `LanguageModel` on a text.

    After each epoch the validation text is scored; the epoch with the lowest loss is kept. The test
    text is only scored, once, at the end.

    Args:
        train_text, valid_text, test_text: encoded with ``vocabulary``. Each has more words than
            are in memory.
        vocabulary: of the training text.
        recipe: settings; None is ``LanguageRecipe.paper()``.
        seed: from 0 on. Same seed, same number of threads, same machine: same bits.
        run: folder for checkpoints; None writes nothing to disk.
        resume: continue from the newest checkpoint in ``run``, or start if there is none.
        on_progress: called after every step.
        device: of the training and the model.

    Raises:
        MemhopError: a text with too few words, a run that exists (without ``resume``) or has other
            texts or settings (with ``resume``), or a loss that became infinite.
        KeyboardInterrupt: after a last checkpoint.
    """
    recipe = recipe or LanguageRecipe.paper()
    check_integer("seed", seed, 0)
    for name, text in (("training", train_text), ("validation", valid_text), ("test", test_text)):
        check_length(name, text, recipe)
    identity = identity_of((train_text, valid_text, test_text), vocabulary, recipe, seed)
    folder = LanguageRun.open(run, identity, resume=resume)
    if folder is not None and (ended := folder.finished()):
        ended[0].network.to(device)
        return result_of(*ended)
    trainer = Trainer(train_text.tokens, valid_text.tokens, vocabulary, recipe, seed, device)
    if folder is not None:
        folder.restore(trainer.best, trainer.tensors(), trainer.state)
    run_epochs(trainer, folder, on_progress)
    model = trainer.best_model()
    if folder is not None:  # the test text may take long to score
        folder.write(model, trainer.state, trainer.tensors())
    first = unscored_words(recipe.protocol, recipe)
    loss = trainer.state.metrics[trainer.state.best_epoch - 1].valid_loss
    valid = perplexity_with(loss, valid_text, first, recipe.protocol)
    test = None if test_text is None else evaluate(model, test_text, protocol=recipe.protocol)
    scores = valid, test
    if folder is not None:
        folder.finish(model, trainer.state, scores)
    return result_of(model, trainer.state, scores)


def check_length(name: str, text: EncodedText | None, recipe: LanguageRecipe) -> None:
    """Check that some word of a text is scored."""
    least = unscored_words(recipe.protocol, recipe) + 1
    if text is not None and len(text) < least:
        raise MemhopError(
            f"{name} text: expected at least {least:,} words with {recipe.num_words} in memory, "
            f"got {len(text):,}"
        )


def result_of(model: LanguageModel, state: State, scores: Scores) -> LanguageResult:
    """Return the result of a finished training."""
    return LanguageResult(
        model, *scores, state.best_epoch, state.epoch, state.seconds, state.cpu_seconds
    )


def run_epochs(
    trainer: Trainer, folder: LanguageRun | None, on_progress: Callable[[Progress], None] | None
) -> None:
    """Run what is left of the epochs, and write checkpoints, a last one when interrupted."""
    state, written = trainer.state, time.perf_counter()
    try:
        while not trainer.is_done():
            for progress in epoch_of(trainer):
                if on_progress is not None:
                    on_progress(progress)
                if folder is not None and time.perf_counter() - written > _EVERY_SECONDS:
                    folder.write(trainer.best_model(), state, trainer.tensors())
                    written = time.perf_counter()
    except KeyboardInterrupt:
        if folder is not None and state.total:
            folder.write(trainer.best_model(), state, trainer.tensors())
        raise


def epoch_of(trainer: Trainer) -> Iterator[Progress]:
    """Run the steps of an epoch that are left, and its validation; yield the progress of each."""
    state, recipe = trainer.state, trainer.recipe
    epoch, epochs, steps = state.epoch + 1, recipe.epochs, trainer.steps
    for rate in trainer.run_steps():
        yield Progress(epoch, epochs, state.step, steps, state.mean_loss, None, rate)
    metric = trainer.end_epoch()
    valid = perplexity_of(metric.valid_loss)
    yield Progress(epoch, epochs, steps, steps, metric.loss, valid, metric.learning_rate)
