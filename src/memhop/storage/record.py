"""The records of a store, and the checks of what a user stores."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from memhop.errors import MemhopError, shown

Id = str | int
Payload = Mapping[str, Any]
_LEAST_INT, _MOST_INT = -(2**63), 2**63 - 1


class Record(NamedTuple):
    """What a store holds of an id.

    Attributes:
        id: a text or an integer.
        vector: float32, [dim]; None if the vector was not asked for.
        text: None if it has no text.
        payload: a JSON object; None if it has none.
        time: seconds since 1970.
    """

    id: Id
    vector: Tensor | None
    text: str | None
    payload: dict[str, Any] | None
    time: float


def as_list(name: str, values: Any, count: int | None = None) -> list[Any]:
    """Return the items of a list, an array or another iterable, but not of a text or a mapping.

    Raises:
        MemhopError: something else, or other than ``count`` items.
    """
    if hasattr(values, "tolist"):  # numbers of NumPy and torch become those of Python
        values = values.tolist()
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise MemhopError(f"{name}: expected a list, got {shown(values)}")
    items = list(values)
    return items if count is None else check_count(name, items, count)


def check_count(name: str, items: list[Any], count: int) -> list[Any]:
    """Return a list if it has ``count`` items.

    Raises:
        MemhopError: it has another number.
    """
    if len(items) != count:
        raise MemhopError(f"{name}: expected {count}, one for each row, got {len(items)}")
    return items


def check_ids(values: Any, count: int | None = None, *, distinct: bool = True) -> list[Id]:
    """Return ids: texts that UTF-8 can encode, and integers of 64 bits.

    Raises:
        MemhopError: other values, or repeated ids.
    """
    ids = as_list("ids", values, count)
    for place, name in enumerate(ids):
        if isinstance(name, str):
            _check_text("ids", place, name)
        elif type(name) is not int or not _LEAST_INT <= name <= _MOST_INT:
            raise MemhopError(
                f"ids: expected a text or an integer of 64 bits, got {shown(name)} at {place}"
            )
    if distinct and len(set(ids)) < len(ids):
        seen: set[Id] = set()
        repeated = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise MemhopError(f"ids: expected distinct ids, got {shown(repeated)} twice")
    return ids


def check_texts(values: Any, *, may_lack: bool) -> list[str | None]:
    """Return texts that UTF-8 can encode, or also None where a text may be missing.

    Raises:
        MemhopError: other values.
    """
    texts = as_list("texts", values)
    for place, text in enumerate(texts):
        if isinstance(text, str):
            _check_text("texts", place, text)
        elif text is not None or not may_lack:
            raise MemhopError(f"texts: expected a text, got {shown(text)} at {place}")
    return texts


def check_payloads(values: Any, count: int) -> list[str | None]:
    """Return payloads as JSON, or None where there is none.

    Raises:
        MemhopError: a value that is no mapping, or that JSON does not give back as it was.
    """
    return [
        None if payload is None else _to_json(place, payload)
        for place, payload in enumerate(as_list("payloads", values, count))
    ]


def check_times(values: Any, count: int) -> list[float]:
    """Return times as floats.

    Raises:
        MemhopError: values that are no finite numbers.
    """
    return [
        check_time(f"times, at {place}", value)
        for place, value in enumerate(as_list("times", values, count))
    ]


def check_time(name: str, value: Any) -> float:
    """Return a time as a float.

    Raises:
        MemhopError: no finite number.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if math.isfinite(seconds):
            return seconds
    raise MemhopError(f"{name}: expected seconds since 1970, got {shown(value)}")


def from_row(values: Sequence[Any], vector: Tensor | None) -> Record:
    """Return a record from columns of an untrusted database: id, time, text, payload.

    Raises:
        MemhopError: values of other types.
    """
    name, time, text, payload = values
    is_sound = (
        type(name) in (int, str)
        and type(time) is float
        and (text is None or type(text) is str)
        and (payload is None or type(payload) is str)
    )
    content = None
    if is_sound and payload is not None:
        try:
            content = json.loads(payload)
        except (ValueError, RecursionError):
            is_sound = False
        is_sound = is_sound and isinstance(content, dict)
    if not is_sound:
        raise MemhopError(f"corrupt store: expected a record, got {shown(tuple(values))}")
    return Record(name, vector, text, content, time)


def _check_text(name: str, place: int, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        expected = f"{name}: expected a text that UTF-8 can encode"
        raise MemhopError(f"{expected}, got {text!a:.60} at {place}") from None


def _to_json(place: int, payload: Any) -> str:
    expected = f"payloads: expected a JSON object, at {place}"
    if not isinstance(payload, dict):
        raise MemhopError(f"{expected}, got {shown(payload)}")
    try:
        # Unescaped, as SQLite compares the names of fields as they are written.
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False)
        try:
            text.encode()
        except UnicodeEncodeError:  # UTF-8 has no lone surrogates
            text = json.dumps(payload, allow_nan=False)
        is_same = json.loads(text) == payload
    except (TypeError, ValueError, RecursionError) as error:
        raise MemhopError(f"{expected}: {error!s:.80}") from None
    if not is_same:  # such as a tuple, or a number as the name of a field
        raise MemhopError(f"{expected}, got {shown(payload)}, which JSON changes")
    return text
