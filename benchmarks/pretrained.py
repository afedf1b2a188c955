"""Measure the model ``stories`` that comes with memhop, on released and on generated stories.

It never saw a released text. Next to it: one model of the recipe ``best`` for all 20 tasks, trained
on the released training stories, 1,000 questions of each.
"""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from memhop import MemN2N
from memhop.cli.reproduce import ReleasedStories, Restarts, Seed, Tiny
from memhop.data import TASK_NAMES
from memhop.recipe import Recipe
from memhop.reproduce.babi import TINY, released
from memhop.reproduce.record import Rows, Sheet, provenance
from memhop.reproduce.stories_model import generated
from memhop.reproduce.trainings import available_tasks
from memhop.training.evaluation import evaluate
from memhop.training.loop import train

MODEL = "stories"
_TEST_QUESTIONS = 1000
_TEST_SEED = 1_000_000  # the model was trained on stories of another seed


def measure(
    data: ReleasedStories, restarts: Restarts = 4, seed: Seed = 0, tiny: Tiny = False
) -> Iterator[list[dict[str, Any]]]:
    """Test the model that comes with memhop."""
    model = MemN2N.from_pretrained(MODEL)
    tasks = available_tasks(data, list(TASK_NAMES))
    splits = {task: released(data)(task) for task in tasks}
    recipe = Recipe.best(joint=True, **(TINY if tiny else {}))
    joint = train(
        [train_part for train_part, _ in splits.values()],
        recipe=recipe, restarts=restarts, seed=seed,
    ).model  # fmt: skip
    for task, (train_part, test) in splits.items():
        yield [
            {
                "task": task,
                "test_questions": len(test),
                "shipped_error": evaluate(model, test).error,
                "shipped_error_on_generated": evaluate(
                    model, generated(task, _TEST_QUESTIONS, _TEST_SEED)
                ).error,
                "train_questions": len(train_part),
                "restarts": restarts,
                "seed": seed,
                "joint_error": evaluate(joint, test).error,
                **provenance(),
            }
        ]


def sheets(rows: Rows) -> list[Sheet]:
    """Return the errors of both models by task, and their means."""
    columns = ("shipped_error", "joint_error", "shipped_error_on_generated")
    lines = [
        [f"{row['task']}, {TASK_NAMES[int(row['task'])].replace('-', ' ')}",
         *(f"{float(row[name]):.1f}" for name in columns)]
        for row in rows
    ]  # fmt: skip
    means = [fmean(float(row[name]) for row in rows) for name in columns]
    lines.append(["mean", *(f"{mean:.1f}" for mean in means)])
    headings = ("task", "`stories`", "trained on released stories", "`stories` on generated")
    note = (
        "Test error in %: of the shipped model on the released test questions (it never saw a "
        "released text); of one model of the recipe `best` for all tasks, trained on the released "
        f"training questions ({rows[0]['restarts']} restarts, the one with the lowest validation "
        "error is kept); and of the shipped model on new generated questions."
    )
    return [Sheet("Errors by task", headings, lines, note)]
