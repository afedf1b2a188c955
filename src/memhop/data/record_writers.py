"""Write questions with their stories record by record, as JSON Lines, CSV, TSV or bAbI files."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from memhop.atomic_write import atomic_write
from memhop.data.records import (
    BABI,
    DELIMITERS,
    FIELDS,
    JSONL,
    SUFFIXES,
    Record,
    checked,
    format_of,
    id_in_table,
)
from memhop.data.story import MissingTabs, NumberedLines, Question, quoted
from memhop.errors import MemhopError, shown
from memhop.example import Example
from memhop.lines import printable
from memhop.tokenizer import split_sentences

Writer = Callable[[Record], None]


def writable_format(path: Path) -> str:
    """Return the format to write to a file by its suffix; ``.txt`` is bAbI.

    Raises:
        MemhopError: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES and suffix != ".txt":
        expected = ".jsonl, .csv, .tsv, or .txt for the bAbI format"
        raise MemhopError(f"{printable(path)}: expected a name that ends in {expected}")
    return format_of(path)


def check_json_lines(path: Path) -> None:
    """Raise MemhopError if the suffix of a file to write is not that of JSON Lines."""
    if SUFFIXES.get(path.suffix.lower()) != JSONL:
        raise MemhopError(f"{printable(path)}: expected a name that ends in .jsonl")


def write_examples(path: str | os.PathLike[str], examples: Iterable[Example]) -> None:
    """Write questions to a file that `read_examples` reads back to the same examples.

    The suffix is the format: ``.jsonl``, ``.csv``, ``.tsv``, or ``.txt`` for bAbI. The write is
    atomic; an existing file is replaced.

    Args:
        path: the file.
        examples: the questions; a story of one text is split into sentences.

    Raises:
        MemhopError: an example that the format cannot hold, named by its index.

    >>> from tempfile import TemporaryDirectory
    >>> from memhop.data.records import read_examples
    >>> example = Example(("Mary went home.",), "Where is Mary?", "home", (0,))
    >>> with TemporaryDirectory() as folder:
    ...     write_examples(f"{folder}/own.csv", [example])
    ...     print(Path(folder, "own.csv").read_text().splitlines()[1])
    ...     read_examples(f"{folder}/own.csv") == [example]
    ,Mary went home.,Where is Mary?,home,0
    True
    """
    target = Path(path)
    name = writable_format(target)
    with atomic_write(target) as out:
        write = writer(name, out)
        for index, example in enumerate(examples):
            try:
                write(Record(index + 1, example))
            except MemhopError as error:
                raise MemhopError(f"example {index}: {error}") from None


def writer(name: str, out: TextIO) -> Writer:
    """Return the function that writes a record in a format to an open file.

    The function raises MemhopError for a record that the format cannot hold.
    """
    if name == BABI:
        return _BabiWriter(out)
    if name == JSONL:
        return _JsonWriter(out)
    return _TableWriter(out, DELIMITERS[name])


class _JsonWriter:
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, record: Record) -> None:
        story, question, answer, facts = checked(*record.example)
        fields = {
            "id": record.id,
            "story": story,
            "question": question,
            "answer": answer or None,
            "supporting_facts": facts or None,
        }
        used = {name: value for name, value in fields.items() if value is not None}
        self._out.write(json.dumps(used, ensure_ascii=False) + "\n")


class _TableWriter:
    """Writes rows that end in CR LF, as RFC 4180 says."""

    def __init__(self, out: TextIO, delimiter: str) -> None:
        self._rows = csv.writer(out, delimiter=delimiter)
        self._rows.writerow(FIELDS)

    def __call__(self, record: Record) -> None:
        story, question, answer, facts = checked(*record.example)
        text = " ".join(story)
        is_text = not text.startswith("[") and split_sentences(text) == [*story]
        cell = text if is_text else json.dumps(story, ensure_ascii=False)
        name = "" if record.id is None else str(record.id)
        if id_in_table(name) != record.id:
            read = shown(id_in_table(name))
            raise MemhopError(f"a table: the id {shown(record.id)} would be read as {read}")
        self._rows.writerow([name, cell, question, answer, " ".join(map(str, facts))])


class _BabiWriter:
    """Writes a question below those before it if its story is theirs, with more statements or not.

    `memhop.example.story_numbers` counts stories in the same way.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._story: Sequence[str] | None = None
        self._lines = NumberedLines()
        self._tabs = MissingTabs()

    def __call__(self, record: Record) -> None:
        story, question, answer, facts = checked(*record.example)
        if record.id is not None:
            raise MemhopError(f"{BABI}: expected no id, got {record.id!r:.60}")
        if not answer:
            raise MemhopError(f"{BABI}: expected an answer, got none for {quoted(question)}")
        before = self._story
        if before is None or story[: len(before)] != before:
            before, self._lines = (), NumberedLines()
        lines = [self._lines.statement(sentence) for sentence in story[len(before) :]]
        lines.append(self._lines.question(Question(len(story), question, answer, facts)))
        is_suspect = not facts and self._lines.has_ids_at_end(answer)
        self._tabs.add(f"{quoted(answer)} {_READ_AS_IDS}" if is_suspect else "", bool(facts))
        self._out.writelines(f"{line}\n" for line in lines)
        self._story = story


_READ_AS_IDS = "would be read as an answer without a tab before supporting IDs"
