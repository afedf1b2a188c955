"""The requests and responses of the HTTP API for stores."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag

from memhop.storage.record import Record
from memhop.storage.search import StoreHits
from memhop.web.limits import CHARACTERS, CONTENT, HITS
from memhop.web.schemas import ModelName, reject_non_integer, request_config

_HITS = 5  # of a hop, by default
_SAFE_INTEGER = 2**53 - 1  # the greatest one that a program in JavaScript reads exactly

_Name = Annotated[str, Field(max_length=CHARACTERS)]
_Number = Annotated[
    int, Field(ge=-_SAFE_INTEGER, le=_SAFE_INTEGER), BeforeValidator(reject_non_integer)
]
_NUMBER_TAG, _NAME_TAG = ID_TAGS = ("integer id", "text id")
_Id = Annotated[
    Annotated[_Name, Tag(_NAME_TAG)] | Annotated[_Number, Tag(_NUMBER_TAG)],
    Discriminator(lambda value: _NUMBER_TAG if type(value) in (int, float) else _NAME_TAG),
    Field(description="Its id. A text of digits can be an integer."),
]
_Most = Annotated[
    int,
    Field(ge=1, le=HITS, description="The largest number of rows of a hop in the answer."),
    BeforeValidator(reject_non_integer),
]


class RowQuery(BaseModel):
    """A row, whose vector is the query."""

    model_config = request_config(id="note-17")

    id: _Id
    model: ModelName = None
    rows: _Most = _HITS


class TextQuery(BaseModel):
    """A text, which the encoder of the store turns into a query."""

    model_config = request_config(text="Where is the milk?")

    text: _Name
    model: ModelName = None
    rows: _Most = _HITS


class Row(BaseModel):
    """A row of a store."""

    id: Annotated[str | int, Field(description="Its id; an integer beyond 2^53 as a text.")]
    text: Annotated[str | None, Field(description=f"At most {CONTENT:,} characters of its text.")]
    payload: Annotated[
        dict[str, Any] | None,
        Field(description=f"Its payload; null if it has more than {CONTENT:,} characters of JSON."),
    ]
    time: Annotated[float, Field(description="Seconds since 1970.")]

    @classmethod
    def of(cls, record: Record) -> "Row":
        """Return what a response says of a row."""
        is_integer = isinstance(record.id, int)
        is_safe = not is_integer or abs(int(record.id)) <= _SAFE_INTEGER
        payload = record.payload
        if payload is not None and len(json.dumps(payload, ensure_ascii=False)) > CONTENT:
            payload = None
        return cls(
            id=record.id if is_safe else str(record.id),
            text=None if record.text is None else record.text[:CONTENT],
            payload=payload,
            time=record.time,
        )


class ReadRow(Row):
    """A row that a hop read."""

    weight: Annotated[float, Field(description="The attention of the hop to it.")]
    score: Annotated[
        float | None, Field(description="Its inner product with the query; null with hops.")
    ]


class StoreHop(BaseModel):
    """The rows that a hop read most."""

    rows: Annotated[list[ReadRow], Field(description="Strongest first.")]
    covered: Annotated[float, Field(description="The share of the attention that they have.")]

    @classmethod
    def of(cls, hits: StoreHits) -> "StoreHop":
        """Return what a hop read; weights have float32 precision, 6 digits."""
        scores = hits.scores or (None,) * len(hits.ids)
        columns = zip(hits.ids, hits.texts, hits.payloads, hits.times, strict=True)
        records = [Record(name, None, text, payload, time) for name, text, payload, time in columns]
        rows = [
            ReadRow(**Row.of(one).model_dump(), weight=round(weight, 6), score=score)
            for one, weight, score in zip(records, hits.weights, scores, strict=True)
        ]
        return cls(rows=rows, covered=round(min(1.0, hits.covered), 6))


class StoreAnswer(BaseModel):
    """The rows that each hop of a query read most."""

    model: str
    query: Annotated[Row | None, Field(description="The row whose vector is the query, if any.")]
    text: Annotated[str | None, Field(description="The text of the query, if it is one.")]
    hops: list[StoreHop]
    no_answer: Annotated[str, Field(description="Why there is no answer; empty if there is one.")]


class FirstRows(BaseModel):
    """The first rows of a store."""

    rows: list[Row]
    total: Annotated[int, Field(description="Number of rows that are not deleted.")]
