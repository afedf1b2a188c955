"""Perplexity: how well a language model predicts each word of a text."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, get_args

import numpy as np
import torch
from torch import Tensor

from memhop.errors import MemhopError, check_integer, shown
from memhop.language_model.batches import chunks
from memhop.language_model.model import LanguageModel
from memhop.language_model.network import LanguageNetwork, evaluating
from memhop.language_model.output_layer import losses as losses_of
from memhop.language_model.recipe import LanguageRecipe, Protocol
from memhop.language_model.text import EncodedText

_POSITIONS = 512  # of a pass


@dataclass(frozen=True)
class Perplexity:
    """The perplexity of a text, exp of the mean of -log p over all scored words.

    Attributes:
        loss: the mean of -log p, in nats.
        scored: the number of scored words, ``<eos>`` included.
        unscored: words at the beginning that the protocol ``paper`` does not score.
        unknown: scored words that are not in the vocabulary, scored as ``<unk>``; a literal
            ``<unk>`` of the text is not counted.
        protocol: ``paper`` or ``contiguous``; see `evaluate`.
    """

    loss: float
    scored: int
    unscored: int
    unknown: int
    protocol: Protocol

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity_of(self.loss)

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Return a perplexity from untrusted JSON.

        Raises:
            KeyError, TypeError, ValueError: not the fields of a perplexity.
        """
        loss, protocol = float(content["loss"]), content["protocol"]
        if not 0 <= loss < math.inf or protocol not in get_args(Protocol):
            raise ValueError("expected a finite loss and a protocol")
        scored, unscored, unknown = (
            check_integer(name, content[name], 0) for name in ("scored", "unscored", "unknown")
        )
        return cls(loss, scored, unscored, unknown, protocol)


def perplexity_of(loss: float) -> float:
    """Return exp(loss); infinity where that overflows."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def unscored_words(protocol: Protocol, recipe: LanguageRecipe) -> int:
    """Return the number of words at the beginning of a text that are not scored."""
    return recipe.num_words if protocol == "paper" else 0


def evaluate(
    model: LanguageModel, text: EncodedText, *, protocol: Protocol = "contiguous"
) -> Perplexity:
    """Return the perplexity of a text.

    Args:
        model: the model, whose vocabulary ``text`` is encoded with.
        text: the text.
        protocol: ``contiguous``: every word is scored, with the words before it in the text as
            context. ``paper``: the first N words are not scored, N of the memory.

    Raises:
        MemhopError: no word is scored, or ``text`` is not encoded.
    """
    if not isinstance(text, EncodedText):
        raise MemhopError(f"expected a text of encode_text, got {shown(text)}")
    first = unscored_words(protocol, model.recipe)
    if len(text) <= first:
        hint = ": the protocol 'contiguous' scores every word" if first else ""
        raise MemhopError(f"expected more than {first:,} words, got {len(text):,}{hint}")
    loss = mean_loss(model.network, text.tokens, first)
    return perplexity_with(loss, text, first, protocol)


def perplexity_with(loss: float, text: EncodedText, first: int, protocol: Protocol) -> Perplexity:
    """Return the perplexity of a text whose words from ``first`` on have this mean loss."""
    unknown = int((text.unknown_places >= first).sum())
    return Perplexity(loss, len(text) - first, first, unknown, protocol)


def mean_loss(network: LanguageNetwork, tokens: np.ndarray, first: int = 0) -> float:
    """Return the mean of -log p over the tokens from ``first`` on, at least one, in nats."""
    losses = token_losses(network, tokens, first)
    total: float = sum(float(own.sum(dtype=torch.float64)) for own in losses)
    return total / (len(tokens) - first)


def token_losses(network: LanguageNetwork, tokens: np.ndarray, first: int = 0) -> Iterator[Tensor]:
    """Yield -log p of the tokens from ``first`` on, in pieces.

    Each has the words before it in the text as context, up to the N of the memory.
    """
    for start in range(first, len(tokens), _POSITIONS):
        length = min(_POSITIONS, len(tokens) - start)
        batch = chunks(tokens, np.array([start]), length, network.recipe.num_words)
        batch = batch.to(network.output.device)
        with evaluating(network):
            hidden = network(batch.words)[0]
            found = losses_of(hidden, network.output, batch.targets)
        yield found
