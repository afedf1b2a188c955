"""Records in JSON Lines, CSV and TSV: reading, writing, and the error messages."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memhop
from memhop import lines
from memhop.data import read_examples, write_examples
from memhop.data.babi import read_babi
from memhop.data.record_writers import writable_format
from memhop.data.records import format_of, read_records
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.tokenizer import answer_word, split_words

MARY = Example(("Mary took the milk.", "Mary went home."), "Where is the milk?", "home", (0, 1))
JSON = {"story": [*MARY.story], "question": MARY.question, "answer": "home",
        "supporting_facts": [0, 1]}  # fmt: skip
NOT_POSITIONS = "supporting_facts: expected supporting facts as positions in the story"
BEYOND = "supporting_facts: expected supporting facts below the "
HEADER = "story,question,answer,supporting_facts\n"
ROW = "Mary took the milk. Mary went home.,Where is the milk?,home,0 1\n"


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def json_line(**changed: Any) -> str:
    return json.dumps(JSON | changed) + "\n"


def refusal(file: Path, **options: Any) -> str:
    """Return the one-line error for a file, without the path of the test."""
    with pytest.raises(MemhopError) as caught:
        list(read_records(file, **options))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    assert len(message.replace(str(file), "")) < 400
    return message.replace(str(file), file.name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", json_line()),
        ("a.NDJSON", json_line(story="Mary took the milk. Mary went home.")),
        ("a.jsonl", "\ufeff\r\n" + json_line().replace("\n", "\r\n") + "\r\n"),
        ("a.jsonl", json_line(source="a book", id=None, score=float("nan")).removesuffix("\n")),
        ("a.csv", HEADER + ROW),
        ("a.csv", "\ufeff" + (HEADER + "\n" + ROW + ",,,\n").replace("\n", "\r\n")),
        ("a.csv", HEADER + ROW.replace("0 1", '"[0, 1]"').replace(" Mary went", '" Mary went', 0)),
        ("a.CSV", HEADER + f'"{ROW.partition(",")[0]}"' + "," + ROW.partition(",")[2]),
        ("a.csv", HEADER + '"Mary took the milk.\nMary went home.",Where is the milk?,home,0 1'),
        ("a.csv", HEADER + '"[""Mary took the milk."", ""Mary went home.""]",'
         "Where is the milk?,home,0 1"),
        ("a.tsv", (HEADER + ROW).replace(",", "\t")),
        ("a.csv", "note,answer,question,story, supporting_facts ,\n,home,Where is the milk?,"
         "Mary took the milk. Mary went home.,0 1,7\n"),
        ("a.txt", "1 Mary took the milk.\n2 Mary went home.\n3 Where is the milk?\thome\t1 2\n"),
    ],
)  # fmt: skip
def test_a_record_is_read_from_each_format(tmp_path: Path, name: str, content: str) -> None:
    assert read_examples(written(tmp_path, name, content)) == [MARY]
    assert memhop.read_examples(str(tmp_path / name)) == [MARY]
    if format_of(name) != "bAbI":
        packed = written(tmp_path, f"{name}.gz", gzip.compress(content.encode()))
        assert read_examples(packed) == [MARY]


def test_a_record_has_its_first_line_and_its_id(tmp_path: Path) -> None:
    def places(name: str, content: str) -> list[tuple[int, str | int | None]]:
        file = written(tmp_path, name, content)
        return [(record.line, record.id) for record in read_records(file)]

    rows = 'id,story,question,answer\nx,"a.\nb.",c?,d\n\n,e.,f?,g\n'
    assert places("a.csv", rows) == [(2, "x"), (5, None)]
    assert places("a.jsonl", json_line(id=7) + "\n" + json_line(id="b")) == [(1, 7), (3, "b")]
    stories = "1 a\n2 b?\tc\n3 d\n4 e\n5 f?\tg\n1 h\n2 i?\tj\n"
    assert places("a.txt", stories) == [(2, None), (5, None), (7, None)]


def test_answers_may_be_missing(tmp_path: Path) -> None:
    files = [
        written(tmp_path, "a.jsonl", json_line(answer=None) + json_line(answer="")),
        written(tmp_path, "a.csv", "story,question\n,Who?\na.,b?\n"),
        written(tmp_path, "a.txt", "1 a\n2 b?\n3 c?\n"),
    ]
    for file in files:
        answers = [record.example.answer for record in read_records(file, needs_answers=False)]
        assert answers == ["", ""]
    assert refusal(files[0]) == "a.jsonl:1: expected an answer, got none for 'Where is the milk?'"
    assert refusal(files[1]) == "a.csv:2: expected an answer, got none for 'Who?'"


def test_an_empty_cell_is_no_missing_column(tmp_path: Path) -> None:
    content = "story,question,answer,answer_2\na,b?,,x\n"
    [record] = read_records(written(tmp_path, "a.csv", content), needs_answers=False)
    assert record.example == Example(("a",), "b?", "")
    assert refusal(tmp_path / "a.csv") == "a.csv:2: expected an answer, got none for 'b?'"


def test_no_cell_of_a_column_without_a_name_is_left_out(tmp_path: Path) -> None:
    content = "story,question,answer,,\na,b?,c,,\na,b?,c,left,\na,b?,c,,left\n"
    file = written(tmp_path, "a.csv", content)
    assert len(read_examples(file)) == 3
    assert refusal(file, keeps_all=True).startswith("a.csv:3: expected the fields id, story, ")
    file = written(tmp_path, "a.csv", content.replace("a,b?,c,left,\n", ""))
    assert refusal(file, keeps_all=True).startswith("a.csv:3: expected the fields id, story, ")


def test_another_suffix_names_the_known_ones(tmp_path: Path) -> None:
    others = "; only .jsonl, .csv and .tsv (also with .gz) are read as other formats than bAbI"
    for name, content in (("a.json", b"[]"), ("a.txt.gz", gzip.compress(b"1 a\n2 b?\tc\n"))):
        file = written(tmp_path, name, content)
        assert refusal(file).endswith(others)
        with pytest.raises(MemhopError, match="also with"):
            read_examples(file)
    assert (
        refusal(written(tmp_path, "a.txt", "[]")) == "a.txt:1: expected a line 'ID text', got '[]'"
    )
    assert not refusal(written(tmp_path, "a.data", "1 a\n2 b?\tc\nx")).endswith(others)


def test_a_folder_is_one_of_the_babi_format(tmp_path: Path) -> None:
    written(tmp_path, "a.txt", "1 a\n2 b?\tc\n")
    assert read_examples(tmp_path) == read_babi(tmp_path) == [Example(("a",), "b?", "c")]


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.jsonl: expected at least one question, got none"),
        ("\n\r\n", "a.jsonl: expected at least one question, got none"),
        ("[]\n", "a.jsonl:1: expected a JSON object, got '[]'"),
        ("\n{\n", "a.jsonl:2: expected a JSON object, got '{' (Expecting property name enclosed"),
        (json_line()[:-1] + json_line(), "a.jsonl:1: expected a JSON object, got "),
        (f'{{"story": {DEEP}', "a.jsonl:1: expected a JSON object, got '{\"story\": [[["),
        (json_line() + '{"id": 1, "id": 2}', "a.jsonl:2: expected a JSON object, got '{\"id\": 1"),
        (json_line() + "\0", "a.jsonl:2: expected text, got the character NUL"),
        (b"\xff\xfe{\0", "a.jsonl:1: expected UTF-8 text, got byte 0xff at byte 1 of the line"),
        (b"{}\r{}", "a.jsonl:1: expected LF or CRLF as line ends, got CR"),
        ("{}", "a.jsonl:1: expected the fields story and question, got none"),
        ('{"Story": 1}', "a.jsonl:1: expected the fields story and question, got 'Story'"),
        ('{"story": "", "question": "a", "answers": "b"}',
         "a.jsonl:1: expected the field answer, got 'answers'"),
        ('{"story": "", "question": "a", "answer": "b", "supporting_fact": [1]}',
         "a.jsonl:1: expected the field supporting_facts, got 'supporting_fact'"),
        (json_line(story=1), "a.jsonl:1: story: expected a text or a list of sentences, got 1"),
        (json_line(story=None), "a.jsonl:1: story: expected a text or a list of sentences, got N"),
        (json_line(story=["a", 1]), "a.jsonl:1: story: expected a text or a list of sentences, "),
        (json_line(story={"a": 1}), "a.jsonl:1: story: expected a text or a list of sentences, "),
        (json_line(question="?"), "a.jsonl:1: question: expected a text with a word, got '?'"),
        (json_line(question=["a"]), "a.jsonl:1: question: expected a text with a word, got ['a']"),
        (json_line(answer=3), "a.jsonl:1: answer: expected a text with a word, got 3"),
        (json_line(answer="..."), "a.jsonl:1: answer: expected a text with a word, got '...'"),
        (json_line(supporting_facts=[2]), "a.jsonl:1: supporting_facts: "
         "expected supporting facts below the 2 sentences of the story, got 2"),
        (json_line(supporting_facts=[-1]), f"a.jsonl:1: {BEYOND}"),
        (json_line().replace("[0, 1]", f"[1{'0' * 5000}]"), "a.jsonl:1: expected a JSON obj"),
        (json_line(supporting_facts=[True]), f"a.jsonl:1: {NOT_POSITIONS}"),
        (json_line(supporting_facts=[0.0]), f"a.jsonl:1: {NOT_POSITIONS}"),
        (json_line(supporting_facts={}), f"a.jsonl:1: {NOT_POSITIONS}"),
        (json_line(supporting_facts="0"), f"a.jsonl:1: {NOT_POSITIONS}"),
        (json_line(id=1.5), "a.jsonl:1: id: expected a text or an integer, got 1.5"),
        (json_line(id=True), "a.jsonl:1: id: expected a text or an integer, got True"),
        (json_line(id=""), "a.jsonl:1: id: expected a text or an integer, got ''"),
        (json_line(id="\ud800"), "a.jsonl:1: id: expected text, got half of a surrogate pair, "),
        (json_line(answer="b\udfff"), "a.jsonl:1: answer: expected text, got half of a surrogate "
         "pair, \\udfff"),
        (json_line(story="b\ud800"), "a.jsonl:1: story: expected text, got half of a surrogate pa"),
        (json_line(story=["\0"]), "a.jsonl:1: story: expected text, got the character NUL"),
        (json_line(question="a\0"), "a.jsonl:1: question: expected text, got the character NUL"),
    ],
)  # fmt: skip
def test_errors_of_json_lines(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert refusal(written(tmp_path, "a.jsonl", content)).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.csv: expected at least one question, got none"),
        (HEADER, "a.csv: expected at least one question, got none"),
        ("\nstory,answer\n", "a.csv:2: expected a header with the columns story and question, "
         "got 'story', 'answer'"),
        ("story;question\n", "a.csv:1: expected a header with the columns story and question, "),
        ("story,question,a,a\n", "a.csv:1: expected each column once, got 'a' twice"),
        (HEADER + "a,b\n", "a.csv:2: expected 4 columns, got 2"),
        (HEADER + "\n" + ROW + "a,b,c,,\n", "a.csv:4: expected 4 columns, got 5"),
        (HEADER + '"a\n\nb",c?,d,\n"a\nb",c?,,\n',
         "a.csv:5: expected an answer, got none for 'c?'"),
        (HEADER + ROW + '"a\nb,c,d', "a.csv:3: expected CSV as in RFC 4180: unexpected end of dat"),
        (HEADER + '"a"b,c,d,\n', "a.csv:2: expected CSV as in RFC 4180: ',' expected after"),
        (HEADER + "a\rb,c,d,\n", "a.csv:2: expected CSV as in RFC 4180: new-line character seen"),
        (HEADER + "a,b,c\0,\n", "a.csv:2: expected text, got the character NUL"),
        (HEADER + "[1] a,b,c,\n",
         "a.csv:2: story: expected a text, or sentences as a JSON list, got '[1] a'"),
        (HEADER + "[1],b,c,\n", "a.csv:2: story: expected a text or a list of sentences, got [1]"),
        (HEADER + f"{DEEP},b,c,\n", "a.csv:2: story: expected a text, or sentences as a JSON list"),
        (HEADER + "a.,b,c,1\n", f"a.csv:2: {BEYOND}"),
        (HEADER + "a.,b,c,x 0\n",
         "a.csv:2: supporting_facts: expected numbers separated by spaces, got 'x 0'"),
        (HEADER + "a.,b,c,0.5\n", f"a.csv:2: {NOT_POSITIONS}"),
        (HEADER + ",?,c,\n", "a.csv:2: question: expected a text with a word, got '?'"),
        ("story,question,answr\na,b,c\n", "a.csv:2: expected the field answer, got 'answr'"),
        (b"story,question\na,\xe9\n", "a.csv:2: expected UTF-8 text, got byte 0xe9 at byte 3"),
    ],
)  # fmt: skip
def test_errors_of_tables(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert refusal(written(tmp_path, "a.csv", content)).startswith(message)


def test_a_cell_may_be_longer_than_the_limit_of_the_csv_module(tmp_path: Path) -> None:
    story = "Mary left. " * 20_000
    file = written(tmp_path, "a.csv", f"story,question,answer\n{story},Who left?,Mary\n")
    assert len(read_examples(file)[0].story) == 20_000


def test_a_longer_line_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 100)
    file = written(tmp_path, "a.jsonl", json_line())
    assert refusal(file) == "a.jsonl:1: expected a line of at most 100 bytes, got more"


def test_missing_files_and_folders_are_errors(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv") == "none.csv: no such file"
    (tmp_path / "a.csv").mkdir()
    assert refusal(tmp_path / "a.csv") == "a.csv: cannot be read: Is a directory"
    broken = written(tmp_path, "b.jsonl.gz", gzip.compress(json_line().encode())[:-10])
    assert refusal(broken).startswith("b.jsonl.gz: corrupt gzip file: ")


def test_a_file_is_read_record_by_record(tmp_path: Path) -> None:
    records = read_records(written(tmp_path, "a.jsonl", json_line() + "broken\n"))
    assert next(records).example == MARY
    with pytest.raises(MemhopError, match=r"a\.jsonl:2: "):
        next(records)


def test_content_that_a_record_does_not_hold_can_be_an_error(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", json_line() + json_line(note="x"))
    assert refusal(file, keeps_all=True) == (
        "a.jsonl:2: expected the fields id, story, question, answer, supporting_facts, got 'note'"
    )
    stories = "1 a\n2 b?\tc\n1 d\n2 e?\tf\n3 g\n4 h\n1 i?\tj\n"
    file = written(tmp_path, "a.txt", stories)
    assert refusal(file, keeps_all=True) == (
        "a.txt:5: expected a question after each statement, got none: 'g'"
    )
    file = written(tmp_path, "b.txt", "1 a?\tb\n1 d\n")
    assert refusal(file, keeps_all=True).startswith("b.txt:2: expected a question after each")


def test_only_known_suffixes_are_written() -> None:
    names = [writable_format(Path(f"a{suffix}")) for suffix in (".txt", ".JSONL", ".csv", ".tsv")]
    assert names == ["bAbI", "JSON Lines", "CSV", "TSV"]
    for name in ("a", "a.json", "a.jsonl.gz"):
        with pytest.raises(MemhopError, match=f"^{name}: expected a name that ends in .jsonl, "):
            writable_format(Path(name))


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.one_of(st.sampled_from(["Mary left.", "[1]", "b.\r\nc", '"', "=1", "a, b", "2"]),
                  st.text(CHARACTERS, max_size=8))  # fmt: skip


@st.composite
def drawn_examples(draw: st.DrawFn) -> list[Example]:
    """Draw the questions of a few stories, some of which grow."""
    examples: list[Example] = []
    for _ in range(draw(st.integers(1, 5))):
        grows = bool(examples) and draw(st.booleans())
        story = (*(examples[-1].story if grows else ()), *draw(st.lists(TEXTS, max_size=4)))
        last = max(0, len(story) - 1)
        facts = draw(st.lists(st.integers(0, last), max_size=3)) if story else []
        question, answer = draw(TEXTS.filter(split_words)), draw(TEXTS.filter(answer_word))
        examples.append(Example(story, question, answer, tuple(facts)))
    return examples


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
@given(examples=drawn_examples())
@settings(max_examples=60)
def test_written_examples_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, examples: list[Example]
) -> None:
    file = tmp_path_factory.getbasetemp() / f"round{suffix}"
    write_examples(file, examples)
    assert read_examples(file) == examples


@given(examples=drawn_examples())
@settings(max_examples=100)
def test_written_stories_are_read_back_or_refused(
    tmp_path_factory: pytest.TempPathFactory, examples: list[Example]
) -> None:
    file = tmp_path_factory.getbasetemp() / "round.txt"
    try:
        write_examples(file, examples)
    except MemhopError as error:
        message = str(error)
    else:
        assert read_examples(file) == examples
        return
    assert message.startswith("example ")
    assert message.isprintable()


def test_questions_of_a_growing_story_are_one_story(tmp_path: Path) -> None:
    examples = [
        Example(("a",), "b?", "c"),
        Example(("a", "d"), "e?", "f", (1,)),
        Example(("a", "d"), "g?", "h"),
        Example(("a",), "i?", "j"),
    ]
    write_examples(tmp_path / "a.txt", examples)
    text = "1 a\n2 b?\tc\n3 d\n4 e?\tf\t3\n5 g?\th\n1 a\n2 i?\tj\n"
    assert (tmp_path / "a.txt").read_text() == text


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([Example(("a",), "b?", "office 1"), Example(("a",), "b?", "c", (0,))],
         "example 1: 'office 1' would be read as an answer without a tab before supporting IDs"),
        ([Example(("a",), "b?", "")], "example 0: bAbI: expected an answer, got none for 'b?'"),
        ([MARY, Example(("a?",), "b?", "c")], "example 1: expected a statement, got a question"),
        ([Example((" a",), "b?", "c")], "example 0: expected one line without tabs or outer spac"),
        ([Example(("a\0",), "b?", "c")], "example 0: story: expected text, got the character NUL"),
        ([Example(("a",), "b?", "c", (1,))], f"example 0: {BEYOND}"),
    ],
)  # fmt: skip
def test_examples_that_a_story_cannot_hold_are_not_written(
    tmp_path: Path, examples: list[Example], message: str
) -> None:
    with pytest.raises(MemhopError) as caught:
        write_examples(tmp_path / "a.txt", examples)
    assert str(caught.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_ends_in_a_number_is_written_without_supporting_facts(
    tmp_path: Path,
) -> None:
    examples = [Example(("a",), "b?", "office 1")]
    write_examples(tmp_path / "a.txt", examples)
    assert read_examples(tmp_path / "a.txt") == examples


def test_a_story_of_one_text_and_facts_of_numpy_are_written(tmp_path: Path) -> None:
    facts: Any = tuple(np.array([0, 1]))
    for name in ("a.jsonl", "a.csv", "a.txt"):
        write_examples(tmp_path / name, [MARY._replace(story="Mary took the milk. Mary went home.",
                                                       supporting_facts=facts)])  # fmt: skip
        assert read_examples(tmp_path / name) == [MARY]


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), TEXTS),
    lambda value: st.one_of(st.lists(value, max_size=3), st.dictionaries(TEXTS, value, max_size=2)),
    max_leaves=4,
)
OBJECTS = st.fixed_dictionaries(
    {"story": st.one_of(TEXTS, st.lists(TEXTS, max_size=3), JSON_VALUES),
     "question": st.one_of(TEXTS, JSON_VALUES)},
    optional=dict.fromkeys(("answer", "supporting_facts", "id", "other"), JSON_VALUES),
).map(lambda value: json.dumps(value).encode())  # fmt: skip
CELLS = st.lists(st.sampled_from([b"a.", b"b?", b'"', b"[", b"]", b"0", b"\r", b"\0", b"\xff"]),
                 max_size=4).map(b",".join)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "head", "content"),
    [("fuzz.jsonl", b"", st.one_of(OBJECTS, st.binary(max_size=20))),
     ("fuzz.csv", b"story,question,answer\n", st.one_of(CELLS, st.binary(max_size=20)))],
)  # fmt: skip
@given(data=st.data(), end=st.sampled_from([b"\n", b"\r\n"]))
@settings(max_examples=100)
def test_any_file_gives_examples_or_a_one_line_error(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    head: bytes,
    content: st.SearchStrategy[bytes],
    data: st.DataObject,
    end: bytes,
) -> None:
    rows = data.draw(st.lists(content, max_size=4))
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(head + end.join(rows))
    message, examples = "", []
    try:
        examples = [record.example for record in read_records(file, needs_answers=False)]
    except MemhopError as error:
        message = str(error)
    if message:
        assert message.isprintable()
        assert message.startswith(str(file))
        return
    assert examples
    for name in ("round.jsonl", "round.csv"):
        again = file.with_name(name)
        write_examples(again, examples)
        found = [record.example for record in read_records(again, needs_answers=False)]
        assert found == examples
