"""How many questions does the service answer a second, and how long does a client wait?

Real servers in processes of their own, asked over loopback: the one that ``memhop serve`` starts,
and beside it one that asks the model one question at a time.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.answer import untrained
from benchmarks.hop.tables import Sheet
from benchmarks.importing import fresh_import
from memhop.data import generate, to_examples
from memhop.errors import MemhopError
from memhop.recipe import Recipe
from memhop.reproduce.record import surroundings

_SENTENCES = 10
_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/")
_ONE_BY_ONE = (
    "import sys; from memhop.web.limits import Limits; from memhop.web.models import load;"
    "from memhop.web.server import serve;"
    "serve(load(sys.argv[1:]), port=0, limits=Limits(batch=1), on_ready=lambda at: "
    "print(at, flush=True))"
)


class _Load(NamedTuple):
    """What clients do, each asking again as soon as it has its answer."""

    name: str
    server: tuple[str, ...]  # arguments of Python, the run comes last
    clients: int
    questions: int  # in one request


SERVE = ("-m", "memhop", "serve", "--port", "0")


def measure(clients: int, seconds: float) -> Iterator[dict[str, Any]]:
    """A row for each way of asking: so many clients for so long.

    The weights are those that a training begins with: whatever they are, the time is the same.
    """
    loads = (
        _Load("one question a request", SERVE, clients, 1),
        _Load("the same, answered one by one", ("-c", _ONE_BY_ONE), clients, 1),
        _Load("64 questions a request", SERVE, 4, 64),
    )
    torch_seconds = statistics.median(fresh_import("torch") for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "model"
        untrained(Recipe.best(joint=True)).save(run)
        for load in loads:
            with running((*load.server, str(run))) as (port, ready):
                found = asyncio.run(_ask(load, port, seconds))
            yield {
                "load": load.name,
                "clients": load.clients,
                "questions": load.questions,
                "sentences": _SENTENCES,
                "load_seconds": seconds,
                **found,
                "import_torch_seconds": round(torch_seconds, 3),
                "ready_seconds": round(ready, 3),
                **surroundings(),
            }


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[tuple[int, float]]:
    """A server in a process of its own: its port, and the seconds until it answered."""
    begun = time.perf_counter()
    # Python buffers what it prints into a pipe: the address has to come at once
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            found = next(filter(None, map(_ADDRESS.search, process.stdout)), None)
            if found is None:
                raise MemhopError("the server did not start")
            port = int(found[1])
            asyncio.run(_ready(port))
            yield port, time.perf_counter() - begun
        finally:
            process.terminate()


async def _ready(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    status, _ = await _request(reader, writer, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    writer.close()
    if status != 200:
        raise MemhopError(f"the server answers with status {status}")


async def _ask(load: _Load, port: int, seconds: float) -> dict[str, Any]:
    """Answers a second and the waits of one load; the first tenth of the time warms up."""
    warm = time.perf_counter() + seconds / 10
    waits: list[float] = []
    errors = 0

    async def client(number: int) -> None:
        nonlocal errors
        request = _post(load.questions, seed=number)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (begun := time.perf_counter()) < warm + seconds:
            status, body = await _request(reader, writer, request)
            wait = time.perf_counter() - begun
            if begun >= warm:
                errors += status != 200 or body.count(b'"attention"') != load.questions
                waits.append(wait)
        writer.close()

    await asyncio.gather(*map(client, range(load.clients)))
    if not waits:
        raise MemhopError("the server answered nothing in time")
    slow = sorted(waits)[int(0.99 * len(waits))]
    return {
        "requests": len(waits),
        "errors": errors,
        "answers_per_second": round((len(waits) - errors) * load.questions / seconds, 1),
        "median_ms": round(1000 * statistics.median(waits), 2),
        "slow_ms": round(1000 * slow, 2),
    }


def _post(questions: int, seed: int) -> bytes:
    stories = generate(2, questions=questions, seed=seed, statements=(_SENTENCES, _SENTENCES))
    asked = [
        {"story": one.story, "question": one.question}
        for one in to_examples(stories)
    ]  # fmt: skip
    body = json.dumps(asked).encode()
    head = (
        "POST /api/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes]:
    """Send a request, read status and body; a full client would take the time it measures."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
    return int(head.split()[1]), await reader.readexactly(length)


def sheet(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    """The rows as a table."""
    lines = [
        [row["load"], str(row["clients"]), f"{float(row['answers_per_second']):,.0f}",
         *(f"{float(row[name]):.0f}" for name in ("median_ms", "slow_ms")), str(row["errors"])]
        for row in rows
    ]  # fmt: skip
    ready = statistics.median(float(row["ready_seconds"]) for row in rows)
    torch_seconds = float(rows[0]["import_torch_seconds"])
    note = (
        f"A model for all 20 tasks, stories of {rows[0]['sentences']} sentences, "
        f"{float(rows[0]['load_seconds']):g} s a row, server and clients on the same cores; "
        f"milliseconds that a client waits for a request. The server is ready "
        f"{ready - torch_seconds:.1f} s beyond the {torch_seconds:.1f} s of `import torch`."
    )
    columns = ("load", "clients", "answers a second", "median", "99 of 100", "errors")
    return Sheet("Load on the service", columns, lines, note)
