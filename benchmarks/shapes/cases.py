"""The random shapes, and their rows."""

import math
import random
from typing import Any

from benchmarks.hop.cases import Case

SEED = 0
NUM_SHAPES = 60  # two of three with a memory for each query, the others with one memory for all
BATCH, SLOTS, WIDTHS = (1, 512), (8, 200_000), (16, 768)
QUERIES = (8, 2048)  # on a memory that they share
MAX_BYTES = 2**28  # of a memory
MAX_SCORES, MAX_PRODUCTS = 2**25, 2**31  # of a hop on a shared memory: Q N and Q N I

COLUMNS = (
    "shape", *(name for name in Case._fields if name not in ("bank_rows", "dtype", "weights")),
    "form", "rounds", "seconds", "cpu_seconds", "first_call_seconds", "error", "gradient_error",
    "note", "tiny",
)  # fmt: skip


def drawn(count: int, largest: int | None = None) -> list[Case]:
    """Draw shapes with log-uniform sizes; the first of a larger count are the same.

    Every second shape has widths that are multiples of 16. ``largest`` limits all sizes.
    """
    source = random.Random(SEED)

    def size(limits: tuple[int, int], step: int = 1) -> int:
        low, high = limits
        number = step * round(math.exp(source.uniform(math.log(low), math.log(high))) / step)
        return number if largest is None else min(number, largest)

    cases: list[Case] = []
    while len(cases) < count:
        held = ("own", "own", "shared")[len(cases) % 3]
        step = (1, 16)[len(cases) % 2]
        case = Case(
            size(QUERIES if held == "shared" else BATCH), size(SLOTS), size(WIDTHS, step),
            size(WIDTHS, step), source.choice((1, 2, 3)), held,
        )  # fmt: skip
        if fits(case):
            cases.append(case)
    return cases


def fits(case: Case) -> bool:
    """Return whether memory and time of a shape are within the limits."""
    scores = case.batch * case.slots
    if case.held == "shared" and (scores > MAX_SCORES or scores * case.input_dim > MAX_PRODUCTS):
        return False
    return case.bytes_held <= MAX_BYTES


def row(shape: int, case: Case, form: str, tiny: bool, **measured: Any) -> dict[str, Any]:
    """Return a row; columns that are not given are None.

    ``cpu_seconds`` is the CPU time of a call in all threads, ``first_call_seconds`` the time to
    build the form and to call it once, which of compiled forms is mostly that of the compiler.
    """
    if unknown := measured.keys() - set(COLUMNS):
        raise ValueError(f"expected columns of {', '.join(COLUMNS)}, got {sorted(unknown)}")
    known = {name: value for name, value in case._asdict().items() if name in COLUMNS}
    return dict.fromkeys(COLUMNS) | {"shape": shape, **known, "form": form, "tiny": tiny} | measured
