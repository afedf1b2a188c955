"""Task 20: people feel something, go where that can be helped, and get a thing that helps."""

from dataclasses import dataclass
from typing import NamedTuple

from memhop.data.stories.chance import Chance
from memhop.data.stories.kind import Dials, Kind
from memhop.data.stories.lengths import check_length, draw_length
from memhop.data.stories.words import GOING, TAKING
from memhop.data.story import Question, Story


class _Motive(NamedTuple):
    feeling: str
    place: str
    thing: str


_HUNGER = _Motive("hungry", "kitchen", "apple")
_THIRST = _Motive("thirsty", "kitchen", "milk")
_BOREDOM = _Motive("bored", "garden", "football")
_TIREDNESS = _Motive("tired", "bedroom", "pajamas")

_PEOPLE = ("Sumit", "Yann", "Jason", "Antoine")

_MOST_QUESTIONS = 12  # in a story; the most that a released one has


@dataclass
class _Person:
    """Somebody, and how far they are.

    Attributes:
        craving: what takes them to the kitchen; one thing only, so that whoever asks why they went
            there asks for one answer, however often they go.
        motive: what moves them now.
        step: what they do next: 0 feel, 1 go, 2 get the thing; 3 nothing more.
        felt: the statement that told the motive.
    """

    name: str
    craving: _Motive
    motive: _Motive
    step: int = 3
    felt: int = -1


class _Household:
    """The people and the things that are still to be had; each thing is there once.

    The people act in turns drawn by chance. Once nobody can do more, the things are put back, and
    all of them feel something new.

    Attributes:
        told: the statements.
        over: whether nobody can do more now.
    """

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self.told: list[str] = []
        self.taken: set[str] = set()
        self.people = []
        for name in _PEOPLE:
            craving = chance.pick((_HUNGER, _THIRST))
            self.people.append(_Person(name, craving, chance.pick(_motives(craving))))
        self._begin()

    @property
    def over(self) -> bool:
        return not any(map(self._can_act, self.people))

    def act(self) -> Question:
        """Lets somebody do the next thing, tells it, and asks about it."""
        able = [person for person in self.people if self._can_act(person)]
        if not able:
            self._move_on()
            able = self.people
        person = self.chance.pick(able)
        person.step += 1
        return (self._feel, self._go, self._get)[person.step - 1](person)

    def _can_act(self, person: _Person) -> bool:
        return person.step < 2 or (person.step == 2 and person.motive.thing not in self.taken)

    def _begin(self) -> None:
        self.taken.clear()
        for person in self.people:
            person.step = 0

    def _move_on(self) -> None:
        """Gives everybody a motive to go elsewhere."""
        for person in self.people:
            here = person.motive.place
            elsewhere = [one for one in _motives(person.craving) if one.place != here]
            person.motive = self.chance.pick(elsewhere)
        self._begin()

    def _feel(self, person: _Person) -> Question:
        person.felt = len(self.told)
        self.told.append(f"{person.name} is {person.motive.feeling}.")
        return self._question(person, "Where will {} go?", person.motive.place)

    def _go(self, person: _Person) -> Question:
        place = person.motive.place
        self.told.append(f"{person.name} {self.chance.pick(GOING)} the {place}.")
        return self._question(person, f"Why did {{}} go to the {place}?", person.motive.feeling)

    def _get(self, person: _Person) -> Question:
        thing = person.motive.thing
        self.taken.add(thing)
        self.told.append(f"{person.name} {self.chance.pick(TAKING)} the {thing} there.")
        return self._question(person, f"Why did {{}} get the {thing}?", person.motive.feeling)

    def _question(self, person: _Person, text: str, answer: str) -> Question:
        return Question(len(self.told), text.format(person.name.lower()), answer, (person.felt,))


def _motives(craving: _Motive) -> tuple[_Motive, ...]:
    """What may move somebody; the craving as often as the others together, as released."""
    return craving, craving, _BOREDOM, _TIREDNESS


def _tell(chance: Chance, dials: Dials) -> Story:
    """Four people with a motive each, in turns, and a question after each statement.

    Of the people with the same motive one gets the thing, whoever comes first. The supporting fact
    is always the motive. In the released shape the story is over when nobody can do more; at a
    given length everybody goes on to new motives, and at most the last 12 statements are asked of.
    """
    household = _Household(chance)
    length = draw_length(chance, dials, 1)
    questions: list[Question] = []
    while not household.over if length is None else len(questions) < length:
        questions.append(household.act())
    if dials.statements and length:
        first = max(dials.statements[0], length - _MOST_QUESTIONS + 1)
        questions = questions[first - 1 :]
    return Story(tuple(household.told), tuple(questions))


MOTIVES = Kind(_tell, lambda dials: check_length(dials, 1))
"""Task 20: where people will go, and why they did something."""
