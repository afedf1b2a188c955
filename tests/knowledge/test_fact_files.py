"""Facts from TSV, MetaQA's form, CSV and JSONL; aliases; compressed and broken files."""

import csv
import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhop import lines
from memhop.errors import MemhopError
from memhop.knowledge.fact_files import read_facts

FACTS = [("Nosferatu", "directed by", "F. W. Murnau"), ("# 1", "#", 'Die „Würde“, "x"')]
NAMED = FACTS[:1] * 2 + FACTS[1:]  # with a duplicate


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    file.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    return file


def named(file: Path, aliases: Path | None = None) -> list[tuple[str, str, str]]:
    kb = read_facts(file, aliases=aliases)
    return [(kb.entities[s], kb.relations[r], kb.entities[o]) for s, r, o in kb.facts.tolist()]


def refusal(file: Path, **other: Any) -> str:
    """Return the one-line error for a file, without the path of the test."""
    with pytest.raises(MemhopError) as caught:
        read_facts(file, **other)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    return message.replace(f"{file.parent}{os.sep}", "")


def tsv(triples: list[tuple[str, str, str]]) -> str:
    return "".join("\t".join(triple) + "\n" for triple in triples)


def piped(triples: list[tuple[str, str, str]]) -> str:
    return "".join("|".join(triple) + "\n" for triple in triples)


def csv_table(triples: list[tuple[str, str, str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([("object", "subject", "relation"), *((o, s, r) for s, r, o in triples)])
    return out.getvalue()


def jsonl(triples: list[tuple[str, str, str]]) -> str:
    keys = ("relation", "object", "subject")
    rows = [dict(zip(keys, (r, o, s), strict=True)) for s, r, o in triples]
    return "".join(json.dumps(row) + "\n" for row in rows)


FORMATS: list[tuple[str, Callable[[list[tuple[str, str, str]]], str]]] = [
    (".tsv", tsv), (".txt", tsv), (".txt", piped), (".csv", csv_table), (".jsonl", jsonl)
]  # fmt: skip


@pytest.mark.parametrize(("ending", "write"), FORMATS)
def test_each_format_is_read(
    ending: str, write: Callable[[list[tuple[str, str, str]]], str], tmp_path: Path
) -> None:
    content = write(NAMED)
    variants = [
        content, "\ufeff" + content, content.removesuffix("\n").removesuffix("\r"),
        content + "\n \n\n" if ending != ".csv" else content + "\r\n\n",
        content.replace("\r\n", "\n").replace("\n", "\r\n"), "\n" + content,
    ]  # fmt: skip
    for variant in variants:
        for name in (f"facts{ending}", f"FACTS{ending.upper()}.gz"):
            file = written(tmp_path, name, variant)
            assert named(file) == FACTS
            assert read_facts(str(file)).duplicates == 1


TEXT = st.text(min_size=1, max_size=8).filter(lambda text: bool(text.strip()) and "\0" not in text)


@pytest.mark.parametrize(("ending", "write"), FORMATS)
@settings(max_examples=20)
@given(data=st.data())
def test_what_is_written_is_read(
    ending: str,
    write: Callable[[list[tuple[str, str, str]]], str],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    forbidden = "\t\n\r|" if write is piped else "\t\n\r" if write is tsv else ""
    name = TEXT.map(str.strip).filter(lambda text: not set(text) & set(forbidden))
    triples = data.draw(st.lists(st.tuples(name, name, name), min_size=1, max_size=5))
    file = written(tmp_path_factory.mktemp("facts"), f"facts{ending}", write(triples))
    assert named(file) == list(dict.fromkeys(triples))


def test_white_space_around_names_is_removed_and_inside_kept(tmp_path: Path) -> None:
    expected = [("a  b", "r", "\u201cc\u201d")]
    content = " a  b\u00a0\t r \t\u201cc\u201d "
    assert named(written(tmp_path, "facts.tsv", content)) == expected
    content = 'subject , relation,object\n" a  b ", r ,\u201cc\u201d\n'
    assert named(written(tmp_path, "facts.csv", content)) == expected
    assert (
        named(written(tmp_path, "facts.jsonl", jsonl([(" a  b", "r\t", "\u201cc\u201d ")])))
        == expected
    )


def test_names_are_not_normalized(tmp_path: Path) -> None:
    triples = [("e\u0301", "r", "\u00e9"), ("\ufb01", "r", "fi")]
    for ending, write in FORMATS:
        assert named(written(tmp_path, f"facts{ending}", write(triples))) == triples


def test_only_a_txt_file_can_have_the_form_of_metaqa(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, "facts.tsv", "a|r|b\n")) == (
        "facts.tsv:1: expected subject<TAB>relation<TAB>object, got 'a|r|b'"
    )
    assert named(written(tmp_path, "facts.txt", "a|r|b\nc|r|d\n")) == [
        ("a", "r", "b"),
        ("c", "r", "d"),
    ]
    assert named(written(tmp_path, "facts.txt", "a|x|y\tr\tb\nc|r|d\t|\t||\n")) == [
        ("a|x|y", "r", "b"), ("c|r|d", "|", "||")
    ]  # fmt: skip
    assert refusal(written(tmp_path, "facts.txt", "a|r|b\nc\tr\td\n")) == (
        "facts.txt:2: expected subject|relation|object, got 'c\\tr\\td'"
    )


LONG = "x" * 100
ROW = "expected subject<TAB>relation<TAB>object, got"
COLUMNS = "expected the columns subject, relation, object in the first line, got"
HEADER = "subject,relation,object\n"
KEYS = "expected the keys subject, relation, object, got"
ENDINGS = "expected a name that ends in .tsv, .txt, .csv, .jsonl or .nt, also with .gz, got"
ENDING_NAMES = [".tsv", ".txt", ".csv", ".jsonl", ".nt"]
EMPTY = ": expected at least one fact, got none"


def row(**changed: object) -> str:
    return json.dumps({"subject": "a", "relation": "r", "object": "b"} | changed)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("facts.tsv", "", EMPTY),
        ("facts.tsv", "\n  \n", EMPTY),
        ("facts.csv", HEADER, EMPTY),
        ("facts.jsonl", "", EMPTY),
        ("facts.tsv", "a\tr\tb\na\tr\n", f":2: {ROW} 'a\\tr'"),
        ("facts.tsv", "a\tr\tb\t\n", f":1: {ROW} 'a\\tr\\tb\\t'"),
        ("facts.txt", f"a b {LONG}", f":1: {ROW} 'a b {LONG[:52]}..."),
        ("facts.txt", "a|b|c|d", f":1: {ROW} 'a|b|c|d'"),
        ("facts.tsv", "a\tr\tb\n\n \tr\tb\n", ":3: expected a name as subject, got none"),
        ("facts.tsv", "a\t\tb\n", ":1: expected a name as relation, got none"),
        ("facts.tsv", "\t\t\n", ":1: expected a name as subject, got none"),
        ("facts.tsv", "a\tr\tb\rc\td\te\n", ":1: expected LF or CRLF as line ends, got CR"),
        ("facts.tsv", "a\tr\tb\na\tr\tb\0c\n", ":2: expected text, got the character NUL"),
        ("facts.tsv", b"a\tr\tb\na\tr\tcaf\xe9\n",
         ":2: expected UTF-8 text, got byte 0xe9 at byte 8 of the line"),
        ("facts.tsv", b"\xff\xfea\0\t\0",
         ":1: expected UTF-8 text, got byte 0xff at byte 1 of the line"),
        ("facts.tsv", b"a\tr\t\xed\xa0\x80\n",
         ":1: expected UTF-8 text, got byte 0xed at byte 5 of the line"),
        ("facts.csv", "a,b,c\n", f":1: {COLUMNS} 'a', 'b', 'c'"),
        ("facts.csv", "subject,relation,object,weight\na,b,c,1\n",
         f":1: {COLUMNS} 'subject', 'relation', 'object', 'weight'"),
        ("facts.csv", "subject;relation;object\n", f":1: {COLUMNS} 'subject;relation;object'"),
        ("facts.csv", "subject,subject,object\n",
         f":1: {COLUMNS} 'subject', 'subject', 'object'"),
        ("facts.csv", f'{HEADER}"a\nb",r,c\na,b\n', ":4: expected 3 columns, got 2: 'a,b'"),
        ("facts.csv", f'{HEADER}a,"",c\n', ":2: expected a name as relation, got none"),
        ("facts.csv", f'{HEADER}a,r,c\na,"b"x,c\n',
         ":3: expected CSV as in RFC 4180: ',' expected after '\"'"),
        ("facts.csv", f'{HEADER}a,b,"c\n',
         ":2: expected CSV as in RFC 4180: unexpected end of data"),
        ("facts.csv", HEADER.encode() + b"a,b,\xff\n",
         ":2: expected UTF-8 text, got byte 0xff at byte 5 of the line"),
        ("facts.jsonl", "[1]\n", ":1: expected a JSON object, got '[1]'"),
        ("facts.jsonl", '{"subject": "a", "relation": "r"}', f":1: {KEYS} 'subject', 'relation'"),
        ("facts.jsonl", "{}\n", f":1: {KEYS} none"),
        ("facts.jsonl", row(weight=1), f":1: {KEYS} 'subject', 'relation', 'object', 'weight'"),
        ("facts.jsonl", "\n" + row(object=3), ":2: object: expected a string, got 3"),
        ("facts.jsonl", row(object=""), ":1: object: expected a name, got ''"),
        ("facts.jsonl", row(object="\0"),
         ":1: object: expected a name, got the character NUL in '\\x00'"),
        ("facts.jsonl", row(subject="\ud800"), ":1: subject: expected Unicode characters, "
         "got half a surrogate pair (U+D800) in '\\ud800'"),
        ("facts.jsonl", '{"a": 1, "a": 2}',
         ":1: expected a JSON object, got '{\"a\": 1, \"a\": 2}' (the key 'a' occurs twice)"),
        ("facts.xlsx", "", f": {ENDINGS} 'facts.xlsx'"),
        ("facts", "", f": {ENDINGS} 'facts'"),
    ],
)  # fmt: skip
def test_malformed_files_are_refused(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    assert refusal(written(tmp_path, name, content)) == f"{name}{message}"
    if "." in name and not name.endswith("xlsx"):
        assert refusal(written(tmp_path, f"{name}.gz", content)) == f"{name}.gz{message}"


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "nothing", "1" * 10_000, '"'])
def test_lines_that_are_no_json_are_refused(content: str, tmp_path: Path) -> None:
    message = refusal(written(tmp_path, "facts.jsonl", f"{row()}\n{content}\n"))
    assert message.startswith("facts.jsonl:2: expected a JSON object, got ")
    assert len(message) < 250


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.tsv") == "none.tsv: no such file"
    (tmp_path / "folder.tsv").mkdir()
    assert refusal(tmp_path / "folder.tsv") == "folder.tsv: cannot be read: Is a directory"
    (tmp_path / "folder.tsv.gz").mkdir()
    assert refusal(tmp_path / "folder.tsv.gz") == "folder.tsv.gz: cannot be read: Is a directory"
    plain = tmp_path / "plain.tsv.gz"
    plain.write_text("a\tr\tb\n")
    assert refusal(plain).startswith("plain.tsv.gz: cannot be read: Not a gzipped file")
    whole = gzip.compress(b"a\tr\tb\n" * 10_000)
    for broken in (whole[:-9], whole[:20] + b"\xff" * 9 + whole[29:]):
        plain.write_bytes(broken)
        assert refusal(plain).startswith("plain.tsv.gz: corrupt gzip file: ")
    assert "\\n" in refusal(tmp_path / "a\nb.tsv")


def test_a_line_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
    message = ":2: expected a line of at most 10 bytes, got more"
    for name in ("facts.tsv", "facts.tsv.gz"):
        file = written(tmp_path, name, "aaa\tr\tbbb\naaaa\tr\tbbbb\n")
        assert refusal(file) == f"{name}{message}"


def test_aliases_are_added(tmp_path: Path) -> None:
    facts = written(tmp_path, "facts.tsv", tsv([("Faust", "directed by", "F. W. Murnau")]))
    for name, content in (
        ("aliases.tsv", "F. W. Murnau\tMurnau\nfaust\tMurnau\nFaust\tFaust\nFaust\tFaust (1926)\n"),
        ("aliases.txt", "F. W. Murnau|Murnau\nfaust|Murnau\nFaust|Faust\nFaust|Faust (1926)\n"),
        ("aliases.csv.gz", "alias,entity\nMurnau,F. W. Murnau\nMurnau,Faust\nFaust (1926),Faust\n"),
    ):
        kb = read_facts(facts, aliases=written(tmp_path, name, content))
        assert dict(kb.aliases) == {"Murnau": (0, 1), "Faust (1926)": (0,)}
        assert kb.find("murnau") == (0, 1)
    jsonl_file = written(tmp_path, "aliases.jsonl", '{"entity": "Faust", "alias": "x"}\n')
    assert dict(read_facts(facts, aliases=str(jsonl_file)).aliases) == {"x": (0,)}
    empty = written(tmp_path, "empty.tsv", "")
    assert dict(read_facts(facts, aliases=empty).aliases) == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "Faust\tx\nDracula\ty\n", ":2: expected an entity of the facts, got 'Dracula'"),
        ("a.tsv", "Faust\n", ":1: expected entity<TAB>alias, got 'Faust'"),
        ("a.tsv", "Faust\t\n", ":1: expected a name as alias, got none"),
        ("a.csv", "a,b\n",
         ":1: expected the columns entity, alias in the first line, got 'a', 'b'"),
        ("a.nt", "", ": expected a name that ends in .tsv, .txt, .csv or .jsonl, also with .gz, "
         "got 'a.nt'"),
    ],
)  # fmt: skip
def test_wrong_aliases_are_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    facts = written(tmp_path, "facts.tsv", tsv([("Faust", "directed by", "F. W. Murnau")]))
    assert refusal(facts, aliases=written(tmp_path, name, content)) == f"{name}{message}"


@settings(max_examples=50)
@given(content=st.binary(max_size=60), ending=st.sampled_from(ENDING_NAMES))
def test_any_bytes_are_read_or_refused_in_one_line(
    content: bytes, ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("facts") / f"facts{ending}"
    file.write_bytes(content)
    message = ""
    try:
        assert len(read_facts(file)) > 0
    except MemhopError as error:
        message = str(error)
    assert not message or message.startswith(str(file))
    assert len(message.splitlines()) <= 1


def test_a_header_of_a_tsv_file_is_an_error(tmp_path: Path) -> None:
    file = written(tmp_path, "a.tsv", "Subject\tRelation\tObject\na\tb\tc\n")
    with pytest.raises(MemhopError, match=r"a\.tsv:1: expected a row, got a header: remove it, or"):
        read_facts(file)
    assert len(read_facts(written(tmp_path, "b.tsv", "a\tb\tc\nsubject\trelation\tobject\n"))) == 2
