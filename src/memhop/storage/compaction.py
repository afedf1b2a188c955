"""A new generation of a store without the dead rows."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from memhop.storage.database import TABLES
from memhop.storage.entries import Entry, entries_between, insert
from memhop.storage.folder import file_errors, vectors_name
from memhop.storage.vector_file import VectorFile

_PART_BYTES = 2**24
_ENTRIES_AT_ONCE = 10_000
_INDICES = ("rows_by_id", "runs_by_id")


def copy_live(old: VectorFile, dead: NDArray[np.bool_]) -> None:
    """Write the rows that are not dead as the next generation, and wait until it is on the device.

    Raises:
        MemhopError: it cannot be written; then no file is left.
    """
    folder, form, generation = old.folder, old.form, old.generation + 1
    step = max(1, _PART_BYTES // form.row_bytes)
    with file_errors(folder.path / vectors_name(generation)):
        new = VectorFile(folder, generation, form, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            end = 0
            for first in range(0, len(dead), step):
                last = min(first + step, len(dead))
                rows = np.frombuffer(old.read_range(first, last), dtype=np.uint8)
                live = rows.reshape(-1, form.row_bytes)[~dead[first:last]]
                new.write_part(end, live.reshape(-1).data)
                end += live.size
            new.sync()
            folder.sync()
        except BaseException:
            with suppress(OSError):
                folder.remove(vectors_name(generation))
            raise
        finally:
            new.close()


def renumber(connection: sqlite3.Connection, dead: NDArray[np.bool_]) -> None:
    """Give the rows that are not dead their numbers in the new file, and remove the others."""
    live = ~dead
    number = np.cumsum(live) - 1  # of a live row in the new file
    first, last = int(dead.argmax()), len(dead)
    for index in _INDICES:  # sorting all at the end is faster than moving each
        connection.execute(f"DROP INDEX {index}")
    while first < last:
        moved: list[tuple[int, int]] = []
        removed: list[tuple[int]] = []
        added: list[Entry] = []
        for entry in _some_entries(connection, first, last):
            begin, end = entry.row, min(entry.row + entry.num_rows, last)
            first = end
            if entry.num_rows > 1:
                removed.append((begin,))
                added += _runs(entry, live[begin:end], number)
            elif live[begin]:
                moved.append((int(number[begin]), begin))
            else:
                removed.append((begin,))
        # A row moves to a smaller number, whose former owner has moved or is removed.
        connection.executemany("DELETE FROM rows WHERE row = ?", removed)
        connection.executemany("UPDATE rows SET row = ? WHERE row = ?", moved)
        insert(connection, added)
    connection.execute("DELETE FROM tombstones")
    for index in _INDICES:
        connection.execute(TABLES[index])


def _some_entries(connection: sqlite3.Connection, first: int, last: int) -> list[Entry]:
    found = entries_between(connection, first, last)
    return [entry for _, entry in zip(range(_ENTRIES_AT_ONCE), found, strict=False)]


def _runs(entry: Entry, live: NDArray[np.bool_], number: NDArray[np.int64]) -> Iterator[Entry]:
    """Yield the entries of the parts of an entry that are not dead."""
    assert isinstance(entry.id, int)
    padded = np.concatenate([[False], live, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2).tolist()
    for begin, end in edges:
        row = int(number[entry.row + begin])
        yield Entry(row, end - begin, entry.id + begin, entry.time)
