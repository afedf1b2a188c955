"""Coloured shapes on a plane: is this one above that one (task 17)?

A statement is read as one step on a grid: what is above something is straight above it. The
questions are wider: all that is higher is above. So what stands above something that is to the left
of a shape is above that shape. Three of four questions of the released files need this reading, and
with it each has one answer; nothing else is asked here.
"""

from collections.abc import Sequence

from memhop.data.stories.chance import Chance
from memhop.data.stories.kind import Dials, Kind, check_range
from memhop.data.stories.lengths import check_length, draw_length
from memhop.data.stories.plane import STEPS, Plane, Told, lay_path, tell
from memhop.data.story import Question, Story

SHAPES = ("triangle", "red square", "blue square", "yellow square", "pink rectangle", "red sphere")
"""All shapes of the released files."""

QUESTIONS = 8
"""Questions a story."""

_WORDS = dict(zip(STEPS, ("above", "below", "to the right of", "to the left of"), strict=True))


def _tell_positions(chance: Chance, dials: Dials) -> Story:
    """A chain of shapes, others beside them in longer stories; all questions are of its two ends.

    Questions may come twice, as they do in the released stories.
    """
    hops = dials.hops
    count = draw_length(chance, dials, hops) or hops
    shapes = chance.sample(SHAPES, min(count + 1, len(SHAPES)))
    chain = shapes[: hops + 1]
    plane = lay_path(chain, chance)
    for shape in shapes[hops + 1 :]:
        plane.put(shape, *chance.pick(plane.sides()))
    told = tell(plane, count, chance)
    questions = tuple(_question(plane, told, chain, chance) for _ in range(QUESTIONS))
    return Story(_statements(plane, told), questions)


def _check_positions(dials: Dials) -> None:
    check_range("hops", dials.hops, 1, len(SHAPES) - 1)
    check_length(dials, dials.hops)


def _question(plane: Plane, told: Told, chain: Sequence[str], chance: Chance) -> Question:
    """Draws which end comes first, then the answer, then one of the relations that it is true of.

    Of two shapes in line one relation holds and three do not, yet either answer is as likely.
    """
    if chance.happens(0.5):
        chain = chain[::-1]
    right, up = plane.offset(chain[0], chain[-1])
    yes = chance.happens(0.5)
    fitting = [word for (x, y), word in _WORDS.items() if (x * right + y * up > 0) == yes]
    text = f"Is the {chain[0]} {chance.pick(fitting)} the {chain[-1]}?"
    return Question(len(told.pairs), text, "yes" if yes else "no", told.chain(chain))


def _statements(plane: Plane, told: Told) -> tuple[str, ...]:
    """The neighbour comes first: in the released files the middle shape mostly is the subject."""
    text = {
        (name, shape): f"The {shape} is {_WORDS[plane.offset(shape, name)]} the {name}."
        for name, shape in told.latest
    }
    return tuple(text[pair] for pair in told.pairs)


POSITIONS = Kind(_tell_positions, _check_positions, frozenset({"hops"}))
"""Task 17: how two shapes stand to each other that no statement is about."""
