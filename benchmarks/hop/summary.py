"""What the rows of ``memhop bench hop`` say: a number of a case out of those of its processes."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.hop.cases import Case
from benchmarks.hop.rows import case_of

Rows = Sequence[Mapping[str, str]]
BASELINES = ("textbook", "two products")


class Compared(NamedTuple):
    """A case, a baseline's seconds and ours, how many times faster ours is, and the bar for that.

    The ratio is the median over processes of the ratio of their medians. ``once`` and ``a_hop``
    are our time over the floor: the memory is read once, or once a hop, and its gradient written.
    """

    case: Case
    baseline: float
    ours: float
    faster: float
    bar: float | None
    once: float
    a_hop: float


def by_case(rows: Rows, measure: str) -> dict[Case, Rows]:
    """The rows of a measure, each case by itself."""
    found: dict[Case, list[Mapping[str, str]]] = {}
    for row in rows:
        if row["part"] == measure:
            found.setdefault(case_of(row), []).append(row)
    return dict(found)


def of_form(rows: Rows, *forms: str) -> dict[str, Mapping[str, str]]:
    """The rows of a form that have a time, by process."""
    return {row["process"]: row for row in rows if row["form"] in forms and row["seconds"]}


def seconds(rows: Rows, *forms: str) -> float | None:
    """The median over processes of a form's times."""
    return median(float(row["seconds"]) for row in of_form(rows, *forms).values())


def median(numbers: Iterable[float]) -> float | None:
    """The median; None of none."""
    found = list(numbers)
    return statistics.median(found) if found else None


def faster(rows: Rows, others: Rows, form: str) -> float | None:
    """How many times faster a form is on these rows than on others of the same processes."""
    own, theirs = of_form(rows, form), of_form(others, form)
    return median(
        float(theirs[process]["seconds"]) / float(own[process]["seconds"])
        for process in own
        if process in theirs
    )


def compared(rows: Rows, measure: str, ours: str) -> list[Compared]:
    """Our form beside the baseline, for each case of a measure that has both."""
    found = []
    for case, alike in by_case(rows, measure).items():
        theirs, own = of_form(alike, *BASELINES), of_form(alike, ours)
        both = [(theirs[process], own[process]) for process in own if process in theirs]
        if not both:
            continue
        floors = [floor(row) for _, row in both]
        times = [float(row["seconds"]) for _, row in both]
        found.append(Compared(
            case,
            statistics.median(float(row["seconds"]) for row, _ in both),
            statistics.median(times),
            statistics.median(float(t["seconds"]) / float(o["seconds"]) for t, o in both),
            float(both[0][1]["bar"]) if both[0][1]["bar"] else None,
            statistics.median(t / once for t, (once, _) in zip(times, floors, strict=True)),
            statistics.median(t / a_hop for t, (_, a_hop) in zip(times, floors, strict=True)),
        ))  # fmt: skip
    return found


def floor(row: Mapping[str, str]) -> tuple[float, float]:
    """Seconds that its bytes take at the read speed of its run: read once, and once a hop.

    A row of a bank is read once where many slots name it; read once a hop, each slot counts.

    >>> row = {"bytes_held": "6", "bytes_read": "8", "bytes_written": "0", "hops": "3"}
    >>> floor(row | {"read_speed": "2"})
    (3.0, 12.0)
    """
    held, read, written = (int(row[f"bytes_{what}"]) for what in ("held", "read", "written"))
    speed = float(row["read_speed"])
    return (min(held, read) + written) / speed, (int(row["hops"]) * read + written) / speed


def share(rows: Rows, form: str = "auto") -> float | None:
    """The share of the read speed that a form reads with, where each hop reads all its bytes."""
    return median(floor(row)[1] / float(row["seconds"]) for row in of_form(rows, form).values())


class Chosen(NamedTuple):
    """A shape: the best path, its seconds, those of "auto", and their ratio.

    Where it was measured again, ``ratio`` is the median of those three times, ``first`` that of
    the first.
    """

    case: Case
    best: str
    best_seconds: float
    auto_seconds: float
    ratio: float
    first: float
    again: bool


def chosen(rows: Rows) -> list[Chosen]:
    """All shapes that the choice of path was measured on."""
    return [one_choice(case, alike) for case, alike in by_case(rows, "choice").items()]


def one_choice(case: Case, rows: Rows) -> Chosen:
    """What the rows of one shape say."""
    times: dict[str, dict[str, float]] = {}
    for row in rows:
        times.setdefault(row["process"], {})[row["form"]] = float(row["seconds"])
    ratios = {}
    for process, by_form in times.items():
        paths = {form: taken for form, taken in by_form.items() if form != "auto"}
        ratios[process] = by_form["auto"] / min(paths.values())
    first = ratios.pop("1")
    last = times[max(times, key=int)]
    best = min((form for form in last if form != "auto"), key=last.__getitem__)
    ratio = statistics.median(ratios.values()) if ratios else first
    return Chosen(case, best, last[best], last["auto"], ratio, first, bool(ratios))
