"""The table ``rows``: which row has which id, text, payload and time.

An entry represents one row, or for several that were added with automatic ids and nothing else:
their ids are consecutive. The live row of an id is the newest one, unless it is dead.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from memhop.errors import MemhopError
from memhop.storage.record import Id, Record, from_row

_IDS_AT_ONCE = 250
# Ids of a batch as (?), (?), ...: SQLite compares them exactly, also those with NUL characters.
_NEWEST = """
WITH wanted(id) AS (VALUES {places})
SELECT coalesce(
    (SELECT max(row) FROM rows WHERE id = wanted.id),
    (SELECT CASE WHEN wanted.id - id < num_rows THEN row + wanted.id - id END FROM rows
     WHERE num_rows > 1 AND id <= wanted.id AND typeof(wanted.id) = 'integer'
     ORDER BY id DESC LIMIT 1)
) FROM wanted"""


class Entry(NamedTuple):
    """A row of the table: ``num_rows`` rows from ``row`` on, with ids from ``id`` on."""

    row: int
    num_rows: int
    id: Id
    time: float
    text: str | None = None
    payload: str | None = None


def insert(connection: sqlite3.Connection, entries: Iterable[Sequence[Any]]) -> None:
    """Insert entries."""
    connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)", entries)


def newest_rows(connection: sqlite3.Connection, ids: Sequence[Id]) -> list[int | None]:
    """Return the newest row of each id, dead or live; None for an id that was never stored."""
    rows: list[int | None] = []
    for begin in range(0, len(ids), _IDS_AT_ONCE):
        some = ids[begin : begin + _IDS_AT_ONCE]
        places = ", ".join(["(?)"] * len(some))
        rows += [row for (row,) in connection.execute(_NEWEST.format(places=places), some)]
    return rows


def entry_at(connection: sqlite3.Connection, row: int) -> Entry:
    """Return the entry that has a row.

    Raises:
        MemhopError: a corrupt store, in which none has it.
    """
    return next(entries_between(connection, row, row + 1))


def record_at(connection: sqlite3.Connection, row: int) -> Record:
    """Return the record of a row, without its vector."""
    entry = entry_at(connection, row)
    name = entry.id + row - entry.row if isinstance(entry.id, int) else entry.id
    return from_row((name, entry.time, entry.text, entry.payload), None)


def entries_between(connection: sqlite3.Connection, first: int, last: int) -> Iterator[Entry]:
    """Yield the entries that have the rows ``first`` to ``last - 1``, in their order.

    Raises:
        MemhopError: a corrupt store, in which a row has no entry.
    """
    expected = None
    for values in connection.execute(
        "SELECT row, num_rows, id, time, text, payload FROM rows WHERE row >= "
        "coalesce((SELECT max(row) FROM rows WHERE row <= ?1), ?1) AND row < ?2 ORDER BY row",
        (first, last),
    ):
        entry = Entry(*values)
        begins = entry.row == expected if expected is not None else entry.row <= first
        if not begins or not is_sound(entry):
            break
        expected = entry.row + entry.num_rows
        if expected <= first:
            break
        yield entry
    if expected is None or expected < last:
        raise MemhopError("corrupt store: expected an entry for each row, found a gap")


def is_sound(entry: Entry) -> bool:
    """Return whether the numbers of an entry of an untrusted database are possible."""
    is_run = type(entry.num_rows) is int and entry.num_rows > 1
    return entry.num_rows == 1 or (is_run and type(entry.id) is int)


def ids_between(connection: sqlite3.Connection, first: int, last: int) -> list[Id]:
    """Return the ids of the rows ``first`` to ``last - 1``."""
    ids: list[Id] = []
    if first >= last:
        return ids
    for entry in entries_between(connection, first, last):
        if entry.num_rows == 1:
            ids.append(entry.id)
        else:
            assert isinstance(entry.id, int)
            begin, end = max(entry.row, first), min(entry.row + entry.num_rows, last)
            ids += range(entry.id + begin - entry.row, entry.id + end - entry.row)
    return ids
