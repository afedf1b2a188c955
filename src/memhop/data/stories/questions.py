"""Questions about people who move and things they carry, answered from what a reader knows.

Each function takes the reader and a recent event, and returns a question about the subject of the
event, or None if the reader cannot answer one.
"""

from memhop.data.stories.reader import Reader
from memhop.data.stories.world import Event
from memhop.data.story import Question
from memhop.rng import Rng

NUMBERS = (
    *("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)


def _question(reader: Reader, text: str, answer: str, *facts: int) -> Question:
    return Question(len(reader.events), text, answer, facts)


def where_is_person(reader: Reader, event: Event, rng: Rng) -> Question | None:
    """Ask where a person is (tasks 1 and 12): one fact, the last location."""
    seen = reader.person_at[event.person]
    return _question(reader, f"Where is {event.person}?", seen.place, seen.fact)


def where_is_follower(reader: Reader, event: Event, rng: Rng) -> Question | None:
    """Ask where "she" or "they" are (11, 13): the last move, and the statement before it."""
    question = where_is_person(reader, event, rng)
    if not question or not reader.events[question.supporting_facts[0]].action.startswith("go on"):
        return None
    (fact,) = question.supporting_facts
    return question._replace(supporting_facts=(fact - 1, fact))


def where_is_thing(reader: Reader, event: Event, rng: Rng) -> Question | None:
    """Ask where a thing is (task 2): the last act on it, and the location of its holder.

    As in the released stories, no question is about a thing in hand that has not been moved.
    """
    carrying = reader.carrying.get(event.target)
    if not carrying:
        return None
    stop = carrying.stops[-1] if carrying.stops else carrying.put_at
    if not stop:
        return None
    text = f"Where is the {event.target}?"
    return _question(reader, text, stop.place, carrying.last_act, stop.fact)


def where_was_thing(reader: Reader, event: Event, rng: Rng) -> Question | None:
    """Ask where a thing was before a place (task 3): the last act on it, and two of its stops.

    The later stop is the last visit to that place, so that "before" has one meaning; usually it
    is the last stop of all.
    """
    carrying = reader.carrying.get(event.target)
    if not carrying or len(carrying.stops) < 2:
        return None
    stops = carrying.stops
    later = len(stops) - 1
    while later > 1 and rng.bernoulli(0.2):
        later -= 1
    if any(stop.place == stops[later].place for stop in stops[later + 1 :]):
        later = len(stops) - 1
    before, after = stops[later - 1], stops[later]
    text = f"Where was the {event.target} before the {after.place}?"
    return _question(reader, text, before.place, carrying.last_act, after.fact, before.fact)


def who_gave_what(reader: Reader, event: Event, rng: Rng) -> Question | None:
    """Ask about the last gift (task 5); one question in three asks for the thing."""
    if reader.gift is None or reader.events[reader.gift] is not event:
        return None
    _, giver, thing, receiver = event
    text, answer = rng.choice(
        (
            *[(f"What did {giver} give to {receiver}?", thing)] * 2,
            (f"Who gave the {thing}?", giver),
            (f"Who gave the {thing} to {receiver}?", giver),
            (f"Who received the {thing}?", receiver),
            (f"Who did {giver} give the {thing} to?", receiver),
        )
    )
    return _question(reader, text, answer, reader.gift)


def is_person_there(reader: Reader, event: Event, rng: Rng) -> Question | None:
    """Ask whether a person is in a place, if the last statement on that is a move (task 6)."""
    if event.action != "go":
        return None
    seen = reader.person_at[event.person]
    return _yes_no(reader, event.person, seen.place, seen.fact, rng)


def is_person_there_or_gone(reader: Reader, event: Event, rng: Rng) -> Question | None:
    """Ask whether a person is in a place: the one they left, if only that is known (task 9)."""
    fact = reader.last_location_fact[event.person]
    last = reader.events[fact]
    if last.action == "be gone":
        return _question(reader, f"Is {last.person} in the {last.target}?", "no", fact)
    return _yes_no(reader, last.person, last.target, fact, rng)


def is_person_maybe_there(reader: Reader, event: Event, rng: Rng) -> Question | None:
    """Ask whether a person is in a place: "maybe" in each of two (task 10).

    Answers have the shares of the released files if 9 of 20 questions name the right place, and
    the others any place.
    """
    fact = reader.last_location_fact[event.person]
    last = reader.events[fact]
    place = last.target if rng.bernoulli(0.45) else rng.choice(reader.places)
    if last.action == "be either":
        answer = "maybe" if place in (last.target, last.other) else "no"
    else:
        answer = "yes" if place == last.target else "no"
    return _question(reader, f"Is {last.person} in the {place}?", answer, fact)


def _yes_no(reader: Reader, person: str, place: str, fact: int, rng: Rng) -> Question:
    """Ask whether a person is in their place or, equally likely, in another one."""
    is_right = rng.bernoulli(0.5)
    if not is_right:
        place = rng.choice([other for other in reader.places if other != place])
    return _question(reader, f"Is {person} in the {place}?", "yes" if is_right else "no", fact)


def how_many(reader: Reader, event: Event, rng: Rng) -> Question | None:
    """Ask how many things a person holds who took, put or gave one (task 7): all such facts."""
    if event.person not in reader.hands or event.action == "go":
        return None
    facts = sorted(fact for each in reader.hands[event.person].values() for fact in each)
    number = NUMBERS[len(reader.held_by(event.person))]
    return _question(reader, f"How many objects is {event.person} carrying?", number, *facts)


def what_is_held(reader: Reader, event: Event, rng: Rng) -> Question | None:
    """Ask what a person holds who took or put a thing (task 8): all such facts, by thing."""
    if event.person not in reader.hands or event.action == "go":
        return None
    facts = (fact for each in reader.hands[event.person].values() for fact in each)
    held = ",".join(reader.held_by(event.person)) or "nothing"
    return _question(reader, f"What is {event.person} carrying?", held, *facts)
