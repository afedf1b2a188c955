"""A story, a question and its answer: what data yields and the text model reads."""

from typing import NamedTuple


class Example(NamedTuple):
    """One question with the statements that stand before it in its story.

    Attributes:
        story: the statements, oldest first, as they were written.
        question: the question, as it was written.
        answer: the answer; several answers are one comma-separated list (``"apple,milk"``).
        supporting_facts: positions in ``story`` (from 0) of the statements that prove the
            answer; empty where the data names none.
    """

    story: tuple[str, ...]
    question: str
    answer: str
    supporting_facts: tuple[int, ...] = ()
