"""LanguageModel: predicts the next word of a text from the words before it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import nn

from memhop.checkpoint import (
    LANGUAGE,
    SCHEMA,
    check_schema,
    from_json,
    from_tensors,
    part,
    read_checkpoint,
    to_json,
    to_tensors,
    write_checkpoint,
)
from memhop.errors import MemhopError, check_integer, shown
from memhop.language_model.batches import chunks
from memhop.language_model.network import LanguageNetwork, evaluating
from memhop.language_model.recipe import LanguageRecipe
from memhop.language_model.text import encode_words, words_of
from memhop.language_model.vocabulary import UNKNOWN_WORD, WordVocabulary
from memhop.picture import Picture, picture
from memhop.pretrained import Pretrained
from memhop.pretrained.card import CardText
from memhop.pretrained.storable import check_attributes, check_storable
from memhop.runs import find_checkpoint

_IN_TITLE = 3  # next words in the title of a picture
WEIGHTS, RECIPE, VOCABULARY = "model.safetensors", "language.json", "vocabulary.json"
_SUMMARY = (
    "A `LanguageModel` of memhop: it predicts the next word of a text from the words before it, "
    "which it reads in several hops, and shows the words that each hop read."
)


class Prediction(NamedTuple):
    """What a model predicts after a text.

    Attributes:
        candidates: the most probable next words, each with its probability.
        words: the words in memory, oldest first: the last N of the text.
        attention: float32, [hops, words], the share of each word in each hop.
        unknown_words: the words of the text that are not in the vocabulary, each once.
        truncated: the number of oldest words that exceed the memory.
    """

    candidates: tuple[tuple[str, float], ...]
    words: tuple[str, ...]
    attention: np.ndarray
    unknown_words: tuple[str, ...]
    truncated: int = 0

    def picture(self) -> Picture:
        """Return the picture of the attention; print it, or show it in a notebook."""
        return picture(self.attention, self.words)

    def title(self) -> str:
        """Return the first next words, the title of a picture."""
        first = [f"{word} ({100 * share:.1f}%)" for word, share in self.candidates[:_IN_TITLE]]
        return f"next word: {', '.join(first)}"


class LanguageModel(Pretrained):
    """A language model whose memory is the N previous words (section 5 of arXiv 1503.08895).

    Attributes:
        vocabulary: the words that it knows.
        recipe: the settings.
        network: the weights.

    `memhop.language_model.train` makes a trained one.
    """

    _kind = LANGUAGE

    def __init__(
        self,
        vocabulary: WordVocabulary,
        recipe: LanguageRecipe,
        network: LanguageNetwork | None = None,
    ) -> None:
        self.vocabulary, self.recipe = vocabulary, recipe
        if network is None:
            network = LanguageNetwork(len(vocabulary), recipe)
            network.reset_parameters()
        self.network = network

    @property
    def num_parameters(self) -> int:
        """The number of weights."""
        return sum(weight.numel() for weight in self.network.parameters())

    def predict(self, text: str, count: int = 5) -> Prediction:
        """Return the most probable words after a text, and the words that each hop read.

        Args:
            text: at least one word; a line end is ``<eos>``.
            count: the number of candidates, at most the size of the vocabulary.

        Raises:
            MemhopError: no word, no text, or a wrong count.
        """
        check_integer("count", count, 1)
        if not isinstance(text, str):
            raise MemhopError(f"expected a text, got {shown(text)}")
        words = words_of(text)
        if not words:
            raise MemhopError(f"expected at least one word, got {shown(text)}")
        tokens = np.append(encode_words(text, self.vocabulary), 0)  # any word as target
        num_words = self.recipe.num_words
        batch = chunks(tokens, np.array([len(words)]), 1, num_words)
        memory = batch.words.to(self.network.output.device)
        with evaluating(self.network):
            hidden, attention = self.network(memory, need_weights=True)
            shares = torch.softmax(hidden[0, 0] @ self.network.output.T, -1)
            top = torch.topk(shares, min(count, len(shares)))
        in_memory = tuple(words[-num_words:])
        found = [self.vocabulary.word_of(index) for index in top.indices.tolist()]
        unknown = [word for word in words if word not in self.vocabulary]
        return Prediction(
            tuple(zip(found, top.values.tolist(), strict=True)),
            in_memory,
            attention[0, 0, :, num_words - len(in_memory) :].float().cpu().numpy(),
            tuple(dict.fromkeys(unknown)),
            len(words) - len(in_memory),
        )

    def to_files(self) -> dict[str, bytes]:
        """Return the files of a checkpoint: weights, settings, vocabulary."""
        return {
            WEIGHTS: to_tensors(self.network.state_dict()),
            RECIPE: to_json({"schema": SCHEMA, "recipe": self.recipe.to_json()}),
            VOCABULARY: self.vocabulary.to_json(),
        }

    def save(self, folder: str | Path) -> None:
        """Write the model to a new folder; `load` reads it."""
        write_checkpoint(Path(folder), self.to_files(), LANGUAGE)

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """Return the model of a run, given by its path or its name under ``runs/``.

        Raises:
            MemhopError: no such run, a run of another kind, or corrupt files.
        """
        folder = find_checkpoint(run, LANGUAGE)
        return cls.from_files(read_checkpoint(folder), folder)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], folder: Path) -> Self:
        """Return the model in the files of a checkpoint; ``folder`` is named in errors."""
        path = folder / RECIPE
        settings = from_json(part(files, RECIPE, folder), path)
        check_schema(settings, path)
        try:
            recipe = LanguageRecipe.from_json(settings.get("recipe"))
        except MemhopError as error:
            raise MemhopError(f"{path}: {error}") from error
        content = part(files, VOCABULARY, folder)
        vocabulary = WordVocabulary.from_json(content, folder / VOCABULARY)
        with torch.device("meta"):
            network = LanguageNetwork(len(vocabulary), recipe)
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        weights = from_tensors(part(files, WEIGHTS, folder), shapes, folder / WEIGHTS)
        network.load_state_dict(weights, assign=True)
        return cls(vocabulary, recipe, network)

    def _module(self) -> nn.Module:
        return self.network

    def _check_storable(self) -> None:
        with torch.device("meta"):
            expected = LanguageNetwork(len(self.vocabulary), self.recipe)
        check_storable(self.network, expected)
        other = type(self)(self.vocabulary, self.recipe, expected)
        check_attributes(type(self).__name__, self, other, ignored=["network"])

    def _settings(self) -> dict[str, Any]:
        return {**self.recipe.to_json(), "words": len(self.vocabulary)}

    def _card_text(self) -> CardText:
        known = [word for word in self.vocabulary.words if word.isalpha()]
        text = " ".join(known[:2]) or UNKNOWN_WORD
        lines = [
            "from memhop.language_model import LanguageModel", "",
            "model = LanguageModel.from_pretrained(NAME)",
            f"print(model.predict({text!a}).candidates)",
        ]  # fmt: skip
        return CardText(_SUMMARY, "\n".join(lines), "text-generation")
