"""Completion in a shell; typer writes the scripts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Program

Offered = Callable[[str], list[str]]


@pytest.fixture
def offered(memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch) -> Offered:
    memhop("train", "--data", "stories", "--name", "many", "--restarts=1", "--set=epochs=1").ok()
    Path("runs/empty").mkdir()
    Path("runs/file").touch()

    def offer(line: str) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setenv("_MEMHOP_COMPLETE", "complete_bash")
            patch.setenv("COMP_WORDS", line)
            patch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
            output = memhop()
        assert (output.status, output.err) == (0, "")
        return output.out.split()

    return offer


def test_runs(offered: Offered, monkeypatch: pytest.MonkeyPatch) -> None:
    every = ["many", "many/qa1", "many/qa2", "one"]
    for command in ("ask", "eval", "serve", "serve one"):
        assert offered(f"memhop {command} ") == [*every, "stories"]
    assert offered("memhop ask many/") == every[1:3]
    assert offered("memhop train --resume --name o") == ["one"]
    assert offered("memhop train --name ") == ["many", "one"]
    monkeypatch.chdir("runs")  # no folder runs here
    assert offered("memhop ask ") == ["stories"]


def test_tasks_and_recipes(offered: Offered) -> None:
    assert offered("memhop generate --task 2") == ["2", "20"]
    assert offered("memhop train --task 1,2") == ["1,2", "1,20"]
    assert len(offered("memhop eval --task ")) == 20
    assert offered("memhop train --recipe b") == ["best"]


def test_commands_and_options(offered: Offered) -> None:
    assert offered("memhop de") == ["demo"]
    assert offered("memhop reproduce babi --to nowhere/file --tin") == ["--tiny"]
    assert "--threads" in offered("memhop demo --th")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(
    memhop: Program, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    assert "_MEMHOP_COMPLETE=" in memhop("--show-completion").out
