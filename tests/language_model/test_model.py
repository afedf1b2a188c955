"""LanguageModel: predictions, files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from memhop import MemhopError
from memhop.checkpoint import LANGUAGE, read_checkpoint, write_checkpoint
from memhop.language_model import LanguageModel, LanguageRecipe, evaluate
from memhop.picture import picture
from tests.language_model.texts import WORDS, text_of

RECIPE = LanguageRecipe.paper(memory_dim=8, num_hops=3, num_words=4, init_std=0.6)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(WORDS, RECIPE)


def test_a_prediction(model: LanguageModel) -> None:
    found = model.predict("a b zebra a zebra c", count=3)
    assert found.words == ("zebra", "a", "zebra", "c")  # the last four
    assert found.unknown_words == ("zebra",)
    assert found.attention.shape == (3, 4)
    np.testing.assert_allclose(found.attention.sum(1), 1, rtol=1e-5)
    shares = [share for _, share in found.candidates]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert found.truncated == 2
    assert found.picture().text() == picture(found.attention, found.words).text()
    (first, share), *_ = found.candidates
    assert found.title().startswith(f"next word: {first} ({100 * share:.1f}%), ")
    every = model.predict("a b zebra a zebra c", count=100)
    assert sum(share for _, share in every.candidates) == pytest.approx(1)
    assert {word for word, _ in every.candidates} == set(WORDS.words)


def test_a_short_text_has_fewer_words_in_memory(model: LanguageModel) -> None:
    found = model.predict("a\n")
    assert (found.words, found.truncated) == (("a", "<eos>"), 0)
    assert model.predict("a <eos>").candidates == found.candidates
    assert found.attention.shape == (3, 2)
    np.testing.assert_allclose(found.attention.sum(1), 1, rtol=1e-5)


def test_only_the_words_in_memory_count(model: LanguageModel) -> None:
    assert model.predict("c a b c d").candidates == model.predict("d a b c d").candidates
    assert model.predict("a a b c d").candidates != model.predict("a b b c d").candidates


@pytest.mark.parametrize(("text", "count"), [("", 5), (" ", 5), ("a", 0), ("a", 2.0), (["a"], 5)])
def test_errors(model: LanguageModel, text: str, count: int) -> None:
    with pytest.raises(MemhopError, match="expected") as caught:
        model.predict(text, count)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{}, {"embeddings": "shared", "first_query": "newest"}])
def test_a_saved_model_is_the_same(settings: dict[str, str], tmp_path: Path) -> None:
    model = LanguageModel(WORDS, LanguageRecipe.paper(memory_dim=8, num_words=4, **settings))
    model.save(tmp_path / "model")
    loaded = LanguageModel.load(tmp_path / "model")
    assert loaded.recipe == model.recipe
    assert loaded.vocabulary == model.vocabulary
    assert loaded.predict("a b c d").candidates == model.predict("a b c d").candidates
    for one, other in zip(loaded.network.parameters(), model.network.parameters(), strict=True):
        assert torch.equal(one, other)
    model.save_pretrained(tmp_path / "shared")
    assert LanguageModel.from_pretrained(tmp_path / "shared").num_parameters == model.num_parameters


def test_what_would_be_lost_is_refused(tmp_path: Path) -> None:
    model = LanguageModel(WORDS, RECIPE)
    model.network.hops.register_forward_hook(lambda *_: None)
    with pytest.raises(MemhopError, match="hook"):
        model.save_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "find", "put"),
    [("language.json", b'"num_words": 4', b'"num_words": 5'),
     ("language.json", b'"num_hops": 3', b'"num_hops": "x"'),
     ("vocabulary.json", b'"a"', b'"a b"'), ("vocabulary.json", b'"a"', b'"b"')],
)  # fmt: skip
def test_corrupt_files_are_refused(
    model: LanguageModel, name: str, find: bytes, put: bytes, tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    files = dict(read_checkpoint(tmp_path / "model"))
    assert find in files[name]
    files[name] = files[name].replace(find, put)
    write_checkpoint(tmp_path / "other", files, LANGUAGE)
    with pytest.raises(MemhopError):
        LanguageModel.load(tmp_path / "other")


def test_the_mode_of_the_network_stays(model: LanguageModel) -> None:
    for mode in (True, False):
        model.network.train(mode)
        model.predict("a b")
        evaluate(model, text_of(20))
        assert model.network.training == mode
