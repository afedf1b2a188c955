"""``memhop train``: models of the 20 tasks, or of one's own files."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer

from memhop.cli.screen import percent, say, say_error, say_json, say_table, training_progress
from memhop.cli.settings import DataFolder, Json, TaskList, Threads, read_recipe, tasks_in, use
from memhop.data import read_babi
from memhop.errors import MemhopError
from memhop.evaluation import evaluate
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.runs import RUNS, free_name
from memhop.training import TrainingResult
from memhop.training import train as train_model


class Lesson(NamedTuple):
    """One training that the command line asked for."""

    name: str
    folder: Path
    train: list[Example]
    test: list[Example]


def train(
    data: DataFolder = None,
    task: TaskList = None,
    joint: Annotated[
        bool, typer.Option("--joint", help="One model over all the tasks, not one a task.")
    ] = False,
    train: Annotated[
        Path | None, typer.Option(help="Your own training file, in the bAbI format.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Your own test file.")] = None,
    recipe: Annotated[
        str, typer.Option(help="'paper', or a JSON file of settings (left out: defaults).")
    ] = "paper",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change one setting of the recipe."),
    ] = None,
    restarts: Annotated[
        int, typer.Option(min=1, help="Models from random starts; the best on training is kept.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same threads: same model.")] = 0,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1.")] = "cpu",
    threads: Threads = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run under runs/; one is made up without.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run of this name.")
    ] = False,
    json: Json = False,
) -> None:
    """Train on the bAbI tasks of a folder, or on files of your own.

    With --data DIR one model for each task is trained, into runs/NAME/qa1 and so on; with
    --joint one model for all. With --train FILE --test FILE your own stories are learned.
    """
    use(threads)
    _check_device(device)
    if resume and name is None:
        raise MemhopError("--resume needs the --name of the run to go on with")
    name = name or free_name("joint" if joint else "babi" if data else train.stem if train else "")
    settings = read_recipe(recipe, setting or [], joint=joint)
    lessons = _lessons(_named_folder(name), data, task, joint, train, test)
    if not resume and any(lesson.folder.exists() for lesson in lessons):
        raise MemhopError(f"{RUNS / name}: a run is there already: --resume it, or --name another")
    results = []
    try:
        for lesson in lessons:
            result = _train(lesson, settings, restarts, seed, device, resume)
            results.append((lesson, result))
            if not json:
                _say_result(lesson, result, alone=len(lessons) == 1)
    except KeyboardInterrupt:
        say_error(f"stopped; go on with: {_command_to_resume(name)}")
        raise typer.Exit(130) from None
    if json:
        say_json([_result_json(lesson, result) for lesson, result in results])
        return
    if joint and data:
        _say_tasks(results[0][1], data, task)
    elif len(results) > 1:
        _say_mean(results)
    say(f"the model is in {RUNS / name}; try: memhop ask {name}", style="dim")


def _train(
    lesson: Lesson, recipe: Recipe, restarts: int, seed: int, device: str, resume: bool
) -> TrainingResult:
    with training_progress(lesson.name) as show:
        return train_model(
            lesson.train,
            lesson.test,
            recipe=recipe,
            restarts=restarts,
            seed=seed,
            run=lesson.folder,
            resume=resume,
            on_progress=show,
            device=device,
        )


def _lessons(
    folder: Path,
    data: Path | None,
    task: str | None,
    joint: bool,
    train: Path | None,
    test: Path | None,
) -> list[Lesson]:
    if (data is None) == (train is None):
        raise MemhopError("train needs either --data DIR or --train FILE, see memhop train --help")
    if train is not None:
        if task is not None or joint:
            raise MemhopError("--task and --joint go with --data, not with --train")
        own_test = read_babi(test) if test else []
        return [Lesson(train.name, folder, read_babi(train), own_test)]
    assert data is not None
    if test is not None:
        raise MemhopError("--test goes with --train; with --data the test files are in the folder")
    lessons = []
    for number, splits in tasks_in(data, task, needed="train").items():
        own_test = read_babi(splits["test"]) if "test" in splits else []
        examples = read_babi(splits["train"])
        lessons.append(Lesson(f"task {number}", folder / f"qa{number}", examples, own_test))
    if joint:
        train_all = [example for lesson in lessons for example in lesson.train]
        test_all = [example for lesson in lessons for example in lesson.test]
        return [Lesson(f"{len(lessons)} tasks jointly", folder, train_all, test_all)]
    return lessons


def _named_folder(name: str) -> Path:
    if name in (".", "..") or Path(name).name != name or name.startswith("."):
        raise MemhopError(f"--name needs a plain name for a folder under {RUNS}/, not {name!r}")
    return RUNS / name


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise MemhopError(f"--device {device}: not here: {reason:.100}") from error


def _command_to_resume(name: str) -> str:
    arguments = sys.argv[1:]
    if not any(word == "--name" or word.startswith("--name=") for word in arguments):
        arguments += ["--name", name]
    if "--resume" not in arguments:
        arguments.append("--resume")
    return shlex.join(["memhop", *arguments])


def _say_result(lesson: Lesson, result: TrainingResult, alone: bool) -> None:
    best = result.best
    tests = [one.test_error for one in result.restarts if one.test_error is not None]
    text = f"{lesson.name}: "
    if tests:
        text += f"test error {percent(best.test_error)} (kept of {len(result.restarts)} restarts, "
        text += f"which have {percent(min(tests))} to {percent(max(tests))}), "
    say(f"{text}training error {percent(best.train_error)}, {result.seconds:.0f} s")
    for one in result.restarts:
        if one.diverged is not None:
            say(f"restart {one.restart}: the loss became infinite in epoch {one.diverged}", "red")
    if alone:
        columns = ("restart", "training error", "loss", "held out", "test", "")
        say_table(columns, [_restart_row(one) for one in result.restarts])


def _restart_row(one: Any) -> list[str]:
    loss = "-" if one.train_loss is None else f"{one.train_loss:.4f}"
    errors = (one.train_error, one.validation_error, one.test_error)
    train_error, held_out, test_error = map(percent, errors)
    mark = "kept" if one.kept else "diverged" if one.diverged is not None else ""
    return [str(one.restart), train_error, loss, held_out, test_error, mark]


def _say_tasks(result: TrainingResult, data: Path, task: str | None) -> None:
    rows = []
    for number, splits in tasks_in(data, task, needed="train").items():
        if "test" in splits:
            rows.append(
                [str(number), percent(evaluate(result.model, read_babi(splits["test"])).error)]
            )
    say_table(("task", "test error"), rows)


def _say_mean(results: Sequence[tuple[Lesson, TrainingResult]]) -> None:
    errors = [result.best.test_error for _, result in results]
    known = [error for error in errors if error is not None]
    if known:
        failed = sum(error > 5 for error in known)
        mean = percent(sum(known) / len(known))
        say(f"mean test error of {len(known)} tasks {mean}, {failed} failed (above 5%)", "bold")


def _result_json(lesson: Lesson, result: TrainingResult) -> dict[str, Any]:
    return {
        "name": lesson.name,
        "run": str(lesson.folder),
        "kept": result.kept,
        "seconds": result.seconds,
        "restarts": [asdict(one) for one in result.restarts],
    }
