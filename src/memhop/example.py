"""Example: a story, a question and its answer."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from memhop.errors import MemhopError, shown


class Example(NamedTuple):
    """A question with the statements before it in its story.

    Attributes:
        story: the statements, oldest first; or one text, which the text model splits into
            sentences. Statements without a word are dropped.
        question: the question.
        answer: the answer; several answers are a comma-separated list (``"apple,milk"``).
        supporting_facts: positions in ``story``, from 0 on, of the statements that prove the
            answer; empty if unknown.
    """

    story: Sequence[str]
    question: str
    answer: str
    supporting_facts: tuple[int, ...] = ()


def story_numbers(stories: Iterable[Sequence[object]]) -> list[int]:
    """Return the number of the story of each question, given the statements before it.

    >>> story_numbers([("a", "b"), ("a", "b", "c"), ("d",)])
    [0, 0, 1]
    """
    numbers: list[int] = []
    before: Sequence[object] = ()
    for story in stories:
        continues = bool(numbers) and story[: len(before)] == before
        numbers.append((numbers[-1] + (not continues)) if numbers else 0)
        before = story
    return numbers


def check_positions(facts: Any, count: int, where: str) -> tuple[int, ...]:
    """Return supporting facts of a story of ``count`` sentences as Python integers.

    NumPy's integers are accepted; ``where`` is named in errors.
    """
    try:
        if not isinstance(facts, Sequence) or bool in map(type, facts):
            raise TypeError
        indices = tuple(map(operator.index, facts))
    except TypeError:
        wanted = "expected supporting facts as positions in the story"
        raise MemhopError(f"{where}: {wanted}, got {shown(facts)}") from None
    for fact in indices:
        if not 0 <= fact < count:
            raise MemhopError(
                f"{where}: expected supporting facts below the {count} sentences of the story, "
                f"got {fact}"
            )
    return facts if type(facts) is tuple and set(map(type, facts)) <= {int} else indices
