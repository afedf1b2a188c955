"""What all tasks share: their interface, settings, checks and words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from memhop.data.story import Story
from memhop.errors import MemhopError
from memhop.rng import Rng

# The first words of each list are those of the released tasks 1 to 3.
PEOPLE = (
    *("Mary", "John", "Daniel", "Sandra"),
    *("Fred", "Bill", "Jeff", "Julie", "Emma", "Oscar", "Laura", "Peter"),
    *("Nina", "Hugo", "Clara", "Simon", "Vera", "Paul", "Ida", "Tom"),
)
WOMEN = ("Mary", "Sandra", "Julie", "Emma", "Laura", "Nina", "Clara", "Vera", "Ida")
PLACES = (
    *("garden", "bathroom", "kitchen", "office", "bedroom", "hallway"),
    *("park", "school", "cinema", "cellar", "attic", "garage", "library", "balcony"),
    *("station", "market", "church", "museum", "stable", "harbour"),
)
THINGS = (
    *("football", "milk", "apple"),
    *("book", "lamp", "umbrella", "key", "letter", "basket", "hammer", "towel", "candle"),
    *("violin", "map", "pillow", "bottle", "coat", "cup", "rope", "ladder"),
)
GOING = ("went to", "went back to", "moved to", "journeyed to", "travelled to")
TAKING = ("took", "got", "grabbed", "picked up")


@dataclass(frozen=True)
class StorySettings:
    """The settings of a story.

    Attributes:
        people, places, things: the words that a story may use.
        statements: minimum and maximum number of statements before the last question, drawn
            uniformly; None for the shape of the released files.
        reach: how many of the last statements a question may be about (tasks in which people and
            things move); None for all.
        hops: number of steps of a path, or of links in a chain.
    """

    people: Sequence[str]
    places: Sequence[str]
    things: Sequence[str]
    statements: tuple[int, int] | None = None
    reach: int | None = 5
    hops: int = 2


class Task(NamedTuple):
    """How to generate the stories of a task.

    Attributes:
        generate: return one story.
        check: raise a MemhopError of one line if the settings cannot be satisfied.
        uses: the settings of `generate` that change the stories, of people, places, objects and
            hops.
        people, places: the words of the released files, if they are not the first of all.
    """

    generate: Callable[[Rng, StorySettings], Story]
    check: Callable[[StorySettings], None]
    uses: frozenset[str] = frozenset()
    people: tuple[str, ...] = ()
    places: tuple[str, ...] = ()


def check_range(name: str, value: int, minimum: int, maximum: int | None = None) -> None:
    """Raise MemhopError if a number is out of range."""
    if value < minimum or (maximum is not None and value > maximum):
        expected = f"at least {minimum}" if maximum is None else f"{minimum} to {maximum}"
        raise MemhopError(f"{name}: expected {expected}, got {value}")


def check_length(settings: StorySettings, minimum: int) -> None:
    """Raise MemhopError if no length in the range has the ``minimum`` of statements."""
    if settings.statements is not None:
        low, high = settings.statements
        check_range("minimum of statements", low, 1)
        check_range("maximum of statements", high, max(low, minimum))


def draw_length(rng: Rng, settings: StorySettings, minimum: int) -> int | None:
    """Return a length drawn uniformly from the range, at least ``minimum``; None if not set."""
    if settings.statements is None:
        return None
    low, high = settings.statements
    low = max(low, minimum)
    return low + rng.randrange(high - low + 1)
