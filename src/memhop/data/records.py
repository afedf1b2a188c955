"""Read questions with their stories record by record, from JSON Lines, CSV, TSV and bAbI files.

The suffix of a file is its format (`format_of`). In JSON Lines a record is an object on one line,
in CSV and TSV a row below a header; `FIELDS` names the fields and columns. In the released format
of bAbI a record is a question with the statements before it.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from memhop.data.babi import read_babi, read_stories
from memhop.data.story import Story
from memhop.errors import MemhopError, shown
from memhop.example import Example, check_positions
from memhop.lines import csv_rows, fault, json_lines, printable
from memhop.tokenizer import answer_word, split_sentences, split_words

FIELDS = ("id", "story", "question", "answer", "supporting_facts")
"""The fields of a record; a story and a question are required."""

BABI, JSONL, CSV, TSV = "bAbI", "JSON Lines", "CSV", "TSV"
DELIMITERS = {CSV: ",", TSV: "\t"}
SUFFIXES = {".jsonl": JSONL, ".ndjson": JSONL, ".csv": CSV, ".tsv": TSV}
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,14}")  # of an id
_SIMILAR = 0.85  # from this ratio of difflib on, a name is a misspelt field


class Record(NamedTuple):
    """A question of a file.

    Attributes:
        line: the line on which it begins, from 1 on.
        example: the question with its story, as a tuple of sentences; the answer is empty if the
            file has none.
        id: the name that the file gives it.
    """

    line: int
    example: Example
    id: str | int | None = None


def format_of(path: str | os.PathLike[str]) -> str:
    """Return the format of a file by its suffix, in any case and before ``.gz``.

    >>> format_of("own.jsonl"), format_of("own.CSV.gz"), format_of("own.txt")
    ('JSON Lines', 'CSV', 'bAbI')
    """
    name = Path(path).name.lower().removesuffix(".gz")
    return SUFFIXES.get(Path(name).suffix, BABI)


def read_examples(path: str | os.PathLike[str]) -> list[Example]:
    """Read questions with answers from a file; its suffix is the format.

    - ``.jsonl``, ``.ndjson``: JSON Lines, an object on each line. ``story`` is a list of sentences
      or a text, which `split_sentences` splits; ``question`` and ``answer`` are texts;
      ``supporting_facts``, positions in the story from 0 on, and ``id`` are optional. Other fields
      are ignored.
    - ``.csv``, ``.tsv``: a header and rows with the same columns. A cell that begins with ``[`` is
      a JSON list; supporting facts may also be separated by spaces.
    - any other: the released format of bAbI, and folders of it; see `read_babi`.

    JSON Lines, CSV and TSV may be compressed by gzip (``.jsonl.gz``). The questions of a story that
    grows follow each other.

    Raises:
        MemhopError: a file is malformed: ``file:line: expected ..., got ...``.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "own.jsonl")
    ...     record = {"story": "Mary went home.", "question": "Where is Mary?", "answer": "home"}
    ...     _ = file.write_text(json.dumps(record))
    ...     (example,) = read_examples(file)
    >>> example.story, example.answer
    (('Mary went home.',), 'home')
    """
    if format_of(path) == BABI and not Path(path).is_file():
        return read_babi(path)  # a folder
    return [record.example for record in read_records(path)]


def read_records(
    path: str | os.PathLike[str], *, needs_answers: bool = True, keeps_all: bool = False
) -> Iterator[Record]:
    """Read a file record by record, with at most one record or one bAbI story in memory.

    Args:
        path: a file; see `read_examples`.
        needs_answers: whether a question without an answer is an error.
        keeps_all: whether content that a record does not hold is an error: other fields, and in a
            bAbI file statements without a question after them.

    Raises:
        MemhopError: as `read_examples`, when it reads the malformed record.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "own.csv")
    ...     _ = file.write_text("story,question,answer\\n\\nIt rained.,Did it rain?,yes\\n")
    ...     [(record.line, record.example.answer) for record in read_records(file)]
    [(3, 'yes')]
    """
    file = Path(path)
    name = format_of(file)
    if name == BABI:
        yield from _records_of_stories(file, needs_answers, keeps_all)
        return
    record = None
    for line, fields in json_lines(file) if name == JSONL else _rows(file, DELIMITERS[name]):
        try:
            if keeps_all:
                _check_fields(fields)
            record = Record(line, _example(fields, needs_answers), _id(fields.get("id")))
        except MemhopError as error:
            raise fault(file, line, str(error)) from None
        yield record
    if record is None:
        raise MemhopError(f"{printable(file)}: expected at least one question, got none")


def checked(
    story: str | Sequence[str], question: str, answer: str, supporting_facts: Sequence[int]
) -> Example:
    """Return an example that every file can hold, its story as a tuple of sentences.

    Args:
        story: a text or sentences.
        question: a text with a word.
        answer: a text with a word, or an empty text for no answer.
        supporting_facts: positions in the story.

    Raises:
        MemhopError: another type or value, the character NUL, or half a surrogate pair.
    """
    sentences = _sentences(story)
    if not isinstance(question, str) or not _has_word(question):
        raise MemhopError(f"question: expected a text with a word, got {shown(question)}")
    if not isinstance(answer, str) or (answer and not answer_word(answer)):
        raise MemhopError(f"answer: expected a text with a word, got {shown(answer)}")
    _check_characters("story", "".join(sentences))
    _check_characters("question", question)
    _check_characters("answer", answer)
    facts = check_positions(supporting_facts, len(sentences), "supporting_facts")
    return Example(sentences, question, answer, facts)


def _records_of_stories(file: Path, needs_answers: bool, keeps_all: bool) -> Iterator[Record]:
    start = 1  # the line of the story; the lines of a bAbI file have no gaps
    for story in _stories(file, needs_answers):
        for index, (question, example) in enumerate(
            zip(story.questions, story.examples(), strict=True)
        ):
            yield Record(start + question.after + index, example)
        if keeps_all:
            _check_end(story, start, file)
        start += len(story.statements) + len(story.questions)


def _stories(file: Path, needs_answers: bool) -> Iterator[Story]:
    """Read a bAbI file; if it is none and has no suffix of one, name the suffixes in the error."""
    try:
        yield from read_stories(file, needs_answers=needs_answers)
    except MemhopError as error:
        is_first = str(error).startswith(f"{printable(file)}:1:")
        if not is_first or file.suffix.lower() in ("", ".txt"):
            raise
        others = "only .jsonl, .csv and .tsv (also with .gz) are read as other formats than bAbI"
        raise MemhopError(f"{error}; {others}") from None


def _check_end(story: Story, start: int, file: Path) -> None:
    """Raise MemhopError if there are statements after the last question of a story."""
    asked = story.questions[-1].after if story.questions else 0
    if asked < len(story.statements):
        line = start + asked + len(story.questions)
        statement = shown(story.statements[asked])
        raise fault(file, line, f"expected a question after each statement, got none: {statement}")


def _rows(file: Path, delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line and the cells of each row that has any, by the name of the column."""
    header: list[str] = []
    for line, row in csv_rows(file, delimiter):
        if not any(row):
            continue
        if not header:
            header = [name.strip() for name in row]
            _check_header(header, file, line)
        elif len(row) != len(header):
            raise fault(file, line, f"expected {len(header)} columns, got {len(row)}")
        else:
            try:
                yield line, _cells(header, row)
            except MemhopError as error:
                raise fault(file, line, str(error)) from None


def _check_header(header: list[str], file: Path, line: int) -> None:
    names = ", ".join(map(shown, header))
    if "story" not in header or "question" not in header:
        expected = "a header with the columns story and question"
        raise fault(file, line, f"expected {expected}, got {names:.200}")
    for name in header:
        if name and header.count(name) > 1:
            raise fault(file, line, f"expected each column once, got {shown(name)} twice")


def _cells(header: Sequence[str], row: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a row: lists as lists, without the empty cells of other columns."""
    pairs = zip(header, row, strict=True)
    cells: dict[str, Any] = {name: cell for name, cell in pairs if cell or name in FIELDS}
    story = cells["story"]
    if story.lstrip().startswith("["):
        cells["story"] = _listed("story: expected a text, or sentences as a JSON list", story)
    cells["id"] = id_in_table(cells.get("id", ""))
    facts = cells.get("supporting_facts")
    if facts is not None:
        text = facts if facts.lstrip().startswith("[") else f"[{','.join(facts.split())}]"
        expected = "supporting_facts: expected numbers separated by spaces"
        cells["supporting_facts"] = _listed(expected, text, facts)
    return cells


def id_in_table(cell: str) -> str | int | None:
    """Return the id that a cell of a table is: an integer if it is written as JSON writes it.

    Integers of more digits stay texts: not every program that reads JSON has them.

    >>> id_in_table("7"), id_in_table("007"), id_in_table("")
    (7, '007', None)
    """
    return int(cell) if _INTEGER.fullmatch(cell) else cell or None


def _listed(expected: str, text: str, cell: str | None = None) -> list[Any]:
    """Return the JSON list of a cell."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise MemhopError(f"{expected}, got {shown(cell or text)}") from None
    assert isinstance(value, list)  # it begins with a bracket
    return value


def _example(fields: Mapping[str, Any], needs_answers: bool) -> Example:
    if not ("story" in fields and "question" in fields):
        names = ", ".join(map(shown, fields)) or "none"
        raise MemhopError(f"expected the fields story and question, got {names:.200}")
    if others := fields.keys() - set(FIELDS):
        missing = set(FIELDS[1:]) - fields.keys()
        _check_spelling(frozenset(others), frozenset(missing))
    answer, facts = fields.get("answer"), fields.get("supporting_facts")
    example = checked(
        fields["story"],
        fields["question"],
        "" if answer is None else answer,
        () if facts is None else facts,
    )
    if needs_answers and not example.answer:
        raise MemhopError(f"expected an answer, got none for {shown(example.question)}")
    return example


@lru_cache(maxsize=64)
def _check_spelling(others: frozenset[str], missing: frozenset[str]) -> None:
    for name in sorted(others):
        if similar := get_close_matches(name.lower(), missing, 1, _SIMILAR):
            raise MemhopError(f"expected the field {similar[0]}, got {shown(name)}")


def _check_fields(fields: Mapping[str, Any]) -> None:
    for name in fields:
        if name not in FIELDS:
            raise MemhopError(f"expected the fields {', '.join(FIELDS)}, got {shown(name)}")


def _id(value: Any) -> str | int | None:
    if value is None or type(value) is int:
        return value
    if not isinstance(value, str) or not value:
        raise MemhopError(f"id: expected a text or an integer, got {shown(value)}")
    _check_characters("id", value)
    return value


def _sentences(story: Any) -> tuple[str, ...]:
    if isinstance(story, str):
        return tuple(split_sentences(story, _words))
    if not isinstance(story, Sequence) or not all(isinstance(one, str) for one in story):
        raise MemhopError(f"story: expected a text or a list of sentences, got {shown(story)}")
    return tuple(story)


def _check_characters(name: str, text: str) -> None:
    if "\0" in text:
        raise MemhopError(f"{name}: expected text, got the character NUL")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            place = f"half of a surrogate pair, \\u{ord(text[error.start]):04x}"
            raise MemhopError(f"{name}: expected text, got {place}") from None


def _has_word(text: str) -> bool:
    return bool(_words(text))


_words = lru_cache(maxsize=4096)(split_words)
