"""The hop benchmark: its plan, its processes, its output and its files."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import hop
from benchmarks.hop import (
    PARTS,
    Process,
    choice,
    forms,
    memory,
    part_of,
    parts_of,
    plan,
    speed,
    store,
)
from benchmarks.hop.cases import COLUMNS, Case, Inputs, Setting, row
from benchmarks.hop.child import MEASURES
from benchmarks.hop.choice import ENDS, random_cases
from benchmarks.hop.forms import Candidate
from benchmarks.hop.speed import last_cache_bytes
from memhop import ops
from memhop.errors import MemhopError
from memhop.reproduce.record import provenance, read_rows

from ..conftest import Runner

TINY = Setting(tiny=True)
POPEN = subprocess.Popen


def test_a_tiny_part_in_its_process(run: Runner) -> None:
    done = run("hop", "--tiny", "--only", "small", "--threads", "1", "--to", "kept")
    assert done.status == 0
    rows = read_rows(Path("kept/hop_speed.csv"))
    assert [list(one) for one in rows] == [[*COLUMNS, *provenance()]] * 8
    assert {one["form"] for one in rows} == {"textbook", "MultiHop"}
    assert all(float(one["seconds"]) > 0 and one["threads"] == "1" for one in rows)
    assert "memory_dim 128, with gradients" in done.out
    assert "\nsmall: " in done.err
    assert "small: [1, 10, 16]" in done.err
    assert max(map(len, done.out.splitlines())) <= 80


def test_the_plan_of_the_processes() -> None:
    assert plan(["bars"], tiny=False) == [Process(("bars",), n) for n in (1, 2, 3)]
    memory = plan(["memory"], tiny=False)
    assert len(memory) == len(speed.BARS)
    assert all(process.sees_memory for process in memory)
    every = parts_of("cpu", None)
    for tiny in (False, True):
        planned = plan(every, tiny)
        assert {measure for process in planned for measure in process.measures} == {*MEASURES} - {
            "cuda"
        }
        for process in planned:
            assert process.sees_memory is ("memory" in "".join(process.measures))
    assert len(plan(every, tiny=True)) == 2
    assert plan(["choice"], tiny=True) == [Process(("choice",))]


def test_parts_of_a_list(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts_of("cpu", "scaling, bars") == ["bars", "scaling"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert parts_of("cuda", None) == ["cuda"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused = run("hop", "--tiny", "--device", "cuda")
    assert (refused.status, refused.err) == (2, "benchmarks: --device cuda: torch finds no GPU\n")
    assert {part_of(measure) for measure in MEASURES} == PARTS.keys()
    refused = run("hop", "--only", "bars,speed")
    assert refused.status == 2
    assert "--only: expected parts of bars, bound, small," in refused.err


def test_rows_of_a_part_replace_its_old_ones(tmp_path: Path) -> None:
    def rows(part: str, *seconds: float) -> list[dict[str, Any]]:
        return [row(part, Case(1, 2), "auto", Setting(), seconds=one) for one in seconds]

    store(tmp_path, "small", rows("small", 1.0))
    store(tmp_path, "bars", rows("bars", 2.0, 3.0))
    store(tmp_path, "small", rows("small", 4.0, 5.0))
    kept = [(one["part"], one["seconds"]) for one in read_rows(tmp_path / "hop_speed.csv")]
    assert kept == [("bars", "2.0"), ("bars", "3.0"), ("small", "4.0"), ("small", "5.0")]
    store(tmp_path, "scaling", rows("scaling-time", 1.0) + rows("scaling-memory", 1.0))
    store(tmp_path, "scaling", rows("scaling-time", 2.0))
    [only] = read_rows(tmp_path / "hop_scaling.csv")
    assert only["seconds"] == "2.0"
    (tmp_path / "hop_choice.csv").write_text("part,seconds\nchoice,1\n")
    with pytest.raises(MemhopError, match=r"hop_choice\.csv: has other columns"):
        store(tmp_path, "choice", rows("choice", 1.0))


def printing(*lines: str, status: int = 0) -> str:
    """Return a Python program in place of the child."""
    return f"import sys\nfor line in {lines!r}: print(line)\nsys.exit({status})"


def measured_by(monkeypatch: pytest.MonkeyPatch, program: str) -> list[hop.Measured]:
    def stub(command: list[str], **options: Any) -> Any:
        assert command[:3] == [sys.executable, "-m", "benchmarks.hop.child"]
        assert json.loads(command[3])["threads"] == 3
        assert options["env"]["OMP_NUM_THREADS"] == "3"
        return POPEN([sys.executable, "-c", program], **options)

    monkeypatch.setattr(subprocess, "Popen", stub)
    return list(hop.run(["scaling"], device="cpu", threads=3, tiny=True))


def test_the_lines_of_a_process_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    program = printing(
        '{"begin": "a"}', '{"row": {"part": "x"}}', '{"measure": "scaling-time"}',
        '{"measure": "scaling-memory"}',
    )  # fmt: skip
    found = measured_by(monkeypatch, program)  # both processes print the same
    assert [(one.part, len(one.rows), one.is_last) for one in found] == [
        ("scaling", 1, False), ("scaling", 0, False), ("scaling", 1, True), ("scaling", 0, True),
    ]  # fmt: skip


def test_a_process_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MemhopError, match="benchmark hop: auto is not timed: error"):
        measured_by(monkeypatch, printing('{"error": "auto is not timed: error"}'))
    with pytest.raises(MemhopError, match="exited with status 9"):
        measured_by(monkeypatch, printing(status=9))


@pytest.mark.slow
def test_the_rows_of_every_measure() -> None:
    for name in ("bars", "bound", "memory"):
        rows = list(MEASURES[name](TINY))
        assert {one["part"] for one in rows} == {name}
        assert all(tuple(one) == COLUMNS for one in rows)
        assert all(one["seconds"] or name == "memory" for one in rows)
    dtypes = {one["dtype"] for one in speed.bound(TINY)}
    assert dtypes == {"float32", "bfloat16", "int8"}


def test_scaling_has_time_and_memory_of_both_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "release_free_memory", lambda: None)  # slow after many imports
    cases = speed.scaling_cases(tiny=True)
    assert len(cases) == len(set(cases)) == 4
    for measure in (speed.scaling_time, memory.scaling_memory):
        rows = list(measure(TINY))
        assert [one["form"] for one in rows] == ["textbook", "auto"] * 4


def no_compiler(backend: str) -> Any:
    def build(inputs: Inputs) -> Candidate:
        raise RuntimeError("no compiler\nand a long tail")

    return build


def test_a_form_that_fails_is_a_row_without_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(inputs: Inputs) -> Candidate:
        return Candidate("SDPA, raw form", inputs, lambda: inputs.query + 1)

    monkeypatch.setattr(forms, "compiled", no_compiler)
    monkeypatch.setattr(forms, "attention_of_torch", wrong)
    rows = {one["form"]: one for one in speed.all_forms(Case(2, 3, 4, 4), TINY)}
    assert rows["compiled"]["note"] == "not available: RuntimeError: no compiler"
    assert rows["SDPA, raw form"]["note"].startswith("not timed: error ")
    assert rows["compiled"]["seconds"] is rows["SDPA, raw form"]["seconds"] is None
    assert all(rows[form]["seconds"] for form in ("textbook", "MultiheadAttention", "auto"))


def test_the_random_shapes() -> None:
    cases = random_cases(choice.NUM_RANDOM, largest=200_000)
    assert cases == random_cases(choice.NUM_RANDOM, largest=200_000)
    assert len(set(cases)) == len(cases) >= 60
    for held in ("own", "shared", "bank"):
        for gradients in (False, True):
            assert sum((c.held, c.gradients) == (held, gradients) for c in cases) >= 10
    assert max(case.batch for case in ENDS) == 4096
    assert max(case.slots for case in ENDS) == 200_000
    assert {16, 768} <= {case.input_dim for case in cases} & {case.memory_dim for case in cases}


def test_a_slow_choice_is_measured_three_times_more(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = iter([1.6, 1.4, 2.0, 9.9, 9.9, 9.9])

    def of_paths(case: Case, setting: Setting) -> Iterator[dict[str, Any]]:
        for form, seconds in (("eager", 1.0), ("project", 3.0), ("auto", next(slow))):
            yield row("choice", case, form, setting, seconds=seconds)

    monkeypatch.setattr(choice, "of_paths", of_paths)
    monkeypatch.setattr(choice, "random_cases", lambda count, largest: [Case(1, 1), Case(1, 2)][:1])
    rows = list(choice.choice(TINY))
    assert [one["process"] for one in rows] == [n for n in (1, 2, 3, 4) for _ in range(3)]
    slow = iter([1.4])
    assert [one["process"] for one in choice.choice(TINY)] == [1, 1, 1]


@pytest.mark.slow
def test_every_path_is_timed_on_a_shape() -> None:
    rows = list(choice.of_paths(Case(3, 4, 16, 16, gradients=True), TINY))
    impls = [impl for impl in ops.IMPLEMENTATIONS if impl != "auto"]
    assert sorted(one["form"] for one in rows) == sorted([*impls, "auto"])
    assert all(one["seconds"] > 0 and one["rounds"] >= 1 for one in rows)


def test_the_rows_of_the_gpu_part_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "compiled", no_compiler)
    rows = list(speed.cuda(TINY))
    assert {one["part"] for one in rows} == {"cuda", "cuda-hops"}
    assert {one["dtype"] for one in rows} == {"float32", "bfloat16"}
    assert [one["hops"] for one in rows if one["part"] == "cuda-hops"] == [1, 3]


def test_the_last_cache_is_read_from_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert 2**18 <= last_cache_bytes() < 2**34
    for level, size in (("index0", "48K"), ("index3", "3072K")):
        (tmp_path / level).mkdir()
        (tmp_path / level / "size").write_text(f"{size}\n")
    monkeypatch.setattr(speed, "CACHES", tmp_path)
    monkeypatch.setattr(os, "sysconf", {"SC_LEVEL3_CACHE_SIZE": 0}.__getitem__)
    assert last_cache_bytes() == 3072 * 1024
    monkeypatch.setattr(speed, "CACHES", tmp_path / "none")
    assert last_cache_bytes() == speed.UNKNOWN_CACHE_BYTES
