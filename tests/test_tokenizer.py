"""Sentences, questions and words with marks that people and programs write around them."""

# ruff: noqa: RUF001 - the punctuation of many scripts

import pytest

from memhop.tokenizer import is_question, split_sentences, split_words


@pytest.mark.parametrize("mark", [*"*_-~～/\\|<>🙂🏽→™®¦＊＿－", "**", "\u2764\ufe0f", "*.", '_"'])
def test_a_sign_around_a_word_changes_no_word(mark: str) -> None:
    assert split_words(f"Go to the kitchen{mark}") == ["go", "to", "the", "kitchen"]
    assert split_words(f"{mark}Mary {mark}left{mark}") == ["mary", "left"]


@pytest.mark.parametrize("mark", [*"*_-~～/\\|<>"])
def test_a_sign_alone_at_an_end_is_no_word(mark: str) -> None:
    assert split_words(f"{mark} Mary left {mark}") == ["mary", "left"]
    assert split_words(mark) == []


@pytest.mark.parametrize(
    "word",
    [
        "-5",
        "-.5",
        ".5",
        "a-",
        "5%",
        "#3",
        "@mary",
        "c++",
        "20°",
        "a/b",
        "3.5",
        "i.e",
        "🙂",
        "x-ray",
    ],
)
def test_a_sign_that_is_a_part_of_a_word_stays(word: str) -> None:
    assert split_words(f"({word}), {word}!") == [word, word]


@pytest.mark.parametrize("between", ["—", "―", "…", "--", "---", "..."])
def test_a_dash_between_two_words_separates_them(between: str) -> None:
    assert split_words(f"kitchen{between}then left") == ["kitchen", "then", "left"]


@pytest.mark.parametrize("mark", [*"'’‘´`ʼ＇′"])
def test_an_apostrophe_is_one_however_it_is_typed(mark: str) -> None:
    assert split_words(f"John{mark}s dog don{mark}t {mark}bark{mark}") == [
        "john's",
        "dog",
        "don't",
        "bark",
    ]


@pytest.mark.parametrize("mark", ["?*", "?**", "?_", "?🙂", "?~", "?>", "！?", "?！", '?"*', "?→"])
def test_signs_may_follow_a_question_mark(mark: str) -> None:
    sentence = f"Where is Mary{mark}"
    assert is_question(sentence)
    assert split_sentences(sentence) == [sentence]
    assert split_words(f"Where is Mary{mark}")[:3] == ["where", "is", "mary"]


def test_a_semicolon_is_a_question_mark_in_greek_alone() -> None:
    assert is_question("Πού είναι;")
    assert is_question("Γιατι\u0301;")
    assert not is_question("Mary left;")
    assert not is_question("cafe\u0301;")
    greek = ["Πού είναι η Μαρία;", "Η Μαρία έφυγε."]
    assert split_sentences(" ".join(greek)) == greek


@pytest.mark.parametrize(
    "sentences",
    [
        ["mary left.\u200b", "john left."],
        ["(mary stayed.)", "john left."],
        ['"mary left."', "john stayed."],
        ['"Where?" she asked.', "john stayed."],
        ['"Where?"\u200b she asked.'],
        ["»Mary went home.«", "John left."],
        ["‹Mary went home.›", "John left."],
        ["Mary went home.[1]", "John left."],
        ["Mary went home.[1][23]", "john left."],
        ["**Mary left.**", "John stayed."],
        ["Mary left.🙂", "John stayed."],
    ],
)
def test_closing_marks_belong_to_the_sentence(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences)) == sentences


def test_a_full_width_full_stop_ends_a_sentence_unless_a_digit_follows() -> None:
    assert split_sentences("メアリーは行った．ジョンは3．5だ．") == [
        "メアリーは行った．",
        "ジョンは3．5だ．",
    ]


def test_the_number_of_a_footnote_is_no_word() -> None:
    assert split_words("Mary went home.[1]") == ["mary", "went", "home"]
