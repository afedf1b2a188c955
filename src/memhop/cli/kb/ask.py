"""``memhop kb ask``: answer questions over the facts of a run."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from memhop.atomic_write import atomic_write
from memhop.checkpoint import KNOWLEDGE
from memhop.cli.kb.answers import answer_json, print_answer
from memhop.cli.screen import print_error, print_json, print_line
from memhop.cli.settings import Json, Run, Threads, use
from memhop.errors import MemhopError
from memhop.knowledge import KnowledgeModel
from memhop.runs import find_run, stopped_after

app = typer.Typer()


@app.command()
def ask(
    run: Run = None,
    question: Annotated[
        list[str] | None,
        typer.Argument(help="Questions. Default: you type them, or a pipe has them."),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(help="Entity that the question is about; repeatedly. Default: found in it."),
    ] = None,
    facts: Annotated[
        int, typer.Option(min=1, max=1000, help="Facts of each hop to show, at most.")
    ] = 5,
    svg: Annotated[
        Path | None, typer.Option(help="File for the picture of the answer to one question.")
    ] = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Answer questions over the facts of a run, and show the facts that each hop read.

    Entities are found in the question by name or alias; brackets mark one: 'who wrote [It]?'.
    """
