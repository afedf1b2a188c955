"""Answer the questions of all 20 tasks from their text alone.

This checks generated stories, so it shares no code with the generator. It accepts only the released
sentence forms, with any names of people, places and things.
"""

import re

from memhop.example import Example

from .answers_acts import ACT_TASKS, PUT
from .answers_relations import RELATION_TASKS

TASKS = {**ACT_TASKS, **RELATION_TASKS}


def answer(task: int, story: tuple[str, ...], question: str) -> str:
    """Return the answer that follows from these statements.

    Raises:
        AssertionError: a statement or the question has no released form of the task, or the
            answer is ambiguous or unknown.
    """
    try:
        return TASKS[task].answer(story, question)
    except AssertionError as error:
        raise AssertionError(f"{question}: {error}") from None


def suffices(task: int, example: Example) -> bool:
    """Return whether the answer follows from the supporting facts alone, in story order.

    In task 3 a thing that is put down is assumed to have been in hand throughout the facts.
    """
    facts = tuple(example.story[fact] for fact in sorted(example.supporting_facts))
    put = re.fullmatch(rf"(\w+) {PUT}(?: there)?\.", facts[-1]) if task == 3 and facts else None
    if put:
        facts = (f"{put[1]} took the {put['what']}.", *facts)
    try:
        return answer(task, facts, example.question) == example.answer
    except AssertionError:
        return False
