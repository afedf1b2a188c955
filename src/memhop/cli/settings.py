"""Options of the commands: declarations, parsing, and what a shell completes."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer

from memhop.checkpoint import STORIES
from memhop.cli.screen import print_error, print_progress, warnings_as_lines
from memhop.data import TASK_NAMES, find_tasks, read_examples
from memhop.errors import MemhopError, shown
from memhop.example import Example
from memhop.pretrained.names import DEFAULT, find_model, shipped_names
from memhop.recipe import Recipe
from memhop.runs import RUNS, stopped_after, trained_in
from memhop.settings import Settings
from memhop.text.model import MemN2N
from memhop.training.loop import MAX_RESTARTS

Model = TypeVar("Model")
Completions = Iterator[tuple[str, str]]  # values, each with a description


def complete_run(incomplete: str) -> Completions:
    """Yield the trained runs under ``runs/``, and the models of a run with one for each task."""
    with suppress(OSError, MemhopError):  # nothing to complete in an unreadable folder
        for run in sorted(RUNS.iterdir()):
            models = trained_in(run) if run.is_dir() else []
            names = [run.name] if models else []
            names += [f"{run.name}/{model.name}" for model in models if model != run]
            yield from ((name, "") for name in names if name.startswith(incomplete))


def complete_model(incomplete: str) -> Completions:
    """Yield the trained runs, and the models that come with memhop."""
    yield from complete_run(incomplete)
    yield from ((name, "") for name in shipped_names() if name.startswith(incomplete))


def complete_run_name(incomplete: str) -> Completions:
    """Return the names of runs for --name."""
    return (one for one in complete_run(incomplete) if "/" not in one[0])


def complete_task(incomplete: str) -> Completions:
    """Yield the 20 tasks; complete the last number of a list such as 1,2."""
    start, comma, last = incomplete.rpartition(",")
    for number, name in TASK_NAMES.items():
        if str(number).startswith(last):
            yield f"{start}{comma}{number}", name


def complete_recipe(incomplete: str) -> Completions:
    """Return the named recipes; the shell itself completes files."""
    return ((name, "") for name in _RECIPES if name.startswith(incomplete))


_RECIPES = {"paper": Recipe.paper, "best": Recipe.best}

DataFolder = Annotated[
    Path | None, typer.Option(help="Folder with the bAbI files (see: memhop data babi).")
]
TaskList = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Tasks, such as 1,2,5-7. Default: all.",
        autocompletion=complete_task,
    ),
]
Threads = Annotated[
    int, typer.Option(min=1, help="Number of CPU threads, up to the number of cores.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for another program.")]
Run = Annotated[
    str | None,
    typer.Argument(
        help="Path or name of a run, name of a model that comes with memhop, or owner/name on the "
        "Hugging Face Hub. Default: the newest finished run in runs/, or the model 'stories'.",
        autocompletion=complete_model,
    ),
]
KnowledgeRun = Annotated[
    str | None,
    typer.Argument(
        help="Path or name of a run, or owner/name on the Hugging Face Hub. Default: the newest "
        "finished knowledge model in runs/.",
        autocompletion=complete_run,
    ),
]

LanguageRun = Annotated[
    str | None,
    typer.Argument(
        help="Path or name of a run, or owner/name on the Hugging Face Hub. Default: the newest "
        "finished language model in runs/.",
        autocompletion=complete_run,
    ),
]

# only for `memhop train`
Joint = Annotated[
    bool, typer.Option("--joint", help="One model for all tasks, instead of one for each.")
]
TrainFile = Annotated[
    Path | None,
    typer.Option(help="Your own training file: .jsonl, .csv, .tsv, or in the bAbI format."),
]
TestFile = Annotated[Path | None, typer.Option(help="Your own test file, in any of these formats.")]
RecipeName = Annotated[
    str,
    typer.Option(
        help="'paper', 'best', or a JSON file of settings (others have defaults).",
        autocompletion=complete_recipe,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change a setting of the recipe; give it repeatedly."
    ),
]
Restarts = Annotated[
    int,
    typer.Option(min=1, max=MAX_RESTARTS, help="Random initialisations; the best is kept."),
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed and threads, same model.")]
Device = Annotated[str, typer.Option(help="Device: cpu, cuda, cuda:1.")]
RunName = Annotated[
    str | None,
    typer.Option(
        help="Name of the run under runs/ (default: a new name).",
        autocompletion=complete_run_name,
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Resume the run --name; data and settings come from the run."),
]
NoExamples = Annotated[
    bool,
    typer.Option(
        "--no-examples",
        help="Do not store example stories in the run (default: up to three, shown by memhop "
        "serve).",
    ),
]


def available_cores() -> int:
    """Return the number of cores that a container or ``taskset`` allows this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_device(device: str) -> None:
    """Check that a device is known and available."""
    try:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise MemhopError(f"--device: expected cpu, cuda or cuda:1, got {device!r}")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise MemhopError(f"--device {device}: not available: {reason:.100}") from error


def check_threads(threads: int) -> int:
    """Return ``threads``; raise MemhopError if there are fewer cores."""
    cores = available_cores()
    if threads > cores:
        raise MemhopError(f"--threads: expected 1 to {cores} (the number of cores), got {threads}")
    return threads


def use(threads: int) -> None:
    """Set the number of threads of torch.

    The default of the commands is one: the operations of a text model are so small that two
    threads mostly wait for each other when another program runs.
    """
    torch.set_num_threads(check_threads(threads))


def choose_model(name: str | None, kind: str | None = STORIES) -> Path:
    """Return the folder of a model by its name; print a line if it is the default of memhop."""
    folder = find_model(name, kind)
    if name is None and folder == DEFAULT:
        print_progress(
            f"no run under {RUNS}/: using the model '{DEFAULT.name}' that comes with memhop"
        )
    return folder


def load_model(run: Path) -> MemN2N:
    """Return the model of a run; print a line if its training was stopped."""
    with warnings_as_lines():
        model = MemN2N.load(run)
    print_stopped(run)
    return model


def load_newest(name: str | None, kind: str, load: Callable[[Path], Model]) -> Model:
    """Return the model of a run of a kind, of the newest if no name is given.

    Print a line if it is the newest, and one if its training was stopped.
    """
    folder = find_model(name, kind)
    model = load(folder)
    if name is None:
        print_progress(f"the newest run: {folder.name}")
    print_stopped(folder)
    return model


def print_stopped(run: Path) -> None:
    """Print a line if the training of a run was stopped."""
    if stopped := stopped_after(run):
        epoch, epochs = stopped
        print_error(f"{run}: stopped after epoch {epoch} of {epochs}; resume with --resume")


def parse_tasks(text: str) -> list[int]:
    """Return the numbers of a list such as ``1,2,5-7``.

    >>> parse_tasks("1,2,5-7")
    [1, 2, 5, 6, 7]
    """
    return parse_numbers("--task", text)


def parse_numbers(option: str, text: str) -> list[int]:
    """Return the numbers of the list that ``option`` has, such as ``1,2,5-7``."""
    numbers: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:\s*-\s*(\d{1,3}))?\s*", piece)
        if not match:
            raise MemhopError(f"{option}: expected numbers such as 1,2,5-7, got {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise MemhopError(f"{option}: expected the lower number first, got {piece.strip()!r}")
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))


def read_file(option: str, path: Path) -> list[Example]:
    """Return the examples of the file that ``option`` names."""
    check_file(option, path)
    return read_examples(path)


def check_file(option: str, path: Path) -> None:
    """Raise MemhopError if ``option`` names a folder in place of a file."""
    if path.is_dir():
        raise MemhopError(
            f"{option}: expected a file, got the folder {path}; --data takes a folder"
        )


def tasks_in(folder: Path, task: str | None, *, split: str) -> dict[int, dict[str, Path]]:
    """Return the files of the selected tasks, in order; each task has a file of ``split``."""
    if folder.is_file():
        raise MemhopError(
            f"--data: expected a folder, got the file {folder}; use --train or --test"
        )
    files = find_tasks(folder)
    available = [number for number, splits in files.items() if split in splits]
    selected = available if task is None else parse_tasks(task)
    for number in selected:
        if number not in available:
            tasks = ", ".join(map(str, available)) or "none"
            raise MemhopError(f"{folder}: no {split} file of task {number}; the folder has {tasks}")
    if not selected:
        raise MemhopError(f"{folder}: expected a bAbI file qa1_..._{split}.txt, got none")
    return {number: files[number] for number in sorted(selected)}


def read_recipe(recipe: str, changes: list[str], *, joint: bool) -> Recipe:
    """Return a named recipe, or one from a JSON file, with some settings changed."""
    named = {name: partial(make, joint=joint) for name, make in _RECIPES.items()}
    return Recipe.from_json(chosen_settings(recipe, named, changes))


def chosen_settings(
    recipe: str, named: Mapping[str, Callable[[], Settings]], changes: list[str]
) -> dict[str, Any]:
    """Return the settings of a named recipe, or of a JSON file, with some of them changed."""
    changed = changed_settings(changes)
    if recipe in named:
        return named[recipe]().to_json() | changed
    path = Path(recipe)
    if path.suffix != ".json":
        raise MemhopError(f"--recipe: expected 'paper', 'best' or a .json file, got {recipe!r}")
    return read_settings(path) | changed


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in a JSON file."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MemhopError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise MemhopError(f"{path}: cannot be read as JSON: {reason:.120}") from error
    if not isinstance(settings, dict):
        raise MemhopError(f"{path}: expected a JSON object of settings, got {shown(settings)}")
    return settings


def changed_settings(changes: list[str]) -> dict[str, Any]:
    """Return the settings of --set NAME=VALUE."""
    return dict(_change(text) for text in changes)


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise MemhopError(f"--set: expected NAME=VALUE, got {text!r}")
    try:
        return name.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return name.strip(), value.strip()
