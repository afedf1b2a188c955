"""What each hop read of a memory, as a picture: for the terminal, for a page, for a notebook."""

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memhop.picture.labels import shortened, spelled_out
from memhop.picture.svg import draw
from memhop.picture.terminal import MIN_WIDTH, Terminal

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

__all__ = ["MIN_WIDTH", "Picture", "picture", "spelled_out"]

_FAINT = 0.01  # of a full bar: what is less did not matter


def picture(
    weights: Any, labels: Sequence[str] | None = None, *, width: int = 80, rows: int = 16
) -> "Picture":
    """Show how much each hop read of each slot: one line a slot, one column a hop.

    The strongest slot of each hop is pointed at, and its label stands out where there is
    colour. Of a memory of more than ``rows`` slots the strongest are shown, and every gap says
    how much it left out. Printed it is plain text; a rich console shows it in colour, a
    notebook and ``.svg()`` draw it.

    Args:
        weights: ``[hops, slots]``: a tensor, an array or nested lists of finite numbers.
            Negative ones (a memory read without softmax) are drawn in another shade.
        labels: one text a slot. It is printed, never obeyed: control characters and escape
            codes are spelled out, markup stays as it is. Without, a slot shows its ``[index]``.
        width: the most columns that a line may take, at least 20; in an SVG 8.4 pixels each.
        rows: how many slots a long memory shows, at least 1.

    Raises:
        ValueError: one line with what was needed and what came.

    >>> print(picture([[0.1, 0.9], [0.75, 0.25]], ["Mary took the ball.", "Mary went home."]))
                            hop 1            hop 2
    1  Mary took the ball.  █          0.10 ▸███████▌   0.75
    2  Mary went home.     ▸█████████  0.90  ██▌        0.25
    """
    values = _checked(weights)
    slots = values.shape[1]
    if isinstance(labels, str):
        raise ValueError(f"picture: labels needs a list of {slots} texts, got one string")
    if labels is not None and len(labels) != slots:
        raise ValueError(f"picture: labels needs {slots} texts, one a slot, got {len(labels)}")
    if width < MIN_WIDTH or rows < 1:
        least = f"width of at least {MIN_WIDTH} and rows of at least 1"
        raise ValueError(f"picture: needs a {least}, got width={width} and rows={rows}")
    return Picture(values, labels, width, rows)


def _checked(weights: Any) -> NDArray[np.float64]:
    """The weights as float64 [hops, slots]; a tensor is known by its methods: no torch here."""
    if hasattr(weights, "detach"):
        weights = weights.detach().cpu().double().numpy()
    try:
        values = np.asarray(weights)
    except ValueError:
        raise ValueError("picture: weights needs rows of one length, got several") from None
    if values.dtype.kind not in "fiub":
        raise ValueError(f"picture: weights needs real numbers, got {values.dtype}")
    if values.ndim != 2 or not values.shape[0]:
        raise ValueError(
            f"picture: weights needs shape [hops, slots], at least 1 hop, got {list(values.shape)}"
        )
    if not np.isfinite(values).all():
        hop, slot = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            f"picture: weights needs finite numbers, got {values[hop, slot]} at [{hop}, {slot}]"
        )
    return values.astype(np.float64)


class Picture:
    """What `picture` returns: ``str()`` is plain text, a rich console shows it in colour.

    ``svg()`` is a file for a page; a notebook shows that by itself.

    Attributes:
        weights: float64 ``[hops, slots]``.
        full: the weight that fills a bar: 1, or the largest one where that is over 1 or so
            small that every bar would be a sliver.
        unit: numbers are shown as multiples of this: 1 wherever two decimals do.
        strongest: bool ``[hops, slots]``, the slot that each hop read most (all of a tie).
    """

    def __init__(
        self, weights: NDArray[np.float64], labels: Sequence[str] | None, width: int, rows: int
    ) -> None:
        self.weights = weights
        self.labels = labels
        self.width = width
        self.rows = rows
        size = np.abs(weights)
        peak = float(size.max(initial=0.0))
        # a softmax in half precision may sum to a little over 1; all zeros is a picture too
        self.full = 1.0 if 0.25 <= peak <= 1.005 or not peak else peak
        self.unit = 1.0 if 0.1 <= peak < 1000 or not peak else 10.0 ** math.floor(math.log10(peak))
        self.strongest = (size == size.max(axis=1, keepdims=True, initial=0.0)) & (size > 0)
        self._size = size.max(axis=0)

    def shown(self) -> list[int | range]:
        """What the lines stand for, in order: a slot, or a range of slots folded away.

        >>> picture([[0.0] * 50 + [0.9, 0.1] + [0.0] * 50]).shown()
        [range(0, 50), 50, 51, range(52, 102)]
        """
        slots = self._size.size
        if slots <= self.rows:
            return list(range(slots))
        best = np.argsort(-self._size, kind="stable")[: self.rows]
        best = best[self._size[best] >= _FAINT * self.full]
        kept = sorted({*best.tolist(), *np.abs(self.weights).argmax(axis=1).tolist()})
        lines: list[int | range] = []
        for before, slot in zip([-1, *kept], [*kept, slots], strict=True):
            gap = range(before + 1, slot)
            # a lone slot takes no more room than the line that would stand for it
            lines += gap if len(gap) < 2 else [gap]
            lines += [slot] if slot < slots else []
        return lines

    def number(self, weight: float) -> str:
        """A weight as the picture writes it: two decimals, in multiples of ``unit``.

        >>> picture([[0.5, 0.125]]).number(0.125), picture([[0.0005]]).number(0.0005)
        ('0.12', '5.00')
        """
        return f"{weight / self.unit:.2f}"

    def folded(self, gap: range) -> str:
        """What the line of a gap says: how many slots, and a bound that holds for all of them.

        >>> picture([[0.0] * 50 + [0.9, 0.1]]).folded(range(50))
        '50 more, none above 0.00'
        """
        largest = float(self._size[gap.start : gap.stop].max()) / self.unit
        bound = math.ceil(round(largest * 100, 6)) / 100
        either_way = " in size" if (self.weights < 0).any() else ""
        return f"{len(gap):,} more, none above {bound:.2f}{either_way}"

    def label(self, slot: int) -> str:
        """The text of a slot, as it was given; without labels its ``[index]``."""
        return f"[{slot}]" if self.labels is None else str(self.labels[slot])

    def faint(self, hop: int, slot: int) -> bool:
        """Whether so little was read of the slot that it did not matter."""
        return bool(abs(self.weights[hop, slot]) < _FAINT * self.full)

    def legend(self) -> list[str]:
        """What stands below the slots, for bars and numbers to be read right; mostly nothing.

        >>> picture([[7.5, 2.5]]).legend(), picture([[0.75, 0.25]]).legend()
        (['full bar = 7.5'], [])
        """
        lines = [] if self._size.size else ["an empty memory: nothing to read"]
        lines += [f"full bar = {self.full:.3g}"] if self.full != 1 else []
        return lines + ([f"numbers x {self.unit:g}"] if self.unit != 1 else [])

    def said(self) -> list[str]:
        """What each hop read most, in words.

        >>> picture([[0.1, 0.9], [0, 0]], ["John slept.", "Mary left."]).said()
        ['hop 1 read most: Mary left. (0.90)', 'hop 2 read nothing']
        """
        lines = []
        for hop, strongest in enumerate(self.strongest):
            slots = np.flatnonzero(strongest).tolist()
            if not slots:
                lines.append(f"hop {hop + 1} read nothing")
                continue
            label = shortened(self.label(slots[0]), self.width, "…")
            more = f" and {len(slots) - 1:,} more" if slots[1:] else ""
            number = self.number(self.weights[hop, slots[0]])
            lines.append(f"hop {hop + 1} read most: {label}{more} ({number})")
        return lines

    def text(self, width: int | None = None, encoding: str = "utf-8") -> str:
        """The picture in plain characters, only such as ``encoding`` holds.

        Below 20 columns it is drawn at 20.

        >>> print(picture([[0.25, 0.75]], ["John slept.", "Ärger!"]).text(encoding="ascii"))
                        hop 1
        1  John slept.  ##:        0.25
        2  ?rger!      >#######.   0.75
        """
        lines = Terminal(self, width or self.width, encoding).lines()
        return "\n".join("".join(piece for piece, _ in line).rstrip() for line in lines)

    def svg(self, title: str = "") -> str:
        """The picture as an SVG file, with nothing in it to load: for light pages and dark ones.

        Args:
            title: a line to stand above it, such as the question and its answer.

        >>> drawn = picture([[0.1, 0.9]], ["John slept.", "Mary left."]).svg("Who left?  Mary")
        >>> drawn[:4], "Who left?  Mary" in drawn, drawn.count('<rect class="bar"')
        ('<svg', True, 2)
        """
        return draw(self, title)

    def _repr_html_(self) -> str:
        """What a notebook shows: the SVG in the colour of the text around it."""
        return draw(self, own_colours=False)

    def __str__(self) -> str:
        return self.text(encoding=getattr(sys.stdout, "encoding", None) or "utf-8")

    def __repr__(self) -> str:
        hops, slots = self.weights.shape
        return f"<Picture of {hops} hops over {slots} slots: print it>"

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        width = min(self.width, options.max_width)
        for line in Terminal(self, width, options.encoding).lines():
            text = Text.assemble(*line, no_wrap=True, overflow="crop")
            text.rstrip()
            yield text
