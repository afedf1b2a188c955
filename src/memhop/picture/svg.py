"""Draw a picture as self-contained SVG, for a file and for a notebook.

It uses the cells of the terminal layout. Its colours are the text colour of the page and two that
are visible on white and on black, so a notebook needs no style; a file has text colours for light
and dark pages. There are no ids, so that two pictures on one page do not conflict.
"""

from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING

from memhop.picture.labels import bounded, cells, shortened
from memhop.picture.layout import Layout

if TYPE_CHECKING:
    from memhop.picture import Picture

_Attributes = Mapping[str, str | float]

_FONT = 14
_CELL = 0.6 * _FONT  # as wide as a character of a monospace font
_ROW = 24
_BAR = 12
_EDGE = 4

_POSITIVE, _NEGATIVE = "#2f81d7", "#c97b1f"  # the blue and the orange of the plots
_FAMILY = (
    "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, Liberation Mono, monospace"
)
_COLOURS = (
    ".memhop-picture { color: #1f2328 } "
    "@media (prefers-color-scheme: dark) { .memhop-picture { color: #e6edf3 } }"
)
_PLAIN: _Attributes = {}
_BOLD: _Attributes = {"font-weight": "bold"}
_DIM: _Attributes = {"opacity": 0.6}
_TRACK: _Attributes = {"class": "track", "opacity": 0.09}
_RIGHT_ALIGNED: _Attributes = {"text-anchor": "end"}


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
        self.top = float(_EDGE)  # of the next row

    def _bounded(self, text: str) -> str:
        return bounded(text, self.picture.width, "…")

    def element(self, with_style: bool) -> str:
        """Return the whole element."""
        body = list(self._body())  # first, because it sets the height and the width
        width, height = _px(self.columns * _CELL + 2 * _EDGE), _px(self.top + _EDGE)
        outer: _Attributes = {
            "xmlns": "http://www.w3.org/2000/svg",
            "class": "memhop-picture",
            "role": "img",
            "viewBox": f"0 0 {width} {height}",
            "width": width,
            "height": height,
            "style": "max-width: 100%; height: auto",
            "fill": "currentColor",
            "font-family": _FAMILY,
            "font-size": _FONT,
        }
        description = "; ".join([*self.picture.describe(), *self.picture.legend()])
        title = _element("title", {}, self._bounded(self.title or "What each hop read"))
        style = [_element("style", {}, _COLOURS)] if with_style else []
        head = [f"<{_tag('svg', outer)}>", title, _element("desc", {}, description)]
        return "\n".join([*head, *style, *body, "</svg>"])

    def _body(self) -> Iterator[str]:
        if self.title:
            yield self._text(0, self.title, _BOLD)
            self.top += 1.25 * _ROW
        for hops in self.layout.panels():
            self.top += _ROW / 2 if hops.start else 0
            yield from self._header(hops)
            for entry in self.layout.lines:
                yield from self._slot(entry, hops) if isinstance(entry, int) else self._gap(entry)
                self.top += _ROW
        for line in self.picture.legend():
            yield self._text(0, line, _DIM)
            self.top += _ROW

    def _header(self, hops: range) -> Iterator[str]:
        for place, hop in enumerate(hops):
            left = self.start + place * self.cell + 2
            yield self._text(left, self.layout.name(hop), {**_BOLD, **_DIM})
        self.top += _ROW

    def _slot(self, slot: int, hops: range) -> Iterator[str]:
        strongest = self.picture.strongest[hops.start : hops.stop, slot].any()
        faint = all(self.picture.is_faint(hop, slot) for hop in hops)
        if self.layout.margin:
            yield self._text(self.layout.margin - 2, str(slot + 1), {**_DIM, **_RIGHT_ALIGNED})
        label = shortened(self.layout.labels[slot], self.layout.label, "…")
        style = _BOLD if strongest else _DIM if faint else _PLAIN
        yield self._text(self.layout.margin, label, {"class": "label", **style})
        for place, hop in enumerate(hops):
            left = self.start + place * self.cell + 2
            yield from self._bar(hop, slot, left)
            yield self._number(hop, slot, left + self.layout.bar + 1 + self.layout.number)

    def _bar(self, hop: int, slot: int, left: int) -> Iterator[str]:
        """Draw a bar on its track, with the pointer in the column before it."""
        weight, strongest = self.picture.weights[hop, slot], self.picture.strongest[hop, slot]
        style: _Attributes = {"fill": _POSITIVE if weight > 0 else _NEGATIVE}
        middle, full = self.top + _ROW / 2, self.layout.bar * _CELL
        if strongest:
            corner = f"M {_px(_x(left) - 8)} {_px(middle - 4.5)} l 6 4.5 l -6 4.5 z"
            yield _element("path", {"class": "pointer", "d": corner, **style})
        box: _Attributes = {
            "x": _px(_x(left)),
            "y": _px(middle - _BAR / 2),
            "height": _BAR,
            "rx": 2,
        }
        yield _element("rect", {**_TRACK, "width": _px(full), **box})
        width = _px(full * min(1.0, abs(weight / self.picture.full)))
        if width != "0":
            style = {**style, **(_PLAIN if strongest else _DIM)}
            yield _element("rect", {"class": "bar", "width": width, **box, **style})

    def _number(self, hop: int, slot: int, right: int) -> str:
        number = self.picture.format_weight(self.picture.weights[hop, slot])
        style = _BOLD if self.picture.strongest[hop, slot] else _DIM
        shown = number if float(number) else "·"
        return self._text(right, shown, {"class": "number", **style, **_RIGHT_ALIGNED})

    def _gap(self, gap: range) -> Iterator[str]:
        right = max(1, self.layout.margin - 2)
        yield self._text(right, "⋮", {**_DIM, **_RIGHT_ALIGNED})
        yield self._text(right + 2, self.picture.describe_gap(gap), _DIM)

    def _text(self, column: int, text: str, style: _Attributes) -> str:
        """Draw a text in the next row that starts (or, right-aligned, ends) at a column.

        Its length is fixed, so that it fits its columns in any font.
        """
        text = shortened(text, self.picture.width, "…")
        length = cells(text)
        if "text-anchor" not in style:
            self.columns = max(self.columns, column + length)
        place: dict[str, str | float] = {
            "x": _px(_x(column)),
            "y": _px(self.top + _ROW / 2 + 0.35 * _FONT),
        }
        if length:  # combining characters alone have no width
            place |= {"textLength": _px(length * _CELL), "lengthAdjust": "spacingAndGlyphs"}
        if "  " in f" {text} ":
            place["xml:space"] = "preserve"
        return _element("text", {**place, **style}, text)


def _x(column: int) -> float:
    return _EDGE + column * _CELL


def _px(length: float) -> str:
    return f"{length:.2f}".rstrip("0").rstrip(".")


def _element(name: str, attributes: _Attributes, text: str = "") -> str:
    tag = _tag(name, attributes)
    return f"<{tag}>{escape(text)}</{name}>" if text else f"<{tag}/>"


def _tag(name: str, attributes: _Attributes) -> str:
    pairs = (f'{key}="{escape(str(value))}"' for key, value in attributes.items())
    return " ".join([name, *pairs])
