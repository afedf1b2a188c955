"""The picture as SVG: its content, escaping, and that it is self-contained."""

import re
from itertools import pairwise
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhop.picture import picture

from .svg_parts import SVG, drawn, every, extent, middle, number, texts

STORY = ["Mary took the milk.", "John went to the office.", "Mary went to the garden."]
WEIGHTS = [[0.75, 0.0, 0.25], [0.004, 0.096, 0.9]]


def row(element: Element) -> float:
    """Return the vertical centre of an element; elements of one row have the same."""
    if element.tag == SVG + "path":
        return float(element.attrib["d"].split()[2]) + 4.5
    return middle(element)


def test_it_has_a_title_a_description_and_a_size() -> None:
    root = drawn(picture(WEIGHTS, STORY), "Where is the milk?  garden (98%)")
    assert (root.tag, root.get("role")) == (f"{SVG}svg", "img")
    assert [one.tag for one in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert root[0].text == texts(root)[0] == "Where is the milk?  garden (98%)"
    assert root[1].text == (
        "hop 1 read most: Mary took the milk. (0.75); "
        "hop 2 read most: Mary went to the garden. (0.90)"
    )
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    assert 400 < number(root, "width") < 700
    assert drawn(picture(WEIGHTS, STORY))[0].text == "What each hop read"


def test_one_row_per_slot_and_one_column_per_hop() -> None:
    root = drawn(picture(WEIGHTS, STORY))
    assert texts(root, "label") == STORY
    assert texts(root, "number") == ["0.75", "·", "·", "0.10", "0.25", "0.90"]
    assert [text for text in texts(root) if text.startswith("hop")] == ["hop 1", "hop 2"]
    labels = [row(label) for label in every(root, "text", "label")]
    assert np.allclose(np.diff(labels), 24)
    assert np.allclose([row(one) for one in every(root, "text", "number")], np.repeat(labels, 2))
    assert np.allclose([row(one) for one in every(root, "rect", "track")], np.repeat(labels, 2))


@pytest.mark.parametrize("scale", [1.0, -3.0, 1e-6])
def test_bars_are_proportional_to_the_weights(scale: float) -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(7), size=3) * scale
    shown = picture(weights)
    root = drawn(shown)
    full = [number(track, "width") for track in every(root, "rect", "track")]
    bars = [number(bar, "width") for bar in every(root, "rect", "bar")]
    shares = abs(weights.T.ravel()) / shown.full
    assert np.allclose(np.array(bars) / full, shares, atol=1e-3)
    fills = {bar.attrib["fill"] for bar in every(root, "rect", "bar")}
    assert fills == ({"#2f81d7"} if scale > 0 else {"#c97b1f"})


def test_the_strongest_slot_of_each_hop_has_a_pointer_and_is_bold() -> None:
    root = drawn(picture(WEIGHTS, STORY))
    labels = every(root, "text", "label")
    assert [row(one) for one in every(root, "path", "pointer")] == pytest.approx(
        [row(labels[0]), row(labels[2])]
    )
    bold = [one.text for one in every(root, "text") if one.get("font-weight") and row(one) > 20]
    assert bold == [STORY[0], "0.75", STORY[2], "0.90"]
    opaque = [one for one in every(root, "rect", "bar") if not one.get("opacity")]
    assert [row(bar) for bar in opaque] == pytest.approx([row(labels[0]), row(labels[2])])


def test_small_weights_are_dim() -> None:
    labels = every(drawn(picture([[0.995, 0.002, 0.003], [0.98, 0.001, 0.019]])), "text", "label")
    assert [one.get("opacity") for one in labels] == [None, "0.6", None]


def test_a_long_memory_has_gaps_and_a_small_file() -> None:
    weights = np.full((3, 500), 1e-5)
    weights[:, [3, 100]] = 0.9, 0.09
    root = drawn(picture(weights, ["x" * 10_000] * 500))
    gaps = [text for text in texts(root) if "more" in text]
    assert gaps == [f"{count} more, none above 0.01" for count in (3, 96, 399)]
    assert [text for text in texts(root) if text.isdigit()] == ["4", "101"]
    assert len(picture(weights, ["&" * 10_000] * 500).svg()) < 20_000


def test_another_scale_of_bars_and_numbers_is_described() -> None:
    root = drawn(picture([[0.005, -0.001]]))
    assert texts(root)[-2:] == ["full bar = 0.005", "numbers x 0.001"]
    assert "full bar = 0.005; numbers x 0.001" in (root[1].text or "")
    assert texts(root, "number") == ["5.00", "-1.00"]


def test_an_empty_memory_has_a_picture_too() -> None:
    root = drawn(picture(np.zeros((2, 0)), []), "Where is Mary?  garden (3%)")
    assert texts(root) == ["Where is Mary?  garden (3%)", "an empty memory: nothing to read"]
    assert (root[1].text or "").startswith("hop 1 read nothing; hop 2 read nothing; an empty")


def test_a_tie_is_described_by_its_first_slot() -> None:
    assert picture([[0.25] * 4]).describe() == ["hop 1 read most: [0] and 3 more (0.25)"]


def test_many_hops_are_split_into_panels() -> None:
    root = drawn(picture(np.full((20, 3), 1 / 3), STORY))
    heads = [text for text in texts(root) if text.startswith("hop")]
    assert heads == [f"hop {hop}" for hop in range(1, 21)]
    assert len(texts(root, "label")) == 9
    assert number(root, "width") < 800


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 40), st.integers(20, 160),
    st.text(st.characters(), max_size=60),
)  # fmt: skip
def test_elements_are_inside_the_image_and_do_not_overlap(
    seed: int, hops: int, slots: int, width: int, text: str
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(slots), size=hops) * rng.choice([1, -1, 1e5])
    root = drawn(picture(weights, [text] * slots, width=width), text)
    taken: dict[float, list[tuple[float, float]]] = {}
    for element in [*every(root, "text"), *every(root, "rect", "track")]:
        taken.setdefault(round(row(element), 3), []).append(extent(element))
    for centre, extents in taken.items():
        assert 12 <= centre <= number(root, "height") - 12
        assert all(left >= 0 and right <= number(root, "width") for left, right in extents)
        ends = sorted(extents)
        assert all(one[1] <= two[0] + 0.02 for one, two in pairwise(ends))


@settings(max_examples=300)
@given(st.lists(st.text(st.characters(), max_size=90), min_size=1, max_size=20), st.text())
def test_any_label_and_title_makes_the_same_elements(labels: list[str], title: str) -> None:
    """No text can add, open or close an element."""
    weights = np.full((2, len(labels)), 1 / len(labels))
    root = drawn(picture(weights, labels), title)
    plain = drawn(picture(weights, ["a"] * len(labels)), title and "a")
    assert [one.tag for one in root.iter()] == [one.tag for one in plain.iter()]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("</text><script>alert(1)</script>", None),
        ("]]> &amp; &#0; <!-- \"'", None),
        ("\x00\x1b[31m\x07", r"\x00\x1b[31m\x07"),
        ("lone \ud800 \ufffe \uffff", r"lone \ud800 \ufffe \uffff"),
        ("\u202egnol", r"\u202egnol"),
        ("a\nb\tc", r"a\nb\tc"),
        ("two  spaces", None),
    ],
)
def test_a_text_is_escaped(label: str, shown: str | None) -> None:
    root = drawn(picture([[1.0]], [label]), label)
    assert root[0].text == texts(root, "label")[0] == texts(root)[0] == (shown or label)
    assert (shown or label) in (root[1].text or "")


def test_several_spaces_are_preserved() -> None:
    space = "{http://www.w3.org/XML/1998/namespace}space"
    labels = every(drawn(picture([[0.5], [0.5]], ["two  spaces"])), "text", "label")
    assert [one.get(space) for one in labels] == ["preserve"]


def test_a_label_is_truncated_by_cells() -> None:
    labels = every(drawn(picture([[0.5, 0.5]], ["漢" * 40, "y" * 90], width=40)), "text", "label")
    assert [one.text for one in labels] == ["漢" * 11 + " …", "y" * 23 + "…"]
    assert [number(one, "textLength") for one in labels] == pytest.approx([24 * 8.4] * 2)


def test_a_file_has_its_colours_and_a_notebook_uses_those_of_its_page() -> None:
    shown = picture(WEIGHTS, STORY)
    [style] = every(drawn(shown), "style")
    assert "prefers-color-scheme: dark" in (style.text or "")
    rules = re.findall(r"([^{}]+)\{ *color:", style.text or "")
    assert [rule.strip() for rule in rules] == [".memhop-picture"] * 2
    inline = shown._repr_html_()
    assert "style>" not in inline
    assert "prefers-color-scheme" not in inline
    assert fromstring(inline).get("fill") == "currentColor"


def test_it_loads_nothing_and_has_no_ids() -> None:
    for text in (picture(WEIGHTS, STORY).svg("a"), picture(WEIGHTS, STORY)._repr_html_()):
        assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"') == 1
        root = fromstring(text)
        assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
            "svg", "title", "desc", "style", "text", "rect", "path",
        }  # fmt: skip
        names = {name for one in root.iter() for name in one.attrib}
        assert not names & {"id", "href", "{http://www.w3.org/1999/xlink}href"}
        assert not re.search(r"url\(|@import|@font-face|\bon\w+=", text)
