"""Files that are whole or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from memhop.errors import MemhopError


def check_writable(folder: Path) -> None:
    """Check that files can be created in ``folder``, or the folder itself if it does not exist.

    Call it before long work whose result goes there. Nothing is left behind.

    Raises:
        MemhopError: a file has its name or that of a parent, or the system refuses to write.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     check_writable(Path(folder, "new", "below"))
    """
    try:
        place = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        # Opening a file asks the system itself: os.access misses quotas and network file systems.
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MemhopError(f"{folder}: cannot be written to: {reason}") from None


@contextmanager
def atomic_write(path: Path) -> Iterator[TextIO]:
    r"""A text file to write into, beside its place and put there in the end.

    A file that was there is replaced, or, after an error, as it was; what is there and no file,
    a folder or a device, is never replaced.

    Raises:
        MemhopError: it cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder, "a.txt")) as file:
    ...         _ = file.write("all of it\n")
    ...     print(Path(folder, "a.txt").read_text(), end="")
    all of it
    """
    beside = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        if path.exists() and not path.is_file():
            raise MemhopError(f"{path}: cannot be written: is there already and is no file")
        with beside.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        beside.replace(path)
    except OSError as error:
        raise MemhopError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # where the parent is a file there is nothing to remove
            beside.unlink()
