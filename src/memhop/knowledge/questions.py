"""Questions with right answers: JSONL, TSV, MetaQA's form, plain lines."""

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from memhop.errors import MemhopError, shown
from memhop.knowledge.facts import check_name
from memhop.knowledge.names import question_words
from memhop.lines import extension, fault, filled_lines, json_lines, printable

_KEYS = {"question", "answer", "answers", "topic", "topics"}
_BRACKETS = re.compile(r"[\[\]]")


class Question(NamedTuple):
    """A question, with its right answers and its topics if they are known.

    Attributes:
        text: the question, without brackets around topics.
        answers: right answers, each an identifier, a label or an alias; () if unknown.
        topics: the entities that the question starts from, by identifier, label or alias; None if
            they are to be found in the text.
    """

    text: str
    answers: tuple[str, ...] = ()
    topics: tuple[str, ...] | None = None


def parse_question(text: str, answers: tuple[str, ...] = ()) -> Question:
    """Return a question whose topics may be in brackets, as in MetaQA.

    The brackets are removed if every bracket has its partner and each pair has a letter, a digit
    or a symbol such as ``$`` inside. Brackets inside a pair belong to the name. Otherwise the text
    is unchanged.

    Raises:
        MemhopError: the text has no word, or has the character NUL or half a surrogate pair.

    >>> parse_question("who directed [Faust] and [Nosferatu]?")
    Question(text='who directed Faust and Nosferatu?', answers=(), topics=('Faust', 'Nosferatu'))
    >>> parse_question("what is f[]?").topics
    """
    pieces, topics = _bracketed(text)
    return _checked("".join(pieces), answers, topics or None)


def read_questions(path: str | os.PathLike[str], *, need_answers: bool = True) -> list[Question]:
    """Read questions from a file; its extension says the format.

    - ``.jsonl``: objects with the keys question, answers (a list) or answer, and, if they are
      known, topics (a list) or topic. Brackets in the text stay.
    - ``.tsv``, ``.txt``: ``question<TAB>answer|answer|...``, or with a third column
      ``topic|topic|...``. Without a third column, brackets in the question mark its topics, as in
      MetaQA; see `parse_question`.

    Each can be compressed by gzip (``.tsv.gz``). Files are UTF-8, with or without a byte order
    mark, with LF or CRLF. Blank lines are skipped, white space around a question, an answer or a
    topic is removed, and repeated answers are dropped. A question that occurs several times, even
    with other answers, is returned several times.

    Args:
        path: the file.
        need_answers: whether a question without an answer is an error. If not, the answers can be
            missing: a line of text is a question.

    Raises:
        MemhopError: ``file:line: expected ..., got ...``; no questions.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "questions.txt")
    ...     _ = file.write_text("what does [Tom Cullen] act in\\tWeekend\\n")
    ...     read_questions(file)
    [Question(text='what does Tom Cullen act in', answers=('Weekend',), topics=('Tom Cullen',))]
    """
    file = Path(path)
    questions = []
    is_json = extension(file, (".jsonl", ".tsv", ".txt")) == ".jsonl"
    for number, content in json_lines(file) if is_json else filled_lines(file):
        try:
            parsed = _from_json(content) if isinstance(content, dict) else _from_line(content)
            if need_answers and not parsed.answers:
                form = "" if is_json else " after a tab"
                raise MemhopError(f"expected an answer{form}, got none for {shown(parsed.text)}")
        except MemhopError as error:
            raise fault(file, number, str(error)) from None
        questions.append(parsed)
    if not questions:
        raise MemhopError(f"{printable(file)}: expected at least one question, got none")
    return questions


def _from_line(line: str) -> Question:
    text, *columns = line.split("\t")
    if text.strip().lower() == "question" and columns and columns[0].strip().lower() in _KEYS:
        raise MemhopError("expected a question, got a header: remove it")
    if len(columns) > 2:
        form = "question<TAB>answers or question<TAB>answers<TAB>topics"
        raise MemhopError(f"expected {form}, got {len(columns) + 1} columns")
    answers = _names(columns[0], "answers") if columns else ()
    topics = _names(columns[1], "topics") if len(columns) > 1 else ()
    return _checked(text, answers, topics) if topics else parse_question(text, answers)


def _names(column: str, kind: str) -> tuple[str, ...]:
    """Return the names of a column, joined by ``|``; none for a blank column."""
    names = [name.strip() for name in column.split("|")]
    if names == [""]:
        return ()
    if not all(names):
        raise MemhopError(f"expected {kind} joined by '|', got an empty one in {shown(column)}")
    return tuple(dict.fromkeys(names))


def _from_json(value: Mapping[str, Any]) -> Question:
    if odd := [key for key in value if key not in _KEYS]:
        names = ", ".join(map(shown, odd))
        expected = "question, answers or answer, topics or topic"
        raise MemhopError(f"expected the keys {expected}, got {names:.200}")
    if "question" not in value:
        raise MemhopError("expected the key question, got none")
    text = value["question"]
    if not isinstance(text, str):
        raise MemhopError(f"question: expected a string, got {shown(text)}")
    answers, topics = (_listed(value, kind) for kind in ("answer", "topic"))
    return _checked(text, answers, topics or None)


def _listed(value: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """Return the names of the key ``kind`` (a string) or its plural (a list of strings)."""
    many = f"{kind}s"
    if kind in value and many in value:
        raise MemhopError(f"expected {kind} or {many}, got both")
    names = value.get(many, [value[kind]] if kind in value else [])
    if not isinstance(names, list):
        raise MemhopError(f"{many}: expected a list of strings, got {shown(names)}")
    return tuple(dict.fromkeys(check_name(name, kind).strip() for name in names))


def _checked(text: str, answers: tuple[str, ...], topics: tuple[str, ...] | None) -> Question:
    plain = " ".join(text.split())
    if not question_words(plain):
        raise MemhopError(f"expected a question, got {shown(text)}")
    return Question(check_name(plain, "question"), answers, topics)


def _bracketed(text: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the pieces of a text without brackets around topics, and the topics."""
    pieces: list[str] = []
    topics: list[str] = []
    depth = start = 0
    for bracket in _BRACKETS.finditer(text):
        depth += 1 if bracket[0] == "[" else -1
        is_opening = bracket[0] == "[" and depth == 1
        if depth < 0:
            return [text], ()
        if is_opening or depth == 0:
            piece = text[start : bracket.start()]
            pieces.append(piece)
            start = bracket.end()
            if not is_opening:
                topics.append(piece.strip())
    if depth or not all(any(map(_is_in_names, topic)) for topic in topics):
        return [text], ()
    return [*pieces, text[start:]], tuple(dict.fromkeys(topics))


def _is_in_names(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "S"
