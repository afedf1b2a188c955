"""The routes of the HTTP API for stores."""

import asyncio
from typing import NamedTuple

import torch
from fastapi import FastAPI, HTTPException, Response
from torch import Tensor

from memhop.errors import MemhopError
from memhop.storage.record import Record
from memhop.web.batches import Batches
from memhop.web.choice import find_store
from memhop.web.limits import ROWS
from memhop.web.models import Models, ServedStore
from memhop.web.schemas import ModelQuery
from memhop.web.store_schemas import FirstRows, Row, RowQuery, StoreAnswer, StoreHop, TextQuery


class Search(NamedTuple):
    """A query: the row whose vector it is, or a text; and the number of rows of a hop."""

    row: Record | None
    text: str | None
    most: int


StoreBatches = Batches[ServedStore, Search]


def search_store(served: ServedStore, searches: list[Search]) -> list[bytes]:
    """Return the answers to some queries, each a `StoreAnswer` in JSON."""
    answers = []
    for row, text, most in searches:
        query = None if row is None else row.vector
        texts = None if text is None else [text]
        [hops] = served.store.search(query, served.hops, most, texts=texts)
        answer = StoreAnswer(
            model=served.name,
            query=None if row is None else Row.of(row),
            text=text,
            hops=[StoreHop.of(hits) for hits in hops],
            no_answer="",
        )
        answers.append(answer.model_dump_json().encode())
    return answers


def add_store_routes(app: FastAPI, models: Models, batches: StoreBatches) -> None:
    """Add the routes under ``/api/store``."""

    async def answer(served: ServedStore, search: Search) -> Response:
        try:
            (content,) = await batches.answer(served, [search])
        except MemhopError as error:
            raise HTTPException(500, str(error)) from error
        return Response(content, media_type="application/json")

    @app.post(
        "/api/store/search/row",
        summary="The rows that each hop reads most for the vector of a row",
        response_model=StoreAnswer,
    )
    async def search_row(asked: RowQuery) -> Response | StoreAnswer:
        served = find_store(models, asked.model)
        record = await asyncio.to_thread(_record, served, asked.id)
        if record is None:
            reason = f"no row with the id {asked.id!r:.60}"
            return StoreAnswer(model=served.name, query=None, text=None, hops=[], no_answer=reason)
        return await answer(served, Search(record, None, asked.rows))

    @app.post(
        "/api/store/search/text",
        summary="The rows that each hop reads most for a text",
        response_model=StoreAnswer,
    )
    async def search_text(asked: TextQuery) -> Response:
        served = find_store(models, asked.model)
        if served.store.encoder is None:
            raise HTTPException(404, f"{served.name} has no encoder: search by the id of a row")
        return await answer(served, Search(None, asked.text, asked.rows))

    @app.get("/api/store/rows", summary=f"The first {ROWS} rows of a store")
    async def rows(model: ModelQuery = None) -> FirstRows:
        return await asyncio.to_thread(_first_rows, find_store(models, model))


def _record(served: ServedStore, name: str | int) -> Record | None:
    """Return the row with an id, with its vector; a text of digits can be an integer."""
    names: list[str | int] = [name]
    if isinstance(name, str) and name.isascii() and name.removeprefix("-").isdecimal():
        names += [number] if abs(number := int(name)) < 2**63 else []
    for one in names:
        try:
            return served.store.get([one])[0]
        except MemhopError:
            continue
    return None


def _first_rows(served: ServedStore) -> FirstRows:
    store = served.store
    for _ in range(2):  # once more if the store is compacted between
        generation, snapshot = store.generation, store.snapshot()
        live = torch.arange(snapshot.memories.shape[0])
        if snapshot.padding_mask is not None:
            live = _first(~snapshot.padding_mask)
        try:
            records = store.records(live[:ROWS].tolist(), generation=generation)
        except MemhopError:
            continue
        return FirstRows(rows=[Row.of(record) for record in records], total=len(store))
    raise HTTPException(500, f"{served.name}: the store cannot be read")


def _first(is_live: Tensor) -> Tensor:
    return is_live.nonzero().squeeze(-1)
