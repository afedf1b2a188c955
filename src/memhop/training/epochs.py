"""Run the epochs of a training, with progress and checkpoints, and choose a restart."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from memhop.errors import DivergedError
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.training.run import Finished, Metric, RestartScore, TrainingRun
from memhop.training.trainer import Trainer

_EVERY_EPOCHS, _EVERY_SECONDS = 10, 30.0  # between two checkpoints at most
TRAINING = "training"


@dataclass(frozen=True)
class Progress:
    """The state of a training after an epoch.

    Attributes:
        epoch, epochs: the number of the epoch, from 1 on, and of all epochs.
        metrics: one for each restart.
        diverged: the restarts whose loss became infinite or NaN, with the epoch.
        phase: ``training``, or before it ``control`` (`memhop.training.control`).
    """

    epoch: int
    epochs: int
    metrics: tuple[Metric, ...]
    diverged: dict[int, int]
    phase: str = TRAINING


OnProgress = Callable[[Progress], None]


def run_epochs(
    trainer: Trainer,
    folder: TrainingRun | None,
    on_progress: OnProgress | None,
    phase: str = TRAINING,
) -> None:
    """Run the remaining epochs, and write checkpoints, a last one when interrupted."""
    model, state, recipe = trainer.model, trainer.state, trainer.recipe
    epochs = recipe.linear_start_epochs + recipe.epochs
    last = time.perf_counter()
    is_read = folder is not None or on_progress is not None or recipe.stop_after > 0

    def checkpoint() -> None:
        if folder is not None:
            kept = kept_restart(trainer.scores(()), recipe)
            folder.write(model.pick(kept), state, trainer.tensors())

    def is_over() -> bool:
        return state.epoch >= epochs or is_solved(state.metrics, recipe.stop_after)

    while not is_over():
        before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
        started, first, diverged = time.perf_counter(), state.epoch, dict(state.diverged)
        try:
            metrics = trainer.run_epoch()
            if is_read:
                metrics = trainer.with_held_out_errors(metrics)
            state.metrics.extend(metrics)
            state.epoch += 1
            state.seconds += time.perf_counter() - started
            if on_progress is not None:
                on_progress(Progress(state.epoch, epochs, metrics, dict(state.diverged), phase))
            due = state.epoch % _EVERY_EPOCHS == 0 or time.perf_counter() - last > _EVERY_SECONDS
            if due and not is_over():
                checkpoint()
                last = time.perf_counter()
        except KeyboardInterrupt:
            if state.epoch == first or is_over():  # undo it: partial, or for `finish` to write
                for name, tensor in trainer.tensors().items():
                    tensor.copy_(before[name])
                state.epoch, state.diverged = first, diverged
                del state.metrics[first * len(trainer.restarts) :]
            checkpoint()
            raise


def is_solved(metrics: Sequence[Metric], stop_after: int) -> bool:
    """Return whether a restart has made no error in the last ``stop_after`` epochs, at least 1.

    Epochs of the linear start and without held-out questions do not count.

    >>> rows = [Metric(epoch, 0, 0.1, True, 0.1, 0.0, 0.0) for epoch in (1, 2)]
    >>> is_solved(rows, 2), is_solved(rows, 3)
    (True, False)
    """
    last = metrics[-1].epoch if metrics and stop_after else 0
    perfect = Counter(
        one.restart
        for one in takewhile(lambda one: one.epoch > last - stop_after, reversed(metrics))
        if one.softmax and one.train_error == one.validation_error == 0
    )
    return bool(perfect) and max(perfect.values()) == stop_after


def ended(trainer: Trainer, test_examples: Sequence[Example]) -> Finished:
    """Return the result of a training after its last epoch.

    Raises:
        DivergedError: every restart diverged.
    """
    scores = trainer.scores(test_examples)
    kept = kept_restart(scores, trainer.recipe)
    scores = tuple(replace(one, kept=one.restart == kept) for one in scores)
    return Finished(trainer.model.pick(kept), trainer.state, scores, None)


def kept_restart(scores: Sequence[RestartScore], recipe: Recipe) -> int:
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
