"""Tells one story: lets the world go on, puts each event into words, and asks."""

from collections.abc import Sequence
from dataclasses import dataclass

from memhop.data.stories.chance import Chance
from memhop.data.stories.reader import Reader
from memhop.data.stories.tasks import Task
from memhop.data.stories.world import World
from memhop.data.story import Question, Story

# How often a story of given length is begun anew, because no question can be answered at its end,
# before it is led to one. Stories that are led end in the facts of their question; few should be.
_BEGINNINGS = 50


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about."""

    people: Sequence[str]
    places: Sequence[str]
    things: Sequence[str]


class Telling:
    """A story while it is being told."""

    def __init__(self, task: Task, cast: Cast, chance: Chance) -> None:
        self.task = task
        self.chance = chance
        self.world = World(cast.people, cast.places, cast.things, chance)
        self.reader = Reader()
        self.statements: list[str] = []
        self.questions: list[Question] = []

    def story(self) -> Story:
        """What has been told so far."""
        return Story(tuple(self.statements), tuple(self.questions))

    def tell(self, *, led: bool = False) -> None:
        """Lets one thing happen and tells it."""
        lead = self.task.lead
        if led and lead:
            event = self.world.do(lead(self.world))
        else:
            event = self.world.happen(self.task.actions)
        self.reader.hear(event)
        phrase = self.chance.pick(self.task.phrases[event.action.name])
        self.statements.append(phrase.format(event.person, event.target))

    def ask(self, *, insist: bool = False) -> bool:
        """Asks a question that the reader can answer, if there is one and chance offers it.

        With ``insist`` it is asked whenever there is one.
        """
        offered: list[Question] = []
        while not offered:
            candidates = self.task.candidates(self.reader, self.chance)
            offered = [c.question for c in candidates if self.chance.happens(c.likelihood)]
            if not (insist and candidates):
                break
        if offered:
            self.questions.append(self.chance.pick(offered))
        return bool(offered)


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
        if _told(telling, length, first, led_from=length):
            return telling.story()
    telling = Telling(task, cast, chance)
    # Where the shortest way is all that there is time for, its first step must be open.
    for thing in cast.things[:1]:
        telling.world.thing_at[thing] = telling.world.person_at[cast.people[0]]
    _told(telling, length, first, led_from=length - task.fewest - 1)
    return telling.story()


def _told(telling: Telling, length: int, first: int, *, led_from: int) -> bool:
    """Tells ``length`` statements, led from one of them on; False without a last question."""
    for count in range(1, length + 1):
        telling.tell(led=count > led_from)
        if count >= first and (length - count) % telling.task.gap == 0:
            asked = telling.ask(insist=count == length)
    return asked
