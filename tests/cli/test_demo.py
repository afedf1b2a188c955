"""``memhop demo`` with little training: its text fits a terminal and its next commands work."""

import shlex
from pathlib import Path

import pytest

import memhop.cli.demo as demo
from memhop.recipe import Recipe
from memhop.training.loop import Progress

from .conftest import Program


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "RECIPE", Recipe(epochs=1, linear_start_epochs=1))
    monkeypatch.setattr(demo, "QUESTIONS", {1: 64, 2: 64})
    monkeypatch.setattr(demo, "_TEST_QUESTIONS", 32)


def test_its_output_and_its_next_command(memhop: Program) -> None:
    out = memhop("demo").ok().out
    assert "one supporting fact, such as where Mary is: " in out
    assert "two supporting facts, such as where the milk is: " in out
    assert out.count("(the right answer: ") == 2
    assert out.count("hop 3") == 2
    *_, page, first, second = out.rpartition("Ask your own")[2].replace("\\\n", "").splitlines()
    assert shlex.split(page) == ["memhop", "serve", "demo"]
    assert shlex.split(first) == ["memhop", "ask", "demo"]
    answered = memhop(*shlex.split(second)[1:]).ok()
    assert answered.out.startswith("Where is the milk?  ")
    assert "never seen" not in answered.out


def test_the_next_demo_has_its_own_run(memhop: Program) -> None:
    memhop("demo").ok()
    assert "memhop ask demo-2 " in memhop("demo", "--seed", "1").ok().out
    memhop("generate", "--questions", "9", "--to", "stories").ok()
    output = memhop("eval", "demo", "--data", "stories").ok()
    assert output.err == ""  # no message about a stopped training


@pytest.mark.parametrize("place", ["file", "/proc", "missing/folder"])
def test_a_folder_that_cannot_be_written_to_is_reported_before_training(
    memhop: Program, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    Path("file").touch()
    Path("runs").symlink_to(place)
    monkeypatch.setattr(demo, "train", pytest.fail)
    assert "runs/demo: cannot be written to: " in memhop("demo").error()


def test_ctrl_c_prints_how_to_start_again(memhop: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: Progress) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("memhop.cli.screen._figures", stop)
    output = memhop("demo")
    assert output.status == 130
    assert output.err.splitlines()[-1] == "memhop: stopped; start again with: memhop demo"
    assert not Path("runs").exists()
