"""How long does ``import memhop`` take beyond ``import torch``?"""

import statistics
import subprocess
import sys
import time

from memhop.reproduce.record import surroundings


def measure(rounds: int) -> dict[str, str | int | float | None]:
    """Medians over fresh interpreters, the two imports in turn; one row."""
    seconds: dict[str, list[float]] = {"torch": [], "memhop": []}
    for _ in range(rounds + 1):
        for module, taken in seconds.items():
            taken.append(fresh_import(module))
    # the first of each warms the disk
    torch_alone, with_memhop = (statistics.median(taken[1:]) for taken in seconds.values())
    return {
        "rounds": rounds,
        "import_torch_seconds": round(torch_alone, 3),
        "import_memhop_seconds": round(with_memhop, 3),
        "beyond_torch_seconds": round(with_memhop - torch_alone, 3),
        **surroundings(),
    }


def fresh_import(module: str) -> float:
    """Seconds that a new interpreter takes for one import."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - begun
