"""The routes of the HTTP API for models of facts."""

import asyncio
from collections.abc import Callable, Coroutine

from fastapi import FastAPI, Response

from memhop.errors import MemhopError
from memhop.web.batches import Batches
from memhop.web.choice import find_facts_model
from memhop.web.fact_examples import example_questions, relations_of
from memhop.web.fact_schemas import FactsAnswer, FactsExample, FactsQuestion, Relations
from memhop.web.models import Models, ServedFacts
from memhop.web.schemas import ModelQuery

FactBatches = Batches[ServedFacts, FactsQuestion]


def answer_facts(served: ServedFacts, questions: list[FactsQuestion]) -> list[bytes]:
    """Return the answers to some questions, each a `FactsAnswer` in JSON."""
    answers = []
    for asked in questions:
        try:
            answer = served.model.answer(asked.question, topics=asked.topics, facts=asked.facts)
            response = FactsAnswer.of(served.name, answer, asked.picture)
        except MemhopError as error:  # only unassigned characters, which the schema cannot exclude
            response = FactsAnswer.none(served.name, asked.question, f"no answer: {error}")
        answers.append(response.model_dump_json().encode())
    return answers


def add_facts_routes(
    app: FastAPI, models: Models, batches: FactBatches
) -> Callable[[], Coroutine[None, None, None]]:
    """Add the routes under ``/api/kb``; return what prepares the first answers of the page."""
    known: dict[str, list[FactsExample]] = {}
    lock = asyncio.Lock()  # concurrent requests try the questions once

    async def examples_of(served: ServedFacts) -> list[FactsExample]:
        async with lock:
            if served.name not in known:
                known[served.name] = await asyncio.to_thread(example_questions, served.model)
        return known[served.name]

    @app.post("/api/kb/answer", summary="Answer a question about facts", response_model=FactsAnswer)
    async def answer(asked: FactsQuestion) -> Response:
        served = find_facts_model(models, asked.model)
        (content,) = await batches.answer(served, [asked])
        return Response(content, media_type="application/json")

    @app.get("/api/kb/examples", summary="Questions that a model of facts answers right")
    async def examples(model: ModelQuery = None) -> list[FactsExample]:
        return await examples_of(find_facts_model(models, model))

    @app.get("/api/kb/relations", summary="The relations of the facts of a model")
    def relations(model: ModelQuery = None) -> Relations:
        return relations_of(find_facts_model(models, model).model.kb)

    async def warm_up() -> None:
        first = next(iter(models.values()))
        if isinstance(first, ServedFacts):
            await examples_of(first)

    return warm_up
