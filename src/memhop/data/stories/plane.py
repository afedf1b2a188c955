"""Objects on a grid, and the order in which a story describes them."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from memhop.rng import Rng

Step = tuple[int, int]

STEPS: tuple[Step, ...] = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""Up, down, right and left."""


def moved(spot: Step, step: Step) -> Step:
    """Return the spot after a step."""
    return spot[0] + step[0], spot[1] + step[1]


def opposite(step: Step) -> Step:
    """Return the step back."""
    return -step[0], -step[1]


class Plane:
    """The positions of objects.

    Attributes:
        spot: the position of each object; no two are equal.
        neighbours: for each object, those that it was put next to or that were put next to it.
    """

    def __init__(self, first: str) -> None:
        self.spot = {first: (0, 0)}
        self.neighbours: dict[str, list[str]] = {first: []}

    def put(self, name: str, neighbour: str, step: Step) -> None:
        """Put a new object ``step`` from ``neighbour``."""
        self.spot[name] = moved(self.spot[neighbour], step)
        self.neighbours[name] = [neighbour]
        self.neighbours[neighbour].append(name)

    def offset(self, name: str, other: str) -> Step:
        """Return the vector from ``other`` to ``name``."""
        (x, y), (other_x, other_y) = self.spot[name], self.spot[other]
        return x - other_x, y - other_y

    def free_sides(self, *, single: bool = False) -> list[tuple[str, Step]]:
        """Return the free spots next to an object, each as the object and the step from it.

        With ``single`` only the spots next to exactly one object.
        """
        taken = set(self.spot.values())
        free = [
            (name, step, side)
            for name, spot in self.spot.items()
            for step in STEPS
            if (side := moved(spot, step)) not in taken
        ]
        num_objects = Counter(side for _, _, side in free)
        return [(name, step) for name, step, side in free if not single or num_objects[side] == 1]


def lay_path(path: Sequence[str], rng: Rng) -> Plane:
    """Lay out a path in which no step undoes another, so that it is a shortest path."""
    plane = Plane(path[0])
    steps = list(STEPS)
    for at, to in pairwise(path):
        step = rng.choice(steps)
        steps = [other for other in steps if other != opposite(step)]
        plane.put(to, at, step)
    return plane


class Description(NamedTuple):
    """The pairs of neighbours that the statements of a story describe.

    Attributes:
        pairs: for each statement an object and its neighbour.
        latest: the last statement about each pair, in both orders.
    """

    pairs: list[tuple[str, str]]
    latest: dict[tuple[str, str], int]

    def chain(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the statements that lead from each of ``names`` to the next."""
        return tuple(self.latest[pair] for pair in pairwise(names))

    def statements(self, render: Callable[[str, str], str]) -> tuple[str, ...]:
        """Return the statements, written by ``render`` from an object and its neighbour."""
        text = {pair: render(*pair) for pair in self.latest}
        return tuple(text[pair] for pair in self.pairs)


def describe(plane: Plane, count: int, rng: Rng) -> Description:
    """Draw ``count`` statements: every pair of neighbours, and repetitions if ``count`` is larger.

    Each statement draws an object, then one of its neighbours. So a pair in which both have many
    neighbours comes late, and the object with more of them is drawn less often; the released
    stories have the same shares.
    """
    names = list(plane.neighbours)
    num_repetitions = count - (len(names) - 1)
    pairs: list[tuple[str, str]] = []
    latest: dict[tuple[str, str], int] = {}
    while len(pairs) < count:
        name = rng.choice(names)
        neighbour = rng.choice(plane.neighbours[name])
        if (name, neighbour) in latest:
            if not num_repetitions:
                continue
            num_repetitions -= 1
        latest[name, neighbour] = latest[neighbour, name] = len(pairs)
        pairs.append((name, neighbour))
    return Description(pairs, latest)
