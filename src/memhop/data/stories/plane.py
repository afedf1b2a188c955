"""Things on a plane, each one step beside another, and the order in which a story tells of them."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from memhop.data.stories.chance import Chance

Step = tuple[int, int]

STEPS: tuple[Step, ...] = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""Up, down, right and left."""


def moved(spot: Step, step: Step) -> Step:
    """The spot that is one step further."""
    return spot[0] + step[0], spot[1] + step[1]


def opposite(step: Step) -> Step:
    """The step back."""
    return -step[0], -step[1]


class Plane:
    """What stands where.

    Attributes:
        spot: where each one stands; no two stand on the same spot.
        beside: for each one the others that it was put beside, or that were put beside it.
    """

    def __init__(self, first: str) -> None:
        self.spot = {first: (0, 0)}
        self.beside: dict[str, list[str]] = {first: []}

    def put(self, name: str, neighbour: str, step: Step) -> None:
        """Puts a new one ``step`` from ``neighbour``."""
        self.spot[name] = moved(self.spot[neighbour], step)
        self.beside[name] = [neighbour]
        self.beside[neighbour].append(name)

    def offset(self, name: str, other: str) -> Step:
        """The way from ``other`` to ``name``."""
        (x, y), (other_x, other_y) = self.spot[name], self.spot[other]
        return x - other_x, y - other_y

    def sides(self, *, alone: bool = False) -> list[tuple[str, Step]]:
        """The free spots beside what stands there, each by a neighbour and the step from it.

        With ``alone`` only the spots that are beside no other.
        """
        taken = set(self.spot.values())
        found = [
            (name, step, side)
            for name, spot in self.spot.items()
            for step in STEPS
            if (side := moved(spot, step)) not in taken
        ]
        neighbours = Counter(side for _, _, side in found)
        return [(name, step) for name, step, side in found if not alone or neighbours[side] == 1]


def lay_path(path: Sequence[str], chance: Chance) -> Plane:
    """A path of which no step takes back another: none is shorter, and each leads further on."""
    plane = Plane(path[0])
    steps = list(STEPS)
    for at, to in pairwise(path):
        step = chance.pick(steps)
        steps = [other for other in steps if other != opposite(step)]
        plane.put(to, at, step)
    return plane


class Told(NamedTuple):
    """What the statements of a story are about.

    Attributes:
        pairs: for each statement the one that was drawn, and its neighbour.
        latest: the last statement about two neighbours, whichever was drawn.
    """

    pairs: list[tuple[str, str]]
    latest: dict[tuple[str, str], int]

    def chain(self, names: Sequence[str]) -> tuple[int, ...]:
        """The statements that lead from each of ``names`` to the next."""
        return tuple(self.latest[pair] for pair in pairwise(names))


def tell(plane: Plane, count: int, chance: Chance) -> Told:
    """Tells ``count`` times who stands beside whom: all of it, then anything again.

    Each time one is drawn, then one of its neighbours. So two that have many neighbours are told of
    late, and the one that has more is drawn less often of the two; the released stories have just
    these shares. What was told comes again only as often as ``count`` leaves room for.
    """
    names = list(plane.beside)
    again = count - (len(names) - 1)
    pairs: list[tuple[str, str]] = []
    latest: dict[tuple[str, str], int] = {}
    while len(pairs) < count:
        name = chance.pick(names)
        neighbour = chance.pick(plane.beside[name])
        if (name, neighbour) in latest:
            if not again:
                continue
            again -= 1
        latest[name, neighbour] = latest[neighbour, name] = len(pairs)
        pairs.append((name, neighbour))
    return Told(pairs, latest)
