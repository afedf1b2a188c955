"""Write a path of relations as an English question.

A path is a tuple of steps; a step is a relation, or ``~`` and a relation that is read from object
to subject. `phrases` holds the texts.
"""

import re
from functools import cache
from typing import NamedTuple

from memhop.knowledge.phrases import IDIOMS, SHARED, STEPS, Phrase
from memhop.rng import Rng

Path = tuple[str, ...]
MAX_HOPS = 3
RELATIONS: tuple[str, ...] = tuple(
    phrase.steps[0] for phrase in STEPS if not phrase.steps[0].startswith("~")
)
"""The relations that have phrases, which are those of generated facts."""

_BY_STEP = {phrase.steps[0]: phrase for phrase in STEPS}
_BY_STEPS = {phrase.steps: phrase for phrase in (*STEPS, *IDIOMS, *SHARED)}
_TRIVIAL = ("~capital_of", "located_in")  # the country where it began
_HUBS = {"genre", "year", "language"}
_NUMBER = re.compile(r"([\[<])([^|]*)\|([^\]>]*)[\]>]")


class _Noun(NamedTuple):
    text: str
    is_many: bool


def back(step: str) -> str:
    """Return the step in the other direction; ``spouse`` is its own.

    >>> back("wrote"), back("~wrote"), back("spouse")
    ('~wrote', 'wrote', 'spouse')
    """
    if step.startswith("~"):
        return step[1:]
    return f"~{step}" if f"~{step}" in _BY_STEP else step


@cache
def paths(hops: int) -> tuple[Path, ...]:
    """Return all paths of 1, 2 or 3 steps that English has words for.

    Each step starts at the kind of entity where the one before ends. No path goes through a genre,
    a year or a language, or back along its last step, but for entities that share something with
    the topic ("the films that share a director with X") and for a detour that finds new entities
    ("the films directed by the directors of the films starring X").
    """
    if hops == 1:
        return tuple((step,) for step in _BY_STEP)
    longer = ((*path, step) for path in paths(hops - 1) for step in _BY_STEP)
    return tuple(path for path in longer if _is_sensible(path) and _segmentations(path))


def _is_sensible(path: Path) -> bool:
    *_, before, last = path
    start, end = _BY_STEP[last], _BY_STEP[before]
    if start.kinds[0] != end.kinds[1] or (before, last) == _TRIVIAL:
        return False
    if len(path) == 2 and (before, last) in _BY_STEPS:
        return True
    returns = last == back(before)
    if start.kinds[0] in _HUBS or (returns and len(path) == 2):
        return False
    return not (returns and (start.is_single or before == last))


@cache
def _segmentations(path: Path) -> tuple[tuple[Phrase, ...], ...]:
    """Return the ways to write a path as phrases; a return to the topic has one phrase."""
    found = []
    for first in range(1, min(2, len(path)) + 1):
        phrase = _BY_STEPS.get(path[:first])
        returns = first == 1 and len(path) > 1 and path[1] == back(path[0])
        if phrase is None or returns:
            continue
        found += [(phrase, *rest) for rest in _continuations(path[first:])]
    return tuple(found)


def _continuations(path: Path) -> list[tuple[Phrase, ...]]:
    """Return the ways to write the steps after the first phrase."""
    if not path:
        return [()]
    found = []
    for first in range(1, len(path) + 1):
        phrase = _BY_STEPS.get(path[:first])
        if phrase is not None and _usable(phrase.questions, is_first=False):
            found += [(phrase, *rest) for rest in _continuations(path[first:])]
    return found


def _usable(texts: tuple[str, ...], is_first: bool) -> list[str]:
    return [text for text in texts if is_first or "{x}" in text]


def question_text(path: Path, topic: str, rng: Rng) -> str:
    """Return one of the questions for a path of `paths` from a topic.

    >>> question_text(("~starred_actors", "directed_by"), "Ada Roth", Rng(4))
    'who directed the films starring Ada Roth'
    """
    noun = _Noun(topic, is_many=False)
    *inner, last = rng.choice(_segmentations(path))
    for phrase in inner:
        text = rng.choice(_usable(phrase.nouns, noun.text == topic))
        is_many = noun.is_many or not phrase.is_single
        noun = _Noun(_filled(text, noun, is_many), is_many)
    is_many = noun.is_many or not last.is_single
    if rng.bernoulli(2 / 3):
        return _filled(rng.choice(_usable(last.questions, noun.text == topic)), noun, is_many)
    text = rng.choice(_usable(last.nouns, noun.text == topic))
    word = "who" if last.kinds[1] == "person" else "what"
    opening = rng.choice((f"{word} [is|are]", f"{word} [is|are]", "name"))
    return _filled(f"{opening} {text}", noun, is_many)


def _filled(text: str, noun: _Noun, is_many: bool) -> str:
    """Return a text with its noun, in the number of the phrase and of the noun."""

    def number(match: re.Match[str]) -> str:
        of_phrase = match[1] == "["
        return match[3] if (is_many if of_phrase else noun.is_many) else match[2]

    text = _NUMBER.sub(number, text)
    return text.replace("{t}", noun.text).replace("{x}", noun.text)
