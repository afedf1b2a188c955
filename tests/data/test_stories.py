"""Check generated stories with an independent reader of their text."""

import hashlib
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhop.data import (
    TASK_NAMES,
    Story,
    generate,
    generate_splits,
    read_stories,
    to_examples,
    write_babi,
)
from memhop.data.stories import TASKS
from memhop.data.stories import task as words_of
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.rng import Rng
from tests.seeds import pairs, slow
from tests.work import instructions

from .answers import answer, suffices

# Repeated here, so that a change of the generator's words fails.
GO = "went to|went back to|moved to|journeyed to|travelled to"
TAKE = "took|got|grabbed|picked up"
PUT = "dropped|discarded|left|put down"
GIVE = "gave|handed|passed"
DEED = re.compile(
    rf"(\w+) (?:({GO})|({TAKE})|({PUT})|({GIVE})) the (\w+)(?: there)?(?: to (\w+))?\."
)
ALL = ", ".join(map(str, range(1, 21)))
HANDLED = (1, 2, 3, 5, 6, 7, 8)  # tasks with such statements only


def is_right(task: int, example: Example) -> bool:
    """Return whether the answer follows from all statements and from the supporting facts."""
    if task == 20:  # a new motive replaces the one before
        example = since_motive(example)
    return answer(task, tuple(example.story), example.question) == example.answer and suffices(
        task, example
    )


def since_motive(example: Example) -> Example:
    """Return the example without the statements before its motive."""
    (fact,) = example.supporting_facts
    return example._replace(story=example.story[fact:], supporting_facts=(0,))


def is_open(example: Example) -> bool:
    """Return whether animals of one species differ in colour, as in some released stories."""
    try:
        return not is_right(16, example)
    except AssertionError:
        return True


def check(task: int, example: Example) -> None:
    """Check the answer; if animals of a species differ, the last one decides (task 16)."""
    if task != 16:
        assert is_right(task, example), example
    elif is_open(example):
        species = example.story[example.supporting_facts[0]].split()[-1]
        *_, last = [text.split()[0] for text in example.story if text.endswith(f" is a {species}")
                    and text.split()[0] not in example.question]  # fmt: skip
        assert f"{last} is {example.answer}." in example.story


def check_world(story: Story) -> None:
    """Check that every act is possible after the statements before it."""
    person_at: dict[str, str] = {}
    held_by: dict[str, str] = {}
    put_at: dict[str, str | None] = {}
    for text in story.statements:
        match = DEED.fullmatch(text)
        assert match, text
        who, go, take, put, give, target, receiver = match.groups()
        if go:
            assert person_at.get(who) != target
            person_at[who] = target
        elif take:
            assert target not in held_by
            known = put_at.pop(target, None)
            assert known is None or person_at.get(who) in (None, known)
            held_by[target] = who
        elif put:
            assert held_by.pop(target) == who
            put_at[target] = person_at.get(who)
        elif give:
            assert held_by[target] == who
            assert receiver not in (None, who)
            assert (
                person_at.get(who) in (None, person_at.get(receiver)) or receiver not in person_at
            )
            held_by[target] = receiver


@pytest.mark.parametrize(
    ("task", "statements", "reach"),
    pairs(sorted(TASKS), [None, (2, 10), (40, 60)], [5, None]),
)
def test_answers_and_facts_follow_from_the_text(
    task: int, statements: tuple[int, int] | None, reach: int | None
) -> None:
    stories = list(generate(task, questions=200, seed=1, statements=statements, reach=reach))
    for story in stories:
        if task in HANDLED:
            check_world(story)
        for example in story.examples():
            check(task, example)
    assert sum(len(story.questions) for story in stories) == 200


@given(
    task=st.sampled_from(sorted(TASKS)),
    seed=st.integers(0, 2**70),
    people=st.integers(2, 20),
    places=st.integers(3, 20),
    objects=st.integers(1, 20),
    hops=st.integers(1, 5),
    fewest=st.integers(1, 30),
    more=st.integers(0, 10),
    reach=st.sampled_from([4, 5, 9, None]),
)
@settings(max_examples=100, deadline=None)
def test_every_setting_is_respected(
    task: int, seed: int, fewest: int, more: int, reach: int | None, **cast: int
) -> None:
    cast["hops"] = min(cast["hops"], cast["places"] - 1)
    most = max(fewest + more, 5)
    stories = list(
        generate(task, questions=5, seed=seed, statements=(fewest, most), reach=reach, **cast)
    )
    assert sum(len(story.questions) for story in stories) == 5
    for story in stories:
        assert story.questions[-1].after == len(story.statements)
        if task in HANDLED:
            check_world(story)
        for example in story.examples():
            check(task, example)
            assert fewest <= len(example.story) <= most
            if task in HANDLED and reach is not None:
                facts = example.supporting_facts
                last = facts[0] if task in (2, 3) else max(facts)
                assert len(example.story) - last <= reach
    if task in HANDLED:
        check_cast(task, stories, **cast)


def check_cast(
    task: int, stories: list[Story], people: int, places: int, objects: int, **_: int
) -> None:
    seen = [DEED.fullmatch(text) for story in stories for text in story.statements]
    deeds = [match.groups() for match in seen if match]
    assert len({who for who, *_ in deeds}) <= people
    assert {what for _, go, *_, what, _ in deeds if go} <= set(words_of.PLACES[:places])
    assert {what for _, go, *_, what, _ in deeds if not go} <= set(words_of.THINGS[:objects])


GOLDEN = {
    1: ("c3964dde9eff01fc", "b73d0cf9b5424af6", "8dae6cce544be25c"),
    2: ("c591656c87a446f4", "008fefa464a6259a", "1730d346f8eeb709"),
    3: ("073f7be26494834d", "e7108483837bd855", "869de85ed28907fd"),
    4: ("2695ed895e21970d", "243847a381c3e551", "7d8ca0639aebca1c"),
    5: ("fa7e19edc881e24d", "02c480facf0c2f4f", "3e69e5fec0f405d9"),
    6: ("bde174bdffc17f5d", "483e61121d22103b", "58db11e4125fcc11"),
    7: ("2bdd2b75feb2f37e", "c164f929704ebcd4", "9d5dd8bce1469e22"),
    8: ("55852f11d93de623", "8dca0930ba5699a0", "f818f98b54807c66"),
    9: ("125ea1e04382502b", "ddcbb6a68c8dba4f", "18c69ee63b7566ad"),
    10: ("ab7298b29b0231aa", "164f6a69fa19c703", "0825a573007fd5ae"),
    11: ("b9db20b3f50fe79e", "e71d680e7c9dada5", "350ce794ba0713d8"),
    12: ("e8123906e329b691", "e8885ee62f64ea34", "b837c6bd2e9d7eb1"),
    13: ("e286e991c0479546", "407594a8ef3b8580", "5fe2a18eab6de467"),
    14: ("0ae2a4279e3006f3", "98154db9e3e47da7", "fcd56723375256f8"),
    15: ("65128332b71cff7b", "7b99b8e10f8ede52", "1905d5406999af77"),
    16: ("27cdaf883bd3c9f0", "fd32b0b03a43884c", "35648486295a4109"),
    17: ("dc2847e043824f3b", "20ff0492cf6599a3", "ba1ae6f2c6a41dfe"),
    18: ("d1e110ca1a309259", "e685e3f9dd4c7fef", "6885fc40e25201a2"),
    19: ("025e33b74e4c9369", "7490bdb7b12b3671", "6e06f6c6941781ca"),
    20: ("23a3dc4f29d8f744", "8ca2b1e33163b591", "5049e345d1fcb5f4"),
}


def digest(stories: list[Story]) -> str:
    text = "".join(f"{line}\n" for story in stories for line in story.lines())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_same_seed_gives_the_same_bytes_in_every_version(task: int) -> None:
    free = list(generate(task, questions=100, seed=7))
    long = list(generate(task, questions=100, seed=7, statements=(2, 30)))
    wide = list(
        generate(task, questions=20, seed=7, people=9, places=9, objects=9, reach=None, hops=3)
    )
    assert (digest(free), digest(long), digest(wide)) == GOLDEN[task]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_task_uses_the_settings_that_its_words_show(task: int) -> None:
    """More people, places or objects appear in the stories of just those tasks that use them."""
    cast = {"people": words_of.PEOPLE, "places": words_of.PLACES, "objects": words_of.THINGS}
    few = set(_words(task))
    shown = {
        name for name, those in cast.items() if (set(_words(task, **{name: 9})) - few) & {*those}
    }
    shown |= {"hops"} if _words(task, hops=4) != _words(task) else set()
    assert TASKS[task].uses == shown


def _words(task: int, **setting: Any) -> list[str]:
    stories = generate(task, questions=150, seed=3, **setting)
    return [
        word for story in stories for line in story.lines() for word in re.findall(r"\w+", line)
    ]


def test_draws_of_a_seed_never_change() -> None:
    rng = Rng(1)
    assert [rng.randrange(100) for _ in range(5)] == [13, 84, 76, 25, 49]
    assert [rng.choice("abcdef") for _ in range(5)] == ["c", "d", "e", "a", "a"]
    assert [rng.bernoulli(0.5) for _ in range(3)] == [False, True, False]


def test_fewer_questions_are_the_beginning_of_more() -> None:
    for task in TASKS:
        some = list(to_examples(generate(task, questions=13, seed=2)))
        more = list(to_examples(generate(task, questions=200, seed=2)))
        assert len(some) == 13
        assert some == more[:13]
        other = list(to_examples(generate(task, questions=200, seed=3)))
        assert more != other


def test_stories_are_generated_lazily() -> None:
    stories = generate(1, questions=10**12)
    assert len(list(islice(stories, 3))) == 3


def test_long_stories() -> None:
    for task in TASKS:
        (story,) = generate(task, questions=1, statements=(2_000, 2_000))
        assert len(story.statements) == 2_000
        if task not in (18, 19):  # their checker searches every chain
            check(task, next(story.examples()))


def test_generated_files_are_read_back(tmp_path: Path) -> None:
    for task in TASKS:
        stories = list(generate(task, questions=50))
        file = tmp_path / f"qa{task}_{TASK_NAMES[task]}_train.txt"
        write_babi(file, stories)
        assert list(read_stories(file)) == stories


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"task": 21},
            f"task: expected one of {ALL}, got 21",
        ),
        ({"questions": 0}, "questions: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"people": 0}, "people: expected 1 to 20, got 0"),
        ({"people": 21}, "people: expected 1 to 20, got 21"),
        ({"places": 1}, "places: expected 2 to 20, got 1"),
        ({"objects": 21}, "objects: expected 1 to 20, got 21"),
        ({"statements": (0, 5)}, "minimum of statements: expected at least 1, got 0"),
        ({"statements": (6, 5)}, "maximum of statements: expected at least 6, got 5"),
        ({"task": 3, "statements": (1, 2)}, "maximum of statements: expected at least 3, got 2"),
        ({"task": 2, "statements": (1, 1)}, "maximum of statements: expected at least 2, got 1"),
        ({"reach": 0}, "reach: expected at least 1, got 0"),
        ({"task": 3, "reach": 3}, "reach: expected at least 4, got 3"),
    ],
)
def test_impossible_settings_raise_before_the_first_story(
    settings: dict[str, int], message: str
) -> None:
    with pytest.raises(MemhopError) as caught:
        generate(**{"task": 1, "questions": 5, **settings})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_words_have_one_meaning() -> None:
    every = [word.lower() for word in (*words_of.PEOPLE, *words_of.PLACES, *words_of.THINGS)]
    assert len(set(every)) == len(every)
    assert all(word.isalpha() for word in every)


# Measured on the released training and test files together: mean number of statements before a
# question, distinct statements (of 10,000 questions), words, questions per story, supporting facts.
RELEASED = {
    1: (6.0, 120, 19, 5, {1}),
    2: (15.4, 264, 33, 5, {2}),
    3: (50.5, 312, 34, 5, {3}),
    4: (2.0, 120, 14, 1, {1}),
    5: (19.4, 372, 39, 5, {1}),
    6: (6.3, 264, 35, 5, {1}),
    7: (8.5, 372, 43, 5, None),
    8: (8.8, 264, 35, 5, None),
    9: (6.0, 192, 23, 5, {1}),
    10: (6.0, 264, 24, 5, {1}),  # 288 with "either in the park or the park", not generated
    11: (6.0, 360, 26, 5, {2}),
    12: (6.0, 360, 20, 5, {1}),
    13: (6.0, 480, 26, 5, {2}),
    14: (7.8, 960, 25, 5, {2}),
    15: (8.0, 28, 17, 4, {2}),
    16: (9.0, 40, 17, 1, {3}),
    17: (2.0, 120, 18, 8, {2}),
    18: (6.3, 42, 18, 5, {2}),
    19: (5.0, 120, 23, 1, {2}),
    20: (5.8, 140, 35, None, {1}),
}


@pytest.mark.parametrize(
    "task",
    [task if task % 3 == 1 else slow(task) for task in TASKS],
)
def test_the_shape_is_that_of_the_released_files(task: int) -> None:
    mean, statements, vocabulary, questions, facts = RELEASED[task]
    stories = list(generate(task, questions=10_000, seed=0))
    examples = list(to_examples(stories))
    assert questions is None or {len(story.questions) for story in stories} == {questions}
    lengths = [len(example.story) for example in examples]
    assert sum(lengths) / len(lengths) == pytest.approx(mean, rel=0.15)
    texts = {text for story in stories for text in story.statements}
    assert len(texts) == statements
    texts |= {text for e in examples for text in (e.question, e.answer)}
    assert len(set(re.findall(r"\w+", " ".join(texts).lower()))) == vocabulary
    counted = {len(example.supporting_facts) for example in examples}
    assert facts is None or counted == facts


def test_task_1_takes_few_instructions() -> None:
    lines: list[str] = []
    stories = generate(1, questions=1000)
    count = instructions(lambda: lines.extend(line for story in stories for line in story.lines()))
    assert len(lines) == 3000
    assert count < 3000 * 1000


@pytest.mark.parametrize("task", [1, 4, 20])
def test_splits_have_no_story_in_common(task: int) -> None:
    counts = {"train": 300, "valid": 40, "test": 200}
    splits = {
        name: list(stories) for name, stories in generate_splits(task, counts, seed=5).items()
    }
    questions = {name: sum(len(s.questions) for s in one) for name, one in splits.items()}
    assert questions == counts
    train, valid, test = (
        {(story.statements, story.questions) for story in one} for one in splits.values()
    )
    assert not train & valid
    assert not train & test
    assert not valid & test
    assert splits["train"] == list(generate(task, questions=300, seed=5))


def test_too_few_different_stories_raise() -> None:
    splits = generate_splits(4, {"train": 300, "test": 50}, places=2)
    assert len(list(splits["train"])) == 300
    with pytest.raises(
        MemhopError, match=r"task 4: too few different stories: \d+ questions of test"
    ):
        list(splits["test"])
    with pytest.raises(MemhopError, match="questions of test: expected at least 1, got 0"):
        generate_splits(4, {"train": 300, "test": 0})
