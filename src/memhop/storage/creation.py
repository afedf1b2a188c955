"""Create an empty store, durably and atomically: its database gets its name last."""

import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from memhop.errors import MemhopError
from memhop.storage.database import create_database
from memhop.storage.folder import (
    DATABASE,
    LOCK,
    StoreFolder,
    file_errors,
    sync_folder,
    vectors_name,
)
from memhop.storage.lock import WriterLock

_NEW = f"{DATABASE}-new"
_DATABASES = tuple(f"{_NEW}{suffix}" for suffix in ("", "-wal", "-shm", "-journal"))
_VECTORS = vectors_name(1)


def create_store(path: Path, dim: int, dtype: str) -> None:
    """Create an empty store in a new or an empty folder; nothing if there is a store already.

    Raises:
        MemhopError: the folder has other files, another process creates a store, or it cannot be
            written.
    """
    with file_errors(path):
        if path.exists() and not path.is_dir():
            raise _not_empty(path)
        _make_folders(path)
        folder = StoreFolder(path)
        try:
            if DATABASE in folder.names():
                return
            if not set(folder.names()) <= {LOCK, _VECTORS, *_DATABASES} or folder.size(_VECTORS):
                raise _not_empty(path)  # these may be left by a creation that was killed
            lock = WriterLock(folder)
            try:
                if DATABASE not in folder.names():
                    _write(folder, dim, dtype)
            finally:
                lock.release()
        finally:
            folder.close()


def _not_empty(path: Path) -> MemhopError:
    return MemhopError(f"{path}: expected a store or an empty folder, got something else")


def _make_folders(path: Path) -> None:
    """Create a folder and its parents; their names are on the device when this returns."""
    missing = [*takewhile(lambda each: not each.exists(), (path, *path.parents))]
    with suppress(OSError):  # a killed process may have made it, but may be not ours to sync
        sync_folder([path, *path.parents][len(missing)].parent)
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _write(folder: StoreFolder, dim: int, dtype: str) -> None:
    for name in _DATABASES:
        folder.remove(name)
    create_database(folder.path / _NEW, dim, dtype)
    folder.check_path()  # SQLite found it by the path
    _sync_files(folder, (LOCK, _VECTORS, _NEW))
    folder.sync()  # the name of the database comes after those of the other files
    folder.rename(_NEW, DATABASE)
    folder.sync()


def _sync_files(folder: StoreFolder, names: Iterable[str]) -> None:
    for name in names:
        descriptor = folder.open(name, os.O_RDWR | os.O_CREAT)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
