"""A knowledge base: facts (subject, relation, object) with the names of what they connect."""

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memhop.checkpoint import SCHEMA, check_schema, from_json, part, to_json
from memhop.errors import MemhopError, shown
from memhop.knowledge.names import lookup_key, split_name
from memhop.knowledge.stored_facts import facts_from_bytes, facts_to_bytes, first_of_equal

NAMES_FILE = "facts.json"
FACTS_FILE = "facts.safetensors"
_KEYS = ("schema", "entities", "labels", "relations", "relation_labels", "aliases", "duplicates")

Index = dict[str, int | tuple[int, ...]]  # a number, or several: a million tuples of one are large


@dataclass(frozen=True, eq=False, repr=False)
class KnowledgeBase:
    """Facts (subject, relation, object), with the names of entities and relations.

    Build one with `from_triples` or `read_facts`: the constructor checks nothing. It is immutable.

    Attributes:
        entities: identifiers, distinct, in the order of their first appearance.
        labels: the shown name of each entity; the identifier if no other is known. Two entities
            can have the same label.
        relations: identifiers of the relations, distinct, in the order of their first appearance.
        relation_labels: the shown name of each relation.
        facts: int64 [F, 3], read-only: numbers of subject, relation and object; distinct rows in
            the order of their first appearance.
        aliases: other names of entities, each with the numbers of the entities that have it.
        duplicates: number of facts that were dropped because they occurred before.

    >>> kb = KnowledgeBase.from_triples(
    ...     [("Nosferatu", "directedBy", "F. W. Murnau"), ("Faust", "directedBy", "F. W. Murnau")],
    ...     aliases={"F. W. Murnau": ["Murnau"]},
    ... )
    >>> kb.entities, kb.facts.tolist()
    (('Nosferatu', 'F. W. Murnau', 'Faust'), [[0, 0, 1], [2, 0, 1]])
    >>> kb.find("nosferatu"), kb.find("Murnau"), kb.find("Dracula"), kb.relation_words(0)
    ((0,), (1,), (), ['directed', 'by'])
    """

    entities: tuple[str, ...]
    labels: tuple[str, ...]
    relations: tuple[str, ...]
    relation_labels: tuple[str, ...]
    facts: NDArray[np.int64]
    aliases: Mapping[str, tuple[int, ...]]
    duplicates: int = 0

    @classmethod
    def from_triples(
        cls,
        triples: Iterable[tuple[str, str, str]],
        *,
        labels: Mapping[str, str] | None = None,
        aliases: Mapping[str, Iterable[str]] | None = None,
    ) -> "KnowledgeBase":
        """Return the knowledge base of these facts.

        Args:
            triples: identifiers of subject, relation and object. Repeated facts are dropped.
            labels: the shown names of entities and relations, by identifier.
            aliases: other names of entities, by identifier.

        Labels and aliases of identifiers that no fact has are ignored.

        Raises:
            MemhopError: no fact; a fact that is not three strings; a name that is empty, blank, or
                has the character NUL or half of a surrogate pair.

        >>> kb = KnowledgeBase.from_triples([("Q1", "P50", "Q2")], labels={"Q2": "Mary Shelley"})
        >>> kb.labels, len(kb)
        (('Q1', 'Mary Shelley'), 1)
        """
        known = labels or {}
        return build(triples, lambda name: known.get(name, name), aliases or {})

    def __len__(self) -> int:
        """Return the number of facts."""
        return len(self.facts)

    def __repr__(self) -> str:
        """Return a short description, without the facts."""
        names = f"{len(self.entities):,} entities, {len(self.relations):,} relations"
        return f"KnowledgeBase({len(self):,} facts, {names})"

    def find(self, name: str) -> tuple[int, ...]:
        """Return the numbers of the entities with a name, increasing; () if there is none.

        An entity with this identifier is returned alone. Otherwise the entities with this label or
        alias are returned, and without one those with an identifier, label or alias that differs
        only in capitals, Unicode form (NFKC), white space or underscores.

        >>> kb = KnowledgeBase.from_triples([("New_York", "in", "USA"), ("usa", "is", "tag")])
        >>> kb.find("new york"), kb.find("USA"), kb.find("Usa")
        ((0,), (1,), (1, 2))
        """
        if (number := self._identifiers.get(name)) is not None:
            return (number,)
        return numbers(self._names, name) or numbers(self._keys, lookup_key(name))

    def relation_words(self, relation: int) -> list[str]:
        """Return the words of the name of a relation, by its number."""
        return split_name(self.relation_labels[relation])

    def to_files(self) -> dict[str, bytes]:
        """Return the files of a checkpoint: names as JSON, facts as safetensors.

        >>> kb = KnowledgeBase.from_triples([("Rome", "in", "Italy")])
        >>> KnowledgeBase.from_files(kb.to_files(), Path("run")).entities
        ('Rome', 'Italy')
        """
        value = {
            "schema": SCHEMA,
            "entities": self.entities,
            "labels": None if self.labels == self.entities else self.labels,
            "relations": self.relations,
            "relation_labels": (
                None if self.relation_labels == self.relations else self.relation_labels
            ),
            "aliases": dict(self.aliases),
            "duplicates": self.duplicates,
        }
        return {NAMES_FILE: to_json(value), FACTS_FILE: facts_to_bytes(self.facts)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], folder: Path) -> "KnowledgeBase":
        """Return the knowledge base of the files of `to_files`; ``folder`` is named in errors.

        Raises:
            MemhopError: a file is missing or corrupt.
        """
        path = folder / NAMES_FILE
        value = from_json(part(files, NAMES_FILE, folder), path)
        check_schema(value, path)
        if value.keys() != set(_KEYS):
            odd = ", ".join(map(shown, sorted(value.keys() ^ set(_KEYS))))
            raise MemhopError(f"{path}: missing or unexpected keys: {odd:.200}")
        entities, labels = _stored_names(value, "entities", "labels", path)
        relations, relation_labels = _stored_names(value, "relations", "relation_labels", path)
        aliases = _stored_aliases(value["aliases"], len(entities), path)
        duplicates = value["duplicates"]
        if type(duplicates) is not int or duplicates < 0:
            got = shown(duplicates)
            raise MemhopError(f"{path}: corrupt: expected a number of duplicates, got {got}")
        content = part(files, FACTS_FILE, folder)
        facts = facts_from_bytes(content, len(entities), len(relations), folder / FACTS_FILE)
        return cls(entities, labels, relations, relation_labels, facts, aliases, duplicates)

    @cached_property
    def _identifiers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.entities)}

    @cached_property
    def _names(self) -> Index:
        """Labels and aliases, without labels that are the identifier."""
        index: Index = {}
        if self.labels is not self.entities:
            for number, (name, label) in enumerate(zip(self.entities, self.labels, strict=True)):
                if label != name:
                    add(index, label, number)
        for alias, having in self.aliases.items():
            for number in having:
                add(index, alias, number)
        return index

    @cached_property
    def _keys(self) -> Index:
        index: Index = {}
        for number, name in enumerate(self.entities):
            add(index, lookup_key(name), number)
        for name in self._names:
            for number in numbers(self._names, name):
                add(index, lookup_key(name), number)
        return index


def build(
    triples: Iterable[tuple[str, str, str]],
    label: Callable[[str], str],
    aliases: Mapping[str, Iterable[str]],
    source: str = "",
) -> KnowledgeBase:
    """Return the knowledge base of facts; ``label`` and ``aliases`` are read after them.

    ``source`` begins the messages of errors.

    Raises:
        MemhopError: as `KnowledgeBase.from_triples`.
    """
    entity_numbers: dict[str, int] = {}
    relation_numbers: dict[str, int] = {}
    flat = array("q")
    tables = (entity_numbers, relation_numbers, entity_numbers)
    for place, triple in enumerate(triples, 1):
        if not (isinstance(triple, tuple | list) and len(triple) == 3):
            raise MemhopError(f"{source}fact {place}: expected three strings, got {shown(triple)}")
        for name, table in zip(triple, tables, strict=True):
            number = table.get(name) if isinstance(name, str) else None
            if number is None:
                number = table[check_name(name, f"{source}fact {place}")] = len(table)
            flat.append(number)
    if not flat:
        raise MemhopError(f"{source}expected at least one fact, got none")
    given = np.array(flat, dtype=np.int64).reshape(-1, 3)
    facts = given[first_of_equal(given)]
    facts.flags.writeable = False
    entities, relations = tuple(entity_numbers), tuple(relation_numbers)
    labels, relation_labels = (
        tuple(_checked_label(name, label(name)) for name in names)
        for names in (entities, relations)
    )
    return KnowledgeBase(
        entities,
        entities if labels == entities else labels,
        relations,
        relations if relation_labels == relations else relation_labels,
        facts,
        _aliases(aliases, entity_numbers, labels),
        len(given) - len(facts),
    )


def check_name(name: object, where: str) -> str:
    """Return a name of an entity or a relation.

    Raises:
        MemhopError: it is no string, blank, or has the character NUL or half a surrogate pair.
    """
    if not isinstance(name, str):
        raise MemhopError(f"{where}: expected a string, got {shown(name)}")
    if not name or name.isspace():
        raise MemhopError(f"{where}: expected a name, got {shown(name)}")
    if "\0" in name:
        raise MemhopError(f"{where}: expected a name, got the character NUL in {shown(name)}")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError as error:
            half = f"U+{ord(name[error.start]):04X}"
            message = f"expected Unicode characters, got half a surrogate pair ({half})"
            raise MemhopError(f"{where}: {message} in {shown(name)}") from None
    return name


def add(index: Index, key: str, number: int) -> None:
    """Add a number to those of a key."""
    present = index.setdefault(key, number)
    if isinstance(present, tuple):
        if number not in present:
            index[key] = tuple(sorted((*present, number)))
    elif present != number:
        index[key] = (present, number) if present < number else (number, present)


def numbers(index: Index, key: str) -> tuple[int, ...]:
    """Return the numbers of a key, increasing."""
    found = index.get(key, ())
    return found if isinstance(found, tuple) else (found,)


def _checked_label(name: str, label: str) -> str:
    return name if label == name else check_name(label, f"label of {shown(name)}")


def _aliases(
    aliases: Mapping[str, Iterable[str]], entity_numbers: Mapping[str, int], labels: tuple[str, ...]
) -> Mapping[str, tuple[int, ...]]:
    """Return the entities of each alias, without aliases that are the entity's own name."""
    index: Index = {}
    for entity, others in aliases.items():
        if (number := entity_numbers.get(entity)) is None:
            continue
        if isinstance(others, str):
            raise MemhopError(
                f"aliases of {shown(entity)}: expected a list of names, got {shown(others)}"
            )
        for other in others:
            alias = check_name(other, f"alias of {shown(entity)}")
            if alias not in (entity, labels[number]):
                add(index, alias, number)
    return MappingProxyType({alias: numbers(index, alias) for alias in index})


def _stored_names(
    value: Mapping[str, Any], key: str, labels_key: str, path: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return distinct identifiers and their labels from untrusted JSON."""
    names = _stored_list(value[key], key, path)
    if len(set(names)) < len(names):
        raise MemhopError(f"{path}: corrupt: expected distinct {key}, got one twice")
    if value[labels_key] is None:
        return names, names
    labels = _stored_list(value[labels_key], labels_key, path)
    if len(labels) != len(names):
        expected = f"{len(names):,} {labels_key}, got {len(labels):,}"
        raise MemhopError(f"{path}: corrupt: expected {expected}")
    return names, labels


def _stored_list(value: object, key: str, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise MemhopError(f"{path}: corrupt: expected a list of {key}, got {shown(value)}")
    return tuple(check_name(name, f"{path}: corrupt {key}") for name in value)


def _stored_aliases(value: object, num_entities: int, path: Path) -> Mapping[str, tuple[int, ...]]:
    if not isinstance(value, dict):
        raise MemhopError(f"{path}: corrupt: expected aliases as an object, got {shown(value)}")
    for alias, having in value.items():
        check_name(alias, f"{path}: corrupt aliases")
        is_valid = isinstance(having, list) and having and all(type(one) is int for one in having)
        if not is_valid or having != sorted(set(having)):
            message = f"expected increasing numbers for the alias {shown(alias)}"
            raise MemhopError(f"{path}: corrupt: {message}, got {shown(having)}")
        if not (having[0] >= 0 and having[-1] < num_entities):
            message = f"expected numbers from 0 to {num_entities - 1:,} for the alias"
            raise MemhopError(f"{path}: corrupt: {message} {shown(alias)}, got {shown(having)}")
    return MappingProxyType({alias: tuple(having) for alias, having in value.items()})
