"""``memhop train``: models of the 20 tasks, or of one's own files."""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer

from memhop.cli.screen import (
    Stopped,
    duration,
    percent,
    program,
    say,
    say_json,
    say_table,
    training_progress,
)
from memhop.cli.settings import DataFolder, Json, TaskList, Threads, read_recipe, tasks_in, use
from memhop.data import read_babi
from memhop.errors import MemhopError
from memhop.evaluation import FAILED_ABOVE, evaluate
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.runs import (
    RUNS,
    free_name,
    holds_anything,
    newest_checkpoint,
    trained_in,
)
from memhop.training import TrainingResult
from memhop.training import train as train_model
from memhop.whole_file import check_writable

app = typer.Typer()


class Lesson(NamedTuple):
    """One training that the command line asked for."""

    name: str
    folder: Path
    train: list[list[Example]]  # from each file
    test: list[Example]


@app.command()
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
        str, typer.Option(help="'paper', 'best', or a JSON file of settings (left out: defaults).")
    ] = "paper",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change one setting of the recipe."),
    ] = None,
    restarts: Annotated[
        int, typer.Option(min=1, help="Models from random starts; the best one is kept.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same threads: same model.")] = 0,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1.")] = "cpu",
    threads: Threads = 1,
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
    _check_source(data, task, joint, train, test)
    name = name if name is not None else _name_for(train, joint)
    folder = _named_folder(name)
    settings = read_recipe(recipe, setting or [], joint=joint)
    lessons = _own(folder, train, test) if train else _tasks(folder, data or Path(), task, joint)
    results = []
    with _claimed(folder, lessons, resume):
        try:
            for lesson in lessons:
                result = _train(lesson, settings, restarts, seed, device, resume)
                results.append((lesson, result))
                if not json:
                    _say_result(lesson, result, alone=len(lessons) == 1)
        except KeyboardInterrupt:
            raise Stopped(f"stopped; go on with: {_command_to_resume(name)}") from None
    tasks = _test_errors(results[0][1], data, task) if joint and data else None
    if json:
        say_json([_result_json(lesson, result, tasks) for lesson, result in results])
        return
    if tasks is not None:
        say_table(("task", "test error"), [(n, percent(error)) for n, error in tasks.items()])
    elif len(results) > 1:
        _say_side_by_side(results)
    _say_next(folder, data, test)


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


def _check_source(
    data: Path | None, task: str | None, joint: bool, train: Path | None, test: Path | None
) -> None:
    if (data is None) == (train is None):
        raise MemhopError(
            f"train needs either --data DIR or --train FILE, see {program()} train --help"
        )
    if train is not None and (task is not None or joint):
        raise MemhopError("--task and --joint go with --data, not with --train")
    if data is not None and test is not None:
        raise MemhopError("--test goes with --train; with --data the test files are in the folder")


def _own(folder: Path, train: Path, test: Path | None) -> list[Lesson]:
    return [Lesson(train.name, folder, [read_babi(train)], read_babi(test) if test else [])]


def _tasks(folder: Path, data: Path, task: str | None, joint: bool) -> list[Lesson]:
    lessons = []
    for number, splits in tasks_in(data, task, needed="train").items():
        test = read_babi(splits["test"]) if "test" in splits else []
        examples = read_babi(splits["train"])
        lessons.append(Lesson(f"task {number}", folder / f"qa{number}", [examples], test))
    if joint:
        train_all = [text for lesson in lessons for text in lesson.train]
        test_all = [example for lesson in lessons for example in lesson.test]
        return [Lesson(f"{len(lessons)} tasks", folder, train_all, test_all)]
    return lessons


def _name_for(train: Path | None, joint: bool) -> str:
    stem = train.stem.lstrip(".-") or "own" if train else "joint" if joint else "babi"
    return free_name(stem)


def _named_folder(name: str) -> Path:
    if not name or Path(name).name != name or name[0] in ".-":
        raise MemhopError(f"--name needs a plain name for a folder under {RUNS}/, not {name!r}")
    return RUNS / name


@contextmanager
def _claimed(folder: Path, lessons: list[Lesson], resume: bool) -> Iterator[None]:
    """Make the folders, and remove those that stay empty: a failed training frees its name.

    Refused is to write into another run: one model and one a task do not share a folder.
    """
    if not resume and any(holds_anything(lesson.folder) for lesson in lessons):
        raise MemhopError(f"{folder}: a run is there already: --resume it, or --name another")
    for_tasks = lessons[0].folder != folder
    if newest_checkpoint(folder) if for_tasks else trained_in(folder) not in ([], [folder]):
        found = "one model" if for_tasks else "a model for each task"
        raise MemhopError(f"{folder}: a run with {found} is there: --name another")
    folders = [folder, *(lesson.folder for lesson in lessons)]
    for one in folders:  # not after an hour of training
        check_writable(one)
    try:
        for one in folders:
            one.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MemhopError(f"{folder}: cannot be written to: {error.strerror}") from error
    try:
        yield
    finally:
        for one in reversed(folders):
            with suppress(OSError):  # it holds something
                one.rmdir()


def _check_device(device: str) -> None:
    try:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise MemhopError(f"--device needs cpu, cuda or cuda:1, not {device!r}")
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
    return f"{program()} {shlex.join(arguments)}"


def _say_result(lesson: Lesson, result: TrainingResult, alone: bool) -> None:
    best = result.best
    text = f"{lesson.name}: "
    if best.test_error is not None:
        text += f"test error {percent(best.test_error)}, "
    say(f"{text}training error {percent(best.train_error)}, {duration(result.seconds)}")
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


def _test_errors(result: TrainingResult, data: Path, task: str | None) -> dict[str, float | None]:
    """The error of one model on each of its tasks."""
    return {
        str(number): evaluate(result.model, read_babi(splits["test"])).error
        for number, splits in tasks_in(data, task, needed="train").items()
        if "test" in splits
    }


def _say_side_by_side(results: Sequence[tuple[Lesson, TrainingResult]]) -> None:
    """Tasks side by side: the restart that was kept, and the spread of all."""
    say_table(
        ("", "training error", "test error", "lowest", "highest", "time"),
        [_task_row(lesson, result) for lesson, result in results],
    )
    errors = [result.best.test_error for _, result in results]
    known = [error for error in errors if error is not None]
    if known:
        failed = sum(error > FAILED_ABOVE for error in known)
        mean = percent(sum(known) / len(known))
        say(f"mean test error of {len(known)} tasks {mean}, {failed} failed (above 5%)", "bold")


def _task_row(lesson: Lesson, result: TrainingResult) -> list[str]:
    tests = [one.test_error for one in result.restarts if one.test_error is not None]
    spread = (min(tests, default=None), max(tests, default=None))
    errors = (result.best.train_error, result.best.test_error, *spread)
    return [lesson.name, *map(percent, errors), duration(result.seconds)]


def _say_next(folder: Path, data: Path | None, test: Path | None) -> None:
    """Where the model is, and the next two commands."""
    say(f"in {folder}; try:", style="dim")
    first = trained_in(folder)[0]
    asked = folder.name if first == folder else f"{folder.name}/{first.name}"
    say(f"  {program()} ask {shlex.quote(asked)}", style="dim")
    source = ["--data", str(data)] if data else ["--test", str(test)] if test else []
    if source:
        say(f"  {program()} {shlex.join(['eval', folder.name, *source])}", style="dim")


def _result_json(
    lesson: Lesson, result: TrainingResult, tasks: dict[str, float | None] | None
) -> dict[str, Any]:
    each = [{"task": number, "test_error": error} for number, error in (tasks or {}).items()]
    return {
        "name": lesson.name,
        "run": str(lesson.folder),
        "kept": result.kept,
        "seconds": result.seconds,
        "restarts": [asdict(one) for one in result.restarts],
        **({} if tasks is None else {"tasks": each}),
    }
