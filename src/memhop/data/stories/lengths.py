"""How many statements stand before the last question of a story."""

from memhop.data.stories.chance import Chance
from memhop.data.stories.kind import Dials, check_range


def check_length(dials: Dials, fewest: int) -> None:
    """Refuses a range in which no length holds the ``fewest`` statements that a question needs."""
    if dials.statements is not None:
        least, most = dials.statements
        check_range("statements, at the least", least, 1)
        check_range("statements, at the most", most, max(least, fewest))


def draw_length(chance: Chance, dials: Dials, fewest: int) -> int | None:
    """A length drawn evenly from the range, raised to ``fewest``; None for the released shape."""
    if dials.statements is None:
        return None
    least, most = dials.statements
    least = max(least, fewest)
    return least + chance.below(most - least + 1)
