"""The picture of ``memhop bench length``; needs ``memhop[plot]``."""

from matplotlib.figure import Figure

from benchmarks.hop.summary import Rows
from benchmarks.length import ENCODINGS, TASKS, TRAINED, errors
from benchmarks.plot_style import GREY, OURS, THEIRS

LOOKS = dict(
    zip(ENCODINGS, ((GREY, "s:"), (THEIRS, "o--"), (OURS, "o-"), (OURS, "^--")), strict=True)
)


def curves(rows: Rows) -> Figure:
    """Error along the statements of a story, a panel for each task."""
    figure = Figure(figsize=(7.6, 2.9), layout="constrained")
    panels = figure.subplots(1, len(TASKS), sharey=True)
    found = errors(rows)
    for axes, task in zip(panels, TASKS, strict=True):
        axes.axvspan(1, TRAINED, color=GREY, alpha=0.12, linewidth=0)
        for name, (color, look) in LOOKS.items():
            curve = found.get((task, name), {})
            axes.plot(
                list(curve), list(curve.values()), look, color=color, markersize=4, label=name
            )
            axes.set_xscale("log")
            axes.set_xticks(list(curve), [str(length) for length in curve])
        axes.minorticks_off()
        axes.set_xlim(4, 1300)
        axes.set_ylim(0, 100)
        axes.grid()
        axes.set_title(f"task {task}", fontsize=9, color=GREY)
    panels[1].set_xlabel(f"statements before the question (trained: shaded, up to {TRAINED})")
    panels[0].set_ylabel("test error, %")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    return figure
