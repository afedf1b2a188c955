"""Words and ids: what a text becomes, whatever it holds."""

# ruff: noqa: RUF001 - the punctuation of many scripts

import json
import pickle
import re
import sys
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memhop.errors import MemhopError
from memhop.text import vocabulary as module
from memhop.text.vocabulary import NIL, UNKNOWN, Vocabulary
from memhop.tokenizer import (
    QUESTION_MARKS,
    fold_case,
    is_question,
    spelled_words,
    split_sentences,
    split_words,
    word_pattern,
)
from tests.seeds import thorough

any_text = st.text(st.characters(), max_size=60)  # lone surrogates and control characters too


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n\t\r\n ", []),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("One.\nTwo\r\n\r\nThree", ["One.", "Two", "Three"]),
        ("It cost 3.50 at memhop.example today", ["It cost 3.50 at memhop.example today"]),
        ("Wait... what?! Yes.", ["Wait...", "what?!", "Yes."]),
        ("Where is Mary ?", ["Where is Mary ?"]),
        ("One. . ! Two.", ["One.", "Two."]),
        ("no end", ["no end"]),
        ('"Mary left." John stayed.', ['"Mary left."', "John stayed."]),
        ("(Mary left.)  [John stayed!] Then?", ["(Mary left.)", "[John stayed!]", "Then?"]),
        ("«Où est-il ?» dit Anna. Ici.", ["«Où est-il ?» dit Anna.", "Ici."]),
        ("Wait… Mary left. …and John", ["Wait…", "Mary left.", "…and John"]),
        ("玛丽去了厨房。约翰走了！谁？", ["玛丽去了厨房。", "约翰走了！", "谁？"]),
        ("「メアリーは行った。」ジョンは来た｡", ["「メアリーは行った。」", "ジョンは来た｡"]),
        ("मैरी रसोई गई। जॉन आया॥कौन?", ["मैरी रसोई गई।", "जॉन आया॥", "कौन?"]),
        ("ماري هنا۔ أين جون؟نعم", ["ماري هنا۔", "أين جون؟", "نعم"]),
        ("Mary left.\u200b John stayed.", ["Mary left.\u200b", "John stayed."]),
        ("v1.2.3 is at 10.30", ["v1.2.3 is at 10.30"]),
        ("\u200b\n—\n***\nMary left.", ["Mary left."]),
    ],
)
def test_a_text_splits_at_line_ends_and_sentence_ends(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("", []),
        (" . ?! ", []),
        ("Mary  WENT to\tthe garden.", ["mary", "went", "to", "the", "garden"]),
        ("Where is Mary ?", ["where", "is", "mary"]),
        ("apple,milk", ["apple,milk"]),
        ("He paid 3.50 . . .", ["he", "paid", "3.50"]),
        ("Mr. Fox ran", ["mr", "fox", "ran"]),
        ("L'ÉCOLE est LÀ.", ["l'école", "est", "là"]),
        ("Mary, John; and (Anna) left", ["mary", "john", "and", "anna", "left"]),
        ("'tis the dogs' \"bone\"", ["tis", "the", "dogs", "bone"]),
        ("It isn't 5 o'clock, i.e. not 3.5.", ["it", "isn't", "5", "o'clock", "i.e", "not", "3.5"]),
        ("Don\u2019t o\u02bcclock", ["don't", "o'clock"]),
        (
            "(.5) ...and -3 5% #1 C++ a/b @x_y",
            [".5", "and", "-3", "5%", "#1", "c++", "a/b", "@x_y"],
        ),
        ("- Mary — the cook — left -", ["mary", "the", "cook", "left"]),
        ("6 / 2 - 1", ["6", "/", "2", "-", "1"]),
        ("*** / -- @", []),
        ("…", []),
        ("\u200b\ufeff\u00ad", []),
        ("gar\u00adden\u200d\ufeff", ["garden"]),
        (unicodedata.normalize("NFD", "Renée, café!"), ["renée", "café"]),
        ("¿Dónde está «María»?", ["dónde", "está", "maría"]),
        ("玛丽去了厨房。", ["玛丽去了厨房"]),
        ("मैरी रसोई गई।", ["मैरी", "रसोई", "गई"]),
        ("أين ماري؟", ["أين", "ماري"]),
        ("I ♥ it 🙂", ["i", "♥", "it", "🙂"]),
    ],
)
def test_a_sentence_becomes_lower_case_words_without_end_punctuation(
    sentence: str, words: list[str]
) -> None:
    assert split_words(sentence) == words


@pytest.mark.parametrize("mark", [*";,:….!)]}”’'\"»。！？।॥؟۔、，；：", *QUESTION_MARKS])
def test_a_mark_at_the_end_changes_no_word(mark: str) -> None:
    assert split_words(f"Mary went{mark}") == split_words(f"Mary {mark} went {mark}")
    assert split_words(f"Mary went{mark}") == ["mary", "went"]


@pytest.mark.parametrize("mark", ["?", "？", "؟", "\u037e", "፧", "⁈", "?!", '?"', "?) ", "?\u200b"])
def test_a_question_ends_in_a_question_mark(mark: str) -> None:
    assert is_question(f"Where is Mary{mark}")
    assert not is_question(f"Where is Mary{mark} she asked.")


@pytest.mark.parametrize("plane", [0, 1, 14, *map(thorough, (*range(2, 14), 15, 16))])
def test_the_pattern_of_a_word_knows_every_character(plane: int) -> None:
    pattern = re.compile(word_pattern())
    # a call for a thousand characters is ten times as fast as a thousand calls
    for start in range(plane << 16, (plane + 1) << 16, 1024):
        kinds: dict[bool, list[str]] = {True: [], False: []}
        for character in map(chr, range(start, start + 1024)):
            kinds[pattern.search(character) is not None].append(character)
        words, others = kinds[True], kinds[False]
        assert len(split_words(" ".join(words))) == len(words), hex(start)
        assert split_words(" ".join(others)) == []


@given(any_text)
def test_a_spelling_is_the_word_but_for_its_capitals(text: str) -> None:
    assert list(map(fold_case, spelled_words(text))) == split_words(text)


@given(any_text)
def test_the_unicode_form_and_invisible_characters_change_nothing(text: str) -> None:
    words = split_words(text)
    for form in ("NFC", "NFD"):
        assert split_words(unicodedata.normalize(form, text)) == words
    assert split_words("\u200b".join(text)) == words


@pytest.mark.parametrize("piece", [".", "?!", '."', "。", "' ", "\u200b", "a.", "a。", "(", "-"])
def test_splitting_takes_time_linear_in_the_text(piece: str) -> None:
    """A hundred times the text must not take ten thousand times the steps."""
    text = piece * 200_000
    begun = time.process_time()
    split_sentences(text)
    split_words(text)
    is_question(text)
    assert time.process_time() - begun < 60  # a quadratic one takes hours


@given(any_text)
@example("a.\x1c.!")
@example("İ ΑΣ .")
def test_splitting_again_changes_nothing(text: str) -> None:
    words = split_words(text)
    assert split_words(" ".join(words)) == words
    sentences = split_sentences(text)
    assert split_sentences("\n".join(sentences)) == sentences
    assert all(split_words(sentence) for sentence in sentences)


@given(any_text)
def test_splitting_into_sentences_loses_no_character_but_space_and_bare_punctuation(
    text: str,
) -> None:
    def kept(piece: str) -> list[str]:
        return [c for c in piece if split_words(c)]

    assert kept("".join(split_sentences(text))) == kept(text)


def test_lower_case_is_a_fixed_point_for_every_character() -> None:
    # from_json demands of each word what split_words made, so lower() must settle at once
    lowered = [chr(code).lower() for code in range(sys.maxunicode + 1)]
    assert [word for word in lowered if word.lower() != word] == []


def test_ids_follow_first_appearance_after_nil_and_unknown() -> None:
    vocabulary = Vocabulary.from_texts(["Mary took the ball.", "Where is the Ball?"])
    assert (NIL, UNKNOWN) == (0, 1)
    assert vocabulary.ids(["mary", "took", "the", "ball", "where", "is"]) == [2, 3, 4, 5, 6, 7]
    assert vocabulary.ids(["football", "ball", ""]) == [UNKNOWN, 5, UNKNOWN]
    assert [vocabulary.word(i) for i in range(2, len(vocabulary))] == list(vocabulary)
    assert len(vocabulary) == 8
    assert "ball" in vocabulary
    assert "football" not in vocabulary
    assert None not in vocabulary
    assert repr(vocabulary) == "Vocabulary(6 words)"


@pytest.mark.parametrize("id", [-1, 3])
def test_an_id_that_no_word_has_is_an_error(id: int) -> None:
    with pytest.raises(IndexError, match=rf"no word has id {id}: ids go from 0 to 2"):
        Vocabulary(["ball"]).word(id)


@given(st.lists(any_text))
@example(["(no word) (unknown word)", "nil unknown <pad> <unk>"])
def test_no_text_can_spell_nil_or_unknown(sentences: list[str]) -> None:
    vocabulary = Vocabulary.from_texts(sentences)
    for reserved in (NIL, UNKNOWN):
        assert vocabulary.word(reserved) not in vocabulary
    for sentence in sentences:
        words = split_words(sentence)
        ids = vocabulary.ids(words)
        assert all(id > UNKNOWN for id in ids)
        assert [vocabulary.word(id) for id in ids] == words


@given(st.lists(any_text))
def test_a_vocabulary_survives_json_and_pickle(sentences: list[str]) -> None:
    vocabulary = Vocabulary.from_texts(sentences)
    read = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert read == vocabulary
    assert hash(read) == hash(vocabulary)
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary


def test_an_answer_of_several_words_can_have_an_id_but_never_the_name_of_nil_or_unknown() -> None:
    words = ["two words", "(no word)", "(unknown word)"]
    vocabulary = Vocabulary.from_json(words)
    assert vocabulary.ids(words) == [2, 3, 4]
    assert len({vocabulary.word(id) for id in range(len(vocabulary))}) == 5
    for reserved in (NIL, UNKNOWN):
        with pytest.raises(MemhopError):
            Vocabulary([vocabulary.word(reserved)])


def test_a_word_has_a_spelling() -> None:
    vocabulary = Vocabulary(["mary", "a,b"], {"mary": "Mary", "a,b": "A,b"})
    assert [vocabulary.spelling(id) for id in range(4)][2:] == ["Mary", "A,b"]
    assert Vocabulary(["mary"]).spelling(2) == "mary"
    read = Vocabulary.from_json(vocabulary.to_json(), json.loads(json.dumps(vocabulary.spellings)))
    assert read == vocabulary != Vocabulary(["mary", "a,b"])


@pytest.mark.parametrize(
    ("spellings", "message"),
    [
        (["Mary"], "vocabulary: expected spellings as an object, got list"),
        ({"mary": 3}, "vocabulary: expected spellings as strings, got int"),
        ({"mary": "John"}, "vocabulary: expected a spelling of 'mary', got 'John'"),
        ({"john": "John"}, "vocabulary: expected a spelling of 'john', got 'John'"),
        ({"mary": "Mary\n"}, "vocabulary: expected a spelling of 'mary', got 'Mary\\n'"),
    ],
)
def test_spellings_of_other_words_are_refused(spellings: object, message: str) -> None:
    with pytest.raises(MemhopError) as caught:
        Vocabulary.from_json(["mary"], spellings)
    assert str(caught.value) == message


def test_order_is_part_of_a_vocabulary() -> None:
    assert Vocabulary(["a", "b"]) != Vocabulary(["b", "a"])
    assert Vocabulary(["a"]) != ["a"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "vocabulary: expected a list of words, got NoneType"),
        ({"a": 2}, "vocabulary: expected a list of words, got dict"),
        ("abc", "vocabulary: expected a list of words, got str"),
        (["a", 3], "vocabulary: expected strings, got int"),
        (["a", ["b"]], "vocabulary: expected strings, got list"),
        (["a", ""], "vocabulary: expected lower-case words, single blanks, got ''"),
        (["a  b"], "vocabulary: expected lower-case words, single blanks, got 'a  b'"),
        (["a "], "vocabulary: expected lower-case words, single blanks, got 'a '"),
        (["a\tb"], r"vocabulary: expected lower-case words, single blanks, got 'a\tb'"),
        (["Mary"], "vocabulary: expected lower-case words, single blanks, got 'Mary'"),
        (["\x1b[2J\n"], r"vocabulary: expected lower-case words, single blanks, got '\x1b[2J\n'"),
        (["a", "b", "a"], "vocabulary: expected distinct words, got 1 repeated"),
    ],
)
def test_json_that_is_no_vocabulary_is_an_error_of_one_line(data: object, message: str) -> None:
    with pytest.raises(MemhopError) as caught:
        Vocabulary.from_json(data)
    assert str(caught.value) == message


def test_a_long_wrong_word_is_cut_in_the_message() -> None:
    with pytest.raises(MemhopError, match=r"got '(X{40})\.\.\.'$"):
        Vocabulary.from_json(["X" * 10_000])


def test_too_many_words_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WORDS", 3)
    assert len(Vocabulary(["a", "b", "c", "a"])) == 5
    with pytest.raises(MemhopError, match="expected at most 3 words, got more"):
        Vocabulary.from_json(["a", "b", "c", "d"])


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
)


@given(json_data)
def test_any_json_is_a_vocabulary_or_our_error(data: object) -> None:
    try:
        result: object = Vocabulary.from_json(data).to_json()
    except MemhopError as error:
        result = data if str(error).isprintable() else str(error)
    assert result == data
