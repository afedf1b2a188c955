"""A disk that loses what was not synced: files and names as they may be after a power failure.

A write is durable after ``fsync`` or ``fdatasync`` of its file, a name after ``fsync`` of its
folder. Until then, each sector of a write, each truncation and each change of a name may be on the
disk or not, independently of the others.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SECTOR_BYTES = 512
_NOT_DURABLE = "-shm"  # memory that processes share; SQLite never syncs it, and writes it unseen


class Write(NamedTuple):
    """A write, or with no content a change of the size."""

    begin: int
    content: bytes | None


@dataclass
class File:
    """A file: its durable content, and the writes since the last sync."""

    content: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)

    def sync(self) -> None:
        """Make all writes durable."""
        for write in self.pending:
            put(self.content, write)
        self.pending.clear()

    def size(self) -> int:
        """Return the size that a program sees."""
        size = len(self.content)
        for begin, content in self.pending:
            size = begin if content is None else max(size, begin + len(content))
        return size


@dataclass
class Folder:
    """A folder: its durable names, and the changes since the last sync.

    The names of one change, such as those of a rename, change together; None removes a name.
    """

    durable: "Names" = field(default_factory=dict)
    pending: list[Mapping[str, "File | Folder | None"]] = field(default_factory=list)

    def sync(self) -> None:
        """Make all names durable."""
        self.durable = self.seen()
        self.pending.clear()

    def seen(self) -> "Names":
        """Return the names that a program sees."""
        names = dict(self.durable)
        for changes in self.pending:
            _set_names(names, changes)
        return names


Names = dict[str, File | Folder]


class Disk:
    """The files below a folder, by the calls that change them."""

    def __init__(self, root: str) -> None:
        self.root = Folder()
        self._prefix = PurePosixPath(root)

    def find(self, path: str) -> File | Folder | None:
        """Return a file or a folder; None if there is none, or if it is not below the root."""
        pure = PurePosixPath(path)
        if not pure.is_relative_to(self._prefix):
            return None
        item: File | Folder | None = self.root
        for step in pure.relative_to(self._prefix).parts:
            item = item.seen().get(step) if isinstance(item, Folder) else None
        return item

    def change(self, names: Mapping[str, File | Folder | None]) -> None:
        """Give names in one folder to files or folders together, or remove names."""
        parent = self.find(str(PurePosixPath(next(iter(names))).parent))
        if isinstance(parent, Folder):
            parent.pending.append({PurePosixPath(path).name: names[path] for path in names})


def after_power_failure(folder: Folder, to: Path, rng: random.Random) -> None:
    """Write a folder as it may be after a power failure.

    Of each failure, all that was not synced is lost, or kept, or a share of it that is drawn.
    """
    kept = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])
    _write_folder(folder, to, kept, rng)


def _write_folder(folder: Folder, to: Path, kept: float, rng: random.Random) -> None:
    to.mkdir()
    for name, item in _surviving_names(folder, kept, rng).items():
        if isinstance(item, Folder):
            _write_folder(item, to / name, kept, rng)
        elif not name.endswith(_NOT_DURABLE):
            (to / name).write_bytes(_surviving(item, kept, rng))


def _surviving_names(folder: Folder, kept: float, rng: random.Random) -> Names:
    names = dict(folder.durable)
    lost: set[str] = set()  # later changes of a name depend on this one
    for changes in folder.pending:
        if lost.isdisjoint(changes) and rng.random() < kept:
            _set_names(names, changes)
        else:
            lost.update(changes)
    return names


def _surviving(file: File, kept: float, rng: random.Random) -> bytes:
    content = bytearray(file.content)
    for write in file.pending:
        if write.content is None:
            if rng.random() < kept:
                put(content, write)
            continue
        begin, end = write.begin, write.begin + len(write.content)
        while begin < end:
            sector_end = min(end, begin // SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES)
            if rng.random() < kept:
                part = write.content[begin - write.begin : sector_end - write.begin]
                put(content, Write(begin, part))
            begin = sector_end
    return bytes(content)


def put(content: bytearray, write: Write) -> None:
    """Apply a write."""
    begin, data = write
    if data is None:
        del content[begin:]
        content.extend(bytes(begin - len(content)))
        return
    content.extend(bytes(max(0, begin - len(content))))
    content[begin : begin + len(data)] = data


def _set_names(names: Names, changes: Mapping[str, "File | Folder | None"]) -> None:
    for name, item in changes.items():
        if item is None:
            names.pop(name, None)
        else:
            names[name] = item
