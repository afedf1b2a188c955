"""Is ``impl="auto"`` as fast as the best path, over shapes that are drawn and not picked?

Every path is timed in turn with "auto". Where that takes over 1.5 times the best, the shape is
measured three times more, as process 2 to 4 of the rows.
"""

import math
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.hop.cases import Case, make
from benchmarks.hop.check import check
from benchmarks.hop.clock import time_interleaved, timed
from benchmarks.hop.forms import path
from benchmarks.hop.rows import Setting, row
from memhop import ops

ENDS = (  # of the ranges, which few of those drawn come near
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
DRAWN = 66
SEED = 0
WIDTHS = (16, 32, 64, 128, 256, 512, 768)
MOST_PRODUCTS = 1.5e9  # multiplications of the slowest path: at most 0.1 s or so, forward
MOST_NUMBERS = 2**24  # in the memory, in its gathered rows, or in the scores
THREE_DIGITS = 2**13  # steps of float32 that paths may differ by: large scores magnify rounding
TOO_SLOW = 1.5
AGAIN = 3
SECONDS = 0.3
HOPELESS = 3.0  # times the best: a path that is called often enough to see only that


def choice(setting: Setting) -> Iterator[dict[str, Any]]:
    """Rows of all paths on each of the shapes."""
    cases = drawn(4, largest=32) if setting.tiny else [*ENDS, *drawn(DRAWN, largest=200_000)]
    for number, case in enumerate(cases, 1):
        setting.begin(f"shape {number} of {len(cases)}: {case.name}")
        rows = list(of_paths(case, setting))
        yield from rows
        if times_best(rows) > TOO_SLOW:
            for again in range(AGAIN):
                yield from of_paths(case, setting._replace(process=2 + again))


def of_paths(case: Case, setting: Setting) -> Iterator[dict[str, Any]]:
    """A row for each path; those that are far from the best have one round."""
    inputs = make(case, setting.device)
    words = [word for word in ops.IMPLEMENTATIONS if word != "auto"]
    words.sort(key="reference".__ne__)  # first what the others must equal
    candidates = [path(word)(inputs) for word in [*words, "auto"]]
    errors = check(candidates, inputs, rounding=THREE_DIGITS)
    entrants = [timed(candidate, case.gradients) for candidate in candidates]
    run = partial(time_interleaved, gradients=case.gradients, device=setting.device)
    first = run(entrants, rounds=1)
    best = min(first[word].seconds for word in words)
    near = [one for one in entrants
            if one.form == "auto" or first[one.form].seconds < HOPELESS * best]  # fmt: skip
    times = first | (run(near, rounds=2) if setting.tiny else run(near, seconds=SECONDS))
    for candidate, error in zip(candidates, errors, strict=True):
        yield row(
            "choice", case, candidate.form, setting, **times[candidate.form]._asdict(),
            error=error.result, gradient_error=error.gradients, bar=TOO_SLOW,
        )  # fmt: skip


def times_best(rows: list[dict[str, Any]]) -> float:
    """The time of "auto" in times of the best path's."""
    seconds = {row["form"]: float(row["seconds"]) for row in rows}
    auto = seconds.pop("auto")
    return auto / min(seconds.values())


def drawn(count: int, largest: int) -> list[Case]:
    """Cases with sizes drawn evenly on a logarithmic scale, as many of each kind."""
    source = random.Random(SEED)
    widths = [width for width in WIDTHS if width <= largest]

    def size(most: int) -> int:
        return round(math.exp(source.uniform(0, math.log(most))))

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
    """Whether no path takes too long or too much memory."""
    rows = case.bytes_held // case.bytes_of_row
    width = case.input_dim + case.memory_dim
    scored = case.batch * max(rows if case.held == "bank" else 0, case.slots)
    embedded = rows if case.held == "shared" else max(rows, case.batch * case.slots)
    products = 2 * case.hops * (embedded * case.input_dim * case.memory_dim + scored * width)
    numbers = max(scored, embedded * width)
    return products * (3 if case.gradients else 1) <= MOST_PRODUCTS and numbers <= MOST_NUMBERS
