"""``memhop generate``: stories with questions, without a download."""

import shlex
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from memhop.cli.screen import program, say
from memhop.data import TASK_NAMES, generate_splits, write_babi
from memhop.data import generate as generate_stories
from memhop.data.stories import FRESH
from memhop.errors import MemhopError

app = typer.Typer()


@app.command()
def generate(
    task: Annotated[int, typer.Option(help="Which kind of story, 1 to 20.")] = 1,
    questions: Annotated[int, typer.Option(min=1, help="How many questions.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=FRESH - 1, help="Same seed, same stories.")] = 0,
    statements: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="MIN MAX", help="Statements before a question; else as released."),
    ] = None,
    people: Annotated[int, typer.Option(help="How many people there are.")] = 4,
    places: Annotated[int, typer.Option(help="How many places.")] = 6,
    objects: Annotated[int, typer.Option(help="How many things to take.")] = 3,
    hops: Annotated[int, typer.Option(help="Steps of a path (19) or chain (17, 18).")] = 2,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for files under their released names."),
    ] = None,
    split: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="TRAIN VALID TEST", help="With --to: questions of each, 0 for none."),
    ] = None,
) -> None:
    """Write stories with questions in the bAbI format, to standard output or with --to as files.

    With --to a training and a test file of so many questions each are made, or those of --split;
    no story of one is in another.
    """
    dials: dict[str, Any] = {
        "seed": seed, "statements": statements, "people": people, "places": places,
        "objects": objects, "hops": hops,
    }  # fmt: skip
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


def _write(task: int, to: Path, counts: dict[str, int], dials: dict[str, Any]) -> None:
    """A file for each split; all settings are checked before the first is begun."""
    if not counts:
        raise MemhopError("--split needs a number above 0")
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
