"""The addresses of the service."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
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
from memhop.web.batches import Asked as Question
from memhop.web.batches import Batches, Overload
from memhop.web.examples import KnownTask, fresh_example, known_tasks, spelled_answer
from memhop.web.guard import Guard
from memhop.web.limits import WORDS, Limits
from memhop.web.models import Served
from memhop.web.reading import read_page
from memhop.web.schemas import (
    Answered,
    Asked,
    Fresh,
    Health,
    Many,
    Model,
    Page,
    Problem,
    Reading,
    Task,
    Words,
)

_PAGE = Path(__file__).parent / "page"
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": meaning}
    for status, meaning in (
        (400, "No JSON that could be read."),
        (404, "No such model or task."),
        (408, "Sent too slowly."),
        (413, "Too large."),
        (415, "Not sent as JSON."),
        (422, "Not as needed; the sentence says what is."),
        (429, "Too much at once: try again."),
    )
}
OneOrMany = Annotated[
    Annotated[Asked, Tag("one")] | Annotated[Many, Tag("many")],
    Discriminator(lambda body: "many" if isinstance(body, list) else "one"),
]
_TAGS = ("one", "many")
Number = Annotated[int, Query(ge=1, le=max(TASK_NAMES), description="The number of a task.")]
ModelName = Annotated[str | None, Query(description="The name of a model; the first without.")]


def make_app(
    models: Mapping[str, Served],
    limits: Limits | None = None,
    hosts: frozenset[str] = frozenset(),
) -> FastAPI:
    """The service and its page, for the models given.

    Args:
        models: by name; the first one is asked where a request names none.
        limits: the bounds; those of `Limits` without.
        hosts: the names that requests may call this server; any where there are none.
    """
    limits = limits or Limits()
    app = FastAPIOffline(
        title="memhop",
        version=memhop.__version__,
        description="Ask a memory network about a story, and see which sentences each hop read.",
        redoc_url=None,
        favicon_url="/page/icon.svg",
        lifespan=_lifespan,
        responses=_REFUSALS,
    )
    app.state.batches = Batches(limits)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Overload, _overloaded)
    app.add_middleware(Guard, limits=limits, hosts=hosts)
    _add_answers(app, models)
    _add_models(app, models)
    app.mount("/page", StaticFiles(directory=_PAGE), name="page")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_PAGE / "index.html")

    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in (app.state.batches.work(), app.state.warm_up())]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _add_answers(app: FastAPI, models: Mapping[str, Served]) -> None:
    batches: Batches = app.state.batches

    @app.post(
        "/api/answer",
        summary="Answer one question, or many",
        response_model=Answered | list[Answered],
    )
    async def answer(asked: OneOrMany) -> Response:
        many = asked if isinstance(asked, list) else [asked]
        served = [_named(models, one.model) for one in many]
        answered = await _answered(batches, served, [(one.story, one.question) for one in many])
        content = b"[" + b",".join(answered) + b"]" if isinstance(asked, list) else answered[0]
        return Response(content, media_type="application/json")

    @app.post("/api/read", summary="How a model reads a story and a question")
    def read(page: Page) -> Reading:
        return read_page(page, _named(models, page.model).model.vocabulary)


async def _answered(
    batches: Batches, models: Sequence[Served], questions: Sequence[Question]
) -> list[bytes]:
    """The answers in the order of the questions, each by its own model."""
    places: dict[Served, list[int]] = {}
    for place, served in enumerate(models):
        places.setdefault(served, []).append(place)
    answers = await asyncio.gather(
        *(batches.answer(one, [questions[place] for place in own]) for one, own in places.items())
    )
    found = {
        place: answer
        for own, several in zip(places.values(), answers, strict=True)
        for place, answer in zip(own, several, strict=True)
    }
    return [found[place] for place in range(len(models))]


def _add_models(app: FastAPI, models: Mapping[str, Served]) -> None:
    known: dict[str, list[KnownTask]] = {}
    measuring = {name: asyncio.Lock() for name in models}  # once, however many ask for it

    async def tasks_of(served: Served) -> list[KnownTask]:
        if served.name not in known:
            async with measuring[served.name]:
                if served.name not in known:
                    known[served.name] = await asyncio.to_thread(known_tasks, served.model)
        return known[served.name]

    # the page asks for it first, and what is compiled at first use is compiled by then
    app.state.warm_up = lambda: tasks_of(_named(models, None))

    @app.get("/api/models", summary="The models to choose from")
    async def list_models() -> list[Model]:
        return [
            Model(
                name=served.name,
                test_error=served.test_error,
                words=len(list(served.model.vocabulary)),
                memory_slots=served.model.sizes.memory_slots,
                hops=served.model.recipe.num_hops,
            )
            for served in models.values()
        ]

    @app.get("/api/tasks", summary="The tasks that a model knows")
    async def list_tasks(model: ModelName = None) -> list[Task]:
        return [Task(**one._asdict()) for one in await tasks_of(_named(models, model))]

    @app.get("/api/example", summary="A fresh example of a task that a model knows")
    async def example(task: Number, model: ModelName = None) -> Fresh:
        served = _named(models, model)
        numbers = [one.task for one in await tasks_of(served)]
        if task not in numbers:
            knows = ", ".join(map(str, numbers)) or "none"
            raise HTTPException(404, f"{served.name} knows no task {task}; it knows {knows}")
        made = await asyncio.to_thread(fresh_example, task, served.model)
        return _shown(made)

    @app.get("/api/stories", summary="Up to three stories from the training of a model")
    async def stories(model: ModelName = None) -> list[Fresh]:
        stored = _named(models, model).model
        return [
            _shown(one._replace(answer=spelled_answer(one.answer, stored)))
            for one in stored.examples
        ]

    @app.get("/api/words", summary="The words that a model knows")
    async def words(model: ModelName = None) -> Words:
        known = _named(models, model).model.vocabulary
        shown = sorted(known)[:WORDS]
        return Words(words=[known.spellings.get(word, word) for word in shown], total=len([*known]))

    @app.get("/healthz", summary="Whether the server answers")
    async def health() -> Health:
        return Health(status="ok", version=memhop.__version__)


def _shown(example: Example) -> Fresh:
    return Fresh(
        story=list(example.story),
        question=example.question,
        answer=example.answer,
    )


def _named(models: Mapping[str, Served], name: str | None) -> Served:
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        raise HTTPException(404, f"no model {name!r:.60}; there are {', '.join(models)}")
    return models[name]


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Return the first error of a request in one sentence, without the text that was sent."""
    assert isinstance(error, RequestValidationError)
    if request.method == "POST" and not _is_json(kind := request.headers.get("content-type", "")):
        came = f"{kind!r:.60}" if kind else "none"
        needed = "expected the header Content-Type: application/json"
        return JSONResponse({"detail": f"{needed}, got {came}"}, 415)
    first = error.errors()[0]
    where = ".".join(_step(step) for step in first["loc"] if step not in _TAGS)
    needed = "needs a word" if first["type"] == "string_pattern_mismatch" else first["msg"]
    return JSONResponse({"detail": f"{where}: {needed}"}, 422)


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("application/") and re.split(r"[/+]", kind)[-1] == "json"


def _step(step: int | str) -> str:
    """Return a part of the place of an error; a name from the request is quoted and cut."""
    text = str(step)
    plain = text.isdecimal() or (text.isidentifier() and len(text) <= 40)
    return text if plain else f"{text!r:.40}"


async def _overloaded(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "too many questions are waiting: try again"}, 429)
