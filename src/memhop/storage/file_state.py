"""Open files for reading, and notice when they change."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from memhop.errors import MemhopError
from memhop.storage.folder import file_errors


class FileState(NamedTuple):
    """What changes when a file is replaced or written: device and number, size, time."""

    device: int
    number: int
    size: int
    modified_ns: int


def file_state(file: Path | int, path: Path | None = None) -> FileState:
    """Return the state of a path or of an open descriptor; ``path`` is named in errors.

    Raises:
        MemhopError: no such file, or not a regular file.
    """
    name = path or file
    with read_errors(name):
        status = os.stat(file)  # noqa: PTH116 - a descriptor too
    if not stat.S_ISREG(status.st_mode):
        raise MemhopError(f"{name}: expected a file, got another kind")
    return FileState(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path, which leads to the same file after a change of the folder.

    Raises:
        MemhopError: a relative path, and the current folder was removed.
    """
    with read_errors(path):
        return Path(path).absolute()


@contextmanager
def opened(path: Path, optional_flags: int = 0) -> Iterator[int]:
    """Open a regular file for reading; the descriptor is closed at the end of the block.

    Args:
        path: the file.
        optional_flags: flags such as O_DIRECT, left out if the file system refuses them.

    Raises:
        MemhopError: the file is missing, is not a regular file, or cannot be read.
    """
    file_state(path)  # opening a pipe would wait
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    with read_errors(path):
        try:
            descriptor = os.open(path, flags | optional_flags)
        except OSError as error:
            if error.errno != errno.EINVAL or not optional_flags:
                raise
            descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def read_errors(path: object) -> Iterator[None]:
    """Turn errors of the system into a ``MemhopError`` of one line."""
    with file_errors(path, "read"):
        try:
            yield
        except FileNotFoundError:
            raise MemhopError(f"{path}: no such file") from None


def below_here(path: Path) -> Path:
    """Return a path relative to the current folder if it lies below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
