"""The text of the page is split into sentences and questions as a model does."""

from typing import Any

import pytest

from memhop.text.vocabulary import Vocabulary
from memhop.tokenizer import is_question, split_sentences, split_words
from memhop.web.reading import read_page
from memhop.web.schemas import Page, Reading

from .conftest import Client

WORDS = Vocabulary.from_texts(["mary went to the garden", "where is john", "he left"])


def reading(story: str, question: str = "", **more: Any) -> Reading:
    return read_page(Page(story=story, question=question, **more), WORDS)


def sentences(read: Reading) -> list[str]:
    return [line.sentence for line in read.lines if line.sentence is not None]


@pytest.mark.parametrize(
    "text",
    ["Mary went. John left.", "Mary went!  He left", "Mary  went .\n\nJohn left?! Mary left.",
     "Mary paid 3.50. John left...", "...", " ", "Mary\u2028John", "A\x0bb. C", ". . Mary left."],
)  # fmt: skip
def test_sentences_are_split_as_by_the_tokenizer(text: str) -> None:
    found = reading(text)
    expected = [one for one in split_sentences(text) if not is_question(one)]
    assert [split_words(one) for one in sentences(found)] == [split_words(one) for one in expected]
    after = found.rewritten.lines if found.rewritten else text.split("\n")
    again = reading("\n".join(after))
    assert again.rewritten is None
    assert sentences(again) == sentences(found)


BABI = """1 Mary went.
2 John left.
3 Where is Mary? \tgarden\t1
4 He left.
5 Who left?\tjohn, mary
"""


@pytest.mark.parametrize("text", [BABI, BABI.replace("\t", "   "), BABI.replace("\n", "\n\n")])
def test_a_babi_story_loses_its_numbers_and_answers(text: str) -> None:
    found = reading(text)
    assert sentences(found) == ["Mary went.", "John left.", "He left."]
    assert found.rewritten is not None
    assert [(one.question, one.answer) for one in found.rewritten.questions] == [
        ("Where is Mary?", "garden"),
        ("Who left?", "john,mary"),
    ]
    assert (found.rewritten.stories, found.rewritten.last_number) == (1, 5)
    assert "".join(found.question) == "Who left?"


def test_the_first_of_several_stories_is_used() -> None:
    found = reading(BABI + "1 John left.\n2 Where is John?\tgarden\t1\n1 He left.")
    assert found.rewritten is not None
    assert found.rewritten.stories == 3
    assert sentences(found) == ["Mary went.", "John left.", "He left."]


@pytest.mark.parametrize(
    ("story", "more", "expected"),
    [
        ("1 Mary went.", {}, ["Mary went."]),
        ("Mary went.\n2 John left.", {}, ["Mary went.", "2 John left."]),
        ("Mary went.\n2 John left.", {"last_number": 1}, ["Mary went.", "John left."]),
        ("Mary went.\n1 dog left.", {}, ["Mary went.", "1 dog left."]),
        ("3 people left.\nJohn left.", {}, ["3 people left.", "John left."]),
        ("3 people left.\n5 people went.", {}, ["3 people left.", "5 people went."]),
        ("7 Mary went.\n8 John left.", {}, ["Mary went.", "John left."]),
        ("1 Mary went.", {"keep_lines": True}, ["1 Mary went."]),
        ("1945 it began.", {}, ["1945 it began."]),
        ("1", {}, ["1"]),
    ],
)
def test_only_numbers_of_babi_lines_are_removed(
    story: str, more: dict[str, Any], expected: list[str]
) -> None:
    assert sentences(reading(story, **more)) == expected


def test_a_single_number_that_the_model_knows_as_a_word_stays() -> None:
    numbers = Vocabulary.from_texts(["1 dog left"])
    assert sentences(read_page(Page(story="1 dog left."), numbers)) == ["1 dog left."]
    two = Page(story="1 dog left.\n2 dog left.")
    assert sentences(read_page(two, numbers)) == ["dog left.", "dog left."]


def test_a_question_in_the_story_is_moved_when_the_caret_leaves_its_line() -> None:
    story = "Mary went.\nWhere is Mary?"
    written = reading(story, "Who left?", caret_line=1)
    assert written.rewritten is None
    assert sentences(written) == ["Mary went."]  # it is no statement either
    found = reading(story, "Who left?")
    assert found.rewritten is not None
    assert found.rewritten.lines == ["Mary went."]
    assert "".join(found.question) == "Where is Mary?"
    kept = reading(story, keep_lines=True)
    assert (kept.rewritten, sentences(kept)) == (None, story.split("\n"))


def test_a_blank_at_the_caret_stays_for_the_next_word() -> None:
    found = reading("Mary went. John left ", caret_line=0)
    assert found.rewritten is not None
    assert found.rewritten.lines == ["Mary went.", "John left "]
    numbered = reading("1 Mary went ", caret_line=0)
    assert numbered.rewritten is not None
    assert numbered.rewritten.lines == ["Mary went "]


def test_a_babi_line_in_the_question_is_a_question() -> None:
    found = reading("Mary went.", "2 Where is Mary?\tgarden\t1")
    assert found.rewritten is not None
    (asked,) = found.rewritten.questions
    assert (asked.question, asked.answer, asked.lines) == ("Where is Mary?", "garden", 1)
    assert reading("Mary went.", "2 Where is Mary?").rewritten is None


@pytest.mark.parametrize("line", ["A zebra, a gnu, said John!", "zoo", "\tMary  zoo ", "", "Mary."])
def test_unknown_words_are_pieces_of_their_line(line: str) -> None:
    found = reading(line, line)
    for pieces in (found.lines[0].words, found.question):
        assert "".join(pieces) == line
        unknown = [word for piece in pieces[1::2] for word in split_words(f"{piece} x")[:-1]]
        assert set(unknown) >= {word for word in split_words(line) if word not in WORDS}
        assert all(split_words(piece) == [] or any(w in WORDS for w in split_words(piece))
                   for piece in pieces[::2])  # fmt: skip


def test_known_and_unknown_words_are_reported() -> None:
    assert reading("Mary went.", "Zoo?").knows_question is False
    assert reading("Zoo.", "Where?").knows_story is False
    both = reading("Mary left the zoo.", "Where is zebra?")
    assert (both.knows_story, both.knows_question, both.asks) == (True, True, True)
    assert both.unknown_words == ["zoo", "zebra"]
    assert reading("Mary went.", " ?! ").asks is False


def test_the_api_reads_with_the_vocabulary_of_the_model(client: Client) -> None:
    body = b'{"story": "1 Tom left.\\n2 Mary left.", "model": "own/qa1"}'
    found = client.call("POST", "/api/read", body, **{"Content-Type": "application/json"}).value
    assert found["unknown_words"] == ["left", "mary"]
    assert found["rewritten"]["lines"] == ["Tom left.", "Mary left."]
