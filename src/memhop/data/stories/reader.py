"""What a reader can infer from the statements alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from memhop.data.stories.world import Event


class Sighting(NamedTuple):
    """A place, and the position of the statement that names it."""

    place: str
    fact: int


@dataclass
class Carrying:
    """The path of a thing from when somebody takes it until they put it down.

    Attributes:
        person: who took it.
        taken: the statement that says so.
        stops: where the person has gone with it.
        put: the statement that it was put down; None while it is held.
        put_at: the last known place of the person when they put it down.
    """

    person: str
    taken: int
    stops: list[Sighting] = field(default_factory=list)
    put: int | None = None
    put_at: Sighting | None = None

    @property
    def last_act(self) -> int:
        """Return the last statement about the thing itself."""
        return self.taken if self.put is None else self.put


class Reader:
    """Follows statements one by one.

    Attributes:
        places: all places.
        events: the events of the statements, in order.
        acts: the same by person: two people who go together are two acts.
        person_at: the last known place of each person.
        last_location_fact: the last statement about where a person is.
        carrying: the latest carrying of each thing, finished or not.
        hands: for each person the things they have held, in the order of the first time, with the
            statements in which each came and left, alternately.
        gift: the last statement of a gift.
    """

    def __init__(self, places: Sequence[str] = ()) -> None:
        self.places = places
        self.events: list[Event] = []
        self.acts: list[Event] = []
        self.person_at: dict[str, Sighting] = {}
        self.last_location_fact: dict[str, int] = {}
        self.carrying: dict[str, Carrying] = {}
        self.hands: dict[str, dict[str, list[int]]] = {}
        self.gift: int | None = None

    def read(self, event: Event) -> None:
        """Read the next statement."""
        fact = len(self.events)
        self.events.append(event)
        self.acts.append(event)
        if event.action in ("take", "put", "give"):
            self._read_handling(event, fact)
            return
        people = [event.person]
        if event.action.endswith("together"):
            people.append(event.other)
            self.acts.append(event._replace(person=event.other, other=event.person))
        for person in people:
            self.last_location_fact[person] = fact
            if event.action not in ("be gone", "be either"):
                self._see(person, Sighting(event.target, fact))

    def _see(self, person: str, stop: Sighting) -> None:
        self.person_at[person] = stop
        for carrying in self.carrying.values():
            if carrying.person == person and carrying.put is None:
                carrying.stops.append(stop)

    def _read_handling(self, event: Event, fact: int) -> None:
        action, person, thing, other = event
        for holder in (person, other) if action == "give" else (person,):
            self.hands.setdefault(holder, {}).setdefault(thing, []).append(fact)
        if action == "give":
            self.gift = fact
        if action == "put":
            carrying = self.carrying[thing]
            carrying.put = fact
            carrying.put_at = self.person_at.get(person)
        else:
            self.carrying[thing] = Carrying(other or person, fact)

    def held_by(self, person: str) -> list[str]:
        """Return what a person holds, in the order in which each thing came first."""
        return [thing for thing, facts in self.hands.get(person, {}).items() if len(facts) % 2]
