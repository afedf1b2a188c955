"""Store up to three training stories with a model, to show how its stories look."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from memhop.checkpoint import SCHEMA, check_schema, from_json, to_json
from memhop.errors import MemhopError
from memhop.example import Example

EXAMPLES = "examples.json"
MAX_EXAMPLES = 3
_MAX_SENTENCES = 50  # of a stored story
_MAX_CHARACTERS = 1000  # of a stored sentence, question or answer
_MAX_PREFERRED = 12  # at most, if there is such a story


def choose_examples(texts: Sequence[Sequence[Example]]) -> tuple[Example, ...]:
    """Return up to three short examples from different parts of the training texts.

    The choice is deterministic. Texts with only long stories give no example.

    >>> story = Example(("Mary went home.",), "Where is Mary?", "home")
    >>> choose_examples([[story, story]])
    (Example(story=('Mary went home.',), question='Where is Mary?', answer='home', \
supporting_facts=()),)
    """
    examples = [example for text in texts for example in text]
    cuts = [len(examples) * part // MAX_EXAMPLES for part in range(MAX_EXAMPLES + 1)]
    chosen: dict[tuple[Any, ...], Example] = {}
    for begin, end in pairwise(cuts):
        fitting = [example for example in examples[begin:end] if _fits(example)]
        readable = (example for example in fitting if 2 <= len(example.story) <= _MAX_PREFERRED)
        shortest = min(fitting, key=lambda example: len(example.story), default=None)
        if (example := next(readable, shortest)) is not None:
            chosen.setdefault(tuple(example)[:3], example._replace(supporting_facts=()))
    return tuple(chosen.values())


def examples_to_files(examples: Sequence[Example]) -> dict[str, bytes]:
    """Return the checkpoint file of the examples; no file without examples."""
    if not examples:
        return {}
    stored = [
        {"story": list(one.story), "question": one.question, "answer": one.answer}
        for one in examples
    ]
    return {EXAMPLES: to_json({"schema": SCHEMA, "examples": stored})}


def examples_from_files(files: dict[str, bytes], folder: Path) -> tuple[Example, ...]:
    """Return the examples of a checkpoint; none if it has no such file.

    Raises:
        MemhopError: another schema, or corrupt examples.
    """
    if EXAMPLES not in files:
        return ()
    path = folder / EXAMPLES
    content = from_json(files[EXAMPLES], path)
    check_schema(content, path)
    stored = content.get("examples")
    if not isinstance(stored, list) or len(stored) > MAX_EXAMPLES:
        raise MemhopError(f"{path}: expected a list of at most {MAX_EXAMPLES} examples")
    return tuple(_example(one, path) for one in stored)


def _example(stored: object, path: Path) -> Example:
    if isinstance(stored, dict) and stored.keys() == {"story", "question", "answer"}:
        story, question, answer = stored["story"], stored["question"], stored["answer"]
        if isinstance(story, list) and all(
            isinstance(text, str) for text in (*story, question, answer)
        ):
            example = Example(tuple(story), question, answer)
            if _fits(example):
                return example
    raise MemhopError(f"{path}: expected examples with story, question and answer as short texts")


def _fits(example: Example) -> bool:
    texts = (*example.story, example.question, example.answer)
    return 1 <= len(example.story) <= _MAX_SENTENCES and max(map(len, texts)) <= _MAX_CHARACTERS
