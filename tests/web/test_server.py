"""``memhop serve`` as a process: stopped, killed and started again."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from memhop.text.model import MemN2N
from memhop.web.server import is_loopback

from .conftest import Client

ASKED = {"story": ["Mary went to the garden."], "question": "Where is Mary?"}


class Process:
    """A process of ``memhop serve``, after it has printed its address."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "memhop", "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if found := re.search(r"http://\S+:(\d+)/", line):
                self.client = Client(int(found[1]))
                return

    def ends(self, with_signal: signal.Signals | None = None) -> tuple[int, str]:
        """Return exit status and standard error."""
        if with_signal:
            self.process.send_signal(with_signal)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@contextmanager
def started(*arguments: str) -> Iterator[Process]:
    process = Process(*arguments)
    try:
        yield process
    finally:
        process.process.kill()
        process.ends()


@pytest.fixture
def run(tmp_path: Path, model: MemN2N) -> str:
    model.save(tmp_path / "walks")
    return str(tmp_path / "walks")


def test_it_prints_its_address_answers_and_ends_at_ctrl_c(run: str) -> None:
    with started(run, "--port", "0") as process:
        assert process.lines[0] == "walks"
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/  \(stop with Ctrl-C\)", process.lines[1])
        assert process.client.ask(ASKED).value["answer"] == "garden"
        refused = process.client.get("/healthz", Host="elsewhere.example")
        assert refused.error(400) == "Host header not allowed"
        assert process.client.get("/healthz", Host="localhost:1234").status == 200
        assert process.ends(signal.SIGINT) == (130, "memhop: stopped\n")


@pytest.mark.slow
def test_after_a_kill_during_a_request_it_restarts_on_the_same_port(run: str) -> None:
    with started(run, "--port", "0") as process:
        port = process.client.port
        body = json.dumps([ASKED] * 256).encode()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"POST /api/answer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
            connection.sendall(head.encode() + b"\r\nContent-Type: application/json\r\n\r\n" + body)
            process.ends(signal.SIGKILL)
            with pytest.raises(ConnectionError):
                raise_if_closed(connection)
    with started(run, "--port", str(port)) as process:
        assert process.client.port == port
        assert process.client.ask(ASKED).value["answer"] == "garden"


def raise_if_closed(connection: socket.socket) -> None:
    if not connection.recv(1):
        raise ConnectionError("closed")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("example.org", False)],
)  # fmt: skip
def test_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
