"""Summarize the rows of the random shapes, and make their tables."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.hop.cases import Case
from benchmarks.hop.summary import median
from benchmarks.hop.tables import figure, memory_name, milliseconds
from memhop.reproduce.record import Row, Rows, Sheet

TORCH = ("compiled raw bmm", "compiled raw sum", "SDPA, raw form")
OURS, AUTO = "MultiHop", "auto"
PATHS = ("eager", "project", "fused")  # "auto" chooses one of them
SLOWER, CLOSE = 1.05, 1.1
PASSES = {False: "forward", True: "both"}


class Key(NamedTuple):
    """What was measured: a case with a number of threads."""

    threads: int
    shape: int
    case: Case


class Result(NamedTuple):
    """A shape with the seconds of ``MultiHop`` and of torch's fastest form.

    Attributes:
        fastest: the name of that form.
        seconds, ours: of it and of ``MultiHop``.
        ratio: ours over that.
        over_raw: ours over the fastest of torch's forms with the eager one.
        choice: "auto" over the fastest of our forms, None if one of the two has no time.
        cpu: CPU time over time by the clock, of ``MultiHop``.
    """

    key: Key
    fastest: str
    seconds: float
    ours: float
    ratio: float
    over_raw: float
    choice: float | None
    cpu: float


def key_of(row: Row) -> Key:
    """Return what a row measures."""
    batch, slots, input_dim, memory_dim, hops = (
        int(row[name]) for name in ("batch", "slots", "input_dim", "memory_dim", "hops")
    )
    gradients = row["gradients"] == "True"
    case = Case(batch, slots, input_dim, memory_dim, hops, row["held"], gradients=gradients)
    return Key(int(row["threads"]), int(row["shape"]), case)


def results(rows: Rows) -> list[Result]:
    """Return the shapes on which ``MultiHop`` and one of torch's forms have a time."""
    by_key: dict[Key, dict[str, Row]] = {}
    for row in rows:
        if row["seconds"]:
            by_key.setdefault(key_of(row), {})[row["form"]] = row
    found = (result(key, forms) for key, forms in by_key.items())
    return [one for one in found if one is not None]


def result(key: Key, forms: Mapping[str, Row]) -> Result | None:
    """Summarize the rows of one shape by form."""
    seconds = {form: float(row["seconds"]) for form, row in forms.items()}
    torchs = {form: seconds[form] for form in TORCH if form in seconds}
    if OURS not in seconds or not torchs:
        return None
    fastest = min(torchs, key=torchs.__getitem__)
    ours, best = seconds[OURS], torchs[fastest]
    paths = [seconds[form] for form in PATHS if form in seconds]
    choice = seconds[AUTO] / min(paths) if AUTO in seconds and paths else None
    with_eager = min(best, seconds.get("raw", best))
    cpu = float(forms[OURS]["cpu_seconds"]) / ours
    return Result(key, fastest, best, ours, ours / best, ours / with_eager, choice, cpu)


def sheets(rows: Rows) -> list[Sheet]:
    """Return the ratios of all shapes in short, and the shapes on which torch is faster."""
    found = results(rows)
    groups: dict[tuple[str, bool, int], list[Result]] = {}
    for one in found:
        case = one.key.case
        groups.setdefault((case.held, case.gradients, one.key.threads), []).append(one)
    lines = [
        [NAMES[held], PASSES[gradients], str(threads), *cells(groups[held, gradients, threads])]
        for held, gradients, threads in sorted(groups)
    ]
    columns = (
        "memory", "pass", "threads", "shapes", "median", "worst", f"above {SLOWER}",
        "median with raw", "auto: median", "worst",
    )  # fmt: skip
    short = Sheet("Time over that of torch's fastest form", columns, lines, note_of(rows, found))
    return [short, slower(found)]


NAMES = {"own": "of each query", "shared": "shared"}


def cells(group: Sequence[Result]) -> list[str]:
    """Return the number of shapes, and their ratios in short."""
    ratios = [one.ratio for one in group]
    choices = [one.choice for one in group if one.choice is not None]
    return [
        str(len(group)), figure(statistics.median(ratios)), figure(max(ratios)),
        str(sum(ratio > SLOWER for ratio in ratios)),
        figure(statistics.median(one.over_raw for one in group)),
        figure(median(choices)), figure(max(choices, default=None)),
    ]  # fmt: skip


def note_of(rows: Rows, found: Sequence[Result]) -> str:
    """Return sentences on all shapes: within the limits, and forms that were not timed."""
    if not found:
        return "No shape has a time of MultiHop and of one of torch's forms."
    within = sum(one.ratio <= SLOWER for one in found)
    choices = [one.choice for one in found if one.choice is not None]
    close = sum(choice <= CLOSE for choice in choices)
    text = (
        f"Of {len(found)} measurements, {within} are at most {SLOWER}; the median is "
        f"{figure(statistics.median(one.ratio for one in found))}, the largest "
        f"{figure(max(one.ratio for one in found))}. auto is within {CLOSE - 1:.0%} of our fastest "
        f"form in {close} of {len(choices)}."
    )
    missing: dict[str, int] = {}
    for row in rows:
        if row["note"]:
            reason = f"{row['form']}: {row['note'].partition(': error')[0]}"
            missing[reason] = missing.get(reason, 0) + 1
    return " ".join([text, *(f"{why} ({count}x)." for why, count in sorted(missing.items()))])


def slower(found: Sequence[Result]) -> Sheet:
    """Return the shapes above the limit, the largest ratio first."""
    above = sorted((one for one in found if one.ratio > SLOWER), key=lambda one: -one.ratio)
    lines = [
        [f"{memory_name(one.key.case)}, {one.key.case.memory_dim}", str(one.key.case.hops),
         PASSES[one.key.case.gradients], str(one.key.threads), one.fastest,
         milliseconds(one.seconds), milliseconds(one.ours), figure(one.ratio, "x"),
         figure(one.cpu)]
        for one in above
    ]  # fmt: skip
    columns = (
        "memories, memory_dim", "hops", "pass", "threads", "torch's fastest", "ms", "memhop ms",
        "memhop / torch", "CPU / clock",
    )  # fmt: skip
    return Sheet(f"Shapes above {SLOWER}", columns if lines else (), lines)
