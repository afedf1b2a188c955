"""Inflected forms of bAbI tasks: the same stories in a language with cases and agreeing verbs.

The rule, for tasks 1 to 6 and 11 to 14 (released or from `memhop.data.generate`):

| word | ending | example |
|---|---|---|
| place after to, in, of, before | ``un``, ``es``, ``ir``, ``em`` | to the kitchenun |
| thing after a verb such as took | ``et`` | took the milket |
| person after to | ``el`` | to Fredel |
| verb of a woman, a man, several people | ``la``, ``lo``, ``li`` | Mary wentla |

Subjects and answers keep their form (the nominative).
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from memhop.data.stories.task import WOMEN
from memhop.example import Example

INFLECTED_TASKS = (1, 2, 3, 4, 5, 6, 11, 12, 13, 14)
_CASES = {"to": "un", "in": "es", "of": "ir", "before": "em"}
_MOVED = "went|moved|travelled|journeyed"
_HELD = "got|took|grabbed|picked|dropped|left|discarded|put|gave|handed|passed"
_WOMEN = frozenset((*WOMEN, "she"))

_PLACE = re.compile(rf"\b({'|'.join(_CASES)}) the (\w+)")
_THING = re.compile(rf"\b((?:{_HELD}|give|received)(?: up| down)? the )(\w+)")
_PERSON = re.compile(r"\b(to [A-Z]\w+)")
_SUBJECT = re.compile(rf"((?:\band )?)\b(?!Who\b)([A-Z]\w+|he|she|they) ({_MOVED}|{_HELD})\b")
_ASKED_SUBJECT = re.compile(r"\b(was|did) ([A-Z]\w+)")


def inflected(examples: Iterable[Example]) -> list[Example]:
    """Return the examples with inflected statements and questions; the answers are unchanged.

    >>> story = ("Mary picked up the milk.", "Then she went back to the office.")
    >>> for each in inflected([Example(story, "Where is the milk?", "office", (0, 1))])[0]:
    ...     print(each)
    ('Mary pickedla up the milket.', 'Then she wentla back to the officeun.')
    Where is the milk?
    office
    (0, 1)
    """
    return [
        example._replace(
            story=tuple(inflected_sentence(statement) for statement in example.story),
            question=inflected_sentence(example.question),
        )
        for example in examples
    ]


@lru_cache(maxsize=100_000)
def inflected_sentence(sentence: str) -> str:
    """Return one statement or question in its inflected form.

    >>> inflected_sentence("Mary and Daniel travelled to the park yesterday.")
    'Mary and Daniel travelledli to the parkun yesterday.'
    >>> inflected_sentence("Jeff gave the apple to Mary.")
    'Jeff gavelo the appleet to Maryel.'
    >>> inflected_sentence("Where was Julie before the school?")
    'Where wasla Julie before the schoolem?'
    >>> inflected_sentence("The office is north of the kitchen.")
    'The office is north of the kitchenir.'
    """
    sentence = _PLACE.sub(lambda m: f"{m[0]}{_CASES[m[1]]}", sentence)
    sentence = _PERSON.sub(r"\1el", sentence)
    sentence = _THING.sub(r"\1\2et", sentence)
    sentence = _ASKED_SUBJECT.sub(lambda m: f"{m[1]}{_gender(m[2])} {m[2]}", sentence)
    return _SUBJECT.sub(
        lambda m: f"{m[0]}{'li' if m[1] else _gender(m[2])}",
        sentence,
    )


def _gender(subject: str) -> str:
    return "li" if subject == "they" else "la" if subject in _WOMEN else "lo"
