"""A small model, a server for it, and an HTTP client."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
import uvicorn

import memhop
from memhop import MemhopError, Store
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.knowledge.training import train
from memhop.retrieval import RetrievalModel
from memhop.text.model import MemN2N
from memhop.web.api import make_app
from memhop.web.limits import Limits
from memhop.web.models import Models, Served, ServedFacts, ServedStore


class Reply(NamedTuple):
    """A response of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    def error(self, status: int) -> str:
        """Return the one-sentence detail of an error response."""
        assert self.status == status, self
        assert set(self.value) == {"detail"}
        sentence: str = self.value["detail"]
        assert len(sentence.splitlines()) == 1
        return sentence


class Client(NamedTuple):
    """Sends requests to a server."""

    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            named = {name.lower(): value for name, value in reply.getheaders()}
            return Reply(reply.status, named, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.call("GET", path, None, **headers)

    def ask(self, asked: Any, path: str = "/api/answer") -> Reply:
        body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
        return self.call("POST", path, body, **{"Content-Type": "application/json"})

    def ask_facts(self, question: str, **more: Any) -> Reply:
        return self.ask({"question": question, **more}, "/api/kb/answer")

    def search(self, **asked: Any) -> Reply:
        kind = "text" if "text" in asked else "row"
        return self.ask(asked, f"/api/store/search/{kind}")


@contextmanager
def running(
    models: Models,
    limits: Limits | None = None,
    hosts: frozenset[str] = frozenset(),
    port: int = 0,
) -> Iterator[Client]:
    """Run the server in a thread, on a free port."""
    app = make_app(models, limits, hosts)
    config = uvicorn.Config(
        app, port=port, log_level="critical", access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield Client(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def model() -> MemN2N:
    """Return a model trained on task 1."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    stories = memhop.generate(1, questions=600, seed=1, statements=(2, 10))
    recipe = memhop.Recipe(epochs=15, linear_start_epochs=4, halve_every=5)
    result = memhop.train(list(memhop.to_examples(stories)), recipe=recipe, restarts=1)
    torch.set_num_threads(threads)
    assert result.best.train_error == 0
    return result.model


@pytest.fixture(scope="session")
def served(model: MemN2N) -> dict[str, Served]:
    """Return that model, and an untrained one with another vocabulary."""
    words = memhop.Vocabulary.from_texts(["Tom sold the zebra", "who has it"])
    untrained = MemN2N(words, memhop.Recipe(num_hops=2), model.sizes)
    return {
        "walks": Served("walks", model, 1.5),
        "own/qa1": Served("own/qa1", untrained, None),
    }


FILMS = [
    ("Jaws", "Steven Spielberg", "Roy Scheider", "1975"),
    ("Duel", "Steven Spielberg", "Dennis Weaver", "1971"),
    ("Lincoln", "Steven Spielberg", "Sally Field", "2012"),
    ("Alien", "Ridley Scott", "Sigourney Weaver", "1979"),
    ("Gladiator", "Ridley Scott", "Russell Crowe", "2000"),
    ("Psycho", "Alfred Hitchcock", "Janet Leigh", "1960"),
    ("Vertigo", "Alfred Hitchcock", "Kim Novak", "1958"),
]
RELATIONS = ("directed_by", "starred_actors", "release_year")


def film_questions() -> Iterator[Question]:
    """Yield questions of one and two hops about `FILMS`."""
    for film, director, actor, year in FILMS:
        others = [one[0] for one in FILMS if one[1] == director]
        yield Question(f"who directed {film}?", (director,))
        yield Question(f"who acted in {film}?", (actor,))
        yield Question(f"when was {film} released?", (year,))
        yield Question(f"which films did {director} direct?", tuple(others))
        same = tuple(one for one in others if one != film)
        yield Question(f"which films have the same director as {film}?", same)


@pytest.fixture(scope="session")
def films() -> KnowledgeModel:
    """Return a model trained on facts about seven films."""
    kb = KnowledgeBase.from_triples(
        (film, relation, value)
        for film, *values in FILMS
        for relation, value in zip(RELATIONS, values, strict=True)
    )
    questions = list(film_questions())
    recipe = KnowledgeRecipe(
        num_hops=2, word_dim=16, epochs=10, batch_size=12, learning_rate=0.05, dropout=0.0
    )
    result = train(kb, questions, valid_questions=questions[:2], recipe=recipe)
    for question in questions:
        assert result.model.answer(question.text).answer in question.answers
    return result.model


@pytest.fixture(scope="session")
def of_both_kinds(served: dict[str, Served], films: KnowledgeModel) -> dict[str, Any]:
    """Return the models of stories, and one of facts."""
    return {**served, "films": ServedFacts("films", films, 2.5)}


@pytest.fixture(scope="session")
def facts_client(of_both_kinds: Models) -> Iterator[Client]:
    with running(of_both_kinds) as client:
        yield client


HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
COLOURS = ("red", "green", "blue", "black")


def encode_colours(texts: list[str]) -> list[list[float]]:
    """Return for each text which colours it names."""
    if any(text == "fail" for text in texts):
        raise MemhopError("the encoder failed")
    return [[float(one in text) for one in COLOURS] for text in texts]


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServedStore]]:
    """Return a store with an encoder and two hops, and one with neither."""
    folder = tmp_path_factory.mktemp("stores")
    model = RetrievalModel(4, 4, 2)
    with Store(folder / "notes", 4) as store:
        store.add(torch.eye(4), ids=["r", 7, "b", "k"], payloads=[{"n": i} for i in range(4)],
                  texts=["a red note", "green", None, "black\nlines"], times=range(4))  # fmt: skip
        store.add(-torch.eye(4)[:1], ids=[HOSTILE], texts=[HOSTILE], payloads=[{HOSTILE: HOSTILE}])
        store.add(torch.eye(4)[1:2], ids=[2**62])
        store.delete(["b"])
    Store(folder / "empty", 4).close()
    with (
        Store(folder / "notes", encoder=encode_colours, read_only=True) as notes,
        Store(folder / "empty", read_only=True) as empty,
    ):
        yield {
            "notes": ServedStore("notes", notes, model),
            "empty": ServedStore("empty", empty, None),
        }


@pytest.fixture(scope="session")
def store_client(of_both_kinds: Models, stores: Models) -> Iterator[Client]:
    with running({**stores, **of_both_kinds}) as client:
        yield client


@pytest.fixture(scope="session")
def client(served: dict[str, Served]) -> Iterator[Client]:
    with running(served) as client:
        yield client


Start = Callable[[Limits], Client]


@pytest.fixture
def start(served: dict[str, Served]) -> Iterator[Start]:
    """Return a function that starts a server with other limits."""
    started = []

    def start(limits: Limits) -> Client:
        context = running(served, limits)
        started.append(context)
        return context.__enter__()

    yield start
    for context in started:
        context.__exit__(None, None, None)
