"""Draw the facts that each hop read on the way to an answer."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from memhop.picture.drawing import MIN_WIDTH, Drawing, Line
from memhop.picture.graph_svg import draw
from memhop.picture.graph_text import GraphText
from memhop.picture.labels import listed, percent, shortened
from memhop.picture.scale import Scale

VISIBLE = 0.005  # less dropped weight changes no weight with two decimals
_PATH_SHARE = 0.1  # of the support of the strongest fact, from which on a fact is on the path


class Edge(NamedTuple):
    """A fact that a hop read.

    Attributes:
        subject, relation, object: their names.
        is_inverse: whether the hop read it from the object to the subject.
        weight: the attention of the hop to the fact.
        support: the share of the answer that came over this fact; 0 if none did.
    """

    subject: str
    relation: str
    object: str
    is_inverse: bool
    weight: float
    support: float

    @property
    def start(self) -> str:
        """The entity that the hop came from."""
        return self.object if self.is_inverse else self.subject

    @property
    def end(self) -> str:
        """The entity that the hop led to."""
        return self.subject if self.is_inverse else self.object


class HopEdges(NamedTuple):
    """The facts that a hop read.

    Attributes:
        edges: the facts to draw.
        num_facts: the number of all facts that it read, at least ``len(edges)``.
        dropped: the share of weight on entities that the hop did not follow; from 0.005 on, the
            picture says that the weights are estimates.
    """

    edges: Sequence[Edge]
    num_facts: int
    dropped: float = 0.0


def graph_picture(
    hops: Sequence[HopEdges],
    topics: Sequence[str],
    answers: Sequence[tuple[str, float]],
    *,
    width: int = 80,
) -> "GraphPicture":
    """Draw the facts that each hop read, from the topics of a question to its answers.

    As text, each fact has a line with the weight of its hop. The facts on the path to the answer
    come first, with a pointer. A fact is read from left to right; its arrow goes from subject to
    object, so ``Spielberg ←directed_by─ Jaws`` is the fact that Spielberg directed Jaws. ``.svg()``
    and a notebook show a graph.

    Args:
        hops: the facts of each hop, in order.
        topics: the entities that the first hop starts from.
        answers: the answers with their probabilities, strongest first.
        width: the maximum number of columns of a line of text, at least 20.

    Raises:
        ValueError: an argument is invalid; the message is one line.

    >>> directed = Edge("Jaws", "directed_by", "Steven Spielberg", False, 0.97, 1.0)
    >>> other = Edge("Jaws", "release_year", "1975", False, 0.03, 0.0)
    >>> back = Edge("Duel", "directed_by", "Steven Spielberg", True, 1.0, 1.0)
    >>> hops = [HopEdges([directed, other], 6), HopEdges([back], 1, dropped=0.03)]
    >>> print(graph_picture(hops, ["Jaws"], [("Duel", 0.95)], width=70))
    hop 1
    ▸ Jaws ─directed_by→ Steven Spielberg  █████████▊  0.97
      Jaws ─release_year→ 1975             ▎           0.03
    ⋮ 4 more facts
    hop 2
    ▸ Steven Spielberg ←directed_by─ Duel  ██████████  1.00
    the weights are estimates: hop 2 did not follow entities with 3% of
    the weight
    """
    if width < MIN_WIDTH:
        raise ValueError(f"graph_picture: expected width of at least {MIN_WIDTH}, got {width}")
    for number, hop in enumerate(hops, 1):
        if hop.num_facts < len(hop.edges):
            expected = f"num_facts of at least {len(hop.edges)}, the number of its edges"
            raise ValueError(
                f"graph_picture: hop {number}: expected {expected}, got {hop.num_facts}"
            )
        for value in (hop.dropped, *(x for edge in hop.edges for x in (edge.weight, edge.support))):
            if not math.isfinite(value) or value < 0:
                expected = "finite weights and shares of at least 0"
                raise ValueError(f"graph_picture: hop {number}: expected {expected}, got {value}")
    return GraphPicture(hops, topics, answers, width)


class GraphPicture(Drawing):
    """The result of `graph_picture`: ``str()`` is plain text, a rich console shows colours.

    ``svg()`` returns an SVG file; a notebook displays it.

    Attributes:
        hops: the facts of each hop, those on the path first.
        topics, answers: as given.
        scale: the scale of the weights.
    """

    def __init__(
        self,
        hops: Sequence[HopEdges],
        topics: Sequence[str],
        answers: Sequence[tuple[str, float]],
        width: int,
    ) -> None:
        peaks = [max((edge.support for edge in hop.edges), default=0.0) for hop in hops]
        self._least = [_PATH_SHARE * peak or math.inf for peak in peaks]
        self.hops = [
            hop._replace(edges=sorted(hop.edges, key=lambda edge: not self.is_on_path(place, edge)))
            for place, hop in enumerate(hops)
        ]
        self.topics, self.answers, self.width = list(topics), list(answers), width
        peak = max((edge.weight for hop in hops for edge in hop.edges), default=0.0)
        self.scale = Scale.of(peak)

    def is_on_path(self, hop: int, edge: Edge) -> bool:
        """Return whether a fact of a hop gave at least a tenth as much as the strongest one."""
        return edge.support >= self._least[hop]

    def num_more(self, hop: int) -> int:
        """Return the number of facts of a hop that are not drawn."""
        return self.hops[hop].num_facts - len(self.hops[hop].edges)

    def describe_more(self, hop: int) -> str:
        """Return the text for the facts of a hop that are not drawn; empty if there are none."""
        number = self.num_more(hop)
        return f"{number:,} more fact{'s' * (number > 1)}" if number else ""

    def legend(self, mark: str = "bar") -> list[str]:
        """Return the lines below the facts, which have bars or other marks; usually none.

        >>> graph_picture([], [], []).legend()
        ['no fact was read']
        """
        lines = [] if self.hops else ["no fact was read"]
        dropped = [
            f"hop {place + 1} did not follow entities with {percent(hop.dropped)} of the weight"
            for place, hop in enumerate(self.hops)
            if hop.dropped >= VISIBLE
        ]
        lines += [f"the weights are estimates: {', '.join(dropped)}"] if dropped else []
        return lines + self.scale.legend(mark)

    def describe(self) -> list[str]:
        """Return the strongest fact on the path of each hop, and the answers, as text.

        >>> edge = Edge("Duel", "directed_by", "Steven Spielberg", True, 1.0, 1.0)
        >>> graph_picture([HopEdges([edge], 9)], [], [("Duel", 0.95)]).describe()[0]
        'hop 1 read 9 facts, mainly Duel directed_by Steven Spielberg (1.00)'
        """
        lines = []
        for number, hop in enumerate(self.hops, 1):
            if not hop.edges:
                lines.append(f"hop {number} read no fact")
                continue
            edge = hop.edges[0]
            fact = " ".join(self._short(text) for text in edge[:3])
            count = "1 fact:" if hop.num_facts == 1 else f"{hop.num_facts:,} facts, mainly"
            lines.append(f"hop {number} read {count} {fact} ({self.scale.format(edge.weight)})")
        if not self.answers:
            return [*lines, "no answer"]
        shown = [f"{self._short(name)} ({percent(share)})" for name, share in self.answers]
        return [*lines, f"{'answers' if shown[1:] else 'answer'}: {listed(shown, most=5)}"]

    def _short(self, text: str) -> str:
        return shortened(text, self.width, "…")

    def _lines(self, width: int, encoding: str) -> Iterator[Line]:
        return GraphText(self, width, encoding).lines()

    def _svg(self, title: str, with_style: bool) -> str:
        return draw(self, title, with_style=with_style)

    def __repr__(self) -> str:
        facts = sum(hop.num_facts for hop in self.hops)
        return f"<GraphPicture of {len(self.hops)} hops over {facts} facts: print it>"
