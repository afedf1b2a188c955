"""The SQLite side of a store: its schema, its connection, transactions."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import torch

from memhop.errors import MemhopError, shown
from memhop.storage.file_state import file_state
from memhop.storage.folder import (
    CORRUPT,
    DATABASE,
    StoreFolder,
    check_files,
    file_errors,
    may_write,
)

SCHEMA = 1
APPLICATION_ID = 0x6D656D68  # "memh"
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}
MAX_DIM = 1_000_000
_MAX_ROWS = 2**48
_BUSY_SECONDS = 30.0

# One entry of `rows` represents `num_rows` rows with consecutive ids; only an entry of one row has
# a text or a payload. `id` has no type: 1 and "1" are different ids.
TABLES = {
    "state": "CREATE TABLE state (dim INTEGER, dtype TEXT, generation INTEGER, num_rows INTEGER, "
    "num_live INTEGER, next_id INTEGER, num_syncs INTEGER)",
    "rows": "CREATE TABLE rows (row INTEGER PRIMARY KEY, num_rows INTEGER, id, time REAL, "
    "text TEXT, payload TEXT)",
    "rows_by_id": "CREATE INDEX rows_by_id ON rows (id)",
    "runs_by_id": "CREATE INDEX runs_by_id ON rows (id) WHERE num_rows > 1",
    "tombstones": "CREATE TABLE tombstones (block INTEGER PRIMARY KEY, bits BLOB)",
}


class State(NamedTuple):
    """The row of the table ``state``.

    Attributes:
        dim, dtype: of the vectors; the dtype by its name.
        generation: which file has the vectors.
        num_rows: committed rows of that file, with the dead ones.
        num_live: rows that are not dead.
        next_id: the next automatic id.
    """

    dim: int
    dtype: str
    generation: int
    num_rows: int
    num_live: int
    next_id: int


def create_database(path: Path, dim: int, dtype: str) -> None:
    """Write the database of an empty store; it is durable but for its name."""
    with sqlite_errors(path):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA page_size = 4096")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in TABLES.values():
                connection.execute(statement)
            connection.execute("INSERT INTO state VALUES (?, ?, 1, 0, 0, 0, 0)", (dim, dtype))
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute("COMMIT")
        finally:
            connection.close()


_SELECT_STATE = f"SELECT {', '.join(State._fields)} FROM state LIMIT 2"


class Database:
    """A connection to the database of a store, verified on opening.

    Args:
        folder: of the store.
        read_only: whether to write nothing. A folder without write permission is read too.

    Raises:
        MemhopError: no database of a store, another schema, or one that cannot be opened.
    """

    def __init__(self, folder: StoreFolder, *, read_only: bool) -> None:
        self.path = folder.path / DATABASE
        self._folder = folder
        self._read_only = read_only
        self._is_immutable = False
        self._connection: sqlite3.Connection | None = None
        self._is_uncertain = False
        self._open()

    def _open(self) -> None:
        check_files(self._folder.path)
        self._opened_state = file_state(self.path)
        has_log = self._has_log()
        self._is_immutable = self._read_only and not has_log and not may_write(self._folder.path)
        mode = "ro" if self._read_only else "rw"
        # Without a log nobody writes, and SQLite needs no files of its own to read. But it takes no
        # locks then, and does not notice a later writer: `reading` compares the file instead.
        options = f"mode={mode}&immutable=1" if self._is_immutable else f"mode={mode}"
        uri = f"file:{quote(os.fsencode(self.path))}?{options}"
        with sqlite_errors(self.path):
            connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
            )
            try:
                self._folder.check_path()  # SQLite finds its files by the path
                _configure(connection)
                _check_schema(connection, self.path, self._is_immutable)
                if not self._read_only:
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute("PRAGMA secure_delete = ON")
            except BaseException:
                connection.close()
                raise
            self._connection = connection

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for statements within a transaction."""
        assert self._connection is not None
        return self._connection

    @contextmanager
    def reading(self) -> Iterator[State]:
        """Read in one transaction; yield the state at its begin.

        Raises:
            MemhopError: a corrupt store, or one that a writer changed during the block although
                it had no log at the begin, and the reader may not write.
        """
        if self._connection is None or (self._is_immutable and self._may_have_changed()):
            self.close()
            self._open()
        with sqlite_errors(self.path):
            self.connection.execute("BEGIN")
            try:
                yield self._state()
            except (MemhopError, sqlite3.Error):
                self._check_unchanged()  # pages of different times look like a corrupt store
                raise
            finally:
                self._roll_back()
            self._check_unchanged()

    @contextmanager
    def writing(self) -> Iterator[State]:
        """Write in one transaction, which is durable at the end of the block; yield the state.

        After an error in the block, nothing of it is stored.
        """
        with sqlite_errors(self.path):
            if self._is_uncertain:
                self.sync()
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._state()
                self._commit()
            finally:
                self._roll_back()

    def sync(self) -> None:
        """Make all that can be read durable, and overwrite the log of a commit that failed."""
        with sqlite_errors(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                # SQLite would write nothing for a row that does not change.
                self.connection.execute("UPDATE state SET num_syncs = num_syncs + 1")
                self._commit()
                self._is_uncertain = False
            finally:
                self._roll_back()

    def _commit(self) -> None:
        # A commit that fails may be in the log, and may come back if the machine stops now.
        was_uncertain, self._is_uncertain = self._is_uncertain, True
        self.connection.execute("COMMIT")
        self._is_uncertain = was_uncertain

    def set_state(self, **changes: int) -> None:
        """Change columns of the state."""
        columns = ", ".join(f"{name} = :{name}" for name in changes)
        self.connection.execute(f"UPDATE state SET {columns}", changes)

    def close(self) -> None:
        """Close the connection; the last one of a store moves the log into the database."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def truncate_log(self) -> None:
        """Move the log into the database and empty it, unless a reader is at work."""
        with suppress(sqlite3.Error):
            self.connection.execute("PRAGMA busy_timeout = 0")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with suppress(sqlite3.Error):
            self.connection.execute(f"PRAGMA busy_timeout = {int(1000 * _BUSY_SECONDS)}")

    def _has_log(self) -> bool:
        return os.path.lexists(f"{self.path}-wal")

    def _may_have_changed(self) -> bool:
        return self._has_log() or file_state(self.path) != self._opened_state

    def _check_unchanged(self) -> None:
        # What a writer has only put into the log does not change what was read.
        if self._is_immutable and file_state(self.path) != self._opened_state:
            raise MemhopError(f"{self.path}: a writer changed the store during a read: read again")

    def _state(self) -> State:
        found = self.connection.execute(_SELECT_STATE).fetchall()
        if len(found) != 1:
            raise MemhopError(f"{self.path}: corrupt store: expected one state, got others")
        state = State(*found[0])
        numbers = (state.dim, *state[2:])
        if not (
            all(type(number) is int for number in numbers)
            and 1 <= state.dim <= MAX_DIM
            and state.dtype in DTYPES
            and 1 <= state.generation < 2**59
            and 0 <= state.num_live <= state.num_rows <= _MAX_ROWS
            and state.next_id >= 0
        ):
            raise MemhopError(f"{self.path}: corrupt store: impossible state {shown(found[0])}")
        return state

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the system into a ``MemhopError`` of one line."""
    with file_errors(path, "used"):
        try:
            yield
        except MemhopError as error:
            if not str(error).startswith(CORRUPT):
                raise
            raise MemhopError(f"{path}: {error}") from None
        except sqlite3.Error as error:
            reason = " ".join(str(error).split())
            raise MemhopError(f"{path}: SQLite: {reason:.200}") from error


def _configure(connection: sqlite3.Connection) -> None:
    # Before the schema is read: a hostile file must not make SQLite call functions.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA mmap_size = 0")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -65536")  # 64 MiB
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)


def _check_schema(connection: sqlite3.Connection, path: Path, is_immutable: bool) -> None:
    found = {name: _pragma(connection, name) for name in ("application_id", "user_version")}
    if found["application_id"] != APPLICATION_ID:
        raise MemhopError(f"{path}: expected the database of a store, got another one")
    version = found["user_version"]
    if version != SCHEMA:
        newer = ": written by a newer version of memhop" if version > SCHEMA else ""
        raise MemhopError(f"{path}: expected schema {SCHEMA}, got {version}{newer}")
    schema = dict(connection.execute("SELECT name, sql FROM sqlite_schema LIMIT 100").fetchall())
    if schema != TABLES:
        odd = sorted(str(name) for name in dict(schema.items() ^ TABLES.items()))
        raise MemhopError(f"{path}: missing or unexpected tables: {', '.join(odd):.200}")
    # "delete" is what SQLite says of a database that it takes as immutable.
    if _pragma(connection, "journal_mode") not in ("wal", "delete" if is_immutable else "wal"):
        raise MemhopError(f"{path}: expected a database in WAL mode, got another one")


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
