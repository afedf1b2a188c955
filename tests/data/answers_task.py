"""A task for the checker: how to read its statements and answer its questions."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


def form_of(forms: Mapping[str, str], text: str) -> tuple[str, re.Match[str]]:
    """Return the form of a text and its match; raise AssertionError if it has none of the forms."""
    for form, pattern in forms.items():
        if match := re.fullmatch(pattern, text):
            return form, match
    raise AssertionError(f"no form of the task has {text!r}")


class Task(NamedTuple):
    """A task.

    Attributes:
        read: return the facts of the statements.
        questions: the forms of the questions, with functions that take the facts and the names in
            the question, in the order of the form.
    """

    read: Callable[[Sequence[str]], Sequence[Any]]
    questions: Mapping[str, Callable[..., str]]

    def answer(self, story: Sequence[str], question: str) -> str:
        """Return the answer; raise AssertionError for wrong forms and ambiguous answers."""
        form, match = form_of({form: form for form in self.questions}, question)
        return self.questions[form](self.read(story), *match.groups())
