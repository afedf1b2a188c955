"""Past every bound a request gets a 4xx and a sentence, and the server goes on."""

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


def test_a_body_that_says_it_is_too_large_is_refused_at_once(start: Start) -> None:
    client = start(Limits(body_bytes=100))
    sentence = reply(opened(client, HEAD + b"Content-Length: 123456789\r\n\r\n")).refused(413)
    assert sentence == "a request needs at most 100 bytes, this has 123,456,789"
    begun = opened(client, HEAD + b"Content-Length: 101\r\n\r\n" + b" " * 101)
    assert reply(begun).refused(413) == "a request needs at most 100 bytes, this has 101"
    assert client.ask(ASKED).status == 200


def test_a_client_that_sends_it_all_first_hears_that_it_is_too_large(start: Start) -> None:
    client = start(Limits(body_bytes=2**20))
    refused = client.ask(b" " * 5 * 2**20)
    assert refused.refused(413) == "a request needs at most 1,048,576 bytes, this has 5,242,880"
    assert client.ask(ASKED).status == 200


def test_a_body_in_chunks_is_read_up_to_the_bound(start: Start) -> None:
    client = start(Limits(body_bytes=100))
    chunk = b"32\r\n" + b" " * 50 + b"\r\n"
    sent = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + 3 * chunk + b"0\r\n\r\n"
    assert reply(opened(client, sent)).refused(413) == (
        "a request needs at most 100 bytes, this has more"
    )
    body = json.dumps(ASKED).encode()
    sent = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    sent += f"{len(body):x}".encode() + b"\r\n" + body + b"\r\n0\r\n\r\n"
    assert reply(opened(client, sent)).status == 200


def test_a_request_that_comes_too_slowly_is_given_up(start: Start) -> None:
    client = start(Limits(seconds=0.3))
    sentence = reply(opened(client, HEAD + b"Content-Length: 10\r\n\r\n{")).refused(408)
    never_sent = opened(client, HEAD + b"Content-Length: 2000000\r\n\r\n{")
    assert reply(never_sent).refused(413).endswith("this has 2,000,000")
    assert sentence == "a request needs to be sent within 0.3 seconds"


def test_one_request_too_many_is_refused_and_later_there_is_room_again(start: Start) -> None:
    client = start(Limits(requests=2))
    waiting = [opened(client, HEAD + b"Content-Length: 10\r\n\r\n") for _ in range(2)]
    refused = eventually(client, 429)
    assert refused.refused(429) == "2 requests are at work: try again"
    assert refused.headers["retry-after"] == "1"
    for connection in waiting:
        connection.close()
    assert eventually(client, 200).status == 200


def eventually(client: Client, status: int) -> Reply:
    """The reply with that status: the server sees what others do a little later."""
    for _ in range(100):
        answer = client.ask(ASKED)
        if answer.status == status:
            break
        time.sleep(0.05)
    return answer


def test_more_questions_than_may_wait_are_refused(start: Start) -> None:
    client = start(Limits(waiting_questions=3))
    assert client.ask([ASKED] * 3).status == 200
    refused = client.ask([ASKED] * 4)
    assert refused.refused(429) == "too many questions are waiting: try again"
    assert refused.headers["retry-after"] == "1"


def test_a_name_of_another_site_is_refused(served: dict[str, Served]) -> None:
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
            assert refused.refused(400) == "this server goes by another name"
            assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_server_that_stops_says_so_to_who_is_sending(served: dict[str, Served]) -> None:
    with running(served) as client:
        waiting = opened(client, HEAD + b"Content-Length: 10\r\n\r\n{")
        eventually(client, 200)
    assert reply(waiting).refused(429) == "the server is stopping"


@pytest.mark.parametrize("path", ["/", "/api/models", "/page/page.js", "/elsewhere"])
def test_every_reply_has_the_headers_of_safety(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-store" if "/api" in path else "no-cache")
    assert "script-src 'self';" in headers["content-security-policy"]
