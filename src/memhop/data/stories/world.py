"""A small world that is simulated: people, places, things, and what people can do.

The world holds the truth, including what no statement has told yet; what can be concluded from the
statements alone is kept apart, in :mod:`memhop.data.stories.reader`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from memhop.data.stories.chance import Chance


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        action: what was done, by the name of an `Action`.
        person: who did it.
        target: the place or thing.
        other: to whom a thing was given, who came along, or a second place.
    """

    action: str
    person: str
    target: str
    other: str = ""


@dataclass(frozen=True)
class Action:
    """What people can do.

    Attributes:
        name: by which readers and phrases know it.
        targets: the precondition: with which targets, and others, a person can do it now.
        effect: what it changes in the world.
    """

    name: str
    targets: "Callable[[World, str], Sequence[tuple[str, ...]]]"
    effect: "Callable[[World, Event], None]"


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
                return self.do(Event(action.name, person, *self.chance.pick(targets)))

    def do(self, event: Event) -> Event:
        """Changes the world by ``event``."""
        ACTIONS[event.action].effect(self, event)
        return event

    def gather(self) -> None:
        """Puts the first thing where the first person is, and everybody else there too."""
        here = self.person_at[self.people[0]]
        self.person_at = dict.fromkeys(self.people, here)
        if self.thing_at:
            self.thing_at[next(iter(self.thing_at))] = here


def _elsewhere(world: World, person: str) -> Sequence[tuple[str, ...]]:
    here = world.person_at[person]
    return [(place,) for place in world.places if place != here]


def _elsewhere_together(world: World, person: str) -> Sequence[tuple[str, ...]]:
    return [
        (place, other)
        for other in world.people
        if other != person
        for place in world.places
        if place not in (world.person_at[person], world.person_at[other])
    ]


def _things_here(world: World, person: str) -> Sequence[tuple[str, ...]]:
    here = world.person_at[person]
    return [(thing,) for thing, place in world.thing_at.items() if place == here]


def _things_in_hand(world: World, person: str) -> Sequence[tuple[str, ...]]:
    return [(thing,) for thing, holder in world.held_by.items() if holder == person]


def _things_to_give(world: World, person: str) -> Sequence[tuple[str, ...]]:
    here = world.person_at[person]
    beside = [other for other, at in world.person_at.items() if at == here and other != person]
    return [(thing, other) for (thing,) in _things_in_hand(world, person) for other in beside]


def _go(world: World, event: Event) -> None:
    world.person_at[event.person] = event.target


def _go_together(world: World, event: Event) -> None:
    world.person_at[event.person] = world.person_at[event.other] = event.target


def _take(world: World, event: Event) -> None:
    del world.thing_at[event.target]
    world.held_by[event.target] = event.person


def _put(world: World, event: Event) -> None:
    del world.held_by[event.target]
    world.thing_at[event.target] = world.person_at[event.person]


def _give(world: World, event: Event) -> None:
    world.held_by[event.target] = event.other


def _move_from(world: World, event: Event) -> None:
    world.person_at[event.person] = event.other


def _from_here(world: World, person: str) -> Sequence[tuple[str, ...]]:
    here = world.person_at[person]
    return [(here, *there) for there in _elsewhere(world, person)]


def _here_or_there(world: World, person: str) -> Sequence[tuple[str, ...]]:
    return [(place, other) for (place,) in _elsewhere(world, person)
            for other in world.places if other != place]  # fmt: skip


GO = Action("go", _elsewhere, _go)
GO_ON = Action("go on", _elsewhere, _go)
GO_TOGETHER = Action("go together", _elsewhere_together, _go_together)
GO_ON_TOGETHER = Action("go on together", _elsewhere_together, _go_together)
TAKE = Action("take", _things_here, _take)
PUT = Action("put", _things_in_hand, _put)
GIVE = Action("give", _things_to_give, _give)
# Nobody sees how they went; it is said where they are now, where no more, or two places of
# which one is it.
BE = Action("be", _elsewhere, _go)
BE_GONE = Action("be gone", _from_here, _move_from)
BE_EITHER = Action("be either", _here_or_there, _go)
ACTIONS = {
    action.name: action
    for action in (
        *(GO, GO_ON, GO_TOGETHER, GO_ON_TOGETHER, TAKE, PUT, GIVE, BE, BE_GONE, BE_EITHER),
    )
}
