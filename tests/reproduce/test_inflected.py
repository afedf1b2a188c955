"""Inflected forms: cases by preposition and verb, verbs that agree, answers in the nominative."""

import re

import pytest

from memhop.data import generate, to_examples
from memhop.reproduce.inflected import INFLECTED_TASKS, inflected, inflected_sentence

ENDINGS = ("un", "es", "ir", "em", "et", "el", "la", "lo", "li")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Mary and John went back to the cinema.", "Mary and John wentli back to the cinemaun."),
        ("After that she moved to the park.", "After that she movedla to the parkun."),
        ("Yesterday Bill moved to the park.", "Yesterday Bill movedlo to the parkun."),
        ("Following that they moved to the park.", "Following that they movedli to the parkun."),
        ("Fred put down the milk there.", "Fred putlo down the milket there."),
        ("Is Sandra in the hallway?", "Is Sandra in the hallwayes?"),
        ("What is the garden east of?", "What is the garden east of?"),
        ("What did Mary give to Fred?", "What didla Mary give to Fredel?"),
        ("Who did Fred give the apple to?", "Who didlo Fred give the appleet to?"),
        ("Who gave the apple to Mary?", "Who gave the appleet to Maryel?"),
        ("Who received the apple?", "Who received the appleet?"),
        ("Where was the apple before the park?", "Where was the apple before the parkem?"),
    ],
)
def test_sentences_are_inflected_by_the_rule(sentence: str, expected: str) -> None:
    assert inflected_sentence(sentence) == expected


@pytest.mark.parametrize("task", INFLECTED_TASKS)
def test_an_inflected_task_is_the_task_with_endings(task: int) -> None:
    """Without the endings the text is the old one: no form is that of two words."""
    examples = list(to_examples(generate(task, questions=60, seed=task)))
    changed = inflected(examples)
    words = {w for e in examples for s in (*e.story, e.question) for w in re.findall(r"\w+", s)}
    old_form = {word + ending: word for word in words for ending in ENDINGS} | {w: w for w in words}
    for old, new in zip(examples, changed, strict=True):
        assert (old.answer, old.supporting_facts) == (new.answer, new.supporting_facts)
        for one, other in zip((*old.story, old.question), (*new.story, new.question), strict=True):
            assert re.sub(r"\w+", lambda word: old_form[word[0]], other) == one
        assert new.story != old.story
    assert changed == inflected(examples)
