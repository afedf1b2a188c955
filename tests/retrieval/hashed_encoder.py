"""An encoder without weights: each word and each of its 3-grams has a random vector of its own."""

import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

DIM = 64
_SHARE_OF_PIECES = 0.5  # of the length of a word's vector, for the sum of its 3-grams

Array = np.ndarray[Any, np.dtype[np.float64]]


def encode(texts: Sequence[str]) -> Array:
    """Return a vector for each text, [n, 64]: the sum over its words; zeros without a word."""
    return np.array([sum(map(_of_word, _words(text)), np.zeros(DIM)) for text in texts])


def _words(text: str) -> Iterator[str]:
    spaced = "".join(char if char.isalnum() else " " for char in text.lower())
    return iter(spaced.split())


@cache
def _of_word(word: str) -> Array:
    marked = f"<{word}>"
    pieces = {marked[start : start + 3] for start in range(len(marked) - 2)}
    by_pieces = sum((_random(f"piece {piece}") for piece in sorted(pieces)), np.zeros(DIM))
    vector: Array = _random(f"word {word}") + _SHARE_OF_PIECES * by_pieces / len(pieces) ** 0.5
    return vector


@cache
def _random(token: str) -> Array:
    random = np.random.default_rng(zlib.crc32(token.encode()))
    vector: Array = random.standard_normal(DIM) / DIM**0.5
    return vector
