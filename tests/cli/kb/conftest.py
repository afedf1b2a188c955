"""Files of facts and questions about films, and runs that are trained on them."""

from pathlib import Path

import pytest

from ...knowledge.worlds import FILM_QUESTIONS, FILMS
from ..conftest import Program

SETTINGS = ("word_dim=8", "num_hops=2", "epochs=4", "learning_rate=0.02", "validation_share=0.3")
TINY = [word for setting in SETTINGS for word in ("--set", setting)]
FACTS, QUESTIONS = "facts.tsv", "questions.tsv"
SOURCE = ["--facts", FACTS, "--questions", QUESTIONS]
LINE = ["kb", "train", *SOURCE, *TINY]


def write_files() -> None:
    """Write the facts and the questions into the current folder."""
    Path(FACTS).write_text("".join("\t".join(fact) + "\n" for fact in FILMS))
    lines = [f"{one.text}\t{'|'.join(one.answers)}\n" for one in FILM_QUESTIONS]
    Path(QUESTIONS).write_text("".join(lines))


@pytest.fixture
def data(memhop: Program) -> None:
    """Write the files."""
    write_files()


@pytest.fixture
def trained(memhop: Program, data: None) -> str:
    """Return the name of a trained run."""
    memhop(*LINE, "--name", "films").ok()
    return "films"


@pytest.fixture
def stopped(memhop: Program, data: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a run that was stopped after two epochs."""
    interrupt_after(3, monkeypatch, memhop, [*LINE, "--name", "half"])
    return "half"


def interrupt_after(
    epoch: int, monkeypatch: pytest.MonkeyPatch, memhop: Program, line: list[str]
) -> str:
    """Interrupt a training when an epoch is shown, and return standard error."""
    shown = 0

    def percent(value: float | None) -> str:
        nonlocal shown
        shown += 1
        if shown == epoch:
            raise KeyboardInterrupt
        return f"{value}"

    with monkeypatch.context() as patch:
        patch.setattr("memhop.cli.kb.train.percent", percent)
        output = memhop(*line)
    assert output.status == 130, output
    return output.err
