"""Pictures of the facts that hops read, for tests."""

from hypothesis import strategies as st

from memhop.picture.graph import Edge, GraphPicture, HopEdges, graph_picture

HOPS = [
    HopEdges(
        [
            Edge("Jaws", "release_year", "1975", False, 0.03, 0.0),
            Edge("Jaws", "directed_by", "Steven Spielberg", False, 0.97, 1.0),
        ],
        7,
    ),
    HopEdges(
        [
            Edge("Duel", "directed_by", "Steven Spielberg", True, 0.5, 0.8),
            Edge("Lincoln", "directed_by", "Steven Spielberg", True, 0.25, 0.2),
            Edge("Jaws", "directed_by", "Steven Spielberg", True, 0.25, 0.01),
        ],
        3,
    ),
]


def films(hops: list[HopEdges] = HOPS, width: int = 80) -> GraphPicture:
    """Return the picture of the films by the director of Jaws."""
    return graph_picture(hops, ["Jaws"], [("Duel", 0.6), ("Lincoln", 0.35)], width=width)


_shares = st.floats(0, 1)
_any_text = st.text(st.characters(), max_size=60)


@st.composite
def graphs(draw: st.DrawFn, names: st.SearchStrategy[str] = _any_text) -> GraphPicture:
    """Draw a picture with few names, so that facts have common entities."""
    known = draw(st.lists(names, min_size=1, max_size=6))
    name = st.sampled_from(known)
    edge = st.builds(Edge, name, names, name, st.booleans(), _shares, _shares)
    hops = [
        HopEdges(edges, len(edges) + draw(st.integers(0, 2000)), draw(_shares))
        for edges in draw(st.lists(st.lists(edge, max_size=6), max_size=4))
    ]
    answers = draw(st.lists(st.tuples(name, _shares), max_size=9))
    return graph_picture(hops, draw(st.lists(names, max_size=9)), answers)
