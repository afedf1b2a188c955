"""The symmetry test finds exchangeable phrases, and only those."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.text.augmentation.sampling import PhraseText
from memhop.text.augmentation.symmetry_test import exchangeable_phrases
from memhop.text.reading import SplitSentences

NAMES = ("ann", "ben", "cleo", "dan")
ROOMS = ("attic", "cellar", "kitchen", "porch")
Random = np.random.Generator


def groups(examples: Sequence[Example]) -> list[set[str]]:
    return [{" ".join(phrase) for phrase in group} for group in phrase_text(examples).orbits]


def phrase_text(examples: Sequence[Example]) -> PhraseText:
    return PhraseText(examples, SplitSentences())


def one_of(random: Random, words: Sequence[str]) -> str:
    return words[int(random.integers(len(words)))]


def two_of(random: Random, words: Sequence[str]) -> list[str]:
    return [words[i] for i in random.permutation(len(words))[:2]]


def texts(told: Callable[[Random], Example], count: int = 600, seed: int = 0) -> list[Example]:
    random = np.random.default_rng(seed)
    return [told(random) for _ in range(count)]


def wanting(random: Random) -> Example:
    """What someone wants says where they go: the wants are no names for one another."""
    wants = {"hungry": "kitchen", "tired": "attic", "bored": "porch", "cold": "cellar"}
    name, other = two_of(random, NAMES)
    want = one_of(random, list(wants))
    story = [f"{name} is {want}.", f"{other} went to the {one_of(random, ROOMS)}."]
    return Example(tuple(story), f"Where will {name} go?", wants[want])


def fearing(random: Random) -> Example:
    """A word for one and a word for many: neither can be exchanged without the other."""
    one, many = ("wolf", "mouse", "cat", "sheep"), ("wolves", "mice", "cats", "lambs")
    fears = random.permutation(4)
    kinds = random.integers(4, size=2)
    story = [f"{many[i]} are afraid of {many[fears[i]]}." for i in random.permutation(4)]
    story += [f"{name} is a {one[kind]}." for name, kind in zip(NAMES, kinds, strict=False)]
    asked = int(random.integers(2))
    return Example(tuple(story), f"What is {NAMES[asked]} afraid of?", one[fears[kinds[asked]]])


def going(random: Random) -> Example:
    """A way through three rooms: the answer says the directions in letters."""
    back = {"north": "s", "south": "n", "east": "w", "west": "e"}
    rooms = [ROOMS[i] for i in random.permutation(4)]
    ways = [one_of(random, list(back)) for _ in range(3)]
    story = [
        f"The {before} is {way} of the {after}."
        for way, (before, after) in zip(ways, pairwise(rooms), strict=True)
    ]
    story = [story[i] for i in random.permutation(3)]
    answer = ",".join(back[way] for way in ways[:2])
    return Example(tuple(story), f"How do you go from the {rooms[0]} to the {rooms[2]}?", answer)


def test_names_places_and_verbs_of_a_story_are_found() -> None:
    examples = list(to_examples(generate(1, questions=900, seed=4)))
    told = {word for e in examples for s in e.story for word in s.lower().rstrip(".").split()}
    found = groups(examples)
    people = next(group for group in found if "mary" in group)
    places = next(group for group in found if "kitchen" in group)
    assert {e.answer for e in examples} == places
    assert {s.lower().split()[0] for e in examples for s in e.story} == people
    assert people | places < told
    assert len(found) <= 3  # the third are the ways to say that someone went


@pytest.mark.parametrize("seed", range(10))
def test_names_and_rooms_are_found_and_wants_are_not(seed: int) -> None:
    found = groups(texts(wanting, seed=seed))
    assert set(NAMES) in found
    assert not any({"hungry", "tired", "bored", "cold"} & group for group in found)
    assert not any(set(ROOMS) & group for group in found)  # hungry goes to the kitchen


@pytest.mark.parametrize("seed", range(3))
def test_words_that_can_only_be_exchanged_together_are_not_exchanged(seed: int) -> None:
    found = groups(texts(fearing, 900, seed))
    assert set(NAMES[:2]) in found
    assert not any({"wolf", "wolves", "mice", "cats"} & group for group in found)


@pytest.mark.parametrize("seed", range(3))
def test_directions_that_the_answer_spells_are_not_exchanged(seed: int) -> None:
    found = groups(texts(going, 900, seed))
    assert set(ROOMS) in found
    assert len(found) == 1


def test_words_of_the_answer_alone_are_in_no_group() -> None:
    def told(random: Random) -> Example:
        said, asked = one_of(random, NAMES), one_of(random, NAMES)
        story = (f"{said} went out.", "it rained.")
        return Example(story, f"Did {asked} go?", "yes" if said == asked else "no")

    assert groups(texts(told)) == [set(NAMES)]


def test_few_stories_say_nothing_however_many_questions_they_have() -> None:
    """Of 25 stories no z is large, so all that is said would pass for one class."""
    few = to_examples(generate(2, questions=125, seed=2))
    assert groups(list(few)) == []


def test_few_examples_say_nothing() -> None:
    assert exchangeable_phrases([]) == []
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
    found = [
        tuple(("ann",) if phrase == ("zoe",) else phrase for phrase in group)
        for group in phrase_text(renamed).orbits
    ]
    assert found == phrase_text(examples).orbits
    told = [word for e in examples for s in e.story for word in s.lower().rstrip(".").split()]
    for group in found:
        first = [told.index(" ".join(phrase)) for phrase in group]
        assert first == sorted(first)
