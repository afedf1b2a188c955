"""Questions about who moves and what is carried: asked of what a reader knows.

Each takes the reader and an event that was told of lately, and asks about whom or what it
concerns, if that can be answered.
"""

from typing import NamedTuple

from memhop.data.stories.chance import Chance
from memhop.data.stories.reader import Reader
from memhop.data.stories.world import Event

NUMBERS = (
    *("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)


class Finding(NamedTuple):
    """A question that the reader can answer now."""

    text: str
    answer: str
    facts: tuple[int, ...]


def where_is_person(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """One fact, where the person was last seen (tasks 1 and 12)."""
    seen = reader.person_at[event.person]
    return Finding(f"Where is {event.person}?", seen.place, (seen.fact,))


def where_is_follower(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """Two facts, the going on and, for who "she" or "they" are, what stands before it (11, 13)."""
    found = where_is_person(reader, event, chance)
    if not found or not reader.events[found.facts[0]].action.startswith("go on"):
        return None
    return found._replace(facts=(found.facts[0] - 1, found.facts[0]))


def where_is_thing(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """The last act on the thing, and the stop that tells where its holder was (task 2).

    As in the released stories, nobody asks for a thing in hand before it was carried somewhere.
    """
    carrying = reader.carrying.get(event.target)
    if not carrying:
        return None
    stop = carrying.stops[-1] if carrying.stops else carrying.put_at
    if not stop:
        return None
    return Finding(f"Where is the {event.target}?", stop.place, (carrying.last_act, stop.fact))


def where_was_thing(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """The last act on the thing, and two stops on its way, the later one named (task 3).

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


def who_gave_what(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """The last gift: what was given, by whom or to whom (task 5); one question in three is what."""
    if reader.gift is None or reader.events[reader.gift] is not event:
        return None
    _, giver, thing, receiver = event
    text, answer = chance.pick(
        (
            *[(f"What did {giver} give to {receiver}?", thing)] * 2,
            (f"Who gave the {thing}?", giver),
            (f"Who gave the {thing} to {receiver}?", giver),
            (f"Who received the {thing}?", receiver),
            (f"Who did {giver} give the {thing} to?", receiver),
        )
    )
    return Finding(text, answer, (reader.gift,))


def is_person_there(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """Whether a person is in a place, where the last that was said of it was a going (task 6)."""
    if event.action != "go":
        return None
    seen = reader.person_at[event.person]
    right = chance.happens(0.5)
    return _is_there(event.person, seen.place if right else _another(reader, seen.place, chance),
                     "yes" if right else "no", seen.fact)  # fmt: skip


def is_person_there_or_gone(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """The same; of who is only known to be gone, the place is asked that they left (task 9)."""
    fact = reader.last_said[event.person]
    said = reader.events[fact]
    if said.action == "be gone":
        return _is_there(said.person, said.target, "no", fact)
    right = chance.happens(0.5)
    place = said.target if right else _another(reader, said.target, chance)
    return _is_there(said.person, place, "yes" if right else "no", fact)


def is_person_perhaps_there(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """The same; "maybe" in each of two places (task 10).

    The shares of the answers are those of the released files with a right place in 9 of 20
    questions, and any place in the others.
    """
    fact = reader.last_said[event.person]
    said = reader.events[fact]
    place = said.target if chance.happens(0.45) else chance.pick(reader.places)
    if said.action == "be either":
        answer = "maybe" if place in (said.target, said.other) else "no"
    else:
        answer = "yes" if place == said.target else "no"
    return _is_there(said.person, place, answer, fact)


def _is_there(person: str, place: str, answer: str, fact: int) -> Finding:
    return Finding(f"Is {person} in the {place}?", answer, (fact,))


def _another(reader: Reader, place: str, chance: Chance) -> str:
    return chance.pick([other for other in reader.places if other != place])


def how_many(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """How many things somebody holds who took, put down or gave one (task 7): all such facts."""
    if event.person not in reader.hands or event.action == "go":
        return None
    facts = sorted(fact for each in reader.hands[event.person].values() for fact in each)
    number = NUMBERS[len(reader.held_by(event.person))]
    return Finding(f"How many objects is {event.person} carrying?", number, tuple(facts))


def what_is_held(reader: Reader, event: Event, chance: Chance) -> Finding | None:
    """What somebody holds who took or put down a thing (task 8): all such facts, thing by thing."""
    if event.person not in reader.hands or event.action == "go":
        return None
    facts = tuple(fact for each in reader.hands[event.person].values() for fact in each)
    held = ",".join(reader.held_by(event.person)) or "nothing"
    return Finding(f"What is {event.person} carrying?", held, facts)
