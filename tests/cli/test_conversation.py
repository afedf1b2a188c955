"""``memhop ask`` at a terminal: its commands, and what it says to each line."""

import sys
from collections.abc import Callable

import pytest

from .conftest import Program
from .test_ask import Stdin

Talk = Callable[..., list[str]]


@pytest.fixture
def talk(memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch) -> Talk:
    def say(*lines: str) -> list[str]:
        monkeypatch.setattr(sys, "stdin", Stdin("\n".join(lines), types=True))
        said = memhop("ask", trained).fits()
        assert said.err == ""
        head, *answers = said.out.split("> ")
        assert head.startswith("Type sentences; a question ends in '?'.")
        return [answer.strip("\n") for answer in answers]

    return say


def test_help_lists_every_command(talk: Talk) -> None:
    for line in ("help", " Help. ", "HELP!"):
        text = talk(line)[0]
        for command in ("undo", "forget", "help", "quit", "Ctrl-D"):
            assert command in text


def test_undo_takes_back_line_after_line(talk: Talk) -> None:
    said = talk(
        "Mary went home.", "John went home. Mary went home.", "Where is Mary?", "undo", "undo",
        "undo", "Where is Mary?",
    )  # fmt: skip
    assert said[3] == (
        "removed: John went home.\nremoved: Mary went home.\nthe story holds 1 sentence"
    )
    assert said[4] == "removed: Mary went home.\nthe story holds 0 sentences"
    assert said[5] == "nothing to undo"
    assert "nothing to read" in said[6]


def test_undo_brings_a_forgotten_story_back(talk: Talk) -> None:
    said = talk("Mary went home.", "forget", "John went home.", "undo", "undo", "undo", "undo")
    assert said[3:7] == [
        "removed: John went home.\nthe story holds 0 sentences",
        "the story is back: the story holds 1 sentence",
        "removed: Mary went home.\nthe story holds 0 sentences",
        "nothing to undo",
    ]


def test_unknown_words_are_named_as_a_sentence_is_typed(talk: Talk) -> None:
    said = talk("Mary Zorped home. John zorped twice.", "Mary went to the garden.", "undo.")
    assert said[0].startswith("never seen in training, read as nothing: zorped, ")
    assert said[0].count("zorped") == 1
    assert said[0].endswith("twice\nthe story holds 2 sentences")
    assert said[1] == "the story holds 3 sentences"
    assert said[2].startswith("removed: ")
    said = talk("John zorped. Where is John? Mary slupt. It gorped.")
    assert said[0].count("zorped") == 2  # with the answer, and in the story that was read
    assert said[0].splitlines()[-2].startswith("never seen in training, read as nothing: slupt, ")
