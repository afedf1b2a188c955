"""Check generated stories of tasks 15, 16, 18 and 20 with an independent reader of their text."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

import pytest

from memhop.data import Question, Story
from memhop.data.stories.animals import DEDUCTION, INDUCTION
from memhop.data.stories.motives import MOTIVES
from memhop.data.stories.sizes import SIZES
from memhop.data.stories.task import StorySettings, Task
from memhop.errors import MemhopError
from memhop.rng import Rng
from tests.work import instructions

TASKS = {15: DEDUCTION, 16: INDUCTION, 18: SIZES, 20: MOTIVES}
PLURALS = {"mice": "mouse", "cats": "cat", "wolves": "wolf", "sheep": "sheep"}
PLACES = {"hungry": "kitchen", "thirsty": "kitchen", "bored": "garden", "tired": "bedroom"}
WENT = r"(?:went to|went back to|moved to|journeyed to|travelled to)"
GOT = r"(?:took|got|grabbed|picked up)"


def story_settings(statements: tuple[int, int] | None = None, hops: int = 2) -> StorySettings:
    return StorySettings((), (), (), statements, hops=hops)


def stories(task: Task, seed: int, settings: StorySettings) -> Iterator[Story]:
    rng = Rng(seed)
    while True:
        yield task.generate(rng, settings)


def match(pattern: str, text: str) -> tuple[str, ...]:
    """Return the groups of a pattern that must match."""
    found = re.fullmatch(pattern, text)
    assert found, text
    return found.groups()


def fear(statements: Sequence[str], question: str) -> str:
    """Task 15."""
    fears: dict[str, str] = {}
    species: dict[str, str] = {}
    for text in statements:
        if " are afraid of " in text:
            plural, feared = match(r"(\w+) are afraid of (\w+)\.", text)
            assert fears.setdefault(PLURALS[plural.lower()], PLURALS[feared]) == PLURALS[feared]
        else:
            name, animal = match(r"(\w+) is a (\w+)\.", text)
            assert species.setdefault(name, animal) == animal
    (name,) = match(r"What is (\w+) afraid of\?", question)
    return fears[species[name.capitalize()]]


def witnesses(statements: Sequence[str], question: str) -> list[str]:
    """Task 16: return the colours of the others of the species, in the order of their species."""
    species: dict[str, str] = {}
    colours: dict[str, str] = {}
    for text in statements:
        name, article, word = match(r"(\w+) is (a )?(\w+)\.", text)
        assert (species if article else colours).setdefault(name, word) == word
    (asked,) = match(r"What color is (\w+)\?", question)
    assert asked not in colours
    others = [name for name, one in species.items() if one == species[asked] and name != asked]
    return [colours[name] for name in others if name in colours]


def colour(statements: Sequence[str], question: str) -> str:
    return witnesses(statements, question)[-1]


def steps(statements: Sequence[str], smaller: str, bigger: str) -> int | None:
    """Task 18: return the smallest number of statements from a thing to a bigger one."""
    pairs = set()
    for text in statements:
        if " fits inside " in text:
            pairs.add(match(r"The (.+) fits inside the (.+)\.", text))
        else:
            pairs.add(match(r"The (.+) is bigger than the (.+)\.", text)[::-1])
    reached = {smaller}
    for count in range(7):
        if bigger in reached:
            return count
        reached |= {big for small, big in pairs if small in reached}
    return None


def claim(question: str) -> tuple[str, str]:
    """Return the smaller and the bigger thing that a question names."""
    if question.startswith("Does"):
        smaller, bigger = match(r"Does the (.+) fit in the (.+)\?", question)
    else:
        bigger, smaller = match(r"Is the (.+) bigger than the (.+)\?", question)
    return smaller, bigger


def ordered(question: Question) -> tuple[str, str]:
    """Return the smaller and the bigger thing by the answer."""
    smaller, bigger = claim(question.text)
    return (smaller, bigger) if question.answer == "yes" else (bigger, smaller)


def fits(statements: Sequence[str], question: str) -> str:
    smaller, bigger = claim(question)
    yes, no = steps(statements, smaller, bigger), steps(statements, bigger, smaller)
    assert (yes is None) != (no is None), "not known, or contradictory"
    return "yes" if yes else "no"


def motive(statements: Sequence[str], question: str) -> str:
    """Task 20: return the answer; the same act of a person must have one reason."""
    name, rest = match(r"(?:Where will|Why did) (\w+) (.+)\?", question)
    name = name.capitalize()
    deed = rest.replace("go to", WENT).replace("get", GOT).replace("apple", "apple there")
    deed = re.sub("(milk|football|pajamas)$", r"\1 there", deed)
    feeling, reasons = "", set()
    for text in statements:
        if felt := re.fullmatch(rf"{name} is (\w+)\.", text):
            feeling = felt[1]
        elif re.fullmatch(rf"{name} {deed}\.", text):
            reasons.add(feeling)
    assert len(reasons) <= 1, "two reasons"
    reason = reasons.pop() if reasons else feeling
    return PLACES[reason] if question.startswith("Where") else reason


ANSWER = {15: fear, 16: colour, 18: fits, 20: motive}
FACTS = {15: 2, 16: 3, 18: 2, 20: 1}


def check(task: int, story: Story, facts: int | None = None) -> None:
    assert story.questions
    assert story.questions[-1].after == len(story.statements)
    for question in story.questions:
        statements = story.statements[: question.after]
        assert ANSWER[task](statements, question.text) == question.answer
        assert len(set(question.supporting_facts)) == (facts or FACTS[task])
        supporting = [statements[fact] for fact in sorted(question.supporting_facts)]
        assert ANSWER[task](supporting, question.text) == question.answer


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("statements", [None, (1, 5), (7, 15), (40, 60)])
def test_answers_and_facts_follow_from_the_text(
    task: int, statements: tuple[int, int] | None
) -> None:
    for story in islice(stories(TASKS[task], 1, story_settings(statements)), 100):
        check(task, story)
        for question in story.questions:
            assert not statements or statements[0] <= question.after <= statements[1]


@pytest.mark.parametrize("task", TASKS)
def test_lengths_are_uniform_above_the_minimum(task: int) -> None:
    least = {15: 2, 16: 3, 18: 2, 20: 1}[task]
    generated = islice(stories(TASKS[task], 2, story_settings((1, 20))), 2000)
    lengths = Counter(len(story.statements) for story in generated)
    assert set(lengths) == set(range(least, 21))
    mean = 2000 / (21 - least)
    assert all(0.6 * mean < count < 1.5 * mean for count in lengths.values())


@pytest.mark.parametrize("task", TASKS)
def test_long_stories(task: int) -> None:
    def generated(statements: int) -> Story:
        return TASKS[task].generate(Rng(3), story_settings((statements, statements)))

    assert instructions(lambda: generated(2000)) < 2.2 * instructions(lambda: generated(1000))
    story = generated(10_000)
    assert len(story.statements) == 10_000
    check(task, story._replace(questions=story.questions[-1:]))


def test_a_long_chain_in_a_long_story() -> None:
    story = SIZES.generate(Rng(3), story_settings((10_000, 10_000), hops=5))
    check(18, story._replace(questions=story.questions[-1:]), facts=5)


@pytest.mark.parametrize("hops", range(1, 6))
@pytest.mark.parametrize("statements", [None, (1, 8), (30, 30)])
def test_chains_of_sizes(hops: int, statements: tuple[int, int] | None) -> None:
    for story in islice(stories(SIZES, 4, story_settings(statements, hops)), 80):
        check(18, story, facts=hops)
        for question in story.questions:
            needed = steps(story.statements, *ordered(question))
            assert needed == hops or (hops == 2 and needed == 1)


def test_animals_of_a_species_agree_if_statements_are_repeated() -> None:
    for story in islice(stories(INDUCTION, 5, story_settings((10, 30))), 500):
        assert len(set(witnesses(story.statements, story.questions[0].text))) == 1


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (15, story_settings((1, 1)), "maximum of statements: expected at least 2, got 1"),
        (16, story_settings((1, 2)), "maximum of statements: expected at least 3, got 2"),
        (18, story_settings((1, 3), hops=4), "maximum of statements: expected at least 4, got 3"),
        (18, story_settings(hops=0), "hops: expected 1 to 5, got 0"),
        (18, story_settings(hops=6), "hops: expected 1 to 5, got 6"),
        (20, story_settings((5, 4)), "maximum of statements: expected at least 5, got 4"),
        (20, story_settings((0, 4)), "minimum of statements: expected at least 1, got 0"),
    ],
)
def test_impossible_settings_raise(task: int, settings: StorySettings, message: str) -> None:
    with pytest.raises(MemhopError) as caught:
        TASKS[task].check(settings)
    assert str(caught.value) == message


def test_possible_settings_pass() -> None:
    for task, fewest in ((15, 2), (16, 3), (18, 2), (20, 1)):
        TASKS[task].check(story_settings())
        TASKS[task].check(story_settings((1, fewest)))
    SIZES.check(story_settings((5, 5), hops=5))


# Measured on the released files (10,000 training questions per task): mean number of statements
# before a question, different statements, different questions, the shares of the answers.
RELEASED: dict[int, tuple[float, int, int, dict[str, float]]] = {
    15: (8.0, 28, 4, {"cat": 0.262, "mouse": 0.254, "sheep": 0.246, "wolf": 0.238}),
    16: (9.0, 40, 5, {"yellow": 0.253, "green": 0.252, "gray": 0.249, "white": 0.246}),
    18: (6.32, 42, 56, {"no": 0.503, "yes": 0.497}),
    20: (
        *(5.88, 140, 32),
        {
            **{"kitchen": 0.187, "garden": 0.094, "bedroom": 0.092},
            **{"hungry": 0.158, "thirsty": 0.158, "bored": 0.156, "tired": 0.155},
        },
    ),
}
# All their words, in training and test files.
WORDS = {
    15: "a afraid are cat cats emily gertrude is jessica mice mouse of sheep what winona wolf "
    "wolves",
    16: "a bernhard brian color frog gray green greg is julius lily lion rhino swan what white "
    "yellow",
    18: "bigger box chest chocolate chocolates container does fit fits in inside is no of suitcase "
    "than the yes",
    20: "antoine apple back bedroom bored did football garden get go got grabbed hungry is jason "
    "journeyed kitchen milk moved pajamas picked sumit the there thirsty tired to took travelled "
    "up went where why will yann",
}


@cache
def sample(task: int) -> list[Story]:
    """Stories in the released shape, with about 5,000 questions."""
    size = {15: 1250, 16: 5000, 18: 1000, 20: 466}[task]
    return list(islice(stories(TASKS[task], 0, story_settings()), size))


def distance(counts: Counter[str], shares: dict[str, float]) -> float:
    """Total variation between counts and shares."""
    total = counts.total()
    return sum(abs(counts[key] / total - shares.get(key, 0)) for key in {*counts, *shares}) / 2


@pytest.mark.parametrize("task", TASKS)
def test_the_shape_is_that_of_the_released_files(task: int) -> None:
    mean, statements, texts, answers = RELEASED[task]
    questions = [question for story in sample(task) for question in story.questions]
    after = sum(question.after for question in questions) / len(questions)
    assert after == pytest.approx(mean, rel=0.04)
    seen = {text for story in sample(task) for text in story.statements}
    asked = {question.text for question in questions}
    assert (len(seen), len(asked)) == (statements, texts)
    words = " ".join([*seen, *asked, *answers]).lower()
    assert set(re.findall(r"\w+", words)) == set(WORDS[task].split())
    assert distance(Counter(question.answer for question in questions), answers) < 0.05


def test_deduction_is_as_in_the_released_files() -> None:
    orders: Counter[str] = Counter()
    num_species: Counter[str] = Counter()
    for story in sample(15):
        assert (len(story.statements), len(story.questions)) == (8, 4)
        orders["".join("F" if " are " in text else "K" for text in story.statements)] += 1
        met = [text for text in story.statements if " is a " in text]
        num_species[str(len({text.split()[-1] for text in met}))] += 1
        # the animal, then the fear of its species, which comes before
        assert all(met > fear for q in story.questions for met, fear in [q.supporting_facts])
    assert orders["FFFFKKKK"] / 1250 == pytest.approx(0.093, abs=0.025)
    assert orders["FKFFFKKK"] / 1250 == pytest.approx(0.05, abs=0.02)
    assert distance(num_species, {"1": 0.032, "2": 0.417, "3": 0.497, "4": 0.054}) < 0.05


def test_induction_is_as_in_the_released_files() -> None:
    others: Counter[str] = Counter()
    disagree = last = 0
    for story in sample(16):
        (question,) = story.questions
        seen = witnesses(story.statements, question.text)
        others[str(len(seen))] += 1
        disagree += len(set(seen)) > 1
        asked, met, coloured = question.supporting_facts
        assert met < coloured
        last += asked == 8
    assert distance(others, {"1": 0.890, "3": 0.102, "4": 0.008}) < 0.02
    assert disagree / 5000 == pytest.approx(0.075, abs=0.015)
    assert last / 5000 == pytest.approx(0.311, abs=0.025)


def test_sizes_are_as_in_the_released_files() -> None:
    lengths: Counter[str] = Counter()
    direct = later = chocolate = does = 0
    for story in sample(18):
        lengths[str(len(story.statements))] += 1
        assert len(story.questions) == 5
        for question in story.questions:
            smaller, bigger = ordered(question)
            first, second = question.supporting_facts
            # A "no" starts with the smaller thing, a "yes" with the bigger one.
            assert (smaller if question.answer == "no" else bigger) in story.statements[first]
            direct += steps(story.statements, smaller, bigger) == 1
            later += first > second
            chocolate += smaller == "chocolate"
            does += question.text.startswith("Does")
    assert distance(lengths, {"5": 0.767, "10": 0.208, "15": 0.024, "20": 0.001}) < 0.05
    assert direct / 5000 == pytest.approx(0.310, abs=0.04)
    assert later / 5000 == pytest.approx(0.691, abs=0.04)
    assert chocolate / 5000 == pytest.approx(0.523, abs=0.05)
    assert does / 5000 == pytest.approx(0.500, abs=0.03)


def test_motives_are_as_in_the_released_files() -> None:
    lengths: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for story in sample(20):
        lengths[str(len(story.statements))] += 1
        assert [q.after for q in story.questions] == list(range(1, len(story.statements) + 1))
        asked.update(" ".join(q.text.split()[::3][:2]) for q in story.questions)
    assert distance(lengths, {"9": 0.012, "10": 0.337, "11": 0.565, "12": 0.086}) < 0.08
    assert distance(asked, {"Where go?": 0.373, "Why go": 0.373, "Why get": 0.254}) < 0.02


@pytest.mark.parametrize(("task", "a_question"), [(15, 1400), (16, 8800), (18, 1200), (20, 620)])
def test_a_question_takes_few_instructions(task: int, a_question: int) -> None:
    generated: list[Story] = []
    source = stories(TASKS[task], 0, story_settings())
    count = instructions(lambda: generated.extend(islice(source, 100)))
    assert count < a_question * sum(len(story.questions) for story in generated)
