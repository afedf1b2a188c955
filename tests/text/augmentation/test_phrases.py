"""Phrases: words that only occur together, the same in every sentence."""

from memhop.text.augmentation.phrases import Phrase, split_phrases
from memhop.tokenizer import split_words

SHAPES = ("red square", "red ball", "pink disc", "cone")
PLACES = ("to the left of", "below", "above")


def in_text(separate: tuple[str, ...] = ()) -> dict[str, tuple[Phrase, ...]]:
    sentences = [
        f"The {one} is {place} the {other}."
        for one in SHAPES
        for other in SHAPES
        for place in PLACES
        if one != other
    ]
    return split(sentences, separate)


def split(sentences: list[str], separate: tuple[str, ...] = ()) -> dict[str, tuple[Phrase, ...]]:
    return split_phrases({s: split_words(s) for s in sentences}, separate)


def said(phrases: tuple[Phrase, ...]) -> list[str]:
    return [" ".join(phrase) for phrase in phrases]


def test_words_that_only_occur_together_are_a_phrase() -> None:
    """``red`` is followed by two words, but ``ball`` and then ``square`` preceded by one."""
    phrases = in_text()
    assert said(phrases["The red ball is to the left of the cone."]) == [
        "the red ball", "is to the left of", "the cone"
    ]  # fmt: skip
    assert said(phrases["The cone is below the pink disc."]) == [
        "the cone", "is below", "the pink disc"
    ]  # fmt: skip


def test_separate_words_are_in_no_phrase() -> None:
    phrases = in_text(separate=("ball", "cone"))
    assert said(phrases["The red ball is to the left of the cone."])[-1] == "cone"
    assert all(len(p) == 1 for s in phrases.values() for p in s if {"ball", "cone"} & {*p})


def test_no_word_is_lost_and_phrases_are_the_same_everywhere() -> None:
    phrases = in_text()
    for sentence, parts in phrases.items():
        words = [word for phrase in parts for word in phrase]
        assert words == sentence.lower().rstrip(".").split()
    longer = {phrase for parts in phrases.values() for phrase in parts if len(phrase) > 1}
    for phrase in longer:  # wherever its words stand one behind the other, they are the phrase
        spelled = f" {' '.join(phrase)} "
        for sentence, parts in phrases.items():
            text = f" {sentence.lower().rstrip('.')} "
            held = [p for p in parts if spelled in f" {' '.join(p)} "]
            assert (spelled in text) == bool(held)


def test_odd_sentences_are_split_too() -> None:
    assert split(["", "."]) == {"": (), ".": ()}
    assert said(split(["no no no", "no"])["no no no"]) == ["no", "no", "no"]
    assert said(split(["a b a b", "b"])["a b a b"]) == ["a b", "a b"]
