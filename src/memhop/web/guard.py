"""ASGI middleware: enforce the limits of a request and set the security headers of the response.

It reads the whole body, within the limits of size and time, before it calls the application.
"""

import asyncio
import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memhop.web.limits import Limits

# the page uses only files of this server, and no text can become a script
_OWN_FILES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OPENAPI_PAGE = _OWN_FILES.replace("-src 'self';", "-src 'self' 'unsafe-inline';", 2)
_MAX_DISCARDED = 16  # times the allowed size of a body


class Guard:
    """Answers a request beyond the limits with a 4xx status; sets security headers."""

    def __init__(self, app: ASGIApp, limits: Limits, hosts: frozenset[str] = frozenset()) -> None:
        """``hosts`` are the allowed Host headers; empty for any."""
        self._app = app
        self._limits = limits
        self._hosts = hosts
        self._num_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reply = _Reply(send, scope["path"])
        if self._hosts and _host(scope) not in self._hosts:
            await reply.reject(400, "Host header not allowed")
            return
        if self._num_requests >= self._limits.requests:
            await reply.reject(429, f"{self._limits.requests} requests are running: try again")
            return
        self._num_requests += 1
        try:
            body = await self._body(scope, receive, reply)
            if body is not None:
                await self._app(scope, _replay(body, receive), reply)
        except asyncio.CancelledError:  # the server stops
            if not reply.has_started:
                await reply.reject(429, "the server is stopping")
        finally:
            self._num_requests -= 1

    async def _body(self, scope: Scope, receive: Receive, reply: "_Reply") -> bytes | None:
        """Return the body; None if the request was rejected or the client disconnected."""
        max_bytes = self._limits.body_bytes
        length = Headers(scope=scope).get("content-length", "")
        size = int(length) if length.isdecimal() and len(length) < 20 else 0
        body, num_read, has_more = bytearray(), 0, True
        got = f"{size:,}" if size else "more"  # a chunked request does not state its size
        status, sentence = 413, f"expected at most {max_bytes:,} bytes, got {got}"
        try:
            async with asyncio.timeout(self._limits.seconds):
                # read and discard a body that is too large: most clients read no reply before
                while has_more and max(size, num_read) <= _MAX_DISCARDED * max_bytes:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk = message.get("body", b"")
                    num_read += len(chunk)
                    if num_read <= max_bytes:
                        body += chunk
                    has_more = message.get("more_body", False)
        except TimeoutError:
            if size <= max_bytes:
                status = 408
                sentence = f"expected a request within {self._limits.seconds:g} seconds"
        else:
            if max(size, num_read) <= max_bytes:
                return bytes(body)
        await reply.reject(status, sentence)
        return None


class _Reply:
    """Sends a response with security headers."""

    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._path = path
        self.has_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            headers = MutableHeaders(scope=message)
            policy = _OPENAPI_PAGE if self._path.startswith("/docs") else _OWN_FILES
            headers["content-security-policy"] = policy
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "no-referrer"
            # browsers revalidate files, and cache no answers
            headers["cache-control"] = "no-store" if self._path.startswith("/api") else "no-cache"
            if message["status"] == 429:
                headers["retry-after"] = "1"
        await self._send(message)

    async def reject(self, status: int, sentence: str) -> None:
        content = json.dumps({"detail": sentence}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close"),
                   (b"content-length", str(len(content)).encode())]  # fmt: skip
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": content})


def _host(scope: Scope) -> str:
    """Return the Host header without the port."""
    host = Headers(scope=scope).get("host", "").lower()
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a function that receives a body that was already read, then further messages."""
    left = [body]

    async def receive_again() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return receive_again
