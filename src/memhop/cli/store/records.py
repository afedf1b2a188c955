"""Read the records of a file in batches: JSON Lines, or vectors in an ``.npy`` file."""

import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memhop.cli.encoder import encoded
from memhop.cli.store.options import parse_time
from memhop.errors import MemhopError, shown
from memhop.lines import fault, json_lines, printable
from memhop.retrieval import Encoder

ROWS = 10_000  # of a batch: one synced write
ENCODED_ROWS = 1_000  # of a batch with texts to encode
_KEYS = ("id", "vector", "text", "payload", "time")


class Line(NamedTuple):
    """A checked record: its line, and what it has; ``vector`` is None if the text is encoded."""

    number: int
    id: str | int | None
    vector: NDArray[np.float32] | None
    text: str | None
    payload: dict[str, Any] | None
    time: float | None


class Batch(NamedTuple):
    """The rows of some lines, as `Store.add` takes them.

    Attributes:
        lines: the number of the line of each row; of an array the number of the row, from 1 on.
        columns: the arguments of `Store.add`.
    """

    lines: list[int]
    columns: dict[str, Any]


class RecordFile:
    """The records of a file from a line on.

    Args:
        path: ``.npy``, or JSON Lines, also with ``.gz``.
        dim: numbers of a vector.
        encoder: for records without a vector.
        first: the first line to read.
        stored: ids to skip, those of a store; None skips no record.

    Attributes:
        skipped: how many records were skipped.
    """

    def __init__(
        self,
        path: Path,
        dim: int,
        encoder: Encoder | None,
        first: int = 1,
        stored: Container[object] | None = None,
    ) -> None:
        self.path, self.dim, self.encoder, self.first = path, dim, encoder, first
        self.stored, self.skipped = stored, 0
        self._first_id: tuple[int, bool] | None = None  # a line, and whether it has an id

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in batches; those before a wrong line come before its error.

        Raises:
            MemhopError: a line that is no record, with the file and the line.
        """
        if self.path.suffix.lower() == ".npy":
            yield from self._arrays()
            return
        lines: list[Line] = []
        ids: set[str | int | None] = set()  # of these lines, which --skip-stored skips too
        num_texts = 0
        try:
            for line in self._lines():
                if self.stored is not None:
                    if line.id in ids or line.id in self.stored:
                        self.skipped += 1
                        continue
                    ids.add(line.id)
                lines.append(line)
                num_texts += line.vector is None
                if len(lines) == ROWS or num_texts == ENCODED_ROWS:
                    full, lines, num_texts = lines, [], 0
                    ids.clear()
                    yield self._batch(full)
        except MemhopError:
            if lines:
                yield self._batch(lines)
            raise
        if lines:
            yield self._batch(lines)

    def _lines(self) -> Iterator[Line]:
        number = 0
        for number, record in json_lines(self.path):
            if number < self.first:
                continue
            try:
                yield self._line(number, record)
            except MemhopError as error:
                raise fault(self.path, number, str(error)) from None
        self._check_first(number)

    def _check_first(self, last: int) -> None:
        """Check the first line; it is the one after the last if all records were stored."""
        if self.first > last + 1:
            raise MemhopError(
                f"{printable(self.path)}: expected --from-line of at most {last + 1}, as its last "
                f"record is number {last}, got {self.first}"
            )

    def _line(self, number: int, record: dict[str, Any]) -> Line:
        for key in record:
            if key not in _KEYS:
                raise MemhopError(f"expected the keys {', '.join(_KEYS)}, got {shown(key)}")
        name, vector, text, payload, moment = map(record.get, _KEYS)
        if name is not None and type(name) not in (str, int):
            raise MemhopError(f"id: expected a text or an integer, got {shown(name)}")
        if name is None and self.stored is not None:
            raise MemhopError("expected an id, which --skip-stored needs in every record")
        if self._first_id is None:
            self._first_id = number, name is not None
        elif self._first_id[1] != (name is not None):
            line, has_id = self._first_id
            expected = f"an id, as line {line} has" if has_id else f"no id, as line {line} has none"
            raise MemhopError(f"expected {expected}")
        if text is not None and not isinstance(text, str):
            raise MemhopError(f"text: expected a text, got {shown(text)}")
        if payload is not None and not isinstance(payload, dict):
            raise MemhopError(f"payload: expected an object, got {shown(payload)}")
        seconds = None if moment is None else parse_time("time", moment)
        row = None if vector is None else parse_vector(vector, self.dim)
        if row is None and (text is None or self.encoder is None):
            got = "neither" if text is None else "a text: --encoder MODULE:FUNCTION encodes it"
            raise MemhopError(f"expected a vector, got {got}")
        return Line(number, name, row, text, payload, seconds)

    def _batch(self, lines: list[Line]) -> Batch:
        vectors = np.empty((len(lines), self.dim), dtype=np.float32)
        without = [place for place, line in enumerate(lines) if line.vector is None]
        for place, line in enumerate(lines):
            if line.vector is not None:
                vectors[place] = line.vector
        if without:
            assert self.encoder is not None  # each of these lines was checked
            try:
                texts = [lines[place].text or "" for place in without]
                vectors[without] = encoded(self.encoder, texts, self.dim)
            except MemhopError as error:
                raise MemhopError(f"{printable(self.path)}: {error}") from None
        now = time.time()
        columns = {
            "vectors": vectors,
            "ids": None if lines[0].id is None else [line.id for line in lines],
            "texts": [line.text for line in lines],
            "payloads": [line.payload for line in lines],
            "times": [now if line.time is None else line.time for line in lines],
        }
        return Batch([line.number for line in lines], columns)

    def _arrays(self) -> Iterator[Batch]:
        array = read_array(self.path, self.dim)
        if self.stored is not None:
            raise MemhopError(f"{printable(self.path)}: --skip-stored needs ids: an array has none")
        self._check_first(len(array))
        for start in range(self.first - 1, len(array), ROWS):
            rows = np.array(array[start : start + ROWS], dtype=np.float32)
            is_finite = np.isfinite(rows).all(-1)
            end = len(rows) if is_finite.all() else int(is_finite.argmin())
            if end:
                yield Batch([*range(start + 1, start + end + 1)], {"vectors": rows[:end]})
            if end < len(rows):
                raise fault(self.path, start + end + 1, "expected finite numbers in this row")


def parse_vector(value: object, dim: int) -> NDArray[np.float32]:
    """Return a vector of JSON, float32 [dim].

    Raises:
        MemhopError: no list of ``dim`` finite numbers.
    """
    expected = f"vector: expected {dim} numbers"
    if not isinstance(value, list):
        raise MemhopError(f"{expected}, got {shown(value)}")
    if len(value) != dim:
        raise MemhopError(f"{expected}, got {len(value)}")
    for number in value:
        if type(number) not in (int, float):
            raise MemhopError(f"{expected}, got {shown(number)} among them")
    try:
        with np.errstate(over="ignore"):
            vector = np.array(value, dtype=np.float64).astype(np.float32)
    except OverflowError:  # an integer of hundreds of digits
        vector = np.full(1, np.inf, dtype=np.float32)
    if not np.isfinite(vector).all():
        raise MemhopError(f"{expected} that are finite in float32, got others")
    return vector


def read_array(path: Path, dim: int) -> NDArray[Any]:
    """Return the array of an ``.npy`` file, memory-mapped.

    Raises:
        MemhopError: no such file, or no array of numbers [N, dim].
    """
    expected = f"{printable(path)}: expected an array of numbers [N, {dim}]"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise MemhopError(f"{printable(path)}: no such file") from None
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise MemhopError(f"{expected}, got none: {str(error).splitlines()[0]:.120}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise MemhopError(f"{expected}, got {shown(getattr(array, 'dtype', array))}")
    if array.ndim != 2 or array.shape[1] != dim:
        raise MemhopError(f"{expected}, got {list(array.shape)}")
    return array
