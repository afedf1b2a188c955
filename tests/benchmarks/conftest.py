"""Run the benchmarks in this process, in a temporary folder."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.__main__ import main


class Output(NamedTuple):
    """The exit status and the output of a command."""

    status: int | str | None
    out: str
    err: str


Runner = Callable[..., Output]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Runner:
    """Return a function that runs ``python -m benchmarks`` with the given arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> Output:
        status: int | str | None = 0
        try:
            main([*arguments])
        except SystemExit as end:
            status = end.code
        return Output(status, *capsys.readouterr())

    return run
