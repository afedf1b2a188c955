"""The registry finds every benchmark, and the runner writes its rows and prints its tables."""

import doctest
import pkgutil
import runpy
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

import benchmarks
from benchmarks import importing, tables
from benchmarks.__main__ import app
from benchmarks.registry import find_benchmarks, tables_of
from memhop.reproduce.record import provenance, read_rows

from .conftest import Runner

IMPORTING = ["rounds", "import_torch_seconds", "import_memhop_seconds", "beyond_torch_seconds"]
PAGE = "<!-- table: import -->\n<!-- end of table -->\n"
NAMES = {
    "answer", "answers", "attention", "control", "crash", "distributed", "explained", "facts",
    "files", "hop", "import", "knowledge", "language_model", "length", "next_word", "pretrained",
    "questions", "retrieval", "serve", "shapes", "step", "store", "stories", "symmetry", "transfer",
    "window",
}  # fmt: skip


def test_the_registry_finds_every_benchmark() -> None:
    found = find_benchmarks()
    assert found.keys() == NAMES
    assert {*typer.main.get_command(app).commands} == NAMES | {"tables", "plots"}  # type: ignore[attr-defined]
    for name, benchmark in found.items():
        assert tables_of(name, benchmark).keys() <= tables.document_tables().keys()
        assert benchmark.measure.__doc__.count("\n") == 0


def test_ci_leaves_out_what_tests_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    root, here = Path(__file__).parents[2], Path(__file__).parent
    ci = runpy.run_path(str(root / ".ci" / "benchmarks.py"))
    tests = "".join(file.read_text(encoding="utf-8") for file in here.rglob("test_*.py"))
    assert "from benchmarks.store_crash import measure" in tests  # of "crash"
    assert [n for n in ci["TESTED"] - {"crash"} if f'run("{n}", "--tiny"' not in tests] == []


def test_a_new_file_is_a_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def measure(): yield []\ndef sheets(rows): return []\n"
    (tmp_path / "fresh.py").write_text(source)
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path)])
    assert find_benchmarks().keys() == NAMES | {"fresh"}
    assert "fresh" in tables.document_tables()


def test_without_a_name_the_benchmarks_are_listed(run: Runner) -> None:
    listed = run()
    assert (listed.status, listed.err) == (0, "")
    assert all(f"\n  {name}  " in listed.out for name in NAMES)
    assert "..." not in listed.out.partition("\nCommands:\n")[2]
    assert max(map(len, listed.out.splitlines())) <= 80


def test_the_page_has_the_settings_of_the_recipes() -> None:
    page = Path(__file__).parents[2] / "docs" / "language-model.md"
    table = tables.document_tables()["language_settings"].text([])
    assert "| `num_hops` | 6 | 6 |" in table
    assert table in page.read_text(encoding="utf-8"), f"run: python -m benchmarks tables {page}"


def test_import(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert importing.fresh_import("sys") > 0
    monkeypatch.setattr(importing, "fresh_import", {"torch": 1.0, "memhop": 1.25}.get)
    done = run("import", "--tiny", "--to", "import.csv")
    assert done.status == 0
    assert done.out.startswith("`import memhop` takes 0.25 s beyond")
    [row] = read_rows(Path("import.csv"))
    assert row["beyond_torch_seconds"] == "0.25"
    assert list(row) == [*IMPORTING, *provenance()]
    Path("page.md").write_text(PAGE)
    assert run("tables", "page.md", "--results", ".").status == 0
    assert "0.25 s beyond the 1.00 s" in Path("page.md").read_text()


@pytest.mark.parametrize("rows", ["", "a,b\n", "a,b\n1,2\n", '"a'])
def test_other_rows_are_refused(run: Runner, rows: str) -> None:
    Path("import.csv").write_text(rows)
    Path("page.md").write_text(PAGE)
    done = run("tables", "page.md", "--results", ".")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "import.csv: expected " in done.err
    assert Path("page.md").read_text() == PAGE


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("gen", "No such command 'gen'"),
        ("step --no", "No such option"),
        ("step", "benchmark step: expected --data DIR, or --tiny"),
        ("stories", "Missing option '--data'"),
        ("transfer --data .", ".: expected a training and a test file of a task, found none"),
        ("serve --clients 0", "'--clients'"),
        ("length --to file/rows.csv", "cannot be written to"),
        ("answer --to .", ".: expected a file to write, got a folder"),
        ("hop --to file", "cannot be written to"),
        ("tables none", "none: No such file"),
        ("tables binary", "binary: expected UTF-8 text"),
        ("plots .", "results: no CSV file of a benchmark with a plot"),
    ],
)
def test_a_mistake_is_one_line(run: Runner, line: str, needed: str) -> None:
    Path("file").touch()
    Path("binary").write_bytes(b"\xff\x00")
    done = run(*line.split())
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1), done
    assert done.err.startswith("benchmarks: ")
    assert needed in done.err


def test_examples_of_all_modules_run() -> None:
    for found in pkgutil.walk_packages(benchmarks.__path__, "benchmarks."):
        if not found.name.endswith(("plots", "__main__")):  # needs matplotlib; runs
            assert doctest.testmod(import_module(found.name)).failed == 0
