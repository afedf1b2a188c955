"""How the answers of a task come about: a reader of its statements, and what answers a question."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


def form_of(forms: Mapping[str, str], text: str) -> tuple[str, re.Match[str]]:
    """The form that a text has, and what it holds; AssertionError if it has none of them."""
    for form, pattern in forms.items():
        if match := re.fullmatch(pattern, text):
            return form, match
    raise AssertionError(f"no form of the task has {text!r}")


class Task(NamedTuple):
    """A task as this judge knows it.

    Attributes:
        read: what the statements of a story say.
        questions: the forms of the questions, with functions that take what was read and the names
            in the question, as the form has them.
    """

    read: Callable[[Sequence[str]], Sequence[Any]]
    questions: Mapping[str, Callable[..., str]]

    def answer(self, story: Sequence[str], question: str) -> str:
        """What the statements answer; AssertionError for wrong forms and open answers."""
        form, match = form_of({form: form for form in self.questions}, question)
        return self.questions[form](self.read(story), *match.groups())
