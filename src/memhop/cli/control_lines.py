"""Lines about the control of a training: which model is kept, which classes are exchanged."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from memhop.cli.screen import percent
from memhop.cli.training_jobs import TrainingJob
from memhop.errors import DivergedError
from memhop.recipe import Recipe
from memhop.training.class_test import ClassTest
from memhop.training.epochs import kept_restart
from memhop.training.loop import TrainingResult
from memhop.training.run import RestartScore

_WIDTH = 80
_LEAST_SHOWN = 12  # characters of the phrases of a class


def control_lines(job: TrainingJob, result: TrainingResult, *, is_only: bool) -> Iterator[str]:
    """Yield lines of at most 80 characters; none without a control.

    With ``is_only`` each class has a line, otherwise each that is not exchanged.
    """
    control = result.control
    if control is None:
        return
    if control.restarts:
        recipe = job.settings.recipe
        plain = _held_out(control.restarts, replace(recipe, keep="validation"))
        full = _held_out(result.restarts, recipe)
        kept = "the training"
        if control.is_kept:
            is_lower = plain is None or full is None or plain < full
            kept = "the control" if is_lower else "the control (too few held out)"
        yield f"held out: control {percent(plain)}, training {percent(full)}; kept: {kept}"
    for one in control.classes:
        if is_only or not one.is_exchanged:
            yield _class_line(one, job)


def _held_out(scores: Sequence[RestartScore], recipe: Recipe) -> float | None:
    """Return the held-out error of the restart that the recipe keeps; None if all diverged."""
    try:
        kept = kept_restart(scores, recipe)
    except DivergedError:
        return None
    return next(one.validation_error for one in scores if one.restart == kept)


def _class_line(one: ClassTest, job: TrainingJob) -> str:
    """Return a line such as ``not exchanged: garden, office: held out 2.0%, 41.5% exchanged``."""
    start = "" if len(job.sources) == 1 else f"task {job.sources[one.text].task}: "
    start += "exchanged: " if one.is_exchanged else "not exchanged: "
    end = one.reason
    if one.error is not None:
        end = f"held out {percent(one.error)}, {percent(one.swapped_error)} exchanged"
    room = max(_LEAST_SHOWN, _WIDTH - len(start) - len(end) - 2)
    phrases = one.phrases if len(one.phrases) <= room else f"{one.phrases[: room - 3]}..."
    return f"{start}{phrases}: {end}"
