"""A control group of Linux with a limit of memory, of version 1 or 2."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


@contextmanager
def control_group(limit_bytes: int) -> Iterator[Path | None]:
    """Create a control group with a limit of memory, and remove it at the end of the block.

    A process joins it by writing its number to ``cgroup.procs``. The group is None if the system
    has none, or does not permit it.
    """
    group = None
    for parent, file in _parents():
        folder = parent / f"memhop-{os.getpid()}"
        with suppress(OSError):
            folder.mkdir()
            group = folder
            (folder / file).write_text(str(limit_bytes))
            break
        if group is not None:
            group.rmdir()
            group = None
    try:
        yield group
    finally:
        if group is not None:
            _remove(group)


def _parents() -> Iterator[tuple[Path, str]]:
    """Yield the groups that may get a child, and the file with the limit of a child."""
    yield from ((MOUNT / kind, "memory.limit_in_bytes") for kind in ("memory", "cpu,memory"))
    yield MOUNT, "memory.max"
    yield MOUNT / "unified", "memory.max"


def _remove(group: Path) -> None:
    for _ in range(50):  # the process may still be ending
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)
