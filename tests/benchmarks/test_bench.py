"""``memhop bench``: a tiny run of each writes rows from which its table can be made."""

from pathlib import Path

import pytest

from benchmarks import importing, tables
from memhop.cli import main
from memhop.reproduce.record import read_rows

SURROUNDINGS = ["device", "cores", "threads", "memhop", "torch", "python", "date", "commit"]
BABI = [
    "task", "test_questions", "restarts", "seed", "kept", "train_error", "test_error",
    "mean_test_error", "lowest_test_error", "highest_test_error", "seconds",
]  # fmt: skip
IMPORTING = ["rounds", "import_torch_seconds", "import_memhop_seconds", "beyond_torch_seconds"]


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bench(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    return ended.value.code


def test_babi(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("babi", "--tiny", "--restarts", "2", "--to", "babi.csv") == 0
    rows = read_rows(Path("babi.csv"))
    assert [list(row) for row in rows] == [BABI + SURROUNDINGS] * 2
    assert [row["task"] for row in rows] == ["1", "2"]
    for row in rows:
        lowest, mean, highest = (
            float(row[f"{n}_test_error"]) for n in ("lowest", "mean", "highest")
        )
        assert lowest <= mean <= highest
        assert lowest <= float(row["test_error"]) <= highest
    assert "task  test error" in capsys.readouterr().out
    Path("page.md").write_text("<!-- table: babi -->\n<!-- end of table -->\n")
    assert bench("tables", "page.md", "--results", ".") == 0
    assert "| 2 | " in Path("page.md").read_text()


def test_import(monkeypatch: pytest.MonkeyPatch) -> None:
    assert importing.fresh_import("sys") > 0
    monkeypatch.setattr(importing, "fresh_import", {"torch": 1.0, "memhop": 1.25}.get)
    assert bench("import", "--tiny", "--to", "import.csv") == 0
    [row] = read_rows(Path("import.csv"))
    assert row["beyond_torch_seconds"] == "0.25"
    assert list(row) == IMPORTING + SURROUNDINGS
    assert tables.fill("<!-- table: import -->\n<!-- end of table -->", Path())


@pytest.mark.parametrize("rows", ["", "a,b\n", "a,b\n1,2\n", '"a'])
def test_rows_of_something_else(capsys: pytest.CaptureFixture[str], rows: str) -> None:
    Path("babi.csv").write_text(rows)
    page = "<!-- table: babi -->\n<!-- end of table -->\n"
    Path("page.md").write_text(page)
    assert bench("tables", "page.md", "--results", ".") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert Path("page.md").read_text() == page


def test_a_folder_without_the_task(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert bench("babi", "--data", "empty") == 2
    assert "test file of task 1" in capsys.readouterr().err
