"""Places on a map: which is north of which (task 4), and how to get there (task 19).

"The office is north of the kitchen" means one step north from the kitchen. So each place has at
most one neighbour in each direction, and no two places share a spot.
"""

from collections.abc import Sequence
from itertools import pairwise

from memhop.data.stories.plane import STEPS, Description, Plane, describe, lay_path
from memhop.data.stories.task import StorySettings, Task, check_length, check_range, draw_length
from memhop.data.story import Question, Story
from memhop.rng import Rng

_WORDS = dict(zip(STEPS, ("north", "south", "east", "west"), strict=True))


def _generate_relations(rng: Rng, settings: StorySettings) -> Story:
    """Return places in a row, as in a released story, and a question about one statement.

    "What is west of X?" and "What is X west of?" are equally likely. Longer stories have longer
    rows; when there are no more places, statements are repeated, from either side.
    """
    count = draw_length(rng, settings, 1) or 2
    row = rng.sample(settings.places, min(count + 1, len(settings.places)))
    plane, step = Plane(row[0]), rng.choice(STEPS)
    for neighbour, place in pairwise(row):
        plane.put(place, neighbour, step)
    description = describe(plane, count, rng)
    fact = description.latest[rng.choice(description.pairs)]
    answer, other = description.pairs[fact]
    if rng.bernoulli(0.5):
        text = f"What is {_direction(plane, answer, other)} of the {other}?"
    else:
        text = f"What is the {other} {_direction(plane, other, answer)} of?"
    return Story(_statements(plane, description), (Question(count, text, answer, (fact,)),))


def _check_relations(settings: StorySettings) -> None:
    check_range("places", len(settings.places), 2)
    check_length(settings, 1)


def _generate_paths(rng: Rng, settings: StorySettings) -> Story:
    """Return a path of ``settings.hops`` steps, with other places around it.

    The path is the only shortest one, both for a reader who moves only along statements and for
    one who draws the map and moves between any two neighbouring spots. The released stories
    ensure only the former: in 43% a place at the inner corner of the path allows a second path of
    the same length, and in 7% two places share that corner.
    """
    hops = settings.hops
    count = draw_length(rng, settings, hops) or max(5, hops)
    places = rng.sample(settings.places, min(count + 1, len(settings.places)))
    path = places[: hops + 1]
    plane = lay_path(path, rng)
    _surround(plane, places[hops + 1 :], rng)
    description = describe(plane, count, rng)
    steps = [_direction(plane, to, at) for at, to in pairwise(path)]
    answer = ",".join(step[0] for step in steps)
    text = f"How do you go from the {path[0]} to the {path[-1]}?"
    question = Question(count, text, answer, description.chain(path))
    return Story(_statements(plane, description), (question,))


def _check_paths(settings: StorySettings) -> None:
    check_range("places", len(settings.places), 2)
    check_range("hops", settings.hops, 1, len(settings.places) - 1)
    check_length(settings, settings.hops)


def _surround(plane: Plane, places: Sequence[str], rng: Rng) -> None:
    """Put places next to the path, then next to each other.

    A spot next to two places of the path stays free: it would allow a second path. Each new place
    has one neighbour, so it leads nowhere else.
    """
    sides, single = plane.free_sides(), plane.free_sides(single=True)
    chosen = []
    # As in the released stories, a place of the path attracts others in proportion to all its
    # free sides, including those that must stay free here.
    for neighbour, _ in rng.sample(sides, len(sides)):
        if own := [side for side in single if side[0] == neighbour]:
            chosen.append(rng.choice(own))
            single.remove(chosen[-1])
    for place, (neighbour, step) in zip(places, chosen, strict=False):
        plane.put(place, neighbour, step)
    for place in places[len(chosen) :]:
        plane.put(place, *rng.choice(plane.free_sides(single=True)))


def _statements(plane: Plane, description: Description) -> tuple[str, ...]:
    return description.statements(
        lambda place, other: f"The {place} is {_direction(plane, place, other)} of the {other}."
    )


def _direction(plane: Plane, place: str, other: str) -> str:
    return _WORDS[plane.offset(place, other)]


RELATIONS = Task(_generate_relations, _check_relations, frozenset({"places"}))
"""Task 4: two statements, and a question about one of them."""

PATHS = Task(_generate_paths, _check_paths, frozenset({"places", "hops"}))
"""Task 19: the steps from one place to another."""
