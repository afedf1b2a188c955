"""The generator, checked by a reader of plain text that knows nothing of its world."""

import hashlib
import re
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhop.data import TASK_NAMES, Story, generate, read_stories, to_examples, write_babi
from memhop.data.stories import TASKS, words
from memhop.data.stories.chance import Chance
from memhop.errors import MemhopError
from memhop.example import Example

# Written out again, so that a change of the generator's words is seen here.
GO = "went to|went back to|moved to|journeyed to|travelled to"
TAKE = "took|got|grabbed|picked up"
PUT = "dropped|discarded|left|put down"
SENTENCE = re.compile(rf"(\w+) (?:({GO})|({TAKE})|({PUT})) the (\w+)(?: there)?\.")


class Told:
    """The statements of one story, by person and by thing, read backwards for an answer."""

    def __init__(self, story: tuple[str, ...]) -> None:
        self.facts = []
        for text in story:
            match = SENTENCE.fullmatch(text)
            assert match, text
            deed = "go" if match[2] else "take" if match[3] else "put"
            self.facts.append((match[1], deed, match[5], text.endswith(" there.")))

    def latest(self, before: int, person: str | None, deeds: str, what: str | None = None) -> int:
        """The last fact below ``before`` of that person, deed and target; -1 if there is none."""
        for fact in range(before - 1, -1, -1):
            who, deed, target, _ = self.facts[fact]
            if deed in deeds and person in (None, who) and what in (None, target):
                return fact
        return -1

    def person(self, name: str) -> tuple[str, tuple[int, ...]]:
        stop = self.latest(len(self.facts), name, "go")
        return self.facts[stop][2], (stop,)

    def thing(self, name: str) -> tuple[str, tuple[int, ...]]:
        act = self.latest(len(self.facts), None, "take put", name)
        holder, deed = self.facts[act][:2]
        stop = self.latest(act if deed == "put" else len(self.facts), holder, "go")
        assert deed == "put" or stop > act, "asked before it was carried anywhere"
        return self.facts[stop][2], (act, stop)

    def thing_before(self, name: str, place: str) -> tuple[str, tuple[int, ...]]:
        act = self.latest(len(self.facts), None, "take put", name)
        holder, deed = self.facts[act][:2]
        end = act if deed == "put" else len(self.facts)
        taken = self.latest(act + 1, holder, "take", name)
        there = self.latest(end, holder, "go", place)
        before = self.latest(there, holder, "go")
        assert taken < before < there < end, "asked for a place that the thing was not carried to"
        return self.facts[before][2], (act, there, before)

    def answer(self, question: str) -> tuple[str, tuple[int, ...]]:
        if match := re.fullmatch(r"Where is the (\w+)\?", question):
            return self.thing(match[1])
        if match := re.fullmatch(r"Where is (\w+)\?", question):
            return self.person(match[1])
        match = re.fullmatch(r"Where was the (\w+) before the (\w+)\?", question)
        assert match, question
        return self.thing_before(match[1], match[2])


def check(example: Example) -> None:
    """The answer follows from the statements, by those and only those that are named."""
    answer, facts = Told(example.story).answer(example.question)
    assert (example.answer, example.supporting_facts) == (answer, facts)
    # They suffice: alone, in the order of the story, they lead to the same answer, where a thing
    # that is put down was in hand on the way there.
    kept = sorted(facts)
    alone = [example.story[fact] for fact in kept]
    holder, deed, thing, _ = Told(example.story).facts[facts[0]]
    if deed == "put":
        alone.insert(0, f"{holder} took the {thing}.")
    assert Told(tuple(alone)).answer(example.question)[0] == answer


def check_world(story: Story) -> None:
    """Nobody does what the statements rule out."""
    person_at: dict[str, str] = {}
    held_by: dict[str, str] = {}
    put_at: dict[str, str | None] = {}
    for who, deed, target, _ in Told(story.statements).facts:
        if deed == "go":
            assert person_at.get(who) != target
            person_at[who] = target
        elif deed == "take":
            assert target not in held_by
            known = put_at.pop(target, None)
            assert known is None or person_at.get(who) in (None, known)
            held_by[target] = who
        else:
            assert held_by.pop(target) == who
            put_at[target] = person_at.get(who)


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("statements", [None, (2, 10), (40, 60)])
@pytest.mark.parametrize("reach", [5, None])
def test_answers_and_facts_follow_from_the_text(
    task: int, statements: tuple[int, int] | None, reach: int | None
) -> None:
    stories = list(generate(task, questions=300, seed=1, statements=statements, reach=reach))
    for story in stories:
        check_world(story)
    examples = list(to_examples(stories))
    assert len(examples) == 300
    for example in examples:
        check(example)
        assert len(example.supporting_facts) == task


@given(
    task=st.sampled_from(sorted(TASKS)),
    seed=st.integers(0, 2**70),
    people=st.integers(1, 20),
    places=st.integers(2, 20),
    objects=st.integers(1, 20),
    fewest=st.integers(1, 30),
    more=st.integers(0, 10),
    reach=st.sampled_from([4, 5, 9, None]),
)
@settings(max_examples=100)
def test_every_setting_is_met(
    task: int, seed: int, people: int, places: int, objects: int, fewest: int, more: int, reach: int
) -> None:
    most = max(fewest + more, task)
    stories = list(
        generate(
            task,
            questions=5,
            seed=seed,
            statements=(fewest, most),
            people=people,
            places=places,
            objects=objects,
            reach=reach,
        )
    )
    assert sum(len(story.questions) for story in stories) == 5
    for story in stories:
        check_world(story)
        assert story.questions[-1].after == len(story.statements)
        for example in story.examples():
            check(example)
            assert fewest <= len(example.story) <= most
            last_word = example.supporting_facts[0]
            assert reach is None or len(example.story) - last_word <= reach
    seen = [fact for story in stories for fact in Told(story.statements).facts]
    assert {who for who, *_ in seen} <= set(words.PEOPLE[:people])
    assert {what for _, deed, what, _ in seen if deed == "go"} <= set(words.PLACES[:places])
    assert {what for _, deed, what, _ in seen if deed != "go"} <= set(words.THINGS[:objects])


GOLDEN = {
    1: ("c3964dde9eff01fc", "b73d0cf9b5424af6", "8dae6cce544be25c"),
    2: ("c591656c87a446f4", "008fefa464a6259a", "1730d346f8eeb709"),
    3: ("073f7be26494834d", "33ddf0ba0b271074", "869de85ed28907fd"),
}


def digest(stories: list[Story]) -> str:
    text = "".join(f"{line}\n" for story in stories for line in story.lines())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_same_seed_gives_the_same_bytes_for_ever(task: int) -> None:
    free = list(generate(task, questions=100, seed=7))
    long = list(generate(task, questions=100, seed=7, statements=(2, 30)))
    wide = list(generate(task, questions=20, seed=7, people=9, places=9, objects=9, reach=None))
    assert (digest(free), digest(long), digest(wide)) == GOLDEN[task]


def test_chance_is_frozen() -> None:
    chance = Chance(1)
    assert [chance.below(100) for _ in range(5)] == [13, 84, 76, 25, 49]
    assert [chance.pick("abcdef") for _ in range(5)] == ["c", "d", "e", "a", "a"]
    assert [chance.happens(0.5) for _ in range(3)] == [False, True, False]


def test_fewer_questions_are_the_beginning_of_more() -> None:
    for task in TASKS:
        some = list(to_examples(generate(task, questions=13, seed=2)))
        more = list(to_examples(generate(task, questions=200, seed=2)))
        assert len(some) == 13
        assert some == more[:13]
        other = list(to_examples(generate(task, questions=200, seed=3)))
        assert not set(more) & set(other) or task == 1


def test_stories_are_made_as_they_are_asked_for() -> None:
    stories = generate(1, questions=10**12)
    assert len(list(islice(stories, 3))) == 3


def test_long_stories() -> None:
    for task in TASKS:
        (story,) = generate(task, questions=1, statements=(10_000, 10_000))
        assert len(story.statements) == 10_000
        check(next(story.examples()))


def test_generated_files_are_read_back(tmp_path: Path) -> None:
    for task in TASKS:
        stories = list(generate(task, questions=50))
        file = tmp_path / f"qa{task}_{TASK_NAMES[task]}_train.txt"
        write_babi(file, stories)
        assert list(read_stories(file)) == stories


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": 21}, "task 21 cannot be generated; needed one of 1, 2, 3"),
        ({"questions": 0}, "questions: 0; needed at least 1"),
        ({"seed": -1}, "seed: -1; needed at least 0"),
        ({"people": 0}, "people: 0; needed 1 to 20"),
        ({"people": 21}, "people: 21; needed 1 to 20"),
        ({"places": 1}, "places: 1; needed 2 to 20"),
        ({"objects": 21}, "objects: 21; needed 1 to 20"),
        ({"statements": (0, 5)}, "statements, at the least: 0; needed at least 1"),
        ({"statements": (6, 5)}, "statements, at the most: 5; needed at least 6"),
        ({"task": 3, "statements": (1, 2)}, "statements, at the most: 2; needed at least 3"),
        ({"task": 2, "statements": (1, 1)}, "statements, at the most: 1; needed at least 2"),
        ({"reach": 0}, "reach: 0; needed at least 1"),
        ({"task": 3, "reach": 3}, "reach: 3; needed at least 4"),
    ],
)
def test_impossible_settings_are_refused_at_once(settings: dict[str, int], message: str) -> None:
    with pytest.raises(MemhopError) as caught:
        generate(**{"task": 1, "questions": 5, **settings})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_words_have_one_meaning() -> None:
    every = [word.lower() for word in (*words.PEOPLE, *words.PLACES, *words.THINGS)]
    assert len(set(every)) == len(every)
    assert all(word.isalpha() for word in every)


# The released files, measured: statements before a question (mean), distinct statements, words,
# and the share of questions whose newest fact is the very last statement.
RELEASED = {
    1: (6.0, 120, 19, 0.45),
    2: (15.56, 264, 33, 0.42),
    3: (50.5, 312, 34, 0.40),
}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_shape_is_that_of_the_released_files(task: int) -> None:
    mean, templates, vocabulary, last = RELEASED[task]
    stories = list(generate(task, questions=5000, seed=0))
    examples = list(to_examples(stories))
    assert {len(story.questions) for story in stories} == {5}
    lengths = [len(example.story) for example in examples]
    assert sum(lengths) / len(lengths) == pytest.approx(mean, rel=0.15)
    assert all(length % 2 == 0 for length in lengths)
    assert len({text for story in stories for text in story.statements}) == templates
    text = " ".join(t for e in examples for t in (*e.story, e.question, e.answer))
    assert len(set(re.findall(r"\w+", text.lower()))) == vocabulary
    answers = Counter(example.answer for example in examples)
    assert len(answers) == 6
    assert sum(abs(count / 5000 - 1 / 6) for count in answers.values()) / 2 < 0.05
    newest = [len(e.story) - max(e.supporting_facts) for e in examples]
    assert max(newest) == 5
    assert newest.count(1) / 5000 == pytest.approx(last, abs=0.03)


def test_task_1_is_fast() -> None:
    start = time.process_time()
    lines = sum(1 for story in generate(1, questions=10_000) for _ in story.lines())
    assert lines == 30_000
    assert 10_000 / (time.process_time() - start) > 5000
