"""``memhop train``: train on the 20 tasks, or on your own files."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from memhop.checkpoint import STORIES
from memhop.cli.control_lines import control_lines
from memhop.cli.run_folder import check_kind, claimed, given_options, named_folder
from memhop.cli.screen import (
    Stopped,
    duration,
    percent,
    print_json,
    print_line,
    print_progress,
    print_table,
    program,
    training_progress,
    warnings_as_lines,
)
from memhop.cli.settings import (
    Changes,
    DataFolder,
    Device,
    Joint,
    Json,
    NoExamples,
    RecipeName,
    Restarts,
    Resume,
    RunName,
    Seed,
    TaskList,
    TestFile,
    Threads,
    TrainFile,
    check_device,
    check_threads,
    read_recipe,
    use,
)
from memhop.cli.training_jobs import (
    Settings,
    Source,
    TrainingJob,
    own_job,
    store_all,
    stored_jobs,
    task_jobs,
)
from memhop.data import read_babi
from memhop.errors import MemhopError
from memhop.recipe import Recipe
from memhop.runs import (
    free_name,
    holds_anything,
    newest_checkpoint,
    stopped_after,
    trained_in,
)
from memhop.training.evaluation import FAILED_ABOVE, evaluate
from memhop.training.loop import TrainingResult
from memhop.training.loop import train as train_model
from memhop.training.run import RestartScore

_STORED = {"task": "--task", "joint": "--joint", "test": "--test", "recipe": "--recipe",
           "setting": "--set", "restarts": "--restarts", "seed": "--seed"}  # fmt: skip


app = typer.Typer()


@app.command()
def train(
    context: typer.Context,
    data: DataFolder = None,
    task: TaskList = None,
    joint: Joint = False,
    train: TrainFile = None,
    test: TestFile = None,
    recipe: RecipeName = "paper",
    setting: Changes = None,
    restarts: Restarts = 10,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    name: RunName = None,
    resume: Resume = False,
    no_examples: NoExamples = False,
    json: Json = False,
) -> None:
    """Train on the bAbI tasks of a folder, or on files of your own.

    --data DIR trains one model for each task, into runs/NAME/qa1 and so on; with --joint one
    model for all. --train FILE --test FILE trains on your own stories.
    """
    check_threads(threads)
    if resume and name is None:
        raise MemhopError("--resume needs the --name of a run")
    if not (resume and data is None and train is None):
        _check_source(data, task, joint, train, test)
    folder = named_folder(name if name is not None else _name_for(train, joint))
    check_device(device)
    if resume:
        check_kind(folder, STORIES)
    if resume and data is None and train is None:
        jobs = _stored(folder, context, device, threads)
    else:
        changed = read_recipe(recipe, setting or [], joint=joint)
        settings = Settings(changed, restarts, seed, device, threads, not no_examples)
        jobs = _jobs(folder, data, task, joint, train, test, settings)
    results = _results(folder, jobs, resume, json)
    tasks = _test_errors(*results[0]) if jobs[0].joint else None
    if json:
        print_json([_result_json(job, result, tasks) for job, result in results])
        return
    if tasks is not None:
        print_table(("task", "test error"), [(n, percent(error)) for n, error in tasks.items()])
    elif len(results) > 1:
        _print_tasks(results)
    _print_next(folder, jobs[0].sources[0])


def _stored(folder: Path, context: typer.Context, device: str, threads: int) -> list[TrainingJob]:
    """Return the jobs that a run stored; device and threads may change."""
    given = given_options(context, _STORED)
    jobs = []
    for job in stored_jobs(folder):
        settings = job.settings._replace(
            device=device if "device" in given else job.settings.device,
            threads=threads if "threads" in given else job.settings.threads,
            store_examples=job.settings.store_examples and "no_examples" not in given,
        )
        jobs.append(job._replace(settings=settings))
    for job in jobs:
        check_threads(job.settings.threads)
        check_device(job.settings.device)
    return jobs


def _jobs(
    folder: Path,
    data: Path | None,
    task: str | None,
    joint: bool,
    train: Path | None,
    test: Path | None,
    settings: Settings,
) -> list[TrainingJob]:
    if train is not None:
        return [own_job(folder, train, test, settings)]
    return task_jobs(folder, data or Path(), task, joint, settings)


def _results(
    folder: Path, jobs: list[TrainingJob], resume: bool, json: bool
) -> list[tuple[TrainingJob, TrainingResult]]:
    """Train the jobs in order."""
    results, epochs = [], ""
    with _claimed(folder, jobs, resume):
        try:
            for job in jobs:
                if not _is_finished(job) and epochs != (epochs := _epochs(job.settings.recipe)):
                    print_progress(epochs)
                if job.valid:
                    print_progress(job.held_out)
                result = _train(job, resume)
                results.append((job, result))
                if not json:
                    _print_result(job, result, is_only=len(jobs) == 1)
        except KeyboardInterrupt:
            raise Stopped(f"stopped; resume with: {_command_to_resume(folder, json)}") from None
    return results


def _train(job: TrainingJob, resume: bool) -> TrainingResult:
    recipe, restarts, seed, device, threads, store_examples = job.settings
    use(threads)
    with warnings_as_lines(), training_progress(job.name) as show:
        return train_model(
            job.train,
            job.test,
            valid_examples=job.valid,
            recipe=recipe,
            restarts=restarts,
            seed=seed,
            run=job.folder,
            resume=resume,
            on_progress=show,
            device=device,
            store_examples=store_examples,
        )


def _is_finished(job: TrainingJob) -> bool:
    return newest_checkpoint(job.folder) is not None and stopped_after(job.folder) is None


def _epochs(recipe: Recipe) -> str:
    """Return the number of epochs: those of the linear start, then the recipe's ``epochs``."""
    first, then = recipe.linear_start_epochs, recipe.epochs
    if not first:
        return f"{then} epoch{'s' if then > 1 else ''}, without a linear start"
    return f"{first + then} epochs: {first} of linear start (linear_start_epochs), then {then}"


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


def _name_for(train: Path | None, joint: bool) -> str:
    stem = train.stem.lstrip(".-") or "own" if train else "joint" if joint else "babi"
    return free_name(stem)


@contextmanager
def _claimed(folder: Path, jobs: list[TrainingJob], resume: bool) -> Iterator[None]:
    """Create the folders and store the command; remove both if training fails before a checkpoint.

    Raises:
        MemhopError: the run exists, also as a run of the other kind (one model, or one per task).
    """
    if not resume and any(holds_anything(job.folder) for job in jobs):
        raise MemhopError(f"{folder}: the run already exists: use --resume, or another --name")
    for_tasks = jobs[0].folder != folder
    if newest_checkpoint(folder) if for_tasks else trained_in(folder) not in ([], [folder]):
        kind = "one model" if for_tasks else "a model for each task"
        raise MemhopError(f"{folder}: a run with {kind} already exists: use another --name")
    with claimed(folder, [job.folder for job in jobs], lambda: store_all(jobs)):
        yield


def _command_to_resume(folder: Path, json: bool) -> str:
    arguments = ["train", "--resume", "--name", folder.name, *(["--json"] if json else [])]
    return f"{program()} {shlex.join(arguments)}"


def _print_result(job: TrainingJob, result: TrainingResult, is_only: bool) -> None:
    best = result.best
    text = f"{job.name}: "
    if best.test_error is not None:
        text += f"test error {percent(best.test_error)}, "
    print_line(f"{text}training error {percent(best.train_error)}, {duration(result.seconds)}")
    recipe = job.settings.recipe
    if result.epochs < recipe.linear_start_epochs + recipe.epochs:
        print_line(f"ended after epoch {result.epochs}: no error in {recipe.stop_after} epochs")
    for one in result.restarts:
        if one.diverged is not None:
            print_line(
                f"restart {one.restart}: the loss became infinite in epoch {one.diverged}", "red"
            )
    for line in control_lines(job, result, is_only=is_only):
        print_line(line)
    if is_only:
        columns = ("restart", "training error", "loss", "held out", "test", "")
        rows = [_restart_row(str(one.restart), one) for one in result.restarts]
        if result.control is not None:
            controls = result.control.restarts
            rows += [_restart_row(f"control {one.restart}", one) for one in controls]
        print_table(columns, rows)


def _restart_row(name: str, one: RestartScore) -> list[str]:
    loss = "-" if one.train_loss is None else f"{one.train_loss:.4f}"
    errors = (one.train_error, one.validation_error, one.test_error)
    train_error, held_out, test_error = map(percent, errors)
    mark = "kept" if one.kept else "diverged" if one.diverged is not None else ""
    return [name, train_error, loss, held_out, test_error, mark]


def _test_errors(job: TrainingJob, result: TrainingResult) -> dict[str, float | None]:
    """Return the error of one model on each of its tasks."""
    return {
        str(source.task): evaluate(result.model, read_babi(source.test)).error
        for source in job.sources
        if source.test
    }


def _print_tasks(results: Sequence[tuple[TrainingJob, TrainingResult]]) -> None:
    """Print a row for each task: the best restart, and the range of all."""
    print_table(
        ("", "training error", "test error", "lowest", "highest", "time"),
        [_task_row(job, result) for job, result in results],
    )
    errors = [result.best.test_error for _, result in results]
    known = [error for error in errors if error is not None]
    if known:
        failed = sum(error > FAILED_ABOVE for error in known)
        mean = percent(sum(known) / len(known))
        print_line(
            f"mean test error of {len(known)} tasks {mean}, {failed} failed (above 5%)", "bold"
        )


def _task_row(job: TrainingJob, result: TrainingResult) -> list[str]:
    tests = [one.test_error for one in result.restarts if one.test_error is not None]
    extremes = (min(tests, default=None), max(tests, default=None))
    errors = (result.best.train_error, result.best.test_error, *extremes)
    return [job.name, *map(percent, errors), duration(result.seconds)]


def _print_next(folder: Path, source: Source) -> None:
    """Print the folder of the model and the next two commands."""
    print_line(f"in {folder}; try:", style="dim")
    first = trained_in(folder)[0]
    model = folder.name if first == folder else f"{folder.name}/{first.name}"
    print_line(f"  {program()} ask {shlex.quote(model)}", style="dim")
    data = ["--test", str(source.test)] if source.test else []
    if source.task is not None:
        data = ["--data", str(source.train.parent)]
    if data:
        print_line(f"  {program()} {shlex.join(['eval', folder.name, *data])}", style="dim")


def _result_json(
    job: TrainingJob, result: TrainingResult, tasks: dict[str, float | None] | None
) -> dict[str, Any]:
    each = [{"task": number, "test_error": error} for number, error in (tasks or {}).items()]
    return {
        "name": job.name,
        "run": str(job.folder),
        "epochs": result.epochs,
        "kept": result.kept,
        "is_control_kept": result.control is not None and result.control.is_kept,
        "seconds": result.seconds,
        "restarts": [asdict(one) for one in result.restarts],
        "control": None if result.control is None else asdict(result.control),
        **({} if tasks is None else {"tasks": each}),
    }
