"""Holds every request to the bounds before anything else sees it, and says how to treat the reply.

Plain ASGI: the body is read here, whole, within its bounds of size and time, and handed on.
"""

import asyncio
import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memhop.web.limits import Limits

# the page uses files of this server alone; nothing that a text says can become a script
_OWN_FILES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OPENAPI_PAGE = _OWN_FILES.replace("-src 'self';", "-src 'self' 'unsafe-inline';", 2)
_DROPPED = 16  # times what is taken, at most


class Guard:
    """Refuses what is past the bounds with a 4xx and a sentence; sets headers of safety."""

    def __init__(self, app: ASGIApp, limits: Limits, hosts: frozenset[str] = frozenset()) -> None:
        """``hosts`` are the names that requests may call this server; any where there are none."""
        self._app = app
        self._limits = limits
        self._hosts = hosts
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reply = _Reply(send, scope["path"])
        if self._hosts and _host(scope) not in self._hosts:
            await reply.refuse(400, "this server goes by another name")
            return
        if self._requests >= self._limits.requests:
            await reply.refuse(429, f"{self._limits.requests} requests are at work: try again")
            return
        self._requests += 1
        try:
            body = await self._body(scope, receive, reply)
            if body is not None:
                await self._app(scope, _once(body, receive), reply)
        except asyncio.CancelledError:  # the server stops
            if not reply.begun:
                await reply.refuse(429, "the server is stopping")
        finally:
            self._requests -= 1

    async def _body(self, scope: Scope, receive: Receive, reply: "_Reply") -> bytes | None:
        """The body; None where the request was refused or its client has gone."""
        most = self._limits.body_bytes
        length = Headers(scope=scope).get("content-length", "")
        size = int(length) if length.isdecimal() and len(length) < 20 else 0
        body, read, more = bytearray(), 0, True
        has = f"{size:,}" if size else "more"  # in chunks, it does not say how much
        status, sentence = 413, f"a request needs at most {most:,} bytes, this has {has}"
        try:
            async with asyncio.timeout(self._limits.seconds):
                # one that is too large is read and dropped: clients look at the reply only then
                while more and max(size, read) <= _DROPPED * most:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    piece = message.get("body", b"")
                    read += len(piece)
                    if read <= most:
                        body += piece
                    more = message.get("more_body", False)
        except TimeoutError:
            if size <= most:
                status = 408
                sentence = f"a request needs to be sent within {self._limits.seconds:g} seconds"
        else:
            if max(size, read) <= most:
                return bytes(body)
        await reply.refuse(status, sentence)
        return None


class _Reply:
    """What is sent back, with the headers of safety."""

    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._path = path
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            policy = _OPENAPI_PAGE if self._path.startswith("/docs") else _OWN_FILES
            headers["content-security-policy"] = policy
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "no-referrer"
            # a browser asks again whether a file has changed; answers are never kept
            headers["cache-control"] = "no-store" if self._path.startswith("/api") else "no-cache"
            if message["status"] == 429:
                headers["retry-after"] = "1"
        await self._send(message)

    async def refuse(self, status: int, sentence: str) -> None:
        content = json.dumps({"detail": sentence}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close"),
                   (b"content-length", str(len(content)).encode())]  # fmt: skip
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": content})


def _host(scope: Scope) -> str:
    """The name in a Host header, without the port."""
    host = Headers(scope=scope).get("host", "").lower()
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _once(body: bytes, receive: Receive) -> Receive:
    """Hands on a body that was read already; after it, what the client still does."""
    left = [body]

    async def receive_again() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return receive_again
