"""The facts that hops read, as SVG: a graph with arrows, escaping, and no overlaps."""

import re
from itertools import pairwise
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memhop.picture.graph import Edge, GraphPicture, HopEdges, graph_picture

from .graphs import HOPS, films, graphs
from .svg_parts import SVG, drawn, every, extent, middle, number, texts

LINE = re.compile(r"M (\S+) (\S+) (?:C \S+ \S+ \S+ (\S+) \S+ \S+ )?H (\S+)")


def line(element: Element) -> tuple[float, float, float, float]:
    """Return x and y of an entity, and those of its fact."""
    found = LINE.fullmatch(element.attrib["d"])
    assert found
    x, y, other, end = found.groups()
    return float(x), float(y), float(end), float(other or y)


def at(elements: list[Element], x: float, y: float) -> str:
    """Return the index of the box with a side at a point."""
    (found,) = [
        str(i)
        for i, box in enumerate(elements)
        if middle(box) == pytest.approx(y) and min(abs(x - end) for end in extent(box)) < 1.1
    ]
    return found


def facts(root: Element) -> list[tuple[str, str, str, str]]:
    """Return subject, relation, object and weight of each fact, by following lines and arrows."""
    boxes, names = every(root, "rect", "node"), texts(root, "label")
    found = []
    lines, arrows = every(root, "path", "line"), every(root, "path", "arrow")
    labels = zip(every(root, "text", "relation"), texts(root, "number"), strict=True)
    for place, (label, weight) in enumerate(labels):
        left, right = lines[2 * place : 2 * place + 2]
        start, end = (names[int(at(boxes, *line(side)[:2]))] for side in (left, right))
        assert line(left)[3] == line(right)[3] == pytest.approx(middle(label), abs=0.01)
        assert line(left)[2] < extent(label)[0] < extent(label)[1] < line(right)[2]
        _, x, y, _, length, *_ = arrows[place].attrib["d"].split()
        assert float(y) + 6 == pytest.approx(middle(label), abs=0.01)
        if float(length) > 0:  # it points to the right
            assert extent(label)[1] < float(x)
            found.append((start, label.text or "", end, weight))
        else:
            assert float(x) < extent(label)[0]
            found.append((end, label.text or "", start, weight))
    return found


def test_it_shows_the_facts_with_their_direction_and_weight() -> None:
    assert sorted(facts(drawn(films()))) == [
        ("Duel", "directed_by", "Steven Spielberg", "0.50"),
        ("Jaws", "directed_by", "Steven Spielberg", "0.25"),
        ("Jaws", "directed_by", "Steven Spielberg", "0.97"),
        ("Jaws", "release_year", "1975", "0.03"),
        ("Lincoln", "directed_by", "Steven Spielberg", "0.25"),
    ]


names = st.sampled_from("abcdefghijklmnopqrstuvwxyz")


@settings(max_examples=60, deadline=None)
@given(graphs(names))
def test_any_graph_shows_its_facts(shown: GraphPicture) -> None:
    expected = [
        (*edge[:3], shown.scale.format(edge.weight)) for hop in shown.hops for edge in hop.edges
    ]
    assert sorted(facts(drawn(shown))) == sorted(expected)


def test_it_has_columns_of_entities_and_hops() -> None:
    root = drawn(films(), "Films by the director of Jaws?  Duel (60%)")
    assert texts(root, "label") == [
        "Jaws", "Steven Spielberg", "1975", "Duel", "Lincoln", "Jaws",
    ]  # fmt: skip
    assert texts(root, "share") == ["60%", "35%"]
    bold = [one.text for one in every(root, "text") if one.get("font-weight")]
    assert bold == [
        "Films by the director of Jaws?  Duel (60%)", "topic", "hop 1", "directed_by", "hop 2",
        "directed_by", "directed_by", "answers", "Duel", "Lincoln",
    ]  # fmt: skip
    assert "5 more facts" in texts(root)


def test_it_has_a_title_a_description_and_a_size() -> None:
    root = drawn(films(), "Who?")
    assert (root.tag, root.get("role")) == (f"{SVG}svg", "img")
    assert [one.tag for one in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert root[0].text == "Who?"
    assert root[1].text == "; ".join(films().describe())
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    assert drawn(films())[0].text == "The facts that each hop read"
    estimated = films([HOPS[0]._replace(dropped=0.25)])
    assert "hop 1 did not follow entities with 25% of the weight" in (
        drawn(estimated)[1].text or ""
    )
    assert texts(drawn(estimated))[-1].startswith("the weights are estimates: hop 1 did not")


def test_the_path_is_coloured_and_drawn_over_other_lines() -> None:
    root = drawn(films())
    strokes = [one.get("stroke") for one in every(root, "path", "line")]
    assert (
        strokes == ["currentColor"] * 2 + ["#2f81d7"] * 2 + ["currentColor"] * 2 + ["#2f81d7"] * 4
    )
    path = [
        text.text
        for box, text in zip(every(root, "rect", "node"), every(root, "text", "label"), strict=True)
        if box.get("stroke") == "#2f81d7"
    ]
    assert path == ["Jaws", "Steven Spielberg", "Duel", "Lincoln"]


def test_the_width_of_a_line_grows_with_the_weight() -> None:
    edges = [Edge("a", f"r{w}", f"{w}", False, w, 0.0) for w in (1.0, 0.5, 0.25, 0.0)]
    root = drawn(graph_picture([HopEdges(edges, 4)], ["a"], []))
    widths = [number(one, "stroke-width") for one in every(root, "path", "line")]
    assert widths == [6.0, 6.0, 3.5, 3.5, 2.25, 2.25, 1.0, 1.0]


def test_entities_of_one_name_are_one_box_and_far_answers_are_counted() -> None:
    edges = [Edge("a", "r", "b", False, 0.5, 1.0), Edge("a", "s", "b", False, 0.5, 1.0)]
    answers = [("b", 0.25), ("b", 0.25), *((f"x{i}", 0.05) for i in range(9))]
    topics = ["a", *(f"t{i}" for i in range(20))]
    root = drawn(graph_picture([HopEdges(edges, 2)], topics, answers))
    assert texts(root, "label") == ["a", "t0", "t1", "t2", "t3", "b", "x0", "x1", "x2", "x3"]
    assert texts(root, "share")[:2] == ["50%", "5%"]
    assert {"topics", "answers", "16 more", "5 more"} < set(texts(root))


def test_hops_without_facts() -> None:
    root = drawn(graph_picture([], ["Jaws"], []))
    assert texts(root) == ["topic", "Jaws", "no fact was read"]
    root = drawn(graph_picture([HopEdges([], 0)], ["Jaws", "Duel"], []))
    assert texts(root) == ["topics", "Jaws", "Duel", "hop 1", "no fact was read"]


@settings(max_examples=150, deadline=None)
@given(graphs(), st.text(st.characters(), max_size=60))
def test_elements_are_inside_the_image_and_texts_do_not_overlap(
    shown: GraphPicture, title: str
) -> None:
    root = drawn(shown, title)
    taken: dict[float, list[tuple[float, float]]] = {}
    boxes = [(middle(box), *extent(box)) for box in every(root, "rect")]
    for element in every(root, "text"):
        taken.setdefault(round(middle(element), 1), []).append(extent(element))
    for centre, extents in taken.items():
        assert 12 <= centre <= number(root, "height") - 12
        assert all(left >= 0 and right <= number(root, "width") for left, right in extents)
        assert all(one[1] <= two[0] + 0.02 for one, two in pairwise(sorted(extents)))
    for label in [*every(root, "text", "label"), *every(root, "text", "share")]:
        assert any(
            left < extent(label)[0] and extent(label)[1] < right
            for centre, left, right in boxes
            if abs(centre - middle(label)) < 0.2
        )


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(), min_size=1), st.text())
@example("\u0301", "\U0001f3fb")  # characters that take no cell
def test_any_name_and_title_makes_the_same_elements(name: str, title: str) -> None:
    """No text can add, open or close an element."""

    def elements(name: str, title: str) -> list[str]:
        edge = Edge(name, name, name, False, 1.0, 1.0)
        shown = graph_picture([HopEdges([edge], 1)], [name], [(name, 1.0)])
        return [one.tag for one in drawn(shown, title).iter()]

    assert elements(name, title) == elements("a", title and "a")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("</text><script>", None),
        ("]]> &amp; &#0; <!-- \"'", None),
        ("\x00\x1b[31m\x07", r"\x00\x1b[31m\x07"),
        ("\ud800 \ufffe \uffff", r"\ud800 \ufffe \uffff"),
        ("\u202egnol", r"\u202egnol"),
        ("two  spaces", None),
    ],
)
def test_a_name_is_escaped(name: str, shown: str | None) -> None:
    edge = Edge(name, name, name, False, 1.0, 1.0)
    root = drawn(graph_picture([HopEdges([edge], 1)], [name], [(name, 1.0)]), name)
    assert {root[0].text, *texts(root, "label"), *texts(root, "relation")} == {shown or name}


def test_long_names_are_shortened_until_the_graph_is_small() -> None:
    def shown(hops: int) -> Element:
        edge = Edge("n" * 90, "r" * 90, "n" * 90, False, 1.0, 1.0)
        return drawn(graph_picture([HopEdges([edge], 1)] * hops, [], []))

    assert texts(shown(1), "label") == ["n" * 29 + "…"] * 2
    assert len(texts(shown(3), "relation")[0]) < 20
    assert number(shown(3), "width") < 1250
    assert texts(shown(9), "relation") == ["r" * 11 + "…"] * 9


def test_a_file_has_its_colours_and_a_notebook_uses_those_of_its_page() -> None:
    [style] = every(drawn(films()), "style")
    assert "prefers-color-scheme: dark" in (style.text or "")
    inline = films()._repr_html_()
    assert "style>" not in inline
    assert fromstring(inline).get("fill") == "currentColor"


def test_it_loads_nothing_and_has_no_ids() -> None:
    for text in (films().svg("a"), films()._repr_html_()):
        assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"') == 1
        root = fromstring(text)
        assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
            "svg", "title", "desc", "style", "text", "rect", "path",
        }  # fmt: skip
        found = {name for one in root.iter() for name in one.attrib}
        assert not found & {"id", "href", "{http://www.w3.org/1999/xlink}href"}
        assert not re.search(r"url\(|@import|@font-face|\bon\w+=", text)
