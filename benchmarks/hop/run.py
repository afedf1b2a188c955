"""``memhop bench hop``: which parts it has, each measured in fresh processes.

A part asks one question. Its rows go to a CSV file, in place of those that it had there.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.hop.memory import ENVIRONMENT
from benchmarks.hop.rows import COLUMNS
from benchmarks.hop.speed import BARS
from memhop.errors import MemhopError
from memhop.kernels import warmup
from memhop.reproduce.record import Row, read_rows, write_rows


class Part(NamedTuple):
    """What can be measured alone: the device it is for and the file that its rows go to."""

    device: str
    file: str


class Process(NamedTuple):
    """A process to come: the measures it takes, its number among those that take the same."""

    measures: tuple[str, ...]
    number: int = 1
    sees_memory: bool = False


class Found(NamedTuple):
    """What one process has found for one part, and whether that was the last of it."""

    part: str
    rows: list[dict[str, Any]]
    seconds: float
    last: bool


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


def parts_of(device: str, only: str | None) -> list[str]:
    """The parts that a device has, or those of a list such as ``bars,small``."""
    if device == "cuda" and not torch.cuda.is_available():
        raise MemhopError("--device cuda needs a GPU that torch sees; there is none")
    names = [name for name, part in PARTS.items() if part.device == device]
    if only is None:
        return names
    wanted = [name.strip() for name in only.split(",")]
    if unknown := [name for name in wanted if name not in names]:
        raise MemhopError(f"--only needs parts of {', '.join(names)}; not {unknown[0]!r}")
    return [name for name in names if name in wanted]


def plan(parts: Sequence[str], tiny: bool) -> list[Process]:
    """The processes that measure the parts, one after the other.

    >>> [process.number for process in plan(["bars", "choice"], tiny=False)]
    [1, 2, 3, 1]
    """
    if tiny:  # most of a tiny process is its start
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


def measure(
    parts: Sequence[str],
    *,
    device: str,
    threads: int,
    tiny: bool,
    on_begin: Callable[[str], None] = lambda _: None,
) -> Iterator[Found]:
    """Measure the parts; each process tells what it begins."""
    warmup()  # "auto" is measured as it is once its kernels are compiled
    left = plan(parts, tiny)
    while left:
        process = left.pop(0)
        job = {
            "measures": process.measures, "device": device, "threads": threads, "tiny": tiny,
            "process": process.number,
        }  # fmt: skip
        still = {part_of(measure) for later in left for measure in later.measures}
        begun = time.perf_counter()
        for measure, rows in heard(job, process.sees_memory, on_begin):
            part, ended = part_of(measure), time.perf_counter()
            yield Found(part, rows, ended - begun, last=part not in still)
            begun = ended


def heard(
    job: dict[str, Any], sees_memory: bool, on_begin: Callable[[str], None]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Start a process for a job and give what it says: a measure and its rows."""
    environment = {"OMP_NUM_THREADS": str(job["threads"])} | (ENVIRONMENT if sees_memory else {})
    command = [sys.executable, "-m", "benchmarks.hop.child", json.dumps(job)]
    rows: list[dict[str, Any]] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=os.environ | environment
    ) as child:
        for line in child.stdout or ():
            told = json.loads(line)
            if "begin" in told:
                on_begin(told["begin"])
            elif "row" in told:
                rows.append(told["row"])
            elif "error" in told:
                raise MemhopError(f"bench hop: {told['error']}")
            else:
                yield told["measure"], rows
                rows = []
    if child.returncode:
        raise MemhopError(f"bench hop: a process ended with status {child.returncode}: {job}")


def part_of(measure: str) -> str:
    """The part that a measure, or a row that names it, belongs to.

    >>> part_of("scaling-time")
    'scaling'
    """
    return measure.partition("-")[0]


def put(folder: Path, part: str, rows: Sequence[dict[str, Any]]) -> Path:
    """Put the rows of a part into its file, in place of those that it had there."""
    path = folder / f"{PARTS[part].file}.csv"
    others = read_rows(path) if path.exists() else []
    if others and tuple(others[0])[: len(COLUMNS)] != COLUMNS:
        raise MemhopError(f"{path}: has other columns than are measured; move it away")
    kept: list[Row] = [row for row in others if part_of(row["part"]) != part]
    order = list(PARTS)
    write_rows(path, sorted([*kept, *rows], key=lambda row: order.index(part_of(str(row["part"])))))
    return path
