"""The facts that hops read, in a terminal: content, order, width and escaping."""

import io
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from memhop.picture.graph import Edge, GraphPicture, HopEdges, graph_picture

from .graphs import HOPS, films, graphs


def lines(shown: object) -> list[str]:
    return str(shown).splitlines()


def one_fact(name: str, **more: Any) -> GraphPicture:
    return graph_picture([HopEdges([Edge(name, "r", "b", False, 1.0, 1.0)], 1)], [name], [], **more)


def test_the_whole_picture() -> None:
    assert lines(films()) == [
        "hop 1",
        "▸ Jaws ─directed_by→ Steven Spielberg     █████████▊  0.97",
        "  Jaws ─release_year→ 1975                ▎           0.03",
        "⋮ 5 more facts",
        "hop 2",
        "▸ Steven Spielberg ←directed_by─ Duel     █████       0.50",
        "▸ Steven Spielberg ←directed_by─ Lincoln  ██▌         0.25",
        "  Steven Spielberg ←directed_by─ Jaws     ██▌         0.25",
    ]


def test_the_whole_picture_in_narrow_ascii() -> None:
    assert films().text(width=30, encoding="ascii").splitlines() == [
        "hop 1",
        "> Jaws -directed_by->",
        "  Steven Spielberg",
        "  #########:  0.97",
        "  Jaws -release_year-> 1975",
        "  .           0.03",
        ": 5 more facts",
        "hop 2",
        "> Steven Spielberg",
        "  <-directed_by- Duel",
        "  #####       0.50",
        "> Steven Spielberg",
        "  <-directed_by- Lincoln",
        "  ##:         0.25",
        "  Steven Spielberg",
        "  <-directed_by- Jaws",
        "  ##:         0.25",
    ]


def test_only_the_longest_names_are_shortened() -> None:
    edge = Edge("Jaws", "in", "a very long name of a film that nobody knows " * 2, False, 1.0, 1.0)
    (_, fact) = lines(graph_picture([HopEdges([edge], 1)], [], []))
    assert (
        fact == "▸ Jaws ─in→ a very long name of a film that nobody knows a ve…  ██████████  1.00"
    )
    assert len(fact) == 80


@pytest.mark.parametrize(
    ("supports", "marked"),
    [
        ([0.0, 0.9, 0.1], [False, True, True]),
        ([0.05, 0.9, 0.05], [False, True, False]),
        ([0.0, 0.0, 0.0], [False, False, False]),
        ([1e-9, 1e-9, 0.0], [True, True, False]),
    ],
)
def test_the_path_has_a_tenth_of_the_support_of_its_strongest_fact_and_comes_first(
    supports: list[float], marked: list[bool]
) -> None:
    edges = [Edge(f"e{i}", "r", "b", False, 0.5, share) for i, share in enumerate(supports)]
    shown = lines(graph_picture([HopEdges(edges, 3)], [], []))[1:]
    assert {line[2:4]: line[0] == "▸" for line in shown} == {
        f"e{i}": mark for i, mark in enumerate(marked)
    }
    assert [line[0] for line in shown] == sorted((line[0] for line in shown), reverse=True)
    # equally marked facts stay in their order
    assert [line[2:4] for line in shown if line[0] == " "] == [
        f"e{i}" for i, mark in enumerate(marked) if not mark
    ]


@pytest.mark.parametrize(
    ("dropped", "text"),
    [
        ([0.0, 0.0049], None),
        (
            [0.0, 0.031],
            "the weights are estimates: hop 2 did not follow entities with 3% of the weight",
        ),
        (
            [0.006, 0.5],
            "the weights are estimates: hop 1 did not follow entities with 1% of the weight, "
            "hop 2 did not follow entities with 50% of the weight",
        ),
    ],
)
def test_estimates_are_reported(dropped: list[float], text: str | None) -> None:
    hops = [hop._replace(dropped=share) for hop, share in zip(HOPS, dropped, strict=True)]
    assert films(hops).legend() == ([text] if text else [])
    assert " ".join(lines(films(hops))[8:]) == (text or "")


def test_small_weights_have_a_scale_of_their_own_and_zero_is_a_dot() -> None:
    edges = [Edge("a", "r", "b", False, 0.004, 1.0), Edge("a", "s", "c", False, 0.0, 0.0)]
    assert lines(graph_picture([HopEdges(edges, 2)], [], [])) == [
        "hop 1",
        "▸ a ─r→ b  ██████████  4.00",
        "  a ─s→ c                 ·",
        "full bar = 0.004",
        "numbers x 0.001",
    ]


def test_hops_without_facts() -> None:
    assert str(graph_picture([], ["Jaws"], [])) == "no fact was read"
    assert lines(graph_picture([HopEdges([], 0), HopEdges([], 1)], [], [])) == [
        "hop 1",
        "  no fact was read",
        "hop 2",
        "⋮ 1 more fact",
    ]


def test_it_is_described_in_words() -> None:
    assert films().describe() == [
        "hop 1 read 7 facts, mainly Jaws directed_by Steven Spielberg (0.97)",
        "hop 2 read 3 facts, mainly Duel directed_by Steven Spielberg (0.50)",
        "answers: Duel (60%), Lincoln (35%)",
    ]
    one = HopEdges([Edge("a", "r", "b", False, 1.0, 1.0)], 1)
    many = [(f"e{i}", 0.1) for i in range(9)]
    assert graph_picture([one, HopEdges([], 0)], [], many).describe() == [
        "hop 1 read 1 fact: a r b (1.00)",
        "hop 2 read no fact",
        "answers: e0 (10%), e1 (10%), e2 (10%), e3 (10%), e4 (10%) and 4 more",
    ]
    assert graph_picture([], [], []).describe() == ["no answer"]


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(20, 120), st.sampled_from(["utf-8", "ascii", "latin-1", "cp437"]))
def test_any_name_stays_on_its_lines_within_the_width(
    shown: GraphPicture, width: int, encoding: str
) -> None:
    text = shown.text(width=width, encoding=encoding)
    assert text.encode(encoding).decode(encoding) == text
    for line in text.split("\n"):
        assert line.isprintable()
        assert line == line.rstrip()
        assert cell_len(line) <= width
    facts = sum(len(hop.edges) for hop in shown.hops)
    pointed = sum(shown.is_on_path(i, one) for i, hop in enumerate(shown.hops) for one in hop.edges)
    assert len(text.split("\n")) >= facts
    if encoding == "utf-8" and "▸" not in "".join(
        name for hop in shown.hops for one in hop.edges for name in one[:3]
    ):
        assert text.count("▸") == pointed


def test_bars_are_aligned_for_characters_of_any_width() -> None:
    edges = [
        Edge(name, "導演", "e\u0301te\u0301", inverse, 1.0, 1.0)
        for name, inverse in [
            ("漢字の長いラベルがここにあるので切る必要がある。とても長い", True),
            ("plain", False),
        ]
    ]
    for width in (80, 60, 40, 20):
        rows = lines(graph_picture([HopEdges(edges, 2)], [], [], width=width))[1:]
        bars = [row for row in rows if "█" in row]
        assert len({cell_len(row.split("█")[0]) for row in bars}) == 1
        assert len(bars) == 2


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202egnol", r"\u202egnol"),
        ("lone \ud800", r"lone \ud800"),
        ("[bold red]x[/] [link=http://a]b[/link] :smile:", None),
    ],
)
def test_text_is_escaped_and_markup_is_not_interpreted(name: str, shown: str | None) -> None:
    shown = shown or name
    assert shown in str(one_fact(name))
    for options in ({}, {"force_terminal": True, "color_system": "truecolor"}):
        file = io.StringIO()
        Console(file=file, width=80, **options).print(one_fact(name))  # type: ignore[arg-type]
        assert shown in file.getvalue()


def test_rich_shows_colour_in_a_terminal_and_plain_characters_when_piped() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    Console(file=plain, width=80).print(films())
    assert plain.getvalue() == f"{films()}\n"
    Console(file=coloured, width=80, force_terminal=True, color_system="standard").print(films())
    assert "\x1b[1mJaws ─directed_by→ Steven Spielberg" in coloured.getvalue()
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured.getvalue()) == plain.getvalue()
    narrow = io.StringIO()
    Console(file=narrow, width=32).print(films())
    assert narrow.getvalue() == films().text(width=32) + "\n"


@pytest.mark.parametrize(
    ("hop", "options", "message"),
    [
        (HopEdges([], 0), {"width": 19}, "expected width of at least 20, got 19"),
        (HopEdges(HOPS[0].edges, 1), {}, "hop 1: expected num_facts of at least 2, the number of "),
        (HopEdges([], 0, math.nan), {}, "hop 1: expected finite weights and shares of at least 0"),
        (HopEdges([Edge("a", "r", "b", False, -1.0, 0.0)], 1), {}, "of at least 0, got -1.0"),
        (HopEdges([Edge("a", "r", "b", False, 0.0, math.inf)], 1), {}, "of at least 0, got inf"),
    ],
)
def test_invalid_input_is_a_one_line_error(
    hop: HopEdges, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        graph_picture([hop], [], [], **options)
    assert len(str(caught.value).splitlines()) == 1


def test_its_repr_is_short() -> None:
    assert repr(films()) == "<GraphPicture of 2 hops over 10 facts: print it>"
