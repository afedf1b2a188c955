"""The kinds of story in which people move: each a short declaration over the world."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from memhop.data.stories import questions
from memhop.data.stories.chance import Chance
from memhop.data.stories.questions import Finding
from memhop.data.stories.reader import Reader
from memhop.data.stories.words import GIVING, GOING, LATER, PUTTING, TAKING
from memhop.data.stories.world import (
    BE,
    BE_EITHER,
    BE_GONE,
    GIVE,
    GO,
    GO_ON,
    GO_ON_TOGETHER,
    GO_TOGETHER,
    PUT,
    TAKE,
    Action,
    Event,
    World,
)


@dataclass(frozen=True)
class Task:
    """One kind of story.

    Attributes:
        actions: what people do in it, one as likely as the other where both can be done; more
            likely is what stands there more than once.
        phrases: for each action its wordings, each as likely; ``{0}`` is the person, ``{1}`` the
            place or thing, ``{2}`` the other, ``{3}`` she or he.
        ask: a question about whom or what an event concerns, if its reader can answer one.
        follow: every second event is this action, of whom the event before was about.
        fewest: the least number of statements before a question of this kind.
        lead: events that bring a question within ``led`` statements, or within ``fewest``
            where everybody is gathered around a thing; and from then on after each.
        led: so many; 0 where a question can always be asked.
        least_reach: a question may need a statement that is so old.
        least_people, least_places: without which nothing can happen.
    """

    actions: tuple[Action, ...]
    phrases: Mapping[str, tuple[str, ...]]
    ask: Callable[[Reader, Event, Chance], Finding | None]
    follow: Action | None = None
    fewest: int = 1
    lead: Callable[[World], Iterator[Event]] | None = None
    led: int = 0
    least_reach: int = 1
    least_people: int = 1
    least_places: int = 2


def _beside_a_thing(world: World) -> Iterator[Event]:
    """Bring somebody beside a thing that lies, if nobody is; at most one step."""
    if not any(TAKE.targets(world, person) for person in world.people):
        place = world.chance.pick(list(world.thing_at.values()))
        yield Event("go", world.chance.pick(world.people), place)


def _take(world: World) -> Event:
    beside = [person for person in world.people if TAKE.targets(world, person)]
    person = world.chance.pick(beside)
    return Event("take", person, *world.chance.pick(TAKE.targets(world, person)))


def _carry(world: World) -> Iterator[Event]:
    """Somebody takes a thing, after one step at most, and carries it on and on."""
    chance = world.chance
    if world.held_by:
        thing, person = chance.pick(list(world.held_by.items()))
        yield Event("put", person, thing)
    else:
        beside = [person for person in world.people if TAKE.targets(world, person)]
        person = chance.pick(beside or world.people)
        if not beside:
            yield Event("go", person, chance.pick(list(world.thing_at.values())))
        (thing,) = chance.pick(TAKE.targets(world, person))
    yield Event("take", person, thing)
    while True:
        yield Event("go", person, *chance.pick(GO.targets(world, person)))


def _hand_on(world: World) -> Iterator[Event]:
    """Somebody takes a thing and gives it to somebody, who gives it back, and so on."""
    if not world.held_by:
        yield from _beside_a_thing(world)
        yield _take(world)
    thing, giver = world.chance.pick(list(world.held_by.items()))
    receiver = world.chance.pick([person for person in world.people if person != giver])
    if world.person_at[receiver] != world.person_at[giver]:
        yield Event("go", receiver, world.person_at[giver])
    while True:
        yield Event("give", giver, thing, receiver)
        giver, receiver = receiver, giver


def _handle(world: World) -> Iterator[Event]:
    """Somebody takes a thing and puts it down, and so on."""
    if not world.held_by:
        yield from _beside_a_thing(world)
        yield _take(world)
    thing, person = world.chance.pick(list(world.held_by.items()))
    while True:
        yield Event("put", person, thing)
        yield Event("take", person, thing)


def _walk(world: World) -> Iterator[Event]:
    while True:
        person = world.chance.pick(world.people)
        yield Event("go", person, *world.chance.pick(GO.targets(world, person)))


def _forms(verbs: tuple[str, ...], *endings: str) -> tuple[str, ...]:
    return tuple(f"{{0}} {verb} the {{1}}{ending}." for ending in endings for verb in verbs)


def _followed(who: str) -> tuple[str, ...]:
    return tuple(f"{later} {who} {verb} the {{1}}." for later in LATER for verb in GOING)


_GOING = _forms(GOING, "")
_GOING_TOGETHER = tuple(f"{{0}} and {{2}} {verb} the {{1}}." for verb in GOING)
_TAKING_THERE = _forms(TAKING, " there")
# In the released stories one act in five on a thing says "there"; in all but task 3 every taking.
_ONE_IN_FIVE = ("", "", "", "", " there")
_PUTTING = _forms(PUTTING, *_ONE_IN_FIVE)
_HANDLING = {"go": _GOING, "take": _TAKING_THERE, "put": _PUTTING}
# These weights give each its share in the released stories, and gifts that follow gifts.
_MOSTLY_GIVING = (*[GO] * 3, *[TAKE] * 4, *[PUT] * 4, *[GIVE] * 14)
_GIVING = {"give": tuple(f"{{0}} {verb} the {{1}} to {{2}}." for verb in GIVING)}

MOVING: dict[int, Task] = {
    1: Task(
        actions=(GO,),
        phrases={"go": _GOING},
        ask=questions.where_is_person,
    ),
    2: Task(
        actions=(GO, TAKE, PUT),
        phrases=_HANDLING,
        ask=questions.where_is_thing,
        fewest=2,
        lead=_carry,
        led=3,
        least_reach=3,
    ),
    3: Task(
        actions=(GO, TAKE, PUT),
        phrases=_HANDLING | {"take": _forms(TAKING, *_ONE_IN_FIVE)},
        ask=questions.where_was_thing,
        fewest=3,
        lead=_carry,
        led=4,
        least_reach=4,
    ),
    5: Task(
        actions=_MOSTLY_GIVING,
        phrases=_HANDLING | _GIVING,
        ask=questions.who_gave_what,
        fewest=2,
        lead=_hand_on,
        led=4,
        least_people=2,
    ),
    6: Task(
        actions=(GO, TAKE, PUT),
        phrases=_HANDLING,
        ask=questions.is_person_there,
        lead=_walk,
        led=1,
    ),
    7: Task(
        actions=_MOSTLY_GIVING,
        phrases=_HANDLING | _GIVING,
        ask=questions.how_many,
        lead=_handle,
        led=2,
    ),
    8: Task(
        actions=(GO, TAKE, PUT),
        phrases=_HANDLING,
        ask=questions.what_is_held,
        lead=_handle,
        led=2,
    ),
    9: Task(
        actions=(GO, GO, BE, BE_GONE),
        phrases={
            "go": _GOING,
            "be": ("{0} is in the {1}.",),
            "be gone": ("{0} is not in the {1}.", "{0} is no longer in the {1}."),
        },
        ask=questions.is_person_there_or_gone,
    ),
    10: Task(
        actions=(GO, GO, BE, BE_EITHER),
        phrases={
            "go": _GOING,
            "be": ("{0} is in the {1}.",),
            "be either": (
                "{0} is either in the {1} or the {2}.",
                "{0} is either in the {2} or the {1}.",
            ),
        },
        ask=questions.is_person_perhaps_there,
    ),
    11: Task(
        actions=(GO,),
        phrases={"go": _GOING, "go on": _followed("{3}")},
        ask=questions.where_is_follower,
        follow=GO_ON,
        fewest=2,
    ),
    12: Task(
        actions=(GO_TOGETHER,),
        phrases={"go together": _GOING_TOGETHER},
        ask=questions.where_is_person,
        least_people=2,
        least_places=3,
    ),
    13: Task(
        actions=(GO_TOGETHER,),
        phrases={"go together": _GOING_TOGETHER, "go on together": _followed("they")},
        ask=questions.where_is_follower,
        follow=GO_ON_TOGETHER,
        fewest=2,
        least_people=2,
        least_places=3,
    ),
}
"""Those of the tasks, by their released numbers."""
