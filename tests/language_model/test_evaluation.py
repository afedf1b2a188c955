"""Perplexity against -log p word by word."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from memhop import MemhopError
from memhop.language_model import EncodedText, LanguageModel, LanguageRecipe, Perplexity, evaluate
from memhop.language_model.evaluation import perplexity_of
from memhop.language_model.network import Words
from memhop.language_model.recipe import Protocol
from tests.language_model.texts import WORDS, text_of

RECIPE = LanguageRecipe.paper(memory_dim=8, num_hops=2, num_words=5, init_std=0.6)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(WORDS, RECIPE)


@torch.no_grad()
def loss_word_by_word(model: LanguageModel, tokens: np.ndarray, first: int) -> float:
    total = 0.0
    for place in range(first, len(tokens)):
        memory = torch.from_numpy(tokens[max(0, place - 5) : place].astype(np.int64))
        rows = torch.zeros(1, 5, dtype=torch.int64)
        ignored = torch.ones(1, 5, dtype=torch.bool)
        if len(memory):
            rows[0, -len(memory) :], ignored[0, -len(memory) :] = memory, False
        u = model.network.eval()(Words(rows, ignored, True))[0, 0]
        total -= float(torch.log_softmax(model.network.output @ u, 0)[tokens[place]])
    return total / (len(tokens) - first)


@pytest.mark.parametrize(("protocol", "first"), [("contiguous", 0), ("paper", 5)])
@pytest.mark.parametrize("count", [6, 512, 530])  # a pass has 512 positions
def test_the_loss_is_the_mean_over_the_scored_words(
    model: LanguageModel, protocol: Protocol, first: int, count: int
) -> None:
    text = text_of(count, unknown=3)
    found = evaluate(model, text, protocol=protocol)
    assert found.loss == pytest.approx(loss_word_by_word(model, text.tokens, first), rel=1e-5)
    assert (found.scored, found.unscored, found.protocol) == (count - first, first, protocol)
    assert found.unknown == (3 if protocol == "contiguous" else 0)  # they are at the beginning
    assert found.perplexity == pytest.approx(math.exp(found.loss))


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary() -> None:
    model = LanguageModel(WORDS, RECIPE)
    with torch.no_grad():
        model.network.output.zero_()
    assert evaluate(model, text_of(100)).perplexity == pytest.approx(len(WORDS), rel=1e-5)


def test_a_text_without_a_scored_word_is_an_error(model: LanguageModel) -> None:
    with pytest.raises(MemhopError, match="more than 5 words, got 5"):
        evaluate(model, text_of(5), protocol="paper")
    with pytest.raises(MemhopError, match="more than 0 words, got 0"):
        evaluate(model, EncodedText(np.array([], dtype=np.int32), np.array([], dtype=np.int64), 0))


def test_a_path_is_no_text(model: LanguageModel) -> None:
    with pytest.raises(MemhopError, match=r"^expected a text of encode_text, got 'test\.txt'$"):
        evaluate(model, "test.txt")  # type: ignore[arg-type]


def test_a_huge_loss_has_an_infinite_perplexity() -> None:
    assert perplexity_of(800.0) == math.inf


@pytest.mark.parametrize("change", [{"loss": -1}, {"scored": 1.5}, {"protocol": "other"}])
def test_a_perplexity_from_a_file_is_checked(change: dict[str, object]) -> None:
    good: dict[str, Any] = {
        "loss": 1.0,
        "scored": 2,
        "unscored": 0,
        "unknown": 0,
        "protocol": "paper",
    }
    assert Perplexity.from_json(good) == Perplexity(**good)
    with pytest.raises((TypeError, ValueError)):
        Perplexity.from_json(good | change)
