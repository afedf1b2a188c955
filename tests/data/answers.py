"""Answers to the questions of all 20 tasks, re-derived from nothing but their text.

This judges generated stories, so it shares no code with what generates them. It takes the released
forms of the sentences and no others, whatever the names of people, places and things in them.
"""

import re

from memhop.example import Example

from .answers_acts import ACT_TASKS, PUT
from .answers_relations import RELATION_TASKS

TASKS = {**ACT_TASKS, **RELATION_TASKS}


def answer(task: int, story: tuple[str, ...], question: str) -> str:
    """The answer that these statements give.

    Raises AssertionError with the text in question where a statement or the question does not have
    a released form of the task, or where the statements leave the answer open.
    """
    try:
        return TASKS[task].answer(story, question)
    except AssertionError as error:
        raise AssertionError(f"{question}: {error}") from None


def suffices(task: int, example: Example) -> bool:
    """Whether the answer follows from the supporting facts alone, told in the order of the story.

    In task 3 a thing that is put down was in hand all the way that the facts tell of. In all other
    tasks the facts have to do without anything that they do not say.
    """
    alone = tuple(example.story[fact] for fact in sorted(example.supporting_facts))
    put = re.fullmatch(rf"(\w+) {PUT}(?: there)?\.", alone[-1]) if task == 3 and alone else None
    if put:
        alone = (f"{put[1]} took the {put['what']}.", *alone)
    try:
        return answer(task, alone, example.question) == example.answer
    except AssertionError:
        return False
