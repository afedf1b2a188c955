"""Answers of the tasks about places, kinds, shapes, sizes and moods: 4 and 15 to 20."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from .answers_acts import GO, TAKE
from .answers_task import Task, form_of

OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}
OPPOSITE |= {"above": "below", "below": "above"}
OPPOSITE |= {"to the left of": "to the right of", "to the right of": "to the left of"}
# What nobody says and everybody knows.
WANTS = {
    "tired": ("bedroom", "pajamas"),
    "hungry": ("kitchen", "apple"),
    "thirsty": ("kitchen", "milk"),
    "bored": ("garden", "football"),
}
PLURALS = {"mouse": "mice", "wolf": "wolves", "sheep": "sheep"}  # all others add an s

Said = tuple[str, ...]  # the name of a statement's form, then what it names
Facts = Sequence[Said]
One = TypeVar("One")


def read(forms: Mapping[str, str], story: Sequence[str]) -> list[Said]:
    """What each statement names, after the name of its form."""
    found = (form_of(forms, text) for text in story)
    return [(form, *match.groups()) for form, match in found]


def what_is(facts: Facts, side: str, place: str) -> str:
    """Task 4: the one place on that side of this one."""
    return _only(a for a, relation, b in _both_ways(facts) if (relation, b) == (side, place))


def what_is_it(facts: Facts, place: str, side: str) -> str:
    """Task 4: the one place that this one is on that side of."""
    return what_is(facts, OPPOSITE[side], place)


def fears(facts: Facts, name: str) -> str:
    """Task 15: what all of its kind are afraid of."""
    kind = _only(kind for form, who, kind in facts if (form, who.lower()) == ("kind", name.lower()))
    plural = PLURALS.get(kind, f"{kind}s")
    feared = _only(feared for form, who, feared in facts if (form, who.lower()) == ("fear", plural))
    singulars = {many: one for one, many in PLURALS.items()}
    return singulars.get(feared, feared.removesuffix("s"))


def color(facts: Facts, name: str) -> str:
    """Task 16: that of all others of its kind."""
    kinds = {(who, kind) for form, who, kind in facts if form == "kind"}
    kind = _only(kind for who, kind in kinds if who == name)
    return _only(said for form, who, said in facts if form == "color" and (who, kind) in kinds)


def is_beside(facts: Facts, a: str, side: str, b: str) -> str:
    """Task 17: statements say straight above, below, left or right, by one step or more."""
    towards = _only(_sides(facts, a, b))
    assert not {side, OPPOSITE[side]} <= towards, "it goes there and back"
    return "yes" if side in towards else "no"


def is_bigger(facts: Facts, a: str, b: str) -> str:
    """Task 18: as far as the statements make a chain."""
    smaller: dict[str, set[str]] = defaultdict(set)
    for form, one, other in facts:
        big, small = (one, other) if form == "bigger" else (other, one)
        smaller[big].add(small)
    down, up = b in _reached(smaller, a), a in _reached(smaller, b)
    assert down != up, "both are told" if down else "neither is told"
    return "yes" if down else "no"


def fits(facts: Facts, a: str, b: str) -> str:
    """Task 18: what is smaller fits."""
    return is_bigger(facts, b, a)


def path(facts: Facts, start: str, end: str) -> str:
    """Task 19: the first letters of the directions of the only shortest way."""
    ways: list[Said] = [(start,)]
    found: list[Said] = []
    known = {start}
    steps = [(b, relation, a) for a, relation, b in _both_ways(facts)]  # from b one gets to a
    while ways and not found:
        ways = [
            (to, *way[1:], relation[0])
            for way in ways
            for at, relation, to in steps
            if at == way[0] and to not in known
        ]
        known |= {way[0] for way in ways}
        found = [way for way in ways if way[0] == end]
    return ",".join(_only(found)[1:])


def where_will(facts: Facts, who: str) -> str:
    """Task 20: where one with this mood goes."""
    return WANTS[_mood(facts, who)][0]


def why_go(facts: Facts, who: str, place: str) -> str:
    """Task 20: the mood, if this is the place for it."""
    mood = _mood(facts, who)
    assert WANTS[mood][0] == place, f"not where one goes who is {mood}"
    return mood


def why_get(facts: Facts, who: str, thing: str) -> str:
    """Task 20: the mood, if this is the thing for it."""
    mood = _mood(facts, who)
    assert WANTS[mood][1] == thing, f"not what one takes who is {mood}"
    return mood


def _only(found: Iterable[One]) -> One:
    different = set(found)
    assert len(different) == 1, f"to choose from: {sorted(map(str, different))}"
    return different.pop()


def _both_ways(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """One is on a side of the other, and the other on the opposite side of the one."""
    for _, one, side, other in dict.fromkeys(facts):  # what is told again makes no new way
        yield one, side, other
        yield other, OPPOSITE[side], one


def _sides(facts: Facts, start: str, end: str, *passed: str) -> Iterator[frozenset[str]]:
    """For each way from thing to thing: the sides that one is on of the next."""
    for one, side, other in _both_ways(facts):
        if one == start and other == end:
            yield frozenset({side})
        elif one == start and other not in passed:
            for sides in _sides(facts, other, end, start, *passed):
                yield sides | {side}


def _reached(smaller: dict[str, set[str]], start: str) -> set[str]:
    """All that is smaller, directly or by a chain."""
    reached: set[str] = set()
    nearest = {start}
    while nearest:
        nearest = {small for big in nearest for small in smaller.get(big, ())} - reached
        reached |= nearest
    return reached


def _mood(facts: Facts, name: str) -> str:
    return _only(mood for form, who, mood in facts if (form, who.lower()) == ("is", name.lower()))


DIRECTIONS = {"is": r"The (\w+) is (north|south|east|west) of the (\w+)\."}
SHAPE = r"((?:\w+ )?\w+)"
SIDE = "(above|below|to the left of|to the right of)"
BOX = r"(\w+(?: of \w+)?)"
RELATION_TASKS = {
    4: Task(
        partial(read, DIRECTIONS),
        {
            r"What is (north|south|east|west) of the (\w+)\?": what_is,
            r"What is the (\w+) (north|south|east|west) of\?": what_is_it,
        },
    ),
    15: Task(
        partial(read, {"fear": r"(\w+) are afraid of (\w+)\.", "kind": r"(\w+) is a (\w+)\."}),
        {r"What is (\w+) afraid of\?": fears},
    ),
    16: Task(
        partial(read, {"kind": r"(\w+) is a (\w+)\.", "color": r"(\w+) is (\w+)\."}),
        {r"What color is (\w+)\?": color},
    ),
    17: Task(
        partial(read, {"is": rf"The {SHAPE} is {SIDE} the {SHAPE}\."}),
        {rf"Is the {SHAPE} {SIDE} the {SHAPE}\?": is_beside},
    ),
    18: Task(
        partial(
            read,
            {
                "fits": rf"The {BOX} fits inside the {BOX}\.",
                "bigger": rf"The {BOX} is bigger than the {BOX}\.",
            },
        ),
        {
            rf"Does the {BOX} fit in the {BOX}\?": fits,
            rf"Is the {BOX} bigger than the {BOX}\?": is_bigger,
        },
    ),
    19: Task(partial(read, DIRECTIONS), {r"How do you go from the (\w+) to the (\w+)\?": path}),
    20: Task(
        partial(
            read,
            {
                "is": rf"(\w+) is ({'|'.join(WANTS)})\.",
                "go": rf"(\w+) {GO}\.",
                "get": rf"(\w+) {TAKE} there\.",
            },
        ),
        {
            r"Where will (\w+) go\?": where_will,
            r"Why did (\w+) go to the (\w+)\?": why_go,
            r"Why did (\w+) get the (\w+)\?": why_get,
        },
    ),
}
