"""A picture as SVG: one drawing for a file and for a notebook, with nothing in it to load.

It stands on the cells of the terminal picture. Its colours are the colour of the text around it
and two that are seen on white and on black, so a notebook needs no style at all; a file brings
the colour of its text, one for light pages and one for dark. There are no ids: two pictures on
one page have nothing to confuse.
"""

from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING

from memhop.picture.labels import bounded, cells, shortened
from memhop.picture.layout import Layout

if TYPE_CHECKING:
    from memhop.picture import Picture

_Look = Mapping[str, str | float]  # attributes of an element

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
_PLAIN: _Look = {}
_BOLD: _Look = {"font-weight": "bold"}
_QUIET: _Look = {"opacity": 0.6}
_TRACK: _Look = {"class": "track", "opacity": 0.09}
_TO_THE_LEFT: _Look = {"text-anchor": "end"}


def draw(picture: "Picture", title: str = "", *, own_colours: bool = True) -> str:
    """The picture as one ``<svg>`` element; without ``own_colours`` in those of the page."""
    return _Svg(picture, title).whole(own_colours)


class _Svg:
    """One drawing: rows from the top down, each placed by the cells of the layout."""

    def __init__(self, picture: "Picture", title: str) -> None:
        self.picture = picture
        self.title = title
        self.layout = Layout(picture, picture.width, self._bounded)
        self.cell = self.layout.bar + self.layout.number + 4  # of a hop: airier by one
        self.start = self.layout.margin + self.layout.label
        self.columns = self.start + self.layout.panel * self.cell - 1 if self.layout.lines else 0
        self.top = float(_EDGE)  # where the next row begins

    def _bounded(self, text: str) -> str:
        return bounded(text, self.picture.width, "…")

    def whole(self, own_colours: bool) -> str:
        """The element with all that is in it."""
        body = list(self._body())  # first: it finds out how high and how wide the whole is
        width, height = _px(self.columns * _CELL + 2 * _EDGE), _px(self.top + _EDGE)
        outer: _Look = {
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
        said = "; ".join([*self.picture.said(), *self.picture.legend()])
        title = _element("title", {}, self._bounded(self.title or "What each hop read"))
        style = [_element("style", {}, _COLOURS)] if own_colours else []
        lines = [f"<{_tag('svg', outer)}>", title, _element("desc", {}, said), *style, *body]
        return "\n".join([*lines, "</svg>"])

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
            yield self._text(0, line, _QUIET)
            self.top += _ROW

    def _header(self, hops: range) -> Iterator[str]:
        for place, hop in enumerate(hops):
            left = self.start + place * self.cell + 2
            yield self._text(left, self.layout.name(hop), {**_BOLD, **_QUIET})
        self.top += _ROW

    def _slot(self, slot: int, hops: range) -> Iterator[str]:
        strongest = self.picture.strongest[hops.start : hops.stop, slot].any()
        faint = all(self.picture.faint(hop, slot) for hop in hops)
        if self.layout.margin:
            yield self._text(self.layout.margin - 2, str(slot + 1), {**_QUIET, **_TO_THE_LEFT})
        label = shortened(self.layout.labels[slot], self.layout.label, "…")
        look = _BOLD if strongest else _QUIET if faint else _PLAIN
        yield self._text(self.layout.margin, label, {"class": "label", **look})
        for place, hop in enumerate(hops):
            left = self.start + place * self.cell + 2
            yield from self._bar(hop, slot, left)
            yield self._number(hop, slot, left + self.layout.bar + 1 + self.layout.number)

    def _bar(self, hop: int, slot: int, left: int) -> Iterator[str]:
        """The bar on the track that it would fill, with the pointer in the column before it."""
        weight, strongest = self.picture.weights[hop, slot], self.picture.strongest[hop, slot]
        look: _Look = {"fill": _POSITIVE if weight > 0 else _NEGATIVE}
        middle, full = self.top + _ROW / 2, self.layout.bar * _CELL
        if strongest:
            corner = f"M {_px(_x(left) - 8)} {_px(middle - 4.5)} l 6 4.5 l -6 4.5 z"
            yield _element("path", {"class": "pointer", "d": corner, **look})
        box: _Look = {"x": _px(_x(left)), "y": _px(middle - _BAR / 2), "height": _BAR, "rx": 2}
        yield _element("rect", {**_TRACK, "width": _px(full), **box})
        width = _px(full * min(1.0, abs(weight / self.picture.full)))
        if width != "0":
            look = {**look, **(_PLAIN if strongest else _QUIET)}
            yield _element("rect", {"class": "bar", "width": width, **box, **look})

    def _number(self, hop: int, slot: int, right: int) -> str:
        number = self.picture.number(self.picture.weights[hop, slot])
        look = _BOLD if self.picture.strongest[hop, slot] else _QUIET
        shown = number if float(number) else "·"
        return self._text(right, shown, {"class": "number", **look, **_TO_THE_LEFT})

    def _gap(self, gap: range) -> Iterator[str]:
        right = max(1, self.layout.margin - 2)
        yield self._text(right, "⋮", {**_QUIET, **_TO_THE_LEFT})
        yield self._text(right + 2, self.picture.folded(gap), _QUIET)

    def _text(self, column: int, text: str, look: _Look) -> str:
        """A text in the next row, from a column on or, to the left, up to it.

        Its length is given, so that it keeps to its columns in whatever font there is.
        """
        text = shortened(text, self.picture.width, "…")
        length = cells(text)
        if "text-anchor" not in look:
            self.columns = max(self.columns, column + length)
        place: dict[str, str | float] = {
            "x": _px(_x(column)),
            "y": _px(self.top + _ROW / 2 + 0.35 * _FONT),
        }
        if length:  # marks alone have no width to keep
            place |= {"textLength": _px(length * _CELL), "lengthAdjust": "spacingAndGlyphs"}
        if "  " in f" {text} ":
            place["xml:space"] = "preserve"
        return _element("text", {**place, **look}, text)


def _x(column: int) -> float:
    return _EDGE + column * _CELL


def _px(length: float) -> str:
    return f"{length:.2f}".rstrip("0").rstrip(".")


def _element(name: str, attributes: _Look, text: str = "") -> str:
    tag = _tag(name, attributes)
    return f"<{tag}>{escape(text)}</{name}>" if text else f"<{tag}/>"


def _tag(name: str, attributes: _Look) -> str:
    given = (f'{key}="{escape(str(value))}"' for key, value in attributes.items())
    return " ".join([name, *given])
