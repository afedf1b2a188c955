"""Tells one story of people who move: lets the world go on, says what happens, and asks."""

from memhop.data.stories.chance import Chance
from memhop.data.stories.kind import Dials, check_range
from memhop.data.stories.lengths import check_length, draw_length
from memhop.data.stories.moving import Task
from memhop.data.stories.reader import Reader
from memhop.data.stories.words import WOMEN
from memhop.data.stories.world import Event, World
from memhop.data.story import Question, Story

GAP = 2  # statements before each question, or before each try to find one
QUESTIONS = 5  # a story

# How often a story of given length is begun anew, because no question can be answered at its end,
# before it is led to one. Stories that are led end in the facts of their question; few should be.
_BEGINNINGS = 50


def tell(task: Task, chance: Chance, dials: Dials) -> Story:
    """One story, in the released shape or of a length drawn from ``dials.statements``."""
    length = draw_length(chance, dials, task.fewest)
    return _at_length(task, chance, dials, length) if length else _freely(task, chance, dials)


def check(task: Task, dials: Dials) -> None:
    """Refuses dials that leave nothing to tell."""
    check_range("people", len(dials.people), task.least_people)
    check_range("places", len(dials.places), task.least_places)
    check_length(dials, task.fewest)
    if dials.reach is not None:
        check_range("reach", dials.reach, task.least_reach)


class Telling:
    """A story while it is being told.

    ``alone`` says that its first event is followed by none, where every second one follows.
    """

    def __init__(self, task: Task, chance: Chance, dials: Dials, alone: bool = False) -> None:
        self.task, self.chance, self.reach = task, chance, dials.reach
        self.alone = alone
        self.world = World(dials.people, dials.places, dials.things, chance)
        self.reader = Reader(dials.places)
        self.statements: list[str] = []
        self.questions: list[Question] = []

    def story(self) -> Story:
        """What has been told so far."""
        return Story(tuple(self.statements), tuple(self.questions))

    def tell(self, event: Event | None = None) -> None:
        """Lets something happen, by chance if no event is given, and tells it."""
        event = self.world.do(event) if event else self._happen()
        self.reader.hear(event)
        phrase = self.chance.pick(self.task.phrases[event.action])
        pronoun = "she" if event.person in WOMEN else "he"
        self.statements.append(phrase.format(event.person, event.target, event.other, pronoun))

    def _happen(self) -> Event:
        events, follow = self.reader.events, self.task.follow
        if not follow or not events or (len(events) - self.alone) % 2 == 0:
            return self.world.happen(self.task.actions)
        _, person, here, other = events[-1]
        place = self.chance.pick([place for place in self.world.places if place != here])
        return self.world.do(Event(follow.name, person, place, other))

    def ask(self) -> bool:
        """Asks of something within reach, if there is a question that can be answered."""
        acts = self.reader.acts
        recent = acts if self.reach is None else acts[-self.reach :]
        found = [f for act in recent if (f := self.task.ask(self.reader, act, self.chance))]
        if found:
            text, answer, facts = self.chance.pick(found)
            self.questions.append(Question(len(self.statements), text, answer, facts))
        return bool(found)


def _freely(task: Task, chance: Chance, dials: Dials) -> Story:
    """A story in the released shape: as long as its questions need."""
    telling = Telling(task, chance, dials)
    while len(telling.questions) < QUESTIONS:
        for _ in range(GAP):
            telling.tell()
        telling.ask()
    return telling.story()


def _at_length(task: Task, chance: Chance, dials: Dials, length: int) -> Story:
    """A story whose last question has ``length`` statements before it, and stands at its end."""
    assert dials.statements is not None
    first = max(dials.statements[0], task.fewest, length - GAP * (QUESTIONS - 1))
    for _ in range(_BEGINNINGS):
        telling = Telling(task, chance, dials, alone=length % 2 == 1)
        if _told(telling, length, first):
            return telling.story()
    telling = Telling(task, chance, dials, alone=length % 2 == 1)
    if length < task.led:
        telling.world.gather()
    _told(telling, length, first, led=task.led)
    return telling.story()


def _told(telling: Telling, length: int, first: int, *, led: int = 0) -> bool:
    """Tells ``length`` statements, of which the last ``led`` are led; says if a question ends them.

    Questions stand after statement ``first`` at the earliest.
    """
    lead = telling.task.lead(telling.world) if telling.task.lead else None
    asked = False
    for count in range(1, length + 1):
        telling.tell(next(lead) if lead and count > length - led else None)
        if count >= first and (length - count) % GAP == 0:
            asked = telling.ask()
    return asked
