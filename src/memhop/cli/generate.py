"""``memhop generate``: generate stories with questions."""

import shlex
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from memhop.cli.screen import print_line, program
from memhop.cli.settings import complete_task
from memhop.data import TASK_NAMES, generate_splits, write_babi
from memhop.data import generate as generate_stories
from memhop.data.stories import TASKS, TEST_SEED_OFFSET
from memhop.errors import MemhopError

app = typer.Typer()


@app.command()
def generate(
    task: Annotated[
        int,
        typer.Option(help="Number of the task, 1 to 20.", autocompletion=complete_task),
    ] = 1,
    questions: Annotated[
        int | None, typer.Option(min=1, help="Number of questions; default 1000.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=TEST_SEED_OFFSET - 1, help="Same seed, same stories.")
    ] = 0,
    statements: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="MIN MAX", help="Statements before a question; default: as released."),
    ] = None,
    people: Annotated[
        int | None, typer.Option(help="Number of people (1-3, 5-14); default 4.")
    ] = None,
    places: Annotated[
        int | None, typer.Option(help="Number of places (1-14, 19); default 6.")
    ] = None,
    objects: Annotated[
        int | None, typer.Option(help="Number of objects (2, 3, 5-8); default 3.")
    ] = None,
    hops: Annotated[
        int | None, typer.Option(help="Steps of a path (19) or chain (17, 18); default 2.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for files with the released names."),
    ] = None,
    split: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="TRAIN VALID TEST", help="With --to: questions per file, 0 for none."),
    ] = None,
) -> None:
    """Write stories with questions in the bAbI format.

    Print them, or write them to files with --to: a training and a test file with --questions
    questions each, or those of --split. The files have no story in common. The numbers in brackets
    are the tasks that use an option.
    """
    settings: dict[str, Any] = {"seed": seed, "statements": statements}
    settings |= _used(task, people=people, places=places, objects=objects, hops=hops)
    if split is not None and questions is not None:
        raise MemhopError("--split sets the number of questions: give it without --questions")
    questions = questions if questions is not None else 1000
    if to is None:
        if split is not None:
            raise MemhopError("--split needs --to FOLDER")
        stories = generate_stories(task, questions=questions, **settings)
        for line in chain.from_iterable(story.lines() for story in stories):
            print(line)
        return
    counts = dict(zip(("train", "valid", "test"), split or (questions, 0, questions), strict=True))
    _write(task, to, {name: count for name, count in counts.items() if count}, settings)
    print_line(f"try: {program()} train --data {shlex.quote(str(to))} --task {task}", style="dim")


def _used(task: int, **options: int | None) -> dict[str, int]:
    """Return the options that were given; raise MemhopError if the task does not use one."""
    given = {name: value for name, value in options.items() if value is not None}
    uses = TASKS[task].uses if task in TASKS else given  # `generate` raises for other tasks
    for name in given:
        if name not in uses:
            known = ", ".join(f"--{one}" for one in options if one in uses)
            raise MemhopError(f"--{name} is not used by task {task}; it uses {known or 'none'}")
    return given


def _write(task: int, to: Path, counts: dict[str, int], settings: dict[str, Any]) -> None:
    """Write a file for each split; check all settings before the first."""
    if not counts:
        raise MemhopError("--split: expected a number above 0, got three zeros")
    splits = generate_splits(task, counts, **settings)
    paths = {split: to / f"qa{task}_{TASK_NAMES[task]}_{split}.txt" for split in splits}
    for path in paths.values():
        if path.exists():
            raise MemhopError(f"{path}: already exists; give another folder")
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MemhopError(f"{to}: cannot be created: {error.strerror}") from error
    for split, path in paths.items():
        write_babi(path, splits[split])
        print_line(f"{path}: {counts[split]:,} questions")
