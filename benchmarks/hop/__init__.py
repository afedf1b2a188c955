"""Compare speed and memory of the hops with the textbook form, each part in fresh processes.

The rows of a part replace those of the same part in its CSV file.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
import typer
from rich.text import Text

from benchmarks.child_processes import child_command, child_environment
from benchmarks.hop import tables
from benchmarks.hop.cases import COLUMNS
from benchmarks.hop.memory import ENVIRONMENT
from benchmarks.hop.speed import BARS
from benchmarks.registry import NOT_MEASURED, DocumentTable, Plot, drawn_by
from memhop.atomic_write import check_writable
from memhop.cli.reproduce import Tiny
from memhop.cli.screen import duration, print_progress, stderr
from memhop.cli.settings import available_cores, check_threads
from memhop.errors import MemhopError
from memhop.kernels import warmup
from memhop.reproduce.record import Row, Rows, Sheet, document, read_rows, write_rows


class Part(NamedTuple):
    """A part of the benchmark: its device and its CSV file."""

    device: str
    file: str


class Process(NamedTuple):
    """A planned process: its measures, and its number among those with the same measures."""

    measures: tuple[str, ...]
    number: int = 1
    sees_memory: bool = False


class Measured(NamedTuple):
    """The rows of one process for one part; ``is_last`` if they complete the part."""

    part: str
    rows: list[dict[str, Any]]
    seconds: float
    is_last: bool


PARTS = {
    "bars": Part("cpu", "hop_speed"),
    "bound": Part("cpu", "hop_speed"),
    "small": Part("cpu", "hop_speed"),
    "others": Part("cpu", "hop_speed"),
    "memory": Part("cpu", "hop_speed"),
    "choice": Part("cpu", "hop_choice"),
    "scaling": Part("cpu", "hop_scaling"),
    "cuda": Part("cuda", "hop_cuda"),
}
THREE_TIMES = ("bars", "bound", "small")


def _writable_folder(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None and not context.resilient_parsing:
        check_writable(path)
    return path


def measure(
    only: Annotated[
        str | None, typer.Option(metavar="LIST", help=f"Parts of {', '.join(PARTS)}.")
    ] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Device to measure.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads to compute with. Default: at most 2.")
    ] = None,
    tiny: Tiny = False,
    to: Annotated[
        Path | None,
        typer.Option(callback=_writable_folder, help="Folder for CSV files. Default: only print."),
    ] = None,
) -> Iterator[list[dict[str, Any]]]:
    """Compare the hops with the textbook form: speed, memory."""
    parts = parts_of(device, only)
    threads = check_threads(threads) if threads is not None else min(2, available_cores())
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in parts}
    seconds = dict.fromkeys(parts, 0.0)
    with status_line() as show:
        for new in run(parts, device=device, threads=threads, tiny=tiny, on_begin=show):
            part = new.part
            rows[part] += new.rows
            seconds[part] += new.seconds
            if new.is_last:
                if to is not None:
                    store(to, part, rows[part])
                print_progress(f"{part}: {duration(seconds[part])}")
                yield rows[part]


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """Show the current measurement on standard error."""
    console = stderr()
    if not console.is_terminal:
        yield print_progress
        return
    with console.status("") as status:
        yield lambda text: status.update(Text(text))  # no markup: names contain brackets


def parts_of(device: str, only: str | None) -> list[str]:
    """Return the parts of a device, or those of a list such as ``bars,small``."""
    if device == "cuda" and not torch.cuda.is_available():
        raise MemhopError("--device cuda: torch finds no GPU")
    names = [name for name, part in PARTS.items() if part.device == device]
    if only is None:
        return names
    wanted = [name.strip() for name in only.split(",")]
    if unknown := [name for name in wanted if name not in names]:
        raise MemhopError(f"--only: expected parts of {', '.join(names)}, got {unknown[0]!r}")
    return [name for name in names if name in wanted]


def plan(parts: Sequence[str], tiny: bool) -> list[Process]:
    """Return the processes that measure the parts, one after the other.

    >>> [process.number for process in plan(["bars", "choice"], tiny=False)]
    [1, 2, 3, 1]
    """
    if tiny:  # a tiny process spends most of its time on its start
        of_time = tuple("scaling-time" if part == "scaling" else part for part in parts)
        of_memory = {"memory": "memory", "scaling": "scaling-memory"}
        planned = [
            Process(tuple(measure for measure in of_time if measure != "memory")),
            Process(tuple(of_memory[p] for p in parts if p in of_memory), sees_memory=True),
        ]
        return [process for process in planned if process.measures]
    planned = []
    for part in parts:
        if part == "memory":
            planned += [Process((part,), case + 1, sees_memory=True) for case in range(len(BARS))]
        elif part == "scaling":
            planned += [Process(("scaling-time",)), Process(("scaling-memory",), sees_memory=True)]
        else:
            planned += [Process((part,), n + 1) for n in range(3 if part in THREE_TIMES else 1)]
    return planned


def run(
    parts: Sequence[str],
    *,
    device: str,
    threads: int,
    tiny: bool,
    on_begin: Callable[[str], None] = lambda _: None,
) -> Iterator[Measured]:
    """Measure the parts in their processes."""
    warmup()  # "auto" is measured with compiled kernels
    left = plan(parts, tiny)
    while left:
        process = left.pop(0)
        job = {
            "measures": process.measures, "device": device, "threads": threads, "tiny": tiny,
            "process": process.number,
        }  # fmt: skip
        later = {part_of(measure) for process in left for measure in process.measures}
        start = time.perf_counter()
        environment = ENVIRONMENT if process.sees_memory else {}
        for measure, rows in run_child("hop", job, environment, on_begin):
            part, end = part_of(measure), time.perf_counter()
            yield Measured(part, rows, end - start, is_last=part not in later)
            start = end


def run_child(
    benchmark: str,
    job: dict[str, Any],
    environment: Mapping[str, str],
    on_begin: Callable[[str], None],
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Start ``benchmarks.BENCHMARK.child`` for a job; yield each measure with its rows."""
    command = child_command(f"{benchmark}.child", json.dumps(job))
    variables = {"OMP_NUM_THREADS": str(job["threads"]), **environment}
    rows: list[dict[str, Any]] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        env=child_environment(**variables),
    ) as child:  # fmt: skip
        for line in child.stdout or ():
            message = json.loads(line)
            if "begin" in message:
                on_begin(message["begin"])
            elif "row" in message:
                rows.append(message["row"])
            elif "error" in message:
                raise MemhopError(f"benchmark {benchmark}: {message['error']}")
            else:
                yield message["measure"], rows
                rows = []
    if child.returncode:
        raise MemhopError(
            f"benchmark {benchmark}: a process exited with status {child.returncode}: {job}"
        )


def part_of(measure: str) -> str:
    """Return the part of a measure, or of a row's column ``part``.

    >>> part_of("scaling-time")
    'scaling'
    """
    return measure.partition("-")[0]


def store(folder: Path, part: str, rows: Rows) -> Path:
    """Replace the rows of a part in its file."""
    path = folder / f"{PARTS[part].file}.csv"
    stored = read_rows(path) if path.exists() else []
    if stored and tuple(stored[0])[: len(COLUMNS)] != COLUMNS:
        raise MemhopError(f"{path}: has other columns; move it away")
    kept: list[Row] = [row for row in stored if part_of(row["part"]) != part]
    order = list(PARTS)
    write_rows(path, sorted([*kept, *rows], key=lambda row: order.index(part_of(row["part"]))))
    return path


def sheets(rows: Rows) -> list[Sheet]:
    """Return the tables of all measured parts."""
    found: list[Sheet] = []
    for part in PARTS:
        if own := [row for row in rows if part_of(row["part"]) == part]:
            found += [*tables.SHEETS[part](own), Sheet(note=tables.notes_of(own))]
    return found


def _document(part: str, rows: Rows) -> str:
    sheets = [sheet for sheet in tables.SHEETS[part](rows) if sheet.lines]
    if not sheets:
        return NOT_MEASURED
    own = [row for row in rows if part_of(row["part"]) == part]
    notes = tables.notes_of(own)
    return document(own, *sheets, *([Sheet(note=notes)] if notes else []))


TABLES = {
    f"hop_{part}": DocumentTable(PARTS[part].file, partial(_document, part)) for part in PARTS
}
_PLOTS = "benchmarks.hop.plots"
PLOTS = {
    "bound": Plot(
        "hop_bound.svg", "hop_speed", "Time over the bound", drawn_by(_PLOTS, "over_bound")
    ),
    "scaling": Plot(
        "hop_scaling.svg",
        "hop_scaling",
        "Time and memory as sizes grow",
        drawn_by(_PLOTS, "growth"),
    ),
}
