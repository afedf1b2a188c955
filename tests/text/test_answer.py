"""What is told of an answer: in words, and in a notebook."""

from dataclasses import replace
from xml.etree.ElementTree import fromstring

import pytest
import torch

from memhop.text.answer import Answer

RUNNERS_UP = (("kitchen", 0.02), ("office", 0.004), ("hall", 0.001))


def make(question: str = "Where is Mary?", answer: str = "garden", unknown: int = 0) -> Answer:
    return Answer(
        question, answer, 0.976, RUNNERS_UP, ("Mary went to the garden.",),
        torch.tensor([[0.9]]), tuple(f"w{number}" for number in range(unknown)),
    )  # fmt: skip


def test_in_words() -> None:
    assert make().title() == "Where is Mary?  garden (98%)"
    assert make().shares() == "98%; then kitchen 2%"
    assert make().never_seen() == ""
    assert make(unknown=10).never_seen() == (
        "never seen in training, ignored: w0, w1, w2, w3, w4, w5, w6, w7 and 2 more"
    )


def test_a_notebook_shows_all_of_it() -> None:
    page = make(unknown=1)._repr_html_()
    words = " ".join(text.strip() for text in fromstring(page).itertext())
    for shown in ("Where is Mary?", "garden", "(98%; then kitchen 2%)", "ignored: w0"):
        assert shown in words
    assert "Mary went to the garden." in words
    assert page.count("<svg") == 1
    assert "prefers-color-scheme" not in page
    assert "never seen" not in make()._repr_html_()


def test_sentences_that_were_not_read() -> None:
    assert make().not_read() == ""
    one, many = replace(make(), truncated=1), replace(make(), truncated=1200)
    assert one.not_read() == "the memory is full: the oldest sentence is not read"
    assert many.not_read() == "the memory is full: the 1,200 oldest sentences are not read"
    assert f"<div>{one.not_read()}</div>" in one._repr_html_()


@pytest.mark.parametrize("text", ["</div><script>x</script>", "&lt; ]]>", "\x00\x1b \ud800"])
def test_a_notebook_obeys_no_text(text: str) -> None:
    plain, hostile = (fromstring(make(one, one)._repr_html_()) for one in ("a", text))
    assert [one.tag for one in hostile.iter()] == [one.tag for one in plain.iter()]
