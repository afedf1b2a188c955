"""``memhop generate``: stories with questions, without a download."""

import shlex
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from memhop.cli import completion
from memhop.cli.screen import program, say
from memhop.data import TASK_NAMES, generate_splits, write_babi
from memhop.data import generate as generate_stories
from memhop.data.stories import TASKS, TEST_SEED_OFFSET
from memhop.errors import MemhopError

app = typer.Typer()


@app.command()
def generate(
    task: Annotated[
        int,
        typer.Option(help="Which kind of story, 1 to 20.", autocompletion=completion.tasks),
    ] = 1,
    questions: Annotated[
        int | None, typer.Option(min=1, help="How many questions; default 1000.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=TEST_SEED_OFFSET - 1, help="Same seed, same stories.")
    ] = 0,
    statements: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="MIN MAX", help="Statements before a question; else as released."),
    ] = None,
    people: Annotated[
        int | None, typer.Option(help="How many people (1-3, 5-14); default 4.")
    ] = None,
    places: Annotated[
        int | None, typer.Option(help="How many places (1-14, 19); default 6.")
    ] = None,
    objects: Annotated[
        int | None, typer.Option(help="How many things to take (2, 3, 5-8); default 3.")
    ] = None,
    hops: Annotated[
        int | None, typer.Option(help="Steps of a path (19) or chain (17, 18); default 2.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for files under their released names."),
    ] = None,
    split: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="TRAIN VALID TEST", help="With --to: questions of each, 0 for none."),
    ] = None,
) -> None:
    """Write stories with questions in the bAbI format.

    They go to standard output, or with --to to files: a training and a test file of so many
    questions each, or those of --split; no story of one is in another. In brackets: the tasks
    that use an option.
    """
    dials: dict[str, Any] = {"seed": seed, "statements": statements}
    dials |= _used(task, people=people, places=places, objects=objects, hops=hops)
    if split is not None and questions is not None:
        raise MemhopError("--split says how many questions: give it without --questions")
    questions = questions if questions is not None else 1000
    if to is None:
        if split is not None:
            raise MemhopError("--split makes files: it needs --to FOLDER")
        stories = generate_stories(task, questions=questions, **dials)
        for line in chain.from_iterable(story.lines() for story in stories):
            print(line)
        return
    counts = dict(zip(("train", "valid", "test"), split or (questions, 0, questions), strict=True))
    _write(task, to, {name: count for name, count in counts.items() if count}, dials)
    say(f"try: {program()} train --data {shlex.quote(str(to))} --task {task}", style="dim")


def _used(task: int, **options: int | None) -> dict[str, int]:
    """Return the options that were given; each must be one that the task uses."""
    given = {name: value for name, value in options.items() if value is not None}
    uses = TASKS[task].uses if task in TASKS else given  # `generate` names the known tasks
    for name in given:
        if name not in uses:
            known = ", ".join(f"--{one}" for one in options if one in uses)
            raise MemhopError(f"--{name} is not used by task {task}; it uses {known or 'none'}")
    return given


def _write(task: int, to: Path, counts: dict[str, int], dials: dict[str, Any]) -> None:
    """A file for each split; all settings are checked before the first is begun."""
    if not counts:
        raise MemhopError("--split: expected a number above 0, got three zeros")
    splits = generate_splits(task, counts, **dials)
    paths = {split: to / f"qa{task}_{TASK_NAMES[task]}_{split}.txt" for split in splits}
    for path in paths.values():
        if path.exists():
            raise MemhopError(f"{path}: is there already; give another folder")
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MemhopError(f"{to}: cannot be made: {error.strerror}") from error
    for split, path in paths.items():
        write_babi(path, splits[split])
        say(f"{path}: {counts[split]:,} questions")
