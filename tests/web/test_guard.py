"""Beyond every limit a request gets a 4xx and a sentence, and the server continues."""

import json
import socket
import time

import pytest

from memhop.web.limits import Limits
from memhop.web.models import Served

from .conftest import Client, Reply, Start, running

ASKED = {"story": ["Mary went to the garden."], "question": "Where is Mary?"}
HEAD = b"POST /api/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def opened(client: Client, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=30)
    connection.sendall(sent)
    return connection


def reply(connection: socket.socket) -> Reply:
    with connection, connection.makefile("rb") as read:
        status = int(read.readline().split()[1])
        lines = iter(lambda: read.readline().strip().decode(), "")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return Reply(status, headers, read.read(int(headers["content-length"])))


def test_a_content_length_that_is_too_large_is_rejected_at_once(start: Start) -> None:
    client = start(Limits(body_bytes=100))
    sentence = reply(opened(client, HEAD + b"Content-Length: 123456789\r\n\r\n")).error(413)
    assert sentence == "expected at most 100 bytes, got 123,456,789"
    sent = opened(client, HEAD + b"Content-Length: 101\r\n\r\n" + b" " * 101)
    assert reply(sent).error(413) == "expected at most 100 bytes, got 101"
    assert client.ask(ASKED).status == 200


def test_a_client_that_sends_the_whole_body_first_gets_the_error(start: Start) -> None:
    client = start(Limits(body_bytes=2**20))
    refused = client.ask(b" " * 5 * 2**20)
    assert refused.error(413) == "expected at most 1,048,576 bytes, got 5,242,880"
    assert client.ask(ASKED).status == 200


def test_a_chunked_body_is_read_up_to_the_limit(start: Start) -> None:
    client = start(Limits(body_bytes=100))
    chunk = b"32\r\n" + b" " * 50 + b"\r\n"
    sent = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + 3 * chunk + b"0\r\n\r\n"
    assert reply(opened(client, sent)).error(413) == ("expected at most 100 bytes, got more")
    body = json.dumps(ASKED).encode()
    sent = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    sent += f"{len(body):x}".encode() + b"\r\n" + body + b"\r\n0\r\n\r\n"
    assert reply(opened(client, sent)).status == 200


def test_a_slow_request_times_out(start: Start) -> None:
    client = start(Limits(seconds=0.3))
    sentence = reply(opened(client, HEAD + b"Content-Length: 10\r\n\r\n{")).error(408)
    never_sent = opened(client, HEAD + b"Content-Length: 2000000\r\n\r\n{")
    assert reply(never_sent).error(413).endswith("got 2,000,000")
    assert sentence == "expected a request within 0.3 seconds"


def test_too_many_requests_are_rejected_until_others_end(start: Start) -> None:
    client = start(Limits(requests=2))
    waiting = [opened(client, HEAD + b"Content-Length: 10\r\n\r\n") for _ in range(2)]
    refused = eventually(client, 429)
    assert refused.error(429) == "2 requests are running: try again"
    assert refused.headers["retry-after"] == "1"
    for connection in waiting:
        connection.close()
    assert eventually(client, 200).status == 200


def eventually(client: Client, status: int) -> Reply:
    """Ask until a response has the status: the server handles other requests asynchronously."""
    for _ in range(100):
        answer = client.ask(ASKED)
        if answer.status == status:
            break
        time.sleep(0.05)
    return answer


def test_too_many_waiting_questions_are_rejected(start: Start) -> None:
    client = start(Limits(waiting_questions=3))
    assert client.ask([ASKED] * 3).status == 200
    refused = client.ask([ASKED] * 4)
    assert refused.error(429) == "too many questions are waiting: try again"
    assert refused.headers["retry-after"] == "1"


def test_another_host_header_is_rejected(served: dict[str, Served]) -> None:
    with running(served, hosts=frozenset({"localhost", "127.0.0.1", "[::1]"})) as client:
        for name in (
            "localhost",
            "localhost:80",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8000",
            "LOCALHOST",
        ):
            assert client.get("/healthz", Host=name).status == 200
        for name in ("elsewhere.example", "localhost.example:80", "[::2]:80", "", ":80"):
            refused = client.get("/healthz", Host=name)
            assert refused.error(400) == "Host header not allowed"
            assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_stopping_server_answers_pending_requests(served: dict[str, Served]) -> None:
    with running(served) as client:
        waiting = opened(client, HEAD + b"Content-Length: 10\r\n\r\n{")
        eventually(client, 200)
    assert reply(waiting).error(429) == "the server is stopping"


@pytest.mark.parametrize("path", ["/", "/api/models", "/page/page.js", "/elsewhere"])
def test_every_response_has_security_headers(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-store" if "/api" in path else "no-cache")
    assert "script-src 'self';" in headers["content-security-policy"]
