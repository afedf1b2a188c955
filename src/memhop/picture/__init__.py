"""Draw the attention of each hop over the memory: for a terminal, a web page, a notebook."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memhop.picture.drawing import MIN_WIDTH, Drawing, Line
from memhop.picture.labels import escaped, shortened
from memhop.picture.scale import Scale
from memhop.picture.svg import draw
from memhop.picture.terminal import Terminal

__all__ = ["MIN_WIDTH", "Picture", "escaped", "picture"]

_FAINT = 0.01  # of a full bar; smaller weights are drawn dim or folded


def picture(
    weights: Any, labels: Sequence[str] | None = None, *, width: int = 80, rows: int = 16
) -> "Picture":
    """Draw how much each hop reads each slot: one row per slot, one column per hop.

    A pointer marks the strongest slot of each hop; with colours, its label is bold. If the memory
    has more than ``rows`` slots, only the strongest are shown, and each gap says how many slots it
    hides. ``print`` gives plain text, a rich console colours, a notebook and ``.svg()`` a drawing.

    Args:
        weights: ``[hops, slots]``: a tensor, an array or nested lists of finite numbers.
            Negative weights (attention without softmax) have another shade.
        labels: one text per slot; control characters and escape codes are escaped, markup is
            printed literally. Default: ``[index]``.
        width: the maximum number of columns of a line, at least 20; 8.4 pixels each in an SVG.
        rows: the maximum number of slots of a long memory, at least 1.

    Raises:
        ValueError: an argument is invalid; the message is one line.

    >>> print(picture([[0.1, 0.9], [0.75, 0.25]], ["Mary took the ball.", "Mary went home."]))
                            hop 1            hop 2
    1  Mary took the ball.  █          0.10 ▸███████▌   0.75
    2  Mary went home.     ▸█████████  0.90  ██▌        0.25
    """
    values = _checked(weights)
    slots = values.shape[1]
    if isinstance(labels, str):
        raise ValueError(f"picture: labels: expected a list of {slots} texts, got one string")
    if labels is not None and len(labels) != slots:
        raise ValueError(f"picture: labels: expected {slots}, one per slot, got {len(labels)}")
    if width < MIN_WIDTH or rows < 1:
        expected = f"width of at least {MIN_WIDTH} and rows of at least 1"
        raise ValueError(f"picture: expected {expected}, got width={width} and rows={rows}")
    return Picture(values, labels, width, rows)


def _checked(weights: Any) -> NDArray[np.float64]:
    """Return the weights as float64 [hops, slots], without importing torch for tensors."""
    if hasattr(weights, "detach"):
        weights = weights.detach().cpu().double().numpy()
    try:
        values = np.asarray(weights)
    except ValueError:
        raise ValueError("picture: weights: expected rows of one length, got several") from None
    if values.dtype.kind not in "fiub":
        raise ValueError(f"picture: weights: expected real numbers, got {values.dtype}")
    if values.ndim != 2 or not values.shape[0]:
        expected = "shape [hops, slots] with at least 1 hop"
        raise ValueError(f"picture: weights: expected {expected}, got {list(values.shape)}")
    if not np.isfinite(values).all():
        hop, slot = np.argwhere(~np.isfinite(values))[0]
        got = f"{values[hop, slot]} at [{hop}, {slot}]"
        raise ValueError(f"picture: weights: expected finite numbers, got {got}")
    return values.astype(np.float64)


class Picture(Drawing):
    """The result of `picture`: ``str()`` is plain text, a rich console shows colours.

    ``svg()`` returns an SVG file; a notebook displays it.

    Attributes:
        weights: float64 ``[hops, slots]``.
        full: the weight of a full bar: 1, or the largest weight if that is over 1 or below 0.25.
        unit: numbers are multiples of this: 1 if two decimals suffice.
        strongest: bool ``[hops, slots]``, the strongest slot of each hop (all if equal).
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
        self._scale = Scale.of(peak)
        self.full, self.unit = self._scale
        self.strongest = (size == size.max(axis=1, keepdims=True, initial=0.0)) & (size > 0)
        self._size = size.max(axis=0)

    def visible_slots(self) -> list[int | range]:
        """Return the slot of each row, or a range of slots for a gap.

        >>> picture([[0.0] * 50 + [0.9, 0.1] + [0.0] * 50]).visible_slots()
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
            # a gap of one slot is not shorter than the slot itself
            lines += gap if len(gap) < 2 else [gap]
            lines += [slot] if slot < slots else []
        return lines

    def format_weight(self, weight: float) -> str:
        """Return a weight with two decimals, in multiples of ``unit``.

        >>> picture([[0.5, 0.125]]).format_weight(0.125), picture([[0.0005]]).format_weight(0.0005)
        ('0.12', '5.00')
        """
        return self._scale.format(weight)

    def describe_gap(self, gap: range) -> str:
        """Return the text of a gap: the number of slots, and an upper bound of their weights.

        >>> picture([[0.0] * 50 + [0.9, 0.1]]).describe_gap(range(50))
        '50 more, none above 0.00'
        """
        largest = float(self._size[gap.start : gap.stop].max()) / self.unit
        bound = math.ceil(round(largest * 100, 6)) / 100
        absolute = " in size" if (self.weights < 0).any() else ""
        return f"{len(gap):,} more, none above {bound:.2f}{absolute}"

    def label(self, slot: int) -> str:
        """Return the label of a slot; default: its ``[index]``."""
        return f"[{slot}]" if self.labels is None else str(self.labels[slot])

    def is_faint(self, hop: int, slot: int) -> bool:
        """Return whether a weight is so small that it is drawn dim."""
        return bool(abs(self.weights[hop, slot]) < _FAINT * self.full)

    def legend(self) -> list[str]:
        """Return the lines below the slots that explain the scale; usually none.

        >>> picture([[7.5, 2.5]]).legend(), picture([[0.75, 0.25]]).legend()
        (['full bar = 7.5'], [])
        """
        lines = [] if self._size.size else ["an empty memory: nothing to read"]
        return lines + self._scale.legend()

    def describe(self) -> list[str]:
        """Return the strongest slot of each hop as text.

        >>> picture([[0.1, 0.9], [0, 0]], ["John slept.", "Mary left."]).describe()
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
            number = self.format_weight(self.weights[hop, slots[0]])
            lines.append(f"hop {hop + 1} read most: {label}{more} ({number})")
        return lines

    def _lines(self, width: int, encoding: str) -> Iterator[Line]:
        return Terminal(self, width, encoding).lines()

    def _svg(self, title: str, with_style: bool) -> str:
        return draw(self, title, with_style=with_style)

    def __repr__(self) -> str:
        hops, slots = self.weights.shape
        return f"<Picture of {hops} hops over {slots} slots: print it>"
