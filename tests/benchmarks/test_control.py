"""The benchmark corrupts classes, skews texts, and compares both recipes."""

from collections import Counter

import pytest

from benchmarks import control
from memhop.data.stories.task import PEOPLE
from memhop.text.augmentation.classes import PhraseClass

NAMES = PhraseClass.of_group((("ann",), ("ben",), ("cleo",)))
LINKED = PhraseClass((((("he",), ("she",)), (("dan",), ("eve",))),))


def test_mixed_classes_have_the_first_phrase_of_the_orbit_before() -> None:
    classes = control.mixed([NAMES, LINKED])
    assert list(map(str, classes)) == ["dan, ben, cleo", "ann, she", "he, eve"]
    assert control.mixed([]) == []


def test_pairs_of_a_joint_swap_are_separated() -> None:
    assert list(map(str, control.separate([LINKED]))) == ["he, she", "dan, eve"]
    assert control.separate([]) == []


def test_skewed_stories_draw_the_first_words_most_often() -> None:
    examples = control.stories(1, control.TEXTS["skewed"], 500, seed=3)
    people = Counter(sentence.split()[0] for one in examples for sentence in one.story[:2])
    ranked = [people[name] for name in PEOPLE[:4]]
    assert ranked == sorted(ranked, reverse=True)
    assert ranked[0] > 3 * ranked[3] > 0
    assert len(examples) == 500


def test_wings_have_one_two_and_three_places() -> None:
    assert sorted(Counter(control.WINGS.values()).values()) == [1, 2, 3]
    examples = control.stories(1, control.TEXTS["skewed, wings"], 50, seed=0)
    places = control.stories(1, control.TEXTS["skewed"], 50, seed=0)
    assert [one.answer for one in examples] == [control.WINGS[one.answer] for one in places]
    assert [one.story for one in examples] == [one.story for one in places]


def test_the_table_has_paired_differences() -> None:
    row = {"text": "t", "task": "1", "restarts": "3", "classes": "2", "exchanged": "1"}
    rows = [
        row | {"seed": "0", "kept": "main", "paper_error": "1.0", "best_error": "0.5"},
        row | {"seed": "1", "kept": "control", "paper_error": "2.0", "best_error": "2.25"},
    ]
    [sheet] = control.sheets(rows)
    assert list(sheet.lines[0]) == ["t", "1", "2 of 4", "1 of 2", "1.5", "1.4", "-0.1 (+0.2)"]
    assert sheet.lines[1][1] == "all"


def test_the_corrupted_classes_are_those_that_the_training_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = PhraseClass((((("he",), ("she",)), (("john",), ("mary",))),))
    monkeypatch.setattr(control, "exchangeable_classes", lambda *_: [people])
    (row,) = control.rows_of(True, (11, "separate pairs", 0))
    assert row["classes"] == 2
    (row,) = control.rows_of(True, (11, "mixed classes", 0))
    assert (row["classes"], row["text"], row["questions"]) == (2, "mixed classes", 100)
    (row,) = control.rows_of(True, (11, "skewed", 0))
    assert row["classes"] == 1
    assert row["kept"] in {"main", "control"}
