"""The kinds of story, each a short declaration over the world and its reader."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from memhop.data.stories.chance import Chance
from memhop.data.stories.reader import Reader
from memhop.data.stories.words import GOING, PUTTING, TAKING
from memhop.data.stories.world import GO, PUT, TAKE, Action, Event, World


class Finding(NamedTuple):
    """A question that the reader can answer now."""

    text: str
    answer: str
    facts: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """One kind of story.

    Attributes:
        actions: what people do in it.
        phrases: for each action its wordings, each as likely; ``{0}`` is the person, ``{1}`` the
            place or thing.
        ask: a question about whom or what an event concerns, if its reader can answer one.
        fewest: the least number of statements before a question of this kind.
        lead: events that bring a question within ``fewest`` + 1 statements, or within ``fewest``
            if nothing is held and somebody is beside a thing; needed where ``fewest`` is above 1.
        gap: statements told before each question, or before each try to find one.
        questions: questions a story.
    """

    actions: tuple[Action, ...]
    phrases: Mapping[str, tuple[str, ...]]
    ask: Callable[[Reader, Event, Chance], Finding | None]
    fewest: int = 1
    lead: Callable[[World], Iterator[Event]] | None = None
    gap: int = 2
    questions: int = 5


def _where_is_person(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """Task 1: one fact, where the person was last seen."""
    seen = reader.person_at[event.person]
    return Finding(f"Where is {event.person}?", seen.place, (seen.fact,))


def _where_is_thing(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """Task 2: the last act on the thing, and the stop that tells where its holder was.

    As in the released stories, nobody asks for a thing in hand before it was carried somewhere.
    """
    carrying = reader.carrying.get(event.target)
    if not carrying:
        return None
    stop = carrying.stops[-1] if carrying.stops else carrying.put_at
    if not stop:
        return None
    return Finding(f"Where is the {event.target}?", stop.place, (carrying.last_act, stop.fact))


def _where_was_thing(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """Task 3: the last act on the thing, and two stops on its way, the later one named.

    The later stop is the last time that the thing came to that place, so that "before" has one
    meaning; mostly it is the last stop of all.
    """
    carrying = reader.carrying.get(event.target)
    if not carrying or len(carrying.stops) < 2:
        return None
    stops = carrying.stops
    later = len(stops) - 1
    while later > 1 and chance.happens(0.2):
        later -= 1
    if any(stop.place == stops[later].place for stop in stops[later + 1 :]):
        later = len(stops) - 1
    before, there = stops[later - 1], stops[later]
    text = f"Where was the {event.target} before the {there.place}?"
    return Finding(text, before.place, (carrying.last_act, there.fact, before.fact))


def _carry(world: World) -> Iterator[Event]:
    """Somebody takes a thing, after one step at most, and carries it on and on."""
    chance = world.chance
    if world.held_by:
        thing, person = chance.pick(list(world.held_by.items()))
        yield Event(PUT, person, thing)
    else:
        beside = [person for person in world.people if TAKE.targets(world, person)]
        person = chance.pick(beside or world.people)
        if not beside:
            yield Event(GO, person, chance.pick(list(world.thing_at.values())))
        thing = chance.pick(TAKE.targets(world, person))
    yield Event(TAKE, person, thing)
    while True:
        yield Event(GO, person, chance.pick(GO.targets(world, person)))


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
        ask=_where_is_person,
    ),
    2: Task(
        actions=(GO, TAKE, PUT),
        phrases={"go": _GOING, "take": _forms(TAKING, " there"), "put": _PUTTING},
        ask=_where_is_thing,
        fewest=2,
        lead=_carry,
    ),
    3: Task(
        actions=(GO, TAKE, PUT),
        phrases={"go": _GOING, "take": _forms(TAKING, *_ONE_IN_FIVE), "put": _PUTTING},
        ask=_where_was_thing,
        fewest=3,
        lead=_carry,
    ),
}
"""The tasks that can be generated, by their released numbers."""
