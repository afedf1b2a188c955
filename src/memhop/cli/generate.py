"""``memhop generate``: stories with questions, without a download."""

import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from memhop.cli.screen import program, say
from memhop.cli.settings import FRESH
from memhop.data import TASK_NAMES, Story, write_babi
from memhop.data import generate as generate_stories
from memhop.errors import MemhopError

app = typer.Typer()


@app.command()
def generate(
    task: Annotated[int, typer.Option(help="Which kind of story: 1, 2 or 3.")] = 1,
    questions: Annotated[int, typer.Option(min=1, help="How many questions.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=FRESH - 1, help="Same seed, same stories.")] = 0,
    statements: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="MIN MAX", help="Statements before a question; else as released."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for a training and a test file under their released names."),
    ] = None,
) -> None:
    """Write stories with questions in the bAbI format, to standard output or with --to as files.

    With --to two files of so many questions each are made, from different seeds.
    """

    def stories(from_seed: int) -> Iterator[Story]:
        return generate_stories(task, questions=questions, seed=from_seed, statements=statements)

    if to is None:
        for line in chain.from_iterable(story.lines() for story in stories(seed)):
            print(line)
        return
    begun = {"train": stories(seed), "test": stories(FRESH + seed)}  # both checked first
    paths = {split: to / f"qa{task}_{TASK_NAMES[task]}_{split}.txt" for split in begun}
    for path in paths.values():
        if path.exists():
            raise MemhopError(f"{path}: is there already; give another folder")
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MemhopError(f"{to}: cannot be made: {error.strerror}") from error
    for split, path in paths.items():
        write_babi(path, begun[split])
        say(f"{path}: {questions:,} questions")
    say(f"try: {program()} train --data {shlex.quote(str(to))} --task {task}", style="dim")
