"""Train text models: R restarts at once, linear start, learning-rate annealing, gradient clipping.

As in the paper, R models start from R random initializations, and the one with the lowest error on
its training questions is kept. They are one model with a leading axis. Each has its own random
generators, seeded by (seed, restart, epoch): restart r is the same for any R (unless another one
ends the training early, `Recipe.stop_after`), and a resumed training gives the same bits as an
uninterrupted one.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from memhop.errors import DivergedError, MemhopError, MemhopWarning, check_integer
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.runs import CONTROL
from memhop.text.model import MemN2N
from memhop.text.reading import SplitSentences, readable, readable_texts, single_words
from memhop.text.stored_examples import choose_examples
from memhop.training.control import Control, train_control
from memhop.training.epochs import OnProgress, Progress, ended, run_epochs
from memhop.training.run import (
    ControlResult,
    Finished,
    RestartScore,
    TrainingData,
    TrainingRun,
    all_scores,
    fingerprint,
)
from memhop.training.trainer import Trainer

__all__ = ["MAX_RESTARTS", "Progress", "TrainingResult", "train"]

MAX_RESTARTS = 1_000_000


@dataclass(frozen=True)
class TrainingResult:
    """A finished training.

    Attributes:
        model: the restart that was kept.
        restarts: the score of every restart, in order.
        kept: index of the restart that was kept; if the control was kept (``control.is_kept``),
            an index into ``control.restarts``.
        seconds: time of all epochs, including those before a resume.
        all_restarts: all restarts as one model; None if a finished run was only read.
        control: the scores of the control, and which classes of exchangeable phrases were left out
            and why; None without `Recipe.control_restarts`.
        epochs: how many the training took: fewer than the recipe has if it ended early
            (`Recipe.stop_after`).
    """

    model: MemN2N
    restarts: tuple[RestartScore, ...]
    kept: int
    seconds: float
    all_restarts: MemN2N | None = None
    control: ControlResult | None = None
    epochs: int = 0

    @property
    def best(self) -> RestartScore:
        """The score of the restart that was kept."""
        if self.control is not None and self.control.is_kept:
            return self.control.restarts[self.kept]
        return self.restarts[self.kept]


def train(
    train_examples: Sequence[Example] | Sequence[Sequence[Example]],
    test_examples: Sequence[Example] = (),
    *,
    valid_examples: Sequence[Example] | Sequence[Sequence[Example]] = (),
    recipe: Recipe | None = None,
    restarts: int | range = 10,
    seed: int = 0,
    run: str | Path | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    device: str | torch.device = "cpu",
    store_examples: bool = True,
) -> TrainingResult:
    """Train a `MemN2N` on examples.

    The restart with the lowest error after the last epoch is kept. The error is measured without
    noise on the training examples (section 4.2), or on those held out (`Recipe.keep`); ties go to
    the lower training loss. With `Recipe.control_restarts` a plainer model is trained first
    (`memhop.training.control`), and is kept instead if its error on the held-out examples is lower,
    or if there are too few to compare.
    Test examples are only scored, once, at the end.

    Args:
        train_examples: at least one; or several texts, each a sequence of examples (phrase-swap
            augmentation swaps phrases within a text). Vocabulary, longest sentence and answers
            come from here.
        test_examples: scored for every restart; may be empty.
        valid_examples: the held-out examples, or those of each text. If empty, a share of the
            training examples is held out (`Recipe`).
        recipe: settings; None is ``Recipe.paper()``.
        restarts: R, at least 1; or a range of numbers, to train only these restarts of a larger
            training; with the same result, if no restart ends it early (`Recipe.stop_after`). The
            bits are then the same if ``memory_dim`` and ``hop_units`` are multiples of 16: on some
            processors matrix products of other sizes depend on where a matrix starts in memory.
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
    data = _readable_data(train_examples, test_examples, valid_examples)
    if advice := single_words(data.examples, data.words):
        warnings.warn(advice, MemhopWarning, stacklevel=2)
    folder = TrainingRun.open(run, fingerprint(data, recipe, restarts, seed), resume=resume)
    if folder is not None and (end := folder.finished()):
        return _result(end._replace(model=end.model.to(device)))
    device = torch.device(device)
    trainer = Trainer(data.texts, recipe, restarts, seed, device, data.valid_texts, data.words)
    trainer.model.examples = choose_examples(data.texts) if store_examples else ()
    below = None if run is None else Path(run) / CONTROL
    control = train_control(trainer, data, below, resume=resume, on_progress=on_progress)
    if folder is not None:
        folder.restore(trainer.model.vocabulary, trainer.tensors(), trainer.state)
    end = _finished(trainer, data, control, folder, on_progress)
    if folder is not None:
        folder.finish(end)
    return _result(end, trainer.model)


def _readable_data(
    train_examples: Sequence[Example] | Sequence[Sequence[Example]],
    test_examples: Sequence[Example],
    valid_examples: Sequence[Example] | Sequence[Sequence[Example]],
) -> TrainingData:
    """Return the checked examples of a training."""
    words = SplitSentences()
    texts = readable_texts(train_examples, words)
    test_examples = readable(test_examples, "test example {}", words)
    valid_texts = readable_texts(valid_examples, words, "held-out")
    if not any(texts):
        raise MemhopError("expected at least 1 training example, got none")
    if len(valid_texts) not in (1, len(texts)):
        raise MemhopError(
            f"expected held-out examples of each of {len(texts)} training texts, or of all as one, "
            f"got {len(valid_texts)} texts"
        )
    return TrainingData(texts, test_examples, valid_texts if any(valid_texts) else (), words)


def _finished(
    trainer: Trainer,
    data: TrainingData,
    control: Control | None,
    folder: TrainingRun | None,
    on_progress: OnProgress | None,
) -> Finished:
    """Run the epochs that are left, and return the better of the training and its control."""
    try:
        run_epochs(trainer, folder, on_progress)
        end = ended(trainer, data.test)
    except DivergedError:
        if control is None or control.model is None:
            raise
        end = None
    if control is None:
        assert end is not None  # else the error was raised
        return end
    trainer.state.seconds += control.seconds
    if end is not None and not control.is_preferred(end):
        return end._replace(control=control.result.without_kept())
    assert control.model is not None
    scores = trainer.scores(data.test) if end is None else end.scores
    scores = tuple(replace(one, kept=False) for one in scores)
    return Finished(control.model, trainer.state, scores, control.result)


def _result(end: Finished, all_restarts: MemN2N | None = None) -> TrainingResult:
    """Return the result of a training."""
    kept = next(one.restart for one in all_scores(end.scores, end.control) if one.kept)
    seconds, epochs = end.state.seconds, end.state.epoch
    return TrainingResult(end.model, end.scores, kept, seconds, all_restarts, end.control, epochs)
