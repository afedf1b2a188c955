"""The requests and responses of the HTTP API for models of facts."""

import re
import unicodedata
from itertools import chain
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, StrictBool

from memhop.knowledge.answer import HopRead, KnowledgeAnswer
from memhop.knowledge.names import question_words
from memhop.tokenizer import class_without
from memhop.web.limits import CHARACTERS, FACTS, TOPICS
from memhop.web.schemas import ModelName, Ranked, Text, reject_non_integer, request_config

_FACTS = 5  # of a hop, by default


def question_pattern() -> str:
    r"""Return a regular expression that matches in each text with a word.

    It matches in no other text, up to characters that Unicode has not assigned. It is a character
    class in the common syntax of Python, JavaScript and Rust.

    >>> pattern = re.compile(question_pattern())
    >>> [bool(pattern.search(text)) for text in ("who?", "\u00bd", " ?")]
    [True, True, False]
    """
    codes = chain(range(0xD800), range(0xE000, 0x20000), range(0xE0000, 0xE1000))
    others = [
        character
        for character in re.findall(r"[\W_\u02bb\u02bc\uff9e\uff9f]", "".join(map(chr, codes)))
        # a mark alone is a word, but with a symbol it can compose to a symbol
        if unicodedata.category(character)[0] in "CMZ" or not question_words(character)
    ]
    return class_without(others)


def _without_nul(question: object) -> object:
    """Read the character NUL, which no name of an entity has, as a space."""
    return question.replace("\0", " ") if isinstance(question, str) else question


class FactsQuestion(BaseModel):
    """A question about facts."""

    model_config = request_config(question="Who directed Jaws?", topics=["Jaws"])

    question: Annotated[
        str,
        Field(
            max_length=CHARACTERS,
            pattern=question_pattern(),
            description="A question with at least one word. Brackets can mark its topics.",
        ),
        BeforeValidator(_without_nul),
    ]
    topics: Annotated[
        list[Text] | None,
        Field(
            max_length=TOPICS,
            description="The entities that it is about; default: found in the question.",
        ),
    ] = None
    model: ModelName = None
    facts: Annotated[
        int,
        Field(ge=1, le=FACTS, description="The largest number of facts of a hop in the answer."),
        BeforeValidator(reject_non_integer),
    ] = _FACTS
    picture: Annotated[StrictBool, Field(description="Whether the answer has the graph.")] = False


class ReadFact(BaseModel):
    """A fact that a hop read."""

    subject: str
    relation: str
    object: str
    is_inverse: Annotated[bool, Field(description="Whether it was read from object to subject.")]
    weight: Annotated[float, Field(description="The attention of the hop to it.")]
    support: Annotated[float, Field(description="The share of the answer that came over it.")]


class WordAttention(BaseModel):
    """A word of the question, and the attention of a hop to it."""

    word: str
    attention: float


class ReadHop(BaseModel):
    """What a hop read."""

    facts: Annotated[list[ReadFact], Field(description="Those that lead to the answer first.")]
    num_facts: Annotated[int, Field(description="Number of all facts that it read.")]
    dropped: Annotated[
        float,
        Field(description="Share of weight that it did not follow; above 0 weights are estimates."),
    ]
    words: list[WordAttention]

    @classmethod
    def of(cls, hop: HopRead) -> "ReadHop":
        """Return what a hop read; weights have float32 precision, 6 digits."""
        facts = [
            ReadFact(
                subject=fact.subject,
                relation=fact.relation,
                object=fact.object,
                is_inverse=fact.is_inverse,
                weight=round(fact.weight, 6),
                support=round(fact.support, 6),
            )
            for fact in hop.facts
        ]
        words = [WordAttention(word=word, attention=round(p, 6)) for word, p in hop.words]
        return cls(facts=facts, num_facts=hop.num_facts, dropped=hop.dropped, words=words)


class FactsAnswer(BaseModel):
    """The answer of a model to a question about facts."""

    model: str
    question: str
    answer: Annotated[str | None, Field(description="The first of the answers; null if none.")]
    answers: Annotated[list[Ranked], Field(description="Strongest first.")]
    runners_up: list[Ranked]
    no_answer: Annotated[str, Field(description="Why there is no answer; empty if there is one.")]
    topics: Annotated[list[str], Field(description="The entities that the question is about.")]
    hops: list[ReadHop]
    unknown_words: Annotated[
        list[str], Field(description="Words that are not in the vocabulary; ignored.")
    ]
    unknown_entities: Annotated[
        list[str], Field(description="Given topics that are no entity of the facts.")
    ]
    picture: Annotated[
        str | None, Field(description="An SVG of the facts that each hop read, if requested.")
    ]

    @classmethod
    def of(cls, model: str, answer: KnowledgeAnswer, has_picture: bool) -> "FactsAnswer":
        """Return the response for an answer."""
        return cls(
            model=model,
            question=answer.question,
            answer=answer.answer,
            answers=_ranked(answer.answers),
            runners_up=_ranked(answer.runners_up),
            no_answer=answer.reason,
            topics=list(answer.topics),
            hops=[ReadHop.of(hop) for hop in answer.hops],
            unknown_words=list(answer.unknown_words),
            unknown_entities=list(answer.unknown_entities),
            picture=answer.picture().svg() if has_picture and answer.hops else None,
        )

    @classmethod
    def none(cls, model: str, question: str, reason: str) -> "FactsAnswer":
        """Return the response for a question without a word."""
        empty = KnowledgeAnswer(question, (), (), (), (), (), ())
        return cls.of(model, empty, False).model_copy(update={"no_answer": reason})


def _ranked(pairs: tuple[tuple[str, float], ...]) -> list[Ranked]:
    return [Ranked(answer=name, probability=share) for name, share in pairs]


class FactsExample(BaseModel):
    """A question that the model answers right, and all right answers."""

    question: str
    answers: list[str]


class Relation(BaseModel):
    """A relation, with one of its facts."""

    relation: str
    facts: Annotated[int, Field(description="Number of its facts.")]
    subject: str
    object: str


class Relations(BaseModel):
    """The relations of a model."""

    relations: Annotated[list[Relation], Field(description="Those with the most facts first.")]
    total: int
