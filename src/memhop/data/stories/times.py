"""Task 14: who was where at which time of the day, told out of order."""

from typing import NamedTuple

from memhop.data.stories.chance import Chance
from memhop.data.stories.kind import Dials, Kind
from memhop.data.stories.lengths import check_length, draw_length
from memhop.data.stories.words import GOING
from memhop.data.story import Question, Story

TIMES = ("yesterday", "this morning", "this afternoon", "this evening")
_BLOCK = 2  # statements before each question, or before each try to find one
_QUESTIONS = 5  # a story


class Stay(NamedTuple):
    """Where somebody was at one of the times, by its place in ``TIMES``."""

    person: str
    time: int
    place: str


class _Days:
    """What happens to everybody, time after time, and what was told of it.

    Attributes:
        past: the stays of each person, in their order; no two that follow are in one place.
        told: the statement, by its position, that last told of a stay.
        order: the stays that were told, in the order in which they happened.
    """

    def __init__(self, chance: Chance, dials: Dials) -> None:
        self.chance, self.dials = chance, dials
        self.past: dict[str, list[Stay]] = {person: [] for person in dials.people}
        self.told: dict[Stay, int] = {}
        self.order: list[Stay] = []
        self.statements: list[str] = []
        self.questions: list[Question] = []

    def story(self) -> Story:
        return Story(tuple(self.statements), tuple(self.questions))

    def people_with_time(self) -> list[str]:
        """Whose day is not over."""
        return [person for person, stays in self.past.items() if len(stays) < len(TIMES)]

    def happen(self, person: str) -> Stay:
        """The next time of a day."""
        stays = self.past[person]
        here = stays[-1].place if stays else None
        place = self.chance.pick([place for place in self.dials.places if place != here])
        stays.append(Stay(person, len(stays), place))
        return stays[-1]

    def tell(self, stays: list[Stay]) -> None:
        """Tell of some stays, each out of its turn, as the released stories do."""
        self.order += stays
        for stay in _out_of_turn(stays, self.chance):
            verb, time = self.chance.pick(GOING), TIMES[stay.time]
            going = f"{stay.person} {verb} the {stay.place}"
            begins = self.chance.happens(0.5)
            text = f"{time.capitalize()} {going}." if begins else f"{going} {time}."
            self.told[stay] = len(self.statements)
            self.statements.append(text)

    def askable(self, stays: list[Stay]) -> list[Stay]:
        """Of the stays told of last, and of these, those of which can be asked what was before.

        As in the released stories "before" a place is before the last time there.
        """
        order = [*self.order, *stays]
        recent = order if self.dials.reach is None else order[-self.dials.reach :]
        return [stay for stay in recent if stay.time > 0 and self._is_last_there(stay)]

    def _is_last_there(self, stay: Stay) -> bool:
        later = self.past[stay.person][stay.time + 1 :]
        return all(other.place != stay.place for other in later)

    def ask(self) -> bool:
        """Ask where somebody was before one of the stays told of last, if that can be known."""
        if askable := self.askable([]):
            stay = self.chance.pick(askable)
            before = self.past[stay.person][stay.time - 1]
            text = f"Where was {stay.person} before the {stay.place}?"
            facts = self.told[stay], self.told[before]
            self.questions.append(Question(len(self.statements), text, before.place, facts))
        return bool(askable)


def _out_of_turn(stays: list[Stay], chance: Chance) -> list[Stay]:
    """An order in which none has the place that it had, drawn evenly from these."""
    while len(stays) > 1:
        drawn = chance.sample(range(len(stays)), len(stays))
        if all(place != number for place, number in enumerate(drawn)):
            return [stays[number] for number in drawn]
    return stays


def _tell(chance: Chance, dials: Dials) -> Story:
    length = draw_length(chance, dials, _BLOCK)
    return _at_length(chance, dials, length) if length else _freely(chance, dials)


def _freely(chance: Chance, dials: Dials) -> Story:
    """In the released shape; where the days of few people are over, with fewer questions."""
    days, block = _Days(chance, dials), list[Stay]()
    while len(days.questions) < _QUESTIONS and (people := days.people_with_time()):
        block.append(days.happen(chance.pick(people)))
        if len(block) % _BLOCK == 0 and days.askable(block):
            days.tell(block)
            days.ask()
            block = []
    return days.story()


def _at_length(chance: Chance, dials: Dials, length: int) -> Story:
    """A story whose last question has ``length`` statements before it, and stands at its end.

    What was told is told again, in other words, where there are more statements than times.
    """
    days = _Days(chance, dials)
    again = 1 - len(TIMES) * len(dials.people) / length
    assert dials.statements is not None
    first = max(dials.statements[0], _BLOCK, length - _BLOCK * (_QUESTIONS - 1))
    while len(days.statements) < length:
        left = length - len(days.statements)
        block = [_next_or_again(days, again) for _ in range(left % _BLOCK or _BLOCK)]
        if left == _BLOCK:
            block = _two_of_one(days)
        days.tell(block)
        if len(days.statements) >= first:
            days.ask()
    return days.story()


def _next_or_again(days: _Days, again: float) -> Stay:
    people = days.people_with_time()
    if days.order and (not people or days.chance.happens(again)):
        return days.chance.pick(days.order)
    return days.happen(days.chance.pick(people))


def _two_of_one(days: _Days) -> list[Stay]:
    """The last two stays of somebody, so that something can be asked."""
    person = days.chance.pick(days.dials.people)
    while len(days.past[person]) < 2:
        days.happen(person)
    return days.past[person][-2:]


TIMES_OF_DAY = Kind(
    _tell,
    lambda dials: check_length(dials, _BLOCK),
    frozenset({"people", "places"}),
    people=("Julie", "Mary", "Bill", "Fred"),
    places=("cinema", "office", "kitchen", "bedroom", "school", "park"),
)
