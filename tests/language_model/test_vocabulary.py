"""Words by count, the two words of every vocabulary, and untrusted JSON."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from memhop.errors import MemhopError
from memhop.language_model import WordVocabulary
from memhop.language_model import vocabulary as module

SPECIAL = ("<unk>", "<eos>")


def refusal(call: Any, *given: Any, **options: Any) -> str:
    with pytest.raises(MemhopError) as caught:
        call(*given, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def by_count(words: list[str], max_words: int, min_count: int) -> list[str]:
    """Return the expected words: selected one at a time, by comparing all counts."""
    appeared = [*dict.fromkeys(words), *(word for word in SPECIAL if word not in words)]
    others = [word for word in appeared if word not in SPECIAL]

    def rank(word: str) -> tuple[int, int]:
        return -words.count(word), appeared.index(word)

    frequent = [word for word in others if words.count(word) >= min_count]
    kept = {*sorted(frequent, key=rank)[: max_words - 2], *SPECIAL}
    return sorted(kept, key=rank)


@pytest.mark.parametrize("seed", range(30))
def test_words_are_kept_by_count_then_by_first_appearance(seed: int) -> None:
    draw = random.Random(seed)
    names = [*"abcdefgh", *draw.sample(SPECIAL, draw.randint(0, 2))]
    words = draw.choices(names, k=draw.randint(0, 30))
    max_words, min_count = draw.randint(2, 12), draw.randint(1, 4)
    found = WordVocabulary.from_counts(Counter(words), max_words=max_words, min_count=min_count)
    assert list(found.words) == by_count(words, max_words, min_count)


def test_a_vocabulary_of_no_text_has_two_words() -> None:
    vocabulary = WordVocabulary.from_counts({})
    assert vocabulary.words == SPECIAL
    assert (vocabulary.unknown, vocabulary.end, len(vocabulary)) == (0, 1, 2)


def test_each_word_has_an_index_and_others_that_of_unknown() -> None:
    vocabulary = WordVocabulary(["The", "the", "<eos>", "<unk>", "cat"])
    assert [vocabulary.index(word) for word in vocabulary.words] == [0, 1, 2, 3, 4]
    assert [vocabulary.word_of(index) for index in range(5)] == list(vocabulary.words)
    assert vocabulary.index("Cat") == vocabulary.index("") == vocabulary.unknown == 3
    assert vocabulary.indices(["cat", "dog", "<eos>", "<unk>"]) == [4, 3, 2, 3]
    assert "cat" in vocabulary
    assert "Cat" not in vocabulary
    for index in (-1, 5):
        message = f"no word has index {index}: indices go from 0 to 4"
        with pytest.raises(IndexError, match=message):
            vocabulary.word_of(index)


def test_equal_words_are_equal_vocabularies() -> None:
    one, same = WordVocabulary(["a", *SPECIAL]), WordVocabulary(["a", *SPECIAL])
    assert one == same
    assert hash(one) == hash(same)
    assert one != WordVocabulary([*SPECIAL, "a"])
    assert one != SPECIAL
    assert repr(one) == "WordVocabulary(3 words)"


@pytest.mark.parametrize(
    "words", [SPECIAL, ("é", "日本", "\u200b", *SPECIAL, "\x1b[1m", "a\\n", '"')]
)
def test_json_keeps_a_vocabulary(words: tuple[str, ...]) -> None:
    vocabulary = WordVocabulary(words)
    content = vocabulary.to_json()
    assert WordVocabulary.from_json(content, Path("v.json")) == vocabulary
    assert content == WordVocabulary(words).to_json()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "corrupt JSON: "),
        (b"[]", "expected a JSON object, got list"),
        ({}, "expected a list of words, got None"),
        ({"words": "ab"}, "expected a list of words, got 'ab'"),
        ({"words": []}, "vocabulary: expected the word <unk>, got none"),
        ({"words": ["<unk>"]}, "vocabulary: expected the word <eos>, got none"),
        ({"words": [*SPECIAL, "a", "a"]}, "vocabulary: expected distinct words, got 1 repeated"),
        ({"words": [*SPECIAL, 1]}, "vocabulary: expected a word without white space, got 1"),
        ({"words": [*SPECIAL, ["a"]]}, "vocabulary: expected a word without white space, got ['a"),
        ({"words": [*SPECIAL, ""]}, "vocabulary: expected a word without white space, got ''"),
        ({"words": [*SPECIAL, "a b"]}, "vocabulary: expected a word without white space, got 'a"),
        ({"words": [*SPECIAL, "a\n"]}, "vocabulary: expected a word without white space, got 'a"),
        ({"words": [*SPECIAL, *"abcdefgh"]}, "vocabulary: expected at most 9 words, got 10"),
    ],
)
def test_other_json_is_an_error(
    content: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WORDS", 9)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    assert refusal(WordVocabulary.from_json, data, Path("v.json")).startswith(f"v.json: {message}")


def test_a_text_with_more_words_than_the_largest_vocabulary_keeps_the_most_frequent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_WORDS", 4)
    counts = {"a": 1, "b": 2, "c": 2}
    assert WordVocabulary.from_counts(counts).words == ("b", "c", *SPECIAL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_words": 1}, "max_words: expected an integer from 2 to 1,000,000, got 1"),
        ({"max_words": 10**6 + 1}, "max_words: expected an integer from 2 to 1,000,000, got 10"),
        ({"max_words": True}, "max_words: expected an integer from 2 to 1,000,000, got True"),
        ({"min_count": 0}, "min_count: expected an integer from 1, got 0"),
    ],
)
def test_a_size_out_of_range_is_an_error(options: dict[str, Any], message: str) -> None:
    assert refusal(WordVocabulary.from_counts, {"a": 1}, **options).startswith(message)
