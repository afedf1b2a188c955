"""N-Triples (W3C Recommendation, 2014): one statement a line, with labels and other names.

Grammar: https://www.w3.org/TR/n-triples/
"""

import re
from collections.abc import Iterator
from pathlib import Path

from memhop.errors import MemhopError, shown
from memhop.knowledge.facts import KnowledgeBase, build, check_name
from memhop.knowledge.names import last_part
from memhop.lines import fault, filled_lines, printable

RDFS_LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
PREFERRED_LABEL = "http://www.w3.org/2004/02/skos/core#prefLabel"
OTHER_NAMES = frozenset(
    (
        "http://www.w3.org/2004/02/skos/core#altLabel",
        "http://schema.org/alternateName",
        "https://schema.org/alternateName",
        "http://xmlns.com/foaf/0.1/name",
    )
)

_BASE = (
    "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c-\u200d"
    "\u2070-\u218f\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff_:"
)
_CHARS = rf"{_BASE}\-0-9\u00b7\u0300-\u036f\u203f-\u2040"
_ESCAPE = r"\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}"
_PLAIN_IRI = r"[^\x00-\x20<>\"{}|^`\\]"
_IRI = rf"<({_PLAIN_IRI}*+(?:(?:{_ESCAPE}){_PLAIN_IRI}*+)*+)>"
_BLANK = rf"(_:[{_BASE}0-9](?:[{_CHARS}.]*[{_CHARS}])?)"
_STRING = rf"\"([^\"\\\n\r]*+(?:(?:{_ESCAPE}|\\[tbnrf\"'\\])[^\"\\\n\r]*+)*+)\""
_LITERAL = rf"{_STRING}(?:@([A-Za-z]+(?:-[A-Za-z0-9]+)*)|\^\^{_IRI})?"
_SUBJECT = rf"(?:{_IRI}|{_BLANK})[ \t]*"
_PREDICATE = rf"{_IRI}[ \t]*"
_OBJECT = rf"(?:{_IRI}|{_BLANK}|{_LITERAL})[ \t]*"
_END = r"\.[ \t]*(?:#.*)?"
_STATEMENT = re.compile(rf"[ \t]*{_SUBJECT}{_PREDICATE}{_OBJECT}{_END}")
_COMMENT = re.compile(r"[ \t]*(?:#.*)?")
_PARTS = [
    (re.compile(pattern), expected)
    for pattern, expected in (
        (rf"[ \t]*{_SUBJECT}", "a subject, <IRI> or _:name"),
        (_PREDICATE, "a relation, <IRI>"),
        (_OBJECT, 'an object, <IRI>, _:name or "text"'),
        (rf"{_END}$", "a full stop after the object"),
    )
]
_ABSOLUTE_IRI = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:{_PLAIN_IRI}*")
_ESCAPED = re.compile(rf"{_ESCAPE}|\\.")
_CONTROL = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f"}


def read_ntriples(path: Path) -> KnowledgeBase:
    """Return the knowledge base of an N-Triples file; see `read_facts`.

    Raises:
        MemhopError: a line is malformed, or no line is a fact.
    """
    reader = _Reader(path)
    return build(reader.facts(), reader.label, reader.other_names, f"{printable(path)}: ")


class _Reader:
    """Facts of a file; labels and other names are complete after the last fact.

    Of several labels of an identifier, the one with the lowest rank is shown, the first of equals.
    The others become other names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.labels: dict[str, str] = {}
        self.ranks: dict[str, tuple[bool, int]] = {}
        self.other_names: dict[str, list[str]] = {}

    def facts(self) -> Iterator[tuple[str, str, str]]:
        """Yield the statements that are no labels and no other names."""
        for number, line in filled_lines(self.path):
            match = _STATEMENT.fullmatch(line)
            if match is None:
                if _COMMENT.fullmatch(line):
                    continue
                raise fault(self.path, number, _complaint(line))
            fields = match.groups()
            try:
                if "\\" in line:
                    fields = tuple(map(_unescaped, fields))
                fact = _terms(fields)
            except MemhopError as error:
                raise fault(self.path, number, str(error)) from None
            subject, relation, object_ = fact
            text, language = fields[5], fields[6]
            if text is not None and relation in (RDFS_LABEL, PREFERRED_LABEL):
                self._add_label(subject, text, _rank(relation, language))
            elif text is not None and relation in OTHER_NAMES:
                self.other_names.setdefault(subject, []).append(text)
            else:
                yield subject, relation, object_

    def label(self, identifier: str) -> str:
        """Return the shown name of an entity or a relation."""
        label = self.labels.get(identifier)
        return label if label is not None else last_part(identifier)

    def _add_label(self, subject: str, label: str, rank: tuple[bool, int]) -> None:
        if subject not in self.ranks:
            self.labels[subject], self.ranks[subject] = label, rank
            return
        if rank < self.ranks[subject]:
            label, self.labels[subject] = self.labels[subject], label
            self.ranks[subject] = rank
        self.other_names.setdefault(subject, []).append(label)


def _terms(fields: tuple[str | None, ...]) -> tuple[str, str, str]:
    """Return subject, relation and object of the groups of a statement."""
    subject_iri, subject_blank, relation, object_iri, object_blank, text, _, datatype = fields
    for iri in (subject_iri, relation, object_iri, datatype):
        if iri is not None and not _ABSOLUTE_IRI.fullmatch(iri):
            raise MemhopError(f"expected an absolute IRI, got {shown(f'<{iri}>')}")
    subject = subject_iri or subject_blank or ""
    object_ = object_iri or object_blank or text or ""
    return check_name(subject, "subject"), relation or "", check_name(object_, "object")


def _rank(relation: str, language: str | None) -> tuple[bool, int]:
    """Return the rank of a label: rdfs:label first, then no language tag, en, en-..., others."""
    tag = (language or "").lower()
    order = ["", "en"].index(tag) if tag in ("", "en") else 2 if tag.startswith("en-") else 3
    return relation != RDFS_LABEL, order


def _unescaped(text: str | None) -> str | None:
    return _ESCAPED.sub(_character, text) if text and "\\" in text else text


def _character(escape: re.Match[str]) -> str:
    kind, digits = escape[0][1], escape[0][2:]
    if not digits:
        return _CONTROL.get(kind, kind)
    code = int(digits, 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise MemhopError(f"expected the code of a Unicode character, got {escape[0]}")
    return chr(code)


def _complaint(line: str) -> str:
    """Return what was expected at the first mistake of a line, or "" if it is a statement."""
    place = 0
    for pattern, expected in _PARTS:
        match = pattern.match(line, place)
        if match is None:
            got = shown(line[place:].strip(" \t")) if line[place:].strip(" \t") else "nothing"
            return f"expected {expected} at column {place + 1}, got {got}"
        place = match.end()
    return ""
