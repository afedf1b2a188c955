"""The tables of the documents are made from the rows; nothing else of a document changes."""

import re
import subprocess
from pathlib import Path

import pytest

from benchmarks import tables
from memhop.errors import MemhopError
from memhop.reproduce import record
from memhop.reproduce.record import read_rows, write_rows

PROJECT = Path(__file__).parents[2]
DOCUMENTS = sorted([PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")])
ROW: dict[str, str | int | float | None] = {
    "rounds": 9,
    "import_torch_seconds": 1.0,
    "beyond_torch_seconds": 0.26,
    "device": "a chip",
    "threads": 2,
    "torch": "2.13.0",
    "date": "2026-01-02",
    "commit": "abc",
}
DOCUMENT = "before\n<!-- table: import -->\nold\n<!-- end of table -->\nafter\n"


def numbers(text: str) -> dict[str, list[str]]:
    """Return the numbers of each table of a document in their order, its words left out."""
    found: dict[str, list[str]] = {}
    for table in re.finditer(r"<!-- table: (\S+) -->\n(.*?)<!-- end of table -->", text, re.DOTALL):
        found.setdefault(table[1], []).extend(re.findall(r"-?\d[\d,.]*(?<=\d)", table[2]))
    return found


def test_the_numbers_of_a_table_are_found_and_its_words_are_not() -> None:
    first, reworded, other = (
        f"<!-- table: a -->\n| {row} |\n\n{note}\n<!-- end of table -->\n"
        for row, note in (
            ("x | -1.5 | 2,000", "Of 10 runs."),
            ("y | -1.5 | 2,000", "Out of 10."),
            ("x | -1.5 | 2,001", "Of 10 runs."),
        )
    )
    assert numbers(first) == numbers(reworded) == {"a": ["-1.5", "2,000", "10"]}
    assert numbers(first) != numbers(other)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_documents_hold_the_tables_of_the_results(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    made = tables.fill(text, PROJECT / "results")
    assert numbers(text) == numbers(made), "run: python -m benchmarks tables FILE"
    opened = text.count("<!-- table: ")
    assert opened == text.count("<!-- end of table -->") == len(tables._TABLE.findall(text))


def test_only_the_text_between_the_marks_is_replaced(tmp_path: Path) -> None:
    write_rows(tmp_path / "import.csv", [ROW])
    filled = tables.fill(DOCUMENT * 2, tmp_path)
    before, made, after = re.split(r"(?<=import -->\n)|(?=<!-- end)", filled[: len(filled) // 2])
    assert f"{before}old\n{after}" == DOCUMENT
    assert filled == f"{before}{made}{after}" * 2
    assert re.findall(r"[\d.-]*\d", made) == ["0.26", "1.00", "9", "2", "2.13.0", "2026-01-02"]
    assert "a chip" in made
    assert "abc" in made
    assert tables.fill(filled, tmp_path) == filled
    assert tables.fill("no marks\n", tmp_path / "none") == "no marks\n"


def test_a_row_a_task_with_the_error_of_the_paper(tmp_path: Path) -> None:
    errors = {"test_error": 0.04, "mean_test_error": 1.26}
    row = {"task": 2, "test_questions": 1000, "restarts": 10, "seed": 0, "seconds": 30.4}
    write_rows(tmp_path / "babi.csv", [ROW | errors | row])
    text = "<!-- table: babi -->\n<!-- end of table -->"
    assert "\n| 2 | 0.0 | 8.3 | 1.3 | 30 |\n" in tables.fill(text, tmp_path)


def test_an_unknown_table_and_missing_rows_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MemhopError, match="no table 'none'; known: babi, table1,"):
        tables.fill(DOCUMENT.replace("import", "none"), tmp_path)
    with pytest.raises(MemhopError, match=r"import\.csv: cannot be read: No such file"):
        tables.fill(DOCUMENT, tmp_path)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    write_rows(path, [{"a": 'x,"y"', "b": 1.5, "c": None}])
    write_rows(path, [{"a": 'x,"y"', "b": 2.5, "c": None}])
    assert read_rows(path) == [{"a": 'x,"y"', "b": "2.5", "c": ""}]
    assert [file.name for file in path.parent.iterdir()] == ["rows.csv"]
    with pytest.raises(MemhopError, match="cannot be written"):
        write_rows(tmp_path, [{"a": 1}])
    with pytest.raises(MemhopError, match="cannot be written"):
        write_rows(path / "below.csv", [{"a": 1}])


def test_the_commit_is_that_of_the_code_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "src/memhop/reproduce/record.py"
    here.parent.mkdir(parents=True)
    here.write_text("")

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=A", "-c", "user.email=a@b.c")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "All")
    monkeypatch.setattr(record, "__file__", str(here))
    commit = git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "rows.csv").write_text("a\n1\n")
    assert record.provenance()["commit"] == commit
    for name in ("benchmarks/new.py", "src/memhop/new.py"):
        new = tmp_path / name
        new.parent.mkdir(exist_ok=True)
        new.write_text("")
        assert record.provenance()["commit"] == f"{commit}-dirty"
        new.unlink()
    installed = tmp_path / ".venv/lib/site-packages/memhop/reproduce/record.py"
    monkeypatch.setattr(record, "__file__", str(installed))
    assert record.provenance()["commit"] == ""
