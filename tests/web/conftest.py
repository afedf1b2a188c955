"""A model, the real server around it, and a client of few lines."""

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
from memhop.text.model import MemN2N
from memhop.web.api import make_app
from memhop.web.limits import Limits
from memhop.web.models import Served


class Reply(NamedTuple):
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    def refused(self, status: int) -> str:
        """The one sentence of a refusal."""
        assert self.status == status, self
        assert set(self.value) == {"detail"}
        sentence: str = self.value["detail"]
        assert len(sentence.splitlines()) == 1
        return sentence


class Client(NamedTuple):
    """Asks one server."""

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

    def ask(self, asked: Any) -> Reply:
        body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
        return self.call("POST", "/api/answer", body, **{"Content-Type": "application/json"})


@contextmanager
def running(
    models: dict[str, Served],
    limits: Limits | None = None,
    hosts: frozenset[str] = frozenset(),
    port: int = 0,
) -> Iterator[Client]:
    """The server in a thread of this process, on a port that was free."""
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
    """A model that has learned task 1: where somebody is."""
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
    """That model, and one that has learned nothing, with other words."""
    words = memhop.Vocabulary.from_texts(["Tom sold the zebra", "who has it"])
    untaught = MemN2N(words, memhop.Recipe(num_hops=2), model.sizes)
    return {
        "walks": Served("walks", model, 1.5),
        "own/qa1": Served("own/qa1", untaught, None),
    }


@pytest.fixture(scope="session")
def client(served: dict[str, Served]) -> Iterator[Client]:
    with running(served) as client:
        yield client


Start = Callable[[Limits], Client]


@pytest.fixture
def start(served: dict[str, Served]) -> Iterator[Start]:
    """Start a server with other bounds."""
    begun = []

    def start(limits: Limits) -> Client:
        context = running(served, limits)
        begun.append(context)
        return context.__enter__()

    yield start
    for context in begun:
        context.__exit__(None, None, None)
