"""Write files atomically."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from memhop.errors import MemhopError
from memhop.lines import printable


def check_writable(folder: Path) -> None:
    """Check that files can be created in ``folder``, or the folder itself if it does not exist.

    Call it before long work whose result is written there. It leaves no file.

    Raises:
        MemhopError: a file has the name of the folder or of a parent, or writing is not permitted.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     check_writable(Path(folder, "new", "below"))
    """
    try:
        parent = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
        # os.access ignores quotas and is wrong on network file systems.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MemhopError(f"{folder}: cannot be written to: {reason}") from None


@contextmanager
def atomic_write(path: Path, *, replace: bool = True) -> Iterator[TextIO]:
    r"""Open a temporary text file that replaces ``path`` at the end of the block.

    After an error the old file stays. Folders and devices are never replaced.

    Args:
        path: the file.
        replace: whether the file may exist, now or at the end of the block.

    Raises:
        MemhopError: the file cannot be written, or exists.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder, "a.txt")) as file:
    ...         _ = file.write("all of it\n")
    ...     print(Path(folder, "a.txt").read_text(), end="")
    all of it
    """
    with (
        _replaced(path, replace) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        yield file


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file; see `atomic_write`.

    Raises:
        MemhopError: the file cannot be written.
    """
    with _replaced(path) as temporary:
        temporary.write_bytes(content)


def check_new(path: Path) -> None:
    """Raise MemhopError if a file exists."""
    if os.path.lexists(path):
        raise MemhopError(f"{printable(path)}: already exists; give another name")


def rename_new(path: Path, target: Path) -> None:
    """Rename a file, but never over another one.

    Raises:
        MemhopError: ``target`` exists.
        OSError: the file cannot be renamed.
    """
    try:
        os.link(path, target)  # unlike a rename, never replaces a file
    except FileExistsError:
        check_new(target)
        raise
    except (OSError, NotImplementedError):  # a file system without hard links
        check_new(target)
        path.replace(target)
    else:
        path.unlink()


@contextmanager
def _replaced(path: Path, replace: bool = True) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces ``path`` at the end of the block."""
    temporary = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        if path.exists() and not path.is_file():
            raise MemhopError(f"{path}: cannot be written: it exists and is not a file")
        if not replace:
            check_new(path)
        yield temporary
        if replace:
            temporary.replace(path)
        else:
            rename_new(temporary, path)
    except OSError as error:
        raise MemhopError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # fails if the parent is a file
            temporary.unlink()
