"""What every kind of story is made by: who tells it, within which dials."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from memhop.data.stories.chance import Chance
from memhop.data.story import Story
from memhop.errors import MemhopError


@dataclass(frozen=True)
class Dials:
    """What a person may set.

    Attributes:
        people, places, things: the words that a story may use.
        statements: least and most statements before a question, the number before the last drawn
            evenly from it; None is the shape of the released files.
        reach: of how many of the last statements somebody asks, where people and things move;
            None for all.
        hops: steps of a path, or links in a chain of sizes.
    """

    people: Sequence[str]
    places: Sequence[str]
    things: Sequence[str]
    statements: tuple[int, int] | None = None
    reach: int | None = 5
    hops: int = 2


class Kind(NamedTuple):
    """A kind of story.

    Attributes:
        tell: one story.
        check: a MemhopError, in one line, where the dials cannot be met; before the first story.
        uses: the settings of `generate` that change what such a story says, of people, places,
            objects and hops.
        people, places: the words of the released files, where they are not the first of all.
    """

    tell: Callable[[Chance, Dials], Story]
    check: Callable[[Dials], None]
    uses: frozenset[str] = frozenset()
    people: tuple[str, ...] = ()
    places: tuple[str, ...] = ()


def check_range(name: str, came: int, fewest: int, most: int | None = None) -> None:
    """Raises MemhopError for a number out of its range."""
    if came < fewest or (most is not None and came > most):
        needed = f"at least {fewest}" if most is None else f"{fewest} to {most}"
        raise MemhopError(f"{name}: {came}; needed {needed}")
