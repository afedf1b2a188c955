"""Draw the facts of each hop as a graph in SVG: topics on the left, answers on the right."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from memhop.picture.graph_layout import (
    ARROW,
    CURVE,
    PADDING,
    Column,
    Layout,
    Node,
    Row,
)
from memhop.picture.labels import cells, shortened
from memhop.picture.svg_elements import (
    BOLD,
    CELL,
    CENTRED,
    DIM,
    EDGE,
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
    from memhop.picture.graph import GraphPicture

_ROW = 32
_LINE = 24  # the height of a line of text
_NODE = 24
_ARROW_LENGTH = 9
_THINNEST, _THICKEST = 1.0, 6.0  # line of a fact with the weight 0, or with a full one
_ON_PATH: Attributes = {"stroke": POSITIVE}
_OFF_PATH: Attributes = {"stroke": "currentColor", "stroke-opacity": 0.3}


def draw(picture: "GraphPicture", title: str = "", *, with_style: bool = True) -> str:
    """Return the graph as an ``<svg>`` element, ``with_style`` or in the colours of the page."""
    return _Svg(picture, title).element(with_style)


class _Svg:
    """A drawing: a title, the columns of the layout, and a legend."""

    def __init__(self, picture: "GraphPicture", title: str) -> None:
        self.picture = picture
        self.layout = Layout(picture)
        legend = picture.legend("line")
        self.columns = max(self.layout.width(), *map(len, ["", *legend]))
        self.title = shortened(title, max(self.columns, picture.width), "…")
        self.columns = max(self.columns, cells(self.title))
        self.legend = legend
        self.top = EDGE + (1.25 * _LINE if title else 0.0)  # of the headings
        self.bottom = self.top + _LINE + self.layout.height * _ROW

    def element(self, with_style: bool) -> str:
        """Return the whole element."""
        size = self.columns * CELL + 2 * EDGE, self.bottom + _LINE * len(self.legend) + EDGE
        title = self.title or "The facts that each hop read"
        description = "; ".join([*self.picture.describe(), *self.legend])
        return document(title, description, self._body(), size, with_style)

    def _body(self) -> Iterator[str]:
        if self.title:
            yield line_of_text(EDGE, EDGE + _LINE / 2, self.title, BOLD)
        left = float(EDGE)
        before = self.layout.nodes[0]
        yield from self._nodes(before, left)
        for hop, after in zip(self.layout.hops, self.layout.nodes[1:], strict=True):
            left += (before.width + CURVE) * CELL
            yield from self._hop(hop, left)
            left += (hop.width + CURVE) * CELL
            yield from self._nodes(after, left)
            before = after
        for line, text in enumerate(self.legend):
            yield line_of_text(EDGE, self.bottom + (line + 0.5) * _LINE, text, DIM)

    def _middle(self, row: int) -> float:
        return self.top + _LINE + (row + 0.5) * _ROW

    def _heading(self, column: Column[Node] | Column[Row], left: float) -> Iterator[str]:
        """Draw the text above a column, and the one below it."""
        centre = left + column.width * CELL / 2
        if column.title:
            style = {**BOLD, **DIM, **CENTRED}
            yield line_of_text(centre, self.top + _LINE / 2, column.title, style)
        if column.more:
            middle = self._middle(len(column.items))
            yield line_of_text(centre, middle, column.more, {**DIM, **CENTRED})

    def _nodes(self, column: Column[Node], left: float) -> Iterator[str]:
        yield from self._heading(column, left)
        for row, node in enumerate(column.items):
            yield from self._node(node, left, column.width * CELL, self._middle(row))

    def _node(self, node: Node, left: float, width: float, middle: float) -> Iterator[str]:
        """Draw a name in a box, with the share of an answer on the right."""
        is_answer = bool(node.share)
        fill: Attributes = {"fill": POSITIVE, "fill-opacity": 0.16 if is_answer else 0.0}
        box: Attributes = {
            "class": "node",
            "x": px(left + 1),
            "y": px(middle - _NODE / 2),
            "width": px(width - 2),
            "height": _NODE,
            "rx": 6,
        }
        yield element("rect", {**box, **fill, **(_ON_PATH if node.is_on_path else _OFF_PATH)})
        style = BOLD if is_answer else PLAIN if node.is_on_path else DIM
        yield line_of_text(left + PADDING * CELL, middle, node.label, {"class": "label", **style})
        if is_answer:
            right = left + width - PADDING * CELL
            yield line_of_text(right, middle, node.share, {"class": "share", **RIGHT_ALIGNED})

    def _hop(self, column: Column[Row], left: float) -> Iterator[str]:
        yield from self._heading(column, left)
        right = left + column.width * CELL
        # the path is drawn last, over the other lines
        for row, fact in sorted(enumerate(column.items), key=lambda one: one[1].is_on_path):
            middle = self._middle(row)
            length = (cells(fact.label) + 1 + len(fact.number)) * CELL
            start = (left + right - length) / 2
            gaps = (ARROW, 0.6) if fact.edge.is_inverse else (0.6, ARROW)
            ends = start - gaps[0] * CELL, start + length + gaps[1] * CELL
            from_start = _curve(left, -CURVE, self._middle(fact.start), middle, ends[0])
            to_end = _curve(right, CURVE, self._middle(fact.end), middle, ends[1])
            yield from self._lines(fact, [from_start, to_end])
            yield _arrow(fact, start if fact.edge.is_inverse else start + length, middle)
            weight = BOLD if fact.is_on_path else PLAIN
            yield line_of_text(start, middle, fact.label, {"class": "relation", **weight})
            style = {"class": "number", **DIM, **RIGHT_ALIGNED}
            yield line_of_text(start + length, middle, fact.number, style)

    def _lines(self, fact: Row, curves: list[str]) -> Iterator[str]:
        share = min(1.0, fact.edge.weight / self.picture.scale.full)
        width = px(_THINNEST + share * (_THICKEST - _THINNEST))
        style = _ON_PATH if fact.is_on_path else _OFF_PATH
        for curve in curves:
            line: Attributes = {"class": "line", "d": curve, "fill": "none"}
            yield element("path", {**line, "stroke-width": width, **style})


def _curve(bend: float, to: int, y: float, middle: float, end: float) -> str:
    """Return the path from an entity, ``to`` cells beyond the bend, to the text of a fact."""
    x, half = bend + to * CELL, px(bend + to * CELL / 2)
    if y == middle:
        return f"M {px(x)} {px(y)} H {px(end)}"
    curve = f"C {half} {px(y)} {half} {px(middle)} {px(bend)} {px(middle)}"
    return f"M {px(x)} {px(y)} {curve} H {px(end)}"


def _arrow(fact: Row, end: float, middle: float) -> str:
    """Return the arrow between a text, which ends at ``end``, and its line."""
    length = -_ARROW_LENGTH if fact.edge.is_inverse else _ARROW_LENGTH
    base = end + (ARROW * CELL - _ARROW_LENGTH) * (-1 if fact.edge.is_inverse else 1)
    corners = f"M {px(base)} {px(middle - 6)} l {px(length)} 6 l {px(-length)} 6 z"
    fill: Attributes = {"fill": POSITIVE} if fact.is_on_path else DIM
    return element("path", {"class": "arrow", "d": corners, **fill})
