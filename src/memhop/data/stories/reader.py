"""What a reader can know who has only the statements."""

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
        events: what the statements told, in order.
        person_at: where each person was last seen.
        carrying: the latest carrying of each thing, over or not.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.person_at: dict[str, Sighting] = {}
        self.carrying: dict[str, Carrying] = {}

    def hear(self, event: Event) -> None:
        """Takes in the next statement."""
        fact, name, person = len(self.events), event.action.name, event.person
        self.events.append(event)
        if name == "go":
            stop = self.person_at[person] = Sighting(event.target, fact)
            for carrying in self.carrying.values():
                if carrying.person == person and carrying.put is None:
                    carrying.stops.append(stop)
        elif name == "take":
            self.carrying[event.target] = Carrying(person, fact)
        elif name == "put":
            carrying = self.carrying[event.target]
            carrying.put = fact
            carrying.put_at = self.person_at.get(person)
