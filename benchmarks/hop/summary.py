"""Summarize the rows of the hop benchmark: one number for a case from several processes."""

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.hop.cases import Case, case_of
from memhop.reproduce.record import Row, Rows

BASELINES = ("textbook", "two products")


class Compared(NamedTuple):
    """A case with the seconds of the baseline and ours.

    Attributes:
        faster: the median over processes of the ratio of their times.
        bar: the goal for ``faster``.
        once, a_hop: our time over the bound, if the memory is read once or once a hop.
    """

    case: Case
    baseline: float
    ours: float
    faster: float
    bar: float | None
    once: float
    a_hop: float


def by_case(rows: Rows, measure: str) -> dict[Case, Rows]:
    """Return the rows of a measure by case."""
    found: dict[Case, list[Row]] = {}
    for row in rows:
        if row["part"] == measure:
            found.setdefault(case_of(row), []).append(row)
    return dict(found)


def of_form(rows: Rows, *forms: str) -> dict[str, Row]:
    """Return the rows of a form that have a time, by process."""
    return {row["process"]: row for row in rows if row["form"] in forms and row["seconds"]}


def seconds(rows: Rows, *forms: str) -> float | None:
    """Return the median over processes of a form's times."""
    return median(float(row["seconds"]) for row in of_form(rows, *forms).values())


def median(numbers: Iterable[float]) -> float | None:
    """Return the median, or None without numbers."""
    found = list(numbers)
    return statistics.median(found) if found else None


def faster(rows: Rows, others: Rows, form: str) -> float | None:
    """Return how many times faster a form is on these rows than on others, by process."""
    own, theirs = of_form(rows, form), of_form(others, form)
    return median(
        float(theirs[process]["seconds"]) / float(own[process]["seconds"])
        for process in own
        if process in theirs
    )


def compared(rows: Rows, measure: str, ours: str) -> list[Compared]:
    """Compare our form with the baseline, for each case of a measure that has both."""
    found = []
    for case, rows_of_case in by_case(rows, measure).items():
        theirs, own = of_form(rows_of_case, *BASELINES), of_form(rows_of_case, ours)
        both = [(theirs[process], own[process]) for process in own if process in theirs]
        if not both:
            continue
        bounds = [bounds_of(row) for _, row in both]
        times = [float(row["seconds"]) for _, row in both]
        found.append(Compared(
            case,
            statistics.median(float(row["seconds"]) for row, _ in both),
            statistics.median(times),
            statistics.median(float(t["seconds"]) / float(o["seconds"]) for t, o in both),
            float(both[0][1]["bar"]) if both[0][1]["bar"] else None,
            statistics.median(t / once for t, (once, _) in zip(times, bounds, strict=True)),
            statistics.median(t / a_hop for t, (_, a_hop) in zip(times, bounds, strict=True)),
        ))  # fmt: skip
    return found


def bounds_of(row: Row) -> tuple[float, float]:
    """Return the seconds to read the memory once, and once a hop, at the read bandwidth.

    The gradient is written once. If many slots index a row of a bank, "once" counts the row once
    and "once a hop" every slot.

    >>> row = {"bytes_held": "6", "bytes_read": "8", "bytes_written": "0", "hops": "3"}
    >>> bounds_of(row | {"read_speed": "2"})
    (3.0, 12.0)
    """
    held, read, written = (int(row[f"bytes_{which}"]) for which in ("held", "read", "written"))
    speed = float(row["read_speed"])
    return (min(held, read) + written) / speed, (int(row["hops"]) * read + written) / speed


def share(rows: Rows, form: str = "auto") -> float | None:
    """Return the share of the read bandwidth of a form; each hop reads all bytes."""
    return median(bounds_of(row)[1] / float(row["seconds"]) for row in of_form(rows, form).values())


class Chosen(NamedTuple):
    """A shape with its best path, the seconds of that and of "auto", and their ratio.

    ``first`` is the first ratio; ``ratio`` is the median of the repeats if there are any.
    """

    case: Case
    best: str
    best_seconds: float
    auto_seconds: float
    ratio: float
    first: float
    is_repeated: bool


def chosen(rows: Rows) -> list[Chosen]:
    """Return the shapes on which the choice of path was measured."""
    return [one_choice(case, own) for case, own in by_case(rows, "choice").items()]


def one_choice(case: Case, rows: Rows) -> Chosen:
    """Summarize the rows of one shape."""
    times: dict[str, dict[str, float]] = {}
    for row in rows:
        form = "eager" if row["form"] == "torch" else row["form"]  # its name in older rows
        times.setdefault(row["process"], {})[form] = float(row["seconds"])
    ratios = {}
    for process, by_form in times.items():
        paths = [taken for form, taken in by_form.items() if form != "auto"]
        ratios[process] = by_form["auto"] / min(paths)
    first = ratios.pop("1")
    last = times[max(times, key=int)]
    best = min((form for form in last if form != "auto"), key=last.__getitem__)
    ratio = statistics.median(ratios.values()) if ratios else first
    return Chosen(case, best, last[best], last["auto"], ratio, first, bool(ratios))
