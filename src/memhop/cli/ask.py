"""``memhop ask``: one's own story, one's own questions."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from memhop.cli.screen import answer_json, say, say_answer, say_json
from memhop.cli.settings import Json, Run
from memhop.errors import MemhopError
from memhop.text.memn2n import Answer, MemN2N
from memhop.vocabulary import split_sentences

_LARGEST_TEXT = 16 * 2**20
_HELP = "Tell sentences; end a question with '?'. 'forget' begins a new story, 'quit' ends."


def ask(
    run: Run = None,
    story: Annotated[str | None, typer.Option(help="The story: sentences, oldest first.")] = None,
    question: Annotated[
        list[str] | None, typer.Option("--question", "-q", help="A question; give it repeatedly.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="A text: a sentence that ends in '?' is asked of those above. '-': stdin."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Ask a trained model about a story and see which sentences each hop read.

    Story and questions come from --story and --question, from a --file, or, with neither, from
    what you type.
    """
    model = MemN2N.load(run) if run else _newest()
    if file is not None and (story or question):
        raise MemhopError("--file holds story and questions: give it without --story, --question")
    if bool(story) and not question:
        raise MemhopError("--story needs a --question")
    if question:
        answers: Iterable[Answer] = (model.answer(story or "", one) for one in question)
    elif file is not None or not sys.stdin.isatty():
        answers = _answers(model, split_sentences(_read(file)))
    else:
        _talk(model)
        return
    if json:
        say_json([answer_json(answer) for answer in answers])
        return
    count = 0
    for count, answer in enumerate(answers, start=1):
        if count > 1:
            say("")
        say_answer(answer)
    if not count:
        raise MemhopError("no question in the text: a question ends in '?'")


def _newest() -> MemN2N:
    from memhop.runs import find_run

    return MemN2N.load(find_run())


def _answers(model: MemN2N, sentences: Iterable[str]) -> Iterator[Answer]:
    story: list[str] = []
    for sentence in sentences:
        if sentence.endswith("?"):
            yield model.answer(story, sentence)
        else:
            story.append(sentence)


def _read(file: Path | None) -> str:
    try:
        if file is None or str(file) == "-":
            content = sys.stdin.buffer.read(_LARGEST_TEXT + 1)
        else:
            with file.open("rb") as opened:
                content = opened.read(_LARGEST_TEXT + 1)
        if len(content) > _LARGEST_TEXT:
            raise MemhopError(f"{file or 'stdin'}: needs at most {_LARGEST_TEXT:,} bytes")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise MemhopError(f"{file or 'stdin'}:{line}: needs UTF-8 text") from error
    except OSError as error:
        raise MemhopError(f"{file}: cannot be read: {error.strerror}") from error


def _talk(model: MemN2N) -> None:
    """A conversation at the terminal; Ctrl-D or 'quit' ends it."""
    say(_HELP, style="dim")
    story: list[str] = []
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        if line.lower().rstrip(".!") in ("quit", "exit"):
            return
        if line.lower().rstrip(".!") == "forget":
            story = []
            say("a new story", style="dim")
            continue
        for sentence in split_sentences(line):
            if not sentence.endswith("?"):
                story.append(sentence)
                continue
            say_answer(model.answer(story, sentence))
