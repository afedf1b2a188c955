"""The requests and responses of the HTTP API."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from memhop.text.answer import Answer
from memhop.text.model import MemN2N
from memhop.tokenizer import split_sentences, word_pattern
from memhop.web.limits import ALL_SENTENCES, CHARACTERS, QUESTIONS, SENTENCES
from memhop.web.models import AnyServed, ServedStore


def _split(story: object) -> object:
    return split_sentences(story) if isinstance(story, str) else story


Text = Annotated[str, Field(max_length=CHARACTERS)]
_List = {
    "type": "array",
    "maxItems": SENTENCES,
    "items": {"type": "string", "maxLength": CHARACTERS},
}
_Story = Annotated[
    list[Text],
    Field(
        max_length=SENTENCES,
        description="Sentences, oldest first; or one text, split at line ends and after . ! ?",
    ),
    BeforeValidator(_split),
    WithJsonSchema({"anyOf": [_List, {"type": "string"}]}),
]
_Question = Annotated[
    str,
    Field(
        max_length=CHARACTERS,
        pattern=word_pattern(),
        description="A question with at least one word.",
    ),
]
_DEFAULT_MODEL = "The name of a model; default: the first."
ModelName = Annotated[str | None, Field(description=_DEFAULT_MODEL)]
ModelQuery = Annotated[str | None, Query(description=_DEFAULT_MODEL)]


def request_config(**example: object) -> ConfigDict:
    """Return the settings of a request: an example, and no further keys."""
    return ConfigDict(extra="forbid", json_schema_extra={"example": {**example}})  # type: ignore[dict-item]


class AnswerRequest(BaseModel):
    """A story and a question about it."""

    model_config = request_config(
        story=["Mary took the milk.", "Mary went to the garden."], question="Where is the milk?"
    )

    story: _Story
    question: _Question
    model: ModelName = None


def _check_total(many: list[AnswerRequest]) -> list[AnswerRequest]:
    sentences = sum(len(one.story) for one in many)
    if sentences > ALL_SENTENCES:
        expected = f"at most {ALL_SENTENCES:,} sentences in all stories"
        raise PydanticCustomError("too_long", f"expected {expected}, got {sentences:,}")
    return many


AnswerRequests = Annotated[
    list[AnswerRequest], Field(max_length=QUESTIONS), AfterValidator(_check_total)
]


class Ranked(BaseModel):
    """An answer and its probability."""

    answer: str
    probability: float


class AnswerResponse(BaseModel):
    """The answer of a model, and what each hop read."""

    model: str
    question: str
    answer: str
    probability: float
    runners_up: list[Ranked]
    sentences: list[str]
    attention: Annotated[
        list[list[float]],
        Field(description="[hops][sentences]: how much each hop read of each sentence."),
    ]
    unknown_words: Annotated[
        list[str], Field(description="Words that are not in the vocabulary; ignored.")
    ]
    truncated: Annotated[
        int, Field(description="Number of oldest sentences that do not fit into the memory.")
    ]

    @classmethod
    def of(cls, model: str, answer: Answer) -> "AnswerResponse":
        """Return the response for an answer; attention has float32 precision, 6 digits."""
        return cls(
            model=model,
            question=answer.question,
            answer=answer.answer,
            probability=answer.probability,
            runners_up=[Ranked(answer=word, probability=p) for word, p in answer.runners_up],
            sentences=list(answer.sentences),
            attention=[[round(p, 6) for p in hop] for hop in answer.attention.tolist()],
            unknown_words=list(answer.unknown_words),
            truncated=answer.truncated,
        )


def reject_non_integer(value: object) -> object:
    """Reject JSON true and "1", which pydantic would convert to a number."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


_Count = Annotated[int, Field(ge=0), BeforeValidator(reject_non_integer)]


class Page(BaseModel):
    """The text of the two fields of the page, complete or not."""

    model_config = request_config(
        story="1 Mary took the milk.\n2 Mary went home.\n3 Where is Mary?\thome\t2", question=""
    )

    story: Annotated[str, Field(max_length=SENTENCES * CHARACTERS)]
    question: Annotated[str, Field(max_length=SENTENCES * CHARACTERS)] = ""
    model: ModelName = None
    keep_lines: Annotated[StrictBool, Field(description="Read each line as one sentence.")] = False
    caret_line: Annotated[
        _Count | None, Field(description="The line of the caret, from 0; null if not in the story.")
    ] = None
    last_number: Annotated[
        _Count, Field(description="The last removed line number of a bAbI file.")
    ] = 0


class ReadLine(BaseModel):
    """One line of the story as the model reads it."""

    sentence: Annotated[str | None, Field(description="The sentence for /api/answer, if any.")]
    words: Annotated[
        list[str],
        Field(description="The line in pieces, alternately of known and of unknown words."),
    ]


class FoundQuestion(BaseModel):
    """A question in the text of the story."""

    question: str
    answer: Annotated[str | None, Field(description="The right answer, from a bAbI file.")]
    lines: Annotated[int, Field(description="Number of lines of the story before it.")]


class Rewritten(BaseModel):
    """The story with one sentence per line, which replaces the text of the page."""

    lines: list[str]
    questions: Annotated[list[FoundQuestion], Field(description="The page asks the last one.")]
    stories: Annotated[int, Field(description="Stories in the text; the first one is in lines.")]
    last_number: int


class Reading(BaseModel):
    """How a model reads a story and a question."""

    lines: list[ReadLine]
    question: Annotated[list[str], Field(description="In pieces, as the words of a line.")]
    asks: Annotated[bool, Field(description="Whether the question has a word.")]
    unknown_words: list[str]
    knows_story: Annotated[bool, Field(description="Whether it knows a word of the story.")]
    knows_question: Annotated[bool, Field(description="Whether it knows a word of the question.")]
    rewritten: Annotated[
        Rewritten | None, Field(description="The text of the other fields, if it was rewritten.")
    ]


class Words(BaseModel):
    """The words that a model knows."""

    words: Annotated[list[str], Field(description="The first ones, in alphabetical order.")]
    total: int


class Model(BaseModel):
    """A model of the server."""

    name: str
    kind: Annotated[
        Literal["stories", "knowledge", "store"],
        Field(
            description="What it answers questions about: stories, or the facts that it knows. "
            "A store is searched."
        ),
    ]
    test_error: Annotated[
        float | None, Field(description="Error in percent on the test questions of its training.")
    ]
    words: Annotated[int, Field(description="Number of words in its vocabulary; 0 of a store.")]
    memory_slots: Annotated[
        int | None, Field(description="Number of latest sentences in its memory; for stories.")
    ]
    hops: int
    facts: Annotated[int | None, Field(description="Number of facts; for knowledge.")]
    entities: Annotated[int | None, Field(description="Number of entities; for knowledge.")]
    rows: Annotated[int | None, Field(description="Number of rows; of a store.")] = None
    dim: Annotated[int | None, Field(description="Numbers of a vector; of a store.")] = None
    has_encoder: Annotated[
        bool | None, Field(description="Whether it can be searched by texts; of a store.")
    ] = None

    @classmethod
    def of(cls, served: AnyServed) -> "Model":
        """Return the description of a model or a store."""
        if isinstance(served, ServedStore):
            return cls._of_store(served)
        model = served.model
        return cls(
            name=served.name,
            kind="stories" if isinstance(model, MemN2N) else "knowledge",
            test_error=served.test_error,
            words=len(list(model.vocabulary)),
            memory_slots=model.sizes.memory_slots if isinstance(model, MemN2N) else None,
            hops=model.recipe.num_hops,
            facts=None if isinstance(model, MemN2N) else len(model.kb),
            entities=None if isinstance(model, MemN2N) else len(model.kb.entities),
        )

    @classmethod
    def _of_store(cls, served: ServedStore) -> "Model":
        store = served.store
        return cls(
            name=served.name, kind="store", test_error=None, words=0, memory_slots=None,
            hops=served.num_hops, facts=None, entities=None, rows=len(store), dim=store.dim,
            has_encoder=store.encoder is not None,
        )  # fmt: skip


class Task(BaseModel):
    """A task that a model knows."""

    task: int
    title: str
    error: Annotated[float, Field(description="Error in percent on 100 generated questions.")]


class ExampleResponse(BaseModel):
    """A story, a question, and the right answer."""

    story: list[str]
    question: str
    answer: str


class Health(BaseModel):
    """The server is running."""

    status: str
    version: str


class Problem(BaseModel):
    """Why a request was rejected, in one sentence."""

    detail: str
