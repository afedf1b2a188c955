"""The files of a store: their names, and what makes them durable."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memhop.errors import MemhopError

CORRUPT = "corrupt store"  # errors that begin so get the path of the database
DATABASE, LOCK = "store.db", "writer.lock"
_VECTORS = re.compile(r"vectors\.([1-9][0-9]{0,17})", re.ASCII)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0)
_sync_data = getattr(os, "fdatasync", os.fsync)


def vectors_name(generation: int) -> str:
    """Return the name of the file of the vectors of a generation."""
    return f"vectors.{generation}"


def vectors_path(folder: Path, generation: int) -> Path:
    """Return the path of the vectors of a generation."""
    return folder / vectors_name(generation)


@contextmanager
def file_errors(path: object, verb: str = "written") -> Iterator[None]:
    """Turn errors of the system into a ``MemhopError`` of one line."""
    try:
        yield
    except MemhopError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MemhopError(f"{path}: cannot be {verb}: {reason}") from error


def check_files(folder: Path) -> None:
    """Check that the database of a store is a regular file, and that no file is a link.

    SQLite would follow a link in place of its log, and write to the file behind it. A store has no
    rollback journal; SQLite would delete files that a journal names.

    Raises:
        MemhopError: no store, or a file of another kind.
    """
    for suffix in ("", "-wal", "-shm", "-journal"):
        path = folder / f"{DATABASE}{suffix}"
        with file_errors(path, "read"):
            try:
                status = path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                if not suffix:
                    raise MemhopError(f"{folder}: expected a store, found no {DATABASE}") from None
                continue
        if suffix == "-journal":
            raise MemhopError(f"{path}: expected no rollback journal in a store")
        if not stat.S_ISREG(status.st_mode):
            raise MemhopError(f"{path}: expected a regular file, got another kind")


def may_write(folder: Path) -> bool:
    """Return whether this process may create files in a folder."""
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


class StoreFolder:
    """The open folder of a store: its files are found in it even if it is moved.

    The path may then lead to another store, whose files must stay as they are.

    Args:
        path: an absolute path, so that it does not depend on the current folder of the process.

    Raises:
        MemhopError: no folder, or one that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with file_errors(path, "opened"):
            if os.open not in os.supports_dir_fd:
                raise MemhopError(f"{path}: expected a system with descriptors of folders (POSIX)")
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _CLOSE_ON_EXEC)

    def __str__(self) -> str:
        return str(self.path)

    def check_path(self) -> None:
        """Check that the path still leads to this folder, for those who need the path.

        Raises:
            MemhopError: the folder was moved or replaced.
        """
        with file_errors(self.path, "opened"):
            opened = os.fstat(self._descriptor)
            try:
                is_same = os.path.samestat(opened, self.path.stat())
            except (FileNotFoundError, NotADirectoryError):
                is_same = False
            if not is_same:
                raise MemhopError(
                    f"{self.path}: the folder was moved or replaced since it was opened"
                )

    def names(self) -> list[str]:
        """Return the names of the files."""
        return os.listdir(self._descriptor)  # noqa: PTH208 - a descriptor

    def generations(self) -> list[int]:
        """Return the generations of which the folder has a file of vectors."""
        with file_errors(self.path, "read"):
            found = map(_VECTORS.fullmatch, self.names())
            return sorted(int(match[1]) for match in found if match)

    def open(self, name: str, flags: int) -> int:
        """Return a descriptor of a file; raise as `open_regular`."""
        return open_regular(self.path / name, flags, self._descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        os.rename(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def size(self, name: str) -> int:
        """Return the size of a file in bytes, 0 if there is none."""
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def sync(self) -> None:
        """Write the names of the files to the device."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the folder; of a closed one, do nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def open_regular(path: Path, flags: int, folder: int | None = None) -> int:
    """Return a descriptor of a regular file; links are not followed.

    Args:
        path: the file.
        flags: of ``os.open``.
        folder: a descriptor of the folder, in which only the name is looked up.

    Raises:
        FileNotFoundError: no such file; the caller may try another generation.
        MemhopError: other errors.
    """
    with file_errors(path, "opened"):
        try:
            # O_NONBLOCK: opening a pipe would wait
            flags |= _NO_FOLLOW | _CLOSE_ON_EXEC | getattr(os, "O_NONBLOCK", 0)
            name = path if folder is None else path.name
            descriptor = os.open(name, flags, 0o666, dir_fd=folder)
        except FileNotFoundError as error:
            missing = error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise MemhopError(f"{path}: expected a regular file, got a link") from None
            raise
        else:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
            raise MemhopError(f"{path}: expected a regular file, got another kind")
    raise missing


def sync_data(descriptor: int) -> None:
    """Write the content and the size of a file to the device."""
    _sync_data(descriptor)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the device."""
    descriptor = os.open(folder, os.O_RDONLY | _CLOSE_ON_EXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
