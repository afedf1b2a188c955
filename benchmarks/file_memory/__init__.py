"""Measure a hop over a file: mapped, against a tensor; larger than RAM, against raw reads."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import torch
import typer
from torch import Tensor

from benchmarks.child_processes import child_command, child_environment
from benchmarks.file_memory.control_groups import control_group
from benchmarks.file_memory.vectors import DTYPES, WIDTH, file_of, tensor_of
from benchmarks.hop.clock import Timed, time_interleaved
from memhop import FileMemory, MemhopError, MemoryHop
from memhop.cli.reproduce import Tiny
from memhop.kernels import warmup
from memhop.reproduce.record import Row, Rows, Sheet, provenance

NAME = "files"

Folder = Annotated[
    Path, typer.Option(help="Where to write the files, 5 GiB on the disk to measure.")
]
GIBIBYTE = 2**30
COLUMNS = ("case", "dtype", "file_bytes", "limit_bytes", "rounds", "seconds", "baseline",
           "baseline_seconds", "speed", "resident_bytes", "note")  # fmt: skip
NO_GROUP = "skipped: no control group"


class Size(NamedTuple):
    """Sizes of the files in bytes, the limit of memory, and rounds of calls."""

    mapped_bytes: int = GIBIBYTE
    streamed_bytes: int = 4 * GIBIBYTE
    limit_bytes: int = GIBIBYTE
    mapped_rounds: int = 20
    streamed_rounds: int = 7


TINY = Size(2**20, 2**22, GIBIBYTE, 2, 1)


def measure(folder: Folder = Path(), tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Measure hops over files: mapped, and larger than RAM."""
    size = TINY if tiny else Size()
    if not tiny:
        warmup()
    with TemporaryDirectory(dir=folder) as temporary:
        for name in DTYPES:
            yield [mapped(Path(temporary), name, size)]
        yield from larger_than_ram(Path(temporary), size)


def mapped(folder: Path, name: str, size: Size) -> dict[str, Any]:
    """Compare a hop over a mapped file in the page cache with one over a tensor in RAM."""
    count = size.mapped_bytes // (WIDTH * DTYPES[name].itemsize)
    tensor = tensor_of(count, DTYPES[name])
    path = file_of(folder, tensor)
    memory = FileMemory(path, stream=False)
    hop, query = hop_and_query()
    with torch.no_grad():
        found, wanted = hop(query, memory), hop(query, tensor)
        # by rounding: products may depend on where a matrix starts in memory
        if (found - wanted).norm() > 1e-6 * wanted.norm():
            raise MemhopError(f"{path}: expected the result of the tensor, got another")
    calls = [Timed(lambda: hop(query, memory)), Timed(lambda: hop(query, tensor))]
    file, ram = time_interleaved(calls, gradients=False, rounds=size.mapped_rounds)
    path.unlink()
    row = [
        "mapped", name, size.mapped_bytes, None, file.rounds, file.seconds, "tensor in RAM",
        ram.seconds, ram.seconds / file.seconds, None, None,
    ]  # fmt: skip
    return row_of(row)


def larger_than_ram(folder: Path, size: Size) -> Iterator[list[dict[str, Any]]]:
    """Compare a streamed hop with raw direct reads, and then time a mapped one, under a limit."""
    cases = (("streamed", "direct reads"), ("mapped, larger than RAM", "direct reads"))
    with control_group(size.limit_bytes) as group:
        if group is None:
            for case, baseline in cases:
                row = [case, "float32", size.streamed_bytes, size.limit_bytes, 0, None, baseline]
                yield [row_of([*row, None, None, None, NO_GROUP])]
            return
        path = folder / "large.npy"
        for case, baseline in cases:
            found = in_group(group, path, case, size)
            rounds, seconds = size.streamed_rounds, found["seconds"]
            row = [
                case,
                "float32",
                size.streamed_bytes,
                size.limit_bytes,
                rounds,
                seconds,
                baseline,
            ]
            speed = found["baseline_seconds"] / seconds
            note = "" if found["is_direct"] else "buffered: the file system has no direct reads"
            yield [row_of([*row, found["baseline_seconds"], speed, found["resident_bytes"], note])]


def in_group(group: Path, path: Path, case: str, size: Size) -> dict[str, Any]:
    """Measure in a fresh process that joins a control group."""
    job = {
        "group": str(group), "path": str(path), "file_bytes": size.streamed_bytes,
        "rounds": size.streamed_rounds, "is_streamed": case == "streamed",
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    done = subprocess.run(
        child_command("file_memory.child", json.dumps(job)), env=child_environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise MemhopError(f"{case}: the process ended with status {done.returncode}: {last:.200}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def hop_and_query() -> tuple[MemoryHop, Tensor]:
    """Return a hop of which every run has the same weights, and one query."""
    torch.manual_seed(0)
    return MemoryHop(WIDTH, WIDTH), torch.randn(1, WIDTH)


def row_of(values: list[Any]) -> dict[str, Any]:
    """Return a row with its provenance; seconds and ratios have five digits."""
    shown = [float(f"{each:.5g}") if isinstance(each, float) else each for each in values]
    return {**dict(zip(COLUMNS, shown, strict=True)), **provenance()}


def sheets(rows: Rows) -> list[Sheet]:
    """Return the rows as a table."""
    columns = ("a hop over", "file", "RAM limit", "GB/s", "baseline", "GB/s", "speed", "resident")
    note = (
        "One query of 128 numbers, one hop; medians of interleaved calls. Mapped: the file is in "
        "the page cache. With a limit of RAM: in a control group, the page cache emptied before "
        "each call; direct reads are the reads of the stream without the attention. The mapped "
        "file larger than RAM is timed for comparison: memhop streams it unless you ask otherwise."
    )
    return [Sheet("Speed of files as memories", columns, [line(row) for row in rows], note)]


def line(row: Row) -> list[str]:
    """Return the cells of a row."""
    cells = [f"{row['case']}, {row['dtype']}", size_of(row["file_bytes"])]
    cells.append(size_of(row["limit_bytes"]))
    if not row["seconds"]:
        return [*cells, str(row["note"]), str(row["baseline"]), "-", "-", "-"]
    for seconds in ("seconds", "baseline_seconds"):
        cells.append(f"{int(row['file_bytes']) / float(row[seconds]) / 1e9:.2f}")
    cells.insert(-1, str(row["baseline"]))
    return [*cells, f"{float(row['speed']):.2f}", size_of(row["resident_bytes"])]


def size_of(count: str) -> str:
    """Return a number of bytes in MiB or GiB, "-" for none."""
    size = int(count or 0)
    if size >= GIBIBYTE:
        return f"{size / GIBIBYTE:.3g} GiB"
    return f"{size / 2**20:,.0f} MiB" if size else "-"
