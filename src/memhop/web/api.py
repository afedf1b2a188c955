"""The routes of the HTTP API."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from pydantic import Discriminator, Tag

import memhop
from memhop.data import TASK_NAMES
from memhop.example import Example
from memhop.web.batches import Batches, Overload
from memhop.web.choice import find_model
from memhop.web.examples import KnownTask, answer_spelling, known_tasks, new_example
from memhop.web.facts_api import FactBatches, add_facts_routes, answer_facts
from memhop.web.guard import Guard
from memhop.web.limits import WORDS, Limits
from memhop.web.models import Models, Served
from memhop.web.reading import read_page
from memhop.web.schemas import (
    AnswerRequest,
    AnswerRequests,
    AnswerResponse,
    ExampleResponse,
    Health,
    Model,
    ModelQuery,
    Page,
    Problem,
    Reading,
    Task,
    Words,
)
from memhop.web.store_api import StoreBatches, add_store_routes, search_store
from memhop.web.store_schemas import ID_TAGS

_PAGE = Path(__file__).parent / "page"
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": meaning}
    for status, meaning in (
        (400, "The body is no valid JSON."),
        (404, "No such model or task."),
        (408, "The request was sent too slowly."),
        (413, "The request is too large."),
        (415, "The content type is not JSON."),
        (422, "The request is invalid; the detail says what was expected."),
        (429, "Too many requests: try again."),
    )
}
OneOrMany = Annotated[
    Annotated[AnswerRequest, Tag("one")] | Annotated[AnswerRequests, Tag("many")],
    Discriminator(lambda body: "many" if isinstance(body, list) else "one"),
]
_TAGS = ("one", "many", *ID_TAGS)
StoryQuestion = tuple[Sequence[str], str]  # a story and a question
StoryBatches = Batches[Served, StoryQuestion]
WarmUp = Callable[[], Coroutine[None, None, None]]
Number = Annotated[int, Query(ge=1, le=max(TASK_NAMES), description="The number of a task.")]


def make_app(
    models: Models,
    limits: Limits | None = None,
    hosts: frozenset[str] = frozenset(),
) -> FastAPI:
    """Return the HTTP API and its page.

    Args:
        models: by name; the first one is the default.
        limits: the limits of the server; default: `Limits()`.
        hosts: the allowed Host headers; empty for any.
    """
    limits = limits or Limits()
    app = FastAPIOffline(
        title="memhop",
        version=memhop.__version__,
        description="Ask a memory network about a story or facts, and see what each hop read.",
        redoc_url=None,
        favicon_url="/page/icon.svg",
        lifespan=_lifespan,
        responses=_ERRORS,
    )
    stories: StoryBatches = Batches(limits, answer_stories)
    # in a thread of its own, one by one: a question about facts takes as long as many stories
    facts: FactBatches = Batches(replace(limits, batch=1), answer_facts)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Overload, _overloaded)
    app.add_middleware(Guard, limits=limits, hosts=hosts)
    stores: StoreBatches = Batches(replace(limits, batch=1), search_store)
    _add_answer_routes(app, models, stories)
    add_store_routes(app, models, stores)
    warm_up = [_add_model_routes(app, models), add_facts_routes(app, models, facts)]
    app.state.background = [stories.work, facts.work, stores.work, *warm_up]
    app.mount("/page", StaticFiles(directory=_PAGE), name="page")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html")

    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(start()) for start in app.state.background]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def answer_stories(served: Served, questions: list[StoryQuestion]) -> list[bytes]:
    """Return the answers to some questions, each an `AnswerResponse` in JSON."""
    answers = served.model.answers(questions)
    return [AnswerResponse.of(served.name, one).model_dump_json().encode() for one in answers]


def _add_answer_routes(app: FastAPI, models: Models, batches: StoryBatches) -> None:
    @app.post(
        "/api/answer",
        summary="Answer one question, or many",
        response_model=AnswerResponse | list[AnswerResponse],
    )
    async def answer(asked: OneOrMany) -> Response:
        many = asked if isinstance(asked, list) else [asked]
        served = [find_model(models, one.model) for one in many]
        answers = await _answers(batches, served, [(one.story, one.question) for one in many])
        content = b"[" + b",".join(answers) + b"]" if isinstance(asked, list) else answers[0]
        return Response(content, media_type="application/json")

    @app.post("/api/read", summary="How a model reads a story and a question")
    def read(page: Page) -> Reading:
        return read_page(page, find_model(models, page.model).model.vocabulary)


async def _answers(
    batches: StoryBatches, models: Sequence[Served], questions: Sequence[StoryQuestion]
) -> list[bytes]:
    """Return the answers in the order of the questions, each by its own model."""
    places: dict[Served, list[int]] = {}
    for place, served in enumerate(models):
        places.setdefault(served, []).append(place)
    answers = await asyncio.gather(
        *(batches.answer(one, [questions[place] for place in own]) for one, own in places.items())
    )
    by_place = {
        place: answer
        for own, several in zip(places.values(), answers, strict=True)
        for place, answer in zip(own, several, strict=True)
    }
    return [by_place[place] for place in range(len(models))]


def _add_model_routes(app: FastAPI, models: Models) -> WarmUp:
    """Add the routes about models; return what prepares the first answers of the page."""
    known: dict[str, list[KnownTask]] = {}
    locks = {name: asyncio.Lock() for name in models}  # concurrent requests measure a model once

    async def tasks_of(served: Served) -> list[KnownTask]:
        if served.name not in known:
            async with locks[served.name]:
                if served.name not in known:
                    known[served.name] = await asyncio.to_thread(known_tasks, served.model)
        return known[served.name]

    async def warm_up() -> None:
        # the page requests the tasks of its model first; this also compiles the kernels
        first = next(iter(models.values()))
        if isinstance(first, Served):
            await tasks_of(first)

    @app.get("/api/models", summary="The models of this server")
    async def list_models() -> list[Model]:
        return [Model.of(served) for served in models.values()]

    @app.get("/api/tasks", summary="The tasks that a model knows")
    async def list_tasks(model: ModelQuery = None) -> list[Task]:
        return [Task(**one._asdict()) for one in await tasks_of(find_model(models, model))]

    @app.get("/api/example", summary="A new example of a task that a model knows")
    async def example(task: Number, model: ModelQuery = None) -> ExampleResponse:
        served = find_model(models, model)
        numbers = [one.task for one in await tasks_of(served)]
        if task not in numbers:
            expected = ", ".join(map(str, numbers)) or "none"
            raise HTTPException(404, f"{served.name} knows no task {task}; it knows {expected}")
        return _example_response(await asyncio.to_thread(new_example, task, served.model))

    @app.get("/api/stories", summary="Up to three stories from the training of a model")
    async def stories(model: ModelQuery = None) -> list[ExampleResponse]:
        stored = find_model(models, model).model
        return [
            _example_response(one._replace(answer=answer_spelling(one.answer, stored)))
            for one in stored.examples
        ]

    @app.get("/api/words", summary="The words that a model knows")
    async def words(model: ModelQuery = None) -> Words:
        known = find_model(models, model).model.vocabulary
        first = sorted(known)[:WORDS]
        return Words(words=[known.spellings.get(word, word) for word in first], total=len([*known]))

    @app.get("/healthz", summary="Whether the server is running")
    async def health() -> Health:
        return Health(status="ok", version=memhop.__version__)

    return warm_up


def _example_response(example: Example) -> ExampleResponse:
    return ExampleResponse(
        story=list(example.story), question=example.question, answer=example.answer
    )


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Return the first error of a request in one sentence, without the text of the request."""
    assert isinstance(error, RequestValidationError)
    if request.method == "POST" and not _is_json(kind := request.headers.get("content-type", "")):
        got = f"{kind!r:.60}" if kind else "none"
        expected = "the header Content-Type: application/json"
        return JSONResponse({"detail": f"expected {expected}, got {got}"}, 415)
    first = error.errors()[0]
    where = ".".join(_step(step) for step in first["loc"] if step not in _TAGS)
    has_no_word = first["type"] == "string_pattern_mismatch"
    message = "expected at least one word" if has_no_word else first["msg"]
    return JSONResponse({"detail": f"{where}: {message}"}, 422)


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("application/") and re.split(r"[/+]", kind)[-1] == "json"


def _step(step: int | str) -> str:
    """Return a part of the location of an error; quote and truncate a name of the request."""
    text = str(step)
    is_safe = text.isdecimal() or (text.isidentifier() and len(text) <= 40)
    return text if is_safe else f"{text!r:.40}"


async def _overloaded(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "too many questions are waiting: try again"}, 429)
