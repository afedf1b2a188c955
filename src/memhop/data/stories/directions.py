"""Places on a map: what is north of what (task 4), and how to go there (task 19).

"The office is north of the kitchen" is read as one step: going north from the kitchen you come to
the office. So each place has at most one other in each direction, and no two are on one spot.
"""

from collections.abc import Sequence
from itertools import pairwise

from memhop.data.stories.chance import Chance
from memhop.data.stories.kind import Dials, Kind, check_range
from memhop.data.stories.lengths import check_length, draw_length
from memhop.data.stories.plane import STEPS, Plane, Told, lay_path, tell
from memhop.data.story import Question, Story

_WORDS = dict(zip(STEPS, ("north", "south", "east", "west"), strict=True))


def _tell_relations(chance: Chance, dials: Dials) -> Story:
    """Places in a row, as the three of a released story are; asks for the subject of a statement.

    "What is west of X?" and "What is X west of?" are as likely. Longer stories have longer rows;
    when there are no more places, statements come again, from either side.
    """
    count = draw_length(chance, dials, 1) or max(2, 1)
    row = chance.sample(dials.places, min(count + 1, len(dials.places)))
    plane, step = Plane(row[0]), chance.pick(STEPS)
    for neighbour, place in pairwise(row):
        plane.put(place, neighbour, step)
    told = tell(plane, count, chance)
    fact = told.latest[chance.pick(told.pairs)]
    answer, other = told.pairs[fact]
    if chance.happens(0.5):
        text = f"What is {_direction(plane, answer, other)} of the {other}?"
    else:
        text = f"What is the {other} {_direction(plane, other, answer)} of?"
    return Story(_statements(plane, told), (Question(count, text, answer, (fact,)),))


def _check_relations(dials: Dials) -> None:
    check_range("places", len(dials.places), 2)
    check_length(dials, 1)


def _tell_paths(chance: Chance, dials: Dials) -> Story:
    """A path of ``dials.hops`` steps, and other places around it.

    The path asked for is the only shortest one, both for a reader who goes only where a statement
    leads and for one who draws the map and goes between any two places that are one step apart.
    The released stories take care of the first reader only: in 43% a place at the inner corner of
    the path allows a second path of the same length, and in 7% two places share that corner.
    """
    hops = dials.hops
    count = draw_length(chance, dials, hops) or max(5, hops)
    places = chance.sample(dials.places, min(count + 1, len(dials.places)))
    path = places[: hops + 1]
    plane = lay_path(path, chance)
    _surround(plane, places[hops + 1 :], chance)
    told = tell(plane, count, chance)
    steps = [_direction(plane, to, at) for at, to in pairwise(path)]
    answer = ",".join(step[0] for step in steps)
    text = f"How do you go from the {path[0]} to the {path[-1]}?"
    return Story(_statements(plane, told), (Question(count, text, answer, told.chain(path)),))


def _check_paths(dials: Dials) -> None:
    check_range("places", len(dials.places), 2)
    check_range("hops", dials.hops, 1, len(dials.places) - 1)
    check_length(dials, dials.hops)


def _surround(plane: Plane, places: Sequence[str], chance: Chance) -> None:
    """Puts places beside the path, and beside each other where the path has no free side left.

    A spot beside two places of the path would let a second path through, so it stays free; further
    out each place has one neighbour only, which leads nowhere else.
    """
    sides, alone = plane.sides(), plane.sides(alone=True)
    near = []
    # As in the released stories a place of the path draws others by all its free sides, even those
    # that must stay free here.
    for neighbour, _ in chance.sample(sides, len(sides)):
        if own := [side for side in alone if side[0] == neighbour]:
            near.append(chance.pick(own))
            alone.remove(near[-1])
    for place, (neighbour, step) in zip(places, near, strict=False):
        plane.put(place, neighbour, step)
    for place in places[len(near) :]:
        plane.put(place, *chance.pick(plane.sides(alone=True)))


def _statements(plane: Plane, told: Told) -> tuple[str, ...]:
    text = {
        pair: f"The {pair[0]} is {_direction(plane, *pair)} of the {pair[1]}."
        for pair in told.latest
    }
    return tuple(text[pair] for pair in told.pairs)


def _direction(plane: Plane, place: str, other: str) -> str:
    return _WORDS[plane.offset(place, other)]


RELATIONS = Kind(_tell_relations, _check_relations, frozenset({"places"}))
"""Task 4: two statements, one of which is asked about."""

PATHS = Kind(_tell_paths, _check_paths, frozenset({"places", "hops"}))
"""Task 19: the steps from one place to another."""
