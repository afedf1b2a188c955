"""Stories longer than the training stories: their lengths, and the curve of errors."""

from typing import Any

import pytest

from benchmarks import length
from benchmarks.length import ENCODINGS, TINY, errors, rows_of, sheets
from memhop.recipe import Recipe

from .conftest import Runner


def test_stories_have_the_length_that_is_asked_for() -> None:
    for task in length.TASKS:
        trained = length._stories(task, 500, 0, (1, length.MAX_TRAINED))
        asked = length._stories(task, 10, 1, (200, 200))
        assert max(len(example.story) for example in trained) == length.MAX_TRAINED
        assert {len(example.story) for example in asked} == {200}


def test_every_encoding_is_a_recipe_of_its_own() -> None:
    recipes = [Recipe(**changes) for changes in ENCODINGS.values()]
    assert len(set(recipes)) == len(recipes)
    assert {recipe.noise for recipe in recipes} == {"none", "time", "empty"}


def test_a_training_is_asked_at_each_length() -> None:
    rows = rows_of(TINY, (1, "ages", 0))
    assert [row["statements"] for row in rows] == list(TINY.lengths)
    assert all(0 <= row["test_error"] <= 100 for row in rows)
    assert rows_of(TINY, (1, "ages", 0))[0]["test_error"] == rows[0]["test_error"]


def row(encoding: str, seed: int, statements: int, error: float) -> dict[str, Any]:
    return {
        "task": 1, "encoding": encoding, "seed": seed, "statements": statements, "restarts": 5,
        "trained_up_to": 20, "questions": 2000, "test_error": error,
    }  # fmt: skip


ROWS = [row("ages", 0, 20, 1.0), row("ages", 1, 20, 2.0), row("ages", 0, 5, 0.0)]


def test_the_curve_is_the_mean_of_the_seeds() -> None:
    assert errors(ROWS) == {(1, "ages"): {5: 0.0, 20: 1.5}}
    assert sheets(ROWS)[0].lines == [["1, ages", "0.0", "1.5"]]
    assert sorted(ROWS, key=length.sort_key)[0]["statements"] == 5


def test_the_picture_has_a_panel_for_each_task() -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    panels: Any = length.curves(ROWS).axes
    assert [panel.get_title() for panel in panels] == ["task 1", "task 2", "task 3"]
    drawn = [tuple(line.get_ydata()) for line in panels[0].lines]
    assert (0.0, 1.5) in drawn


def test_the_command_prints_a_table(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(  # .ci/run starts the processes
        length, "run_in_processes", lambda call, work, jobs: ((one, call(one)) for one in work)
    )
    done = run("length", "--tiny")
    assert done.status == 0, done
    assert "3, ages, time noise" in done.out
