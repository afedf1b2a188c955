"""Time hops over a file in a control group: reads of the file alone and hops take turns.

The argument is a job in JSON; prints its result in JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def join(group: str) -> None:
    """Join a control group, before anything large is loaded."""
    Path(group, "cgroup.procs").write_text(str(os.getpid()))


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Return the medians of the seconds of a hop and of reading, and the peak of resident bytes."""
    import statistics

    import torch

    from benchmarks.file_memory import hop_and_query
    from benchmarks.file_memory.vectors import write_large
    from benchmarks.hop.clock import clock_seconds
    from benchmarks.hop.memory import status_bytes
    from memhop import FileMemory

    torch.set_num_threads(job["threads"])
    path = Path(job["path"])
    if not path.exists():
        write_large(path, job["file_bytes"])
    memory = FileMemory(path, stream=job["is_streamed"])
    hop, query = hop_and_query()
    with torch.no_grad():
        check(memory)
        hops, reads = [], []
        for _ in range(job["rounds"]):
            drop_pages(path)
            reads.append(clock_seconds(lambda: read_only(memory)))
            drop_pages(path)
            hops.append(clock_seconds(lambda: hop(query, memory)))
    return {
        "seconds": statistics.median(hops),
        "baseline_seconds": statistics.median(reads),
        "resident_bytes": status_bytes("VmHWM"),
        "is_direct": is_direct(path),
    }


def check(memory: Any) -> None:
    """Compare hops over the first rows, mapped and part by part, with those over a copy.

    It loads the kernels too.
    """
    import torch

    from benchmarks.file_memory import hop_and_query
    from memhop import MemhopError
    from memhop.storage import rows as layout

    hop, query = hop_and_query()
    count = min(len(memory), 2**16 + 1)
    rows = memory._rows._replace(shape=(count, memory.shape[1]), is_growing=True)
    parts = layout.RowsMemory(rows, stream=True)
    whole = torch.empty(rows.shape)
    first = 0
    for part in parts.stream(parts.ranges()):
        assert isinstance(part, torch.Tensor)
        whole[first : first + len(part)] = part
        first += len(part)
    for found in (parts, layout.RowsMemory(rows, stream=False)):
        torch.testing.assert_close(hop(query, found), hop(query, whole))
    if not whole.any():
        raise MemhopError(f"{rows.path}: expected random vectors, got zeros")


def read_only(memory: Any) -> None:
    """Read the parts of a memory with the buffers and threads of its stream, and nothing else."""
    from memhop.storage.direct_reads import open_parts, read_ahead

    rows = memory._rows
    parts = [rows.areas(first, last) for first, last in memory.ranges()]
    with open_parts(rows.path) as file:
        for _ in read_ahead(file, parts):
            pass


def drop_pages(path: Path) -> None:
    """Remove the pages of a file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def is_direct(path: Path) -> bool:
    """Return whether a file is read around the page cache."""
    from memhop.storage.direct_reads import open_parts

    with open_parts(path) as file:
        return file.is_direct


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    join(arguments["group"])
    print(json.dumps(run(arguments)))
