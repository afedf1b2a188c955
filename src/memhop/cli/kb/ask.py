"""``memhop kb ask``: answer questions over the facts of a run."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from memhop.checkpoint import KNOWLEDGE
from memhop.cli.kb.answers import answer_json, print_answer
from memhop.cli.screen import print_error, print_json, print_line, program
from memhop.cli.settings import Json, KnowledgeRun, Threads, load_newest, use
from memhop.cli.svg_file import write_svg
from memhop.errors import MemhopError
from memhop.knowledge import KnowledgeModel, parse_question

app = typer.Typer()


@app.command()
def ask(
    run: KnowledgeRun = None,
    question: Annotated[
        list[str] | None,
        typer.Argument(help="Questions. Default: you type them, or standard input has them."),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(help="Entity the question is about; repeatedly. Default: found in it."),
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
    """Answer questions over the facts of a run.

    The facts that each hop read are shown. Entities are found in the question by their names and
    aliases; brackets mark one, as in 'who wrote [It]?'. Words and entities that the model does not
    know are named.
    """
    use(threads)
    if svg is not None and len(question or []) != 1:
        raise MemhopError(f"--svg needs one question, got {len(question or [])}")
    model = load_model(run)
    found = []
    for number, text in enumerate(questions_of(question or [])):
        answer = model.answer(text, topics=topic, facts=facts)
        if svg is not None:
            write_svg(svg, answer.picture().svg(answer.title()))
        if json:
            found.append(answer_json(answer))
            continue
        if number:
            print_line("")
        print_answer(answer)
    if json:
        print_json(found)


def load_model(run: str | None) -> KnowledgeModel:
    """Return the model of a run; print a line if its training was stopped."""
    return load_newest(run, KNOWLEDGE, KnowledgeModel.load)


def questions_of(given: Sequence[str]) -> Iterator[str]:
    """Yield the given questions, or those that are typed or piped, a line each.

    Raises:
        MemhopError: a piped line without a word; if it is typed, the error is only printed.
    """
    if given:
        for text in given:
            parse_question(text)  # all of them, before the first answer
        yield from given
        return
    is_typed = sys.stdin is not None and sys.stdin.isatty()
    if is_typed:
        print_line("a question, or an empty line to stop", "dim")
    for number, line in enumerate(sys.stdin or (), 1):
        text = line.strip()
        if not text:
            if is_typed:
                return
            continue
        try:
            if "\t" in text:
                use = f"{program()} kb eval --test FILE reads a file with answers"
                raise MemhopError(f"expected one question, got a tab: {use}")
            parse_question(text)
        except MemhopError as error:
            if not is_typed:
                raise MemhopError(f"standard input:{number}: {error}") from None
            print_error(str(error))
            continue
        yield text
