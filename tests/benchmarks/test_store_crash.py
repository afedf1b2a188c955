"""Kills and power failures of a store lose nothing, and the simulated disk loses what it may."""

import random
import shutil
from pathlib import Path

import pytest

from benchmarks.store_crash import measure, sheets
from benchmarks.store_crash.disk import Disk, File, Folder, Write, after_power_failure
from benchmarks.store_crash.recording import Call, Replay
from memhop.reproduce.record import as_text


@pytest.mark.slow
def test_kills_and_power_failures_lose_nothing() -> None:
    rows = [row for rows in measure(tiny=True) for row in rows]
    counted = [row for row in rows if row["count"]]
    assert sum(row["count"] for row in counted) == (20 if shutil.which("strace") else 10)
    for row in counted:
        assert (row["lost_rows"], row["wrong_rows"], row["failures"]) == (0, 0, 0), row
    (sheet,) = sheets(as_text(rows))
    assert len(sheet.lines) > 2


def outcomes(disk: Disk, to: Path) -> set[tuple[tuple[str, bytes], ...]]:
    """Return the files after each of many power failures."""
    found = set()
    to.mkdir(exist_ok=True)
    for seed in range(60):
        folder = to / str(seed)
        after_power_failure(disk.root, folder, random.Random(seed))
        found.add(tuple(sorted((file.name, file.read_bytes()) for file in folder.iterdir())))
    return found


def test_what_is_synced_is_kept_and_the_rest_is_kept_or_lost(tmp_path: Path) -> None:
    disk, file = Disk("/disk"), File()
    disk.change({"/disk/a": file})
    file.pending.append(Write(0, b"1"))
    assert outcomes(disk, tmp_path / "0") == {(), (("a", b""),), (("a", b"1"),)}
    disk.root.sync()
    file.sync()
    assert outcomes(disk, tmp_path / "1") == {(("a", b"1"),)}
    file.pending += [Write(1, b"2" * 511 + b"3"), Write(0, None)]
    found = outcomes(disk, tmp_path / "2")
    assert (("a", b"1" + b"2" * 511 + b"3"),) in found
    assert (("a", b"1" + b"2" * 511),) in found  # torn at the sector
    assert (("a", b"1" + b"\0" * 511 + b"3"),) in found
    assert (("a", b""),) in found


def test_a_rename_is_whole_and_a_lost_change_loses_the_later_ones(tmp_path: Path) -> None:
    disk, old, new = Disk("/disk"), File(bytearray(b"old")), File(bytearray(b"new"))
    disk.change({"/disk/a": old})
    disk.root.sync()
    disk.change({"/disk/a": None})
    disk.change({"/disk/b": new})
    disk.change({"/disk/b": None, "/disk/a": new})
    assert outcomes(disk, tmp_path) == {
        (("a", b"old"),), (), (("a", b"old"), ("b", b"new")), (("b", b"new"),), (("a", b"new"),)
    }  # fmt: skip


def test_calls_are_applied_as_the_system_does(tmp_path: Path) -> None:
    replay = Replay(Path("/disk"))
    for call in (
        Call("mkdir", (b"/disk/s", "0700"), 0),
        Call("openat", ("AT_FDCWD", b"/disk/s/a", "O_RDWR|O_CREAT", "0644"), 3),
        Call("pwrite64", ("3", b"abc", "3", "2"), 3),
        Call("write", ("3", b"xy", "2"), 1),
        Call("write", ("3", b"z", "1"), 1),
        Call("openat", ("AT_FDCWD", b"/disk/acknowledged", "O_WRONLY|O_APPEND"), 4),
        Call("openat", ("AT_FDCWD", b"/disk/s", "O_RDONLY"), 5),
        Call("fsync", ("5",), 0),
        Call("fdatasync", ("3",), 0),
        Call("ftruncate", ("3", "4"), 0),
        Call("close", ("5",), 0),
        Call("rename", (b"/disk/s", b"/disk/t"), 0),
    ):
        assert replay.apply(call) == b""
    assert replay.apply(Call("write", ("4", b"done 1\n", "7"), 7)) == b"done 1\n"
    folder = replay.disk.find("/disk/t")
    assert isinstance(folder, Folder)
    assert replay.disk.find("/disk/s") is None
    file = folder.durable["a"]
    assert isinstance(file, File)
    assert (bytes(file.content), file.pending) == (b"xzabc", [Write(4, None)])
    assert replay.disk.find("/elsewhere") is None
