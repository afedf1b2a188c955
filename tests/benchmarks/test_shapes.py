"""Random shapes: their sizes, their forms, their rows, the resumed run and the tables."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import tables
from benchmarks.hop import raw
from benchmarks.hop.cases import Case
from benchmarks.hop.forms import Candidate
from benchmarks.shapes import child
from benchmarks.shapes.cases import COLUMNS, NUM_SHAPES, drawn, row
from benchmarks.shapes.child import Shape
from benchmarks.shapes.tables import key_of, results, sheets
from memhop.reproduce.record import as_text, provenance, read_rows, write_rows

from .conftest import Runner

TORCHS = {"raw", "compiled raw bmm", "compiled raw sum", "SDPA, raw form"}
OURS = {"MultiHop", "auto", "eager", "project", "fused"}
OWN = Case(2, 10, 5, 4, hops=3)
SHARED = Case(9, 10, 5, 4, hops=3, held="shared", gradients=True)


@pytest.fixture(autouse=True)
def _no_graphs_of_other_tests() -> None:
    torch.compiler.reset()


def test_the_shapes() -> None:
    cases = drawn(NUM_SHAPES)
    assert drawn(10) == cases[:10]
    own = [case for case in cases if case.held == "own"]
    shared = [case for case in cases if case.held == "shared"]
    assert (len(own), len(shared)) == (40, 20)
    assert all(1 <= case.batch <= 512 for case in own)
    assert all(8 <= case.batch <= 2048 for case in shared)
    for case in cases:
        assert 8 <= case.slots <= 200_000
        assert {case.input_dim, case.memory_dim} <= set(range(16, 769))
        assert case.bytes_held <= 256 * 2**20
    assert all(case.batch * case.slots * case.input_dim <= 2**31 for case in shared)
    assert all(case.input_dim % 16 == case.memory_dim % 16 == 0 for case in cases[1::2])
    # log-uniform: as many below the geometric mean of the limits as above, but for the limit
    assert 10 <= sum(case.input_dim < (16 * 768) ** 0.5 for case in own) <= 30
    assert max(case.bytes_held for case in cases) > 64 * 2**20


@pytest.mark.slow  # the forms of torch are compiled
def test_a_tiny_run_measures_the_shapes_that_its_file_lacks(run: Runner) -> None:
    first = drawn(1, largest=32)[0]
    kept = [row(1, first, form, True, seconds=1.0, cpu_seconds=1.0) for form in ("raw", "MultiHop")]
    kept = [one | provenance() | {"threads": 1} for one in kept]
    write_rows(Path("shapes.csv"), kept)
    done = run("shapes", "--tiny", "--shapes", "2", "--threads", "1", "--to", "shapes.csv")
    assert done.status == 0, done
    assert "shape 2, 1 threads: " in done.err
    assert "shape 1, 1 threads: " not in done.err
    rows = read_rows(Path("shapes.csv"))
    assert [list(one) for one in rows] == [[*COLUMNS, *provenance()]] * len(rows)
    assert rows[:2] == as_text(kept)
    measured = rows[2:]
    for gradients in ("False", "True"):
        forms = [one["form"] for one in measured if one["gradients"] == gradients]
        assert sorted(forms) == sorted(TORCHS | OURS)
    for one in measured:
        assert (one["shape"], one["threads"], one["note"]) == ("2", "1", "")
        assert 0 < float(one["seconds"]) < float("inf")
        assert float(one["cpu_seconds"]) > 0
        assert float(one["error"]) < 1e-5
        assert (one["gradient_error"] != "") is (one["gradients"] == "True")
    assert "Of 2 measurements" in done.out


def test_mistakes_are_one_line(run: Runner) -> None:
    for threads, needed in {
        "two": "--threads: expected numbers such as 1,2, got 'two'",
        "0": "--threads: expected numbers from 1 on, got 0",
        "100000": "--threads: expected 1 to ",
    }.items():
        refused = run("shapes", "--tiny", "--threads", threads)
        assert (refused.status, refused.err.count("\n")) == (2, 1)
        assert needed in refused.err
    Path("other.csv").write_text("part,seconds\nbars,1\n")
    refused = run("shapes", "--tiny", "--to", "other.csv")
    assert "other.csv: has rows of another benchmark; move it away" in refused.err
    write_rows(Path("full.csv"), [timed(1, OWN, "MultiHop", 1.0)])
    refused = run("shapes", "--tiny", "--to", "full.csv")
    assert "full.csv: has rows of another benchmark" in refused.err


def test_wrong_and_missing_forms_are_rows_without_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(inputs: Any) -> Candidate:
        return Candidate("SDPA, raw form", inputs, lambda: inputs.query + 1)

    def missing(backend: str, products: str) -> Any:
        def build(inputs: Any) -> Candidate:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

        return build

    monkeypatch.setattr(child, "attention_of_torch", wrong)
    monkeypatch.setattr(raw, "compiled_raw", missing)
    rows = {one["form"]: one for one in child.measure(Shape(1, Case(2, 5, 4, 4), 0.0, True))}
    assert rows.keys() == TORCHS | OURS
    assert rows["compiled raw bmm"]["note"] == rows["compiled raw sum"]["note"] == "no compiler"
    assert rows["SDPA, raw form"]["note"].startswith("not timed: error ")
    assert all((one["seconds"] is None) is bool(one["note"]) for one in rows.values())


def test_forms_that_take_too_much_are_left_out() -> None:
    _, module = child.inputs_of(Case(1, 2, 4, 4))
    large = Case(1, 200_000, 16, 768, 3)  # 2 x 3 projections of 200,000 x 768 numbers
    assert "project" not in child.builds_of(Shape(1, large, 0.0, False), module)
    many = Case(2048, 10_000, 100, 4, 1, "shared")
    assert "compiled raw sum" not in child.builds_of(Shape(1, many, 0.0, False), module)
    assert child.project_is_feasible(many)


def test_a_form_far_from_the_fastest_has_the_first_rounds_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from benchmarks.hop.clock import Times

    calls: list[tuple[int, dict[str, Any]]] = []

    def times(timed: list[Any], **more: Any) -> list[Times]:
        calls.append((len(timed), more))
        seconds = [1.0, 2.9, 3.1, 9.0] if len(calls) == 1 else [1.5, 2.5, 8.0]
        return [Times(one, more["rounds"], one) for one in seconds]

    monkeypatch.setattr(child, "time_interleaved", times)
    inputs, _ = child.inputs_of(Case(2, 5, 4, 4))
    forms = ("raw", "compiled raw bmm", "project", "MultiHop")
    candidates = [Candidate(form, inputs, lambda: inputs.query) for form in forms]
    found = child.times_of(candidates, Shape(1, Case(2, 5, 4, 4), 7.0, False))
    assert [one.seconds for one in found] == [1.5, 2.5, 3.1, 8.0]
    assert [one.rounds for one in found] == [5, 5, 3, 5]
    assert calls[1] == (3, {"gradients": False, "settle": True, "rounds": 5, "seconds": 7.0})


def timed(shape: int, case: Case, form: str, seconds: float, threads: int = 1) -> dict[str, Any]:
    made = row(shape, case, form, False, seconds=seconds, cpu_seconds=2 * seconds, rounds=5)
    return made | provenance() | {"threads": threads}


def rows_by_hand() -> list[dict[str, Any]]:
    """Ratios 1.5 (0.75 with two threads) and 0.5; auto over the fastest of ours 2 and 1."""
    own = {
        "raw": 2.0, "compiled raw bmm": 4.0, "compiled raw sum": 5.0, "SDPA, raw form": 8.0,
        "MultiHop": 6.0, "auto": 6.0, "eager": 3.0, "project": 7.0,
    }  # fmt: skip
    shared = {"compiled raw bmm": 4.0, "SDPA, raw form": 2.0, "MultiHop": 1.0, "auto": 1.0,
              "fused": 1.0}  # fmt: skip
    rows = [timed(1, OWN, form, seconds) for form, seconds in own.items()]
    rows += [timed(1, OWN, "SDPA, raw form", 8.0, 2), timed(1, OWN, "MultiHop", 6.0, 2)]
    rows += [timed(2, SHARED, form, seconds) for form, seconds in shared.items()]
    missing = row(2, SHARED, "compiled raw sum", False, note="not timed: error 1e-3 against")
    return [*rows, missing | provenance() | {"threads": 1}]


def test_the_results_of_the_shapes() -> None:
    rows = as_text(rows_by_hand())
    assert key_of(rows[0]) == (1, 1, OWN)
    own, two, shared = results(rows)
    assert (own.fastest, own.seconds, own.ours) == ("compiled raw bmm", 4.0, 6.0)
    assert (own.ratio, own.over_raw, own.choice, own.cpu) == (1.5, 3.0, 2.0, 2.0)
    assert (two.key.threads, two.ratio, two.over_raw, two.choice) == (2, 0.75, 0.75, None)
    assert (shared.key.case, shared.fastest, shared.ratio) == (SHARED, "SDPA, raw form", 0.5)
    assert shared.choice == 1.0


def test_the_tables_of_the_shapes() -> None:
    short, slower = sheets(as_text(rows_by_hand()))
    assert [line[:4] for line in short.lines] == [
        ["of each query", "forward", "1", "1"], ["of each query", "forward", "2", "1"],
        ["shared", "both", "1", "1"],
    ]  # fmt: skip
    assert short.lines[0][4:] == ["1.50", "1.50", "1", "3.00", "2.00", "2.00"]
    assert short.lines[1][4:] == ["0.75", "0.75", "0", "0.75", "-", "-"]
    assert "Of 3 measurements, 2 are at most 1.05; the median is 0.75, the largest" in short.note
    assert "auto is within 10% of our fastest form in 1 of 2." in short.note
    assert short.note.endswith(" compiled raw sum: not timed (1x).")
    assert slower.lines == [[
        "[2, 10, 5], 4", "3", "forward", "1", "compiled raw bmm", "4,000", "6,000", "1.50x", "2.00"
    ]]  # fmt: skip
    none = as_text([one for one in rows_by_hand() if one["form"] != "MultiHop"])
    assert "No shape has a time" in sheets(none)[0].note
    fast = as_text([one for one in rows_by_hand() if one["shape"] == 2])
    assert sheets(fast)[1].columns == ()


def test_the_table_of_the_document(tmp_path: Path) -> None:
    page = "<!-- table: shapes -->\nNot measured yet.\n<!-- end of table -->\n"
    assert tables.fill(page, tmp_path) == page
    write_rows(tmp_path / "shapes.csv", rows_by_hand())
    filled = tables.fill(page, tmp_path)
    assert "| [2, 10, 5], 4 | 3 | forward | 1 | compiled raw bmm |" in filled
    assert "Measured on " in filled
    document = Path(__file__).parents[2] / "docs" / "performance.md"
    assert "<!-- table: shapes -->" in document.read_text(encoding="utf-8")
