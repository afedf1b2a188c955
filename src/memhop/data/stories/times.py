"""Task 14: who was where at which time of the day; statements are out of order."""

from typing import NamedTuple

from memhop.data.stories.task import GOING, StorySettings, Task, check_length, draw_length
from memhop.data.story import Question, Story
from memhop.rng import Rng

TIMES = ("yesterday", "this morning", "this afternoon", "this evening")
_BLOCK = 2  # statements before each attempt to ask a question
_QUESTIONS = 5  # per story


class Stay(NamedTuple):
    """Where a person was at a time, an index into ``TIMES``."""

    person: str
    time: int
    place: str


class _StoryBuilder:
    """A story under construction.

    Attributes:
        past: the stays of each person, in order; two consecutive ones are in different places.
        facts: the last statement of each stay.
        order: the stays of the statements, in the order in which they happened.
    """

    def __init__(self, rng: Rng, settings: StorySettings) -> None:
        self.rng, self.settings = rng, settings
        self.past: dict[str, list[Stay]] = {person: [] for person in settings.people}
        self.facts: dict[Stay, int] = {}
        self.order: list[Stay] = []
        self.statements: list[str] = []
        self.questions: list[Question] = []

    def build(self) -> Story:
        return Story(tuple(self.statements), tuple(self.questions))

    def unfinished_people(self) -> list[str]:
        """Return the people whose day is not over."""
        return [person for person, stays in self.past.items() if len(stays) < len(TIMES)]

    def next_stay(self, person: str) -> Stay:
        """Add the next stay of a person; return it."""
        stays = self.past[person]
        here = stays[-1].place if stays else None
        place = self.rng.choice([place for place in self.settings.places if place != here])
        stays.append(Stay(person, len(stays), place))
        return stays[-1]

    def add_statements(self, stays: list[Stay]) -> None:
        """Add statements of some stays, none at its own position, as in the released stories."""
        self.order += stays
        for stay in _deranged(stays, self.rng):
            verb, time = self.rng.choice(GOING), TIMES[stay.time]
            going = f"{stay.person} {verb} the {stay.place}"
            is_first = self.rng.bernoulli(0.5)
            text = f"{time.capitalize()} {going}." if is_first else f"{going} {time}."
            self.facts[stay] = len(self.statements)
            self.statements.append(text)

    def askable(self, stays: list[Stay]) -> list[Stay]:
        """Return recent stays, ``stays`` included, for which "where before?" has an answer.

        As in the released stories, "before" a place means before the last visit to it.
        """
        order = [*self.order, *stays]
        recent = order if self.settings.reach is None else order[-self.settings.reach :]
        return [stay for stay in recent if stay.time > 0 and self._is_last_there(stay)]

    def _is_last_there(self, stay: Stay) -> bool:
        later = self.past[stay.person][stay.time + 1 :]
        return all(other.place != stay.place for other in later)

    def add_question(self) -> None:
        """Add a question on where a person was before a recent stay, if one has an answer."""
        if askable := self.askable([]):
            stay = self.rng.choice(askable)
            before = self.past[stay.person][stay.time - 1]
            text = f"Where was {stay.person} before the {stay.place}?"
            facts = self.facts[stay], self.facts[before]
            self.questions.append(Question(len(self.statements), text, before.place, facts))


def _deranged(stays: list[Stay], rng: Rng) -> list[Stay]:
    """Return a random derangement: no stay keeps its position."""
    while len(stays) > 1:
        drawn = rng.sample(range(len(stays)), len(stays))
        if all(place != number for place, number in enumerate(drawn)):
            return [stays[number] for number in drawn]
    return stays


def _generate(rng: Rng, settings: StorySettings) -> Story:
    """Return a story in the released shape; the days of few people allow fewer questions."""
    if length := draw_length(rng, settings, _BLOCK):
        return _story_of_length(rng, settings, length)
    story, block = _StoryBuilder(rng, settings), list[Stay]()
    while len(story.questions) < _QUESTIONS and (people := story.unfinished_people()):
        block.append(story.next_stay(rng.choice(people)))
        if len(block) % _BLOCK == 0 and story.askable(block):
            story.add_statements(block)
            story.add_question()
            block = []
    return story.build()


def _story_of_length(rng: Rng, settings: StorySettings, length: int) -> Story:
    """Return a story of ``length`` statements that ends in a question.

    If there are more statements than times, some stays are repeated in other words.
    """
    story = _StoryBuilder(rng, settings)
    repeat_probability = 1 - len(TIMES) * len(settings.people) / length
    assert settings.statements is not None
    first = max(settings.statements[0], _BLOCK, length - _BLOCK * (_QUESTIONS - 1))
    while len(story.statements) < length:
        left = length - len(story.statements)
        block = [
            _next_or_repeated(story, repeat_probability) for _ in range(left % _BLOCK or _BLOCK)
        ]
        if left == _BLOCK:
            block = _two_stays(story)
        story.add_statements(block)
        if len(story.statements) >= first:
            story.add_question()
    return story.build()


def _next_or_repeated(story: _StoryBuilder, repeat_probability: float) -> Stay:
    people = story.unfinished_people()
    if story.order and (not people or story.rng.bernoulli(repeat_probability)):
        return story.rng.choice(story.order)
    return story.next_stay(story.rng.choice(people))


def _two_stays(story: _StoryBuilder) -> list[Stay]:
    """Return the last two stays of a random person, which allow a question."""
    person = story.rng.choice(story.settings.people)
    while len(story.past[person]) < 2:
        story.next_stay(person)
    return story.past[person][-2:]


TIMES_OF_DAY = Task(
    _generate,
    lambda settings: check_length(settings, _BLOCK),
    frozenset({"people", "places"}),
    people=("Julie", "Mary", "Bill", "Fred"),
    places=("cinema", "office", "kitchen", "bedroom", "school", "park"),
)
