"""A small world that is simulated: people, places, things, and what people can do.

The world holds the truth, including what no statement has told yet; what can be concluded from the
statements alone is kept apart, in :mod:`memhop.data.stories.reader`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from memhop.data.stories.chance import Chance


class Event(NamedTuple):
    """Something that happened: who did what, to which place or thing."""

    action: "Action"
    person: str
    target: str


@dataclass(frozen=True)
class Action:
    """What people can do.

    Attributes:
        name: by which readers and phrases know it.
        targets: the precondition: to which places or things a person can do it now.
        effect: what it changes in the world.
    """

    name: str
    targets: "Callable[[World, str], Sequence[str]]"
    effect: "Callable[[World, str, str], None]"


class World:
    """Where everyone and everything is.

    Attributes:
        person_at: the place of each person.
        thing_at: the place of each thing that nobody holds.
        held_by: the holder of each thing that somebody holds.
    """

    def __init__(
        self, people: Sequence[str], places: Sequence[str], things: Sequence[str], chance: Chance
    ) -> None:
        self.people = people
        self.places = places
        self.chance = chance
        self.person_at = {person: chance.pick(places) for person in people}
        self.thing_at = {thing: chance.pick(places) for thing in things}
        self.held_by: dict[str, str] = {}

    def happen(self, actions: Sequence[Action]) -> Event:
        """Draws a person and an action until the one can do the other, and lets it happen.

        So whoever can do more does more, as in the released stories.
        """
        while True:
            person, action = self.chance.pick(self.people), self.chance.pick(actions)
            if targets := action.targets(self, person):
                return self.do(Event(action, person, self.chance.pick(targets)))

    def do(self, event: Event) -> Event:
        """Changes the world by ``event``."""
        event.action.effect(self, event.person, event.target)
        return event


def _elsewhere(world: World, person: str) -> Sequence[str]:
    here = world.person_at[person]
    return [place for place in world.places if place != here]


def _things_here(world: World, person: str) -> Sequence[str]:
    here = world.person_at[person]
    return [thing for thing, place in world.thing_at.items() if place == here]


def _things_in_hand(world: World, person: str) -> Sequence[str]:
    return [thing for thing, holder in world.held_by.items() if holder == person]


def _go(world: World, person: str, place: str) -> None:
    world.person_at[person] = place


def _take(world: World, person: str, thing: str) -> None:
    del world.thing_at[thing]
    world.held_by[thing] = person


def _put(world: World, person: str, thing: str) -> None:
    del world.held_by[thing]
    world.thing_at[thing] = world.person_at[person]


GO = Action("go", _elsewhere, _go)
TAKE = Action("take", _things_here, _take)
PUT = Action("put", _things_in_hand, _put)
