"""The picture in a terminal: its content, its width, and escaping."""

import io
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from memhop.picture import MIN_WIDTH, picture

STORY = [
    "Mary travelled to the bathroom.",
    "Mary took the football there.",
    "John went back to the garden.",
]
WEIGHTS = [[0.004, 0.9, 0.096], [0.75, 0.0, 0.25]]


def console(**options: Any) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=80, **options), file


def lines(shown: object) -> list[str]:
    return str(shown).splitlines()


def test_the_whole_picture() -> None:
    assert lines(picture(WEIGHTS, STORY)) == [
        "                                    hop 1            hop 2",
        "1  Mary travelled to the bathroom.                · ▸███████▌   0.75",
        "2  Mary took the football there.   ▸█████████  0.90                ·",
        "3  John went back to the garden.    █          0.10  ██▌        0.25",
    ]


def test_the_whole_picture_in_ascii() -> None:
    assert picture(WEIGHTS, STORY).text(width=50, encoding="ascii").splitlines() == [
        "                          hop 1        hop 2",
        "1  Mary travelled to ...            0 >####:  0.75",
        "2  Mary took the foot... >#####. 0.90            0",
        "3  John went back to ...  :      0.10  #.     0.25",
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_tensors_arrays_and_lists_give_the_same_picture(dtype: torch.dtype) -> None:
    weights = torch.tensor([[0.25, 0.75], [1.0, 0.0]], dtype=dtype, requires_grad=True)
    expected = str(picture([[0.25, 0.75], [1, 0]]))
    assert str(picture(weights)) == expected
    assert str(picture(weights.detach().double().numpy())) == expected


def test_without_labels_a_slot_shows_its_index() -> None:
    assert [line[:3] for line in lines(picture([[0.5, 0.25, 0.25]]))[1:]] == ["[0]", "[1]", "[2]"]


def test_each_hop_marks_its_strongest_slots() -> None:
    drawn = picture([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4], [0.0, 0.0, 0.0]])
    assert drawn.strongest.tolist() == [
        [False, True, False],
        [True, False, True],
        [False, False, False],
    ]
    assert [line.count("▸") for line in lines(drawn)] == [0, 1, 1, 1]


def test_negative_weights_have_another_shade_and_the_absolute_value_counts() -> None:
    _, first, second, third, legend = lines(picture([[2.0, -4.0, 0.0]]))
    assert "█████ " in first
    assert "▸▒▒▒▒▒▒▒▒▒▒ -4.00" in second
    assert third.split() == ["[2]", "·"]
    assert legend == "full bar = 4"
    assert ">---------- -4.00" in picture([[2.0, -4.0]]).text(encoding="ascii")


@pytest.mark.parametrize(
    ("peak", "full", "unit", "legend"),
    [
        (0.0, 1.0, 1.0, []),
        (0.25, 1.0, 1.0, []),
        (1.003, 1.0, 1.0, []),  # half precision
        (0.2, 0.2, 1.0, ["full bar = 0.2"]),
        (7.5, 7.5, 1.0, ["full bar = 7.5"]),
        (0.005, 0.005, 0.001, ["full bar = 0.005", "numbers x 0.001"]),
        (25_000.0, 25_000.0, 10_000.0, ["full bar = 2.5e+04", "numbers x 10000"]),
    ],
)
def test_the_scale_of_bars_and_numbers_is_printed(
    peak: float, full: float, unit: float, legend: list[str]
) -> None:
    drawn = picture([[peak, 0.0]])
    assert (drawn.full, drawn.unit) == pytest.approx((full, unit), rel=1e-12)
    assert lines(drawn)[3:] == legend
    if peak > 0:
        assert "▸██████████" in lines(drawn)[1] or peak == 0.25


def test_a_long_memory_shows_the_strongest_slots_and_gaps() -> None:
    weights = np.zeros((2, 200))
    weights[0, [3, 100]] = 0.9, 0.1
    weights[1, [102, 50]] = 0.9954, 0.0046
    drawn = picture(weights, [f"sentence {i + 1}" for i in range(200)])
    assert [line.rstrip() for line in lines(drawn)] == [
        "                   hop 1            hop 2",
        "  ⋮  3 more, none above 0.00",
        "  4  sentence 4   ▸█████████  0.90                ·",
        "  ⋮  96 more, none above 0.01",
        "101  sentence 101  █          0.10                ·",
        "102  sentence 102                ·                ·",
        "103  sentence 103                · ▸██████████ 1.00",
        "  ⋮  97 more, none above 0.00",
    ]


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 300), st.integers(1, 20))
def test_gaps_are_counted_bounded_and_never_the_strongest(
    seed: int, hops: int, slots: int, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(slots, 0.1), size=hops) * rng.choice([-1, 1, 3, 0.01])
    drawn = picture(weights, rows=rows)
    shown, covered = drawn.visible_slots(), []
    for entry in shown:
        covered += [entry] if isinstance(entry, int) else list(entry)
        if isinstance(entry, range):
            match = re.match(r"([\d,]+) more, none above ([\d.]+)", drawn.describe_gap(entry))
            assert match
            assert int(match[1].replace(",", "")) == len(entry) > 1
            largest = abs(weights[:, entry.start : entry.stop]).max() / drawn.unit
            assert largest - 1e-7 <= float(match[2]) < largest + 0.011
    assert covered == list(range(slots))
    assert {int(i) for i in abs(weights).argmax(axis=1)} <= {i for i in shown if type(i) is int}
    assert len(shown) <= max(rows, hops) * 3 + 2
    if slots <= rows:
        assert shown == list(range(slots))


@settings(max_examples=150)
@given(
    st.lists(st.text(st.characters(), max_size=90), min_size=1, max_size=24),
    st.integers(1, 9),
    st.integers(MIN_WIDTH, 120),
    st.sampled_from(["utf-8", "ascii", "latin-1", "cp437"]),
    st.sampled_from([1.0, -1.0, 1e-9, 4e5]),
)
def test_any_label_stays_on_its_line_within_the_width(
    labels: list[str], hops: int, width: int, encoding: str, scale: float
) -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(len(labels)), size=hops) * scale
    text = picture(weights, labels, width=width, rows=8).text(encoding=encoding)
    assert text.encode(encoding).decode(encoding) == text
    for line in text.split("\n"):
        assert line == "" or line.isprintable()
        assert line == line.rstrip()
        assert cell_len(line) <= width


def test_columns_are_aligned_for_characters_of_any_width() -> None:
    labels = [
        "漢字の長いラベルがここにあるので切る必要がある。とても長い",
        "e\u0301te\u0301",
        "plain",
    ]
    rows = lines(picture([[1.0, 1.0, 1.0]], labels, width=40))[1:]
    assert len({cell_len(row.split("▸")[0]) for row in rows}) == 1
    assert "…" in rows[0]
    assert "plain" in rows[2]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b2J \x07", r"\x9b2J \x07"),
        ("\u202egnol", r"\u202egnol"),
        ("lone \ud800", r"lone \ud800"),
        ("\u2028", r"\u2028"),
        ("no\u00a0break", "no break"),
        ("[bold red]x[/] [link=http://a]b[/link] :smile:", None),
    ],
)
def test_text_is_escaped(label: str, shown: str | None) -> None:
    shown = shown or label
    drawn = picture([[0.5], [0.5]], [label])
    assert shown in str(drawn)
    for options in ({}, {"force_terminal": True, "color_system": "truecolor"}):
        screen, file = console(**options)
        screen.print(drawn)
        assert shown in file.getvalue()


def test_rich_shows_colour_in_a_terminal_and_plain_characters_when_piped() -> None:
    drawn = picture(WEIGHTS, STORY)
    piped, file = console()
    piped.print(drawn)
    assert file.getvalue() == f"{drawn}\n"
    terminal, coloured = console(force_terminal=True, color_system="standard")
    terminal.print(drawn)
    assert "\x1b[1;32m ▸█████████  0.90" in coloured.getvalue()
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured.getvalue()) == file.getvalue()


def test_rich_respects_the_width_and_encoding_of_the_console() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    screen = Console(file=file, width=40)
    screen.print(picture(WEIGHTS, STORY))
    file.seek(0)
    assert file.read() == picture(WEIGHTS, STORY, width=40).text(encoding="ascii") + "\n"


def test_many_hops_are_split_into_panels_of_the_same_rows() -> None:
    text = str(picture(np.full((20, 3), 1 / 3), STORY))
    panels = [panel.splitlines() for panel in text.split("\n\n")]
    assert re.findall(r"hop (\d+)", text) == [str(i) for i in range(1, 21)]
    assert len(panels) == 3
    assert all([line[:10] for line in panel] == [row[:10] for row in panels[0]] for panel in panels)


def test_an_empty_memory_has_a_picture_too() -> None:
    assert str(picture(np.zeros((3, 0)), [])) == "an empty memory: nothing to read"


def test_a_label_of_combining_characters_is_truncated() -> None:
    assert max(map(len, lines(picture([[1.0]], ["\u0301" * 100_000])))) < 1000


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ([0.5, 0.5], {}, "weights: expected shape [hops, slots] with at least 1 hop, got [2]"),
        ([[[0.5]]], {}, "weights: expected shape [hops, slots] with at least 1 hop, got [1, 1, 1]"),
        (
            np.zeros((0, 3)),
            {},
            "weights: expected shape [hops, slots] with at least 1 hop, got [0, 3]",
        ),
        ([[0.5], [0.5, 0.5]], {}, "weights: expected rows of one length, got several"),
        ([["a"]], {}, "weights: expected real numbers, got <U1"),
        ([[1j]], {}, "weights: expected real numbers, got complex128"),
        (None, {}, "weights: expected real numbers, got object"),
        ([[1.0, float("nan")]], {}, "weights: expected finite numbers, got nan at [0, 1]"),
        ([[1.0], [float("-inf")]], {}, "weights: expected finite numbers, got -inf at [1, 0]"),
        ([[1.0]], {"labels": "a"}, "labels: expected a list of 1 texts, got one string"),
        ([[1.0]], {"labels": ["a", "b"]}, "labels: expected 1, one per slot, got 2"),
        ([[1.0]], {"width": 19}, "width of at least 20 and rows of at least 1, got width=19"),
        ([[1.0]], {"rows": 0}, "width of at least 20 and rows of at least 1, got width=80 and row"),
    ],
)
def test_invalid_input_is_a_one_line_error(
    weights: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        picture(weights, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_importing_memhop_picture_loads_neither_torch_nor_rich() -> None:
    # the package may import torch, but memhop.picture alone must not
    code = (
        "import sys, types; package = types.ModuleType('memhop');"
        "package.__path__ = [sys.argv[1]]; sys.modules['memhop'] = package;"
        "import memhop.picture; print(sorted({'torch', 'rich'} & set(sys.modules)))"
    )
    import memhop

    run = [sys.executable, "-c", code, memhop.__path__[0]]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "[]\n"
