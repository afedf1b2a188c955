"""Filters by fields of the payload and by time, evaluated in SQLite."""

import json
import math
import re
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memhop.errors import MemhopError, shown
from memhop.storage.record import check_time

_MAX_FIELDS, _MAX_VALUES = 100, 10_000  # SQLite limits the depth and the values of a condition
_ROWS_AT_ONCE = 2**22
_ESCAPED = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')
# As JSON: the text of SQLite would end at a NUL character.
_EXACT = "payload -> ? IN ({places})"
_NUMBER = "json_type(payload, ?) IN ('integer', 'real') AND json_extract(payload, ?) IN ({places})"


class Filter(NamedTuple):
    """A condition of SQL with its values, and whether it asks for a field of the payload."""

    condition: str
    values: tuple[Any, ...]
    has_fields: bool


def filter_of(where: Mapping[str, Any] | None, since: Any, until: Any) -> Filter | None:
    """Return the filter of these arguments, or None if they ask for nothing.

    Args:
        where: values by the names of fields; "a.b" is the field b of the object a. The field has
            the value, or one of a list: texts, numbers, True, False or None (the null of JSON).
            At most 100 fields, and 10,000 values of all of them.
        since, until: since <= time < until.

    Raises:
        MemhopError: other names or values.
    """
    conditions: list[str] = []
    values: list[Any] = []
    for sign, name, time in ((">=", "since", since), ("<", "until", until)):
        if time is not None:
            conditions.append(f"time {sign} ?")
            values.append(check_time(name, time))
    if where is not None and not isinstance(where, Mapping):
        raise MemhopError(f"where: expected values by names of fields, got {shown(where)}")
    fields = dict(where or {})
    if len(fields) > _MAX_FIELDS:
        raise MemhopError(f"where: expected at most {_MAX_FIELDS} fields, got {len(fields)}")
    num_options = 0
    for name, wanted in fields.items():
        options = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
        num_options += len(options)
        if num_options > _MAX_VALUES:
            raise MemhopError(f"where: expected at most {_MAX_VALUES} values, got {num_options}")
        conditions.append(_is_one_of(_path(name), _by_kind(name, options), values))
    if not conditions:
        return None
    return Filter(" AND ".join(conditions), tuple(values), bool(where))


def matching(connection: sqlite3.Connection, chosen: Filter, num_rows: int) -> NDArray[np.bool_]:
    """Return whether each of the first rows passes a filter, bool [num_rows]."""
    condition = chosen.condition
    if chosen.has_fields:
        condition = f"payload IS NOT NULL AND {condition}"
    mask = np.zeros(num_rows, dtype=np.bool_)
    for first in range(0, num_rows, _ROWS_AT_ONCE):
        # One text of all numbers: fetching each row takes ten times as long.
        (found,) = connection.execute(
            "SELECT group_concat(row) FROM rows "
            f"WHERE row >= ? AND row < ? AND num_rows = 1 AND {condition}",
            (first, min(first + _ROWS_AT_ONCE, num_rows), *chosen.values),
        ).fetchone()
        if found is not None:
            mask[np.fromstring(found, dtype=np.int64, sep=",")] = True
    if not chosen.has_fields:
        for row, count in connection.execute(
            f"SELECT row, num_rows FROM rows WHERE row < ? AND num_rows > 1 AND {condition}",
            (num_rows, *chosen.values),
        ):
            if row < 0 or type(count) is not int:
                raise MemhopError("corrupt store: expected rows from 0 on, got others")
            mask[row : row + count] = True
    return mask


def _path(name: Any) -> str:
    # JSON escapes these characters, and SQLite compares names as they are written.
    if isinstance(name, str) and not _ESCAPED.search(name) and "" not in name.split("."):
        return "$" + "".join(f'."{part}"' for part in name.split("."))
    expected = "where: expected names of fields without quotes, backslashes and control characters"
    raise MemhopError(f"{expected}, got {shown(name)}")


def _by_kind(name: str, options: list[Any]) -> dict[str, list[Any]]:
    """Return the values by the condition that finds those of their kind."""
    found: dict[str, list[Any]] = {}
    found_by: list[Any]
    for option in options:
        if option is None or isinstance(option, bool):
            kind, found_by = _EXACT, [json.dumps(option)]
        elif isinstance(option, int | float):
            kind, found_by = _NUMBER, [option if abs(option) < 2**63 else _as_float64(option)]
        elif isinstance(option, str):
            # a payload with a lone surrogate is stored in ASCII
            kind, found_by = _EXACT, list({json.dumps(option), _unescaped(option)})
        else:
            expected = f"texts, numbers, True, False or None for {name!r:.60}"
            raise MemhopError(f"where: expected {expected}, got {shown(option)}")
        found.setdefault(kind, []).extend(found_by)
    return found


def _as_float64(number: float) -> float:
    """Return a number as SQLite reads it from JSON; an integer may be infinite there."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _unescaped(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)


def _is_one_of(path: str, by_kind: Mapping[str, list[Any]], values: list[Any]) -> str:
    """Return the condition that a field has one of these values, which are appended."""
    alternatives = ["FALSE"]
    for condition, some in by_kind.items():
        alternatives.append(condition.format(places=", ".join("?" * len(some))))
        values += [path] * (condition.count("?")) + some
    return f"({' OR '.join(alternatives)})"
