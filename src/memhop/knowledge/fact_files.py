"""Read facts from files: TSV, MetaQA's form, CSV, JSONL, N-Triples, also compressed by gzip."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from memhop.errors import MemhopError, shown
from memhop.knowledge.facts import KnowledgeBase, build, check_name
from memhop.knowledge.ntriples import read_ntriples
from memhop.lines import (
    csv_rows,
    extension,
    fault,
    filled_lines,
    json_lines,
    printable,
)

_TABLES = (".tsv", ".txt", ".csv", ".jsonl")
_FACT = ("subject", "relation", "object")
_ALIAS = ("entity", "alias")

Row = tuple[int, list[str]]


def read_facts(
    path: str | os.PathLike[str], *, aliases: str | os.PathLike[str] | None = None
) -> KnowledgeBase:
    """Read a knowledge base from a file; its extension says the format.

    - ``.tsv``, ``.txt``: ``subject<TAB>relation<TAB>object``, without a header or comments. A
      ``.txt`` file whose first line has two ``|`` and no tab has MetaQA's form
      ``subject|relation|object``.
    - ``.csv``: a header with the columns subject, relation, object in any order, and no others;
      commas, quoted as RFC 4180 says.
    - ``.jsonl``: objects ``{"subject": ..., "relation": ..., "object": ...}`` of strings.
    - ``.nt``: N-Triples. Identifiers are IRIs, ``_:name``, and of literals the text without
      language and type. An entity is shown by its ``rdfs:label`` (or else ``skos:prefLabel``),
      without a language tag, or in ``en``, ``en-...``, or the first; without a label by the last
      part of its IRI. Other labels, ``skos:altLabel``, ``schema:alternateName`` and ``foaf:name``
      become aliases. These statements are no facts.

    Each can be compressed by gzip (``.tsv.gz``). Files are UTF-8, with or without a byte order
    mark, with LF or CRLF. Blank lines are skipped. Except in N-Triples, white space around a name
    is removed. Names are otherwise unchanged.

    Args:
        path: the file.
        aliases: a table with the columns entity (identifier, or label) and alias, in a format
            other than N-Triples.

    Raises:
        MemhopError: ``file:line: expected ..., got ...``; no facts; an alias of an entity that the
            facts do not have.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "facts.tsv")
    ...     _ = file.write_text("Nosferatu\\tdirected by\\tF. W. Murnau\\n")
    ...     kb = read_facts(file)
    >>> kb.entities, kb.relations
    (('Nosferatu', 'F. W. Murnau'), ('directed by',))
    """
    file = Path(path)
    if extension(file, (*_TABLES, ".nt")) == ".nt":
        kb = read_ntriples(file)
    else:
        triples = ((row[0], row[1], row[2]) for _, row in _rows(file, _FACT))
        kb = build(triples, lambda name: name, {}, f"{printable(file)}: ")
    return kb if aliases is None else _with_aliases(kb, Path(aliases))


def _with_aliases(kb: KnowledgeBase, file: Path) -> KnowledgeBase:
    """Return a knowledge base with the aliases of a file added to its own."""
    more = {alias: list(having) for alias, having in kb.aliases.items()}
    for line, (entity, alias) in _rows(file, _ALIAS):
        having = kb.find(entity)
        if not having:
            raise fault(file, line, f"expected an entity of the facts, got {shown(entity)}")
        own = [n for n in having if alias not in (kb.entities[n], kb.labels[n])]
        more[alias] = sorted({*more.get(alias, ()), *own})
    found = {alias: tuple(having) for alias, having in more.items() if having}
    return replace(kb, aliases=MappingProxyType(found))


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """Yield line and fields of each row of a table, in the order of ``columns``."""
    kind = extension(file, _TABLES)
    read = {".csv": _csv_rows, ".jsonl": _json_rows}.get(kind, _separated_rows)
    for number, row in read(file, columns):
        fields = [field.strip() for field in row]
        if not all(fields):
            name = columns[fields.index("")]
            raise fault(file, number, f"expected a name as {name}, got none")
        yield number, fields


def _separated_rows(file: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    separator = "\t"
    is_first = file.name.lower().removesuffix(".gz").endswith(".txt")
    for number, line in filled_lines(file):
        if is_first:
            is_first = False
            if "\t" not in line and line.count("|") == len(columns) - 1:
                separator = "|"
        fields = line.split(separator)
        if number == 1 and [field.strip().lower() for field in fields] == [*columns]:
            raise fault(file, number, "expected a row, got a header: remove it, or use .csv")
        if len(fields) != len(columns):
            name = "<TAB>" if separator == "\t" else separator
            raise fault(file, number, f"expected {name.join(columns)}, got {shown(line)}")
        yield number, fields


def _csv_rows(file: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    order: list[int] = []
    for line, row in csv_rows(file):
        if not order:
            header = [name.strip() for name in row]
            if sorted(header) != sorted(columns):
                got = ", ".join(map(shown, header))
                message = f"expected the columns {', '.join(columns)} in the first line"
                raise fault(file, line, f"{message}, got {got:.200}")
            order = [header.index(name) for name in columns]
            continue
        if len(row) != len(order):
            message = f"expected {len(order)} columns, got {len(row)}"
            raise fault(file, line, f"{message}: {shown(','.join(row))}")
        yield line, [row[place] for place in order]


def _json_rows(file: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    expected = set(columns)
    for number, value in json_lines(file):
        if value.keys() != expected:
            keys = ", ".join(map(shown, value)) or "none"
            raise fault(file, number, f"expected the keys {', '.join(columns)}, got {keys:.200}")
        try:
            fields = [check_name(value[name], name) for name in columns]
        except MemhopError as error:
            raise fault(file, number, str(error)) from None
        yield number, fields
