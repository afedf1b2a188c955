"""Words of names and questions."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhop.knowledge.names import (
    folded_tokens,
    is_iri,
    last_part,
    lookup_key,
    normalized,
    question_words,
    split_name,
    token_spans,
)

WORDS = st.lists(st.from_regex(r"[a-z]{2,8}", fullmatch=True), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("parents", "parents"),
        ("place_of_birth", "place of birth"),
        ("__film__cinematographer__film", "film cinematographer film"),
        ("__baseball__baseball_player__position_s", "baseball baseball player position s"),
        ("ns:people.person.place_of_birth", "ns people person place of birth"),
        ("birthPlace", "birth place"),
        ("BirthPlace", "birth place"),
        ("birth place", "birth place"),
        ("BIRTH-PLACE", "birth place"),
        ("HTTPServerName", "http server name"),
        ("hasDVDs", "has dvds"),
        ("DVDs", "dvds"),
        ("DVDsList", "dvds list"),
        ("XSeries", "x series"),
        ("iPhone", "i phone"),
        ("1990s", "1990s"),
        ("20th_century", "20th century"),
        ("20thCentury", "20th century"),
        ("area51Base", "area51 base"),
        ("3DModel", "3d model"),
        ("2Pac", "2pac"),
        ("MI6Agent", "mi6 agent"),
        ("children's_book", "children 's book"),
        ("http://x.org/ontology#birthPlace", "birth place"),
        ("http://x.org/ontology/birthPlace/", "birth place"),
        ("http://x.org/%C3%A9poux", "époux"),
        ("AC/DC", "ac dc"),
        ("Straße", "strasse"),
        ("ÉcoleNormale", "école normale"),
        ("λόγοςΝέος", "λόγοσ νέοσ"),
        ("８½", "8 1 2"),
    ],
)
def test_names_are_split(name: str, words: str) -> None:
    assert split_name(name) == words.split()


@pytest.mark.parametrize("name", ["$", "...", "🎬", "_", "?!"])
def test_a_name_without_a_word_is_one_word(name: str) -> None:
    assert split_name(name) == [name]
    assert question_words(name) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What is the notable_types?", "what is the notable types"),
        ("who is brie-comte-robert 's child ?", "who is brie comte robert 's child"),
        ("who's Nell Gwyn\u2019S child", "who 's nell gwyn 's child"),
        ("the actors' films, please!", "the actors films please"),
        ("don't use O'Brien`s 5'sets", "don t use o brien 's 5 sets"),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
        ("e\u0301te\u0301 = \u00e9t\u00e9", "été été"),
        ("谁导演了2046?", "谁 导 演 了 2046"),
        ("ไทย", "ไ ท ย"),
        ("हिन्दी में", "हिन्दी में"),
        ("기생충을", "기 생 충 을"),
        ("ゴジラは", "ゴ ジ ラ は"),
        ("", ""),
    ],
)
def test_questions_are_split(text: str, words: str) -> None:
    assert question_words(text) == words.split()


@given(WORDS)
def test_every_way_to_join_words_is_split_again(words: list[str]) -> None:
    camel = words[0] + "".join(word.capitalize() for word in words[1:])
    for name in (" ".join(words), "_".join(words), "__" + "__".join(words), camel):
        assert split_name(name) == words
        assert split_name(f"http://x.org/a/b#{name.replace(' ', '%20')}") == words
        assert question_words(f"What is {name}?") == ["what", "is", *words]


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_tokens_are_runs_of_letters_and_digits(text: str) -> None:
    plain = text.replace("`", "'")
    expected = re.findall(r"'s(?![a-z0-9])|[a-z0-9]+", plain.lower())
    assert folded_tokens(text) == expected
    assert [plain[start:end].lower() for start, end in token_spans(plain)] == expected


@given(st.text(max_size=40))
def test_any_text_is_split_in_order_and_without_separators(text: str) -> None:
    plain = normalized(text)
    spans = token_spans(plain)
    assert all(start < end for start, end in spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    outside = plain
    for start, end in reversed(spans):
        outside = outside[:start] + outside[end:]
    letters = [c for c in outside if c.isalnum()]
    assert letters == []
    assert len(folded_tokens(text)) == len(spans)
    assert "".join(question_words(text)) == "".join(folded_tokens(text))


@given(st.text(max_size=40))
def test_ascii_text_has_the_same_tokens_in_a_longer_text(text: str) -> None:
    plain = "".join(c for c in text if c.isascii())
    assert folded_tokens(f"{plain} é") == [*folded_tokens(plain), "é"]


def test_the_last_part_of_an_iri() -> None:
    assert last_part("http://x.org/a#b") == "b"
    assert last_part("http://x.org/a/b?c=d") == "b?c=d"
    assert last_part("http://x.org/") == "x.org"
    assert last_part("http://x.org/%FF") == "%FF"  # no UTF-8
    assert last_part("http://x.org/%00") == "%00"
    assert last_part("http://x.org/%20") == "%20"
    assert last_part("urn:isbn:0451450523") == "urn:isbn:0451450523"
    assert last_part("see http://x.org/a") == "see http://x.org/a"
    assert not is_iri("12://x")
    assert is_iri("https://例.jp/山")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("New_York", "new york"),
        (" New\u00a0 York\t", "NEW__YORK"),
        ("ﬁlm", "FILM"),
        ("e\u0301", "É"),
        ("Nell Gwyn\u2019s", "nell gwyn's"),
        ("STRASSE", "straße"),
    ],
)
def test_equal_lookup_keys(one: str, other: str) -> None:
    assert lookup_key(one) == lookup_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("newyork", "new york"), ("a-b", "a b"), ("C", "C++"), ("_", " ")]
)
def test_different_lookup_keys(one: str, other: str) -> None:
    assert lookup_key(one) != lookup_key(other)
