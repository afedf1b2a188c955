"""The differences of two sets of stories, small enough to count by hand."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.stories import Profile, compare, rows_of, sheets, template, total_variation
from memhop.data import Question, Story, generate, write_babi
from memhop.reproduce.record import as_text, provenance, read_rows, write_rows

RELEASED = [
    Story(
        ("Mary went to the park.", "John got the milk there.", "Mary went to the park."),
        (
            Question(1, "Where is Mary?", "park", (0,)),
            Question(3, "What is John carrying?", "milk,apple", (1,)),
        ),
    ),
    Story(("Fred went to the office.",), (Question(1, "Where is Fred?", "office", (0,)),)),
    Story(("John got the apple there.",), (Question(1, "Where is John?", "park", ()),)),
]
GENERATED = [
    Story(
        ("Mary went to the park.", "Yesterday Ann strolled to the park."),
        (Question(2, "Where is Ann?", "park", (0, 1)), Question(2, "Where is Ann?", "park", (1,))),
    )
]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("This morning Bill moved to the school.", "{Time} {Person} moved to the {place}."),
        ("Mice are afraid of sheep.", "{Animal} are afraid of {animal}."),
        ("What is gertrude afraid of?", "What is {person} afraid of?"),
        ("Lily is a swan.", "{Person} is a {animal}."),
        ("Lily is gray.", "{Person} is {color}."),
        (
            "Is the pink rectangle to the left of the triangle?",
            "Is the {shape} to the left of the {shape}?",
        ),
        (
            "Does the box of chocolates fit in the box?",
            "Does the {container} fit in the {container}?",
        ),
        ("The chocolate fits inside the chest.", "The {container} fits inside the {container}."),
        ("What is the park east of?", "What is the {place} {direction} of?"),
        ("Sumit is hungry.", "{Person} is {mood}."),
        ("Yann got the pajamas there.", "{Person} got the {thing} there."),
        ("Ann went to the shed.", "Ann went to the shed."),
        ("Billy parked the milkshake.", "Billy parked the milkshake."),
    ],
)
def test_only_the_words_that_vary_become_slots(sentence: str, expected: str) -> None:
    assert template(sentence) == expected


def test_the_counts_of_a_profile() -> None:
    profile = Profile.of(iter(RELEASED))
    texts = "mary went to the park", "john got milk there", "apple", "fred", "office"
    assert profile.words == set(" ".join((*texts, "where is what carrying")).split())
    assert profile.templates == {
        "{Person} went to the {place}.",
        "{Person} got the {thing} there.",
        "Where is {Person}?",
        "What is {Person} carrying?",
    }
    assert len(profile.statements) == 4
    assert profile.before == (1.5, 1, 3)
    assert profile.questions == (4 / 3, 1, 2)
    assert profile.answers == Counter({"park": 2, "milk,apple": 1, "office": 1})
    assert profile.facts == Counter({1: 3, 0: 1})


def test_a_row_lists_missing_and_extra_items_and_differences() -> None:
    # Answers: 2, 1 and 1 of 4 against all "park", so half of them; facts: none and three of one
    # against one of one and one of two, so 1/4 + |3/4 - 1/2| + 1/2, halved.
    assert compare(Profile.of(RELEASED), Profile.of(GENERATED)) == {
        "words": 16,
        "words_generated": 10,
        "words_missing": 9,
        "words_missing_are": "apple; carrying; fred; got; john; milk; office; there; what",
        "words_extra": 3,
        "words_extra_are": "ann; strolled; yesterday",
        "templates": 4,
        "templates_generated": 3,
        "templates_missing": 3,
        "templates_missing_are": (
            "What is {Person} carrying?; Where is {Person}?; {Person} got the {thing} there."
        ),
        "templates_extra": 2,
        "templates_extra_are": "Where is Ann?; {Time} Ann strolled to the {place}.",
        "told": 1.5,
        "told_generated": 2.0,
        "told_range": "1-3",
        "told_range_generated": "2",
        "told_ratio": 1.3333,
        "asked": 1.333,
        "asked_generated": 2.0,
        "asked_range": "1-2",
        "asked_range_generated": "2",
        "answers_variation": 0.5,
        "facts_variation": 0.5,
        "distinct_statements": 4,
        "distinct_statements_generated": 2,
    }


def test_equal_stories_differ_in_nothing() -> None:
    row = compare(Profile.of(RELEASED), Profile.of(RELEASED))
    assert row["told_ratio"] == 1
    for name, value in row.items():
        if name.endswith(("missing", "extra", "variation")):
            assert value == 0, name
        elif name.endswith("_are"):
            assert value == "", name


def test_total_variation_is_one_where_nothing_is_shared() -> None:
    assert total_variation({1: 3}, {2: 5}) == 1
    assert total_variation({1: 3, 2: 1}, {1: 30, 2: 10}) == 0
    assert total_variation({1: 1, 2: 3}, {1: 2, 3: 2}) == 0.75


def test_generated_stories_are_compared_with_the_files_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "en"
    folder.mkdir()
    own = list(generate(1, questions=10, seed=4))
    write_babi(folder / "qa1_single-supporting-fact_train.txt", own[:1])
    write_babi(folder / "qa1_single-supporting-fact_test.txt", own[1:])
    write_babi(folder / "qa2_two-supporting-facts_valid.txt", RELEASED)
    write_babi(folder / "qa3_three-supporting-facts_train.txt", RELEASED)
    write_babi(folder / "qa21_not-a-task-of-ours_train.txt", RELEASED)
    (row,) = rows_of(folder, None, 4, range(1, 3))  # 2 has no file to train or test on
    assert row["task"] == 1
    assert (row["questions"], row["questions_generated"], row["seed"]) == (10, 10, 4)
    assert (row["words_missing"], row["words_extra"], row["answers_variation"]) == (0, 0, 0)
    assert list(row)[-8:] == list(provenance())
    rows = list(rows_of(folder, 7, 0, [21, 3, 1]))
    assert [(row["task"], row["questions_generated"]) for row in rows] == [(1, 7), (3, 7)]
    assert [row["questions"] for row in rows] == [10, 4]
    write_rows(tmp_path / "stories.csv", rows)
    [table] = sheets(read_rows(tmp_path / "stories.csv"))
    assert [line[0] for line in table.lines] == ["1", "3"]
    assert table.note.startswith("4 to 10 released questions a task")


def test_the_table_shows_both_sides() -> None:
    compared = compare(Profile.of(RELEASED), Profile.of(GENERATED))
    row = {"task": 9, "questions": 2000, "seed": 5, **compared}
    [table] = sheets(as_text([row]))
    (line,) = table.lines
    assert " ".join(line) == "9 16 9 3 4 3 2 1.5 2.0 1-3 2 1.3 2.0 0.500 0.500"
    assert len(table.columns) == len(line)
    text = table.markdown()
    assert text.startswith("Released and generated stories:\n\n| task | words | words missing |")
    assert "2,000 released questions a task, as many generated ones of seed 5." in text
