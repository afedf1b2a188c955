"""The paper's tables: their trainings, which do not depend on the processes, and their rows."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memhop.cli import app
from memhop.data import TASK_NAMES, generate
from memhop.errors import MemhopError
from memhop.reproduce import paper, processes, table1, table1_files, trainings
from memhop.reproduce.processes import run_in_processes
from memhop.reproduce.record import read_rows, write_rows
from memhop.reproduce.table1 import PAPERS, table_of
from memhop.reproduce.table1_report import Cell, cells_done, columns_of, sheet_of
from memhop.reproduce.trainings import JOINT, Unit, place_of
from tests.reproduce.stored_numbers import assert_as_stored
from tests.seeds import slow

STORED = Path(__file__).parents[1] / "golden" / "table1.csv"
NAMES = ("column", "task", "restart", "seed", "train_questions", "test_questions")
TINY = table_of(None, (1, 2), restarts=2, tiny=True)


def measured(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without the columns that differ from run to run."""
    return {name: value for name, value in row.items() if name not in ("seconds", "date", "commit")}


@pytest.fixture
def _without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process: a new one takes seconds to start."""

    def run(call: Callable[[Any], Any], work: Sequence[Any], jobs: int) -> Iterator[Any]:
        return ((piece, call(piece)) for piece in [*work])

    monkeypatch.setattr(processes, "run_in_processes", run)


def slice_of_the_table(columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the tiny table without what depends on the machine."""
    rows = [row for unit in trainings.units(TINY, columns) for row in trainings.rows_of(TINY, unit)]
    kept = [*NAMES, "train_error", "train_loss", "validation_error", "test_error"]
    return [{name: row[name] for name in kept} for row in trainings.merge_rows(TINY, [], rows)]


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [measured(row) for row in sorted(rows, key=partial(place_of, TINY))]


def test_the_columns_are_the_papers() -> None:
    table = table_of(None, (1,), restarts=10)
    bow, layerwise = table.recipe("bow"), table.recipe("joint-layerwise")
    assert (bow.position, bow.noise, bow.linear_start_epochs, bow.learning_rate) == (
        "bag", "none", 0, 0.01
    )  # fmt: skip
    assert (layerwise.tying, layerwise.memory_dim, layerwise.epochs) == ("layerwise", 50, 60)
    assert [table.recipe(f"joint-{hops}").num_hops for hops in ("1-hop", "2-hops", "3-hops")] == [
        1, 2, 3
    ]  # fmt: skip
    large = table._replace(large=True)
    assert (large.recipe("joint-rn").epochs, large.recipe("joint-rn").halve_every) == (20, 5)
    assert large.recipe("pe-ls-rn") == table.recipe("pe-ls-rn")
    assert list(PAPERS) == list(paper.SMALL) == list(paper.LARGE)


@pytest.mark.parametrize(
    ("numbers", "means"),
    [
        (paper.SMALL, (25.1, 20.3, 16.3, 13.9, 25.8, 15.6, 13.3, 12.4, 15.2)),
        (paper.LARGE, (15.4, 9.4, 7.2, 6.6, 24.5, 10.9, 7.9, 7.5, 11.0)),
    ],
)
def test_the_papers_cells_have_the_papers_means(
    numbers: dict[str, tuple[float, ...]], means: tuple[float, ...]
) -> None:
    assert all(len(cells) == len(paper.TASKS) for cells in numbers.values())
    for cells, mean in zip(numbers.values(), means, strict=True):
        assert abs(sum(cells) / 20 - mean) <= 0.0501


@pytest.mark.parametrize("restarts", [1, 5, 7, 10])
def test_units_hold_every_restart_of_every_cell_once(restarts: int) -> None:
    table = table_of(None, range(1, 21), restarts=restarts)
    held = [
        (unit.column, unit.task, unit.first + i)
        for unit in trainings.units(table, PAPERS)
        for i in range(unit.restarts)
    ]
    assert len(held) == len(set(held)) == restarts * (4 * 20 + 5)


def test_a_restart_is_the_same_in_any_unit() -> None:
    unit = Unit("joint-rn", JOINT, 0, 2, seed=0)
    together = trainings.rows_of(TINY, unit)
    halves = (unit._replace(first=first, restarts=1) for first in (1, 0))
    apart = [row for half in halves for row in trainings.rows_of(TINY, half)]
    assert in_order(together) == in_order(apart)
    assert [(row["task"], row["restart"]) for row in together] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert len({row["train_loss"] for row in together}) == 2


@pytest.mark.slow
def test_rows_do_not_depend_on_the_number_of_processes() -> None:
    left = trainings.units(TINY, ["pe-ls-rn", "joint-1-hop"])
    rows_of = partial(trainings.rows_of, TINY)
    here = [row for unit in left for row in rows_of(unit)]
    there = [row for _, rows in run_in_processes(rows_of, left, 2) for row in rows]
    assert in_order(here) == in_order(there)
    assert {row["threads"] for row in there} == {1}


@pytest.mark.parametrize(
    "column",
    [name if name in ("pe-ls-rn", "joint-layerwise") else slow(name) for name in PAPERS],
)
def test_the_slice_has_the_stored_numbers(column: str) -> None:
    """Each column on generated stories; run this file to write the stored numbers.

    Rounding depends on the processor: a loss may differ in its fourth digit, and one answer in
    each part.
    """
    stored = [row for row in read_rows(STORED) if row["column"] == column]
    rows = slice_of_the_table([column])
    assert len(stored) == len(rows) == 2 * 2
    for old, new in zip(stored, rows, strict=True):
        assert [old[name] for name in NAMES] == [str(new[name]) for name in NAMES]
        assert_as_stored(old, new)


def test_only_missing_units_are_trained() -> None:
    rows = [
        row_of(restart, 1.0, 0.1, 1.0) | {"task": task} for task in (1, 2) for restart in (0, 1)
    ]
    assert trainings.missing_units(TINY, ["pe"], rows) == []
    assert trainings.missing_units(TINY, ["pe"], rows[1:]) == [Unit("pe", 1, 0, 2, seed=0)]
    assert len(trainings.missing_units(TINY._replace(restarts=3), ["pe"], rows)) == 2
    assert len(trainings.missing_units(TINY, ["pe", "bow"], rows)) == 2


def test_new_rows_of_a_unit_replace_the_old_ones() -> None:
    old = [row_of(restart, 1.0, 0.1, 1.0) for restart in (0, 1)]
    new = [row_of(restart, 2.0, 0.1, 2.0) for restart in (2, 1, 0)]
    assert trainings.merge_rows(TINY, old, new) == new[::-1]
    other = row_of(0, 3.0, 0.1, 3.0) | {"column": "bow"}
    assert trainings.merge_rows(TINY, old, [other]) == [other, *old]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 3}, "cannot resume: the rows have seed 3, not 0; give --to another file"),
        ({"train_questions": 12}, "the rows have 12 training questions of task 1, not "),
        ({"column": "joint-rn"}, "the rows of joint-rn are of one model for the tasks 1;"),
        ({"column": "pels"}, "expected a new file or rows of 'reproduce table1'"),
        ({"task": "one"}, "expected a new file or rows of 'reproduce table1'"),
    ],
)
def test_a_file_of_another_table_is_left_alone(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    questions = len(TINY.splits("pe", 1)[0])
    row = row_of(0, 1.0, 0.1, 1.0) | {"task": 1, "train_questions": questions} | change
    write_rows(file := tmp_path / "rows.csv", [row])
    before = file.read_bytes()
    with pytest.raises(MemhopError, match=said):
        table1.rows_to_resume(file, TINY, ["pe", "joint-rn"])
    done = CliRunner().invoke(app, [*TINY_COMMAND, "--to", str(file)], catch_exceptions=True)
    assert isinstance(done.exception, MemhopError)
    assert file.read_bytes() == before
    write_rows(file, [{"a": 1}])
    with pytest.raises(MemhopError, match="expected a new file or rows of 'reproduce table1'"):
        table1.rows_to_resume(file, TINY, ["pe"])
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(MemhopError, match="expected a CSV file of UTF-8 text"):
        table1.rows_to_resume(file, TINY, ["pe"])


TINY_COMMAND = ["reproduce", "table1", "--tiny", "--restarts", "1", "--columns", "pe,joint-rn"]


def row_of(restart: int, train: float, loss: float, test: float | None) -> dict[str, Any]:
    return {
        "column": "pe", "task": 3, "restart": restart, "seed": 0, "train_error": train,
        "train_loss": loss, "test_error": test, "train_questions": 1000,
    }  # fmt: skip


def test_the_kept_restart_has_the_lowest_training_error_and_then_loss() -> None:
    rows = [row_of(0, 2.0, 0.1, 9.0), row_of(1, 1.0, 0.4, 7.0), row_of(2, 1.0, 0.3, 8.0)]
    rows.append(row_of(3, 0.0, 0.0, None))
    (column,) = columns_of(rows, paper.SMALL)
    assert list(column.cells) == [3]
    cell = column.cells[3]
    assert cell == Cell(8.0, (9.0, 7.0, 8.0, None), 64.2)
    assert (cell.mean, cell.std) == pytest.approx((8.0, (2 / 3) ** 0.5))
    assert column.failed == (1, 1)
    text = sheet_of(rows, paper.SMALL).markdown()
    assert "| 3 | 8.0 (64.2), 8.0 ± 0.8 |" in text
    assert "| failed | 1 (1) |" in text
    assert columns_of(rows[3:], paper.SMALL) == []


def test_the_row_of_means_has_the_spread_of_each_restarts_mean() -> None:
    """Restart 0 is better in one task and worse in the other: the means hardly differ."""
    errors = {3: (10.0, 20.0, 30.0, None), 4: (30.0, 22.0, 11.0, 1.0)}
    rows = [
        row_of(restart, 0.0, float(restart), error) | {"task": task}
        for task, of_task in errors.items()
        for restart, error in enumerate(of_task)
    ]
    (column,) = columns_of(rows, paper.SMALL)
    assert column.mean == Cell(20.0, (20.0, 21.0, 20.5, None), (64.2 + 3.8) / 2)
    assert column.mean.std == pytest.approx((0.5 / 3) ** 0.5)
    assert "| mean | 20.0 (34.0), 20.5 ± 0.4 |" in sheet_of(rows, paper.SMALL).markdown()


def test_unknown_columns_and_folders_without_tasks_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MemhopError, match=r"--columns: expected names of bow, pe,.*, got 'pels'"):
        trainings.parse_columns("pe, pels", PAPERS)
    with pytest.raises(
        MemhopError, match="expected a training and a test file of a task, found none"
    ):
        trainings.available_tasks(tmp_path, [1, 2])


@pytest.mark.usefixtures("_without_processes")
def test_the_command_resumes(tmp_path: Path) -> None:
    file = tmp_path / "table1.csv"
    command = [
        "reproduce", "table1", "--tiny", "--restarts", "1", "--columns", "pe,joint-1-hop",
        "--jobs", "1", "--to", str(file),
    ]  # fmt: skip
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    rows = read_rows(file)
    assert [(row["column"], row["task"]) for row in rows] == [
        ("pe", "1"), ("pe", "2"), ("joint-1-hop", "1"), ("joint-1-hop", "2")
    ]  # fmt: skip
    assert "PE, task 1: " in first.output
    assert "1 hop, joint, 2 tasks: " in first.output
    write_rows(file, rows[1:])
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert [measured(row) for row in read_rows(file)] == [measured(row) for row in rows]
    assert "PE, task 1: " in again.output
    assert "PE, task 2: " not in again.output
    third = CliRunner().invoke(app, command)
    assert "task 1: " not in third.output
    assert "| mean |" in file.with_suffix(".md").read_text()
    command[command.index("1")] = "2"
    more = CliRunner().invoke(app, command)
    assert "; all 2: " in more.output
    now = read_rows(file)
    assert [row["restart"] for row in now] == ["0", "1"] * 4
    assert [measured(row) for row in now if row["restart"] == "0"] == [
        measured(row) for row in rows
    ]


def test_a_unit_that_diverges_is_reported_and_does_not_end_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wild = {"learning_rate": 1e6, "clip_norm": 0}
    for name in ("pe", "joint-rn"):
        changes = {**PAPERS[name].changes, **wild}
        monkeypatch.setitem(PAPERS, name, PAPERS[name]._replace(changes=changes))
    alone = trainings.rows_of(TINY, Unit("pe", 1, 0, 2, 0))
    assert [(row["restart"], row["test_error"], row["seconds"]) for row in alone] == [
        (0, None, None), (1, None, None)
    ]  # fmt: skip
    said = cells_done(alone, Unit("pe", 1, 0, 2, 0), TINY, paper.SMALL)
    assert said == ["PE, task 1: every restart diverged"]
    assert columns_of(alone, paper.SMALL) == []
    assert list(table1_files.write_report(tmp_path / "rows.csv", alone, paper.SMALL)) == []
    half = Unit("joint-rn", JOINT, 0, 1, 0)  # the other one is missing
    assert cells_done(trainings.rows_of(TINY, half), half, TINY, paper.SMALL) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of the tasks 1 and 2, named as the released ones; 2 has no test file."""
    for number, split in ((1, "train"), (1, "test"), (2, "train")):
        lines = [line for story in generate(number, questions=20) for line in story.lines()]
        name = f"qa{number}_{TASK_NAMES[number]}_{split}.txt"
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


def reproduce(table: str, folder: Path, *arguments: str) -> Any:
    command = ["reproduce", table, "--data", str(folder), "--tasks", "1-2", "--restarts", "1"]
    return CliRunner().invoke(app, [*command, "--columns", "pe", *arguments])


@pytest.mark.usefixtures("_without_processes")
def test_missing_tasks_are_named_and_left_out(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    done = reproduce("table1", folder, "--seed", "7", "--to", str(file))
    assert done.exit_code == 0, done.output
    assert f"task 2: no files in {folder}; left out of our means and the paper's" in done.output
    assert "PE, 1 tasks: " in done.output
    assert ", the paper's 0.1%" in done.output
    rows = read_rows(file)
    assert [(row["task"], row["seed"], row["train_questions"]) for row in rows] == [
        ("1", "7", "20")
    ]


def test_table3_needs_the_files_of_10k(folder: Path) -> None:
    done = reproduce("table3", folder)
    assert isinstance(done.exception, MemhopError)
    assert "table3 needs about 10,000 training questions a task, got 20 of task 1" in str(
        done.exception
    )


@pytest.mark.usefixtures("_without_processes")
def test_without_a_file_the_command_warns(folder: Path) -> None:
    assert "the rows are not stored" in reproduce("table1", folder).output


def test_the_picture_shows_our_cells_the_papers_and_the_differences() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    from memhop.reproduce import plot

    rows = [row_of(0, 2.0, 0.1, 70.2), row_of(0, 2.0, 0.1, 4.0) | {"task": 4}]
    panels: Any = plot.table1(rows).axes
    shown = [[text.get_text() for text in panel.texts] for panel in panels]
    assert shown == [["70.2", "4.0", "37.1"], ["64.2", "3.8", "34.0"], ["6.0", "0.2", "3.1"]]
    strengths = [[patch.get_facecolor()[3] for patch in panel.patches] for panel in panels]
    assert strengths[0][0] == max(strengths[0]) > strengths[0][2] > strengths[0][1]


if __name__ == "__main__":
    write_rows(STORED, slice_of_the_table([*PAPERS]))
