"""The kinds of story, each a short declaration over the world and its reader."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from memhop.data.stories.chance import Chance
from memhop.data.stories.reader import Reader
from memhop.data.stories.words import GOING, PUTTING, TAKING
from memhop.data.stories.world import GO, PUT, TAKE, Action, Event, World
from memhop.data.story import Question


class Candidate(NamedTuple):
    """A question that the reader can answer now, and how likely it is to be asked."""

    likelihood: float
    question: Question


@dataclass(frozen=True)
class Task:
    """One kind of story.

    Attributes:
        actions: what people do in it.
        phrases: for each action its wordings, each as likely; ``{0}`` is the person, ``{1}`` the
            place or thing.
        candidates: the questions that its reader can answer.
        fewest: the least number of statements before a question of this kind.
        lead: the next event on the shortest way to a question; needed where ``fewest`` is above 1.
        gap: statements told before each question, or before each try to find one.
        questions: questions a story.
    """

    actions: tuple[Action, ...]
    phrases: Mapping[str, tuple[str, ...]]
    candidates: Callable[[Reader, Chance], list[Candidate]]
    fewest: int = 1
    lead: Callable[[World], Event] | None = None
    gap: int = 2
    questions: int = 5


def _where_is_person(reader: Reader, chance: Chance) -> list[Candidate]:
    """Task 1: one fact, where the person was last seen."""
    return [
        Candidate(1.0, Question(reader.count, f"Where is {person}?", seen.place, (seen.fact,)))
        for person, seen in reader.person_at.items()
    ]


def _where_is_thing(reader: Reader, chance: Chance) -> list[Candidate]:
    """Task 2: the last act on the thing, and the stop that tells where its holder was.

    As in the released stories, nobody asks for a thing in hand before it was carried somewhere.
    """
    found = []
    for thing, carrying in reader.carrying.items():
        if carrying.put is None:
            stop, likelihood = (carrying.stops[-1] if carrying.stops else None), 0.6
        else:
            stop, likelihood = carrying.put_at, 0.8
        if stop:
            facts = (carrying.last_act, stop.fact)
            question = Question(reader.count, f"Where is the {thing}?", stop.place, facts)
            found.append(Candidate(likelihood, question))
    return found


def _where_was_thing(reader: Reader, chance: Chance) -> list[Candidate]:
    """Task 3: the last act on the thing, and two stops on its way, the later one named.

    The later stop is the last time that the thing came to that place, so that "before" has one
    meaning; mostly it is the last stop of all.
    """
    found = []
    for thing, carrying in reader.carrying.items():
        stops = carrying.stops
        if len(stops) < 2:
            continue
        last = len(stops) - 1
        while last > 1 and chance.happens(0.2):
            last -= 1
        before, there = stops[last - 1], stops[last]
        if any(stop.place == there.place for stop in stops[last + 1 :]):
            before, there = stops[-2:]
        text = f"Where was the {thing} before the {there.place}?"
        facts = (carrying.last_act, there.fact, before.fact)
        question = Question(reader.count, text, before.place, facts)
        found.append(Candidate(0.15 if carrying.put is None else 0.55, question))
    return found


def _carry(world: World) -> Event:
    """Goes on with a thing in hand; else takes one; else goes to where one is."""
    chance = world.chance
    for holder in world.held_by.values():
        return Event(GO, holder, chance.pick(GO.targets(world, holder)))
    beside = [person for person in world.people if TAKE.targets(world, person)]
    if beside:
        person = chance.pick(beside)
        return Event(TAKE, person, chance.pick(TAKE.targets(world, person)))
    return Event(GO, chance.pick(world.people), chance.pick(list(world.thing_at.values())))


def _forms(verbs: tuple[str, ...], *endings: str) -> tuple[str, ...]:
    return tuple(f"{{0}} {verb} the {{1}}{ending}." for ending in endings for verb in verbs)


_GOING = _forms(GOING, "")
# In the released stories one act in five on a thing says "there"; in task 2 every taking does.
_ONE_IN_FIVE = ("", "", "", "", " there")
_PUTTING = _forms(PUTTING, *_ONE_IN_FIVE)

TASKS: dict[int, Task] = {
    1: Task(
        actions=(GO,),
        phrases={"go": _GOING},
        candidates=_where_is_person,
    ),
    2: Task(
        actions=(GO, TAKE, PUT),
        phrases={"go": _GOING, "take": _forms(TAKING, " there"), "put": _PUTTING},
        candidates=_where_is_thing,
        fewest=2,
        lead=_carry,
    ),
    3: Task(
        actions=(GO, TAKE, PUT),
        phrases={"go": _GOING, "take": _forms(TAKING, *_ONE_IN_FIVE), "put": _PUTTING},
        candidates=_where_was_thing,
        fewest=3,
        lead=_carry,
    ),
}
"""The tasks that can be generated, by their released numbers."""
