"""The files of a store: their names, and what makes them durable."""

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memhop.errors import MemhopError

DATABASE, LOCK = "store.db", "writer.lock"
_VECTORS = re.compile(r"vectors\.([1-9][0-9]{0,17})", re.ASCII)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0)
_sync_data = getattr(os, "fdatasync", os.fsync)


def vectors_path(folder: Path, generation: int) -> Path:
    """Return the path of the vectors of a generation."""
    return folder / f"vectors.{generation}"


def generations(folder: Path) -> list[int]:
    """Return the generations of which the folder has a file of vectors."""
    with file_errors(folder, "read"):
        found = (_VECTORS.fullmatch(file.name) for file in folder.iterdir())
        return sorted(int(match[1]) for match in found if match)


@contextmanager
def file_errors(path: Path, verb: str = "written") -> Iterator[None]:
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


def open_regular(path: Path, flags: int) -> int:
    """Return a descriptor of a regular file; links are not followed.

    Raises:
        FileNotFoundError: no such file; the caller may try another generation.
        MemhopError: other errors.
    """
    with file_errors(path, "opened"):
        try:
            # O_NONBLOCK: opening a pipe would wait
            flags |= _NO_FOLLOW | _CLOSE_ON_EXEC | getattr(os, "O_NONBLOCK", 0)
            descriptor = os.open(path, flags, 0o666)
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


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, whose files become the folder ``path``, durably and atomically.

    If somebody else has created a store there meanwhile, nothing happens.

    Raises:
        MemhopError: ``path`` is a file or a folder with other files, or cannot be written.
    """
    with file_errors(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise MemhopError(f"{path}: expected a store or an empty folder, got something else")
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.absolute().parent))
        try:
            yield temporary
            for file in temporary.iterdir():
                descriptor = open_regular(file, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            temporary.chmod(0o777 & ~_umask())
            sync_folder(temporary)
            try:
                temporary.rename(path)
            except OSError:
                if not (path / DATABASE).exists():
                    raise
            sync_folder(path.absolute().parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
