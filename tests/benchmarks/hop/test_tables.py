"""Medians over processes and times over bounds; the tables and plots of the rows."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables
from benchmarks.hop import PARTS, store
from benchmarks.hop import tables as hop_tables
from benchmarks.hop.cases import COLUMNS, Case, Setting, case_of, row
from benchmarks.hop.summary import bounds_of, chosen, compared, seconds, share
from benchmarks.registry import NOT_MEASURED
from memhop.errors import MemhopError
from memhop.reproduce.record import as_text, provenance, read_rows

from ..conftest import Runner

OWN = Case(2, 10, 5, 4, hops=3)  # 400 bytes
BANK = Case(2, 10, 5, 4, hops=3, held="bank", bank_rows=8, gradients=True)  # 160 and 400 bytes


def timed(part: str, case: Case, form: str, process: int, taken: float, **more: Any) -> Any:
    errors = {"error": 2e-7, "gradient_error": 3e-7 if case.gradients else None}
    more = errors | {"read_speed": 1000.0, "rounds": 8, "bar": 8} | more
    return row(part, case, form, Setting(process=process), seconds=taken, **more) | provenance()


@pytest.fixture
def bars() -> list[dict[str, Any]]:
    """Ratios 10, 20 and 60 of own memories; of the bank 4."""
    rows = []
    for process, (base, ours) in enumerate([(100, 10), (20, 1), (120, 2)], 1):
        rows += [
            timed("bars", OWN, "textbook", process, base),
            timed("bars", OWN, "auto", process, ours),
        ]
    rows += [timed("bars", BANK, "textbook", 1, 8), timed("bars", BANK, "auto", 1, 2)]
    return rows


def test_the_case_of_a_row() -> None:
    for case in (OWN, BANK, BANK._replace(dtype="int8", weights="bfloat16", gradients=False)):
        [read] = as_text([row("bars", case, "auto", Setting(), seconds=0.5)])
        assert case_of(read) == case
        assert list(read) == list(COLUMNS)
    with pytest.raises(ValueError, match=r"got \['second'\]"):
        row("bars", OWN, "auto", Setting(), second=1)


def test_the_ratio_is_the_median_over_processes_of_ratios(bars: list[dict[str, Any]]) -> None:
    own, bank = compared(as_text(bars), "bars", "auto")
    assert (own.case, own.faster, own.baseline, own.ours, own.bar) == (OWN, 20, 100, 2, 8)
    assert (bank.case, bank.faster) == (BANK, 4)
    # 400 bytes at 1000 a second: 0.4 s, or 1.2 s for three hops
    assert (own.once, own.a_hop) == pytest.approx((2 / 0.4, 2 / 1.2))
    # 160 bytes held, 400 read a hop, 160 of the gradient
    assert (bank.once, bank.a_hop) == pytest.approx((2 / 0.32, 2 / 1.36))
    assert compared(as_text(bars), "small", "auto") == []


def test_a_case_without_its_baseline_is_left_out(bars: list[dict[str, Any]]) -> None:
    without = [one for one in as_text(bars) if one["form"] == "auto" or one["held"] == "bank"]
    assert [one.case for one in compared(without, "bars", "auto")] == [BANK]


def test_the_bounds_of_what_is_read_twice_and_held_once() -> None:
    [few] = as_text([timed("bars", BANK._replace(bank_rows=1000), "auto", 1, 1.0)])
    assert bounds_of(few) == pytest.approx(((400 + 20_000) / 1000, (1200 + 20_000) / 1000))
    rows = as_text([timed("bound", OWN, "auto", process, taken)
                  for process, taken in ((1, 1.2), (2, 2.4), (3, 12.0))])  # fmt: skip
    assert share(rows) == pytest.approx(0.5)
    assert seconds(rows, "auto") == 2.4
    assert seconds(rows, "textbook") is None


def test_auto_is_compared_with_the_best_path_and_again_where_it_was_slow() -> None:
    other = OWN._replace(batch=3)
    rows = [timed("choice", OWN, form, 1, taken)
            for form, taken in (("eager", 2.0), ("project", 1.0), ("auto", 1.1))]  # fmt: skip
    for process, auto in ((1, 4.0), (2, 1.6), (3, 1.0), (4, 1.2)):
        rows += [timed("choice", other, "eager", process, 1.0),
                 timed("choice", other, "auto", process, auto)]  # fmt: skip
    once, again = chosen(as_text(rows))
    assert once == (OWN, "project", 1.0, 1.1, 1.1, 1.1, False)
    assert again == (other, "eager", 1.0, 1.2, 1.2, 4.0, True)
    [sheet] = hop_tables.choice(as_text(rows))
    assert "1.15 times the fastest in the median, 4.00 at most; 1 are within 15%" in sheet.note
    assert "1 took over 1.5 times the fastest" in sheet.note
    assert "the largest of their medians is 1.20" in sheet.note
    assert [line[0] for line in sheet.lines] == ["[3, 10, 5], 4", "[2, 10, 5], 4"]


def test_the_bars_as_a_table(bars: list[dict[str, Any]]) -> None:
    forward, both = hop_tables.bars(as_text(bars))
    assert forward.lines == [["[2, 10, 5]", "100,000", "2,000", "20.0x", "8x", "5.00", "1.67"]]
    assert both.lines[0][0] == "bank 8, slots [2, 10]"
    assert forward.note.startswith("Results have an error of at most 2.0e-07 against float64")
    assert both.note.startswith("Gradients have an error of at most 3.0e-07 against float64")


def test_smaller_dtypes_are_compared_with_float32_of_the_same_process() -> None:
    half = OWN._replace(dtype="bfloat16")
    rows = []
    for process, (single, smaller) in enumerate([(1.0, 0.5), (9.0, 3.0)], 1):
        rows.append(timed("bound", OWN, "auto", process, single, bar=0.7))
        rows.append(timed("bound", half, "auto", process, smaller, bar=1.4))
    [sheet] = hop_tables.bound(as_text(rows))
    assert sheet.lines[0][2:] == ["66.7%", "-", "70%"]
    assert sheet.lines[1][3:] == ["2.50x", "1.4x"]


def test_other_tables() -> None:
    rows = [
        timed("small", OWN, "textbook", 1, 2e-4, bar=1.1),
        timed("small", OWN, "MultiHop", 1, 1e-4, bar=1.1),
        timed("others", OWN, "textbook", 1, 2.0), timed("others", OWN, "auto", 1, 0.5),
        row("others", OWN, "compiled", Setting(), note="not available: no compiler"),
        row("memory", OWN, "auto", Setting(), extra_bytes=2**19, kept_bytes=0, bound_bytes=2**20),
        timed("scaling-time", OWN, "textbook", 1, 2.0), timed("scaling-time", OWN, "auto", 1, 0.5),
        row("scaling-memory", OWN, "auto", Setting(), extra_bytes=2**21),
        timed("cuda", OWN, "textbook", 1, 2.0), timed("cuda", OWN, "auto", 1, 2.4),
        timed("cuda-hops", OWN._replace(hops=1), "auto", 1, 1.0),
        timed("cuda-hops", OWN, "auto", 1, 1.25),
    ]  # fmt: skip
    read = as_text(rows)
    assert hop_tables.small(read)[0].lines == [["memory_dim 4", "200", "100", "0.50x", "1.1x"]]
    forward, both = hop_tables.others(read)
    assert forward.lines == [["[2, 10, 5]", "2,000", *"------", "500"]]
    assert both.lines == []
    assert hop_tables.notes_of(read) == "compiled: not available: no compiler."
    assert hop_tables.memory(read)[0].lines == [["[2, 10, 5]", "0.50", "1.00", "0.00"]]
    assert hop_tables.scaling(read)[0].lines == [
        ["[2, 10, 5], 3 hops", "2,000", "500", "-", "2.00"]
    ]
    [on_gpu] = hop_tables.cuda(read)
    assert on_gpu.lines[0][-2:] == ["2,400", "50.0%"]
    assert on_gpu.note == "Three hops take 1.25 times the time of one."


def test_all_forms_as_a_table() -> None:
    shared, both = OWN._replace(held="shared"), OWN._replace(gradients=True)
    rows = [
        timed("others", case, form, 1, taken)
        for case, base in ((OWN, "raw"), (shared, "two products"), (both, "raw"))
        for form, taken in {
            "textbook": 1, "compiled": 2, base: 3, "compiled raw bmm": 4, "compiled raw sum": 5,
            "SDPA, raw form": 6, "auto": 7,
        }.items()
    ]  # fmt: skip
    forward, backward = hop_tables.others(as_text(rows))
    times = ["1,000", "2,000", "-", "3,000", "4,000", "5,000", "6,000", "7,000"]
    assert forward.lines == [["[2, 10, 5]", *times], ["[10, 5] shared by 2", *times]]
    assert backward.lines == [["[2, 10, 5]", *times]]
    assert forward.columns[4:8] == ("raw", "compiled bmm", "compiled sum", "SDPA")
    assert backward.title == "All forms, forward and backward, in ms"


def page(name: str, body: str = NOT_MEASURED) -> str:
    return f"<!-- table: {name} -->\n{body}<!-- end of table -->\n"


def test_tables_of_documents(tmp_path: Path, bars: list[dict[str, Any]]) -> None:
    for name in ("hop_bars", "hop_small", "plot_bound"):
        assert tables.fill(page(name), tmp_path) == page(name)
        with pytest.raises(MemhopError, match="cannot be read"):  # the table stays
            tables.fill(page(name, "old\n"), tmp_path)
    store(tmp_path, "bars", bars)
    filled = tables.fill(page("hop_bars"), tmp_path)
    assert "\n| [2, 10, 5] | 100,000 | 2,000 | 20.0x | 8x | 5.00 | 1.67 |\n" in filled
    assert "Measured on " in filled
    assert tables.fill(filled, tmp_path) == filled
    assert tables.fill(page("hop_small"), tmp_path) == page("hop_small")
    assert "](hop_bound.svg)" in tables.fill(page("plot_bound"), tmp_path)


def test_every_part_has_its_table() -> None:
    assert {f"hop_{part}" for part in PARTS} <= tables.document_tables().keys()
    document = (Path(__file__).parents[3] / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in tables.document_tables():
        if name.startswith("hop_") and name != "hop_scaling":  # growth is shown as a plot
            assert f"<!-- table: {name} -->" in document


def growing() -> Iterator[dict[str, Any]]:
    for case in (OWN, OWN._replace(slots=20), OWN._replace(batch=4), OWN._replace(hops=1)):
        for form, times in (("textbook", 10), ("auto", 1)):
            taken = times * case.slots * case.batch
            yield timed("scaling-time", case, form, 1, taken)
            yield row("scaling-memory", case, form, Setting(), extra_bytes=taken * 2**20)


def test_plots(tmp_path: Path, bars: list[dict[str, Any]]) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    assert list(tables.draw(tmp_path, tmp_path)) == []
    store(tmp_path, "bars", bars)
    store(tmp_path, "scaling", list(growing()))
    paths = list(tables.draw(tmp_path, tmp_path / "plots"))
    assert [path.name for path in paths] == ["hop_bound.svg", "hop_scaling.svg"]
    first = [path.read_text(encoding="utf-8") for path in paths]
    for text, words in zip(
        first, (["[2, 10, 5]", "bank 8, slots"], ["slots of a query"]), strict=True
    ):
        for word in words:
            assert re.search(rf"<text[^>]*>{re.escape(word)}", text)  # text, not outlines
        assert "<dc:date>" not in text
    again = [path.read_text(encoding="utf-8") for path in tables.draw(tmp_path, tmp_path)]
    assert again == first  # the same rows make the same file


def test_the_points_of_the_plots(tmp_path: Path, bars: list[dict[str, Any]]) -> None:
    hop_plots = pytest.importorskip(
        "benchmarks.hop.plots", exc_type=ImportError, reason="needs the extra plot"
    )
    store(tmp_path, "scaling", list(growing()))
    panels = hop_plots.growth(read_rows(tmp_path / "hop_scaling.csv")).axes
    drawn = [[line.get_xydata().tolist() for line in panel.lines] for panel in panels]
    assert drawn[0] == [[[10, 200_000], [20, 400_000]], [[10, 20_000], [20, 40_000]]]
    assert drawn[1] == [[[2, 200_000], [4, 400_000]], [[2, 20_000], [4, 40_000]]]
    assert drawn[3] == [[[10, 200], [20, 400]], [[10, 20], [20, 40]]]
    over = hop_plots.over_bound(as_text(bars)).axes[0]
    dots = [dot.get_offsets().tolist()[0][0] for dot in over.collections if dot.get_offsets().size]
    assert dots == pytest.approx([100 / 1.2, 2 / 1.2, 8 / 1.36, 2 / 1.36])


def test_without_matplotlib_the_error_names_the_extra(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bars: list[dict[str, Any]]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for module in ("benchmarks.hop.plots", "memhop.reproduce.plot"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delattr("memhop.reproduce.plot", raising=False)
    store(tmp_path, "bars", bars)
    refused = run("plots", "docs", "--results", ".")
    assert refused.status == 2
    assert "pip install 'memhop[plot]'" in refused.err
