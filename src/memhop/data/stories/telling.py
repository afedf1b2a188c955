"""Tells one story: lets the world go on, puts each event into words, and asks."""

from collections.abc import Sequence
from dataclasses import dataclass

from memhop.data.stories.chance import Chance
from memhop.data.stories.reader import Reader
from memhop.data.stories.tasks import Task
from memhop.data.stories.world import Event, World
from memhop.data.story import Question, Story

# How often a story of given length is begun anew, because no question can be answered at its end,
# before it is led to one. Stories that are led end in the facts of their question; few should be.
_BEGINNINGS = 50


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about.

    Attributes:
        reach: of how many of the last statements somebody asks; None for all.
    """

    people: Sequence[str]
    places: Sequence[str]
    things: Sequence[str]
    reach: int | None


class Telling:
    """A story while it is being told."""

    def __init__(self, task: Task, cast: Cast, chance: Chance) -> None:
        self.task = task
        self.reach = cast.reach
        self.chance = chance
        self.world = World(cast.people, cast.places, cast.things, chance)
        self.reader = Reader()
        self.statements: list[str] = []
        self.questions: list[Question] = []

    def story(self) -> Story:
        """What has been told so far."""
        return Story(tuple(self.statements), tuple(self.questions))

    def tell(self, event: Event | None = None) -> None:
        """Lets something happen, by chance if no event is given, and tells it."""
        event = self.world.do(event) if event else self.world.happen(self.task.actions)
        self.reader.hear(event)
        phrase = self.chance.pick(self.task.phrases[event.action.name])
        self.statements.append(phrase.format(event.person, event.target))

    def ask(self) -> bool:
        """Asks of something within reach, if there is a question that can be answered."""
        events = self.reader.events
        recent = events if self.reach is None else events[-self.reach :]
        found = [f for e in recent if (f := self.task.ask(self.reader, e, self.chance))]
        if found:
            text, answer, facts = self.chance.pick(found)
            self.questions.append(Question(len(events), text, answer, facts))
        return bool(found)


def tell_freely(task: Task, cast: Cast, chance: Chance) -> Story:
    """A story in the released shape: as long as its questions need."""
    telling = Telling(task, cast, chance)
    while len(telling.questions) < task.questions:
        for _ in range(task.gap):
            telling.tell()
        telling.ask()
    return telling.story()


def tell_at_length(task: Task, cast: Cast, chance: Chance, fewest: int, most: int) -> Story:
    """A story whose every question has ``fewest`` to ``most`` statements before it.

    Its length is drawn evenly from that range; the last question stands at its end.
    """
    length = fewest + chance.below(most - fewest + 1)
    first = max(fewest, length - task.gap * (task.questions - 1))
    for _ in range(_BEGINNINGS):
        telling = Telling(task, cast, chance)
        if _told(telling, length, first):
            return telling.story()
    telling = Telling(task, cast, chance)
    if length == task.fewest:
        telling.world.thing_at[cast.things[0]] = telling.world.person_at[cast.people[0]]
    _told(telling, length, first, led=task.fewest + 1)
    return telling.story()


def _told(telling: Telling, length: int, first: int, *, led: int = 0) -> bool:
    """Tells ``length`` statements, of which the last ``led`` are led; says if a question ends them.

    Questions stand after statement ``first`` at the earliest.
    """
    lead = telling.task.lead(telling.world) if telling.task.lead else None
    asked = False
    for count in range(1, length + 1):
        telling.tell(next(lead) if lead and count > length - led else None)
        if count >= first and (length - count) % telling.task.gap == 0:
            asked = telling.ask()
    return asked
