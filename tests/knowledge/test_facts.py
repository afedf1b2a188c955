"""The knowledge base: numbering, names, storage, hostile files."""

import json
import unicodedata
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from memhop.errors import MemhopError
from memhop.knowledge.facts import FACTS_FILE, NAMES_FILE, KnowledgeBase
from memhop.knowledge.stored_facts import facts_from_bytes, facts_to_bytes

NAMES = st.text(min_size=1, max_size=6).filter(lambda s: bool(s.strip()) and "\0" not in s)
FEW_NAMES = st.sampled_from(["a", "b", "A", "ä", "a\u0308", "c d", "c_d", "$"])
TRIPLES = st.lists(st.tuples(*[NAMES | FEW_NAMES] * 3), min_size=1, max_size=12)
RUN = Path("run")

FILMS = [
    ("Nosferatu", "directed_by", "F. W. Murnau"),
    ("Faust", "directed_by", "F. W. Murnau"),
    ("Nosferatu", "release_year", "1922"),
    ("Faust", "directed_by", "F. W. Murnau"),
]


def same(one: KnowledgeBase, other: KnowledgeBase) -> bool:
    fields = ("entities", "labels", "relations", "relation_labels", "aliases", "duplicates")
    return bool(np.array_equal(one.facts, other.facts)) and all(
        getattr(one, name) == getattr(other, name) for name in fields
    )


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(MemhopError) as caught:
        action()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    return message


def test_facts_are_numbered_in_the_order_of_their_first_appearance() -> None:
    kb = KnowledgeBase.from_triples(FILMS)
    assert kb.entities == ("Nosferatu", "F. W. Murnau", "Faust", "1922")
    assert kb.labels == kb.entities
    assert kb.relations == ("directed_by", "release_year") == kb.relation_labels
    assert kb.facts.tolist() == [[0, 0, 1], [2, 0, 1], [0, 1, 3]]
    assert kb.facts.dtype == np.int64
    assert (len(kb), kb.duplicates, dict(kb.aliases)) == (3, 1, {})
    assert repr(kb) == "KnowledgeBase(3 facts, 4 entities, 2 relations)"


def test_a_knowledge_base_is_immutable() -> None:
    kb = KnowledgeBase.from_triples(FILMS, aliases={"Faust": ["Faust (1926)"]})
    with pytest.raises(FrozenInstanceError):
        kb.labels = ()  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        kb.facts[0, 0] = 1
    with pytest.raises(TypeError):
        kb.aliases["x"] = (0,)  # type: ignore[index]
    with pytest.raises(ValueError, match="read-only"):
        KnowledgeBase.from_files(kb.to_files(), RUN).facts[0, 0] = 1


@given(TRIPLES)
def test_the_numbers_name_the_distinct_triples(triples: list[tuple[str, str, str]]) -> None:
    kb = KnowledgeBase.from_triples(triples)
    named = [(kb.entities[s], kb.relations[r], kb.entities[o]) for s, r, o in kb.facts.tolist()]
    assert named == list(dict.fromkeys(triples))
    assert kb.duplicates == len(triples) - len(named)
    assert kb.entities == tuple(dict.fromkeys(x for s, _, o in triples for x in (s, o)))
    assert kb.relations == tuple(dict.fromkeys(r for _, r, _ in triples))
    assert all(kb.find(name) == (number,) for number, name in enumerate(kb.entities))


def test_labels_and_aliases() -> None:
    triples = [("Q1", "P57", "Q2"), ("Q3", "P57", "Q2")]
    kb = KnowledgeBase.from_triples(
        triples,
        labels={"Q1": "Nosferatu", "Q3": "Nosferatu", "P57": "directedBy", "Q9": "of no fact"},
        aliases={"Q1": ["Vampyr", "Q1", "Nosferatu"], "Q2": ["Murnau", "Vampyr"], "Q9": ["x"]},
    )
    assert kb.labels == ("Nosferatu", "Q2", "Nosferatu")
    assert kb.relation_words(0) == ["directed", "by"]
    assert dict(kb.aliases) == {"Vampyr": (0, 1), "Murnau": (1,)}
    assert kb.find("Nosferatu") == (0, 2)
    assert kb.find("nosferatu") == (0, 2)
    assert kb.find("Vampyr") == kb.find("  VAMPYR ") == (0, 1)
    assert kb.find("Q3") == kb.find("q3") == (2,)
    assert kb.find("of no fact") == kb.find("x") == kb.find("") == ()


def test_an_exact_identifier_comes_before_labels_and_an_exact_name_before_others() -> None:
    kb = KnowledgeBase.from_triples(
        [("a", "r", "b"), ("A", "r", "c")],
        labels={"b": "a", "c": "B"},
        aliases={"c": ["x"], "a": ["X", "B"]},
    )
    assert kb.entities == ("a", "b", "A", "c")
    assert kb.find("a") == (0,)
    assert kb.find("B") == (0, 3)
    assert kb.find("x") == (3,)
    assert kb.find("X") == (0,)
    assert kb.find("\uff21") == (0, 1, 2)  # full-width A


@given(TRIPLES, st.data())
def test_find_equals_a_search_through_all_names(
    triples: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    entities = sorted({x for s, _, o in triples for x in (s, o)})
    others = st.dictionaries(st.sampled_from(entities), FEW_NAMES, max_size=4)
    labels, alias = data.draw(others), data.draw(others)
    kb = KnowledgeBase.from_triples(
        triples, labels=labels, aliases={name: [other] for name, other in alias.items()}
    )
    names = [
        {entity, labels.get(entity, entity), alias.get(entity, entity)} for entity in kb.entities
    ]
    for name in ("a", "b", "A", "\u00c4", "C  D", "$", "d"):
        same_names = tuple(n for n, own in enumerate(names) if name in own)
        same_keys = tuple(n for n, own in enumerate(names) if simple(name) in map(simple, own))
        identifier = (kb.entities.index(name),) if name in kb.entities else ()
        assert kb.find(name) == (identifier or same_names or same_keys)


def simple(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(folded.replace("_", " ").split())


@pytest.mark.parametrize(
    ("triples", "message"),
    [
        ([], "expected at least one fact, got none"),
        (["abc"], "fact 1: expected three strings, got 'abc'"),
        ([("a", "b", "c"), "abc"], "fact 2: expected three strings, got 'abc'"),
        ([("a", "b")], "fact 1: expected three strings, got ('a', 'b')"),
        ([None], "fact 1: expected three strings, got None"),
        ([("a", "b", "c"), ("a", 1, "c")], "fact 2: expected a string, got 1"),
        ([("a", ["b"], "c")], "fact 1: expected a string, got ['b']"),
        ([("", "b", "c")], "fact 1: expected a name, got ''"),
        ([("a", " \t", "c")], "fact 1: expected a name, got ' \\t'"),
        ([("a", "b", "c\0d")], "fact 1: expected a name, got the character NUL in 'c\\x00d'"),
        ([("a", "\ud800", "c")], "fact 1: expected Unicode characters, got half a surrogate pair "
         "(U+D800) in '\\ud800'"),
    ],
)  # fmt: skip
def test_wrong_facts_are_refused(triples: Any, message: str) -> None:
    assert refusal(lambda: KnowledgeBase.from_triples(triples)) == message


def test_wrong_labels_and_aliases_are_refused() -> None:
    triples = [("a", "r", "b")]
    wrong: Any = ""
    assert refusal(lambda: KnowledgeBase.from_triples(triples, labels={"a": wrong})) == (
        "label of 'a': expected a name, got ''"
    )
    wrong = ["x"]
    assert refusal(lambda: KnowledgeBase.from_triples(triples, labels={"r": wrong})) == (
        "label of 'r': expected a string, got ['x']"
    )
    assert refusal(lambda: KnowledgeBase.from_triples(triples, aliases={"b": "xy"})) == (
        "aliases of 'b': expected a list of names, got 'xy'"
    )
    assert refusal(lambda: KnowledgeBase.from_triples(triples, aliases={"b": ["x", "\0"]})) == (
        "alias of 'b': expected a name, got the character NUL in '\\x00'"
    )


@given(TRIPLES, st.dictionaries(FEW_NAMES, NAMES), st.dictionaries(FEW_NAMES, st.lists(NAMES)))
def test_storage_returns_the_same(
    triples: list[tuple[str, str, str]], labels: dict[str, str], aliases: dict[str, list[str]]
) -> None:
    kb = KnowledgeBase.from_triples(triples, labels=labels, aliases=aliases)
    files = kb.to_files()
    assert set(files) == {NAMES_FILE, FACTS_FILE}
    assert same(KnowledgeBase.from_files(files, RUN), kb)
    assert safetensors.numpy.load(files[FACTS_FILE])["facts"].dtype == np.int32


def test_large_numbers_are_stored_as_int64() -> None:
    facts = np.array([[0, 1, 2**31]])
    content = facts_to_bytes(facts)
    assert safetensors.numpy.load(content)["facts"].dtype == np.int64
    assert facts_from_bytes(content, 2**31 + 1, 2, RUN).tolist() == facts.tolist()


def stored(**changed: Any) -> dict[str, bytes]:
    """Return the files of two facts with some keys of the JSON file changed."""
    files = KnowledgeBase.from_triples(
        [("a", "r", "b"), ("b", "r", "c")], labels={"a": "x"}, aliases={"a": ["y"]}
    ).to_files()
    value = json.loads(files[NAMES_FILE]) | changed
    return {**files, NAMES_FILE: json.dumps(value).encode()}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"more": 1}, "missing or unexpected keys: 'more'"),
        ({"entities": None}, "corrupt: expected a list of entities, got None"),
        ({"entities": []}, "corrupt: expected a list of entities, got []"),
        ({"entities": "abc"}, "corrupt: expected a list of entities, got 'abc'"),
        ({"entities": ["a", "b", 3]}, "corrupt entities: expected a string, got 3"),
        ({"entities": ["a", "b", ""]}, "corrupt entities: expected a name, got ''"),
        ({"entities": ["a", "b", "b"]}, "corrupt: expected distinct entities, got one twice"),
        ({"entities": ["a", "b"]}, "corrupt: expected 2 labels, got 3"),
        ({"labels": ["a", "b", "\0"]},
         "corrupt labels: expected a name, got the character NUL in '\\x00'"),
        ({"labels": {"a": "b"}}, "corrupt: expected a list of labels, got {'a': 'b'}"),
        ({"relations": ["\ud800"]}, "corrupt relations: expected Unicode characters, got half a "
         "surrogate pair (U+D800) in '\\ud800'"),
        ({"relation_labels": ["r", "s"]}, "corrupt: expected 1 relation_labels, got 2"),
        ({"aliases": [1]}, "corrupt: expected aliases as an object, got [1]"),
        ({"aliases": {"": [1]}}, "corrupt aliases: expected a name, got ''"),
        ({"aliases": {"y": []}},
         "corrupt: expected increasing numbers for the alias 'y', got []"),
        ({"aliases": {"y": 0}}, "corrupt: expected increasing numbers for the alias 'y', got 0"),
        ({"aliases": {"y": [True]}},
         "corrupt: expected increasing numbers for the alias 'y', got [True]"),
        ({"aliases": {"y": [1, 1]}},
         "corrupt: expected increasing numbers for the alias 'y', got [1, 1]"),
        ({"aliases": {"y": [3]}},
         "corrupt: expected numbers from 0 to 2 for the alias 'y', got [3]"),
        ({"aliases": {"y": [-1]}},
         "corrupt: expected numbers from 0 to 2 for the alias 'y', got [-1]"),
        ({"duplicates": -1}, "corrupt: expected a number of duplicates, got -1"),
        ({"duplicates": True}, "corrupt: expected a number of duplicates, got True"),
        ({"duplicates": "1"}, "corrupt: expected a number of duplicates, got '1'"),
    ],
)  # fmt: skip
def test_hostile_names_are_refused(changed: dict[str, Any], message: str) -> None:
    files = stored(**changed)
    assert refusal(lambda: KnowledgeBase.from_files(files, RUN)) == f"run/facts.json: {message}"


INTEGERS = "corrupt: expected int32 or int64 [F, 3], got"


def array(rows: Any, dtype: str = "int32", name: str = "facts") -> bytes:
    return safetensors.numpy.save({name: np.array(rows, dtype=dtype)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (array([[0, 0, 1]], name="other"), "missing or unexpected tensors: 'facts', 'other'"),
        (array([[0, 0, 1]], "float32"), f"{INTEGERS} float32 [1, 3]"),
        (array([[0, 0, 1]], "uint64"), f"{INTEGERS} uint64 [1, 3]"),
        (array([0, 0, 1]), f"{INTEGERS} int32 [3]"),
        (array([[0, 1]]), f"{INTEGERS} int32 [1, 2]"),
        (array(np.zeros((0, 3))), f"{INTEGERS} int32 [0, 3]"),
        (array([[0, 0, 1], [3, 0, 1]]), "corrupt: expected numbers of subjects from 0 to 2, got 3"),
        (array([[0, -1, 1]]), "corrupt: expected numbers of relations from 0 to 0, got -1"),
        (array([[0, 0, 2**40]], "int64"),
         "corrupt: expected numbers of objects from 0 to 2, got 1,099,511,627,776"),
        (array([[0, 0, 1], [1, 0, 1], [0, 0, 1]]),
         "corrupt: expected distinct facts, got one twice"),
    ],
)  # fmt: skip
def test_hostile_numbers_are_refused(content: bytes, message: str) -> None:
    files = {**stored(), FACTS_FILE: content}
    expected = f"run/facts.safetensors: {message}"
    assert refusal(lambda: KnowledgeBase.from_files(files, RUN)) == expected


def test_missing_and_corrupt_files_are_refused() -> None:
    files = stored()
    assert refusal(lambda: KnowledgeBase.from_files({}, RUN)) == (
        "run: expected facts.json, got no file"
    )
    only_names = {NAMES_FILE: files[NAMES_FILE]}
    assert refusal(lambda: KnowledgeBase.from_files(only_names, RUN)) == (
        "run: expected facts.safetensors, got facts.json"
    )
    header = b'{"facts":{"dtype":"I32","shape":[9000000000000000000,3],"data_offsets":[0,12]}}'
    huge = len(header).to_bytes(8, "little") + header + bytes(12)
    for content in (b"", b"x", b"\xff" * 30, huge, files[FACTS_FILE][:-1]):
        message = refusal(
            lambda content=content: KnowledgeBase.from_files(  # type: ignore[misc]
                {**files, FACTS_FILE: content}, RUN
            )
        )
        assert message.startswith("run/facts.safetensors: corrupt safetensors file: ")
    for content in (b"", b"{", b"[1]", b"\xff", b"[" * 100_000):
        message = refusal(
            lambda content=content: KnowledgeBase.from_files(  # type: ignore[misc]
                {**files, NAMES_FILE: content}, RUN
            )
        )
        assert message.startswith("run/facts.json: ")


@given(st.data())
def test_changed_bytes_are_refused_or_give_valid_facts(data: st.DataObject) -> None:
    files = stored()
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        kb = KnowledgeBase.from_files({**files, name: bytes(content)}, RUN)
    except MemhopError:
        return
    assert kb.facts.min() >= 0
    assert kb.facts[:, [0, 2]].max() < len(kb.entities) == len(kb.labels)
    assert kb.facts[:, 1].max() < len(kb.relations) == len(kb.relation_labels)
    assert len(set(kb.entities)) == len(kb.entities)
