"""How all plots look; needs ``memhop[plot]``."""

from typing import Any

GREY, THEIRS, OURS = "#808890", "#c97b1f", "#2f81d7"  # seen on white and on black
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "memhop",  # the same rows make the same file
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": GREY,
    "grid.alpha": 0.25,
}
