"""Filters by fields of the payload and by time, evaluated in SQLite."""

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memhop.errors import MemhopError, shown
from memhop.storage.record import check_time

_MAX_VALUES = 10_000


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
    for name, wanted in (where or {}).items():
        path = _path(name)
        options = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
        if len(options) > _MAX_VALUES:
            raise MemhopError(f"where: expected at most {_MAX_VALUES} values, got {len(options)}")
        alternatives = ["FALSE"]
        for option in options:
            alternatives.append(_equals(name, option, values, path))
        conditions.append(f"({' OR '.join(alternatives)})")
    if not conditions:
        return None
    return Filter(" AND ".join(conditions), tuple(values), bool(where))


def matching(connection: sqlite3.Connection, chosen: Filter, num_rows: int) -> NDArray[np.bool_]:
    """Return whether each of the first rows passes a filter, bool [num_rows]."""
    condition = chosen.condition
    if chosen.has_fields:
        condition = f"payload IS NOT NULL AND {condition}"
    found: NDArray[np.int64] = np.fromiter(
        connection.execute(
            f"SELECT row, num_rows FROM rows WHERE row < ? AND {condition}",
            (num_rows, *chosen.values),
        ),
        dtype=np.dtype((np.int64, 2)),
    )
    mask = np.zeros(num_rows, dtype=np.bool_)
    rows, counts = found.reshape(-1, 2).T
    if len(rows) and (rows.min() < 0 or counts.min() < 1):
        raise MemhopError("corrupt store: expected rows from 0 on, got others")
    mask[rows] = True
    for run in (counts > 1).nonzero()[0]:
        mask[rows[run] : rows[run] + counts[run]] = True
    return mask


def _path(name: Any) -> str:
    if not isinstance(name, str) or '"' in name or "\\" in name or "" in name.split("."):
        raise MemhopError(
            f"where: expected names of fields without quotes and backslashes, got {shown(name)}"
        )
    return "$" + "".join(f'."{part}"' for part in name.split("."))


def _equals(name: str, option: Any, values: list[Any], path: str) -> str:
    """Return the condition that a field has a value; append its values."""
    if option is None or isinstance(option, bool):
        values += [path, "null" if option is None else str(option).lower()]
        return "json_type(payload, ?) = ?"
    if isinstance(option, int | float):
        number = option if isinstance(option, float) or abs(option) < 2**63 else float(option)
        values += [path, path, number]
        return "json_type(payload, ?) IN ('integer', 'real') AND json_extract(payload, ?) = ?"
    if isinstance(option, str):
        values += [path, path, option]
        return "json_type(payload, ?) = 'text' AND json_extract(payload, ?) = ?"
    raise MemhopError(
        f"where: expected texts, numbers, True, False or None for {name!r:.60}, got {shown(option)}"
    )
