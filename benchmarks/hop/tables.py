"""Make the tables of the hop benchmark from its rows."""

import statistics
from collections.abc import Callable

from benchmarks.hop.cases import Case
from benchmarks.hop.summary import (
    BASELINES,
    by_case,
    chosen,
    compared,
    faster,
    of_form,
    seconds,
    share,
)
from memhop.reproduce.record import Rows, Sheet

MEBIBYTE = 2**20
CLOSE = 1.15
WORST_SHOWN = 5
FORMS = {  # the columns of all forms; the baseline of a shared memory is the raw form
    "textbook": ("textbook",),
    "compiled": ("compiled",),
    "MHA": ("MultiheadAttention",),
    "raw": ("raw", "two products"),
    "compiled bmm": ("compiled raw bmm",),
    "compiled sum": ("compiled raw sum",),
    "SDPA": ("SDPA, raw form",),
    "memhop": ("auto",),
}


def figure(number: float | None, unit: str = "") -> str:
    """Return a number with three digits.

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
    """Return seconds in ms."""
    return figure(None if taken is None else 1000 * taken)


def mebibytes(number: str) -> str:
    """Return the bytes of a row's column in MiB."""
    return f"{int(number) / MEBIBYTE:.2f}" if number else "-"


def memory_name(case: Case) -> str:
    """Return the name of a case without the pass."""
    return case._replace(gradients=False).name


def bars(rows: Rows) -> list[Sheet]:
    """Return times of the baseline and ours with the goal, and ours over the bound."""
    columns = ("memories", "textbook ms", "memhop ms", "speedup", "target", "once", "a hop")
    sheets = []
    found = compared(rows, "bars", "auto")
    for gradients, title in ((False, "Forward"), (True, "Forward and backward")):
        lines = [
            [memory_name(one.case), milliseconds(one.baseline),
             milliseconds(one.ours), figure(one.faster, "x"), f"{one.bar or 0:g}x",
             figure(one.once), figure(one.a_hop)]
            for one in found if one.case.gradients is gradients
        ]  # fmt: skip
        sheets.append(Sheet(title, columns, lines, errors_of(rows, gradients)))
    return sheets


def errors_of(rows: Rows, gradients: bool) -> str:
    """Return a sentence on the errors of results or gradients, ours and the baseline's."""
    which = "gradient_error" if gradients else "error"
    pairs = []
    for case, own in by_case(rows, "bars").items():
        if case.gradients is gradients:
            ours, theirs = of_form(own, "auto"), of_form(own, *BASELINES)
            pairs += [(float(ours[n][which]), float(theirs[n][which])) for n in ours if n in theirs]
    if not pairs:
        return ""
    ours_at_most, theirs_at_most = (max(each) for each in zip(*pairs, strict=True))
    return (
        f"{'Gradients' if gradients else 'Results'} have an error of at most {ours_at_most:.1e} "
        f"against float64, those of the textbook form {theirs_at_most:.1e}."
    )


def bound(rows: Rows) -> list[Sheet]:
    """Return the share of the read bandwidth, and the gain of smaller dtypes."""
    cases = by_case(rows, "bound")
    lines = []
    for case, own in cases.items():
        bar, gain = float(own[0]["bar"]), None
        goal = f"{100 * bar:g}%"
        if case.dtype != "float32":
            gain, goal = faster(own, cases[case._replace(dtype="float32")], "auto"), f"{bar:g}x"
        reached = figure(100 * (share(own) or 0), "%")
        time = milliseconds(seconds(own, "auto"))
        lines.append([case.name, time, reached, figure(gain, "x"), goal])
    columns = ("memories", "ms", "share of bandwidth", "speedup over float32", "target")
    return [Sheet("Memories larger than the last-level cache, forward", columns, lines)]


def small(rows: Rows) -> list[Sheet]:
    """Return the times of the module on a tiny memory, in microseconds."""
    found = compared(rows, "small", "MultiHop")
    lines = [
        [f"memory_dim {one.case.memory_dim}{', with gradients' if one.case.gradients else ''}",
         figure(1e6 * one.baseline), figure(1e6 * one.ours), figure(1 / one.faster, "x"),
         f"{one.bar:g}x" if one.bar else "-"]
        for one in found
    ]  # fmt: skip
    measured = f"{found[0].case.hops} hops over {memory_name(found[0].case)}" if found else ""
    columns = (measured, "textbook us", "MultiHop us", "relative time", "at most")
    return [Sheet("A small call", columns, lines)]


def others(rows: Rows) -> list[Sheet]:
    """Return the times of all forms."""
    cases = by_case(rows, "others")
    sheets = []
    for gradients, title in ((False, "forward"), (True, "forward and backward")):
        own = {case: rows for case, rows in cases.items() if case.gradients is gradients}
        lines = times_of_forms(own)
        sheets.append(Sheet(f"All forms, {title}, in ms", ("memories", *FORMS), lines))
    return sheets


def times_of_forms(cases: dict[Case, Rows]) -> list[list[str]]:
    """Return a line of times for each case."""
    return [
        [memory_name(case), *(milliseconds(seconds(own, *form)) for form in FORMS.values())]
        for case, own in cases.items()
    ]


def memory(rows: Rows) -> list[Sheet]:
    """Return the MiB beyond inputs, results and gradients, with the bound."""
    lines = []
    for case, own in by_case(rows, "memory").items():
        numbers = [own[0][name] for name in ("extra_bytes", "bound_bytes", "kept_bytes")]
        lines.append([case.name, *(mebibytes(number) for number in numbers)])
    columns = ("memories", "extra MiB", "limit MiB", "kept MiB")
    return [Sheet("Extra memory of a call", columns, lines)]


def choice(rows: Rows) -> list[Sheet]:
    """Return the shapes on which "auto" is furthest from the best path."""
    shapes = sorted(chosen(rows), key=lambda one: one.ratio, reverse=True)
    lines = [
        [f"{memory_name(one.case)}, {one.case.memory_dim}",
         "both" if one.case.gradients else "forward", one.best, milliseconds(one.best_seconds),
         milliseconds(one.auto_seconds), figure(one.ratio, "x")]
        for one in shapes[:WORST_SHOWN]
    ]  # fmt: skip
    note = (
        f"Over {len(shapes)} random shapes auto takes "
        f"{statistics.median(one.ratio for one in shapes):.2f} times the fastest in the median, "
        f"{max(one.first for one in shapes):.2f} at most; "
        f"{sum(one.ratio <= CLOSE for one in shapes)} are within {CLOSE - 1:.0%}."
    )
    if repeated := [one.ratio for one in shapes if one.is_repeated]:
        note += (
            f" {len(repeated)} took over 1.5 times the fastest and were measured three times more; "
            f"the largest of their medians is {figure(max(repeated))}."
        )
    columns = ("memories, memory_dim", "pass", "fastest", "ms", "auto ms", "auto / fastest")
    return [Sheet("The shapes on which auto is furthest from the fastest", columns, lines, note)]


def scaling(rows: Rows) -> list[Sheet]:
    """Return time and memory of both forms as the sizes grow."""
    sizes = by_case(rows, "scaling-memory")
    lines = []
    for case, own in by_case(rows, "scaling-time").items():
        extra = [
            next((row["extra_bytes"] for row in sizes.get(case, ()) if row["form"] == form), "")
            for form in ("textbook", "auto")
        ]
        name = f"{memory_name(case)}, {case.hops} hops"
        times = [milliseconds(seconds(own, form)) for form in ("textbook", "auto")]
        lines.append([name, *times, *(mebibytes(number) for number in extra)])
    columns = ("memories", "textbook ms", "memhop ms", "textbook MiB", "memhop MiB")
    return [Sheet("Growth, forward and backward", columns, lines)]


def cuda(rows: Rows) -> list[Sheet]:
    """Return all forms on a GPU, the share of its read bandwidth, and three hops against one."""
    cases = by_case(rows, "cuda")
    lines = times_of_forms(cases)
    for line, own in zip(lines, cases.values(), strict=True):
        line.append(figure(100 * (share(own) or 0), "%"))
    columns = ("memories", *FORMS, "share")
    hops = {case.hops: seconds(own, "auto") for case, own in by_case(rows, "cuda-hops").items()}
    note = ""
    if (one := hops.get(1)) and (three := hops.get(3)):
        note = f"Three hops take {three / one:.2f} times the time of one."
    return [Sheet("On a GPU, forward, in ms", columns, lines, note)]


SHEETS: dict[str, Callable[[Rows], list[Sheet]]] = {
    sheets.__name__: sheets
    for sheets in (bars, bound, small, others, memory, choice, scaling, cuda)
}


def notes_of(rows: Rows) -> str:
    """Return the notes of the rows: the forms that were not available."""
    missing = {f"{row['form']}: {row['note']}" for row in rows if row["note"]}
    return " ".join(f"{note}." for note in sorted(missing))
