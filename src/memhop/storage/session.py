"""An open store: its lock, its database and the file of its generation."""

import ctypes
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memhop.errors import MemhopError
from memhop.storage.database import DTYPES, Database, State
from memhop.storage.folder import (
    StoreFolder,
    check_files,
    file_errors,
    vectors_name,
    vectors_path,
)
from memhop.storage.lock import WriterLock
from memhop.storage.vector_file import RowFormat, VectorFile

RETRIES = 20  # of a reader, whose generation may be removed while it opens the file


class GenerationRemovedError(Exception):
    """The writer has removed the generation that a reader found; to be read again."""


class Session:
    """An open store, for one process and any number of threads.

    Args:
        path: of the folder; absolute.
        read_only: False takes the lock of the writer and removes what was not committed.

    Raises:
        MemhopError: no store, a corrupt one, or one with another writer.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.is_read_only = read_only
        self._process = os.getpid()
        self._guard = threading.RLock()
        self._vectors: tuple[int, VectorFile] | None = None
        self._database: Database | None = None
        self._lock: WriterLock | None = None
        check_files(path)
        self.folder = StoreFolder(path)
        try:
            self._lock = None if read_only else WriterLock(self.folder)
            self._database = Database(self.folder, read_only=read_only)
            with self.reading() as (state, _):
                self.form = RowFormat(state.dim, DTYPES[state.dtype])
            if not read_only:
                self._recover()
        except BaseException:
            self.close()
            raise

    @property
    def database(self) -> Database:
        """The database of the open store.

        Raises:
            MemhopError: the store is closed, or was opened by the parent of this process.
        """
        self._check_process()
        if self._database is None:
            raise MemhopError(f"{self.folder}: the store is closed")
        return self._database

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for statements within `reading` or `writing`."""
        return self.database.connection

    @contextmanager
    def reading(self) -> Iterator[tuple[State, VectorFile]]:
        """Read what is committed; nothing changes until the end of the block."""
        with self.exclusive():
            for retry in range(RETRIES + 1):
                with self.database.reading() as state:
                    try:
                        vectors = self._open_vectors(state)
                    except FileNotFoundError:
                        if retry < RETRIES:
                            continue  # the writer has compacted the store
                        path = vectors_path(self.folder.path, state.generation)
                        raise MemhopError(f"{path}: corrupt store: no such file") from None
                    yield state, vectors
                    return

    @contextmanager
    def writing(self) -> Iterator[tuple[State, VectorFile]]:
        """Write; all of it is durable at the end of the block, or none of it is stored.

        Raises:
            MemhopError: the store was opened to read only.
        """
        with self.exclusive():
            database = self.database
            if self.is_read_only:
                raise MemhopError(f"{self.folder}: the store was opened with read_only=True")
            with database.writing() as state:
                vectors = self._open_vectors(state)
                try:
                    yield state, vectors
                except BaseException:
                    with suppress(OSError):
                        vectors.truncate(state.num_rows)
                    raise

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep the other threads of this process out.

        Raises:
            MemhopError: the store was opened by the parent of this process.
        """
        self._check_process()  # a fork may copy the guard locked, and nobody releases it here
        with self._guard:
            yield

    def close(self) -> None:
        """Close the store; in a forked child, leave that of the parent alone."""
        if os.getpid() != self._process:
            database, self._database = self._database, None
            if database is not None:
                # SQLite may not even close a connection of the parent.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(database.connection))
            return
        with self._guard:
            database, self._database = self._database, None
            vectors, self._vectors = self._vectors, None
            if vectors is not None:
                vectors[1].close()
            if database is not None:
                database.close()
            if self._lock is not None:
                self._lock.release()
            self.folder.close()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise MemhopError(
                f"{self.folder}: expected the process that opened the store, got a forked one: "
                "open the store again"
            )

    def _open_vectors(self, state: State) -> VectorFile:
        if self._vectors is None or self._vectors[0] != state.generation:
            form = RowFormat(state.dim, DTYPES[state.dtype])
            flags = os.O_RDONLY if self.is_read_only else os.O_RDWR
            opened = VectorFile(self.folder, state.generation, form, flags)
            if self._vectors is not None:
                self._vectors[1].close()
            self._vectors = state.generation, opened
        self._vectors[1].check_size(state.num_rows)
        return self._vectors[1]

    def _recover(self) -> None:
        """Remove what a killed writer has not committed."""
        # First make durable what it has committed: the files of that must not be removed.
        self.database.sync()
        with self.reading() as (state, vectors), file_errors(self.folder.path):
            vectors.truncate(state.num_rows)
            for generation in self.folder.generations():
                if generation != state.generation:
                    self.folder.remove(vectors_name(generation))
