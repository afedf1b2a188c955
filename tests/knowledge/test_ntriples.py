"""N-Triples: the grammar of the W3C, labels and other names, identifiers."""

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memhop.errors import MemhopError
from memhop.knowledge import ntriples
from memhop.knowledge.fact_files import read_facts
from memhop.knowledge.facts import KnowledgeBase

FILMS = r"""
# Films
<http://x.org/Nosferatu> <http://x.org/ns#directedBy> <http://x.org/Q2> . # a comment
_:b1	<http://x.org/ns#directedBy><http://x.org/Q2>.
<http://x.org/Q2><http://x.org/ns#born>"1888"^^<http://www.w3.org/2001/XMLSchema#gYear>.
<http://x.org/Q2> <http://x.org/ns#born> "1888" .
<http://x.org/Q2> <http://x.org/ns#place> <http://x.org/K%C3%B6ln> .
<http://x.org/Q2> <http://x.org/ns#motto> "\u00dcber \"alles\"\n"@de-AT .
<http://x.org/Q2> <http://www.w3.org/2000/01/rdf-schema#label> "F. W. Murnau"@de .
<http://x.org/Q2> <http://www.w3.org/2004/02/skos/core#altLabel> "Murnau" .
<http://x.org/Q2> <http://xmlns.com/foaf/0.1/name> "Friedrich Wilhelm Plumpe"@de .
<http://x.org/Q2> <http://schema.org/alternateName> "Murnau"@en .
_:b1 <https://schema.org/alternateName> "Faust" .
<http://x.org/ns#born> <http://www.w3.org/2000/01/rdf-schema#label> "year of birth" .
<http://x.org/nowhere> <http://www.w3.org/2000/01/rdf-schema#label> "of no fact" .
"""


def read(folder: Path, content: str, name: str = "facts.nt") -> KnowledgeBase:
    file = folder / name
    file.write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    return read_facts(file)


def refusal(folder: Path, content: str) -> str:
    with pytest.raises(MemhopError) as caught:
        read(folder, content)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    return message.replace(f"{folder}{os.sep}", "")


@pytest.mark.parametrize("name", ["facts.nt", "FACTS.NT.gz"])
def test_facts_labels_and_other_names(name: str, tmp_path: Path) -> None:
    kb = read(tmp_path, FILMS, name)
    assert kb.entities == (
        "http://x.org/Nosferatu", "http://x.org/Q2", "_:b1", "1888", "http://x.org/K%C3%B6ln",
        'Über "alles"\n',
    )  # fmt: skip
    assert kb.labels == ("Nosferatu", "F. W. Murnau", "_:b1", "1888", "Köln", 'Über "alles"\n')
    assert kb.relation_labels == ("directedBy", "year of birth", "place", "motto")
    assert [kb.relation_words(r) for r in (0, 1)] == [["directed", "by"], ["year", "of", "birth"]]
    assert kb.facts.tolist() == [[0, 0, 1], [2, 0, 1], [1, 1, 3], [1, 2, 4], [1, 3, 5]]
    assert kb.duplicates == 1
    assert dict(kb.aliases) == {"Murnau": (1,), "Friedrich Wilhelm Plumpe": (1,), "Faust": (2,)}
    assert kb.find("faust") == (2,)
    assert kb.find("köln") == kb.find("http://x.org/K%C3%B6ln") == (4,)


LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
PREFERRED = "http://www.w3.org/2004/02/skos/core#prefLabel"


@given(
    st.permutations(
        [
            (LABEL, '"none"'), (LABEL, '"english"@en'), (LABEL, '"british"@en-GB'),
            (LABEL, '"deutsch"@de'), (PREFERRED, '"preferred"'), (PREFERRED, '"choisi"@fr'),
        ]
    ),
    st.integers(1, 6),
)  # fmt: skip
@settings(max_examples=30)
def test_the_label_of_the_lowest_rank_is_shown(
    tmp_path_factory: pytest.TempPathFactory, labels: list[tuple[str, str]], count: int
) -> None:
    ranks = ["none", "english", "british", "deutsch", "preferred", "choisi"]
    lines = [f"<http://x.org/a> <{relation}> {label} .\n" for relation, label in labels[:count]]
    fact = "<http://x.org/a> <http://x.org/r> <http://x.org/b> .\n"
    kb = read(tmp_path_factory.mktemp("labels"), "".join([*lines[:2], fact, *lines[2:]]))
    names = [label.split('"')[1] for _, label in labels[:count]]
    best = min(names, key=ranks.index)
    assert kb.labels == (best, "b")
    assert set(kb.aliases) == {*names} - {best}


def test_the_first_of_equal_labels_is_shown_and_labels_that_are_no_text_are_facts(
    tmp_path: Path,
) -> None:
    lines = [f'<http://x.org/a> <{LABEL}> "{name}"@{tag} .\n' for name, tag in
             (("x", "fr"), ("y", "de"), ("x", "nl"))]  # fmt: skip
    kb = read(tmp_path, f"{''.join(lines)}<http://x.org/a> <{LABEL}> <http://x.org/b> .\n")
    assert (kb.labels, dict(kb.aliases), len(kb)) == (("x", "b"), {"y": (0,)}, 1)


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("<http://x/s><http://x/p><http://x/o>.", ("http://x/s", "http://x/p", "http://x/o")),
        ("_:s<http://x/p>_:o.", ("_:s", "http://x/p", "_:o")),
        ("_:1a <http://x/p> _:a.b-c.", ("_:1a", "http://x/p", "_:a.b-c")),
        ("_:é·‿ <http://x/p> _:\U00010000 .", ("_:é·‿", "http://x/p", "_:\U00010000")),
        ("\t <scheme:!$%25&'()*+,-./0?#@[]~> <http://x/é> \"\t \".",
         None),
        ("<http://x/s> <http://x/p> \"x\"@en-US-1 .#", ("http://x/s", "http://x/p", "x")),
        (r'<http://x/\u0053> <http://x/\U00000070> "\u00E9\t\b\n\r\f\"\'\\\U0001F3ACx" .',
         ("http://x/S", "http://x/p", "é\t\b\n\r\f\"'\\\U0001f3acx")),
        ('<http://x/s> <http://x/p> "#.<>{}|^`_:a\u2028" .',
         ("http://x/s", "http://x/p", "#.<>{}|^`_:a\u2028")),
        ('<a:s> <a:p> "1"^^<a:int> .', ("a:s", "a:p", "1")),
    ],
)  # fmt: skip
def test_valid_statements_are_read(
    line: str, fact: tuple[str, str, str] | None, tmp_path: Path
) -> None:
    if fact is None:
        assert "expected a name, got" in refusal(tmp_path, line)  # a blank text is no name
        return
    kb = read(tmp_path, line)
    assert (kb.entities[0], kb.relations[0], kb.entities[-1]) == fact


SUBJECT, RELATION = "expected a subject, <IRI> or _:name at", "expected a relation, <IRI> at"
OBJECT = 'expected an object, <IRI>, _:name or "text" at'
END = "expected a full stop after the object at"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("<http://x/ space> <http://x/p> <http://x/o> .",
         f"{SUBJECT} column 1, got '<http://x/ space> <http://x/p> <http://x/o> .'"),
        (r"<http://x/\u00ZZ> <http://x/p> <http://x/o> .",
         f"{SUBJECT} column 1, got '<http://x/\\\\u00ZZ> <http://x/p> <http://x/o> .'"),
        (r"<http://x/\n> <http://x/p> <http://x/o> .",
         f"{SUBJECT} column 1, got '<http://x/\\\\n> <http://x/p> <http://x/o> .'"),
        (r"<http://x/\u0020> <a:p> <a:o> .", "expected an absolute IRI, got '<http://x/ >'"),
        ("<s> <a:p> <a:o> .", "expected an absolute IRI, got '<s>'"),
        ("<a:s> <p> <a:o> .", "expected an absolute IRI, got '<p>'"),
        ("<a:s> <> <a:o> .", "expected an absolute IRI, got '<>'"),
        ("<a:s> <a:p> <o> .", "expected an absolute IRI, got '<o>'"),
        ('<a:s> <a:p> "o"^^<dt> .', "expected an absolute IRI, got '<dt>'"),
        ("<a:s> _:p <a:o> .", f"{RELATION} column 7, got '_:p <a:o> .'"),
        ('"s" <a:p> <a:o> .', f"{SUBJECT} column 1, got '\"s\" <a:p> <a:o> .'"),
        ('<a:s> "p" <a:o> .', f"{RELATION} column 7, got '\"p\" <a:o> .'"),
        ("<a:s> <a:p> <a:o>, <a:o> .", f"{END} column 18, got ', <a:o> .'"),
        ("<a:s> <a:p> <a:o>; <a:q> <a:o> .", f"{END} column 18, got '; <a:q> <a:o> .'"),
        ("<a:s> <a:p> <a:o> <a:graph> .", f"{END} column 19, got '<a:graph> .'"),
        ("<a:s> <a:p> <a:o>", f"{END} column 18, got nothing"),
        ("<a:s> <a:p> <a:o> . <a:s>", f"{END} column 19, got '. <a:s>'"),
        ("<a:s> <a:p> .", f"{OBJECT} column 13, got '.'"),
        ("<a:s>", f"{RELATION} column 6, got nothing"),
        ('<a:s> <a:p> "string"@1 .', f"{END} column 21, got '@1 .'"),
        (r'<a:s> <a:p> "a\zb" .', f"{OBJECT} column 13, got '\"a\\\\zb\" .'"),
        ('<a:s> <a:p> "abc\' .', f"{OBJECT} column 13, got '\"abc\\' .'"),
        ("<a:s> <a:p> 'abc' .", f"{OBJECT} column 13, got \"'abc' .\""),
        ('<a:s> <a:p> """abc""" .', f"{END} column 15, got '\"abc\"\"\" .'"),
        ("<a:s> <a:p> 1 .", f"{OBJECT} column 13, got '1 .'"),
        ("<a:s> <a:p> _:-o .", f"{OBJECT} column 13, got '_:-o .'"),
        ("@prefix : <http://x/> .", f"{SUBJECT} column 1, got '@prefix : <http://x/> .'"),
        ("<a:s> a <a:o> .", f"{RELATION} column 7, got 'a <a:o> .'"),
        (r'<a:s> <a:p> "\ud800" .', "expected the code of a Unicode character, got \\ud800"),
        (r'<a:s> <a:p> "\U00110000" .',
         "expected the code of a Unicode character, got \\U00110000"),
        (r'<a:s> <a:p> "\u0000" .',
         "object: expected a name, got the character NUL in '\\x00'"),
        ('<a:s> <a:p> "" .', "object: expected a name, got ''"),
        (f'<a:s> <{LABEL}> " " .', "object: expected a name, got ' '"),
    ],
)  # fmt: skip
def test_malformed_statements_are_refused(line: str, message: str, tmp_path: Path) -> None:
    content = f"<a:s> <a:p> <a:o> .\n\n{line}\n<a:s> <a:p> <a:o> .\n"
    assert refusal(tmp_path, content) == f"facts.nt:3: {message}"


def test_a_file_without_a_fact_is_refused(tmp_path: Path) -> None:
    for content in ("", "# nothing\n\t\n", f'<a:s> <{LABEL}> "x" .'):
        message = "facts.nt: expected at least one fact, got none"
        assert refusal(tmp_path, content) == message


IRI_TEXT = st.text("abcXYZ09/#?&=%-._~éλ龘\U0001f3ac", max_size=8)
IRIS = IRI_TEXT.map(lambda text: f"http://x.org/{text}")
BLANKS = st.from_regex(r"_:[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_-])?", fullmatch=True)
TEXTS = st.text(min_size=1, max_size=10).filter(
    lambda text: bool(text.strip()) and "\0" not in text
)
TERMS = st.tuples(st.just("iri"), IRIS) | st.tuples(st.just("blank"), BLANKS)


def escaped(text: str, draw: st.DataObject, may_escape_any: bool) -> str:
    """Write a text as N-Triples may: required and other characters escaped."""
    out = ""
    for character in text:
        code = ord(character)
        required = may_escape_any and character in '"\\\n\r'
        if required or draw.draw(st.integers(0, 4)) == 0:
            short = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
            forms = [f"\\U{code:08X}", *([f"\\u{code:04x}"] if code < 2**16 else [])]
            if may_escape_any and character in short:
                forms.append(short[character])
            out += draw.draw(st.sampled_from(forms))
        else:
            out += character
    return out


@settings(max_examples=40)
@given(data=st.data())
def test_what_is_written_is_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    objects = TERMS | st.tuples(st.just("text"), TEXTS)
    triples = data.draw(st.lists(st.tuples(TERMS, IRIS, objects), min_size=1, max_size=4))
    space = st.sampled_from([" ", "\t", "  ", ""])
    lines = []
    for (subject_kind, subject), relation, (kind, object_) in triples:
        fields = [subject if subject_kind == "blank" else f"<{escaped(subject, data, False)}>"]
        fields.append(f"<{escaped(relation, data, False)}>")
        if kind == "text":
            tags = ["", "@en", "@x-1", "^^<http://x.org/t>"]
            tag = data.draw(st.sampled_from(tags))
            fields.append(f'"{escaped(object_, data, True)}"{tag}')
        else:
            fields.append(object_ if kind == "blank" else f"<{escaped(object_, data, False)}>")
        lines.append("".join(f"{data.draw(space)}{field}" for field in fields))
        lines[-1] += f"{data.draw(space)} .{data.draw(st.sampled_from(['', ' # x', '#']))}"
    end = data.draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    kb = read(tmp_path_factory.mktemp("facts"), end.join(lines))
    named = [(kb.entities[s], kb.relations[r], kb.entities[o]) for s, r, o in kb.facts.tolist()]
    assert named == list(dict.fromkeys((s, r, o) for (_, s), r, (_, o) in triples))


@given(st.text('<>":_\\u0. @^#ab-\t', max_size=30))
def test_a_line_is_a_statement_or_has_a_first_mistake(line: str) -> None:
    assert bool(ntriples._STATEMENT.fullmatch(line)) == (ntriples._complaint(line) == "")
