"""Check generated stories of tasks 4, 17 and 19 with an independent reader of their text."""

import re
from collections import Counter, deque
from collections.abc import Iterator
from itertools import pairwise

import pytest

from memhop.data import Story
from memhop.data.stories.directions import PATHS, RELATIONS
from memhop.data.stories.shapes import POSITIONS
from memhop.data.stories.task import PLACES, StorySettings, Task
from memhop.data.story import Question
from memhop.errors import MemhopError
from memhop.rng import Rng
from tests.work import instructions

TASKS: dict[int, Task] = {4: RELATIONS, 17: POSITIONS, 19: PATHS}
Spot = tuple[int, int]
Triple = tuple[str, str, str]

# Repeated here, so that a change of the generator's words fails.
STEP: dict[str, Spot] = {
    **{"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)},
    **{"above": (0, 1), "below": (0, -1), "to the right of": (1, 0), "to the left of": (-1, 0)},
}
DIRECTION = "north|south|east|west"
RELATION = "above|below|to the right of|to the left of"
SENTENCE = re.compile(
    rf"The (?P<a>\w+) is (?P<step>{DIRECTION}) of the (?P<b>\w+)\."
    rf"|The (?P<a2>\w+|\w+ \w+) is (?P<step2>{RELATION}) the (?P<b2>\w+|\w+ \w+)\."
)


def story_settings(
    places: int = 6, statements: tuple[int, int] | None = None, hops: int = 2
) -> StorySettings:
    return StorySettings((), PLACES[:places], (), statements, hops=hops)


def stories(task: int, count: int, settings: StorySettings, seed: int = 1) -> list[Story]:
    TASKS[task].check(settings)
    rng = Rng(seed)
    return [TASKS[task].generate(rng, settings) for _ in range(count)]


def parsed(text: str) -> Triple:
    match = SENTENCE.fullmatch(text)
    assert match, text
    a, step, b = (group for group in match.groups() if group)
    return a, step, b


class Map:
    """The neighbours that the statements name, the statement of each pair, and all positions."""

    def __init__(self, facts: dict[int, Triple]) -> None:
        self.neighbours: dict[str, dict[str, Spot]] = {}
        self.facts: dict[frozenset[str], int] = {}
        for fact, (a, word, b) in facts.items():
            right, up = STEP[word]
            for here, there, way in ((b, a, (right, up)), (a, b, (-right, -up))):
                assert self.neighbours.setdefault(here, {}).setdefault(there, way) == way
            self.facts[frozenset((a, b))] = fact
        first = next(iter(self.neighbours))
        self.spot = {first: (0, 0)}
        left = deque([first])
        while left:
            here = left.popleft()
            x, y = self.spot[here]
            for there, (right, up) in self.neighbours[here].items():
                spot = x + right, y + up
                if there not in self.spot:
                    left.append(there)
                assert self.spot.setdefault(there, spot) == spot

    def on_the_grid(self) -> dict[str, dict[str, Spot]]:
        """Return the neighbours on the grid, whether or not a statement names them."""
        at = {spot: name for name, spot in self.spot.items()}
        return {
            name: {at[x + r, y + u]: (r, u) for r, u in STEP.values() if (x + r, y + u) in at}
            for name, (x, y) in self.spot.items()
        }


def shortest(neighbours: dict[str, dict[str, Spot]], start: str, goal: str) -> list[str]:
    """Return the only shortest path; fail if there are several."""
    steps, ways, before = {start: 0}, Counter({start: 1}), {start: start}
    left = deque([start])
    while left:
        here = left.popleft()
        for there in neighbours[here]:
            if there not in steps:
                steps[there], before[there] = steps[here] + 1, here
                left.append(there)
            if steps[there] == steps[here] + 1:
                ways[there] += ways[here]
    assert ways[goal] == 1, f"{ways[goal]} shortest paths"
    path = [goal]
    while path[-1] != start:
        path.append(before[path[-1]])
    return path[::-1]


def relation(grid: Map, question: str) -> tuple[str, list[str]]:
    if match := re.fullmatch(rf"What is ({DIRECTION}) of the (\w+)\?", question):
        want, other = STEP[match[1]], match[2]
    else:
        match = re.fullmatch(rf"What is the (\w+) ({DIRECTION}) of\?", question)
        assert match, question
        other, (right, up) = match[1], STEP[match[2]]
        want = -right, -up
    (answer,) = (place for place, step in grid.on_the_grid()[other].items() if step == want)
    assert answer in grid.neighbours[other]
    return answer, [answer, other]


def position(grid: Map, question: str) -> tuple[str, list[str]]:
    match = re.fullmatch(rf"Is the ([\w ]+?) ({RELATION}) the ([\w ]+)\?", question)
    assert match, question
    (x, y), (right, up), (x2, y2) = grid.spot[match[1]], STEP[match[2]], grid.spot[match[3]]
    true = (x - x2) * right + (y - y2) * up > 0
    return "yes" if true else "no", shortest(grid.neighbours, match[1], match[3])


def path(grid: Map, question: str) -> tuple[str, list[str]]:
    match = re.fullmatch(r"How do you go from the (\w+) to the (\w+)\?", question)
    assert match, question
    places = shortest(grid.neighbours, match[1], match[2])
    assert shortest(grid.on_the_grid(), match[1], match[2]) == places
    letter = {STEP[word]: word[0] for word in ("north", "south", "east", "west")}
    steps = [grid.neighbours[a][b] for a, b in pairwise(places)]
    return ",".join(letter[step] for step in steps), places


ANSWER = {4: relation, 17: position, 19: path}


def check(task: int, story: Story, hops: int = 2) -> None:
    """Check that each answer follows from the statements, and from the supporting facts alone."""
    facts = {i: parsed(text) for i, text in enumerate(story.statements)}
    grid = Map(facts)
    assert len(set(grid.spot.values())) == len(grid.spot) == len(grid.neighbours)
    for question in story.questions:
        assert question.after == len(story.statements)
        answer, chain = ANSWER[task](grid, question.text)
        assert answer == question.answer
        named = tuple(grid.facts[frozenset(pair)] for pair in pairwise(chain))
        assert question.supporting_facts == named
        assert len(named) == (1 if task == 4 else hops)
        supporting = Map({fact: facts[fact] for fact in named})
        assert ANSWER[task](supporting, question.text)[0] == answer


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("statements", [None, (1, 4), (2, 12), (40, 60)])
def test_answers_and_facts_follow_from_the_text(
    task: int, statements: tuple[int, int] | None
) -> None:
    generated = stories(task, 200, story_settings(statements=statements))
    for story in generated:
        check(task, story)
    lengths = {len(story.statements) for story in generated}
    usual = 5 if task == 19 else 2
    fewest, most = statements or (usual, usual)
    fewest = max(fewest, 1 if task == 4 else 2)
    assert lengths == set(range(fewest, most + 1))


@pytest.mark.parametrize("task", [17, 19])
@pytest.mark.parametrize("hops", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("places", "statements"), [(6, None), (6, (3, 9)), (20, (5, 25))])
def test_hops(task: int, hops: int, places: int, statements: tuple[int, int] | None) -> None:
    for story in stories(task, 60, story_settings(places, statements, hops)):
        check(task, story, hops)
        if statements is None:
            assert len(story.statements) == (max(hops, 5) if task == 19 else hops)
        else:
            assert max(hops, statements[0]) <= len(story.statements) <= statements[1]


@pytest.mark.parametrize("task", [4, 19])
@pytest.mark.parametrize("places", [2, 3, 4, 20])
def test_places_are_the_given_ones(task: int, places: int) -> None:
    hops = min(2, places - 1)
    generated = stories(task, 100, story_settings(places, hops=hops)) + stories(
        task, 100, story_settings(places, (30, 30), hops)
    )
    seen = set()
    for story in generated:
        check(task, story, hops)
        seen |= {place for text in story.statements for place in parsed(text)[::2]}
    assert seen == set(PLACES[:places])


def test_the_longest_path() -> None:
    for story in stories(19, 20, story_settings(20, (19, 40), hops=19)):
        check(19, story, 19)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("places", "hops"), [(6, 2), (6, 5), (20, 4)])
def test_long_stories(task: int, places: int, hops: int) -> None:
    def generated(statements: int) -> list[Story]:
        return stories(task, 1, story_settings(places, (statements, statements), hops))

    assert instructions(lambda: generated(2000)) < 2.2 * instructions(lambda: generated(1000))
    (story,) = generated(10_000)
    assert len(story.statements) == 10_000
    check(task, story, hops)
    most = {4: places, 17: 6, 19: places}[task]
    assert len({name for text in story.statements for name in parsed(text)[::2]}) == most


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (4, story_settings(places=1), "places: expected at least 2, got 1"),
        (19, story_settings(places=1), "places: expected at least 2, got 1"),
        (19, story_settings(hops=6), "hops: expected 1 to 5, got 6"),
        (19, story_settings(hops=0), "hops: expected 1 to 5, got 0"),
        (17, story_settings(hops=6, places=20), "hops: expected 1 to 5, got 6"),
        (17, story_settings(hops=0), "hops: expected 1 to 5, got 0"),
        (4, story_settings(statements=(6, 5)), "maximum of statements: expected at least 6, got 5"),
        (
            17,
            story_settings(statements=(1, 3), hops=4),
            "maximum of statements: expected at least 4, got 3",
        ),
        (
            19,
            story_settings(statements=(1, 1)),
            "maximum of statements: expected at least 2, got 1",
        ),
    ],
)
def test_impossible_settings_raise(task: int, settings: StorySettings, message: str) -> None:
    with pytest.raises(MemhopError) as caught:
        TASKS[task].check(settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(("task", "a_story"), [(4, 2000), (17, 6600), (19, 10_000)])
def test_a_story_takes_few_instructions(task: int, a_story: int) -> None:
    assert instructions(lambda: stories(task, 100, story_settings())) < 100 * a_story


# Measured on 11,000 questions of the released train and test files (en-10k).
STATEMENTS = {4: 2, 17: 2, 19: 5}  # before every question
WORDS = {4: 14, 17: 18, 19: 23}  # in lower case, those of the answers too
ANSWERS = {
    4: dict(zip(PLACES, (0.160, 0.169, 0.171, 0.169, 0.164, 0.167), strict=False)),
    17: {"yes": 0.499, "no": 0.501},
    19: dict.fromkeys(
        re.findall(r"\w,\w", "n,n n,e n,w e,n e,e e,s s,e s,s s,w w,n w,s w,w"), 1 / 12
    ),
}
SHARES = {
    4: {
        "one row": 1.0,
        "middle is no subject": 0.437,
        "middle is both subjects": 0.108,
        "answer is the subject": 1.0,
        "asks about a neighbour of the middle": 0.662,
        "What is the": 0.497,
        "fact is the first": 0.499,
    },
    17: {
        "one row": 0.343,
        "middle is no subject": 0.097,
        "middle is both subjects": 0.436,
        "asks about a pair of no statement": 1.0,
        "asks across a row": 0.114,
        "first fact comes first": 0.494,
        "is repeated": 0.365,
    },
    19: {
        "straight": 0.335,
        "middle has 2 neighbours": 0.361,
        "middle has 4 neighbours": 0.104,
        "start has 1 neighbour": 0.174,
        "goal has 3 neighbours": 0.273,
        "last statement is on the path": 0.572,
        "first statement is on the path": 0.306,
        "start is a subject": 0.567,
    },
}


def features(task: int, story: Story) -> Iterator[str]:
    """Yield the names in ``SHARES`` that are true of each question of a story."""
    facts = [parsed(text) for text in story.statements]
    grid = Map(dict(enumerate(facts)))
    for i, question in enumerate(story.questions):
        if task == 19:
            yield from of_path(facts, grid, question)
            continue
        (middle,) = {*facts[0][::2]} & {*facts[1][::2]}
        ends = [name for name in grid.spot if name != middle]
        (x, y), (x2, y2) = (grid.neighbours[middle][end] for end in ends)
        row = (x, y) == (-x2, -y2)
        subjects = sum(fact[0] == middle for fact in facts)
        if row:
            yield "one row"
        yield ("middle is no subject", "", "middle is both subjects")[subjects]
        if task == 4:
            yield from of_relation(facts, question, middle)
        else:
            yield from of_position(question, row, x, ends)
            if any(question.text == other.text for other in story.questions[:i]):
                yield "is repeated"


def of_relation(facts: list[Triple], question: Question, middle: str) -> Iterator[str]:
    if facts[question.supporting_facts[0]][0] == question.answer:
        yield "answer is the subject"
    if f"the {middle}" in question.text:
        yield "asks about a neighbour of the middle"
    if question.text.startswith("What is the"):
        yield "What is the"
    if question.supporting_facts == (0,):
        yield "fact is the first"


def of_position(question: Question, row: bool, x: int, ends: list[str]) -> Iterator[str]:
    if all(f"the {end}" in question.text for end in ends):
        yield "asks about a pair of no statement"
    level = "above" in question.text or "below" in question.text
    if row and level == (x != 0):
        yield "asks across a row"
    if question.supporting_facts == (0, 1):
        yield "first fact comes first"


def of_path(facts: list[Triple], grid: Map, question: Question) -> Iterator[str]:
    start, middle, goal = path(grid, question.text)[1]
    if len(set(question.answer.split(","))) == 1:
        yield "straight"
    yield f"middle has {len(grid.neighbours[middle])} neighbours"
    yield f"start has {len(grid.neighbours[start])} neighbour"
    yield f"goal has {len(grid.neighbours[goal])} neighbours"
    if 4 in question.supporting_facts:
        yield "last statement is on the path"
    if 0 in question.supporting_facts:
        yield "first statement is on the path"
    if facts[question.supporting_facts[0]][0] == start:
        yield "start is a subject"


@pytest.mark.parametrize("task", TASKS)
def test_the_shape_is_that_of_the_released_files(task: int) -> None:
    each = 8 if task == 17 else 1
    generated = stories(task, 10_000 // each, story_settings())
    assert {len(story.questions) for story in generated} == {each}
    assert {len(story.statements) for story in generated} == {STATEMENTS[task]}
    questions = [question for story in generated for question in story.questions]
    texts = {text for story in generated for text in story.statements}
    texts |= {text for question in questions for text in (question.text, question.answer)}
    assert len(set(re.findall(r"\w+", " ".join(texts).lower()))) == WORDS[task]
    answers = Counter(question.answer for question in questions)
    assert set(answers) == set(ANSWERS[task])
    away = sum(abs(answers[a] / 10_000 - share) for a, share in ANSWERS[task].items()) / 2
    assert away < 0.03
    found = Counter(feature for story in generated for feature in features(task, story))
    shares = {name: found[name] / 10_000 for name in SHARES[task]}
    assert shares == pytest.approx(SHARES[task], abs=0.03)
