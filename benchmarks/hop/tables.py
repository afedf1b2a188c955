"""The tables that the rows of ``memhop bench hop`` make, for the terminal and for the documents."""

import statistics
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.hop.cases import Case
from benchmarks.hop.summary import (
    BASELINES,
    Rows,
    by_case,
    chosen,
    compared,
    faster,
    of_form,
    seconds,
    share,
)

MEBIBYTE = 2**20
CLOSE = 1.15
WORST_SHOWN = 5
TORCH_FORMS = ("compiled", "SDPA, raw form", "MultiheadAttention")


class Sheet(NamedTuple):
    """A table: what stands over it, its columns, its lines and what is said below."""

    title: str
    columns: tuple[str, ...]
    lines: list[list[str]]
    note: str = ""


def figure(number: float | None, unit: str = "") -> str:
    """Three digits of a number.

    >>> figure(1234.5), figure(12.345), figure(0.01234), figure(None), figure(1.5, "x")
    ('1,234', '12.3', '0.0123', '-', '1.50x')
    """
    if number is None:
        return "-"
    if number >= 99.95:
        return f"{number:,.0f}{unit}"
    decimals = 1 if number >= 9.995 else 2
    return f"{number:.{decimals}f}{unit}" if number >= 0.0995 else f"{number:.3g}{unit}"


def milliseconds(taken: float | None) -> str:
    """A time in ms."""
    return figure(None if taken is None else 1000 * taken)


def mebibytes(number: str) -> str:
    """A number of bytes, as a row has it, in MiB."""
    return f"{int(number) / MEBIBYTE:.2f}" if number else "-"


def plain(case: Case) -> str:
    """The memory of a case, whatever is measured of it."""
    return case._replace(gradients=False).name


def both(case: Case) -> str:
    """What is measured of a case, where it is not the forward alone."""
    return ", with gradients" if case.gradients else ""


def bars(rows: Rows) -> list[Sheet]:
    """Times of the baseline and ours, beside the bar and the floor."""
    columns = ("memories", "base ms", "ms", "faster", "bar", "once", "a hop")
    sheets = []
    found = compared(rows, "bars", "auto")
    for gradients, title in ((False, "Forward"), (True, "Forward and backward")):
        lines = [
            [plain(one.case), milliseconds(one.baseline),
             milliseconds(one.ours), figure(one.faster, "x"), f"{one.bar or 0:g}x",
             figure(one.once), figure(one.a_hop)]
            for one in found if one.case.gradients is gradients
        ]  # fmt: skip
        sheets.append(Sheet(title, columns, lines, errors_of(rows, gradients)))
    return sheets


def errors_of(rows: Rows, gradients: bool) -> str:
    """How exact the results are, or the gradients: ours beside the baseline's."""
    which = "gradient_error" if gradients else "error"
    pairs = []
    for case, alike in by_case(rows, "bars").items():
        if case.gradients is gradients:
            ours, theirs = of_form(alike, "auto"), of_form(alike, *BASELINES)
            pairs += [(float(ours[n][which]), float(theirs[n][which])) for n in ours if n in theirs]
    if not pairs:
        return ""
    ours_at_most, theirs_at_most = (max(each) for each in zip(*pairs, strict=True))
    return (
        f"{'Gradients' if gradients else 'Results'} err by at most {ours_at_most:.1e} against "
        f"float64, the baseline's by {theirs_at_most:.1e}."
    )


def bound(rows: Rows) -> list[Sheet]:
    """The share of the read speed, and what a smaller dtype gains."""
    cases = by_case(rows, "bound")
    lines = []
    for case, alike in cases.items():
        bar, gain = float(alike[0]["bar"]), None
        goal = f"{100 * bar:g}%"
        if case.dtype != "float32":
            gain, goal = faster(alike, cases[case._replace(dtype="float32")], "auto"), f"{bar:g}x"
        reached = figure(100 * (share(alike) or 0), "%")
        time = milliseconds(seconds(alike, "auto"))
        lines.append([case.name, time, reached, figure(gain, "x"), goal])
    columns = ("memories", "ms", "of read speed", "of float32", "bar")
    return [Sheet("Memories larger than the last cache, forward", columns, lines)]


def small(rows: Rows) -> list[Sheet]:
    """The module on a tiny memory, in microseconds."""
    found = compared(rows, "small", "MultiHop")
    lines = [
        [f"memory_dim {one.case.memory_dim}{both(one.case)}",
         figure(1e6 * one.baseline), figure(1e6 * one.ours), figure(1 / one.faster, "x"),
         f"{one.bar:g}x" if one.bar else "-"]
        for one in found
    ]  # fmt: skip
    measured = f"{found[0].case.hops} hops over {plain(found[0].case)}" if found else ""
    columns = (measured, "formula us", "MultiHop us", "times", "bar")
    return [Sheet("A small call", columns, lines)]


def others(rows: Rows) -> list[Sheet]:
    """Milliseconds of all forms."""
    columns = ("memories", "base", "compiled", "SDPA", "MHA", "memhop")
    cases = by_case(rows, "others")
    return [Sheet("Beside what torch has, forward, in ms", columns, times_of_forms(cases))]


def times_of_forms(cases: dict[Case, Rows]) -> list[list[str]]:
    """A line of times for each case."""
    forms: list[tuple[str, ...]] = [BASELINES, *((form,) for form in TORCH_FORMS), ("auto",)]
    return [
        [case.name, *(milliseconds(seconds(alike, *form)) for form in forms)]
        for case, alike in cases.items()
    ]


def memory(rows: Rows) -> list[Sheet]:
    """Mebibytes beyond inputs, results and gradients, beside the bound."""
    lines = []
    for case, alike in by_case(rows, "memory").items():
        numbers = [alike[0][name] for name in ("extra_bytes", "bound_bytes", "kept_bytes")]
        lines.append([case.name, *(mebibytes(number) for number in numbers)])
    columns = ("memories", "extra MiB", "bound", "kept")
    return [Sheet("Extra memory of a call", columns, lines)]


def choice(rows: Rows) -> list[Sheet]:
    """How far "auto" is from the best path."""
    shapes = sorted(chosen(rows), key=lambda one: one.ratio, reverse=True)
    lines = [
        [f"{plain(one.case)}, {one.case.memory_dim}",
         "both" if one.case.gradients else "forward", one.best, milliseconds(one.best_seconds),
         milliseconds(one.auto_seconds), figure(one.ratio, "x")]
        for one in shapes[:WORST_SHOWN]
    ]  # fmt: skip
    note = (
        f"Over {len(shapes)} shapes drawn at random auto takes "
        f"{statistics.median(one.ratio for one in shapes):.2f} times the best path in the median, "
        f"{max(one.first for one in shapes):.2f} at most; "
        f"{sum(one.ratio <= CLOSE for one in shapes)} are within {CLOSE - 1:.0%}. "
        f"{sum(one.again for one in shapes)} took over 1.5 times the best and were measured three "
        f"times more: of those medians the worst is "
        f"{figure(max((one.ratio for one in shapes if one.again), default=None))}."
    )
    columns = ("memories, memory_dim", "pass", "best", "ms", "auto ms", "times")
    return [Sheet("Choice of path: the worst shapes", columns, lines, note)]


def scaling(rows: Rows) -> list[Sheet]:
    """Times and memory of both forms along each size."""
    sizes = by_case(rows, "scaling-memory")
    lines = []
    for case, alike in by_case(rows, "scaling-time").items():
        extra = [
            next((row["extra_bytes"] for row in sizes.get(case, ()) if row["form"] == form), "")
            for form in ("textbook", "auto")
        ]
        name = f"{plain(case)}, {case.hops} hops"
        times = [milliseconds(seconds(alike, form)) for form in ("textbook", "auto")]
        lines.append([name, *times, *(mebibytes(number) for number in extra)])
    columns = ("memories", "textbook ms", "memhop ms", "textbook MiB", "memhop MiB")
    return [Sheet("Growth, forward and backward", columns, lines)]


def cuda(rows: Rows) -> list[Sheet]:
    """All forms on a GPU, the share of its read speed, and three hops in times of one."""
    cases = by_case(rows, "cuda")
    lines = times_of_forms(cases)
    for line, alike in zip(lines, cases.values(), strict=True):
        line.append(figure(100 * (share(alike) or 0), "%"))
    columns = ("memories", "base", "compiled", "SDPA", "MHA", "memhop", "share")
    hops = {case.hops: seconds(alike, "auto") for case, alike in by_case(rows, "cuda-hops").items()}
    note = ""
    if (one := hops.get(1)) and (three := hops.get(3)):
        note = f"Three hops take {three / one:.2f} times the time of one."
    return [Sheet("On a GPU, forward, in ms", columns, lines, note)]


SHEETS: dict[str, Callable[[Rows], list[Sheet]]] = {
    "bars": bars,
    "bound": bound,
    "small": small,
    "others": others,
    "memory": memory,
    "choice": choice,
    "scaling": scaling,
    "cuda": cuda,
}


def markdown(sheet: Sheet) -> str:
    """The table as a document has it."""
    lines = [sheet.columns, ("---", *["---:"] * (len(sheet.columns) - 1)), *sheet.lines]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(part for part in (f"{sheet.title}:", table, sheet.note) if part) + "\n"


def notes_of(rows: Rows) -> str:
    """What was not there, as the rows say."""
    missing = {f"{row['form']}: {row['note']}" for row in rows if row["note"]}
    return " ".join(f"{note}." for note in sorted(missing))
