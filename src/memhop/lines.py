"""Lines, JSON objects and rows of UTF-8 files, also of gzip files, with one-line errors."""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from memhop.errors import MemhopError, shown

MAX_LINE_BYTES = 64 * 2**20  # a small .gz file can decompress to a line that fills the memory
PIECE_BYTES = 2**16


def printable(path: Path) -> str:
    """Return a path for a message of one line, escaped if it is not printable."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def fault(path: Path, line: int, message: str) -> MemhopError:
    """Return the error for a line of a file: ``file:line: message``."""
    return MemhopError(f"{printable(path)}:{line}: {message}")


def extension(path: Path, known: Sequence[str]) -> str:
    """Return which of the known extensions a file has, in any case and before ``.gz``.

    >>> extension(Path("facts.TSV.gz"), [".tsv", ".csv"])
    '.tsv'
    """
    name = path.name.lower().removesuffix(".gz")
    for ending in known:
        if name.endswith(ending):
            return ending
    expected = f"{', '.join(known[:-1])} or {known[-1]}" if len(known) > 1 else known[0]
    message = f"expected a name that ends in {expected}, also with .gz"
    raise MemhopError(f"{printable(path)}: {message}, got {shown(path.name)}")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line, with its line end and without a byte order mark.

    Raises:
        MemhopError: the file cannot be read or decompressed; a line is not UTF-8, has the
            character NUL, or more than 64 MiB.
    """
    with _opened(path) as file:
        number = 0
        while raw := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            yield number, _decoded(raw, path, number)


def text_pieces(path: Path) -> Iterator[tuple[int, str]]:
    """Yield a text in pieces of at most 64 KiB, each with the number of the line it begins in.

    LF, CRLF and CR end a line; each becomes ``"\\n"``. A byte order mark is dropped. A line may
    have any length.

    Raises:
        MemhopError: the file cannot be read or decompressed, is not UTF-8, or has the character
            NUL.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)
    number, is_last = 1, False
    with _opened(path) as file:
        while not is_last:
            raw = file.read(PIECE_BYTES)
            is_last = not raw
            try:
                decoded = decoder.decode(raw, final=is_last)
            except UnicodeDecodeError as error:
                before, byte = error.object[: error.start].decode(), error.object[error.start]
                number += line_ends.decode(before, final=True).count("\n")
                message = f"expected UTF-8 text, got byte 0x{byte:02x}"
                raise fault(path, number, message) from None
            piece = line_ends.decode(decoded, final=is_last)
            if "\0" in piece:
                number += piece[: piece.index("\0")].count("\n")
                raise fault(path, number, "expected text, got the character NUL")
            if piece:
                yield number, piece
            number += piece.count("\n")


def filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that is not blank, without its line end.

    A line of tabs is not blank: it has empty columns.
    """
    for number, text in numbered_lines(path):
        if line := text.removesuffix("\n").removesuffix("\r"):
            if "\r" in line:
                raise fault(path, number, "expected LF or CRLF as line ends, got CR")
            if line.strip(" \u00a0"):
                yield number, line


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line that is not blank, and its JSON object.

    Raises:
        MemhopError: as `numbered_lines`, or a line is no JSON object or repeats a key.
    """
    for number, line in filled_lines(path):
        try:
            value = _JSON.decode(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "") or str(error).splitlines()[0]
            message = f"expected a JSON object, got {shown(line)} ({reason:.120})"
            raise fault(path, number, message) from None
        if not isinstance(value, dict):
            raise fault(path, number, f"expected a JSON object, got {shown(line)}")
        yield number, value


def csv_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each row of a table begins, and its cells; skip blank lines.

    Args:
        path: a table, quoted as RFC 4180 says; a cell has at most 64 Mi characters.
        delimiter: the character between two cells.

    Raises:
        MemhopError: as `numbered_lines`, or wrong quotes.
    """
    # The csv module has one limit for the process. Raise it: a cell may hold a long story.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    texts = (text for _, text in numbered_lines(path))
    rows = csv.reader(texts, delimiter=delimiter, strict=True)
    start = 1
    try:
        for row in rows:
            if row:
                yield start, row
            start = rows.line_num + 1
    except csv.Error as error:
        raise fault(path, start, f"expected CSV as in RFC 4180: {error}") from None


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} occurs twice")
    return value


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressed if it ends in ``.gz``; errors of reading become one line."""
    is_gzip = path.name.lower().endswith(".gz")
    try:
        with io.BufferedReader(gzip.open(path, "rb")) if is_gzip else path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise MemhopError(f"{printable(path)}: no such file") from None
    except (EOFError, zlib.error) as error:
        raise MemhopError(f"{printable(path)}: corrupt gzip file: {error}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, MemhopError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise MemhopError(f"{printable(path)}: cannot be read: {reason}") from None


def _decoded(raw: bytes, path: Path, number: int) -> str:
    if len(raw) > MAX_LINE_BYTES:
        raise fault(path, number, f"expected a line of at most {MAX_LINE_BYTES:,} bytes, got more")
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        place = f"byte 0x{raw[error.start]:02x} at byte {error.start + 1}"
        raise fault(path, number, f"expected UTF-8 text, got {place} of the line") from None
    if "\0" in text:
        raise fault(path, number, "expected text, got the character NUL")
    return text


_JSON = json.JSONDecoder(object_pairs_hook=_distinct_keys)
