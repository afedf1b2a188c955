"""Questions and relation names as numbers."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.hops import PADDING, QuestionBatch, RelationNames
from memhop.knowledge.questions import Question
from memhop.knowledge.topics import TOPIC, TopicFinder
from memhop.ops.ragged.frontier import (
    RaggedMemory,
    offsets_of,
    ragged_memory,
    uniform_frontier,
)

UNKNOWN = 1  # the row of E of a question without a known word
RESERVED = ("", "<unknown>", TOPIC)  # their rows of E: PADDING, UNKNOWN, and the topic's


class EncodedQuestion(NamedTuple):
    """A question as numbers.

    Attributes:
        words: rows of E; unknown words are left out.
        topics: entities, distinct.
        answers: entities, distinct; right answers that are no entity are left out.
        unknown_words: words without a row of E.
        unknown_entities: given topics that are no entity.
    """

    words: tuple[int, ...]
    topics: tuple[int, ...]
    answers: tuple[int, ...]
    unknown_words: tuple[str, ...]
    unknown_entities: tuple[str, ...]

    @property
    def asks(self) -> bool:
        """Whether there is a known word besides the topics."""
        return any(row >= len(RESERVED) for row in self.words)


def vocabulary_of(kb: KnowledgeBase, questions: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the words of questions and of all relations, the reserved ones first."""
    named = (kb.relation_words(relation) for relation in range(len(kb.relations)))
    return tuple(dict.fromkeys(word for words in (RESERVED, *questions, *named) for word in words))


class Encoder:
    """Encodes questions for one knowledge base and vocabulary."""

    def __init__(self, kb: KnowledgeBase, vocabulary: Sequence[str], finder: TopicFinder) -> None:
        self.kb, self.finder = kb, finder
        self._rows = {word: row for row, word in enumerate(vocabulary)}

    def encode(self, question: Question) -> EncodedQuestion:
        """Return a question as numbers."""
        found = self.finder.find(question)
        rows = [self._rows[word] for word in found.words if word in self._rows]
        unknown = dict.fromkeys(word for word in found.words if word not in self._rows)
        answers = (entity for answer in question.answers for entity in self.kb.find(answer))
        return EncodedQuestion(
            tuple(rows or [UNKNOWN]),  # a question has at least one word
            found.entities,
            tuple(dict.fromkeys(answers)),
            tuple(unknown),
            found.unknown,
        )

    def relation_names(self) -> RelationNames:
        """Return the rows of the words of all relations."""
        rows = [
            [self._rows.get(word, UNKNOWN) for word in self.kb.relation_words(relation)]
            for relation in range(len(self.kb.relations))
        ]
        flat = torch.tensor([row for own in rows for row in own])
        return RelationNames(flat, offsets_of(torch.tensor([len(own) for own in rows]))[:-1])


def memory_of(kb: KnowledgeBase, inverse: bool) -> RaggedMemory:
    """Return the facts by subject; with ``inverse`` also by object, under inverse relations.

    The key of a fact is its relation r, read from object to subject R + r of R relations.
    """
    starts, keys, targets = (torch.from_numpy(column) for column in columns_of(kb, inverse))
    return ragged_memory(starts, keys, targets, len(kb.entities))


def columns_of(kb: KnowledgeBase, inverse: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return subject, relation and object of each fact, and then of the inverse facts."""
    subjects, relations, objects = (column.copy() for column in kb.facts.T)
    if not inverse:
        return subjects, relations, objects
    return (
        np.concatenate([subjects, objects]),
        np.concatenate([relations, relations + len(kb.relations)]),
        np.concatenate([objects, subjects]),
    )


def batch_of(questions: Sequence[EncodedQuestion]) -> QuestionBatch:
    """Return questions as the tensors of a batch."""
    lengths = torch.tensor([len(one.words) for one in questions])
    words = torch.full((len(questions), int(lengths.max())), PADDING)
    for row, one in zip(words, questions, strict=True):
        row[: len(one.words)] = torch.tensor(one.words)
    counts = torch.tensor([len(one.answers) for one in questions])
    answers = torch.tensor([answer for one in questions for answer in one.answers]).long()
    topics = uniform_frontier([one.topics for one in questions], torch.float32)
    return QuestionBatch(words, lengths, topics, offsets_of(counts), answers)
