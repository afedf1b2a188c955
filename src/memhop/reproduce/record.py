"""Rows of measurements: what was measured, on what, with what, when."""

import csv
import datetime
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from memhop import __version__
from memhop.atomic_write import atomic_write, check_writable
from memhop.errors import MemhopError

Row = Mapping[str, str | int | float | None]


def surroundings() -> dict[str, str | int]:
    """The columns that every row ends with: device, threads, versions, date, commit."""
    return {
        "device": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "memhop": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
    }


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a CSV file beside its place and put it there; the rows that were in it are replaced."""
    make_folder(path.parent)
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise MemhopError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise MemhopError(f"{path}: needs a CSV file of UTF-8 text") from error


def measured_on(row: Mapping[str, Any]) -> str:
    """The surroundings of a row in a sentence."""
    return (
        f"Measured on {row['device']}, {row['threads']} threads, torch {row['torch']}, "
        f"{row['date']}, commit {row['commit']}."
    )


def check_place(path: Path) -> None:
    """Check that a file can be written to ``path``, before hours of work on its content."""
    if path.is_dir():
        raise MemhopError(f"{path}: expected a file to write, got a folder")
    check_writable(path.parent)


def make_folder(folder: Path) -> None:
    """A folder, and those that it is in, if they are not there yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MemhopError(f"{folder}: cannot be written: {error.strerror}") from error


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """The commit of the source that runs, marked where that differs from it; else nothing."""
    here = Path(__file__).parents[1]
    if {"site-packages", "dist-packages"} & set(here.parts):  # a .git above it tells of other code
        return ""
    try:
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        # of the source alone: the rows of one benchmark do not make those of the next another's
        changed = _git(here, "status", "--porcelain", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
