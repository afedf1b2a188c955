"""``memhop ask``: answer questions about a story."""

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from memhop.cli.answers import (
    answer_json,
    is_correct,
    print_answer,
    print_truncated,
    print_verdict,
    title,
)
from memhop.cli.conversation import converse
from memhop.cli.screen import print_json, print_line, print_progress
from memhop.cli.settings import Json, Run, Threads, choose_model, load_model, use
from memhop.cli.svg_file import write_svg
from memhop.data import to_examples
from memhop.data.babi import parse_stories
from memhop.data.records import BABI, format_of, read_records
from memhop.data.story import is_babi
from memhop.errors import MemhopError
from memhop.text.answer import Answer
from memhop.text.model import MemN2N
from memhop.tokenizer import is_question, split_sentences, split_words


class StoryQuestion(NamedTuple):
    """A question about a story; ``right`` is the right answer from the file, if there is one."""

    story: Sequence[str]
    question: str
    right: str | None = None


_MAX_TEXT_BYTES = 16 * 2**20


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
            help="Text file; each sentence that ends in '?' is a question about the sentences "
            "before it. Or a bAbI, .jsonl, .csv or .tsv file; then the right answers are printed. "
            "'-': stdin."
        ),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(help="File for the picture of the answer to one question.")
    ] = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Ask a trained model about a story.

    Print the answer and the sentences that each hop read. Story and questions come from --story
    and --question or from a --file; without these you type them, and 'help' lists the commands. If
    the story is empty, or the model knows none of its words, there is no answer; with --json,
    'no_answer' says why, and 'answer' is the guess of the model.
    """
    use(threads)
    questions = _questions(story, question or [], file)
    if questions is None and (json or svg):
        raise MemhopError(f"{'--json' if json else '--svg'} needs a --question or a --file")
    if questions is not None and svg:
        questions = _only(questions)
    model = load_model(choose_model(run))
    if questions is None:
        converse(model)
        return
    answers = _answers(model, questions, svg)
    if json:
        print_json([answer_json(answer, right) for answer, right in answers])
    else:
        _print_all(answers)


def _print_all(answers: Iterable[tuple[Answer, str | None]]) -> None:
    truncated: list[int] = []
    verdicts: list[bool] = []
    note = ""
    for answer, right in answers:
        if truncated:
            print_line("")
        print_answer(answer)
        truncated.append(answer.truncated)
        note = answer.not_read()
        if right is not None:
            print_verdict(answer, right)
            verdicts.append(is_correct(answer, right))
    if len(truncated) > 1:
        print_truncated(truncated)
    elif note:
        print_progress(note)
    if len(verdicts) > 1:
        print_line("")
        print_line(f"{sum(verdicts):,} of {len(verdicts):,} answers are correct", "bold")


def _questions(
    story: str | None, questions: list[str], file: Path | None
) -> Iterable[StoryQuestion] | None:
    """Return the questions of the arguments, a file or a pipe; None if a person will type them."""
    if file is not None and (story is not None or questions):
        raise MemhopError("--file has story and questions: give it without --story, --question")
    if story is not None and not questions:
        raise MemhopError("--story needs a --question")
    for question in questions:
        _check_question(question)
    if questions:
        return [StoryQuestion(split_sentences(story or ""), question) for question in questions]
    if file is None and sys.stdin is not None and sys.stdin.isatty():
        return None
    if file is not None and format_of(file) != BABI:
        records = [record.example for record in read_records(file, needs_answers=False)]
        return [StoryQuestion(e.story, e.question, e.answer or None) for e in records]
    content = _read(file)
    if is_babi(content):
        stories = parse_stories(io.BytesIO(content), _name(file), needs_answers=False)
        return [StoryQuestion(e.story, e.question, e.answer or None) for e in to_examples(stories)]
    sentences = split_sentences(_decoded(content, file))
    if not any(map(is_question, sentences)):
        raise MemhopError(f"{_name(file)}: no question in the text: a question ends in '?'")
    return _questions_in(sentences)


def _check_question(text: str) -> None:
    if not split_words(text):
        raise MemhopError(f"--question: expected a question with a word, got {text!r:.60}")
    count = sum(is_question(part) and bool(split_words(part)) for part in split_sentences(text))
    if count > 1:
        raise MemhopError(f"--question: expected one question, got {count}; give -q for each")


def _only(questions: Iterable[StoryQuestion]) -> list[StoryQuestion]:
    """Return the only question, as a picture shows one."""
    questions = iter(questions)
    only = next(questions)
    only = only._replace(story=list(only.story))  # the story of a text file is still growing
    if next(questions, None):
        raise MemhopError("--svg needs one question, got several")
    return [only]


def _answers(
    model: MemN2N, questions: Iterable[StoryQuestion], svg: Path | None
) -> Iterator[tuple[Answer, str | None]]:
    """Answer each question; write the picture before anything is printed."""
    for story, question, right in questions:
        answer = model.answer(story, question)
        if svg is not None:
            write_svg(svg, answer.picture().svg(title(answer)))
        yield answer, right


def _questions_in(sentences: Iterable[str]) -> Iterator[StoryQuestion]:
    """Yield each question of a text with the sentences before it."""
    story: list[str] = []
    for sentence in sentences:
        if is_question(sentence):
            yield StoryQuestion(story, sentence)
        else:
            story.append(sentence)


def _read(file: Path | None) -> bytes:
    try:
        if file is None or str(file) == "-":
            content = sys.stdin.buffer.read(_MAX_TEXT_BYTES + 1) if sys.stdin else b""
        else:
            if file.is_dir():
                raise MemhopError(f"--file: expected a file, got the folder {file}")
            with file.open("rb") as opened:
                content = opened.read(_MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise MemhopError(f"{file}: cannot be read: {error.strerror}") from error
    if len(content) > _MAX_TEXT_BYTES:
        raise MemhopError(f"{_name(file)}: expected at most {_MAX_TEXT_BYTES:,} bytes, got more")
    return content


def _decoded(content: bytes, file: Path | None) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise MemhopError(f"{_name(file)}:{line}: expected UTF-8 text, got other bytes") from error


def _name(file: Path | None) -> Path:
    return file or Path("stdin")
