"""Examples as the model reads them, and the one line for whatever is none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memhop.errors import MemhopError
from memhop.example import Example
from memhop.text.reading import SplitSentences, readable, readable_texts, single_words
from memhop.words import split_words

GOOD = Example(("Mary left.", "John stayed."), "Who left?", "Mary", (0,))


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
        (Example(None, "c?", "d"), "story needs a text or a sequence of sentences, got None"),  # type: ignore[arg-type]
        (Example((b"a",), "c?", "d"), "story needs a text or a sequence of sentences, got (b'a',)"),  # type: ignore[arg-type]
        (Example({"a b": 1}, "c?", "d"), "story needs a text or a sequence of sentences, "  # type: ignore[arg-type]
         "got {'a b': 1}"),
        (Example(("a",), None, "d"), "question needs a text, got None"),  # type: ignore[arg-type]
        (Example(("a",), "c?", 3), "answer needs a text, got 3"),  # type: ignore[arg-type]
        (Example(("a",), "c?", ["d\n"]), "answer needs a text, got ['d\\n']"),  # type: ignore[arg-type]
        (Example(("a",), "c?", "d", 0), "supporting_facts needs positions, got 0"),  # type: ignore[arg-type]
        (Example(("a",), "c?", "d", (True,)), "supporting_facts needs positions, got (True,)"),
        (Example(("a",), "c?", "d", (1,)), "supporting fact 1 of a story of 1 sentences"),
        (Example(("a",), "c?", "d", (-1,)), "supporting fact -1 of a story of 1 sentences"),
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


@pytest.mark.parametrize("bad", [None, 3, "text"])
def test_examples_are_a_sequence(bad: Any) -> None:
    name = type(bad).__name__
    with pytest.raises(MemhopError, match=f"^expected a sequence of examples, got {name}$"):
        readable(bad)
    with pytest.raises(MemhopError, match=f"expected a sequence of training examples, got {name}"):
        readable_texts(bad, SplitSentences())


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
    assert single_words([*chinese, *[GOOD] * 2], SplitSentences()) != ""
    assert single_words([*chinese, *[GOOD] * 9], SplitSentences()) == ""
