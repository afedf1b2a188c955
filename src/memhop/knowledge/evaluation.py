"""Evaluate a knowledge model: the share of questions whose first answer is right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.knowledge.encoding import EncodedQuestion, batch_of
from memhop.knowledge.hops import QuestionBatch, Tracked, answer_weights
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.questions import Question
from memhop.picture.graph import VISIBLE

SMALLEST_WEIGHT = 1e-12  # its logarithm bounds the loss of an answer that is not reached


@dataclass(frozen=True)
class KnowledgeEvaluation:
    """The evaluation of a knowledge model on some questions.

    Attributes:
        questions: number of questions.
        hits: percentage of questions whose first answer is right (hits@1). Right are all answers
            that are listed for the same text and topics.
        listed_hits: percentage of questions whose first answer is the first one listed.
        unanswered: number of questions without any answer; they count as wrong.
        without_topic: number of questions in which no entity was found.
        unknown_words, unknown_answers: words outside the vocabulary; listed answers that are no
            entity of the facts.
        estimated: number of questions for which a hop dropped at least `VISIBLE` of the weight.
    """

    questions: int
    hits: float
    listed_hits: float
    unanswered: int
    without_topic: int
    unknown_words: tuple[str, ...]
    unknown_answers: tuple[str, ...]
    estimated: int


class Score(NamedTuple):
    """Percentage of wrong first answers, and mean loss; the order of preference."""

    error: float
    loss: float


def evaluate(model: KnowledgeModel, questions: Sequence[Question]) -> KnowledgeEvaluation:
    """Evaluate a model on questions; see `KnowledgeEvaluation`."""
    encoded = encode_all(model, questions)
    listed = [first_answer(model, question) for question in questions]
    hits = listed_hits = unanswered = estimated = place = 0
    for tracked, ranked in model.ranked(encoded):
        dropped = torch.stack([hop.dropped for hop in tracked.hops]).amax(0)
        estimated += int((dropped >= VISIBLE).sum())
        for row in ranked:
            first = int(row.entities[0]) if len(row.entities) else None
            unanswered += first is None
            hits += first in encoded[place].answers
            listed_hits += first is not None and first in listed[place]
            place += 1
    count = max(1, len(questions))
    unknown = dict.fromkeys(word for one in encoded for word in one.unknown_words)
    answers = dict.fromkeys(answer for question in questions for answer in question.answers)
    return KnowledgeEvaluation(
        len(questions),
        100 * hits / count,
        100 * listed_hits / count,
        unanswered,
        sum(not one.topics for one in encoded),
        tuple(unknown),
        tuple(answer for answer in answers if not model.kb.find(answer)),
        estimated,
    )


def encode_all(model: KnowledgeModel, questions: Sequence[Question]) -> list[EncodedQuestion]:
    """Return the questions as numbers; those with the same text and topics share their answers."""
    encoded = [model.encoder.encode(question) for question in questions]
    together: dict[tuple[object, ...], dict[int, None]] = {}
    keys = [(question.text, question.topics) for question in questions]
    for key, one in zip(keys, encoded, strict=True):
        together.setdefault(key, {}).update(dict.fromkeys(one.answers))
    return [
        one._replace(answers=tuple(together[key])) for key, one in zip(keys, encoded, strict=True)
    ]


def first_answer(model: KnowledgeModel, question: Question) -> tuple[int, ...]:
    """Return the entities of the first listed answer."""
    return model.kb.find(question.answers[0]) if question.answers else ()


@torch.inference_mode()
def score(model: KnowledgeModel, encoded: Sequence[EncodedQuestion]) -> Score:
    """Return error and mean loss on encoded questions."""
    wrong, place, loss = 0, 0, 0.0
    for tracked, ranked in model.ranked(encoded):
        asked = encoded[place : place + len(ranked)]
        loss += float(losses(model, tracked, batch_of(asked)).sum())
        for row, one in zip(ranked, asked, strict=True):
            wrong += not (len(row.entities) and int(row.entities[0]) in one.answers)
        place += len(asked)
    count = max(1, len(encoded))
    return Score(100 * wrong / count, loss / count)


def losses(model: KnowledgeModel, tracked: Tracked, batch: QuestionBatch) -> Tensor:
    """Return -log of the weight of the right answers of each question, [B]."""
    weights = answer_weights(tracked, batch, model.memory.num_nodes)
    return -(weights + SMALLEST_WEIGHT).log()
