"""Measure the time of ``import memhop`` beyond ``import torch``."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from memhop.cli.reproduce import Tiny
from memhop.reproduce.record import Rows, Sheet, provenance

NAME = "import"


def measure(tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Measure 'import memhop' beyond 'import torch'."""
    warm_up, rounds = (0, 1) if tiny else (1, 9)  # the first imports read from the disk
    seconds: dict[str, list[float]] = {"torch": [], "memhop": []}
    for _ in range(warm_up + rounds):
        for module, times in seconds.items():
            times.append(fresh_import(module))
    torch_alone, with_memhop = (statistics.median(times[warm_up:]) for times in seconds.values())
    yield [{
        "rounds": rounds,
        "import_torch_seconds": round(torch_alone, 3),
        "import_memhop_seconds": round(with_memhop, 3),
        "beyond_torch_seconds": round(with_memhop - torch_alone, 3),
        **provenance(),
    }]  # fmt: skip


def fresh_import(module: str) -> float:
    """Return the seconds that a new interpreter takes for one import."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def sheets(rows: Rows) -> list[Sheet]:
    """Return the row as a sentence."""
    row = rows[0]
    beyond, torch = float(row["beyond_torch_seconds"]), float(row["import_torch_seconds"])
    note = (
        f"`import memhop` takes {beyond:.2f} s beyond the {torch:.2f} s of `import torch` "
        f"(medians of {row['rounds']} fresh interpreters)."
    )
    return [Sheet(note=note)]
