"""Examples as the model reads them, and the one line for whatever is none."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhop.errors import MemhopError
from memhop.example import Example
from memhop.text.reading import (
    SplitSentences,
    readable,
    readable_pairs,
    readable_texts,
    single_words,
)
from memhop.tokenizer import split_words

GOOD = Example(("Mary left.", "John stayed."), "Who left?", "Mary", (0,))
STORY_WANTED = "expected a story as a text or a sequence of sentences, got "
FACTS_WANTED = "expected supporting facts as positions in the story, got "
BELOW = "expected supporting facts below the 1 sentences of the story, got "
PAIR = ("Mary left.", "Who left?")


def test_what_is_readable_stays_the_same_object() -> None:
    assert readable([GOOD])[0] is GOOD
    assert readable(iter([GOOD, GOOD])) == [GOOD, GOOD]
    assert readable([]) == []


@pytest.mark.parametrize(
    ("story", "facts"),
    [
        ("Mary left. John stayed.", (0,)),
        ("Mary left.\nJohn stayed.", [0]),
        (["Mary left.", "John stayed."], (0,)),
        (("", "Mary left.", "...", "John stayed.", "\u200b"), (1,)),
        (("—", "Mary left.", "John stayed."), (0, 1)),
    ],
)
def test_a_story_is_its_sentences_with_a_word(story: Any, facts: Any) -> None:
    (example,) = readable([Example(story, "Who left?", "Mary", facts)])
    assert (example.story, tuple(example.supporting_facts)) == (GOOD.story, (0,))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((("a b.",), "c?", "d"), "expected memhop.Example(story, question, answer), got tuple"),
        (None, "expected memhop.Example(story, question, answer), got NoneType"),
        (Example(None, "c?", "d"), f"{STORY_WANTED}None"),  # type: ignore[arg-type]
        (Example((b"a",), "c?", "d"), f"{STORY_WANTED}(b'a',)"),  # type: ignore[arg-type]
        (Example({"a b": 1}, "c?", "d"), STORY_WANTED + "{'a b': 1}"),  # type: ignore[arg-type]
        (Example(("a",), None, "d"), "expected a question with a word, got None"),  # type: ignore[arg-type]
        (Example(("a",), "?", "d"), "expected a question with a word, got '?'"),
        (Example(("a",), "c?", "..."), "expected an answer with a word, got '...'"),
        (Example(("a",), "c?", 3), "expected an answer with a word, got 3"),  # type: ignore[arg-type]
        (Example(("a",), "c?", ["d\n"]), "expected an answer with a word, got ['d\\n']"),  # type: ignore[arg-type]
        (Example(("a",), "c?", "d", 0), f"{FACTS_WANTED}0"),  # type: ignore[arg-type]
        (Example(("a",), "c?", "d", (True,)), f"{FACTS_WANTED}(True,)"),
        (Example(("a",), "c?", "d", (1,)), f"{BELOW}1"),
        (Example(("a",), "c?", "d", (-1,)), f"{BELOW}-1"),
    ],
)  # fmt: skip
def test_what_is_no_example_is_named_by_its_index(bad: Any, message: str) -> None:
    for call, name in (
        (lambda: readable([GOOD, GOOD, bad]), "example 2"),
        (lambda: readable([bad], "test example {}"), "test example 0"),
        (lambda: readable_texts([[GOOD], [GOOD, bad]], SplitSentences()),
         "training example 1 of text 1"),
    ):  # fmt: skip
        with pytest.raises(MemhopError) as caught:
            call()
        assert str(caught.value) == f"{name}: {message}"


@pytest.mark.parametrize("bad", [None, 3, "text", GOOD])
def test_examples_are_a_sequence(bad: Any) -> None:
    name = type(bad).__name__
    with pytest.raises(MemhopError, match=f"^expected a sequence of examples, got {name}$"):
        readable(bad)
    with pytest.raises(MemhopError, match=f"expected a sequence of training examples, got {name}"):
        readable_texts(bad, SplitSentences())


@pytest.mark.parametrize("bad", [3, None, "text"])
def test_a_text_is_a_sequence_of_examples(bad: Any) -> None:
    said = f"^training text 1: expected a sequence of examples, got {type(bad).__name__}$"
    with pytest.raises(MemhopError, match=said):
        readable_texts([[GOOD], bad], SplitSentences())
    with pytest.raises(MemhopError, match="example 0 of text 1: expected "):
        readable_texts([[GOOD], [bad]], SplitSentences())


def test_supporting_facts_may_be_integers_of_numpy() -> None:
    facts: Any = (np.int64(0),)
    (example,) = readable([GOOD._replace(supporting_facts=facts)])
    assert repr(example) == repr(GOOD)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (None, "expected a sequence of pairs (story, question), got NoneType"),
        ("abc", "expected a sequence of pairs (story, question), got str"),
        ([3], "item 0: expected a pair (story, question), got 3"),
        ([PAIR, "ab"], "item 1: expected a pair (story, question), got 'ab'"),
        ([("story",)], "item 0: expected a pair (story, question), got ('story',)"),
        ([(*PAIR, 3)], "item 0: expected a pair (story, question), got ('Mary left.', 'Who left"),
        ([GOOD], "item 0: expected a pair (story, question), got Example("),
        ([PAIR, ("a", "?")], "item 1: expected a question with a word, got '?'"),
        ([(None, "Who?")], "item 0: expected a story as a text or a sequence of sentences, got N"),
    ],
)
def test_what_is_no_pair_is_named_by_its_index(asked: Any, message: str) -> None:
    with pytest.raises(MemhopError) as caught:
        readable_pairs(asked, SplitSentences())
    assert str(caught.value).startswith(f"answers: {message}")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=4,
)
stories = values | st.text() | st.lists(st.text(max_size=9), max_size=4).map(tuple)
anything = st.builds(Example, stories, values, values, values | st.just(())) | values


@given(st.lists(anything, max_size=3) | values)
def test_anything_is_readable_or_one_line(examples: Any) -> None:
    try:
        found = readable(examples)
    except MemhopError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        return
    assert len(found) == len(examples)
    for example in found:
        assert all(map(split_words, example.story))
        assert all(0 <= fact < len(example.story) for fact in example.supporting_facts)
    assert readable(found) == found


def test_a_script_without_spaces_is_noticed() -> None:
    chinese = [Example(("玛丽去了厨房。", "约翰走了。"), "玛丽在哪里？", "厨房")] * 20  # noqa: RUF001
    advice = single_words(chinese, SplitSentences())
    assert advice.startswith("60 of 60 sentences are a single word: a script without spaces needs")
    assert single_words([GOOD], SplitSentences()) == ""
    assert single_words([Example((), "Why?", "so")] * 9, SplitSentences()) == ""
    assert single_words([*chinese, *[GOOD] * 2], SplitSentences()) != ""
    assert single_words([*chinese, *[GOOD] * 9], SplitSentences()) == ""
