"""Arguments that several commands share, and how they are read."""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from memhop.cli import completion
from memhop.cli.screen import say_error, warnings_as_lines
from memhop.data import find_tasks, read_babi
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.runs import stopped_after
from memhop.text.model import MemN2N

DataFolder = Annotated[
    Path | None, typer.Option(help="Folder with the bAbI files (see: memhop data babi).")
]
TaskList = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Tasks, as 1,2,5-7. Without: all there are.",
        autocompletion=completion.tasks,
    ),
]
Threads = Annotated[
    int, typer.Option(min=1, help="CPU threads to compute with, up to the number of cores.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for another program.")]
Run = Annotated[
    str | None,
    typer.Argument(
        help="Name or path of a run. Without: the newest finished in runs/.",
        autocompletion=completion.runs,
    ),
]


def available_cores() -> int:
    """Return how many cores this process may use; a container or ``taskset`` may allow fewer."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: int) -> int:
    """Return ``threads`` if there is a core for each of them."""
    cores = available_cores()
    if threads > cores:
        raise MemhopError(f"--threads: expected 1 to {cores} (the number of cores), got {threads}")
    return threads


def use(threads: int) -> None:
    """Let torch compute with ``threads`` threads.

    The commands default to one: the operations of a text model are so small that two threads
    spend their time waiting for each other as soon as another program runs.
    """
    torch.set_num_threads(check_threads(threads))


def load_model(run: Path) -> MemN2N:
    """The model of a run, with a line where its training has not come to its end."""
    with warnings_as_lines():
        model = MemN2N.load(run)
    if stopped := stopped_after(run):
        epoch, epochs = stopped
        say_error(f"{run}: stopped after epoch {epoch} of {epochs}; go on with --resume")
    return model


def parse_tasks(text: str) -> list[int]:
    """The numbers in a list such as ``1,2,5-7``.

    >>> parse_tasks("1,2,5-7")
    [1, 2, 5, 6, 7]
    """
    numbers: list[int] = []
    for piece in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,3})(?:\s*-\s*(\d{1,3}))?\s*", piece)
        if not found:
            raise MemhopError(f"a list of tasks needs numbers as 1,2,5-7, not {text!r}")
        first, last = int(found[1]), int(found[2] or found[1])
        if first > last:
            raise MemhopError(
                f"a list of tasks needs the lower number first, not {piece.strip()!r}"
            )
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))


def read_own(option: str, path: Path) -> list[Example]:
    """Return the examples of the one file that ``option`` names."""
    if path.is_dir():
        raise MemhopError(
            f"{option}: expected a file, got the folder {path}; --data takes a folder"
        )
    return read_babi(path)


def tasks_in(folder: Path, task: str | None, *, needed: str) -> dict[int, dict[str, Path]]:
    """The files of the tasks asked for, in order; each has the ``needed`` split."""
    if folder.is_file():
        raise MemhopError(
            f"--data: expected a folder, got the file {folder}; use --train or --test"
        )
    found = find_tasks(folder)
    wanted = (
        parse_tasks(task)
        if task is not None
        else [n for n, splits in found.items() if needed in splits]
    )
    for number in wanted:
        if needed not in found.get(number, {}):
            there = ", ".join(str(n) for n, splits in found.items() if needed in splits)
            raise MemhopError(f"{folder}: no {needed} file of task {number}; has {there or 'none'}")
    if not wanted:
        raise MemhopError(f"{folder}: no bAbI {needed} file in it (qa1_..._{needed}.txt)")
    return {number: found[number] for number in sorted(wanted)}


_RECIPES = {"paper": Recipe.paper, "best": Recipe.best}


def read_recipe(recipe: str, changes: list[str], *, joint: bool) -> Recipe:
    """A recipe by its name or from a JSON file, with single settings changed."""
    changed = dict(_change(text) for text in changes)
    if recipe in _RECIPES:
        return Recipe.from_json(_RECIPES[recipe](joint=joint).to_json() | changed)
    path = Path(recipe)
    if path.suffix != ".json":
        raise MemhopError(f"--recipe needs 'paper', 'best' or a .json file, not {recipe!r}")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MemhopError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise MemhopError(f"{path}: cannot be read as JSON: {reason:.120}") from error
    return Recipe.from_json(settings | changed if isinstance(settings, dict) else settings)


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise MemhopError(f"--set needs NAME=VALUE, not {text!r}")
    try:
        return name.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return name.strip(), value.strip()
