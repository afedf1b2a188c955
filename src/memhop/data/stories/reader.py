"""What a reader can know who has only the statements."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from memhop.data.stories.world import Event


class Sighting(NamedTuple):
    """A place, and the statement (by its position) that told it."""

    place: str
    fact: int


@dataclass
class Carrying:
    """The way of a thing in one pair of hands, from being taken to being put down.

    Attributes:
        person: who took it.
        taken: the statement of the taking.
        stops: where the person has gone with it.
        put: the statement of the putting down, None while it is held.
        put_at: where the person was last seen when putting it down, if that was ever told.
    """

    person: str
    taken: int
    stops: list[Sighting] = field(default_factory=list)
    put: int | None = None
    put_at: Sighting | None = None

    @property
    def last_act(self) -> int:
        """The statement that last told something about the thing itself."""
        return self.taken if self.put is None else self.put


class Reader:
    """Follows statements one by one.

    Attributes:
        places: all there are.
        events: what the statements told, in order.
        acts: the same for each person: of two who went together, each went with the other.
        person_at: where each person was last seen.
        last_said: the statement that last said anything about where a person is.
        carrying: the latest carrying of each thing, over or not.
        hands: for each person the things that came into their hands, in the order in which each
            came first, with the statements of its coming and leaving in turn.
        gift: the last statement of a giving.
    """

    def __init__(self, places: Sequence[str] = ()) -> None:
        self.places = places
        self.events: list[Event] = []
        self.acts: list[Event] = []
        self.person_at: dict[str, Sighting] = {}
        self.last_said: dict[str, int] = {}
        self.carrying: dict[str, Carrying] = {}
        self.hands: dict[str, dict[str, list[int]]] = {}
        self.gift: int | None = None

    def hear(self, event: Event) -> None:
        """Takes in the next statement."""
        fact = len(self.events)
        self.events.append(event)
        self.acts.append(event)
        if event.action in ("take", "put", "give"):
            self._hear_of_thing(event, fact)
            return
        people = [event.person]
        if event.action.endswith("together"):
            people.append(event.other)
            self.acts.append(event._replace(person=event.other, other=event.person))
        for person in people:
            self.last_said[person] = fact
            if event.action not in ("be gone", "be either"):
                self._see(person, Sighting(event.target, fact))

    def _see(self, person: str, stop: Sighting) -> None:
        self.person_at[person] = stop
        for carrying in self.carrying.values():
            if carrying.person == person and carrying.put is None:
                carrying.stops.append(stop)

    def _hear_of_thing(self, event: Event, fact: int) -> None:
        action, person, thing, other = event
        for hands in (person, other) if action == "give" else (person,):
            self.hands.setdefault(hands, {}).setdefault(thing, []).append(fact)
        if action == "give":
            self.gift = fact
        if action == "put":
            carrying = self.carrying[thing]
            carrying.put = fact
            carrying.put_at = self.person_at.get(person)
        else:
            self.carrying[thing] = Carrying(other or person, fact)

    def held_by(self, person: str) -> list[str]:
        """What a person holds, in the order in which each thing came first."""
        return [thing for thing, facts in self.hands.get(person, {}).items() if len(facts) % 2]
