"""Train the model ``stories`` that comes with memhop, on generated stories of all kinds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from memhop.data import TASK_NAMES, generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.text.model import MemN2N
from memhop.training.loop import Progress, train

# for a small download and fast answers
SMALLER: dict[str, Any] = {
    "memory_dim": 64, "hop_units": 128, "learning_rate": 0.002, "control_restarts": 0,
    "sampling": "uniform", "min_steps": 1, "stop_after": 0,
}  # fmt: skip


class Setting(NamedTuple):
    """Questions of each kind of story, the recipe, random starts and the seed.

    With so many questions the held-out error is that of training (docs/log.md), and needs no
    control. The epochs are fewer than those of the recipe, as each has more questions.
    """

    questions: int = 10_000
    recipe: Recipe = Recipe.best(joint=True, epochs=18, linear_start_epochs=2, **SMALLER)
    restarts: int = 4
    seed: int = 0


TINY = Setting(20, Recipe.best(joint=True, epochs=2, linear_start_epochs=1, **SMALLER), 2)


def train_stories_model(
    run: Path, setting: Setting, on_progress: Callable[[Progress], Any] | None = None
) -> MemN2N:
    """Train the model, or resume its training from the checkpoint in ``run``.

    The restart with the lowest error on held-out generated stories is kept. The same setting gives
    the same bits on the same processor with the same number of threads.
    """
    texts = [generated(task, setting.questions, setting.seed) for task in TASK_NAMES]
    result = train(
        texts, recipe=setting.recipe, restarts=setting.restarts, seed=setting.seed,
        run=run, resume=True, on_progress=on_progress,
    )  # fmt: skip
    return result.model


def generated(task: int, questions: int, seed: int) -> list[Example]:
    """Return generated questions of a task."""
    return list(to_examples(generate(task, questions=questions, seed=seed)))
