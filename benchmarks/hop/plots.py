"""Draw the hop benchmark; needs ``memhop[plot]``."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.hop.cases import Case
from benchmarks.hop.summary import BASELINES, bounds_of, by_case, median, of_form, seconds
from memhop.reproduce.plot import GREY, OURS, THEIRS
from memhop.reproduce.record import Rows

MEBIBYTE, PAGE = 2**20, 4096
SIZES = {"slots": "slots of a query, N", "batch": "queries, B", "hops": "hops, K"}


def over_bound(rows: Rows) -> Figure:
    """Draw the time over the bound for each case of the bars: the baseline's and ours."""
    cases = by_case(rows, "bars")
    names = list(dict.fromkeys(case._replace(gradients=False).name for case in cases))
    figure = Figure(figsize=(7.6, 0.8 + 0.55 * max(1, len(names))), layout="constrained")
    axes = figure.add_subplot()
    for case, own in cases.items():
        line = names.index(case._replace(gradients=False).name)
        height = line + (0.14 if case.gradients else -0.14)
        dots = [over(own, BASELINES), over(own, ("auto",))]
        found = [(dot, color) for dot, color in zip(dots, (THEIRS, OURS), strict=True) if dot]
        axes.plot([dot for dot, _ in found], [height] * len(found), color=GREY, alpha=0.4, zorder=1)
        for dot, color in found:
            face = "none" if case.gradients else color
            axes.scatter([dot], [height], s=36, facecolor=face, edgecolor=color, zorder=2)
    axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", which="both")
    axes.set_xlabel("time over the bound (memory read once a hop, gradient written once)")
    for label, color, face in (
        ("textbook, forward", THEIRS, THEIRS), ("textbook, both passes", THEIRS, "none"),
        ("memhop, forward", OURS, OURS), ("memhop, both passes", OURS, "none"),
    ):  # fmt: skip
        axes.scatter([], [], s=36, facecolor=face, edgecolor=color, label=label)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def over(rows: Rows, forms: tuple[str, ...]) -> float | None:
    """Return the median over processes of a form's time over the bound."""
    return median(
        float(row["seconds"]) / bounds_of(row)[1] for row in of_form(rows, *forms).values()
    )


def growth(rows: Rows) -> Figure:
    """Draw time and memory of both forms by slots, batch and hops."""
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    panels = figure.subplots(2, 3, sharex="col", sharey="row")
    for line, (measure, unit, value) in enumerate(
        (("scaling-time", "time, ms", milliseconds), ("scaling-memory", "memory, MiB", extra))
    ):
        cases = by_case(rows, measure)
        panels[line][0].set_ylabel(unit)
        for axes, (size, title) in zip(panels[line], SIZES.items(), strict=True):
            along = sorted(varied(list(cases), size), key=lambda case: getattr(case, size))
            ticks = [getattr(case, size) for case in along]
            for form, color in (("textbook", THEIRS), ("auto", OURS)):
                numbers = [value(cases[case], form) for case in along]
                axes.plot(ticks, numbers, "o-", color=color, markersize=4)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.grid()
            axes.set_xlabel(title if line else "")
    names = {"textbook": THEIRS, "memhop": OURS}
    lines = [Line2D([], [], color=color, marker="o", label=name) for name, color in names.items()]
    figure.legend(handles=lines, loc="outside upper center", ncols=2, frameon=False)
    return figure


def varied(cases: list[Case], size: str) -> list[Case]:
    """Return the cases that differ from the central one in at most this size."""

    def differing(one: Case, other: Case) -> set[str]:
        return {name for name in Case._fields if getattr(one, name) != getattr(other, name)}

    def distance(centre: Case) -> int:
        return sum(len(differing(case, centre)) for case in cases)

    centre = min(cases, key=distance)
    return [case for case in cases if differing(case, centre) <= {size}]


def extra(rows: Rows, form: str) -> float | None:
    """Return the MiB beyond inputs, results and gradients, at least a page."""
    return median(
        max(int(row["extra_bytes"]), PAGE) / MEBIBYTE
        for row in rows
        if row["form"] == form and row["extra_bytes"]
    )


def milliseconds(rows: Rows, form: str) -> float | None:
    """Return the time of a form in ms."""
    taken = seconds(rows, form)
    return None if taken is None else 1000 * taken
