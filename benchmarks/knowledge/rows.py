"""The rows of the knowledge benchmark, and the tables made from them."""

from collections.abc import Iterator
from typing import Any

from benchmarks.hop.tables import figure, milliseconds
from memhop.reproduce.record import Rows, Sheet

COLUMNS = (
    "part", "case", "form", "facts", "questions", "seconds", "cpu_seconds", "median_seconds",
    "slow_seconds", "median_cpu_seconds", "slow_cpu_seconds", "hits", "estimated", "slots",
    "error", "peak_bytes",
)  # fmt: skip


def row(part: str, case: str, **values: Any) -> dict[str, Any]:
    """Return a row with all columns; those without a value are empty."""
    known = {"part": part, "case": case, **values}
    if unknown := known.keys() - set(COLUMNS):
        raise KeyError(f"no column {', '.join(sorted(unknown))}")
    return {name: known.get(name) for name in COLUMNS}


def sheets(rows: Rows) -> list[Sheet]:
    """Return the tables of all measured parts."""
    parts = {part: [one for one in rows if one["part"] == part] for part in _SHEETS}
    return [make(parts[part]) for part, make in _SHEETS.items() if parts[part]]


def _load(rows: Rows) -> Sheet:
    lines = [
        [one["case"], *(f"{float(one[name]):.1f}" for name in ("cpu_seconds", "seconds")),
         f"{int(one['peak_bytes']) / 1e6:,.0f}"]
        for one in rows
    ]  # fmt: skip
    note = (
        f"{int(rows[0]['facts']):,} facts in a TSV file, in a fresh process. Peak: of the whole "
        "process so far; 2 GB are allowed, and 20 s."
    )
    return Sheet("Load", ("step", "CPU s", "s", "peak MB"), lines, note)


_TIMES = ("median_cpu_seconds", "slow_cpu_seconds", "median_seconds", "slow_seconds")


def _answers(rows: Rows) -> Sheet:
    lines = [
        [one["case"], one["questions"], *(f"{float(one[name]):.1f}" for name in _SHARES),
         *(milliseconds(float(one[name])) for name in _TIMES)]
        for one in rows
    ]  # fmt: skip
    note = (
        "Questions of 3 hops, answered one by one by a model that was trained on questions about "
        "2,000 generated facts of other entities. Right: % of first answers. Estimated: % of "
        "questions for which a hop dropped 0.5% or more of the weight. Medians, and the time "
        "within which 99 of 100 are answered; 50 and 300 ms are allowed."
    )
    columns = ("questions", "number", "right", "estimated", "CPU ms", "99/100", "ms", "99/100")
    return Sheet("Answers", columns, lines, note)


_SHARES = ("hits", "estimated")


def _reads(rows: Rows) -> Sheet:
    return Sheet("One read, by three forms", _READ_COLUMNS, list(_read_lines(rows)), _READ_NOTE)


_READ_COLUMNS = ("read", "facts", "dense ms", "eager ms", "compiled ms", "error")
_READ_NOTE = (
    "Dense: torch operations over all facts, one query after the other; eager: torch operations "
    "over the facts of the frontier; compiled: memhop's. CPU time. The error is the largest "
    "difference of a weight from the dense read in float64."
)


def _read_lines(rows: Rows) -> Iterator[list[str]]:
    for case in dict.fromkeys(one["case"] for one in rows):
        own = {one["form"]: one for one in rows if one["case"] == case}
        times = (milliseconds(float(own[form]["cpu_seconds"])) for form in FORMS)
        error = figure(float(own[COMPILED]["error"]))
        yield [case, f"{int(own[COMPILED]['slots']):,}", *times, error]


DENSE, EAGER, COMPILED = FORMS = ("dense", "eager", "compiled")
PARTS = ("load", "answers", "reads")
_SHEETS = {"load": _load, "answers": _answers, "reads": _reads}
