"""``memhop ask``: stories and questions from arguments, files and pipes; escaped output."""

import io
import json
import re
import sys
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from .conftest import Program

STORY = "Mary went to the garden. John went to the office."
TEXT = "Mary went to the garden.\nWhere is Mary?\n\nJohn slept. Where is John?\n"


class Stdin(io.TextIOWrapper):
    """Standard input: a pipe or a terminal."""

    def __init__(self, text: str, *, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(text.encode("utf-8", "surrogateescape")), "utf-8")
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def test_arguments(memhop: Program, trained: str) -> None:
    output = memhop("ask", trained, "--story", STORY, "-q", "Where is Mary?", "-q", "And John?")
    lines = output.ok().out.splitlines()
    assert lines[0].startswith("Where is Mary?  ")
    assert "never seen in training, ignored: and" in lines
    assert [line[:3] for line in lines].count("2  ") == 2  # each answer shows both sentences
    assert memhop("ask", "--story", STORY, "-q", "Where is Mary?", "-q", "And John?") == output


def test_a_file_a_pipe_and_json_give_the_same_answers(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("text.txt").write_text(TEXT)
    output = memhop("ask", trained, "--file", "text.txt").ok()
    for dash in ([], ["--file", "-"]):
        monkeypatch.setattr(sys, "stdin", Stdin(TEXT))
        assert memhop("ask", trained, *dash) == output
    answers = json.loads(memhop("ask", trained, "--file", "text.txt", "--json").ok().out)
    assert [one["question"] for one in answers] == ["Where is Mary?", "Where is John?"]
    assert [len(one["sentences"]) for one in answers] == [1, 2]
    hops = answers[1]["attention"]
    assert [len(hop) for hop in hops] == [2, 2, 2]
    assert "slept" in answers[1]["unknown_words"]


BABI = (
    "1 Mary went to the garden.\n2 Where is Mary?\tgarden\t1\n3 John went to the office.\n"
    "4 Where is John?\tOffice\t3\n1 John went home.\n2 Where is Mary?\tmars\n"
)


@pytest.mark.parametrize("text", [BABI, "\ufeff" + BABI.replace("\n", "\r\n")])
def test_a_file_in_the_babi_format_is_read_story_by_story(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    Path("own.txt").write_text(text, newline="")
    output = memhop("ask", trained, "--file", "own.txt").ok()
    monkeypatch.setattr(sys, "stdin", Stdin(text))
    assert memhop("ask", trained) == output
    answers = json.loads(memhop("ask", trained, "--file", "own.txt", "--json").ok().out)
    assert [one["right_answer"] for one in answers] == ["garden", "Office", "mars"]
    assert [len(one["sentences"]) for one in answers] == [1, 2, 1]
    for one in answers:
        assert one["is_correct"] == (one["answer"] == one["right_answer"].lower())
    verdicts = [line for line in output.out.splitlines() if "(the right answer: " in line]
    assert verdicts == [
        f"{'correct' if one['is_correct'] else 'wrong'} (the right answer: {one['right_answer']})"
        for one in answers
    ]
    count = sum(one["is_correct"] for one in answers)
    assert output.out.splitlines()[-1] == f"{count} of 3 answers are correct"


def test_a_babi_file_may_lack_its_answers(memhop: Program, trained: str) -> None:
    Path("plain.txt").write_text(re.sub(r"\t.*", "", BABI))
    answers = json.loads(memhop("ask", trained, "--file", "plain.txt", "--json").ok().out)
    assert [len(one["sentences"]) for one in answers] == [1, 2, 1]
    assert not any("right_answer" in one for one in answers)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (BABI.replace("\t", " "), 2),
        ("# my stories\n" + BABI, 1),
        (BABI.replace("1 ", "1\t"), 1),
        (re.sub("(?m)^[0-9] ", "", BABI), 1),
        ("1 Mary went home.\n2 ?\tgarden\t1\n", 2),
    ],
)
def test_a_babi_file_with_mistakes_is_not_read_as_plain_text(
    memhop: Program, trained: str, text: str, line: int
) -> None:
    Path("own.txt").write_text(text)
    assert f"own.txt:{line}: " in memhop("ask", trained, "--file", "own.txt").error()


def test_a_broken_file_in_the_babi_format_raises(memhop: Program, trained: str) -> None:
    for broken, line in (
        (BABI.replace("\tOffice", "  Office"), 4),
        (BABI.replace("3 John", "7 John"), 3),
        (BABI + "and so on\n", 7),
    ):
        Path("own.txt").write_text(broken)
        error = memhop("ask", trained, "--file", "own.txt").error()
        assert error.startswith(f"own.txt:{line}: ")
    Path("own.txt").write_text("1 apple fell. Where is it?\nMary\tlost it.\n")  # a plain text
    memhop("ask", trained, "--file", "own.txt").ok()


def test_truncated_sentences_are_reported_on_standard_error(memhop: Program, trained: str) -> None:
    line = ["ask", trained, "-q", "Where is Mary?", "--story"]
    whole = memhop(*line, "Mary left. " * 3).ok()
    assert whole.err == ""
    long = "Mary left.\n" * 300
    [answer] = json.loads(memhop(*line, long, "--json").ok().out)
    output = memhop(*line, long)
    assert 0 < answer["truncated"] < 300
    shown = f"the memory is full: the {answer['truncated']} oldest sentences are not read\n"
    assert output.err == shown
    [answer] = json.loads(memhop(*line, "Mary left.", "--json").ok().out)
    assert answer["truncated"] == 0


def test_truncated_stories_of_a_file_are_reported_in_one_line(
    memhop: Program, trained: str
) -> None:
    story = "1 Mary left.\n2 Where is Mary?\toffice\n"
    long = "".join(f"{number} Mary left.\n" for number in range(1, 300))
    for last in (300, 301):
        long += f"{last} Where is Mary?\toffice\n"
    Path("own.txt").write_text(story + long + story)
    answers = json.loads(memhop("ask", trained, "--file", "own.txt", "--json").ok().out)
    truncated = [one["truncated"] for one in answers]
    assert [bool(number) for number in truncated] == [False, True, True, False]
    output = memhop("ask", trained, "--file", "own.txt")
    assert output.err == (
        f"the memory is full in 2 of 4 questions: up to {truncated[1]} of the oldest sentences "
        "are not read\n"
    )
    line = ["eval", trained, "--test", "own.txt"]
    assert json.loads(memhop(*line, "--json").ok().out)[0]["truncated_stories"] == 2
    full = "own.txt: memory full in 2 questions: oldest sentences not read"
    assert full in memhop(*line).ok().out.splitlines()
    Path("own.txt").write_text(story)
    assert json.loads(memhop(*line, "--json").ok().out)[0]["truncated_stories"] == 0
    assert "memory full" not in memhop(*line).ok().out


def test_several_questions_in_one_option_raise(memhop: Program, trained: str) -> None:
    error = memhop("ask", trained, "-q", "Where is Mary? Where is John?").error()
    assert error == "--question: expected one question, got 2; give -q for each"
    memhop("ask", trained, "-q", "Mary left. Where is Mary? ?", "-q", "Where is John").ok()


def test_a_question_ends_in_a_question_mark_of_any_script(memhop: Program, trained: str) -> None:
    Path("text.txt").write_text('Mary left. "Where is Mary?" 玛丽走了。玛丽在哪里？')  # noqa: RUF001
    answers = json.loads(memhop("ask", trained, "--file", "text.txt", "--json").ok().out)
    assert [len(one["sentences"]) for one in answers] == [1, 2]
    assert "mary" not in answers[0]["unknown_words"]


def test_control_characters_and_markup_are_printed_literally(memhop: Program, trained: str) -> None:
    story = "\x1b[31mMary\x07 [bold]went[/] :smile: home."
    output = memhop("ask", trained, "--story", story, "-q", "\x9b1mWhere is [link=x]Mary?")
    assert "\x1b" not in output.out
    assert "\x07" not in output.out
    assert "\x9b" not in output.out
    for shown in ("Where is [link=x]Mary?", "1  \\x1b[31mMary\\x07 [bold]went[/]"):
        assert shown in output.out


def test_characters_that_the_terminal_cannot_encode(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["ask", trained, "--story", "Jürgen \udcff schlief.", "-q", "Wo ist Jürgen?"]
    assert json.loads(memhop(*line, "--json").ok().out)[0]["question"] == "Wo ist Jürgen?"
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert memhop(*line).status == 0
    narrow.seek(0)
    text = narrow.read()
    assert text.startswith("Wo ist J\\xfcrgen?  ")
    assert "J?rgen" in text
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert memhop(*line, "--json").status == 0
    narrow.seek(0)
    assert json.loads(narrow.read())[0]["question"] == "Wo ist Jürgen?"


def test_an_empty_story_is_not_an_error(memhop: Program, trained: str) -> None:
    line = ["ask", trained, "-q", "Where is Mary?"]
    shown = "Where is Mary?  no answer: the story is empty\n"
    for story in ([], ["--story", ""], ["--story", "?! ..."]):
        assert memhop(*line, *story).ok() == (0, shown, "")


def test_only_unknown_words_give_no_answer(memhop: Program, trained: str) -> None:
    asked = {
        ("Zorp.", "Where is Mary?"): "no answer: the model knows no word of the story",
        ("Mary went home.", "Zorp?"): "no answer: the model knows no word of the question",
        ("", "Where is Mary?"): "no answer: the story is empty",
        ("Mary zorped.", "Where is Zoe?"): "",
    }
    for (story, question), reason in asked.items():
        line = ["ask", trained, "--story", story, "-q", question]
        [head, *_] = memhop(*line).ok().out.splitlines()
        [answer] = json.loads(memhop(*line, "--json").ok().out)
        assert answer["no_answer"] == reason
        assert answer["answer"]  # the guess of the model
        assert (head == f"{question}  {reason}") == bool(reason)
    Path("own.txt").write_text(f"1 Where is Mary?\t{answer['answer']}\n")
    output = memhop("ask", trained, "--file", "own.txt").ok()
    assert output.out.splitlines()[1] == f"wrong (the right answer: {answer['answer']})"
    [answer] = json.loads(memhop("ask", trained, "--file", "own.txt", "--json").ok().out)
    assert answer["is_correct"] is False
    assert answer["no_answer"]


def test_many_unknown_words_are_counted(memhop: Program, trained: str) -> None:
    words = " ".join(f"w{number}" for number in range(20))
    output = memhop("ask", trained, "--story", f"{words}.", "-q", "Where is Mary?")
    assert "ignored: w0, w1, w2, w3, w4, w5, w6, w7 and 12 more\n" in output.out


def test_a_pipe_without_a_question(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stdin in (Stdin(""), Stdin("Mary slept.\n"), None):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert "no question in the text" in memhop("ask", trained).error()
    monkeypatch.setattr(sys, "stdin", Stdin("a\nb \udcff?"))
    assert memhop("ask", trained).error() == "stdin:2: expected UTF-8 text, got other bytes"


def test_a_conversation(memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = "Mary went home.\nWhere is Mary? ?\nforget\n\nWhere is Mary?\n"
    for end in ("quit\nWhere is John?\n", "", "Exit."):
        monkeypatch.setattr(sys, "stdin", Stdin(typed + end, is_terminal=True))
        out = memhop("ask", trained).ok().out
        assert out.count("Where is Mary?  ") == 2
        assert (
            out.index("Mary went home.")
            < out.index("a new story")
            < out.index("no answer: the story is empty")
        )
        assert "Where is John?" not in out


def test_a_conversation_reports_the_length_of_the_story(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = "Mary went home.\nJohn slept. Whoever left. Where is Mary?\nwhere is Mary\nforget\n..\n"
    monkeypatch.setattr(sys, "stdin", Stdin(typed, is_terminal=True))
    noted = [line for line in memhop("ask", trained).ok().out.splitlines() if " has " in line]
    assert [line.removeprefix("> ") for line in noted] == [
        "the story has 1 sentence",
        "the story has 3 sentences",
        "the story has 4 sentences; a question ends in '?'",
    ]


def test_a_stopped_training_is_reported(memhop: Program, stopped: str) -> None:
    for run, shown in (("half/qa1", "runs/half/qa1"), (stopped, "runs/half")):
        output = memhop("ask", run, "-q", "Where is Mary?")
        message = f"memhop: {shown}: stopped after epoch 3 of 4; resume with --resume\n"
        assert (output.status, output.err) == (0, message)
    assert memhop("ask", "-q", "Where is Mary?") == output  # the only run


def test_a_finished_run_takes_precedence_over_a_newer_stopped_one(
    memhop: Program, trained: str, stopped: str
) -> None:
    output = memhop("ask", "-q", "Where is Mary?").ok()
    assert output.err == ""
    assert output == memhop("ask", trained, "-q", "Where is Mary?")


def test_invalid_bytes_from_a_terminal_are_escaped(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin("Mary \udcff. Where is Mary?", is_terminal=True))
    out = memhop("ask", trained).ok().out
    assert "1  Mary \\xff." in out


def test_a_picture_of_the_answer(memhop: Program, trained: str) -> None:
    line = ["ask", trained, "--story", STORY, "-q", "Where is <Mary>?"]
    plain = memhop(*line).ok()
    assert memhop(*line, "--svg", "answer.svg") == plain
    drawn = fromstring(Path("answer.svg").read_text())
    texts = [one.text or "" for one in drawn.iter() if one is not drawn]
    assert texts[0].startswith("Where is <Mary>?  ")
    assert re.search(r"  \w+ \(\d+%\)$", texts[0])
    assert {"Mary went to the garden.", "John went to the office."} <= set(texts)
    Path("story.txt").write_text("mine")
    error = memhop(*line, "--svg", "story.txt").error()
    assert error == "story.txt: already exists; give another name"
    assert Path("story.txt").read_text() == "mine"
    output = memhop(*line, "--json", "--svg", "answer.svg").ok()
    assert len(json.loads(output.out)) == 1
    assert fromstring(Path("answer.svg").read_text())
    assert [file.name for file in Path().glob(".*")] == []


def test_a_picture_shows_the_story_before_its_question(memhop: Program, trained: str) -> None:
    Path("text.txt").write_text("Mary went home.\nWhere is Mary?\nJohn slept.\n")
    memhop("ask", trained, "--file", "text.txt", "--svg", "answer.svg").ok()
    drawn = Path("answer.svg").read_text()
    assert "Mary went home." in drawn
    assert "John" not in drawn


def test_a_picture_without_an_answer_gives_the_reason(memhop: Program, trained: str) -> None:
    memhop("ask", trained, "-q", "Where is Mary?", "--svg", "answer.svg").ok()
    assert "Where is Mary?  no answer: the story is empty" in Path("answer.svg").read_text()


def test_a_picture_needs_one_question(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = "--svg needs one question, got several"
    several = ("-q", "Where is Mary?", "-q", "Where is John?")
    assert memhop("ask", trained, *several, "--svg", "a.svg").error() == wanted
    Path("text.txt").write_text(TEXT)
    assert memhop("ask", trained, "--file", "text.txt", "--svg", "a.svg").error() == wanted
    monkeypatch.setattr(sys, "stdin", Stdin("", is_terminal=True))
    error = memhop("ask", trained, "--svg", "a.svg").error()
    assert error == "--svg needs a --question or a --file"
    assert not Path("a.svg").exists()


def test_a_picture_that_cannot_be_written(memhop: Program, trained: str) -> None:
    Path("folder").mkdir()
    Path("file").touch()
    for place, reason in (
        ("folder", "it exists and is not a file"),
        ("", "it exists and is not a file"),
        ("none/a.svg", "No such file or directory"),
        ("file/a.svg", "Not a directory"),
    ):
        output = memhop("ask", trained, "-q", "Where is Mary?", "--svg", place)
        assert output.error() == f"{Path(place)}: cannot be written: {reason}"
    assert list(Path("folder").iterdir()) == []


def test_a_conversation_needs_no_json(
    memhop: Program, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin("", is_terminal=True))
    assert "--json" in memhop("ask", trained, "--json").error()


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.json", "checkpoint.json"])
def test_a_broken_run_is_a_one_line_error(memhop: Program, trained: str, name: str) -> None:
    [file] = Path("runs", trained).glob(f"*/{name}")
    file.write_bytes(file.read_bytes()[:-3])
    assert name in memhop("ask", trained, "-q", "Where is Mary?").error()


def test_a_folder_with_the_name_of_a_run_is_ignored(memhop: Program, trained: str) -> None:
    Path(trained).mkdir()
    memhop("ask", trained, "-q", "Where is Mary?").ok()


def test_the_suffix_of_a_file_comes_before_its_content(memhop: Program, trained: str) -> None:
    Path("text.txt").write_text(
        "1 John went.\n2 Mary went to the garden.\n3 Where is Mary?\tmars\n"
    )
    Path("text.csv").write_text("story,question,answer\n1 John went. Mary went to the garden.,"
                                "Where is Mary?,mars\n")  # fmt: skip
    Path("text.jsonl").write_text('{"story": ["1 John went.", "Mary went to the garden."], '
                                  '"question": "Where is Mary?", "answer": "mars"}')  # fmt: skip
    table = memhop("ask", trained, "--file", "text.csv").ok()
    assert "wrong (the right answer: mars)" in table.out
    assert memhop("ask", trained, "--file", "text.jsonl").ok() == table
    assert memhop("ask", trained, "--file", "text.txt").ok() != table
    Path("text.jsonl").write_text("\n{")
    assert memhop("ask", trained, "--file", "text.jsonl").error().startswith("text.jsonl:2: expec")
