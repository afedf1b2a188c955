"""The layout of a graph in SVG: columns of entities, and between them a column for each hop.

Every fact has a row of its own in the column of its hop, so that no two labels overlap; curves
connect it to its entities. All widths are in cells of a terminal.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from memhop.picture.labels import cells, percent, shortened

if TYPE_CHECKING:
    from memhop.picture.graph import Edge, GraphPicture

CURVE = 4  # cells from an entity to its fact
PADDING = 1  # cells on each side of the name of an entity
ARROW = 2  # cells on each side of a label, for an arrow on one of them
_MAX_OTHERS = 4  # topics, or answers, without a fact in the graph
_MAX_WIDTH = 136  # of a graph: names and labels are shortened to fit,
_MIN_LABEL = 12  # down to this
_MAX_LABEL = 30


class Row(NamedTuple):
    """A fact in the column of its hop.

    Attributes:
        edge: the fact.
        label: the text of its relation.
        number: the text of its weight.
        start, end: the rows of its entities in the columns before and after it.
        is_on_path: whether it leads to the answer.
    """

    edge: "Edge"
    label: str
    number: str
    start: int
    end: int
    is_on_path: bool


class Node(NamedTuple):
    """An entity.

    Attributes:
        label: the text of its name.
        share: the text of the probability of an answer; empty for another entity.
        is_on_path: whether a fact on the path starts or ends here.
    """

    label: str
    share: str
    is_on_path: bool


Item = TypeVar("Item", Node, Row)


class Column(NamedTuple, Generic[Item]):
    """A column: the entities before a hop or after the last one, or the facts of a hop.

    Attributes:
        title: the text above it.
        items: its entities or facts.
        more: the text below it: how many are left out.
        width: in cells.
    """

    title: str
    items: list[Item]
    more: str
    width: int


class Layout:
    """The columns of a graph, from left to right.

    Attributes:
        nodes: the columns of entities, one more than hops.
        hops: the columns of facts.
        height: the largest number of rows of a column.
    """

    def __init__(self, picture: "GraphPicture") -> None:
        self._picture = picture
        self._layers, self._edges = _arranged(picture)
        for limit in range(_MAX_LABEL, _MIN_LABEL - 1, -1):
            self._limit = limit
            self.nodes = [self._nodes(layer) for layer in range(len(self._layers))]
            self.hops = [self._facts(hop) for hop in range(len(self._edges))]
            if self.width() <= _MAX_WIDTH:
                break
        columns: list[Column[Node] | Column[Row]] = [*self.nodes, *self.hops]
        self.height = max(len(column.items) + bool(column.more) for column in columns)

    def width(self) -> int:
        """Return the cells of all columns and of the curves between them."""
        curves = 2 * CURVE * len(self.hops)
        widths = [column.width for column in self.nodes] + [column.width for column in self.hops]
        return curves + sum(widths)

    def _nodes(self, layer: int) -> Column[Node]:
        is_last = layer == len(self._edges)
        path = set()
        if layer:
            path |= {edge.end for edge in self._path(layer - 1)}
        if not is_last:
            path |= {edge.start for edge in self._path(layer)}
        answers = self._picture.answers if is_last and layer else []
        shares: dict[str, float] = {}
        for name, share in answers:  # several entities may have one name
            shares[name] = shares.get(name, 0.0) + share
        names, more = self._layers[layer]
        items = [
            Node(self._short(name), percent(shares[name]) if name in shares else "", name in path)
            for name in names
        ]
        title = "answer" if shares else "" if layer else "topic"
        title += "s" * (title != "" and more + len(shares or names) > 1)
        below = f"{more:,} more" if more else ""
        widths = [cells(node.label) + len(node.share) + bool(node.share) for node in items]
        return Column(title, items, below, 2 * PADDING + _widest(title, below, widths))

    def _facts(self, hop: int) -> Column[Row]:
        starts, ends = (
            {name: row for row, name in enumerate(self._layers[layer][0])}
            for layer in (hop, hop + 1)
        )
        items = [
            Row(
                edge,
                self._short(edge.relation),
                self._picture.scale.format(edge.weight),
                starts[edge.start],
                ends[edge.end],
                self._picture.is_on_path(hop, edge),
            )
            for edge in self._edges[hop]
        ]
        title = f"hop {hop + 1}"
        below = self._picture.describe_more(hop) or ("" if items else "no fact was read")
        widths = [2 * ARROW + cells(row.label) + 1 + len(row.number) for row in items]
        return Column(title, items, below, _widest(title, below, widths))

    def _path(self, hop: int) -> "list[Edge]":
        return [edge for edge in self._edges[hop] if self._picture.is_on_path(hop, edge)]

    def _short(self, name: str) -> str:
        return shortened(name, self._limit, "…")


def _widest(title: str, below: str, widths: Sequence[int]) -> int:
    return max([len(title), len(below), *widths])


def _arranged(
    picture: "GraphPicture",
) -> "tuple[list[tuple[list[str], int]], list[list[Edge]]]":
    """Return the names of each layer with the number of further ones, and the edges of each hop.

    Edges are in the order of their starts, and entities in the order of the edges that lead to
    them: so few curves cross.
    """
    layers: list[tuple[list[str], int]] = []
    edges: list[list[Edge]] = []
    reached: list[str] = []
    for hop in picture.hops:
        starts = [edge.start for edge in hop.edges]
        layers.append(_layer([*reached, *starts], [] if layers else picture.topics))
        order = {name: row for row, name in enumerate(layers[-1][0])}
        edges.append(sorted(hop.edges, key=lambda edge: order[edge.start]))
        rows: dict[str, list[int]] = {}
        for row, edge in enumerate(edges[-1]):
            rows.setdefault(edge.end, []).append(row)
        reached = sorted(rows, key=lambda name: fmean(rows[name]))
    names = [name for name, _ in picture.answers] if layers else picture.topics
    layers.append(_layer(reached, names))
    return layers, edges


def _layer(connected: list[str], others: list[str]) -> tuple[list[str], int]:
    """Return the distinct names of a layer, and how many of the others are left out."""
    names = list(dict.fromkeys(connected))
    rest = [name for name in dict.fromkeys(others) if name not in set(names)]
    return names + rest[:_MAX_OTHERS], max(0, len(rest) - _MAX_OTHERS)
