"""The search finds exchangeable phrases, alone or joined with others, and only those."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.reproduce.inflected import inflected
from memhop.text.augmentation.classes import PhraseClass
from memhop.text.augmentation.sampling import PhraseText
from memhop.text.augmentation.swap_search import exchangeable_classes
from memhop.text.reading import SplitSentences

NAMES = ("ann", "ben", "cleo", "dan")
ROOMS = ("attic", "cellar", "kitchen", "porch")
WANTS = {"hungry": "kitchen", "tired": "attic", "bored": "porch", "cold": "cellar"}
ONE, MANY = ("wolf", "mouse", "cat", "sheep"), ("wolves", "mice", "cats", "lambs")
BACK = {"north": "s", "south": "n", "east": "w", "west": "e"}
Random = np.random.Generator


def groups(examples: Sequence[Example]) -> list[set[str]]:
    """The phrases of each class."""
    return [set(named(each)) for each in phrase_text(examples).classes]


def named(each: PhraseClass) -> list[str]:
    return [" ".join(phrase) for phrase in each.phrases]


def permutations(each: PhraseClass) -> int:
    return math.prod(map(len, each.cosets))


def links(each: PhraseClass) -> set[frozenset[str]]:
    """The phrases that every swap of a class moves together."""
    moving = {
        phrase: frozenset(i for i, swap in enumerate(each.swaps) for pair in swap if phrase in pair)
        for phrase in each.phrases
    }
    return {
        frozenset(" ".join(other) for other in each.phrases if moving[other] == moving[phrase])
        for phrase in each.phrases
    }


def phrase_text(examples: Sequence[Example]) -> PhraseText:
    return PhraseText(examples, SplitSentences())


def one_of(random: Random, words: Sequence[str]) -> str:
    return words[int(random.integers(len(words)))]


def two_of(random: Random, words: Sequence[str]) -> list[str]:
    return [words[i] for i in random.permutation(len(words))[:2]]


def texts(story_of: Callable[[Random], Example], count: int = 600, seed: int = 0) -> list[Example]:
    random = np.random.default_rng(seed)
    return [story_of(random) for _ in range(count)]


def wanting(random: Random) -> Example:
    """What someone wants says where they go: the wants are no names for one another."""
    name, other = two_of(random, NAMES)
    want = one_of(random, list(WANTS))
    story = [f"{name} is {want}.", f"{other} went to the {one_of(random, ROOMS)}."]
    return Example(tuple(story), f"Where will {name} go?", WANTS[want])


def fearing(random: Random) -> Example:
    """A word for one and a word for many: neither can be exchanged without the other."""
    fears = random.permutation(4)
    kinds = random.integers(4, size=2)
    story = [f"{MANY[i]} are afraid of {MANY[fears[i]]}." for i in random.permutation(4)]
    story += [f"{name} is a {ONE[kind]}." for name, kind in zip(NAMES, kinds, strict=False)]
    asked = int(random.integers(2))
    return Example(tuple(story), f"What is {NAMES[asked]} afraid of?", ONE[fears[kinds[asked]]])


def going(random: Random) -> Example:
    """A way through three rooms: the answer says the directions in letters."""
    rooms = [ROOMS[i] for i in random.permutation(4)]
    ways = [one_of(random, list(BACK)) for _ in range(3)]
    story = [
        f"The {before} is {way} of the {after}."
        for way, (before, after) in zip(ways, pairwise(rooms), strict=True)
    ]
    story = [story[i] for i in random.permutation(3)]
    answer = ",".join(BACK[way] for way in ways[:2])
    return Example(tuple(story), f"How do you go from the {rooms[0]} to the {rooms[2]}?", answer)


def test_names_places_and_verbs_of_a_story_are_found() -> None:
    examples = list(to_examples(generate(1, questions=900, seed=4)))
    words = {word for e in examples for s in e.story for word in s.lower().rstrip(".").split()}
    found = groups(examples)
    people = next(group for group in found if "mary" in group)
    places = next(group for group in found if "kitchen" in group)
    assert {e.answer for e in examples} == places
    assert {s.lower().split()[0] for e in examples for s in e.story} == people
    assert people | places < words
    assert len(found) <= 3  # the third are the ways to say that someone went


@pytest.mark.parametrize("seed", range(10))
def test_wants_are_exchanged_with_the_rooms_that_they_lead_to(seed: int) -> None:
    [joined, alone] = sorted(phrase_text(texts(wanting, seed=seed)).classes, key=permutations)
    if set(named(joined)) == set(NAMES):
        joined, alone = alone, joined
    assert set(named(alone)) == set(NAMES)
    assert links(joined) == {frozenset((f"is {want}", room)) for want, room in WANTS.items()}
    assert permutations(joined) == permutations(alone) == 24


@pytest.mark.parametrize("seed", range(3))
def test_a_word_for_one_is_exchanged_with_the_word_for_many(seed: int) -> None:
    kinds = next(c for c in phrase_text(texts(fearing, 900, seed)).classes if len(c.orbits) > 1)
    assert links(kinds) == {frozenset(pair) for pair in zip(ONE, MANY, strict=True)}
    assert permutations(kinds) == 24
    assert set(NAMES[:2]) in groups(texts(fearing, 900, seed))


@pytest.mark.parametrize("seed", range(3))
def test_directions_are_exchanged_with_their_letters_in_the_answer(seed: int) -> None:
    rooms, ways = sorted(phrase_text(texts(going, 900, seed)).classes, key=lambda c: len(c.orbits))
    assert set(named(rooms)) == set(ROOMS)
    assert links(ways) == {frozenset((f"is {way} of the", BACK[way])) for way in BACK}
    assert permutations(ways) == 24


@pytest.mark.parametrize("seed", range(3))
def test_she_and_he_are_exchanged_with_all_women_and_men(seed: int) -> None:
    """Two women, two men and the pronouns: within a sex freely, else all together."""
    examples = list(to_examples(generate(11, questions=900, seed=seed)))
    [people] = [each for each in phrase_text(examples).classes if "she" in named(each)]
    assert {frozenset(map(" ".join, orbit)) for orbit in people.orbits} == {
        frozenset(("mary", "sandra", "john", "daniel")),
        frozenset(("she", "he")),
    }
    assert permutations(people) == 8


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("task", [1, 2])
def test_forms_of_places_are_exchanged_together_with_the_answers(task: int, seed: int) -> None:
    examples = inflected(to_examples(generate(task, questions=1000, seed=seed)))
    answers = {example.answer for example in examples}
    places = [each for each in phrase_text(examples).classes if answers & set(named(each))]
    assert [links(each) for each in places] == [{frozenset((a, f"{a}un")) for a in answers}]
    assert permutations(places[0]) == math.factorial(len(answers))


@pytest.mark.parametrize("seed", [0, 2])
def test_opposite_directions_stay_opposite(seed: int) -> None:
    examples = list(to_examples(generate(17, questions=1000, seed=seed)))
    [ways] = [each for each in phrase_text(examples).classes if "below" in str(each)]
    assert permutations(ways) == 8
    index = {name: number for number, name in enumerate(named(ways))}
    pairs = {
        frozenset((index["above"], index["below"])),
        frozenset((index["to the left of"], index["to the right of"])),
    }
    for row in ways.sample(50, np.random.default_rng(seed)).tolist():
        assert {frozenset(row[place] for place in pair) for pair in pairs} == pairs


def test_words_of_the_answer_alone_are_in_no_group() -> None:
    def story_of(random: Random) -> Example:
        said, asked = one_of(random, NAMES), one_of(random, NAMES)
        story = (f"{said} went out.", "it rained.")
        return Example(story, f"Did {asked} go?", "yes" if said == asked else "no")

    assert groups(texts(story_of)) == [set(NAMES)]


def test_few_stories_say_nothing_however_many_questions_they_have() -> None:
    """Of 25 stories no z is large, so all that is said would pass for one class."""
    few = to_examples(generate(2, questions=125, seed=2))
    assert groups(list(few)) == []


def test_few_examples_say_nothing() -> None:
    assert exchangeable_classes([]) == []
    assert groups(texts(wanting, 19)) == []
    assert groups(texts(wanting, 600)) != []


def test_groups_are_in_the_order_of_the_text_whatever_the_words() -> None:
    examples = texts(wanting)
    renamed = [
        Example(
            tuple(statement.replace("ann", "zoe") for statement in example.story),
            example.question.replace("ann", "zoe"),
            example.answer,
        )
        for example in examples
    ]
    found, plain = (phrase_text(each).classes for each in (renamed, examples))
    assert [str(each).replace("zoe", "ann") for each in found] == list(map(str, plain))
    said = " ".join(s.lower().rstrip(".") for e in examples for s in e.story)
    firsts = [said.index(named(each)[0]) for each in plain]
    assert firsts == sorted(firsts)
