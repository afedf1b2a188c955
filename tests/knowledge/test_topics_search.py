"""The search for topics against plain loops, and its work, which is linear in the words."""

import sys
from collections.abc import Iterable
from itertools import product
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.names import folded_tokens, normalized, token_spans
from memhop.knowledge.questions import Question
from memhop.knowledge.topics import (
    _CHUNK,
    _PUNCTUATION,
    _STRONG,
    TopicFinder,
    Topics,
    _Match,
    _replaced,
    _spelling,
    _Text,
    _without_overlap,
)


def plain_symbols(text: _Text) -> list[tuple[int, str]]:
    """Return the symbols of a text by counting the tokens before each."""
    chunks = list(_CHUNK.finditer(text.text))
    symbols = []
    for chunk in chunks:
        start = sum(span[0] < chunk.start() for span in text.spans)
        bare = chunk[0].strip(_PUNCTUATION)
        if start == sum(span[0] < chunk.end() for span in text.spans) and (
            bare or chunk is not chunks[-1]
        ):
            symbols.append((start, bare or chunk[0]))
    return symbols


def plain_without_overlap(ordered: Iterable[_Match]) -> list[_Match]:
    """Compare each match with all that are chosen."""
    chosen: list[_Match] = []
    for match in ordered:
        if not any(match.start < other.end and other.start < match.end for other in chosen):
            chosen.append(match)
    return chosen


def plain_occurrences(text: _Text, names: Iterable[str], having: tuple[int, ...]) -> list[_Match]:
    """Compare each name with the tokens at each place."""
    matches = []
    for name in names:
        tokens, plain = folded_tokens(name), normalized(name)
        raw = [plain[start:end] for start, end in token_spans(plain)]
        if not tokens:
            places = [place for place, symbol in plain_symbols(text) if symbol == plain]
            matches += [_Match(place, place, having, _STRONG, 0, True) for place in places]
        for start in range(len(text.tokens) - len(tokens) + 1 if tokens else 0):
            end = start + len(tokens)
            if text.tokens[start:end] == tokens:
                is_exact = text.raw[start:end] == raw
                matches.append(_Match(start, end, having, _STRONG, len(tokens), is_exact))
    return [match for match in matches if match.is_spelled] or matches


def plain_given(kb: KnowledgeBase, text: str, topics: Iterable[str]) -> Topics:
    """Find each given topic on its own; all labels are identifiers."""
    tokens = _Text(text)
    known = {topic: kb.find(topic) for topic in topics}
    matches = []
    for topic, having in known.items():
        aliases = [alias for alias, of in kb.aliases.items() if set(of) & set(having)]
        names = {topic, *(kb.labels[number] for number in having), *aliases}
        matches += plain_occurrences(tokens, names, having)
    chosen = plain_without_overlap(sorted(matches, key=_Match.order))
    entities = dict.fromkeys(number for having in known.values() for number in having)
    unknown = tuple(topic for topic, having in known.items() if not having)
    return Topics(tuple(entities), _replaced(tokens, chosen), unknown)


PIECES = ["p", "q", "P", "Q", "pQ", "$", "&", "$&", "\uff04", ".", "?", "p?", "($)", "東", "'s"]
PHRASES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map(" ".join)
TEXTS = st.tuples(
    st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from([" ", "", "_", "\u00a0"])
).map(lambda parts: parts[1].join(parts[0]))


@given(
    names=st.lists(PHRASES, max_size=6),
    alias=st.dictionaries(PHRASES, st.lists(PHRASES, max_size=3), max_size=3),
    topics=st.lists(PHRASES, max_size=6),
    text=TEXTS,
)
@example(names=[], alias={"P": ["$"]}, topics=[], text="p $")  # the symbol is the exact name
@example(names=["p", "P"], alias={}, topics=["P p"], text="p P p")
def test_given_topics_are_those_of_a_plain_search(
    names: list[str], alias: dict[str, list[str]], topics: list[str], text: str
) -> None:
    triples = [("x", "r", name) for name in ["y", *names, *alias]]
    kb = KnowledgeBase.from_triples(triples, aliases=alias)
    given_topics = (*topics, *names, *alias)
    result = TopicFinder(kb).find(Question(text, topics=given_topics))
    assert result == plain_given(kb, text, given_topics)


@given(text=TEXTS, name=PHRASES)
def test_symbols_and_spellings_are_those_of_a_plain_search(text: str, name: str) -> None:
    tokens = _Text(text)
    assert tokens.symbols == plain_symbols(tokens)
    plain, length = normalized(name), len(folded_tokens(name))
    for start in range(len(tokens.tokens) - length + 1 if length else 0):
        last = tokens.spans[start + length - 1][1]
        head, tail = tokens.text[: tokens.spans[start][0]], tokens.text[last:]
        _, _, is_around, around = _spelling(name, tokens, start, start + length)
        if around < 0:
            continue  # other tokens
        spans = token_spans(plain)
        before, after = plain[: spans[0][0]], plain[spans[-1][1] :]
        assert is_around == (head.endswith(before) and tail.startswith(after))
        is_end = not tail[len(after) :].strip(f"{_PUNCTUATION} ")
        expected = len(before) + len(after.strip("?.") if is_end else after)
        assert around == (expected if is_around else 0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=12))
def test_overlaps_are_those_of_a_plain_search(spans: list[tuple[int, int]]) -> None:
    matches = [_Match(start, start + length, (), 0, 0, True) for start, length in spans]
    assert _without_overlap(matches) == plain_without_overlap(matches)


def work(names: TopicFinder, question: Question) -> int:
    """Return how many lines of Python a question takes."""
    count = 0

    def trace(_frame: FrameType, _event: str, _value: object) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        names.find(question)
    finally:
        sys.settrace(before)
    return count


def finder(*names: str) -> TopicFinder:
    return TopicFinder(KnowledgeBase.from_triples([("Xyzzy", "r", name) for name in names]))


@pytest.mark.parametrize("topics", [None, ("Faust", "$")])
@pytest.mark.parametrize("text", ["who $ ", "Faust ", "Faust $ ", "the film, "])
def test_work_is_linear_in_the_words(text: str, topics: tuple[str, ...] | None) -> None:
    names = finder("Faust", "Film", "$", "Faust Faust")
    single, double = (work(names, Question(text * size, topics=topics)) for size in (200, 400))
    assert single < double < 2.1 * single


@pytest.mark.parametrize("text", ["who ", "Faust ", "faust ", "Faust 1 "])
def test_many_topics_do_not_multiply_the_work_for_a_text(text: str) -> None:
    numbered = [f"Faust {number}" for number in range(50)]
    names = finder("Faust", *numbered)
    spellings = map("".join, product("Ff", "aA", "uU", "sS", "tT"))
    topics = (*spellings, *numbered)

    def growth(given_topics: tuple[str, ...]) -> int:
        short, long = (
            work(names, Question(text * size, topics=given_topics)) for size in (100, 200)
        )
        return long - short

    assert growth(topics) < 4 * growth(("Faust",))
