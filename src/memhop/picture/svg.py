"""Draw the picture of a memory as SVG, in the cells of the terminal layout."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from memhop.picture.labels import bounded, cells, shortened
from memhop.picture.layout import Layout
from memhop.picture.svg_elements import (
    BOLD,
    CELL,
    DIM,
    EDGE,
    NEGATIVE,
    PLAIN,
    POSITIVE,
    RIGHT_ALIGNED,
    Attributes,
    document,
    element,
    line_of_text,
    px,
)

if TYPE_CHECKING:
    from memhop.picture import Picture

_ROW = 24
_BAR = 12
_TRACK: Attributes = {"class": "track", "opacity": 0.09}


def draw(picture: "Picture", title: str = "", *, with_style: bool = True) -> str:
    """Return the picture as an ``<svg>`` element, ``with_style`` or in the colours of the page."""
    return _Svg(picture, title).element(with_style)


class _Svg:
    """A drawing: rows from top to bottom, in the columns of the layout."""

    def __init__(self, picture: "Picture", title: str) -> None:
        self.picture = picture
        self.title = title
        self.layout = Layout(picture, picture.width, self._bounded)
        self.cell = self.layout.bar + self.layout.number + 4  # of a hop
        self.start = self.layout.margin + self.layout.label
        self.columns = self.start + self.layout.panel * self.cell - 1 if self.layout.lines else 0
        self.top = float(EDGE)  # of the next row

    def _bounded(self, text: str) -> str:
        return bounded(text, self.picture.width, "…")

    def element(self, with_style: bool) -> str:
        """Return the whole element."""
        body = list(self._body())  # first, because it sets the height and the width
        size = self.columns * CELL + 2 * EDGE, self.top + EDGE
        title = self._bounded(self.title or "What each hop read")
        description = "; ".join([*self.picture.describe(), *self.picture.legend()])
        return document(title, description, body, size, with_style)

    def _body(self) -> Iterator[str]:
        if self.title:
            yield self._text(0, self.title, BOLD)
            self.top += 1.25 * _ROW
        for hops in self.layout.panels():
            self.top += _ROW / 2 if hops.start else 0
            yield from self._header(hops)
            for entry in self.layout.lines:
                yield from self._slot(entry, hops) if isinstance(entry, int) else self._gap(entry)
                self.top += _ROW
        for line in self.picture.legend():
            yield self._text(0, line, DIM)
            self.top += _ROW

    def _header(self, hops: range) -> Iterator[str]:
        for place, hop in enumerate(hops):
            left = self.start + place * self.cell + 2
            yield self._text(left, self.layout.name(hop), {**BOLD, **DIM})
        self.top += _ROW

    def _slot(self, slot: int, hops: range) -> Iterator[str]:
        strongest = self.picture.strongest[hops.start : hops.stop, slot].any()
        faint = all(self.picture.is_faint(hop, slot) for hop in hops)
        if self.layout.margin:
            yield self._text(self.layout.margin - 2, str(slot + 1), {**DIM, **RIGHT_ALIGNED})
        label = shortened(self.layout.labels[slot], self.layout.label, "…")
        style = BOLD if strongest else DIM if faint else PLAIN
        yield self._text(self.layout.margin, label, {"class": "label", **style})
        for place, hop in enumerate(hops):
            left = self.start + place * self.cell + 2
            yield from self._bar(hop, slot, left)
            yield self._number(hop, slot, left + self.layout.bar + 1 + self.layout.number)

    def _bar(self, hop: int, slot: int, left: int) -> Iterator[str]:
        """Draw a bar on its track, with the pointer in the column before it."""
        weight, strongest = self.picture.weights[hop, slot], self.picture.strongest[hop, slot]
        style: Attributes = {"fill": POSITIVE if weight > 0 else NEGATIVE}
        middle, full = self.top + _ROW / 2, self.layout.bar * CELL
        if strongest:
            corner = f"M {px(_x(left) - 8)} {px(middle - 4.5)} l 6 4.5 l -6 4.5 z"
            yield element("path", {"class": "pointer", "d": corner, **style})
        box: Attributes = {
            "x": px(_x(left)),
            "y": px(middle - _BAR / 2),
            "height": _BAR,
            "rx": 2,
        }
        yield element("rect", {**_TRACK, "width": px(full), **box})
        width = px(full * min(1.0, abs(weight / self.picture.full)))
        if width != "0":
            style = {**style, **(PLAIN if strongest else DIM)}
            yield element("rect", {"class": "bar", "width": width, **box, **style})

    def _number(self, hop: int, slot: int, right: int) -> str:
        number = self.picture.format_weight(self.picture.weights[hop, slot])
        style = BOLD if self.picture.strongest[hop, slot] else DIM
        shown = number if float(number) else "·"
        return self._text(right, shown, {"class": "number", **style, **RIGHT_ALIGNED})

    def _gap(self, gap: range) -> Iterator[str]:
        right = max(1, self.layout.margin - 2)
        yield self._text(right, "⋮", {**DIM, **RIGHT_ALIGNED})
        yield self._text(right + 2, self.picture.describe_gap(gap), DIM)

    def _text(self, column: int, text: str, style: Attributes) -> str:
        """Draw a text in the next row that starts (or, right-aligned, ends) at a column."""
        text = shortened(text, self.picture.width, "…")
        if "text-anchor" not in style:
            self.columns = max(self.columns, column + cells(text))
        return line_of_text(_x(column), self.top + _ROW / 2, text, style)


def _x(column: int) -> float:
    return EDGE + column * CELL
