"""Questions from JSONL, TSV, MetaQA's form and plain lines."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhop.errors import MemhopError
from memhop.knowledge.questions import Question, parse_question, read_questions


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    file.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    return file


def refusal(file: Path, **chosen: Any) -> str:
    with pytest.raises(MemhopError) as caught:
        read_questions(file, **chosen)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    return message.replace(f"{file.parent}{os.sep}", "")


METAQA = (
    "what does [Tom Cullen] act in\tWeekend\n"
    "the films of [Joel Zwick]'s friends\tGreek| English |Greek\r\n"
    "\n"
    " who wrote  Faust ?\t Goethe\n"
    "who wrote [Faust]\tGoethe\tFaust (1926)| Faust \n"
    "who wrote Faust ?\tMarlowe\t"
)
READ = [
    Question("what does Tom Cullen act in", ("Weekend",), ("Tom Cullen",)),
    Question("the films of Joel Zwick's friends", ("Greek", "English"), ("Joel Zwick",)),
    Question("who wrote Faust ?", ("Goethe",)),
    Question("who wrote [Faust]", ("Goethe",), ("Faust (1926)", "Faust")),
    Question("who wrote Faust ?", ("Marlowe",)),
]


def test_tsv_and_the_form_of_metaqa_are_read(tmp_path: Path) -> None:
    for name in ("q.tsv", "q.txt", "Q.TXT.GZ"):
        for content in (METAQA, "\ufeff" + METAQA, METAQA + "\n \n"):
            assert read_questions(written(tmp_path, name, content)) == READ
    assert read_questions(str(written(tmp_path, "q.tsv", METAQA)), need_answers=False) == READ


def test_jsonl_is_read(tmp_path: Path) -> None:
    rows = [
        {"question": "who wrote [Faust] ?", "answer": " Goethe "},
        {"question": " a  b", "answers": ["x|y", "z", "x|y"], "topic": "Faust"},
        {"topics": ["b", "a", "b"], "answers": ["1"], "question": "\u0394"},
        {"question": "c", "answers": ["x"], "topics": []},
    ]
    content = "\n".join(map(json.dumps, rows)) + "\n\n"
    expected = [
        Question("who wrote [Faust] ?", ("Goethe",)),
        Question("a b", ("x|y", "z"), ("Faust",)),
        Question("\u0394", ("1",), ("b", "a")),
        Question("c", ("x",)),
    ]
    for name in ("q.jsonl", "q.jsonl.gz"):
        assert read_questions(written(tmp_path, name, content)) == expected


def test_answers_may_be_missing(tmp_path: Path) -> None:
    plain = written(tmp_path, "q.txt", "who wrote Faust?\nwho directed [Faust]\t\n a\tb\n")
    expected = [
        Question("who wrote Faust?"), Question("who directed Faust", (), ("Faust",)),
        Question("a", ("b",)),
    ]  # fmt: skip
    assert read_questions(plain, need_answers=False) == expected
    assert refusal(plain) == (
        "q.txt:1: expected an answer after a tab, got none for 'who wrote Faust?'"
    )
    rows = '{"question": "a", "answers": []}\n{"question": "b", "topic": "c"}\n'
    jsonl = written(tmp_path, "q.jsonl", rows)
    expected = [Question("a"), Question("b", (), ("c",))]
    assert read_questions(jsonl, need_answers=False) == expected
    assert refusal(jsonl) == "q.jsonl:1: expected an answer, got none for 'a'"


@pytest.mark.parametrize(
    ("text", "plain", "topics"),
    [
        ("who directed [Faust]?", "who directed Faust?", ("Faust",)),
        ("[Faust] and [ F. W.  Murnau ]", "Faust and F. W. Murnau", ("Faust", "F. W.  Murnau")),
        ("[a] [b] [a]", "a b a", ("a", "b")),
        ("who starred in [[REC]] or [[REC] 2]", "who starred in [REC] or [REC] 2",
         ("[REC]", "[REC] 2")),
        ("who acted in [$]", "who acted in $", ("$",)),
        ("what is f[]", "what is f[]", None),
        ("so [...] what", "so [...] what", None),
        ("[a] and [?]", "[a] and [?]", None),
        ("what is [a", "what is [a", None),
        ("what is a]", "what is a]", None),
        ("what ]is[ a", "what ]is[ a", None),
        ("what [is [a]", "what [is [a]", None),
        ("what is a", "what is a", None),
    ],
)  # fmt: skip
def test_brackets_mark_topics(text: str, plain: str, topics: tuple[str, ...] | None) -> None:
    assert parse_question(text) == Question(plain, (), topics)
    assert parse_question(text, ("x",)).answers == ("x",)


KEYS = "expected the keys question, answers or answer, topics or topic, got"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.tsv", "", ": expected at least one question, got none"),
        ("q.jsonl", "\n \n", ": expected at least one question, got none"),
        ("q.tsv", "a\tb\nc\t \n", ":2: expected an answer after a tab, got none for 'c'"),
        ("q.tsv", "a\tb\tc\td\n",
         ":1: expected question<TAB>answers or question<TAB>answers<TAB>topics, got 4 columns"),
        ("q.tsv", "a\tb||c\n", ":1: expected answers joined by '|', got an empty one in 'b||c'"),
        ("q.tsv", "a\tb|\n", ":1: expected answers joined by '|', got an empty one in 'b|'"),
        ("q.tsv", "a\tb\tc| |d\n",
         ":1: expected topics joined by '|', got an empty one in 'c| |d'"),
        ("q.tsv", " ?\tb\n", ":1: expected a question, got ' ?'"),
        ("q.tsv", "\tb\n", ":1: expected a question, got ''"),
        ("q.tsv", "\tb\tc\n", ":1: expected a question, got ''"),
        ("q.tsv", "a\tb\0\n", ":1: expected text, got the character NUL"),
        ("q.tsv", b"a\tb\nc\xff\tb\n",
         ":2: expected UTF-8 text, got byte 0xff at byte 2 of the line"),
        ("q.jsonl", '"a"', ":1: expected a JSON object, got '\"a\"'"),
        ("q.jsonl", "{}", ":1: expected the key question, got none"),
        ("q.jsonl", '{"question": 1}', ":1: question: expected a string, got 1"),
        ("q.jsonl", '{"question": "a\\ud800"}', ":1: question: expected Unicode characters, "
         "got half a surrogate pair (U+D800) in 'a\\ud800'"),
        ("q.jsonl", '{"question": "?"}', ":1: expected a question, got '?'"),
        ("q.jsonl", '{"question": "a", "answer": 1}', ":1: answer: expected a string, got 1"),
        ("q.jsonl", '{"question": "a", "answer": " "}', ":1: answer: expected a name, got ' '"),
        ("q.jsonl", '{"question": "a", "answers": "b"}',
         ":1: answers: expected a list of strings, got 'b'"),
        ("q.jsonl", '{"question": "a", "answers": [null]}',
         ":1: answer: expected a string, got None"),
        ("q.jsonl", '{"question": "a", "answers": ["b"], "answer": "b"}',
         ":1: expected answer or answers, got both"),
        ("q.jsonl", '{"question": "a", "answer": "b", "topics": {}}',
         ":1: topics: expected a list of strings, got {}"),
        ("q.jsonl", '{"question": "a", "answer": "b", "topic": "\\u0000"}',
         ":1: topic: expected a name, got the character NUL in '\\x00'"),
        ("q.jsonl", '{"question": "a", "answer": "b", "id": 1, "hops": 2}',
         f":1: {KEYS} 'id', 'hops'"),
        ("q.csv", "", ": expected a name that ends in .jsonl, .tsv or .txt, also with .gz, "
         "got 'q.csv'"),
    ],
)  # fmt: skip
def test_malformed_files_are_refused(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    assert refusal(written(tmp_path, name, content)) == f"{name}{message}"


NAMES = st.text(min_size=1, max_size=8).map(lambda text: " ".join(text.split()))
NAMES = NAMES.filter(lambda text: bool(text) and "\0" not in text)
PLAIN = NAMES.filter(lambda text: not set(text) & set("\t\r\n|[]"))
TEXTS = st.lists(st.sampled_from(["who", "Fa-ust", "?", "谁", "'s"]), min_size=1).map(
    lambda words: " ".join(["q", *words])
)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(TEXTS, st.lists(NAMES, max_size=3, unique=True),
                       st.lists(NAMES, max_size=2, unique=True)), min_size=1, max_size=5)
)  # fmt: skip
def test_jsonl_that_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, list[str], list[str]]]
) -> None:
    lines = [json.dumps({"question": q, "answers": a, "topics": t}) for q, a, t in rows]
    file = written(tmp_path_factory.mktemp("q"), "q.jsonl", "\n".join(lines))
    expected = [Question(q, tuple(a), tuple(t) or None) for q, a, t in rows]
    assert read_questions(file, need_answers=False) == expected


@settings(max_examples=40)
@given(
    st.lists(st.tuples(TEXTS, st.lists(PLAIN, min_size=1, max_size=3, unique=True),
                       st.none() | st.from_regex("[a-z][a-z' ]{0,8}[a-z]", fullmatch=True)),
             min_size=1, max_size=5)
)  # fmt: skip
def test_tsv_that_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, list[str], str | None]]
) -> None:
    folder = tmp_path_factory.mktemp("q")
    answers = ["|".join(a) for _, a, _ in rows]
    topics = [None if t is None else " ".join(t.split()) for _, _, t in rows]
    columns = [
        f"{q}\t{a}\t{t or ''}" for (q, _, _), a, t in zip(rows, answers, topics, strict=True)
    ]
    given_topics = [Question(q, tuple(a), (t,) if t else None) for (q, a, _), t in
                    zip(rows, topics, strict=True)]  # fmt: skip
    assert read_questions(written(folder, "q.tsv", "\n".join(columns))) == given_topics
    bracketed = [f"{q} [{t}] ?\t{a}" if t else f"{q}\t{a}" for (q, _, _), a, t in
                 zip(rows, answers, topics, strict=True)]  # fmt: skip
    in_text = [Question(f"{q} {t} ?" if t else q, tuple(a), (t,) if t else None) for (q, a, _), t in
               zip(rows, topics, strict=True)]  # fmt: skip
    assert read_questions(written(folder, "q.tsv", "\n".join(bracketed))) == in_text


@pytest.mark.parametrize("header", ["question\tanswers", "Question\tAnswer\tTopic"])
def test_a_header_of_a_tsv_file_is_an_error(tmp_path: Path, header: str) -> None:
    message = refusal(written(tmp_path, "a.tsv", f"{header}\nwho?\tAnn\n"))
    assert message.endswith(":1: expected a question, got a header: remove it")
