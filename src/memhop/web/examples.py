"""Which tasks a model knows, and fresh examples of them."""

import secrets
from typing import NamedTuple

from memhop.data import TASK_NAMES, generate, to_examples
from memhop.example import Example
from memhop.text.model import MemN2N
from memhop.text.vocabulary import Vocabulary
from memhop.tokenizer import answer_word, split_words
from memhop.training.evaluation import evaluate, majority_error

_ASKED = 100  # of each task, to know how good the model is at it
_LONGEST = 10  # statements: an example is there to be read


class KnownTask(NamedTuple):
    """A task that a model knows, and percent wrong of 100 fresh questions."""

    task: int
    title: str
    error: float


def known_tasks(model: MemN2N) -> list[KnownTask]:
    """The tasks that a model was evidently trained for, whoever trained it.

    A model knows a task when it knows every word of it and makes at most half the errors of
    always giving the most frequent answer.
    """
    known = []
    for task, name in sorted(TASK_NAMES.items()):
        examples = _fresh(task, model, _ASKED, seed=0)
        if all(_is_readable(example, model.vocabulary) for example in examples):
            error = evaluate(model, examples).error
            if error <= majority_error(examples) / 2:
                known.append(KnownTask(task, name.replace("-", " "), error))
    return known


def fresh_example(task: int, model: MemN2N) -> Example:
    """A new example of a task that the model can hold in its memory."""
    example = _fresh(task, model, 1, seed=secrets.randbits(32))[0]
    return example._replace(answer=spelled_answer(example.answer, model))


def spelled_answer(answer: str, model: MemN2N) -> str:
    """Return an answer of a data set in the spelling of the model."""
    word = answer_word(answer)
    return model.vocabulary.spellings.get(word, word)


def _fresh(task: int, model: MemN2N, questions: int, seed: int) -> list[Example]:
    longest = max(3, min(_LONGEST, model.sizes.memory_slots))
    stories = generate(task, questions=questions, seed=seed, statements=(2, longest))
    return list(to_examples(stories))


def _is_readable(example: Example, vocabulary: Vocabulary) -> bool:
    words = {word for text in (*example.story, example.question) for word in split_words(text)}
    return all(word in vocabulary for word in (*words, answer_word(example.answer)))
