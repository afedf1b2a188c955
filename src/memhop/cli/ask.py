"""``memhop ask``: one's own story, one's own questions."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from memhop.cli.conversation import talk
from memhop.cli.screen import answer_json, say, say_answer, say_json
from memhop.cli.settings import Json, Run, Threads, load_model, use
from memhop.errors import MemhopError
from memhop.runs import find_run
from memhop.text.answer import Answer
from memhop.text.memn2n import MemN2N
from memhop.vocabulary import split_sentences, split_words
from memhop.whole_file import whole_file

Asked = tuple[list[str], str]  # a story and a question

_LARGEST_TEXT = 16 * 2**20

app = typer.Typer()


@app.command()
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
    svg: Annotated[
        Path | None, typer.Option(help="File for the picture of the answer to one question.")
    ] = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Ask a trained model about a story and see which sentences each hop read.

    Story and questions come from --story and --question, from a --file, or, with neither, from
    what you type; then 'help' lists the commands.
    """
    use(threads)
    asked = _questions(story, question or [], file)
    if asked is None and (json or svg):
        raise MemhopError(f"{'--json' if json else '--svg'} needs a --question or a --file")
    if asked is not None and svg:
        asked = _only(asked)
    model = load_model(find_run(run))
    if asked is None:
        talk(model)
        return
    answers = _answers(model, asked, svg)
    if json:
        say_json([answer_json(answer) for answer in answers])
        return
    for index, answer in enumerate(answers):
        if index:
            say("")
        say_answer(answer)


def _questions(
    story: str | None, questions: list[str], file: Path | None
) -> Iterable[Asked] | None:
    """What is asked, from arguments, a file or a pipe; None where a person will type."""
    if file is not None and (story is not None or questions):
        raise MemhopError("--file holds story and questions: give it without --story, --question")
    if story is not None and not questions:
        raise MemhopError("--story needs a --question")
    for question in questions:
        if not split_words(question):
            raise MemhopError(f"--question needs a word, not {question!r:.60}")
    if questions:
        return [(split_sentences(story or ""), question) for question in questions]
    if file is None and sys.stdin is not None and sys.stdin.isatty():
        return None
    sentences = split_sentences(_read(file))
    if not any(sentence.endswith("?") for sentence in sentences):
        raise MemhopError(f"{file or 'stdin'}: no question in the text: a question ends in '?'")
    return _told(sentences)


def _only(asked: Iterable[Asked]) -> list[Asked]:
    """The one question that a picture is of."""
    questions = iter(asked)
    story, question = next(questions)
    story = list(story)  # that of a text goes on growing
    if next(questions, None):
        raise MemhopError("--svg needs one question, got several")
    return [(story, question)]


def _answers(model: MemN2N, asked: Iterable[Asked], svg: Path | None) -> Iterator[Answer]:
    """What the model says; a picture is written before anything is told."""
    for story, question in asked:
        answer = model.answer(story, question)
        if svg is not None:
            with whole_file(svg) as file:
                file.write(answer.picture().svg(answer.title()) + "\n")
        yield answer


def _told(sentences: Iterable[str]) -> Iterator[Asked]:
    """Each question of a text, with the sentences above it."""
    story: list[str] = []
    for sentence in sentences:
        if sentence.endswith("?"):
            yield story, sentence
        else:
            story.append(sentence)


def _read(file: Path | None) -> str:
    try:
        if file is None or str(file) == "-":
            content = sys.stdin.buffer.read(_LARGEST_TEXT + 1) if sys.stdin else b""
        else:
            if file.is_dir():
                raise MemhopError(f"--file needs a file, got the folder {file}")
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
