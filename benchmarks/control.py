"""Compare the recipes where phrase swaps are wrong: texts without symmetry, and wrong classes.

In ``skewed`` texts, some people, places and words are drawn more often than others. With ``wings``
the answer is the part of the house, of one, two or three places.

Wrong classes take the place of those that the search finds. ``mixed``: each orbit is a class of
its own, whose first phrase goes to the next orbit. ``separate``: each orbit is a class of its own,
whose phrases are permuted freely; this leaves classes of one orbit that were free already as they
are. The test of the classes by the control, and the choice between the control and the main
training, are those of every training (`memhop.training.control`).

Both recipes get the same 1,000 questions, and each holds out a part in its own way: ``paper`` the
last tenth of the questions, ``best`` a tenth of the stories.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import exp, log
from statistics import fmean
from typing import Any, NamedTuple
from unittest.mock import patch

from memhop.cli.reproduce import Jobs, Tiny
from memhop.cli.settings import available_cores
from memhop.data import to_examples
from memhop.data.stories import TASKS
from memhop.data.stories.task import PEOPLE, PLACES, THINGS, StorySettings
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.processes import run_in_processes
from memhop.reproduce.record import Row, Rows, Sheet, provenance
from memhop.rng import Rng
from memhop.text.augmentation import sampling
from memhop.text.augmentation.classes import PhraseClass
from memhop.text.augmentation.swap_search import exchangeable_classes
from memhop.training.evaluation import evaluate
from memhop.training.loop import TrainingResult, train

SEEDS = range(5)
QUESTIONS, RESTARTS = 1000, 3
_DECAY = 3.0
_UNSEEN = 1_000_000  # added to the seed of test stories

Classes = list[PhraseClass]


class SkewedRng(Rng):
    """Draws each of n choices more often than the next: by a factor of exp(3 / n).

    >>> rng = SkewedRng(0)
    >>> draws = [rng.choice("abc") for _ in range(1000)]
    >>> draws.count("a") > draws.count("b") > draws.count("c") > 0
    True
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        uniform = self._random
        self._random = lambda: -log(1 - uniform() * (1 - exp(-_DECAY))) / _DECAY


def mixed(classes: Sequence[PhraseClass]) -> Classes:
    """Return classes in which the first phrase of each orbit is one of the next orbit."""
    orbits = [orbit for each in classes for orbit in each.orbits]
    return [
        PhraseClass.of_group((before[0], *orbit[1:]))
        for before, orbit in zip((*orbits[-1:], *orbits), orbits, strict=False)
    ]


def separate(classes: Sequence[PhraseClass]) -> Classes:
    """Return each orbit as a class of its own, whose phrases are permuted freely."""
    return [PhraseClass.of_group(orbit) for each in classes for orbit in each.orbits]


class Text(NamedTuple):
    """A kind of text.

    Attributes:
        tasks: of which the stories are.
        rng: draws the stories.
        corrupt: return wrong classes in place of those that are found.
        answers: other answers, in place of the places.
    """

    tasks: Sequence[int]
    rng: type[Rng] = Rng
    corrupt: Callable[[Sequence[PhraseClass]], Classes] = list
    answers: Mapping[str, str] = {}


WINGS = dict(zip(PLACES, ("north", "east", "east", "south", "south", "south"), strict=False))
TEXTS = {
    "skewed": Text((1, 2, 11, 15, 17), SkewedRng),
    "skewed, wings": Text((1, 2, 11), SkewedRng, answers=WINGS),
    "mixed classes": Text((1, 2, 11, 15, 17), corrupt=mixed),
    "separate pairs": Text((11, 15, 17), corrupt=separate),
}
Work = tuple[int, str, int]  # task, name of the text, seed


def measure(jobs: Jobs = None, tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Train recipes paper and best where phrase swaps are wrong."""
    work = [
        (task, text, seed)
        for text in TEXTS
        for task in TEXTS[text].tasks[: 1 if tiny else None]
        for seed in SEEDS[: 1 if tiny else None]
    ]
    for _, rows in run_in_processes(partial(rows_of, tiny), work, jobs or available_cores()):
        yield rows


def rows_of(tiny: bool, work: Work) -> list[dict[str, Any]]:
    """Return the row of a text: the errors of both recipes."""
    task, name, seed = work
    changes: dict[str, Any] = {"epochs": 2, "linear_start_epochs": 1} if tiny else {}
    questions = 100 if tiny else QUESTIONS
    text = TEXTS[name]
    examples = stories(task, text, questions, seed)
    test = stories(task, text, questions, _UNSEEN + seed)
    restarts = 1 if tiny else RESTARTS
    paper = train(examples, recipe=Recipe.paper(**changes), restarts=restarts, seed=seed)

    def corrupted(*arguments: Any) -> Classes:
        return text.corrupt(exchangeable_classes(*arguments))

    with patch.object(sampling, "exchangeable_classes", corrupted):
        best = train(examples, recipe=Recipe.best(**changes), restarts=restarts, seed=seed)
    return [
        {
            "text": name, "task": task, "seed": seed, "restarts": restarts,
            "questions": questions, **decisions(best),
            "paper_error": evaluate(paper.model, test).error,
            "best_error": evaluate(best.model, test).error, "tiny": tiny, **provenance(),
        }
    ]  # fmt: skip


def stories(task: int, text: Text, questions: int, seed: int) -> list[Example]:
    """Return the first examples of generated stories."""
    settings = StorySettings(
        TASKS[task].people or PEOPLE[:4], TASKS[task].places or PLACES[:6], THINGS[:3]
    )
    random, examples = text.rng(1000 * seed + task), list[Example]()
    while len(examples) < questions:
        examples += to_examples([TASKS[task].generate(random, settings)])
    return [
        one._replace(answer=text.answers.get(one.answer, one.answer))
        for one in examples[:questions]
    ]


def decisions(result: TrainingResult) -> dict[str, Any]:
    """Return what the control has decided, and the held-out errors of both trainings."""
    control = result.control
    assert control is not None
    errors = [
        min((e for one in scores if (e := one.validation_error) is not None), default=None)
        for scores in (control.restarts, result.restarts)
    ]
    return {
        "classes": len(control.classes),
        "exchanged": sum(one.is_exchanged for one in control.classes),
        "kept": "control" if control.is_kept else "main",
        "control_held_out": errors[0],
        "main_held_out": errors[1],
    }


def sort_key(row: Row) -> tuple[int, int, int]:
    """Return the place of a row in the file."""
    return list(TEXTS).index(str(row["text"])), int(row["task"]), int(row["seed"])


def sheets(rows: Rows) -> list[Sheet]:
    """Return the mean errors over the seeds, a line for each text and task, and all of a text."""
    lines = []
    for text in dict.fromkeys(row["text"] for row in rows):
        of_text = [row for row in rows if row["text"] == text]
        for task in dict.fromkeys(row["task"] for row in of_text):
            lines.append(_line([row for row in of_text if row["task"] == task], str(task)))
        lines.append(_line(of_text, "all"))
    columns = ("text", "task", "exchanged", "control kept", "`paper`", "`best`", "difference")
    note = (
        f"Test error in %, mean (worst) of {len({row['seed'] for row in rows})} seeds; of "
        f"{rows[0]['restarts']} restarts the one that the recipe keeps. exchanged: the "
        "classes that were exchanged, right or wrong, of those that training got. Differences are "
        "of the same stories, in points."
    )
    return [Sheet(columns=columns, lines=lines, note=note)]


def _line(rows: Rows, task: str) -> list[str]:
    paper, best = ([float(row[name]) for row in rows] for name in ("paper_error", "best_error"))
    differences = [b - p for b, p in zip(best, paper, strict=True)]
    exchanged, classes = (sum(int(row[name]) for row in rows) for name in ("exchanged", "classes"))
    kept = sum(row["kept"] == "control" for row in rows)
    return [
        str(rows[0]["text"]), task, f"{exchanged} of {classes}", f"{kept} of {len(rows)}",
        f"{fmean(paper):.1f}", f"{fmean(best):.1f}",
        f"{fmean(differences):+.1f} ({max(differences):+.1f})",
    ]  # fmt: skip
