"""The positions of an epoch, and the words before each."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memhop.language_model.batches import chunks, epoch_batches, single_positions, steps_of
from memhop.language_model.recipe import LanguageRecipe, Protocol


def generator() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(3))


@given(count=st.integers(2, 90), chunk=st.integers(1, 20), batch_size=st.integers(1, 40))
def test_contiguous_positions_are_each_in_an_epoch(count: int, chunk: int, batch_size: int) -> None:
    recipe = LanguageRecipe(protocol="contiguous", chunk=chunk, batch_size=batch_size, num_words=3)
    tokens = np.arange(count, dtype=np.int32)  # each token is its position
    batches = list(epoch_batches(tokens, recipe, generator()))
    seen = torch.cat([batch.targets for batch in batches])
    assert set(seen.tolist()) == set(range(count))
    assert len(seen) <= count + 2 * min(chunk, batch_size)  # the first and last chunk overlap
    assert 0 < len(batches) <= steps_of(count, recipe)
    for batch in batches:
        windows = batch.words.rows.unfold(1, 3, 1).reshape(-1, 3)
        places = batch.targets[:, None] + torch.arange(-3, 0)
        assert torch.equal(windows, places.clamp(min=0))
        if batch.words.ignored is None:
            assert (places >= 0).all()
        else:
            ignored = batch.words.ignored.unfold(1, 3, 1).reshape(-1, 3)
            assert torch.equal(ignored, places < 0)


@given(count=st.integers(6, 60), batch_size=st.integers(1, 40))
def test_random_positions_have_all_their_words(count: int, batch_size: int) -> None:
    recipe = LanguageRecipe(protocol="paper", batch_size=batch_size, num_words=5)
    tokens = np.arange(count, dtype=np.int32)
    batches = list(epoch_batches(tokens, recipe, generator()))
    assert len(batches) == steps_of(count, recipe)
    for batch in batches:
        assert batch.words.ignored is None
        assert not batch.words.is_windowed
        places = batch.targets[:, None] + torch.arange(-5, 0)
        assert torch.equal(batch.words.rows, places)
        assert places.min() >= 0


@pytest.mark.parametrize("protocol", ["paper", "contiguous"])
def test_an_epoch_resumes_at_a_step(protocol: Protocol) -> None:
    recipe = LanguageRecipe(protocol=protocol, chunk=4, batch_size=8, num_words=3)
    tokens = np.arange(100, dtype=np.int32)
    whole = list(epoch_batches(tokens, recipe, generator()))
    rest = list(epoch_batches(tokens, recipe, generator(), first=5))
    assert len(whole) > 6
    assert len(rest) == len(whole) - 5
    for one, other in zip(rest, whole[5:], strict=True):
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.words.rows, other.words.rows)


def test_chunks_and_single_positions_by_hand() -> None:
    tokens = np.array([5, 6, 7, 8], dtype=np.int32)
    batch = chunks(tokens, np.array([0, 2]), 2, 2)
    assert batch.words.rows.tolist() == [[5, 5, 5], [5, 6, 7]]
    assert batch.words.ignored is not None
    assert batch.words.ignored.tolist() == [[True, True, False], [False, False, False]]
    assert batch.targets.tolist() == [5, 6, 7, 8]
    batch = single_positions(tokens, np.array([3, 2]), 2)
    assert batch.words.rows.tolist() == [[6, 7], [5, 6]]
    assert batch.targets.tolist() == [8, 7]
