"""A file of answers that grows line by line, and resumes after an interruption.

While it grows it is ``NAME.part``, next to ``NAME.part.json``, which says what it depends on: the
model, the questions and the options. Answers are computed in batches, and a number may depend on
the other questions of its batch. So a file resumes at the last complete batch, and the finished
file has the same bytes as without an interruption. A lock on ``NAME.part`` covers both files.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from memhop.atomic_write import atomic_write, check_new, rename_new
from memhop.errors import MemhopError
from memhop.file_lock import locked
from memhop.lines import printable
from memhop.resume import differences

VERDICT = '"is_correct": '  # in no other place of a line: a text has its quotation marks escaped


class AnswerFile:
    """An open file of answers.

    Attributes:
        lines: the number of lines.
        verdicts: the number of answers that are correct or wrong; of others it is not known.
        correct: the number of correct answers.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.lines = self.verdicts = self.correct = 0

    def write(self, lines: list[str]) -> None:
        """Append the lines of a batch, without their line ends, and hand them to the system."""
        block = "".join(f"{line}\n" for line in lines)
        try:
            encoded = block.encode()
        except UnicodeEncodeError:  # a model can have words with half a surrogate pair
            encoded = block.encode(errors="backslashreplace")
        self._file.write(encoded)
        self._file.flush()
        self._count(encoded, len(lines))

    def resume(self, batch: int, total: int) -> None:
        """Keep the complete batches of an interrupted run: all lines if these are ``total``."""
        kept = place = lines = 0
        for line in self._file:
            place += len(line)
            lines += line.endswith(b"\n")
            if line.endswith(b"\n") and (lines % batch == 0 or lines == total):
                kept = place
        self._file.truncate(kept)
        self._file.seek(0)
        for line in self._file:
            self._count(line, 1)

    def _count(self, block: bytes, lines: int) -> None:
        self.lines += lines
        self.verdicts += block.count(VERDICT.encode())
        self.correct += block.count(f"{VERDICT}true".encode())


@contextmanager
def answer_file(
    target: Path, source: Mapping[str, object], batch: int, total: int
) -> Iterator[AnswerFile]:
    """Open a file of answers for the lines after those that it already has.

    At the end of the block it gets its name; after an error or an interruption it stays
    ``NAME.part``. Another process cannot write it meanwhile.

    Args:
        target: the file.
        source: what its content depends on, as JSON values.
        batch: the number of lines of a batch.
        total: the number of lines of the finished file.

    Raises:
        MemhopError: the file exists, cannot be written, depends on something else, or is being
            written by another process.
    """
    part, notes = (target.with_name(f"{target.name}{end}") for end in (".part", ".part.json"))
    try:
        check_new(target)
        with locked(part):
            _prepare(part, notes, {_FORMAT: 1, **source})
            with part.open("r+b") as file:
                answers = AnswerFile(file)
                answers.resume(batch, total)
                yield answers
                os.fsync(file.fileno())
            rename_new(part, target)
            notes.unlink(missing_ok=True)
    except BlockingIOError:
        raise MemhopError(f"{printable(part)}: another process writes these answers") from None
    except OSError as error:
        message = f"cannot be written: {error.strerror or error}"
        raise MemhopError(f"{printable(target)}: {message}") from error


def _prepare(part: Path, notes: Path, source: Mapping[str, object]) -> None:
    """Check that answers may resume, or write the notes if there are none yet."""
    stored = _stored(notes)
    if part.stat().st_size == 0:
        try:
            with atomic_write(notes, replace=stored is not None) as out:
                json.dump(source, out, indent=1)
        except MemhopError:  # a file of another program has the name of the notes
            part.unlink()
            raise
        return
    again = f"remove {printable(part)} to start again"
    if stored is None:
        raise MemhopError(f"{printable(notes)}: cannot be read, so no answers resume; {again}")
    if differing := differences(stored, source, {}):
        raise MemhopError(f"{printable(part)}: cannot resume: different {differing}; {again}")


def _stored(notes: Path) -> dict[str, object] | None:
    """Return the content of the notes; None if there are none, or another program's."""
    try:
        stored = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return stored if isinstance(stored, dict) and _FORMAT in stored else None


_FORMAT = "memhop answers"
