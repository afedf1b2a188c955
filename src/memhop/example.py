"""Example: a story, a question and its answer."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


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
