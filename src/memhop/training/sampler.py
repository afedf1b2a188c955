"""What an epoch is trained on: examples drawn with replacement, with noise, told anew."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memhop.recipe import Recipe
from memhop.text.augmentation.sampling import Exchange
from memhop.text.batch import ages, chosen_rows
from memhop.text.encoding import Encoded
from memhop.text.noise import draw_ages, with_empty_memories, with_time_noise


class EpochBatches(NamedTuple):
    """The batches of an epoch: each tensor starts with the axes [steps, R].

    Slots and questions name sentences by their place in ``chosen``, the rows of the bank that
    the step needs; see `memhop.text.batch.Batch`.
    """

    slots: Tensor
    ages: Tensor
    lengths: Tensor
    question: Tensor
    chosen: Tensor
    answers: Tensor


class EpochSampler:
    """Examples to draw from.

    Args:
        encoded: the examples.
        recipe: its ``batch_size``, ``noise`` and ``noise_share`` count.
        memory_slots: the most slots of the model.
        exchange: tells each example anew; None leaves it as it is.
    """

    def __init__(
        self, encoded: Encoded, recipe: Recipe, memory_slots: int, exchange: Exchange | None = None
    ) -> None:
        self.encoded, self.exchange = encoded, exchange
        self.recipe, self.memory_slots = recipe, memory_slots
        self.steps = max(1, len(encoded.answers) // recipe.batch_size)

    def draw(self, generators: Sequence[np.random.Generator]) -> EpochBatches:
        """An epoch of restarts, each from a generator of its own."""
        drawn = [self._draw_restart(random) for random in generators]
        slots, ages, lengths, question, answers = (
            torch.stack(part, dim=1) for part in zip(*drawn, strict=True)
        )
        chosen, slots, question = chosen_rows(self.encoded.sentences, slots, question)
        draws = EpochBatches(slots, ages, lengths, question, chosen, answers)
        return EpochBatches(*(part.to(self.encoded.answers.device) for part in draws))

    def _draw_restart(self, random: np.random.Generator) -> tuple[Tensor, ...]:
        count, size = len(self.encoded.answers), self.recipe.batch_size
        numbers = random.integers(0, count, self.steps * size)
        slots, question, answers = self._told(numbers, random)
        lengths = self.encoded.lengths.cpu()[torch.from_numpy(numbers)]
        if self.recipe.noise == "none":
            age = ages(lengths, slots.shape[-1])
        else:
            share = self.recipe.noise_share
            drawn, reach = draw_ages(lengths.numpy(), slots.shape[-1], share, random)
            if self.recipe.noise == "time":
                age = with_time_noise(drawn, self.memory_slots)
            else:
                slots, age, lengths = with_empty_memories(slots, drawn, reach, self.memory_slots)
        parts = (slots, age, lengths, question, answers)
        return tuple(part.view(self.steps, size, *part.shape[1:]) for part in parts)

    def _told(
        self, numbers: np.ndarray, random: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Slots, questions and answers of some examples."""
        if self.exchange is not None:
            return self.exchange.draw(numbers, random)
        rows, encoded = torch.from_numpy(numbers), self.encoded
        parts = (encoded.slots, encoded.question, encoded.answers)
        slots, question, answers = (part.cpu()[rows] for part in parts)
        return slots, question, answers
