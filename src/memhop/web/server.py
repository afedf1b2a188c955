"""Run the server."""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_address

import uvicorn

from memhop.errors import MemhopError
from memhop.web.api import make_app
from memhop.web.limits import Limits
from memhop.web.models import Models

_BACKLOG = 2048  # connections waiting to be accepted
_ALL_ADDRESSES = ("0.0.0.0", "::")
_SHUTDOWN_SECONDS = 3  # for requests that are running when the server stops


def serve(
    models: Models,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until stopped; call ``on_ready`` with the address. Port 0 is any free port.

    Raises:
        MemhopError: the address cannot be bound.
    """
    # against DNS rebinding: another site's name may point to this machine
    own = frozenset({"localhost", "127.0.0.1", "[::1]", host.lower()})
    app = make_app(models, limits, own if is_loopback(host) else frozenset())
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=_SHUTDOWN_SECONDS
    )
    name = "localhost" if host in _ALL_ADDRESSES else f"[{host}]" if ":" in host else host
    with _bound(host, port) as bound:
        on_ready(f"http://{name}:{bound.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[bound])


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server bound to ``host``.

    >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as closing:
            bound = closing.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(_BACKLOG)
            closing.pop_all()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MemhopError(f"cannot serve at {host} port {port}: {reason}") from error
    return bound
