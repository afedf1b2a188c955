"""The tasks that a model knows, and new examples of them."""

import secrets
from typing import NamedTuple

from memhop.data import TASK_NAMES, generate, to_examples
from memhop.example import Example
from memhop.text.model import MemN2N
from memhop.text.vocabulary import Vocabulary
from memhop.tokenizer import answer_word, split_words
from memhop.training.evaluation import evaluate, majority_error

_NUM_QUESTIONS = 100  # of each task, to measure the error of a model
_MAX_STATEMENTS = 10  # so that a person can read an example


class KnownTask(NamedTuple):
    """A task that a model knows, and its error in percent on 100 new questions."""

    task: int
    title: str
    error: float


def known_tasks(model: MemN2N) -> list[KnownTask]:
    """Return the tasks that a model knows, whatever it was trained on.

    A model knows a task if it knows every word of it, and its error is at most half the error of
    always giving the most frequent answer.
    """
    known = []
    for task, name in sorted(TASK_NAMES.items()):
        examples = _examples(task, model, _NUM_QUESTIONS, seed=0)
        if all(_is_readable(example, model.vocabulary) for example in examples):
            error = evaluate(model, examples).error
            if error <= majority_error(examples) / 2:
                known.append(KnownTask(task, name.replace("-", " "), error))
    return known


def new_example(task: int, model: MemN2N) -> Example:
    """Return a random example of a task that fits into the memory of the model."""
    example = _examples(task, model, 1, seed=secrets.randbits(32))[0]
    return example._replace(answer=answer_spelling(example.answer, model))


def answer_spelling(answer: str, model: MemN2N) -> str:
    """Return an answer of a data set in the spelling of the model."""
    word = answer_word(answer)
    return model.vocabulary.spellings.get(word, word)


def _examples(task: int, model: MemN2N, questions: int, seed: int) -> list[Example]:
    longest = max(3, min(_MAX_STATEMENTS, model.sizes.memory_slots))
    stories = generate(task, questions=questions, seed=seed, statements=(2, longest))
    return list(to_examples(stories))


def _is_readable(example: Example, vocabulary: Vocabulary) -> bool:
    words = {word for text in (*example.story, example.question) for word in split_words(text)}
    return all(word in vocabulary for word in (*words, answer_word(example.answer)))
