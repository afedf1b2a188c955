"""``memhop ask`` at a terminal: its commands and replies."""

import sys
from collections.abc import Callable

import pytest

from .conftest import Program
from .test_ask import Stdin

Talk = Callable[..., list[str]]


@pytest.fixture
def talk(memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch) -> Talk:
    def run(*lines: str) -> list[str]:
        monkeypatch.setattr(sys, "stdin", Stdin("\n".join(lines), is_terminal=True))
        output = memhop("ask", trained).ok()
        assert output.err == ""
        head, *answers = output.out.split("> ")
        assert head.startswith("Type sentences; a question ends in '?'.")
        return [answer.strip("\n") for answer in answers]

    return run


def test_help_lists_every_command(talk: Talk) -> None:
    for line in ("help", " Help. ", "HELP!", "help?"):
        text = talk(line)[0]
        for command in ("undo", "forget", "help", "quit", "Ctrl-D"):
            assert command in text


def test_undo_removes_line_after_line(talk: Talk) -> None:
    output = talk(
        "Mary went home.", "John went home. Mary went home.", "Where is Mary?", "undo", "undo",
        "undo", "Where is Mary?",
    )  # fmt: skip
    assert output[3] == (
        "removed: John went home.\nremoved: Mary went home.\nthe story has 1 sentence"
    )
    assert output[4] == "removed: Mary went home.\nthe story has 0 sentences"
    assert output[5] == "nothing to undo"
    assert output[6] == "Where is Mary?  no answer: the story is empty"


def test_undo_restores_a_forgotten_story(talk: Talk) -> None:
    output = talk("Mary went home.", "forget", "John went home.", "undo", "undo", "undo", "undo")
    assert output[3:7] == [
        "removed: John went home.\nthe story has 0 sentences",
        "the story is restored: it has 1 sentence",
        "removed: Mary went home.\nthe story has 0 sentences",
        "nothing to undo",
    ]


def test_unknown_words_are_reported_after_each_sentence(talk: Talk) -> None:
    output = talk("Mary Zorped home. John zorped twice.", "Mary went to the garden.", "undo.")
    assert output[0].startswith("never seen in training, ignored: zorped, ")
    assert output[0].count("zorped") == 1
    assert output[0].endswith("twice\nthe story has 2 sentences")
    assert output[1] == "the story has 3 sentences"
    assert output[2].startswith("removed: ")
    output = talk("John zorped. Where is John? Mary slupt. It gorped.")
    assert output[0].count("zorped") == 2  # with the answer, and in the story
    assert output[0].splitlines()[-2].startswith("never seen in training, ignored: slupt, ")


def test_a_command_with_a_question_mark_is_a_command(talk: Talk) -> None:
    output = talk("Mary went to the office.", "undo?", "QUIT?", "Where is Mary?")
    assert output[1] == "removed: Mary went to the office.\nthe story has 0 sentences"
    assert output[2:] == [""]


def test_a_line_without_a_word_has_a_reply(talk: Talk) -> None:
    for line in ("?", "...", "\u200b"):
        assert talk(line)[0] == "no word in this line; 'help' lists the commands"
    assert talk("", "  ")[:2] == ["", ""]


def test_undo_ignores_questions(talk: Talk) -> None:
    output = talk("help", "Mary went to the office.", "Where is Mary?", "undo")
    assert "undo                 remove the sentences that were added last" in output[0]
    assert output[3] == "removed: Mary went to the office.\nthe story has 0 sentences"


def test_forget_of_an_empty_story_is_not_undone(talk: Talk) -> None:
    output = talk("forget", "undo", "Mary went to the office.", "forget", "forget", "undo", "undo")
    assert output[:2] == ["a new story", "nothing to undo"]
    assert output[5] == "the story is restored: it has 1 sentence"
    assert output[6] == "removed: Mary went to the office.\nthe story has 0 sentences"


def test_lines_of_a_babi_file_are_recognised(talk: Talk) -> None:
    output = talk(
        "1 Mary went to the garden.", "2 Where is Mary?\tgarden\t1", "3 John went to the office.",
        "4 Where is John?  mars  3", "1 Mary went to the office.", "2 Where is Mary?\toffice",
        "undo", "undo", "5 Where is Mary?",
    )  # fmt: skip
    assert output[0] == "the story has 1 sentence"
    assert output[2] == "the story has 2 sentences"
    for index, question, right, sentences in (
        (1, "Where is Mary?", "garden", 1), (3, "Where is John?", "mars", 2),
        (5, "Where is Mary?", "office", 1),
    ):  # fmt: skip
        lines = output[index].splitlines()
        assert lines[0].startswith(f"{question}  ")
        shown = [line for line in lines if line[:3] in ("1  ", "2  ")]
        assert len(shown) == sentences
        assert lines[-1].endswith(f" (the right answer: {right})")
    assert output[3].splitlines()[-1].startswith("wrong ")
    assert output[4] == "a new story\nthe story has 1 sentence"
    assert output[6] == "removed: Mary went to the office.\nthe story has 0 sentences"
    assert output[7] == "the story is restored: it has 2 sentences"
    assert output[8].splitlines()[0].startswith("Where is Mary?  ")


def test_other_numbers_stay_in_their_sentences(talk: Talk) -> None:
    output = talk("Mary went to the office.", "1 apple fell.", "3 apples fell.", "Where is Mary?")
    assert "1  Mary went to the office." in output[3]
    assert "2  1 apple fell." in output[3]
    assert "3  3 apples fell." in output[3]


def test_a_numbered_line_without_a_question_is_not_an_error(talk: Talk) -> None:
    for line in ("1 ?", "1 ?\tgarden", "1 \tgarden", "1 ...", "1 Where is Mary?\t?", "1 Mary\t"):
        talk(line, "undo", "undo")
