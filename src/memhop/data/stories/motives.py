"""Task 20: people feel something, go to a place, and get a thing that helps."""

from dataclasses import dataclass
from typing import NamedTuple

from memhop.data.stories.task import (
    GOING,
    TAKING,
    StorySettings,
    Task,
    check_length,
    draw_length,
)
from memhop.data.story import Question, Story
from memhop.rng import Rng


class _Motive(NamedTuple):
    feeling: str
    place: str
    thing: str


_HUNGER = _Motive("hungry", "kitchen", "apple")
_THIRST = _Motive("thirsty", "kitchen", "milk")
_BOREDOM = _Motive("bored", "garden", "football")
_TIREDNESS = _Motive("tired", "bedroom", "pajamas")

_PEOPLE = ("Sumit", "Yann", "Jason", "Antoine")

_MAX_QUESTIONS = 12  # per story, as in the released files


@dataclass
class _Person:
    """A person and their progress.

    Attributes:
        craving: what takes them to the kitchen; only one of the two, so that "why did they go to
            the kitchen" has one answer.
        motive: the current motive.
        step: the next step: 0 feel, 1 go, 2 get the thing; 3 nothing more.
        motive_fact: the statement of the motive.
    """

    name: str
    craving: _Motive
    motive: _Motive
    step: int = 3
    motive_fact: int = -1


class _Household:
    """People, and things of which each can be taken once.

    A random person acts next. When nobody can act any more, the things are put back, and everybody
    has a new motive.
    """

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.statements: list[str] = []
        self.taken: set[str] = set()
        self.people = []
        for name in _PEOPLE:
            craving = rng.choice((_HUNGER, _THIRST))
            self.people.append(_Person(name, craving, rng.choice(_motives(craving))))
        self._start()

    @property
    def is_finished(self) -> bool:
        return not any(map(self._can_act, self.people))

    def act(self) -> Question:
        """Let a person take the next step; return a question about it."""
        able = [person for person in self.people if self._can_act(person)]
        if not able:
            self._change_motives()
            able = self.people
        person = self.rng.choice(able)
        person.step += 1
        return (self._feel, self._go, self._get)[person.step - 1](person)

    def _can_act(self, person: _Person) -> bool:
        return person.step < 2 or (person.step == 2 and person.motive.thing not in self.taken)

    def _start(self) -> None:
        self.taken.clear()
        for person in self.people:
            person.step = 0

    def _change_motives(self) -> None:
        """Give everybody a motive to go elsewhere."""
        for person in self.people:
            here = person.motive.place
            elsewhere = [one for one in _motives(person.craving) if one.place != here]
            person.motive = self.rng.choice(elsewhere)
        self._start()

    def _feel(self, person: _Person) -> Question:
        person.motive_fact = len(self.statements)
        self.statements.append(f"{person.name} is {person.motive.feeling}.")
        return self._question(person, "Where will {} go?", person.motive.place)

    def _go(self, person: _Person) -> Question:
        place = person.motive.place
        self.statements.append(f"{person.name} {self.rng.choice(GOING)} the {place}.")
        return self._question(person, f"Why did {{}} go to the {place}?", person.motive.feeling)

    def _get(self, person: _Person) -> Question:
        thing = person.motive.thing
        self.taken.add(thing)
        self.statements.append(f"{person.name} {self.rng.choice(TAKING)} the {thing} there.")
        return self._question(person, f"Why did {{}} get the {thing}?", person.motive.feeling)

    def _question(self, person: _Person, text: str, answer: str) -> Question:
        text = text.format(person.name.lower())
        return Question(len(self.statements), text, answer, (person.motive_fact,))


def _motives(craving: _Motive) -> tuple[_Motive, ...]:
    """Return possible motives; the craving as often as the others together, as released."""
    return craving, craving, _BOREDOM, _TIREDNESS


def _generate(rng: Rng, settings: StorySettings) -> Story:
    """Return a story of four people with a motive each, and a question after each statement.

    Of the people with the same motive, the first one gets the thing. The supporting fact is always
    the motive. In the released shape the story ends when nobody can act any more; at a given length
    everybody gets new motives, and questions follow at most the last 12 statements.
    """
    household = _Household(rng)
    length = draw_length(rng, settings, 1)
    questions: list[Question] = []
    while not household.is_finished if length is None else len(questions) < length:
        questions.append(household.act())
    if settings.statements and length:
        first = max(settings.statements[0], length - _MAX_QUESTIONS + 1)
        questions = questions[first - 1 :]
    return Story(tuple(household.statements), tuple(questions))


MOTIVES = Task(_generate, lambda settings: check_length(settings, 1))
"""Task 20: where people will go, and why they did something."""
