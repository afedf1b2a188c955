"""Measure answers per second and latency of ``memhop serve``.

The servers are processes of their own, asked over loopback: ``memhop serve``, and for comparison
one that answers without batches.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks.answer import untrained
from benchmarks.importing import fresh_import
from memhop.cli.reproduce import Tiny
from memhop.data import generate, to_examples
from memhop.errors import MemhopError
from memhop.recipe import Recipe
from memhop.reproduce.record import Rows, Sheet, provenance

_SENTENCES = 10
_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/")
_WITHOUT_BATCHES = (
    "import sys; from memhop.web.limits import Limits; from memhop.web.models import load;"
    "from memhop.web.server import serve;"
    "serve(load(sys.argv[1:]), port=0, limits=Limits(batch=1), on_ready=lambda at: "
    "print(at, flush=True))"
)


class _Load(NamedTuple):
    """What the clients do; each sends the next request when it has the answer."""

    name: str
    server: tuple[str, ...]  # arguments of Python before the path of the run
    clients: int
    questions: int  # per request


SERVE = ("-m", "memhop", "serve", "--port", "0")


def measure(
    clients: Annotated[int, typer.Option(min=1, help="Clients that ask at the same time.")] = 64,
    seconds: Annotated[float, typer.Option(min=0.5, help="Duration of each load.")] = 30.0,
    tiny: Tiny = False,
) -> Iterator[list[dict[str, Any]]]:
    """Measure answers per second and latency of 'memhop serve'."""
    if tiny:
        clients, seconds = 4, 1.0
    loads = (
        _Load("one question a request", SERVE, clients, 1),
        _Load("the same, answered one by one", ("-c", _WITHOUT_BATCHES), clients, 1),
        _Load("64 questions a request", SERVE, 4, 64),
    )
    torch_seconds = statistics.median(fresh_import("torch") for _ in range(1 if tiny else 3))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "model"
        untrained(Recipe.best(joint=True)).save(run)
        for load in loads:
            with running((*load.server, str(run))) as (port, ready):
                measured = asyncio.run(_ask(load, port, seconds))
            yield [{
                "load": load.name,
                "clients": load.clients,
                "questions": load.questions,
                "sentences": _SENTENCES,
                "load_seconds": seconds,
                **measured,
                "import_torch_seconds": round(torch_seconds, 3),
                "ready_seconds": round(ready, 3),
                **provenance(),
            }]  # fmt: skip


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[tuple[int, float]]:
    """Start a server; yield its port and the seconds until it answered."""
    start = time.perf_counter()
    # the address must arrive at once: Python buffers a pipe
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            found = next(filter(None, map(_ADDRESS.search, process.stdout)), None)
            if found is None:
                raise MemhopError("benchmark serve: the server did not start")
            port = int(found[1])
            asyncio.run(_ready(port))
            yield port, time.perf_counter() - start
        finally:
            process.terminate()


async def _ready(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    status, _ = await _request(reader, writer, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    writer.close()
    if status != 200:
        raise MemhopError(f"benchmark serve: /healthz answers with status {status}")


async def _ask(load: _Load, port: int, seconds: float) -> dict[str, Any]:
    """Return the throughput and latency of a load; the first tenth of the time warms up."""
    first_answers = asyncio.Barrier(load.clients)
    waits: list[float] = []
    errors = 0

    async def client(number: int) -> None:
        nonlocal errors
        request = _post(load.questions, seed=number)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await _request(reader, writer, request)
        await first_answers.wait()
        warm = time.perf_counter() + seconds / 10
        while not waits or time.perf_counter() < warm + seconds:
            start = time.perf_counter()
            status, body = await _request(reader, writer, request)
            wait = time.perf_counter() - start
            if start >= warm:
                errors += status != 200 or body.count(b'"attention"') != load.questions
                waits.append(wait)
        writer.close()

    await asyncio.gather(*map(client, range(load.clients)))
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
    """Return status and body; an HTTP library would take a share of the measured time."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
    return int(head.split()[1]), await reader.readexactly(length)


def sheets(rows: Rows) -> list[Sheet]:
    """Return the rows as a table."""
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
        f'latency of a request. "Answered one by one": without batches. The server is ready '
        f"{ready - torch_seconds:.1f} s beyond the {torch_seconds:.1f} s of `import torch`."
    )
    columns = ("load", "clients", "answers a second", "median ms", "99 of 100 ms", "errors")
    return [Sheet("Load on the service", columns, lines, note)]
