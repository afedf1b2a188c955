"""Changes of a store: rows are appended or become dead; a compaction removes the dead ones.

A change writes the vectors after the committed rows, waits until they are on the device, and
commits. Until then, a reader sees nothing of it.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import repeat
from typing import NamedTuple

from memhop.errors import MemhopError, shown
from memhop.storage.compaction import copy_live, renumber
from memhop.storage.entries import Entry, entry_at, insert, newest_rows
from memhop.storage.folder import StoreFolder, file_errors, vectors_name
from memhop.storage.record import Id, check_ids
from memhop.storage.session import Session
from memhop.storage.tombstones import are_dead, bury, dead_mask

_LAST_ID = 2**63 - 1


class Contents(NamedTuple):
    """What rows hold, checked; None where it is not given.

    Attributes:
        vectors: the bytes of the rows.
        texts: texts.
        payloads: JSON.
        times: seconds since 1970.
    """

    vectors: memoryview | None
    texts: Sequence[str | None] | None
    payloads: Sequence[str | None] | None
    times: Sequence[float] | None


def append(session: Session, count: int, ids: Sequence[Id] | None, contents: Contents) -> list[Id]:
    """Add rows; return their ids.

    Raises:
        MemhopError: an id is live, or the store cannot be written.
    """
    with session.writing() as (state, vectors):
        first, next_id = state.num_rows, state.next_id
        if ids is None:
            if next_id + count > _LAST_ID:
                raise MemhopError("ids: expected fewer rows, got no more automatic ids")
            names: Sequence[Id] = range(next_id, next_id + count)
            next_id += count
        else:
            names = ids
            _check_unused(session, names)
            numbers = [name for name in names if isinstance(name, int)]
            next_id = max(next_id, min(max(numbers, default=-1) + 1, _LAST_ID))
        assert contents.vectors is not None
        with file_errors(vectors.path):
            vectors.write(first, contents.vectors)
        insert(session.connection, _entries(first, names, ids is None, contents))
        session.database.set_state(
            num_rows=first + count, num_live=state.num_live + count, next_id=next_id
        )
    return list(names)


def replace(session: Session, ids: Sequence[Id], contents: Contents) -> None:
    """Append rows with what is given and the rest of the live rows of the ids, which become dead.

    Raises:
        MemhopError: an id is not live, or the store cannot be written.
    """
    with session.writing() as (state, vectors):
        rows, first = live_rows(session, ids), state.num_rows
        content = contents.vectors
        if content is None:
            content = memoryview(vectors.read(rows))
        entries = _replaced(session, first, rows, ids, contents)
        with file_errors(vectors.path):
            vectors.write(first, content)
        insert(session.connection, entries)
        bury(session.connection, rows)
        session.database.set_state(num_rows=first + len(rows))


def remove(session: Session, ids: Sequence[Id]) -> int:
    """Make the live rows of ids dead; return their number.

    Raises:
        MemhopError: an id is not live, or the store cannot be written.
    """
    with session.writing() as (state, _):
        rows = live_rows(session, ids)
        bury(session.connection, rows)
        session.database.set_state(num_live=state.num_live - len(rows))
    return len(rows)


def compact(session: Session) -> None:
    """Write a new generation without the dead rows, if there are any.

    Raises:
        MemhopError: the store cannot be written; it is then as it was.
    """
    with session.exclusive():
        with session.writing() as (state, vectors):
            dead = dead_mask(session.connection, state.num_rows)
            if dead is None or not dead.any():
                return
            copy_live(vectors, dead)
            with _removed_after_error(session.folder, vectors_name(state.generation + 1)):
                renumber(session.connection, dead)
                session.database.set_state(
                    generation=state.generation + 1, num_rows=int((~dead).sum())
                )
        with suppress(OSError):  # the next writer removes it
            session.folder.remove(vectors_name(state.generation))
        session.database.truncate_log()


@contextmanager
def _removed_after_error(folder: StoreFolder, name: str) -> Iterator[None]:
    """Remove a file if the block raises an error."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            folder.remove(name)
        raise


def is_live(session: Session, name: object) -> bool:
    """Return whether a live row has an id; False for a value that is no id."""
    try:
        [checked] = check_ids([name])
    except MemhopError:
        return False
    [row] = newest_rows(session.connection, [checked])
    return row is not None and not any(are_dead(session.connection, [row]))


def live_rows(session: Session, ids: Sequence[Id]) -> list[int]:
    """Return the live row of each id.

    Raises:
        MemhopError: an id has none; it is named.
    """
    found = newest_rows(session.connection, ids)
    rows = [row for row in found if row is not None]
    if len(rows) == len(ids):
        dead = are_dead(session.connection, rows)
        if not any(dead):
            return rows
        unknown = ids[dead.index(True)]
    else:
        unknown = ids[found.index(None)]
    raise MemhopError(f"{session.folder}: no such id: {shown(unknown)}")


def _check_unused(session: Session, ids: Sequence[Id]) -> None:
    newest = zip(ids, newest_rows(session.connection, ids), strict=True)
    found = [(name, row) for name, row in newest if row is not None]
    dead = are_dead(session.connection, [row for _, row in found])
    for (name, _), is_dead in zip(found, dead, strict=True):
        if not is_dead:
            raise MemhopError(
                f"{session.folder}: expected new ids, got {shown(name)}, which is in the store"
            )


def _entries(
    first: int, ids: Sequence[Id], is_automatic: bool, contents: Contents
) -> Iterator[Entry] | list[Entry]:
    _, texts, payloads, times = contents
    now = time.time()
    if is_automatic and texts is None and payloads is None and times is None:
        return [Entry(first, len(ids), ids[0], now)]
    columns = (times or repeat(now), texts or repeat(None), payloads or repeat(None))
    return map(Entry, range(first, first + len(ids)), repeat(1), ids, *columns)


def _replaced(
    session: Session, first: int, rows: Sequence[int], ids: Sequence[Id], contents: Contents
) -> list[Entry]:
    _, texts, payloads, times = contents
    entries = []
    for place, (row, name) in enumerate(zip(rows, ids, strict=True)):
        old = entry_at(session.connection, row)
        entries.append(Entry(
            first + place,
            1,
            name,
            old.time if times is None else times[place],
            old.text if texts is None else texts[place],
            old.payload if payloads is None else payloads[place],
        ))  # fmt: skip
    return entries
