"""The released format: reading, writing, and the error messages."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memhop.data import (
    TASK_NAMES,
    Question,
    Story,
    find_tasks,
    read_babi,
    read_stories,
    to_examples,
    write_babi,
)
from memhop.data.babi import find_valid, parse_stories
from memhop.data.story import is_babi, missing_tab
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.tokenizer import split_words

STORY = (
    "1 Mary moved to the bathroom.\n"
    "2 John went to the hallway.\n"
    "3 Where is Mary? \tbathroom\t1\n"
    "4 Daniel took the milk.\n"
    "5 Where is the milk?\tnowhere,here\t4 2\n"
    "1 It rained.\n"
    "2 Why?\tso it did\n"
)
EXAMPLES = [
    Example(STATEMENTS := ("Mary moved to the bathroom.", "John went to the hallway."),
            "Where is Mary?", "bathroom", (0,)),
    Example((*STATEMENTS, "Daniel took the milk."), "Where is the milk?", "nowhere,here", (2, 1)),
    Example(("It rained.",), "Why?", "so it did"),
]  # fmt: skip


def written(folder: Path, content: str | bytes, name: str = "own.txt") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def refusal(file: Path, **chosen: object) -> str:
    """Return the one-line error for a file or folder, without the path of the test."""
    with pytest.raises(MemhopError) as caught:
        read_babi(file, **chosen)  # type: ignore[arg-type]
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    return message.replace(f"{file.parent}{os.sep}", "")


def test_questions_have_the_statements_before_them(tmp_path: Path) -> None:
    assert read_babi(written(tmp_path, STORY)) == EXAMPLES
    assert read_babi(str(written(tmp_path, STORY))) == EXAMPLES


@pytest.mark.parametrize(
    "content",
    [
        STORY.replace("\n", "\r\n"),
        STORY + "\n\n  \r\n\n",
        STORY.replace("\n", "   \n"),
        STORY.replace("\t", " \t  "),
        "\ufeff" + STORY,
        STORY.removesuffix("\n"),
        STORY.replace("did\n", "did\t\n"),
        STORY.replace("2 John", "2   John"),
    ],
    ids=["crlf", "blank ends", "spaces", "padding", "bom", "no last end", "empty third", "indent"],
)
def test_harmless_differences_change_nothing(tmp_path: Path, content: str) -> None:
    assert read_babi(written(tmp_path, content)) == EXAMPLES


def test_text_is_unchanged(tmp_path: Path) -> None:
    text = "Zoë\u2028went\x1b[31m to\x00 [bold]3\x85 \u00a0."
    (example,) = read_babi(written(tmp_path, f"1 {text}\n2 {text}\t{text}\t1\n"))
    assert example == Example((text,), text, text, (0,))


def test_a_question_may_come_before_any_statement(tmp_path: Path) -> None:
    assert read_babi(written(tmp_path, "1 Who?\tnobody\n")) == [Example((), "Who?", "nobody")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Mary went.\n", "own.txt:1: expected a line 'ID text', got 'Mary went.'"),
        ("1\n", "own.txt:1: expected a line 'ID text', got '1'"),
        ("1\tMary\n", "own.txt:1: expected a line 'ID text', got '1\\tMary'"),
        ("\u0661 Mary\n", "own.txt:1: expected a line 'ID text', got '\\u0661 Mary'"),
        ("-1 Mary\n", "own.txt:1: expected a line 'ID text', got '-1 Mary'"),
        ("1 \tMary\n", "own.txt:1: expected a statement or a question after ID '1', got none"),
        ("0 Mary\n", "own.txt:1: expected ID 1 to start a story, got '0'"),
        ("2 Mary\n", "own.txt:1: expected ID 1 to start a story, got '2'"),
        ("1 Mary\n3 x\n", "own.txt:2: expected ID 2, or 1 for a new story, got '3'"),
        ("1 Mary\n02 x\n", "own.txt:2: expected ID 2, or 1 for a new story, got '02'"),
        ("1 a\n\n2 b?\tc\n", "own.txt:2: expected a line 'ID text', got an empty line"),
        ("1 a?\tb\tc\td\n", "own.txt:1: expected at most 3 columns: question, answer, "
         "supporting IDs; got 4"),
        ("1 a?\t \t1\n", "own.txt:1: expected 'question<TAB>answer', got no answer after 'a?'"),
        ("1 a\n2 b?\tc\t2\n", "own.txt:2: expected as supporting fact the ID of an "
         "earlier statement of the same story, got '2'"),
        ("1 a\n2 b?\tc\t1,1\n", "own.txt:2: expected as supporting fact the ID of an "
         "earlier statement of the same story, got '1,1'"),
        ("1 a\n2 b?\tc\t1\n3 d?\te\t2\n", "own.txt:3: expected as supporting fact the ID of an "
         "earlier statement of the same story, got '2'"),
        ("1 a\n1 b?\tc\t1\n", "own.txt:2: expected as supporting fact the ID of an "
         "earlier statement of the same story, got '1'"),
        (b"1 a\n2 caf\xe9\n", "own.txt:2: expected UTF-8 text, got byte 0xe9 at column 6"),
        ("1 a\n2 where is b  c  1\n", "own.txt: expected at least one line "
         "'ID question<TAB>answer', got no question"),
        ("1 a\n2 where is b?  c  1\n", "own.txt:2: missing tab after the question in "
         "'where is b?  c  1'; expected 'question<TAB>answer' or 'question<TAB>answer<TAB>"
         "supporting IDs'"),
        ("1 a\n2 b?\tc  1\n", "own.txt:2: missing tab before the supporting IDs in "
         "'b?\\tc  1'; expected 'question<TAB>answer' or 'question<TAB>answer<TAB>supporting IDs'"),
        ("", "own.txt: expected at least one line 'ID question<TAB>answer', got no question"),
        ("1 " + "x" * 99 + "\nMary\x1b[0m\n",
         "own.txt:2: expected a line 'ID text', got 'Mary\\x1b[0m'"),
        ("y" * 99, f"own.txt:1: expected a line 'ID text', got '{'y' * 57}...'"),
        ("9" * 5000 + " x", f"own.txt:1: expected ID 1 to start a story, got '{'9' * 57}...'"),
    ],
)  # fmt: skip
def test_malformed_lines_raise(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert refusal(written(tmp_path, content)) == message


@pytest.mark.parametrize(
    "line",
    [
        *(
            "b?",
            "b? c",
            "b?  c",
            "b? c 1",
            "b?   c d",
            "b? the c d 1 2",
            "b\uff1f c",
            "b?c",
            "b?c 1",
        ),
        *("b?\u00a0c", "b?\u3000c 1", "b?\u2003c", "b?\x0bc", "b?\\tc\\t1", "b?;c", "b?|c|1"),
        *("b?, c", "b?! c 1", "b?” c 1", "b?) c", "b? the c", "(b?)", "b?!"),
        *("b?c\t1", "b? the c\t1 2"),
    ],
)
def test_a_question_without_a_tab_raises(tmp_path: Path, line: str) -> None:
    message = refusal(written(tmp_path, f"1 a\n2 b?\tc\t1\n3 {line}\n"))
    assert message.startswith("own.txt:3: missing tab after the question in ")


@pytest.mark.parametrize(
    "statement",
    [
        "Who knows? Nobody.",
        'She said "where?"',
        '"Where is b?" he asked',
        "What?! No.",
        'Who? "No."',
    ],
)
def test_a_statement_may_contain_a_question_mark(tmp_path: Path, statement: str) -> None:
    (example,) = read_babi(written(tmp_path, f"1 {statement}\n2 b?\tc\t1\n"))
    assert example.story == (statement,)


@pytest.mark.parametrize("other", ["1 b?\td\n2 x\n3 y?\tz\t2\n", ""])
@pytest.mark.parametrize("answer", ["c 1", "c\u00a01", "c 1 2"])
def test_an_answer_that_ends_in_supporting_ids_raises(
    tmp_path: Path, answer: str, other: str
) -> None:
    content = f"1 a\n2 a\n3 b?\t{answer}\n"
    assert read_babi(written(tmp_path, content))[0].answer == answer  # no question has IDs
    for mixed in (f"{other}{content}1 a\n2 b?\tc\t1\n", f"1 a\n2 b?\tc\t1\n{other}{content}"):
        message = refusal(written(tmp_path, mixed))
        line = mixed[: mixed.index(answer)].count("\n") + 1
        assert message.startswith(f"own.txt:{line}: missing tab before the supporting IDs in '3 b?")
    named = content.replace("b?", "c?") + "1 a\n2 b?\troom 7\n3 b?\tc\t1\n"
    assert read_babi(written(tmp_path, named.replace(answer, "d")))[1].answer == "room 7"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("?\tc\t1", "expected a question with a word, got '?'"),
        ("b?\t...\t1", "expected an answer with a word, got '...'"),
        ("b?\t,\t1", "expected an answer with a word, got ','"),
    ],
)
def test_a_question_and_an_answer_need_a_word(tmp_path: Path, line: str, message: str) -> None:
    assert refusal(written(tmp_path, f"1 a\n2 {line}\n")) == f"own.txt:2: {message}"
    question, answer, _ = line.split("\t")
    with pytest.raises(MemhopError, match=re.escape(message)):
        write_babi(tmp_path / "new.txt", [Story((), (Question(0, question, answer),))])


def test_a_sign_is_an_answer(tmp_path: Path) -> None:
    assert read_babi(written(tmp_path, "1 b?\t-\n"))[0].answer == "-"


def test_carriage_returns_as_line_ends_raise(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, STORY.replace("\n", "\r")))
    assert message == "own.txt:1: expected LF or CRLF as line ends, got CR"


@pytest.mark.parametrize(
    "content",
    [
        STORY,
        STORY.replace("\t", " "),
        "\n" + STORY,
        "# comment\n" + STORY,
        STORY.replace("\n", "\r"),
        STORY.replace("\n", "\r\n"),
        "\ufeff" + STORY,
        "1\tMary left.\n2\tWho?\tMary\n",
        "Mary left.\nWho left?\tMary\t1\n",
        "2 Mary left.\n3 Who left?\tMary\n",
        "01 Mary left.\n02 Who left?\n",
        "1 Mary left.\n2 Who left?\n",
    ],
)
def test_a_file_with_mistakes_is_recognised(content: str) -> None:
    assert is_babi(content.encode())


@pytest.mark.parametrize(
    "content",
    [
        "",
        "Mary left.\nWho left?\n",
        "3 men left. Who left?",
        "1 man left.\n1 dog came.\nWho left?",
        "2 men left.\n4 dogs came.",
        "1. Mary left.\n2. Who left?",
        "name\tage\nMary\t3\n",
        "\xff",
    ],
)
def test_other_text_is_not_recognised(content: str) -> None:
    assert not is_babi(content.encode("latin-1"))


def test_the_validation_file_of_a_task_may_have_any_middle_name(tmp_path: Path) -> None:
    train = tmp_path / "qa1_train.txt"
    assert find_valid(train) is None
    for other in ("qa11_valid.txt", "qa1_x_test.txt", "qa1valid.txt"):
        (tmp_path / other).touch()
    assert find_valid(train) is None
    (tmp_path / "qa1_x_valid.txt").touch()
    assert find_valid(train) == tmp_path / "qa1_x_valid.txt"
    (tmp_path / "qa1_y_valid.txt").touch()
    with pytest.raises(MemhopError, match=r"expected one validation file, got qa1_x_valid\.txt, "):
        find_valid(train)
    assert find_valid(tmp_path / "qa1_y_train.txt") == tmp_path / "qa1_y_valid.txt"
    assert find_valid(tmp_path / "qa1_y_train.jsonl") is None
    (tmp_path / "qa1_z_valid.jsonl").touch()
    assert find_valid(tmp_path / "qa1_y_train.jsonl") == tmp_path / "qa1_z_valid.jsonl"
    (tmp_path / "qa1_y_valid.jsonl").touch()
    assert find_valid(tmp_path / "qa1_y_train.jsonl") == tmp_path / "qa1_y_valid.jsonl"
    packed = tmp_path / "qa1_x.y_train.jsonl.gz"
    assert find_valid(packed) is None
    (tmp_path / "qa1_own_valid.jsonl.gz").touch()
    assert find_valid(packed) == tmp_path / "qa1_own_valid.jsonl.gz"
    (tmp_path / "qa1_x.y_valid.jsonl.gz").touch()
    assert find_valid(packed) == tmp_path / "qa1_x.y_valid.jsonl.gz"


def test_questions_without_answers_are_read_if_answers_are_optional() -> None:
    lines = [b"1 a\n", b"2 b?\n", b"3 c?\td\t1\n", b"1 e?\n"]
    stories = parse_stories(lines, Path("own.txt"), needs_answers=False)
    assert [e.answer for e in to_examples(stories)] == ["", "d", ""]
    with pytest.raises(
        MemhopError, match=r"own\.txt:2: missing tab after the question in 'b. c 1'"
    ):
        list(parse_stories([b"1 a\n", b"2 b? c 1\n"], Path("own.txt"), needs_answers=False))


def test_missing_files_raise(tmp_path: Path) -> None:
    wanted = "no such file"
    assert refusal(tmp_path / "none.txt") == f"none.txt: {wanted}"
    assert refusal(tmp_path / "a\nb.txt").endswith(f"a\\nb.txt': {wanted}")
    assert refusal(tmp_path / "nul\0").endswith(wanted)
    assert refusal(tmp_path / ("x" * 300)).endswith("cannot be read: File name too long")
    file = written(tmp_path, STORY)
    assert refusal(file, task=1) == ("own.txt: task and split need a folder")


def folder_of_tasks(folder: Path) -> Path:
    for task in (10, 2, 1):
        for split in ("test", "train"):
            content = STORY.replace("It rained", f"{task} {split}")
            written(folder, content, f"qa{task}_{TASK_NAMES[task]}_{split}.txt")
    written(folder, "Read me.", "readme.txt")
    return folder


def seen(examples: list[Example]) -> list[str]:
    return [example.story[0] for example in examples if len(example.story) == 1]


def test_a_folder_is_read_by_task_and_split(tmp_path: Path) -> None:
    folder = folder_of_tasks(tmp_path)
    assert seen(read_babi(folder, task=10, split="test")) == ["10 test."]
    assert seen(read_babi(folder, task=2)) == ["2 train.", "2 test."]
    assert seen(read_babi(folder, split="train")) == ["1 train.", "2 train.", "10 train."]
    assert seen(read_babi(folder)) == [
        f"{task} {split}." for task in (1, 2, 10) for split in ("train", "test")
    ]
    tasks = find_tasks(folder)
    assert list(tasks) == [1, 2, 10]
    assert tasks[2] == {
        "train": folder / "qa2_two-supporting-facts_train.txt",
        "test": folder / "qa2_two-supporting-facts_test.txt",
    }


def test_short_names_and_validation_files_are_tasks_too(tmp_path: Path) -> None:
    for split in ("test", "valid", "train"):
        written(tmp_path, STORY, f"qa7_{split}.txt")
    assert list(find_tasks(tmp_path)[7]) == ["train", "valid", "test"]


def test_a_folder_of_own_files_is_read_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.txt", "b.txt", "2.txt"):
        written(tmp_path, STORY.replace("It rained", name), name)
    written(tmp_path, "no story", "notes.md")
    assert seen(read_babi(tmp_path)) == ["2.txt.", "10.txt.", "b.txt."]


def test_a_missing_file_in_a_folder_raises_with_the_files_of_the_folder(tmp_path: Path) -> None:
    folder = folder_of_tasks(tmp_path)
    name = folder.name
    assert refusal(folder, task=3, split="test") == (
        f"{name}: no file qa3_..._test.txt; the folder has task 1, 2, 10"
    )
    assert (
        refusal(folder, task=0)
        == f"{name}: no file qa0_..._train.txt; the folder has task 1, 2, 10"
    )
    assert refusal(folder, task=2, split="valid") == (
        f"{name}: no file qa2_..._valid.txt; the folder has task 2 as train, test only"
    )
    assert refusal(folder, split="dev") == "split: expected one of train, valid, test, got 'dev'"
    written(folder, STORY, f"qa3_{TASK_NAMES[3]}_train.txt")
    (folder / "qa10_indefinite-knowledge_train.txt").unlink()
    (folder / "qa10_indefinite-knowledge_test.txt").unlink()
    assert refusal(folder, task=4).endswith("the folder has task 1 to 3")


def test_the_error_for_a_parent_folder_names_the_folder_of_the_tasks(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    written(tmp_path, "Licence", "LICENSE.txt")
    assert "LICENSE.txt:1" in refusal(tmp_path)
    folder_of_tasks(tmp_path / "en")
    for chosen in ({}, {"task": 1}):
        assert refusal(tmp_path, **chosen).endswith(
            f"try one of the folders {tmp_path.name}{os.sep}en"
        )


def test_two_files_for_one_task_raise(tmp_path: Path) -> None:
    folder_of_tasks(tmp_path)
    written(tmp_path, STORY, "qa1_train.txt")
    message = refusal(tmp_path, task=2, split="test")
    assert message.startswith("expected one file for task 1, train, got ")
    assert "qa1_train.txt" in message
    assert "qa1_single-supporting-fact_train.txt" in message


def test_an_empty_folder_raises(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith(
        "no file qaN_..._train.txt; the folder has no file of that form"
    )


def test_a_file_is_read_story_by_story(tmp_path: Path) -> None:
    stories = read_stories(written(tmp_path, STORY + "1 x\nbroken\n"))
    assert next(stories).questions[1].after == 3
    assert next(stories).statements == ("It rained.",)
    with pytest.raises(MemhopError, match=r"own\.txt:9: "):
        next(stories)


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), min_size=1)
TEXTS = WORDS.map(lambda text: text.strip(" \r")).filter(bool)


def reads_as_statement(text: str) -> bool:
    return not missing_tab([text])


@st.composite
def drawn_stories(draw: st.DrawFn) -> Story:
    statements = draw(st.lists(TEXTS.filter(reads_as_statement), max_size=6).map(tuple))
    places = sorted(draw(st.lists(st.integers(0, len(statements)), min_size=1, max_size=4)))
    questions = []
    for after in places:
        facts = st.lists(st.integers(0, after - 1), max_size=3) if after else st.just([])
        texts = TEXTS.filter(split_words)
        question = Question(after, draw(texts), draw(texts), tuple(draw(facts)))
        if question.supporting_facts or not missing_tab(question[1:3]):
            questions.append(question)
    assume(questions)
    return Story(statements, tuple(questions))


@given(st.lists(drawn_stories(), min_size=1, max_size=4))
@settings(max_examples=100)
def test_written_stories_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, stories: list[Story]
) -> None:
    file = tmp_path_factory.getbasetemp() / "round.txt"
    write_babi(file, stories)
    assert list(read_stories(file)) == stories
    assert read_babi(file) == list(to_examples(stories))


LINE = st.one_of(
    st.binary(max_size=30),
    st.builds(
        lambda ident, text, columns: "\t".join([f"{ident} {text}", *columns]).encode(),
        st.sampled_from(["1", "2", "3", "4", "-1", "x", ""]),
        st.sampled_from(["a", " ", "", "\u2028", "\x00", "Where?"]),
        st.lists(st.sampled_from(["1", "1 2", "", "b", "9", "1\r"]), max_size=3),
    ),
)


@given(st.lists(LINE, max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
@settings(max_examples=300)
def test_any_bytes_give_examples_or_a_one_line_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], end: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.txt"
    file.write_bytes(end.join(lines))
    message = ""
    try:
        examples = read_babi(file)
    except MemhopError as error:
        message = str(error)
    if message:
        assert message.isprintable()
        assert message.startswith(str(file))
        return
    assert examples
    for example in examples:
        assert example.question
        assert example.answer
        assert all(0 <= fact < len(example.story) for fact in example.supporting_facts)


@pytest.mark.parametrize(
    ("story", "message"),
    [
        (Story(("",), ()), "expected one line .*, got ''"),
        (Story(("a\nb",), ()), "expected one line .*, got 'a\\\\nb'"),
        (Story(("Who?",), ()), "expected a statement, got a question: 'Who.'"),
        (
            Story((), (Question(0, "a", "b  1"),)),
            "'a.*b  1' would be read as a line without a tab before the supp",
        ),
        (Story((), (Question(0, "a\tb", "c"),)), "expected one line .*, got 'a\\\\tb'"),
        (Story((), (Question(0, "a", "c "),)), "expected one line .*, got 'c '"),
        (Story(("\ud800",), ()), "expected text that UTF-8 can encode"),
        (
            Story(("a",), (Question(1, "b", "c", (1,)),)),
            "question 'b': expected a supporting fact among the 1 statements before it, got 1",
        ),
        (
            Story(("a",), (Question(1, "b", "c", (-1,)),)),
            "expected a supporting fact among the 1 statements before it, got -1",
        ),
        (
            Story(("a",), (Question(2, "b", "c"),)),
            "'b': expected 0 to 1 statements before it, got 2",
        ),
        (
            Story(("a",), (Question(1, "b", "c"), Question(0, "d", "e"))),
            "'d': expected 1 to 1 statements before it, got 0",
        ),
    ],
)
def test_stories_that_the_format_cannot_store_are_not_written(
    tmp_path: Path, story: Story, message: str
) -> None:
    file = written(tmp_path, STORY)
    with pytest.raises(MemhopError, match=message):
        write_babi(file, [story])
    assert list(tmp_path.iterdir()) == [file]
    assert read_babi(file) == EXAMPLES


def test_an_unwritable_path_raises(tmp_path: Path) -> None:
    file = written(tmp_path, STORY)
    with pytest.raises(MemhopError, match="cannot be written: Not a directory"):
        write_babi(file / "x.txt", [])
    with pytest.raises(MemhopError, match="cannot be written: "):
        write_babi(tmp_path / "none" / "x.txt", [])
