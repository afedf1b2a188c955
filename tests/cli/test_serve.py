"""``memhop serve``: what goes wrong before it serves."""

import socket
import sys

import pytest

from .conftest import Program


def test_without_its_extra_it_says_what_to_install(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "memhop.web.server", raising=False)
    monkeypatch.delattr("memhop.web.server", raising=False)
    complaint = memhop("serve", trained).complaint()
    assert complaint == "serve needs uvicorn: pip install 'memhop[serve]'"


def test_a_run_that_is_not_there_is_named(memhop: Program, trained: str) -> None:
    assert memhop("serve", "other").complaint() == "no run 'other'; under runs/: one"


def test_an_address_that_is_none_is_one_line(memhop: Program, trained: str) -> None:
    said = memhop("serve", trained, "--host", "256.1.1.1")
    assert said.status == 2
    assert said.err.splitlines()[-1].startswith("memhop: cannot serve at 256.1.1.1 port 8000: ")


def test_a_port_in_use_is_one_line(memhop: Program, trained: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        complaint = memhop("serve", trained, "--port", port).complaint()
    assert complaint == f"cannot serve at 127.0.0.1 port {port}: Address already in use"


def test_before_binding_wider_it_says_what_that_means(memhop: Program, trained: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = memhop("serve", trained, "--host", "0.0.0.0", "--port", port)
    assert (said.status, said.out) == (2, "")
    warning, error = said.err.splitlines()
    assert warning == "0.0.0.0: whoever can reach this machine can ask; nothing wants a password"
    assert error.endswith("Address already in use")


def test_the_help_warns_before_binding_wider(memhop: Program) -> None:
    assert "with no password and no encryption" in " ".join(memhop("serve", "--help").out.split())
