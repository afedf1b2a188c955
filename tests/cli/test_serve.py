"""``memhop serve``: errors before the server starts."""

import socket
import sys
from pathlib import Path

import pytest

from memhop.retrieval import RetrievalModel

from .conftest import Program


def test_without_its_extra_it_names_the_package_to_install(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "memhop.web.server", raising=False)
    monkeypatch.delattr("memhop.web.server", raising=False)
    error = memhop("serve", trained).error()
    assert error == "serve needs uvicorn: pip install 'memhop[serve]'"


def test_a_missing_run_raises(memhop: Program, trained: str) -> None:
    assert memhop("serve", "other").error() == (
        "expected a run or the folder of a store: no run 'other'; under runs/: one; "
        "with memhop: stories"
    )


def test_the_folder_of_a_retrieval_model_goes_to_hops(memhop: Program, tmp_path: Path) -> None:
    RetrievalModel(4, 4, 2).save("model")
    folder = tmp_path.resolve() / "model"
    assert memhop("serve", "model").error() == (
        f"{folder}: expected a story model or a knowledge model, got a retrieval model: "
        f"memhop serve STORE --hops {folder}"
    )


def test_an_invalid_address_is_a_one_line_error(memhop: Program, trained: str) -> None:
    output = memhop("serve", trained, "--host", "256.1.1.1")
    assert output.status == 2
    assert output.err.splitlines()[-1].startswith("memhop: cannot serve at 256.1.1.1 port 8000: ")


def test_a_port_in_use_is_a_one_line_error(memhop: Program, trained: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        error = memhop("serve", trained, "--port", port).error()
    assert error == f"cannot serve at 127.0.0.1 port {port}: Address already in use"


def test_a_public_address_is_reported_before_binding(memhop: Program, trained: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        output = memhop("serve", trained, "--host", "0.0.0.0", "--port", port)
    assert (output.status, output.out) == (2, "")
    warning, error = output.err.splitlines()
    assert warning == "0.0.0.0: everyone who can reach this machine can ask, without a password"
    assert error.endswith("Address already in use")


def test_the_help_warns_about_public_addresses(memhop: Program) -> None:
    assert "with no password and no encryption" in " ".join(memhop("serve", "--help").out.split())
