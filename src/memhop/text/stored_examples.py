"""Up to three training stories that a model keeps, to show what its stories look like."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from memhop.checkpoint import SCHEMA, check_schema, from_json, to_json
from memhop.errors import MemhopError
from memhop.example import Example

EXAMPLES = "examples.json"
MAX_EXAMPLES = 3
_MAX_SENTENCES = 50  # of a stored story: it is there to be read
_MAX_CHARACTERS = 1000  # of a stored sentence, question or answer
_READABLE = 12  # sentences: shorter stories are preferred


def choose_examples(texts: Sequence[Sequence[Example]]) -> tuple[Example, ...]:
    """Return up to three short examples from different places of the training texts.

    The choice depends on the texts alone. A text whose stories are all too long to read yields
    no example.

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
        readable = (example for example in fitting if 2 <= len(example.story) <= _READABLE)
        shortest = min(fitting, key=lambda example: len(example.story), default=None)
        if (example := next(readable, shortest)) is not None:
            chosen.setdefault(tuple(example)[:3], example._replace(supporting_facts=()))
    return tuple(chosen.values())


def examples_to_files(examples: Sequence[Example]) -> dict[str, bytes]:
    """Return the file of a checkpoint that holds the examples; no file for no example."""
    if not examples:
        return {}
    stored = [
        {"story": list(one.story), "question": one.question, "answer": one.answer}
        for one in examples
    ]
    return {EXAMPLES: to_json({"schema": SCHEMA, "examples": stored})}


def examples_from_files(files: dict[str, bytes], folder: Path) -> tuple[Example, ...]:
    """Return the examples of a checkpoint; none for a checkpoint without the file.

    Raises:
        MemhopError: another schema, or not what `examples_to_files` writes.
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
