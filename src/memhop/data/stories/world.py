"""A simulated world: people, places, things, and the actions of people.

The world knows everything; :mod:`memhop.data.stories.reader` knows only the statements.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from memhop.rng import Rng


class Event(NamedTuple):
    """An action of a person.

    Attributes:
        action: the name of an `Action`.
        person: who does it.
        target: the place or thing.
        other: who receives a thing or comes along, or a second place.
    """

    action: str
    person: str
    target: str
    other: str = ""


@dataclass(frozen=True)
class Action:
    """A kind of action.

    Attributes:
        name: its key in `MovingTask.phrases`.
        targets: return the possible targets (and others) for a person; empty if impossible.
        effect: change the world.
    """

    name: str
    targets: "Callable[[World, str], Sequence[tuple[str, ...]]]"
    effect: "Callable[[World, Event], None]"


class World:
    """Where everyone and everything is.

    Attributes:
        person_at: the place of each person.
        thing_at: the place of each thing that nobody holds.
        held_by: the holder of each other thing.
    """

    def __init__(
        self, people: Sequence[str], places: Sequence[str], things: Sequence[str], rng: Rng
    ) -> None:
        self.people = people
        self.places = places
        self.rng = rng
        self.person_at = {person: rng.choice(places) for person in people}
        self.thing_at = {thing: rng.choice(places) for thing in things}
        self.held_by: dict[str, str] = {}

    def random_event(self, actions: Sequence[Action]) -> Event:
        """Draw a person and an action until the action is possible, and apply it.

        People with more possible actions act more often, as in the released stories.
        """
        while True:
            person, action = self.rng.choice(self.people), self.rng.choice(actions)
            if targets := action.targets(self, person):
                return self.apply(Event(action.name, person, *self.rng.choice(targets)))

    def apply(self, event: Event) -> Event:
        """Change the world by ``event``; return it."""
        ACTIONS[event.action].effect(self, event)
        return event

    def gather(self) -> None:
        """Move everybody, and the first thing, to the place of the first person."""
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
    others = [other for other, at in world.person_at.items() if at == here and other != person]
    return [(thing, other) for (thing,) in _things_in_hand(world, person) for other in others]


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
# The statement says where a person is, where they no longer are, or two places, one of them right.
BE = Action("be", _elsewhere, _go)
BE_GONE = Action("be gone", _from_here, _move_from)
BE_EITHER = Action("be either", _here_or_there, _go)
_EVERY = (GO, GO_ON, GO_TOGETHER, GO_ON_TOGETHER, TAKE, PUT, GIVE, BE, BE_GONE, BE_EITHER)
ACTIONS = {action.name: action for action in _EVERY}
