"""Measure the error in stories longer than the training stories, by temporal encoding."""

from collections.abc import Iterator, Mapping
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.registry import Plot, drawn_by
from memhop.cli.reproduce import Jobs, Tiny
from memhop.cli.settings import available_cores
from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.reproduce.processes import run_in_processes
from memhop.reproduce.record import Row, Rows, Sheet, provenance
from memhop.training.evaluation import evaluate
from memhop.training.loop import train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASKS = (1, 2, 3)
MAX_TRAINED = 20  # at most so many statements before a question in training
ENCODINGS: dict[str, dict[str, Any]] = {
    "no ages": {"temporal": False, "noise": "none"},
    "ages": {"noise": "none"},
    "ages, time noise": {"noise": "time"},
    "ages, empty memories": {"noise": "empty", "mask_empty_slots": False},
}
"""The temporal encodings, as changes of `Recipe`."""


class Size(NamedTuple):
    """The size of the experiment; the defaults are those of the published curve.

    Attributes:
        train, test: questions of a training, and of a test at each length.
        lengths: statements before a question.
        restarts: the one with the lowest training error is tested.
        seeds: of stories and training.
        changes: changes of the recipe.
    """

    train: int = 2000
    test: int = 1000
    lengths: tuple[int, ...] = (5, 10, 20, 50, 200, 1000)
    restarts: int = 5
    seeds: tuple[int, ...] = (0, 1, 2)
    changes: Mapping[str, Any] = {}


TINY = Size(64, 20, (5, 30), 1, (0,), {"epochs": 2, "linear_start_epochs": 1})


def measure(jobs: Jobs = None, tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Train on stories of 20 statements, test on longer ones."""
    size = TINY if tiny else Size()
    work = [(task, name, seed) for task in TASKS for name in ENCODINGS for seed in size.seeds]
    for _, rows in run_in_processes(partial(rows_of, size), work, jobs or available_cores()):
        yield rows


def rows_of(size: Size, work: tuple[int, str, int]) -> list[dict[str, Any]]:
    """Train on a task with an encoding and a seed; test at each length."""
    task, name, seed = work
    recipe = Recipe(**{**ENCODINGS[name], **size.changes})
    text = _stories(task, size.train, seed, (1, MAX_TRAINED))
    result = train(text, recipe=recipe, restarts=size.restarts, seed=seed)
    return [
        {
            "task": task, "encoding": name, "seed": seed, "trained_up_to": MAX_TRAINED,
            "statements": length, "restarts": size.restarts, "questions": size.train,
            "test_questions": size.test, "train_error": result.best.train_error,
            "test_error": evaluate(
                result.model, _stories(task, size.test, _UNSEEN + seed, (length, length))
            ).error,
            **provenance(),
        }
        for length in size.lengths
    ]  # fmt: skip


_UNSEEN = 1_000_000  # added to the seed of test stories


def _stories(task: int, questions: int, seed: int, statements: tuple[int, int]) -> list[Example]:
    """Generate examples whose questions are about any statement, however old."""
    stories = generate(task, questions=questions, seed=seed, statements=statements, reach=None)
    return list(to_examples(stories))


def sort_key(row: Row) -> tuple[int, int, int, int]:
    """Return the place of a row in the file."""
    encoding = list(ENCODINGS).index(str(row["encoding"]))
    return int(row["task"]), encoding, int(row["seed"]), int(row["statements"])


def errors(rows: Rows) -> dict[tuple[int, str], dict[int, float]]:
    """Return the error by task and encoding, then by length: the mean over the seeds."""
    found: dict[tuple[int, str], dict[int, list[float]]] = {}
    for row in rows:
        curve = found.setdefault((int(row["task"]), str(row["encoding"])), {})
        curve.setdefault(int(row["statements"]), []).append(float(row["test_error"]))
    return {
        key: {length: fmean(each) for length, each in sorted(curve.items())}
        for key, curve in sorted(found.items())
    }


def sheets(rows: Rows) -> list[Sheet]:
    """Return the curves as a table."""
    curves = errors(rows)
    lengths = sorted({length for curve in curves.values() for length in curve})
    lines = [
        [f"{task}, {name}", *(f"{curve[length]:.1f}" for length in lengths)]
        for (task, name), curve in curves.items()
    ]
    first, seeds = rows[0], len({row["seed"] for row in rows})
    note = (
        f"Test error in %, trained on {int(first['questions']):,} questions with up to "
        f"{first['trained_up_to']} statements before them, mean of {seeds} seeds, the restart of "
        f"{first['restarts']} with the lowest training error."
    )
    return [Sheet("Error by the number of statements", ("task", *map(str, lengths)), lines, note)]


def curves(rows: Rows) -> "Figure":
    """Draw the error by the number of statements, a panel for each task."""
    from matplotlib.figure import Figure

    from memhop.reproduce.plot import GREY, OURS, THEIRS

    looks = ((GREY, "s:"), (THEIRS, "o--"), (OURS, "o-"), (OURS, "^--"))
    figure = Figure(figsize=(7.6, 2.9), layout="constrained")
    panels = figure.subplots(1, len(TASKS), sharey=True)
    found = errors(rows)
    for axes, task in zip(panels, TASKS, strict=True):
        axes.axvspan(1, MAX_TRAINED, color=GREY, alpha=0.12, linewidth=0)
        for name, (color, look) in zip(ENCODINGS, looks, strict=True):
            curve = found.get((task, name), {})
            axes.plot(
                list(curve), list(curve.values()), look, color=color, markersize=4, label=name
            )
            axes.set_xscale("log")
            axes.set_xticks(list(curve), [str(length) for length in curve])
        axes.minorticks_off()
        axes.set_xlim(4, 1300)
        axes.set_ylim(0, 100)
        axes.grid()
        axes.set_title(f"task {task}", fontsize=9, color=GREY)
    panels[1].set_xlabel(f"statements before the question (trained: shaded, up to {MAX_TRAINED})")
    panels[0].set_ylabel("test error, %")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    return figure


PLOTS = {
    "length": Plot(
        "length.svg",
        "length",
        "Error along the statements",
        drawn_by("benchmarks.length", "curves"),
    )
}
