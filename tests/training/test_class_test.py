"""Classes of phrases tested by a model: exact under a symmetry, sensitive to a wrong class."""

import copy
from itertools import product
from math import comb, prod
from typing import Any

import numpy as np
import pytest
import torch

from memhop.data import generate, to_examples
from memhop.example import Example, story_numbers
from memhop.recipe import Recipe
from memhop.text.augmentation.classes import PhraseClass
from memhop.text.model import MemN2N
from memhop.text.reading import SplitSentences
from memhop.training import class_test
from memhop.training.class_test import (
    LEVEL,
    ClassTest,
    check_classes,
    false_discovery_limit,
    p_value,
    permutations_to_try,
    untested,
)
from memhop.training.loop import train

PLACES = ("kitchen", "garden", "office", "hallway", "bedroom", "bathroom")


def words_as_phrases(*words: str) -> tuple[tuple[str, ...], ...]:
    return tuple((word,) for word in words)


def pair(*swaps: tuple[str, str]) -> PhraseClass:
    """Return the class of one swap, of one or several pairs of words."""
    return PhraseClass((tuple(((a,), (b,)) for a, b in swaps),))


def inflected(examples: list[Example]) -> list[Example]:
    """Return examples whose statements name a place in another form than the answers."""

    def statement(text: str) -> str:
        for place in PLACES:
            text = text.replace(place, f"{place}u")
        return text

    return [one._replace(story=tuple(map(statement, one.story))) for one in examples]


def stories(questions: int, seed: int) -> list[Example]:
    made = generate(1, questions=questions, seed=seed, statements=(2, 4))
    return inflected(list(to_examples(made)))


@pytest.fixture(scope="module")
def model() -> MemN2N:
    """A model that has learned most, but not all, of the inflected stories."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    recipe = Recipe.paper(epochs=14, linear_start_epochs=6, memory_dim=12, validation_share=0)
    result = train(stories(300, 1), recipe=recipe, restarts=2)
    torch.set_num_threads(threads)
    assert result.all_restarts is not None
    return result.all_restarts


def checked(
    model: MemN2N, classes: list[PhraseClass], held_out: list[Example], *seed: int
) -> tuple[ClassTest, ...]:
    """Return the tests of disjoint classes of one text."""
    numbered = [(0, each) for each in classes]
    return check_classes(numbered, [held_out], model, SplitSentences(), np.random.default_rng(seed))


# The p-value.


def test_the_p_value_is_that_of_all_choices() -> None:
    """Counted: each form of each story may be the story as it is."""
    random = np.random.default_rng(0)
    for _ in range(50):
        forms, number = random.integers(2, 5), random.integers(1, 6)
        wrong = random.integers(0, 4, (forms, number))
        sums = [sum(chosen) for chosen in product(*wrong.T.tolist())]
        expected = np.mean([total <= wrong[0].sum() for total in sums])
        assert p_value(wrong) == pytest.approx(expected)


def test_the_p_value_of_pairs_is_a_sign_test() -> None:
    wrong = np.array([[0] * 8 + [1] * 2, [1] * 8 + [0] * 2])  # 8 of 10 pairs are harder swapped
    assert p_value(wrong) == pytest.approx(sum(comb(10, k) for k in range(3)) / 2**10)


@pytest.mark.parametrize("level", [0.5, 0.05, 0.01])
def test_exchangeable_errors_are_rejected_at_most_at_the_level(level: float) -> None:
    random = np.random.default_rng(1)
    runs = 3000
    shares = random.beta(0.3, 0.6, (runs, 1, 12))  # hard and easy stories
    wrong = random.binomial(5, shares, (runs, 9, 12))
    rejected = sum(p_value(one) < level for one in wrong) / runs
    spread = (level * (1 - level) / runs) ** 0.5
    assert level / 2 - 4 * spread < rejected < level + 4 * spread


def test_the_false_discovery_limit_is_that_of_benjamini_and_hochberg() -> None:
    random = np.random.default_rng(2)
    for _ in range(200):
        values = (random.random(random.integers(1, 9)) ** 3).tolist()
        n, level = len(values), float(random.choice([0.01, 0.05, 0.2]))
        passing = [k for k in range(1, n + 1) if sorted(values)[k - 1] <= k * level / n]
        expected = sorted(values)[max(passing) - 1] if passing else 0.0
        assert false_discovery_limit(values, level) == expected
    assert false_discovery_limit([], 0.05) == 0.0


# The permutations.


@pytest.mark.parametrize(
    ("each", "count"),
    [
        (PhraseClass.of_group(words_as_phrases("a", "b")), 1),
        (PhraseClass.of_group(words_as_phrases("a", "b", "c")), 5),
        (PhraseClass.of_group(words_as_phrases(*"abcd")), 8),
        (PhraseClass.of_group(words_as_phrases(*"abcdef")), 8),
        (PhraseClass(pair(("l", "r")).swaps + pair(("l", "u"), ("r", "d")).swaps), 7),
        (pair(("a", "b"), ("c", "d"), ("e", "f")), 1),
    ],
)
def test_permutations_are_different_and_not_the_identity(each: PhraseClass, count: int) -> None:
    found = permutations_to_try(each, 6, np.random.default_rng(2))
    assert found.shape == (6, count, len(each.phrases))
    identity = tuple(range(len(each.phrases)))
    for story in found.tolist():
        distinct = set(map(tuple, story))
        assert len(distinct) == count
        assert identity not in distinct
    if prod(map(len, each.cosets)) > 1 + count:
        assert len({tuple(map(tuple, story)) for story in found.tolist()}) > 1


# The classes.


NAMES = PhraseClass.of_group(words_as_phrases("mary", "john", "daniel", "sandra"))
STATED = PhraseClass.of_group(words_as_phrases(*(f"{place}u" for place in PLACES)))
ANSWERED = PhraseClass.of_group(words_as_phrases(*PLACES))
JOINT = pair(("kitchenu", "gardenu"), ("kitchen", "garden"))


@pytest.mark.parametrize(
    ("classes", "true"),
    [
        ([NAMES, JOINT], [True, True]),
        ([STATED, ANSWERED], [False, False]),
        ([pair(("kitchenu", "gardenu")), NAMES], [False, True]),
        ([pair(("mary", "kitchenu"))], [False]),
    ],
    ids=range(4),
)
def test_symmetries_pass_and_single_forms_do_not(
    classes: list[PhraseClass], true: list[bool], model: MemN2N
) -> None:
    for one, is_true in zip(checked(model, classes, stories(200, 2)), true, strict=True):
        assert (one.is_exchanged, one.reason) == (is_true, "")
        assert one.p_value is not None
        assert one.error is not None
        assert one.swapped_error is not None
        assert one.p_value > LEVEL if is_true else one.p_value < LEVEL / 2
        if not is_true:
            assert one.swapped_error > one.error + 10


def test_a_restart_that_learned_nothing_hides_no_wrong_class(model: MemN2N) -> None:
    alone = checked(model.pick(0), [STATED], stories(60, 2))
    spoilt = copy.deepcopy(model)
    with torch.no_grad():
        for weight in spoilt.parameters():
            weight[1] = 0
    assert checked(spoilt, [STATED], stories(60, 2)) == alone
    assert not alone[0].is_exchanged


def test_symmetries_are_rejected_at_most_at_the_level(model: MemN2N) -> None:
    """The errors of the model differ between the phrases, those of the stories do not."""
    values = [
        one.p_value
        for seed in range(30)
        for one in checked(model, [NAMES, JOINT], stories(60, 10 + seed), seed)
        if one.p_value is not None
    ]
    assert len(values) > 50
    assert len(set(values)) > 30
    for level in (0.05, 0.2):
        rejected = sum(value < level for value in values)
        assert rejected <= len(values) * level + 3 * (len(values) * level) ** 0.5


def test_the_error_is_that_of_the_stories_with_the_class(model: MemN2N) -> None:
    here = [Example(("Mary went to the kitchenu.",), "Where is Mary?", "kitchen")]
    there = [Example(("John went to the officeu.",), "Where is John?", "office")]
    text = [
        one._replace(story=tuple(one.story) * (1 + n)) for n in range(12) for one in (*here, *there)
    ]
    [one] = checked(model, [pair(("kitchenu", "gardenu"))], text[::-1])
    assert one.stories == 12
    assert (one.error, one.swapped_error, one.is_exchanged) == (0.0, 100.0, False)
    assert one.p_value == 2.0**-12


def test_a_few_stories_decide_nothing(model: MemN2N, monkeypatch: pytest.MonkeyPatch) -> None:
    text = stories(60, seed=3)
    numbers = story_numbers(one.story for one in text)
    four, five = text[: numbers.index(4)], text[: numbers.index(5)]
    large = NAMES
    small = pair(("mary", "john"))
    [one] = checked(model, [large], four)
    assert one == ClassTest(0, str(large), False, "4 held-out stories, 5 needed")
    [one] = checked(model, [large], five)
    assert (one.is_exchanged, one.stories, one.reason) == (True, 5, "")
    [other] = checked(model, [small], five)
    assert not other.is_exchanged  # 1/32 is the smallest p-value
    assert other.reason == f"{other.stories} held-out stories with it, too few to decide"
    monkeypatch.setattr(class_test, "_MAX_STORIES", 3)
    [one] = checked(model, [large], text)
    assert one.stories == 3


def test_each_text_has_its_own_stories_and_level(model: MemN2N) -> None:
    found = check_classes(
        [(0, NAMES), (2, NAMES), (2, STATED)],
        [stories(40, 4), stories(40, 5), stories(60, 6)],
        model,
        SplitSentences(),
        np.random.default_rng(0),
    )
    assert [(one.text, one.is_exchanged) for one in found] == [(0, True), (2, True), (2, False)]
    nothing = check_classes([(0, NAMES)], [[]], model, SplitSentences(), np.random.default_rng(0))
    assert nothing == (ClassTest(0, str(NAMES), False, "0 held-out stories, 5 needed"),)


def test_tests_are_kept_as_json() -> None:
    one = ClassTest(1, "a, b", False, "", 7, 1.5, 3.0, 0.25)
    assert ClassTest.from_json({**vars(one)}) == one
    bare = untested([(0, pair(("a", "b")))], "no reason", is_exchanged=True)
    assert bare == (ClassTest(0, "a, b", True, "no reason"),)
    assert ClassTest.from_json({**vars(bare[0])}) == bare[0]


@pytest.mark.parametrize(
    "change",
    [{"text": "0"}, {"phrases": None}, {"is_exchanged": 1}, {"error": True}, {"more": 1}],
)
def test_other_json_is_a_type_error(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        ClassTest.from_json({"text": 0, "phrases": "a", "is_exchanged": True, **change})
