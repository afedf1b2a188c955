"""The RAM that this process may use: that of the machine, or the limit of its control group."""

import os
from collections.abc import Iterator
from pathlib import Path

_LIMITS = {"cgroup": "memory.limit_in_bytes", "cgroup2": "memory.max"}  # versions 1 and 2


def ram_bytes(proc: Path = Path("/proc/self")) -> int | None:
    """Return the bytes of RAM that this process may use, or None if the system does not say.

    It is the smallest of the machine's RAM and of the memory limits of the process's control group
    and its parents, of version 1 or 2.
    """
    known = [*_limits(proc)]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(known, default=None)


def _limits(proc: Path) -> Iterator[int]:
    """Yield the memory limits of the control groups of this process."""
    groups = [line.split(":", 2) for line in _lines(proc / "cgroup")]
    for line in _lines(proc / "mountinfo"):
        mount, _, system = line.partition(" - ")
        kind, _, options = [*system.split(), "", "", ""][:3]
        if kind not in _LIMITS or (kind == "cgroup" and "memory" not in options.split(",")):
            continue
        root, mounted = (Path(field) for field in [*mount.split(), "", "", "", "", ""][3:5])
        for number, controllers, path in (group for group in groups if len(group) == 3):
            is_this = "memory" in controllers.split(",") if kind == "cgroup" else number == "0"
            if is_this:
                yield from _limits_of(mounted, root, Path(path), _LIMITS[kind])


def _limits_of(mounted: Path, root: Path, path: Path, name: str) -> Iterator[int]:
    """Yield the limits of a control group and of its parents, up to the mounted one.

    A container may see only its own group: then the mounted one is all that there is.
    """
    below = path.relative_to(root) if path.is_relative_to(root) else Path()
    for folder in (mounted / below, *(mounted / below).parents):
        for line in _lines(folder / name):
            if line.isdecimal():  # "max" is no limit
                yield int(line)
        if folder == mounted:
            return


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return []
