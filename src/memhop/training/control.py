"""Train the control of a training: a plainer model, for comparison on the held-out examples.

The control is a model of the recipe ``paper``, trained on the same training part without
phrase-swap augmentation. It decides two things. A class of exchangeable phrases is left out of the
main training if swapping it makes the held-out stories harder for the control
(`memhop.training.class_test`). And the restart with the lowest held-out error is kept, of
the main training or of the control; with fewer than `MIN_STORIES` held-out stories, which decide
nothing, that of the control.

The control depends on the texts, the recipe and the seed, never on the restarts of the main
training.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from memhop.errors import DivergedError
from memhop.recipe import Recipe
from memhop.runs import CONTROL
from memhop.text.model import MemN2N
from memhop.training.class_test import (
    MIN_STORIES,
    ClassTest,
    check_classes,
    num_stories,
    untested,
)
from memhop.training.epochs import OnProgress, ended, run_epochs
from memhop.training.run import (
    ControlResult,
    Finished,
    RestartScore,
    TrainingData,
    TrainingRun,
    fingerprint,
)
from memhop.training.trainer import CLASSES, Trainer

_EPOCH_SHARE = {False: 2 / 5, True: 2 / 3}  # of the main training's; for one text, for several
_START_SHARE = {False: 1 / 6, True: 1 / 3}  # of the control's epochs: linear start
_HALVINGS = 4


def control_recipe(recipe: Recipe, *, joint: bool) -> Recipe:
    """Return the recipe of the control of a training by ``recipe``.

    It is ``paper``, with the data settings of the recipe (held-out part, memory, noise, ...) and
    two fifths of its epochs, two thirds with several texts (``joint``). For the epochs of ``best``
    and one text these are the epochs of ``paper``.

    >>> control = control_recipe(Recipe.best(), joint=False)
    >>> control == Recipe.paper(held_out="stories", keep="validation", stop_after=10)
    True
    """
    plain = Recipe.paper(joint=joint)
    total = recipe.linear_start_epochs + recipe.epochs
    total = max(1, round(_EPOCH_SHARE[joint] * total))
    linear_start = min(round(_START_SHARE[joint] * total), total - 1)
    names = ("memory_dim", "heads", "hop_units", "optimizer", "learning_rate", "schedule",
             "clip_norm", "exchange", "control_restarts", "sampling", "min_steps")  # fmt: skip
    return replace(
        recipe,
        **{name: getattr(plain, name) for name in names},
        epochs=total - linear_start,
        linear_start_epochs=linear_start,
        halve_every=max(1, round((total - linear_start) / _HALVINGS)),
        keep="validation",
    )


class Control(NamedTuple):
    """A control: its result, its best restart, the time of its epochs, the held-out stories.

    The model is None without held-out examples, or if every restart of the control diverged.
    """

    result: ControlResult
    model: MemN2N | None = None
    seconds: float = 0.0
    stories: int = 0

    def is_preferred(self, main: Finished) -> bool:
        """Return whether its error on the held-out examples is below that of the main training.

        With too few stories to compare it is preferred, too.
        """
        error, other = _kept_error(self.result.restarts), _kept_error(main.scores)
        if error is None or other is None:
            return False
        return error < other or self.stories < MIN_STORIES


def _kept_error(scores: Sequence[RestartScore]) -> float | None:
    """Return the error on the held-out examples of the restart that is kept."""
    return next((one.validation_error for one in scores if one.kept), None)


def train_control(
    main: Trainer,
    data: TrainingData,
    folder: Path | None,
    *,
    resume: bool,
    on_progress: OnProgress | None,
) -> Control | None:
    """Train the control of a training; leave out the classes of phrases that its test rejects.

    Args:
        main: the training.
        data: its examples.
        folder: for the checkpoints; None writes nothing to disk.
        resume: continue from the newest checkpoint in the folder.
        on_progress: called after every epoch.

    Returns:
        the control; None without ``Recipe.control_restarts``.
    """
    if not main.recipe.control_restarts:
        return None
    control = _control(main, data, folder, resume, on_progress)
    exchanged = {(one.text, one.phrases) for one in control.result.classes if one.is_exchanged}
    main.sampler.active = [(text, str(each)) in exchanged for text, each in main.phrase_classes]
    return control


def _control(
    main: Trainer,
    data: TrainingData,
    folder: Path | None,
    resume: bool,
    on_progress: OnProgress | None,
) -> Control:
    """Return the finished control: trained, or read from the folder."""
    classes = main.phrase_classes
    if not len(main.held_out.answers):
        tests = untested(classes, "no held-out stories", is_exchanged=False)
        return Control(ControlResult((), tests))
    recipe = control_recipe(main.recipe, joint=len(data.texts) > 1)
    restarts = range(main.recipe.control_restarts)
    identity = fingerprint(data, recipe, restarts, main.seed)
    identity |= {"texts": list(map(len, data.texts)), "exchange": main.recipe.exchange}
    run = TrainingRun.open(folder, identity, resume=resume)
    if run is not None and (found := run.finished()):
        tests = () if found.control is None else found.control.classes
        return _of(found._replace(model=found.model.to(main.device)), tests, main)
    trainer = Trainer(
        data.texts, recipe, restarts, main.seed, main.device, data.valid_texts, data.words
    )
    trainer.model.examples = main.model.examples
    if run is not None:
        run.restore(trainer.model.vocabulary, trainer.tensors(), trainer.state)
    try:
        run_epochs(trainer, run, on_progress, CONTROL)
        end = ended(trainer, data.test)
    except DivergedError:
        tests = untested(classes, "the control diverged", is_exchanged=False)
        return Control(ControlResult((), tests))
    tests = _tested(main, trainer, data)
    if run is not None:
        run.finish(end._replace(control=ControlResult((), tests)))
    return _of(end, tests, main)


def _of(end: Finished, tests: tuple[ClassTest, ...], main: Trainer) -> Control:
    stories = sum(num_stories(each) for each in main.held_out_texts)
    return Control(ControlResult(end.scores, tests), end.model, end.state.seconds, stories)


def _tested(main: Trainer, control: Trainer, data: TrainingData) -> tuple[ClassTest, ...]:
    """Return the tests of the classes of the main training by the control."""
    classes = main.phrase_classes
    if len(data.texts) != len(main.held_out_texts):
        return untested(classes, "held-out stories of all texts as one", is_exchanged=False)
    if main.recipe.held_out == "random" and not data.valid_texts:
        # the control knows the story as it is from its other questions: no fair comparison
        reason = "held-out questions are of training stories"
        return untested(classes, reason, is_exchanged=False)
    return check_classes(
        classes, main.held_out_texts, control.model, data.words, main.generator(CLASSES)
    )
