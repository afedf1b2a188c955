"""Advisory locks on files between processes; the system releases those of a dead process."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


def lock(descriptor: int, *, wait: bool = False) -> None:
    """Lock an open file until it is closed, also by the processes forked from this one.

    Raises:
        BlockingIOError: it is locked, and not ``wait``.
        OSError: a system without such locks.
    """
    try:
        import fcntl  # POSIX only
    except ImportError:
        raise OSError(errno.ENOTSUP, "expected a system with flock (POSIX)") from None
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is created; do nothing if the system has no such locks.

    Raises:
        BlockingIOError: it is locked or was renamed meanwhile, and not ``wait``.
        OSError: the file cannot be opened.
    """
    with path.open("ab") as file, ExitStack() as stack:
        try:
            lock(file.fileno(), wait=wait)
        except BlockingIOError:
            raise
        except OSError:
            file.close()  # a system without these locks may not rename an open file
        else:
            stack.callback(_unlock, file.fileno())  # a forked process may have it open
            is_same = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
            if not is_same and not wait:
                raise BlockingIOError(errno.EAGAIN, "was renamed")
        yield


def _unlock(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_UN)
