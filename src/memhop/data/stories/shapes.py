"""Coloured shapes on a plane (task 17): is this one above that one?

A statement is one step on a grid: above means directly above. A question is wider: everything
higher is above. So a shape that is above a neighbour to the left of another shape is above that
shape too. Three of four questions of the released files need this reading, and with it each has
one answer; all questions here are of this kind.
"""

from collections.abc import Sequence

from memhop.data.stories.plane import STEPS, Description, Plane, describe, lay_path
from memhop.data.stories.task import StorySettings, Task, check_length, check_range, draw_length
from memhop.data.story import Question, Story
from memhop.rng import Rng

SHAPES = ("triangle", "red square", "blue square", "yellow square", "pink rectangle", "red sphere")
"""All shapes of the released files."""

QUESTIONS = 8
"""Questions per story."""

_WORDS = dict(zip(STEPS, ("above", "below", "to the right of", "to the left of"), strict=True))


def _generate(rng: Rng, settings: StorySettings) -> Story:
    """Return a chain of shapes, with others around it in longer stories.

    All questions are about its two ends; a question may come twice, as in the released stories.
    """
    hops = settings.hops
    count = draw_length(rng, settings, hops) or hops
    shapes = rng.sample(SHAPES, min(count + 1, len(SHAPES)))
    chain = shapes[: hops + 1]
    plane = lay_path(chain, rng)
    for shape in shapes[hops + 1 :]:
        plane.put(shape, *rng.choice(plane.free_sides()))
    description = describe(plane, count, rng)
    questions = tuple(_question(plane, description, chain, rng) for _ in range(QUESTIONS))
    # the neighbour is the subject, as the middle shape mostly is in the released files
    statements = description.statements(
        lambda name, shape: f"The {shape} is {_WORDS[plane.offset(shape, name)]} the {name}."
    )
    return Story(statements, questions)


def _check(settings: StorySettings) -> None:
    check_range("hops", settings.hops, 1, len(SHAPES) - 1)
    check_length(settings, settings.hops)


def _question(plane: Plane, description: Description, chain: Sequence[str], rng: Rng) -> Question:
    """Draw the order of the two ends, then the answer, then a relation that has this answer.

    For shapes in one line one relation holds and three do not, but both answers are equally likely.
    """
    if rng.bernoulli(0.5):
        chain = chain[::-1]
    right, up = plane.offset(chain[0], chain[-1])
    yes = rng.bernoulli(0.5)
    relations = [word for (x, y), word in _WORDS.items() if (x * right + y * up > 0) == yes]
    text = f"Is the {chain[0]} {rng.choice(relations)} the {chain[-1]}?"
    answer = "yes" if yes else "no"
    return Question(len(description.pairs), text, answer, description.chain(chain))


POSITIONS = Task(_generate, _check, frozenset({"hops"}))
"""Task 17: the relation of two shapes that no statement compares."""
