"""The recipe ``best`` over seeds: rows, which model is kept, resuming, and the table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memhop.cli import app
from memhop.errors import MemhopError
from memhop.recipe import Recipe
from memhop.reproduce import best, best_report, paper, processes, table1_files, trainings
from memhop.reproduce.best import COLUMNS
from memhop.reproduce.record import read_rows, write_rows
from memhop.reproduce.trainings import JOINT, TableSpec, Unit
from memhop.training.evaluation import evaluate
from memhop.training.loop import TrainingResult, train
from memhop.training.run import ControlResult
from tests.reproduce.stored_numbers import assert_as_stored
from tests.seeds import slow

STORED = Path(__file__).parents[1] / "golden" / "best.csv"
TINY = TableSpec(COLUMNS, None, (1, 2), restarts=2, seeds=(0, 1), tiny=True)
KEY = ("column", "task", "restart", "seed")
MEASURED = ("train_error", "train_loss", "validation_error", "test_error")


@pytest.fixture
def _without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process: a new one takes seconds to start."""

    def run(call: Callable[[Any], Any], work: Sequence[Any], jobs: int) -> Iterator[Any]:
        return ((piece, call(piece)) for piece in [*work])

    monkeypatch.setattr(processes, "run_in_processes", run)


def row_of(test: float | None, **changes: Any) -> dict[str, Any]:
    """Return a row of ``best`` that was kept."""
    row = {
        "column": "best", "task": 3, "restart": 0, "seed": 0, "train_error": 0.0, "train_loss": 0.1,
        "validation_error": 1.0, "test_error": test, "train_questions": 1000,
        "test_questions": 1000, "seconds": 1.0, "model": "main", "kept": True, "tiny": False,
    }  # fmt: skip
    return row | changes


def test_the_columns() -> None:
    table = TINY._replace(tiny=False)
    assert table.recipe("best") == table.recipe("inflected") == Recipe.best()
    assert table.recipe("best-joint") == Recipe.best(joint=True)
    assert table.recipe("paper") == table.recipe("inflected-paper") == Recipe.paper()
    assert table.recipe("paper-joint") == Recipe.paper(joint=True)
    large = table._replace(large=True)
    tenth = Recipe.best(epochs=27, linear_start_epochs=3, stop_after=2)
    assert large.recipe("best") == large.recipe("inflected") == tenth
    assert {COLUMNS[name].keep for name in COLUMNS if "paper" in name} == {"training"}
    assert {COLUMNS[name].keep for name in COLUMNS if "paper" not in name} == {"validation"}
    assert {one.baseline for one in COLUMNS.values() if one.baseline} <= COLUMNS.keys()
    theirs = {one.compared_with for one in COLUMNS.values() if one.compared_with}
    assert theirs <= paper.SMALL.keys()
    assert table._replace(tasks=tuple(range(1, 21))).tasks_of("inflected") == (
        1, 2, 3, 4, 5, 6, 11, 12, 13, 14
    )  # fmt: skip


def test_inflected_columns_have_inflected_stories() -> None:
    plain, inflected = (TINY.splits(column, 1) for column in ("best", "inflected"))
    for before, after in zip(plain, inflected, strict=True):
        assert [len(one.story) for one in before] == [len(one.story) for one in after]
        assert [one.answer for one in before] == [one.answer for one in after]
        assert all(one.story != other.story for one, other in zip(before, after, strict=True))


def test_a_unit_is_one_training_and_the_longest_come_first() -> None:
    table = TINY._replace(tasks=tuple(range(1, 21)), restarts=7)
    found = trainings.units(table, COLUMNS)
    assert len(found) == len(set(found)) == 2 * (2 * 20 + 2 * 10 + 2)
    assert {(unit.first, unit.restarts) for unit in found} == {(0, 7)}
    assert [(unit.column, unit.task) for unit in found[:5]] == [
        ("best-joint", JOINT), ("best-joint", JOINT), ("paper-joint", JOINT),
        ("paper-joint", JOINT), ("best", 3),
    ]  # fmt: skip
    assert {unit.task for unit in found if unit.column == "inflected"} == {
        1, 2, 3, 4, 5, 6, 11, 12, 13, 14
    }  # fmt: skip
    none = trainings.units(table._replace(tasks=(7, 8)), ["inflected"])
    assert none == []


def test_rows_hold_every_restart_and_which_is_kept() -> None:
    rows = best.rows_of(TINY, Unit("paper-joint", JOINT, 0, 2, seed=1))
    assert [(row["task"], row["restart"], row["seed"]) for row in rows] == [
        (1, 0, 1), (1, 1, 1), (2, 0, 1), (2, 1, 1)
    ]  # fmt: skip
    assert tuple(rows[0])[: len(best.FIELDS)] == best.FIELDS
    first, second = rows[:2]
    rule = [(row["train_error"], row["train_loss"]) for row in (first, second)]
    assert [first["kept"], second["kept"]] == [rule[0] < rule[1], rule[1] < rule[0]]
    assert [row["kept"] for row in rows[2:]] == [first["kept"], second["kept"]]


def test_the_seed_changes_the_held_out_stories_and_the_weights() -> None:
    one, other = (best.rows_of(TINY, Unit("best", 1, 0, 2, seed)) for seed in (0, 1))
    assert {row["train_loss"] for row in one}.isdisjoint(row["train_loss"] for row in other)


def test_a_control_that_is_kept_has_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Recipe.paper(epochs=1, linear_start_epochs=1)
    splits = TINY.splits("best", 1)
    control = train([splits[0]], recipe=plain, restarts=1, seed=0)

    def with_control(*arguments: Any, **options: Any) -> TrainingResult:
        result = train(*arguments, **options)
        kept = ControlResult(control.restarts, ())
        return replace(result, model=control.model, kept=control.kept, control=kept)

    monkeypatch.setattr(trainings, "train", with_control)
    unit = Unit("best", 1, 0, 2, seed=0)
    rows = best.rows_of(TINY, unit)
    assert [(row["restart"], row["model"], row["kept"]) for row in rows] == [
        (0, "main", False), (1, "main", False), (2, "control", True)
    ]  # fmt: skip
    assert rows[2]["test_error"] == pytest.approx(evaluate(control.model, splits[1]).error)
    assert trainings.missing_units(TINY._replace(seeds=(0,)), ["best"], rows) == [
        unit._replace(task=2)
    ]
    assert ", the control; restarts: " in best_report.done_line(rows, unit)


@pytest.mark.parametrize("column", ["best", slow("best-joint")])
def test_the_slice_has_the_stored_numbers(column: str) -> None:
    """A column on generated stories; run this file to write the stored numbers.

    Rounding depends on the processor: a loss may differ in its fourth digit, and one answer in
    each part.
    """
    stored = [row for row in read_rows(STORED) if row["column"] == column]
    rows = slice_of_the_table([column])
    assert [[old[name] for name in KEY] for old in stored] == [
        [str(new[name]) for name in KEY] for new in rows
    ]
    for old, new in zip(stored, rows, strict=True):
        assert_as_stored(old, new)


def slice_of_the_table(columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the main restarts of seed 0 without what depends on the machine."""
    table = TINY._replace(seeds=(0,))
    rows = [row for unit in trainings.units(table, columns) for row in best.rows_of(table, unit)]
    rows = [row for row in rows if row["model"] == best.MAIN]
    names = [*KEY, "train_questions", "test_questions", *MEASURED]
    return [{name: row[name] for name in names} for row in trainings.merge_rows(table, [], rows)]


COMMAND = ["reproduce", "best", "--tiny", "--restarts", "1", "--columns", "paper,inflected-paper"]


@pytest.mark.usefixtures("_without_processes")
def test_the_command_resumes(tmp_path: Path) -> None:
    command = [*COMMAND, "--to", str(file := tmp_path / "best.csv")]
    first = CliRunner().invoke(app, [*command, "--seeds", "0"])
    assert first.exit_code == 0, first.output
    rows = read_rows(file)
    assert [(row["column"], row["task"], row["seed"]) for row in rows] == [
        (name, task, "0") for name in ("paper", "inflected-paper") for task in ("1", "2")
    ]
    write_rows(file, rows[1:])
    again = CliRunner().invoke(app, [*command, "--seeds", "0-1"])
    assert again.exit_code == 0, again.output
    assert "models to train: 5" in again.output
    now = read_rows(file)
    assert len(now) == 8
    assert [row["train_loss"] for row in now if row["seed"] == "0"] == [
        row["train_loss"] for row in rows
    ]
    third = CliRunner().invoke(app, [*command, "--seeds", "0-1"])
    assert "models to train: 0" in third.output
    assert "mean, best and worst of 2 seeds (0, 1)" in file.with_suffix(".md").read_text()


@pytest.mark.usefixtures("_without_processes")
@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, ["--restarts", "2"], "its rows are of 1 restarts, not 2; give --to another file"),
        ({"tiny": False}, [], "its rows are without --tiny; give --to another"),
        ({"column": "pe"}, [], "expected a new file or rows of 'reproduce best'"),
        ({"train_questions": 12}, [], "the rows have 12 training questions of task 1, not "),
        ({"column": "best-joint"}, ["--columns", "best-joint"], "of one model for the tasks 1;"),
    ],
)
def test_a_file_of_another_table_is_left_alone(
    tmp_path: Path, change: dict[str, Any], options: list[str], said: str
) -> None:
    questions = len(TINY.splits("best", 1)[0])
    row = row_of(1.0, task=1, tiny=True, train_questions=questions) | change
    write_rows(file := tmp_path / "rows.csv", [row])
    before = file.read_bytes()
    done = CliRunner().invoke(app, [*COMMAND, *options, "--to", str(file)])
    assert isinstance(done.exception, MemhopError)
    assert said in str(done.exception)
    assert file.read_bytes() == before


def test_the_table_has_mean_best_and_worst_seed() -> None:
    errors = {("best", 1): (0.0, 4.0), ("best", 3): (10.0, 8.0)}
    errors |= {("paper", 1): (1.0, 1.0), ("paper", 3): (19.0, 18.0)}
    rows = [
        row_of(error, column=column, task=task, seed=seed)
        for (column, task), of_seed in errors.items()
        for seed, error in enumerate(of_seed)
    ]
    rows += [row | {"restart": 1, "kept": False, "test_error": 99.0} for row in rows]
    text = best_report.sheet_of(rows, paper.SMALL).markdown()
    assert "| task | best | paper | the paper's PE LS RN |" in text
    assert "| 1 | 2.0 (0.0 to 4.0) | 1.0 (1.0 to 1.0) | 0.0 |" in text
    assert "| 3 | 9.0 (8.0 to 10.0) | 18.5 (18.0 to 19.0) | 40.3 |" in text
    # by seed 5.0 and 6.0, 10.0 and 9.5
    assert "| mean | 5.5 (5.0 to 6.0) | 9.8 (9.5 to 10.0) | 20.1 |" in text
    assert "| failed | 1 (1 to 1) | 1 (1 to 1) | 1 |" in text
    assert "| difference | -4.2 (-5.0 to -3.5) |  |  |" in text
    assert "control kept" not in text
    assert "of 2 seeds (0, 1), of the restart out of 2 with the lowest error on held-out" in text
    assert "(paper: training error)" in text
    assert "paired by seed: best minus paper." in text


def test_a_kept_control_and_a_diverged_training_count() -> None:
    rows = [row_of(7.0, kept=False), row_of(2.0, restart=1, model="control")]
    rows.append(row_of(None, seed=1, kept=False))
    (column,) = best_report.columns_of(rows)
    assert column.errors == {0: {3: 2.0}, 1: {3: best_report.DIVERGED}}
    rows.append(row_of(9.0, column="paper"))
    text = best_report.sheet_of(rows, paper.SMALL).markdown()
    assert "| 3 | 51.0 (2.0 to 100.0) | 9.0 |" in text
    assert "| failed | 0.5 (0 to 1) | 1 |" in text
    assert "| control kept | 1 of 2 |  |" in text  # `paper` has no control
    assert "out of 1 with" in text


def test_a_seed_without_all_tasks_has_no_mean() -> None:
    rows = [row_of(2.0, task=1), row_of(4.0), row_of(6.0, seed=1)]
    (column,) = best_report.columns_of(rows)
    assert (column.means, column.failed) == ({0: 3.0}, {0: 0})
    assert column.of_task(3) == [4.0, 6.0]


def test_a_line_about_a_training() -> None:
    rows = [row_of(2.0), row_of(9.0, restart=1, kept=False)]
    said = best_report.done_line(rows, Unit("best", 3, 0, 2, seed=0))
    assert said == "best, task 3, seed 0: 2.0%; restarts: 2.0, 9.0"
    rows = [row | {"column": "best-joint", "task": task} for row in rows for task in (1, 2)]
    rows[0]["test_error"] = 8.0
    said = best_report.done_line(rows, Unit("best-joint", JOINT, 0, 2, seed=0))
    assert said == "best, joint, 2 tasks, seed 0: 5.0% (1 failed); restarts: 5.0, 9.0"
    alone = [row_of(None, kept=False)]
    said = best_report.done_line(alone, Unit("best", 3, 0, 1, seed=0))
    assert said == "best, task 3, seed 0: 100.0%; restarts: all diverged"


def test_the_table_replaces_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "best.md").write_text("mine")
    done = CliRunner().invoke(app, [*COMMAND, "--to", str(tmp_path / "best.csv")])
    assert isinstance(done.exception, MemhopError)
    assert "already exists" in str(done.exception)
    table1_files.check_report(tmp_path / "other.csv", (".md",))


@pytest.mark.slow
def test_rows_do_not_depend_on_the_processes() -> None:
    left = trainings.units(TINY, ["best"])[:2]
    rows_of = partial(best.rows_of, TINY)
    found = processes.run_in_processes(rows_of, left, 2)
    there = {unit: [row["train_loss"] for row in rows] for unit, rows in found}
    assert there == {unit: [row["train_loss"] for row in rows_of(unit)] for unit in left}


if __name__ == "__main__":
    write_rows(STORED, slice_of_the_table(["best", "best-joint"]))
