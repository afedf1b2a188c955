"""Record the calls that write, sync, create and remove the files of a store, with strace."""

import json
import random
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.child_processes import child_command, child_environment
from benchmarks.store_crash.disk import Disk, File, Folder, Write
from memhop.errors import MemhopError

ACKNOWLEDGEMENTS = "acknowledged"
_CALLS = (
    "openat,open,creat,pwrite64,write,pwritev,writev,lseek,fsync,fdatasync,ftruncate,fallocate,"
    "unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,close,dup"
)
_LINE = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(.*)", re.DOTALL)
_ARGUMENT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?|([^,()"]+)')
_CALLS_TO_END_AT = ("fdatasync", "fdatasync", "pwrite64")


class Call(NamedTuple):
    """A call of the system: name, arguments (of texts their bytes), result."""

    name: str
    arguments: tuple[bytes | str, ...]
    result: int


class Kill(NamedTuple):
    """End a process when it enters a call for the nth time."""

    call: str
    number: int


def record(folder: Path, seed: int, processes: int, changes: int) -> list[list[Call]]:
    """Return the calls of processes that change the same store one after the other.

    Each but the last ends while it commits a compaction, or at a call that is drawn. The next one
    finds a commit that is in the log of SQLite, but was not synced.

    Raises:
        MemhopError: strace or a process failed.
    """
    rng = random.Random(f"record {seed}")
    job = {"folder": str(folder / "whole"), "seed": seed, "changes": changes}
    commits = list(_commits_of_compactions(_record_process(job, None)))
    job["folder"] = str(folder / "killed")
    recorded = []
    for process in range(processes):
        kill = Kill(rng.choice(_CALLS_TO_END_AT), rng.randint(2, 2 * changes))
        if process == 0 and commits:
            kill = Kill("fdatasync", rng.choice(commits))
        recorded.append(_record_process(job, kill if process < processes - 1 else None))
    return recorded


def _record_process(job: dict[str, Any], kill: Kill | None) -> list[Call]:
    folder = Path(job["folder"])
    folder.mkdir(exist_ok=True)
    log = folder / "trace"
    # strace 6.1 does not inject a signal into calls that it filters by seccomp, which is faster.
    inject = ["--seccomp-bpf"]
    if kill:
        inject = ["-e", f"inject={kill.call}:signal=SIGKILL:when={kill.number}"]
    command = ["strace", "-ff", "-xx", "-s", str(2**26), "-o", str(log),
               "-e", f"trace={_CALLS}", *inject,
               *child_command("store_crash.child", json.dumps(job))]  # fmt: skip
    run = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, check=False
    )
    if run.returncode not in (0, -signal.SIGKILL, 128 + signal.SIGKILL):
        last = (run.stderr.strip().splitlines() or [str(run.returncode)])[-1]
        raise MemhopError(f"benchmark crash: the recording failed: {last:.200}")
    threads = []
    for each in folder.glob(f"{log.name}.*"):
        with each.open(encoding="ascii") as lines:
            threads.append(list(_of_store(_parsed(lines), folder)))
        each.unlink()
    return max(threads, key=len)  # the others do not use the store


def _commits_of_compactions(calls: Sequence[Call]) -> Iterator[int]:
    """Yield which ``fdatasync`` of a process makes the commit of a compaction durable."""
    number, after_folder = 0, False
    for call in calls:
        if call.name == "fsync":  # the folder, which has the file of a new generation
            after_folder = number > 0
        if call.name == "fdatasync":
            number += 1
            if after_folder:
                yield number
            after_folder = False


def _parsed(lines: Iterator[str] | Sequence[str]) -> Iterator[Call]:
    for line in lines:
        found = _LINE.match(line)
        if found and found[3] != "?" and int(found[3]) >= 0:
            arguments = tuple(
                bytes.fromhex(text.replace("\\x", "")) if plain == "" else plain.strip()
                for text, _, plain in _ARGUMENT.findall(found[2])
                if plain.strip() or plain == ""
            )
            yield Call(found[1], arguments, int(found[3]))


def _of_store(calls: Iterator[Call], folder: Path) -> Iterator[Call]:
    """Yield the calls that concern files below a folder."""
    prefix = str(folder).encode()
    descriptors: dict[str, bytes] = {}
    for each_call in calls:
        call = _with_whole_path(each_call, descriptors)
        named = any(isinstance(each, bytes) and each.startswith(prefix) for each in call.arguments)
        if call.name in ("openat", "open", "creat"):
            descriptors.pop(str(call.result), None)
            if named and b"/trace." not in b"".join(
                each for each in call.arguments if isinstance(each, bytes)
            ):
                descriptors[str(call.result)] = next(
                    each for each in call.arguments if isinstance(each, bytes)
                )
                yield call
        elif named and call.name not in ("write", "pwrite64"):
            yield call
        elif str(call.arguments[0]) in descriptors:
            yield call
            if call.name == "close":
                del descriptors[str(call.arguments[0])]


def _with_whole_path(call: Call, descriptors: Mapping[str, bytes]) -> Call:
    """Return a call with whole paths in place of names in an open folder."""
    if call.name not in ("openat", "unlinkat", "mkdirat", "renameat", "renameat2"):
        return call
    arguments = list(call.arguments)
    for place, (folder, name) in enumerate(pairwise(call.arguments), 1):
        if isinstance(name, bytes) and isinstance(folder, str) and folder in descriptors:
            arguments[place] = descriptors[folder] + b"/" + name
    return call._replace(arguments=tuple(arguments))


class Replay:
    """The calls of processes, applied to a disk one after the other."""

    def __init__(self, folder: Path) -> None:
        self.disk = Disk(str(folder))
        self._acknowledgements: set[str] = set()
        self._open: dict[str, File | Folder] = {}
        self._places: dict[str, int] = {}

    def end_process(self) -> None:
        """Close the files of a process; nothing that it wrote is lost."""
        self._open.clear()
        self._places.clear()
        self._acknowledgements.clear()

    def apply(self, call: Call) -> bytes:
        """Apply a call; return what it acknowledges.

        Raises:
            MemhopError: a call that the disk does not know.
        """
        name, arguments, result = call
        if str(arguments[0]) in self._acknowledgements:
            return arguments[1] if name == "write" and isinstance(arguments[1], bytes) else b""
        if name in ("write", "pwrite64") or not any(isinstance(each, bytes) for each in arguments):
            self._of_descriptor(call)
            return b""
        paths = [each.decode() for each in arguments if isinstance(each, bytes)]
        if name in ("openat", "open"):
            self._opened(paths[0], " ".join(map(str, arguments)), str(result))
        elif name in ("mkdir", "mkdirat"):
            self.disk.change({paths[0]: Folder()})
        elif name in ("rename", "renameat", "renameat2"):
            self.disk.change({paths[0]: None, paths[1]: self.disk.find(paths[0])})
        elif name in ("unlink", "unlinkat"):
            self.disk.change({paths[0]: None})
        else:
            raise MemhopError(f"benchmark crash: expected a known call, got {name}")
        return b""

    def _opened(self, path: str, flags: str, descriptor: str) -> None:
        if path.endswith(ACKNOWLEDGEMENTS):
            if "O_APPEND" in flags:
                self._acknowledgements.add(descriptor)
            return
        item = self.disk.find(path)
        if item is None and "O_CREAT" in flags:
            item = File()
            self.disk.change({path: item})
        if isinstance(item, File) and "O_TRUNC" in flags:
            item.pending.append(Write(0, None))
        if item is not None:
            self._open[descriptor] = item
            self._places[descriptor] = 0

    def _of_descriptor(self, call: Call) -> None:
        name, arguments, result = call
        descriptor = str(arguments[0])
        item = self._open.get(descriptor)
        if item is None:
            return
        if name in ("fsync", "fdatasync"):
            item.sync()
        elif name == "lseek":
            self._places[descriptor] = result
        elif name == "close":
            del self._open[descriptor]
        elif name == "ftruncate" and isinstance(item, File):
            item.pending.append(Write(int(arguments[1]), None))
        elif name in ("write", "pwrite64") and isinstance(item, File):
            content = arguments[1]
            assert isinstance(content, bytes)
            begin = int(arguments[3]) if name == "pwrite64" else self._places[descriptor]
            item.pending.append(Write(begin, content[:result]))
            if name == "write":
                self._places[descriptor] += result
        else:
            raise MemhopError(f"benchmark crash: expected a known call, got {name}")
