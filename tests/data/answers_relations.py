"""Answers of the tasks about places, species, shapes, sizes and moods: 4 and 15 to 20."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from .answers_acts import GO, TAKE
from .answers_task import Task, form_of

OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}
OPPOSITE |= {"above": "below", "below": "above"}
OPPOSITE |= {"to the left of": "to the right of", "to the right of": "to the left of"}
# Common knowledge that no statement contains.
WANTS = {
    "tired": ("bedroom", "pajamas"),
    "hungry": ("kitchen", "apple"),
    "thirsty": ("kitchen", "milk"),
    "bored": ("garden", "football"),
}
PLURALS = {"mouse": "mice", "wolf": "wolves", "sheep": "sheep"}  # all others add an s

Fact = tuple[str, ...]  # the form of a statement, then its names
Facts = Sequence[Fact]
One = TypeVar("One")


def read(forms: Mapping[str, str], story: Sequence[str]) -> list[Fact]:
    """Return the facts of a story."""
    matches = (form_of(forms, text) for text in story)
    return [(form, *match.groups()) for form, match in matches]


def what_is(facts: Facts, side: str, place: str) -> str:
    """Return the only place on a side of a place (task 4)."""
    return _only(a for a, relation, b in _both_ways(facts) if (relation, b) == (side, place))


def what_is_it(facts: Facts, place: str, side: str) -> str:
    """Return the only place of which a place is on that side (task 4)."""
    return what_is(facts, OPPOSITE[side], place)


def fears(facts: Facts, name: str) -> str:
    """Return what the species of an animal is afraid of (task 15)."""
    species = _only(
        one for form, who, one in facts if (form, who.lower()) == ("kind", name.lower())
    )
    plural = PLURALS.get(species, f"{species}s")
    feared = _only(feared for form, who, feared in facts if (form, who.lower()) == ("fear", plural))
    singulars = {many: one for one, many in PLURALS.items()}
    return singulars.get(feared, feared.removesuffix("s"))


def color(facts: Facts, name: str) -> str:
    """Return the colour of all others of the species of an animal (task 16)."""
    pairs = {(who, species) for form, who, species in facts if form == "kind"}
    species = _only(species for who, species in pairs if who == name)
    return _only(word for form, who, word in facts if form == "color" and (who, species) in pairs)


def is_on_side(facts: Facts, a: str, side: str, b: str) -> str:
    """Return whether ``a`` is on a side of ``b`` (task 17): a statement is one or more steps."""
    towards = _only(_sides(facts, a, b))
    assert not {side, OPPOSITE[side]} <= towards, "it goes there and back"
    return "yes" if side in towards else "no"


def is_bigger(facts: Facts, a: str, b: str) -> str:
    """Return whether ``a`` is bigger than ``b``, by a chain of statements (task 18)."""
    smaller: dict[str, set[str]] = defaultdict(set)
    for form, one, other in facts:
        big, small = (one, other) if form == "bigger" else (other, one)
        smaller[big].add(small)
    down, up = b in _reached(smaller, a), a in _reached(smaller, b)
    assert down != up, "both follow" if down else "neither follows"
    return "yes" if down else "no"


def fits(facts: Facts, a: str, b: str) -> str:
    """Return whether ``a`` is smaller than ``b`` (task 18)."""
    return is_bigger(facts, b, a)


def path(facts: Facts, start: str, end: str) -> str:
    """Return the first letters of the directions of the only shortest path (task 19)."""
    paths: list[Fact] = [(start,)]
    shortest: list[Fact] = []
    known = {start}
    steps = [(b, relation, a) for a, relation, b in _both_ways(facts)]  # from b to a
    while paths and not shortest:
        paths = [
            (to, *path[1:], relation[0])
            for path in paths
            for at, relation, to in steps
            if at == path[0] and to not in known
        ]
        known |= {path[0] for path in paths}
        shortest = [path for path in paths if path[0] == end]
    return ",".join(_only(shortest)[1:])


def where_will(facts: Facts, who: str) -> str:
    """Return where a person with their mood goes (task 20)."""
    return WANTS[_mood(facts, who)][0]


def why_go(facts: Facts, who: str, place: str) -> str:
    """Return the mood of a person; fail if it leads to another place (task 20)."""
    mood = _mood(facts, who)
    assert WANTS[mood][0] == place, f"not where one goes who is {mood}"
    return mood


def why_get(facts: Facts, who: str, thing: str) -> str:
    """Return the mood of a person; fail if it needs another thing (task 20)."""
    mood = _mood(facts, who)
    assert WANTS[mood][1] == thing, f"not what one takes who is {mood}"
    return mood


def _only(values: Iterable[One]) -> One:
    different = set(values)
    assert len(different) == 1, f"to choose from: {sorted(map(str, different))}"
    return different.pop()


def _both_ways(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Yield each relation and its inverse."""
    for _, one, side, other in dict.fromkeys(facts):  # a repeated statement is no new relation
        yield one, side, other
        yield other, OPPOSITE[side], one


def _sides(facts: Facts, start: str, end: str, *passed: str) -> Iterator[frozenset[str]]:
    """Yield the sides on each path from one thing to another."""
    for one, side, other in _both_ways(facts):
        if one == start and other == end:
            yield frozenset({side})
        elif one == start and other not in passed:
            for sides in _sides(facts, other, end, start, *passed):
                yield sides | {side}


def _reached(smaller: dict[str, set[str]], start: str) -> set[str]:
    """Return all smaller things, direct or by a chain."""
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
        {rf"Is the {SHAPE} {SIDE} the {SHAPE}\?": is_on_side},
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
