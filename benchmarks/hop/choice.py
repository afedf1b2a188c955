"""Compare ``impl="auto"`` with the best path, over random shapes.

All paths and "auto" are timed interleaved. If "auto" takes over 1.5 times the best, the shape is
measured three times more, as process 2 to 4 of the rows.
"""

import math
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.hop.cases import Case, Setting, make, row
from benchmarks.hop.clock import time_interleaved, timed
from benchmarks.hop.forms import check, path
from memhop import ops

ENDS = (  # of the ranges: few random shapes come near
    Case(1, 1, 16, 16),
    Case(4096, 1, 128, 64, gradients=True),
    Case(4096, 50, 16, 16),
    Case(1, 200_000, 16, 16),
    Case(1, 200_000, 16, 16, gradients=True),
    Case(1, 200_000, 16, 16, held="shared"),
    Case(4096, 200, 16, 16, held="shared", gradients=True),
    Case(1, 200_000, 16, 16, held="bank", bank_rows=200_000),
    Case(4096, 20, 64, 64, held="bank", bank_rows=200_000),
)
NUM_RANDOM = 66
SEED = 0
WIDTHS = (16, 32, 64, 128, 256, 512, 768)
MAX_PRODUCTS = 1.5e9  # multiplications of the slowest path: at most 0.1 s or so, forward
MAX_NUMEL = 2**24  # of the memory, of its gathered rows, or of the scores
ROUNDING_STEPS = 2**13  # of float32, three digits: large scores magnify rounding
TOO_SLOW = 1.5
REPEATS = 3
SECONDS = 0.3
HOPELESS = 3.0  # times the best: a path this slow has one round


def choice(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time all paths on each of the shapes."""
    cases = (
        random_cases(4, largest=32)
        if setting.tiny
        else [*ENDS, *random_cases(NUM_RANDOM, largest=200_000)]
    )
    for number, case in enumerate(cases, 1):
        setting.on_begin(f"shape {number} of {len(cases)}: {case.name}")
        rows = list(of_paths(case, setting))
        yield from rows
        if times_best(rows) > TOO_SLOW:
            for repeat in range(REPEATS):
                yield from of_paths(case, setting._replace(process=2 + repeat))


def of_paths(case: Case, setting: Setting) -> Iterator[dict[str, Any]]:
    """Return a row for each path; paths far from the best have one round."""
    inputs = make(case, setting.device)
    impls = [impl for impl in ops.IMPLEMENTATIONS if impl != "auto"]
    impls.sort(key="reference".__ne__)  # the yardstick comes first
    candidates = [path(impl)(inputs) for impl in [*impls, "auto"]]
    errors = check(candidates, inputs, rounding=ROUNDING_STEPS)
    calls = [timed(candidate, case.gradients) for candidate in candidates]
    run = partial(time_interleaved, gradients=case.gradients, device=setting.device)
    times = run(calls, rounds=1)
    limit = HOPELESS * min(one.seconds for one in times[:-1])
    near = [n for n, one in enumerate(times) if one.seconds < limit or n == len(impls)]
    more = {"rounds": 2} if setting.tiny else {"seconds": SECONDS}
    for n, one in zip(near, run([calls[n] for n in near], **more), strict=True):
        times[n] = one
    for candidate, error, time in zip(candidates, errors, times, strict=True):
        yield row(
            "choice", case, candidate.form, setting, seconds=time.seconds, rounds=time.rounds,
            error=error.result, gradient_error=error.gradients, bar=TOO_SLOW,
        )  # fmt: skip


def times_best(rows: list[dict[str, Any]]) -> float:
    """Return the time of "auto" divided by that of the best path."""
    seconds = {row["form"]: float(row["seconds"]) for row in rows}
    auto = seconds.pop("auto")
    return auto / min(seconds.values())


def random_cases(count: int, largest: int) -> list[Case]:
    """Draw cases with log-uniform sizes, as many of each kind."""
    source = random.Random(SEED)
    widths = [width for width in WIDTHS if width <= largest]

    def size(maximum: int) -> int:
        return round(math.exp(source.uniform(0, math.log(maximum))))

    cases: list[Case] = []
    while len(cases) < count:
        held = ("own", "shared", "bank")[len(cases) % 3]
        case = Case(
            min(size(4096), largest), size(largest), source.choice(widths), source.choice(widths),
            source.choice((1, 2, 3)), held, size(largest) if held == "bank" else 0,
            gradients=len(cases) // 3 % 2 == 1,
        )  # fmt: skip
        if fits(case):
            cases.append(case)
    return cases


def fits(case: Case) -> bool:
    """Return whether no path takes too long or too much memory."""
    rows = case.bytes_held // case.bytes_of_row
    width = case.input_dim + case.memory_dim
    scored = case.batch * max(rows if case.held == "bank" else 0, case.slots)
    embedded = rows if case.held == "shared" else max(rows, case.batch * case.slots)
    products = 2 * case.hops * (embedded * case.input_dim * case.memory_dim + scored * width)
    numel = max(scored, embedded * width)
    return products * (3 if case.gradients else 1) <= MAX_PRODUCTS and numel <= MAX_NUMEL
