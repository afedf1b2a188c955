"""Compare ``MultiHop`` with torch's fastest form over the raw memory, on random shapes.

Each shape is measured forward and with gradients, and in a process for each number of threads. A
file that ``--to`` names is written after each shape, and a stopped run resumes from it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.hop import run_child, status_line
from benchmarks.shapes import tables
from benchmarks.shapes.cases import COLUMNS, NUM_SHAPES, drawn
from memhop.cli.reproduce import Tiny, writable
from memhop.cli.settings import available_cores, check_threads
from memhop.errors import MemhopError
from memhop.reproduce.record import Row, Rows, read_rows, write_rows

ENVIRONMENT = {  # torch.compile starts no processes, and reuses no code for other threads
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
    "TORCHINDUCTOR_AUTOGRAD_CACHE": "0",
}
NUM_TINY = 3
DEFAULT_THREADS = "1,2"

sheets = tables.sheets


def measure(
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Time for the rounds of a shape, each pass.")
    ] = 10.0,
    shapes: Annotated[
        int, typer.Option(min=1, max=NUM_SHAPES, help="Measure only so many, the first.")
    ] = NUM_SHAPES,
    threads: Annotated[
        str, typer.Option(metavar="LIST", help="Numbers of threads, each measured on its own.")
    ] = DEFAULT_THREADS,
    tiny: Tiny = False,
    to: Annotated[
        Path | None, typer.Option(callback=writable, help="CSV file to write, and to resume from.")
    ] = None,
) -> Iterator[list[dict[str, Any]]]:
    """Compare MultiHop with torch's fastest, on random shapes."""
    counts = parse_threads(threads)
    cases = drawn(min(shapes, NUM_TINY), largest=32) if tiny else drawn(shapes)
    rows: list[dict[str, Any]] = rows_to_resume(to, tiny)
    if rows:
        yield list(rows)
    with status_line() as show:
        for count in counts:
            left = missing(rows, count, len(cases))
            job = {"threads": count, "seconds": seconds, "tiny": tiny, "shapes": left}
            for _, new in run_child("shapes", job, ENVIRONMENT, show) if left else ():
                rows += new
                rows.sort(key=sort_key)
                if to is not None:
                    write_rows(to, rows)
                yield new


def parse_threads(text: str) -> list[int]:
    """Return the numbers of a list such as ``1,2``.

    >>> parse_threads("1")
    [1]
    """
    try:
        counts = [int(word) for word in text.split(",")]
    except ValueError as error:
        raise MemhopError(f"--threads: expected numbers such as 1,2, got {text!r}") from error
    if min(counts) < 1:
        raise MemhopError(f"--threads: expected numbers from 1 on, got {min(counts)}")
    if text == DEFAULT_THREADS:
        return [count for count in counts if count <= available_cores()]
    return [check_threads(count) for count in counts]


def rows_to_resume(path: Path | None, tiny: bool) -> list[dict[str, Any]]:
    """Return the rows of a file, if it exists."""
    if path is None or not path.exists():
        return []
    rows = read_rows(path)
    if rows and (tuple(rows[0])[: len(COLUMNS)] != COLUMNS or (rows[0]["tiny"] == "True") != tiny):
        raise MemhopError(f"{path}: has rows of another benchmark; move it away")
    return list(rows)


def missing(rows: Rows, threads: int, num_shapes: int) -> list[int]:
    """Return the numbers of the shapes without rows."""
    found = {int(row["shape"]) for row in rows if int(row["threads"]) == threads}
    return [number for number in range(1, num_shapes + 1) if number not in found]


def sort_key(row: Row) -> tuple[int, int]:
    """Return the place of a row in the file."""
    return int(row["threads"]), int(row["shape"])
