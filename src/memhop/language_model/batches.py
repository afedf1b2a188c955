"""Batches of positions of a text, and the words before each."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memhop.language_model.network import Words
from memhop.language_model.recipe import LanguageRecipe


class Batch(NamedTuple):
    """The words in memory, and the word after them at each position, [positions]."""

    words: Words
    targets: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(self.words.to(device), self.targets.to(device))


def epoch_batches(
    tokens: np.ndarray, recipe: LanguageRecipe, generator: np.random.Generator, first: int = 0
) -> Iterator[Batch]:
    """Yield the batches of an epoch from step ``first`` on; see `LanguageRecipe.protocol`.

    ``contiguous``: the text is cut into chunks at a random offset; the first and the last one are
    moved into the text, so that a few positions are in two chunks.
    """
    count, width = len(tokens), recipe.num_words
    if recipe.protocol == "paper":
        for step in range(steps_of(count, recipe)):
            positions = generator.integers(width, count, min(recipe.batch_size, count - width))
            if step >= first:
                yield single_positions(tokens, positions, width)
        return
    length = chunk_length(count, recipe)
    starts = np.arange(1 + int(generator.integers(length)) - length, count, length)
    starts = generator.permutation(np.unique(starts.clip(0, count - length)))
    per_step = chunks_of_step(length, recipe)
    for start in range(first * per_step, len(starts), per_step):
        yield chunks(tokens, starts[start : start + per_step], length, width)


def steps_of(count: int, recipe: LanguageRecipe) -> int:
    """Return the number of steps of an epoch over a text of ``count`` tokens, at most."""
    if recipe.protocol == "paper":
        return max(1, (count - recipe.num_words) // recipe.batch_size)
    length = chunk_length(count, recipe)
    return ceil_div(ceil_div(count - 1, length) + 1, chunks_of_step(length, recipe))


def ceil_div(number: int, divisor: int) -> int:
    """Return the quotient, rounded up."""
    return -(-number // divisor)


def chunk_length(count: int, recipe: LanguageRecipe) -> int:
    """Return the positions of a chunk."""
    return min(recipe.chunk, recipe.batch_size, count)


def chunks_of_step(length: int, recipe: LanguageRecipe) -> int:
    """Return the number of chunks of a step."""
    return max(1, recipe.batch_size // length)


def chunks(tokens: np.ndarray, starts: np.ndarray, length: int, num_words: int) -> Batch:
    """Return the positions of chunks of one length, and the windows of words before each."""
    places = starts[:, None] + np.arange(-num_words, length)
    found = tokens[places.clip(0)].astype(np.int64)
    is_before = places[:, :-1] < 0
    ignored = torch.from_numpy(is_before) if is_before.any() else None
    words = Words(torch.from_numpy(found[:, :-1].copy()), ignored, True)
    return Batch(words, torch.from_numpy(found[:, num_words:].reshape(-1)))


def single_positions(tokens: np.ndarray, positions: np.ndarray, num_words: int) -> Batch:
    """Return single positions, each at least ``num_words``, and the words before each."""
    places = positions[:, None] + np.arange(-num_words, 1)
    found = torch.from_numpy(tokens[places].astype(np.int64))
    return Batch(Words(found[:, :-1].contiguous(), None, False), found[:, -1].contiguous())
