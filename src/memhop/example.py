"""A story, a question and its answer: what data yields and the text model reads."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Example(NamedTuple):
    """One question with the statements that stand before it in its story.

    Attributes:
        story: the statements, oldest first, as they were written; or one text, which the text
            model splits into its sentences. Statements without a word are not read.
        question: the question, as it was written.
        answer: the answer; several answers are one comma-separated list (``"apple,milk"``).
        supporting_facts: positions in ``story`` (from 0) of the statements that prove the
            answer; empty where the data names none.
    """

    story: Sequence[str]
    question: str
    answer: str
    supporting_facts: tuple[int, ...] = ()


def story_numbers(stories: Iterable[Sequence[object]]) -> list[int]:
    """The number of the story that the statements before each question belong to.

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
