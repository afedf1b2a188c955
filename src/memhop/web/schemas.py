"""What goes in and out of the service, as OpenAPI describes it."""

from typing import Annotated

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
from memhop.tokenizer import split_sentences, word_pattern
from memhop.web.limits import ALL_SENTENCES, CHARACTERS, QUESTIONS, SENTENCES


def _split(story: object) -> object:
    return split_sentences(story) if isinstance(story, str) else story


_Text = Annotated[str, Field(max_length=CHARACTERS)]
_List = {
    "type": "array",
    "maxItems": SENTENCES,
    "items": {"type": "string", "maxLength": CHARACTERS},
}
_Story = Annotated[
    list[_Text],
    Field(
        max_length=SENTENCES,
        description="Sentences, oldest first; or one text, split at line ends and after . ! ?",
    ),
    BeforeValidator(_split),
    WithJsonSchema({"anyOf": [_List, {"type": "string"}]}),
]
_WORD = word_pattern()


class Asked(BaseModel):
    """A story and a question about it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "story": ["Mary took the milk.", "Mary went to the garden."],
                "question": "Where is the milk?",
            }
        },
    )

    story: _Story
    question: Annotated[
        str,
        Field(
            max_length=CHARACTERS, pattern=_WORD, description="A question with at least one word."
        ),
    ]
    model: Annotated[
        str | None, Field(description="The name of a model; the first one without.")
    ] = None


def _together(many: list[Asked]) -> list[Asked]:
    sentences = sum(len(one.story) for one in many)
    if sentences > ALL_SENTENCES:
        needed = f"at most {ALL_SENTENCES:,} sentences in all stories"
        raise PydanticCustomError("too_long", f"needs {needed}, has {sentences:,}")
    return many


Many = Annotated[list[Asked], Field(max_length=QUESTIONS), AfterValidator(_together)]


class Ranked(BaseModel):
    """An answer and its probability."""

    answer: str
    probability: float


class Answered(BaseModel):
    """What a model says, and what its hops read."""

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
        list[str], Field(description="Words that training never showed, read as nothing.")
    ]
    truncated: Annotated[
        int, Field(description="How many of the oldest sentences the memory could not hold.")
    ]

    @classmethod
    def of(cls, model: str, answer: Answer) -> "Answered":
        """The answer of a model, ready to be sent; six digits of attention say all there is."""
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


def _number(value: object) -> object:
    """Refuse what pydantic would turn into a number: in JSON, true and "1" are none."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


_Count = Annotated[int, Field(ge=0), BeforeValidator(_number)]


class Page(BaseModel):
    """The text of the two fields of the page, finished or not."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "story": "1 Mary took the milk.\n2 Mary went home.\n3 Where is Mary?\thome\t2",
                "question": "",
            }
        },
    )

    story: Annotated[str, Field(max_length=SENTENCES * CHARACTERS)]
    question: Annotated[str, Field(max_length=SENTENCES * CHARACTERS)] = ""
    model: Annotated[
        str | None, Field(description="The name of a model; the first one without.")
    ] = None
    keep_lines: Annotated[
        StrictBool, Field(description="Read each line as one sentence, whatever it holds.")
    ] = False
    caret_line: Annotated[
        _Count | None, Field(description="The line, from 0 on, that is being written in.")
    ] = None
    last_number: Annotated[
        _Count, Field(description="The last line number of a bAbI file that was dropped.")
    ] = 0


class ReadLine(BaseModel):
    """One line of the story as the model reads it."""

    sentence: Annotated[str | None, Field(description="To be sent to /api/answer, if any.")]
    words: Annotated[
        list[str],
        Field(description="The line in pieces: in turn text that is read, an unknown word."),
    ]


class FoundQuestion(BaseModel):
    """A question that stood in the story."""

    question: str
    answer: Annotated[str | None, Field(description="The right one, from a bAbI file.")]
    lines: Annotated[int, Field(description="How many lines of the story come before it.")]


class Rewritten(BaseModel):
    """The story with one sentence a line; the page puts it in place of what was written."""

    lines: list[str]
    questions: Annotated[list[FoundQuestion], Field(description="The last one is asked.")]
    stories: Annotated[int, Field(description="Stories in the text; the first one is in lines.")]
    last_number: int


class Reading(BaseModel):
    """How a model reads a story and a question."""

    lines: list[ReadLine]
    question: Annotated[list[str], Field(description="In pieces, as the words of a line.")]
    asks: Annotated[bool, Field(description="Whether the question holds a word.")]
    unknown_words: list[str]
    knows_story: Annotated[bool, Field(description="Whether it knows a word of the story.")]
    knows_question: Annotated[bool, Field(description="Whether it knows a word of the question.")]
    rewritten: Annotated[
        Rewritten | None, Field(description="What the rest is about, if not what was sent.")
    ]


class Words(BaseModel):
    """The words that a model knows."""

    words: Annotated[list[str], Field(description="The first ones, in alphabetical order.")]
    total: int


class Model(BaseModel):
    """A model to choose, and what is known of it."""

    name: str
    test_error: Annotated[
        float | None, Field(description="Percent wrong of the test questions of its training.")
    ]
    words: Annotated[int, Field(description="Words it knows.")]
    memory_slots: Annotated[int, Field(description="Sentences it remembers, the last ones.")]
    hops: int


class Task(BaseModel):
    """A task that a model knows."""

    task: int
    title: str
    error: Annotated[float, Field(description="Percent wrong of 100 freshly generated questions.")]


class Fresh(BaseModel):
    """A freshly generated story, a question, and the right answer."""

    story: list[str]
    question: str
    answer: str


class Health(BaseModel):
    """The server answers."""

    status: str
    version: str


class Problem(BaseModel):
    """Why a request was refused, in one sentence."""

    detail: str
