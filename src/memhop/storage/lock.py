"""One writer at a time: an advisory lock on a file, which ends with the process."""

import os
import weakref

from memhop.errors import MemhopError
from memhop.file_lock import lock
from memhop.storage.folder import LOCK, StoreFolder

_held: "weakref.WeakSet[WriterLock]" = weakref.WeakSet()


class WriterLock:
    """An exclusive ``flock`` on a file of a store.

    The system releases it when the process dies. A forked child does not keep it.

    Raises:
        MemhopError: another process or another ``Store`` holds it, or the file cannot be opened.

    >>> from contextlib import closing
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name, closing(StoreFolder(Path(name))) as folder:
    ...     first = WriterLock(folder)
    ...     try:
    ...         WriterLock(folder)
    ...     except MemhopError as error:
    ...         print(str(error).rpartition("/")[2])
    ...     first.release()
    ...     WriterLock(folder).release()
    writer.lock: locked: expected one writer, and another Store has it open
    """

    def __init__(self, folder: StoreFolder) -> None:
        path = folder.path / LOCK
        self._descriptor: int | None = folder.open(LOCK, os.O_RDWR | os.O_CREAT)
        try:
            lock(self._descriptor)
        except OSError as error:
            self.release()
            if not isinstance(error, BlockingIOError):
                raise MemhopError(f"{path}: cannot be locked: {error.strerror}") from error
            raise MemhopError(
                f"{path}: locked: expected one writer, and another Store has it open"
            ) from None
        _held.add(self)

    def release(self) -> None:
        """Release the lock; of a lock that is released already, do nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _release_in_child() -> None:
    # A child shares the open file: it would hold the lock after the death of its parent.
    for held in list(_held):
        held.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
