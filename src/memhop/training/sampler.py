"""Sample the batches of one epoch: examples with replacement, time noise, phrase-swap augmentation.

Time noise (section 4.1 of the paper, "RN") draws b uniformly from 0..ceil(share n) for n sentences,
and n of the ages 1 to n + b, in order. With ``Recipe.noise`` ``time``, as in the authors' code, the
sentences take these ages; with ``empty``, as in the paper, the free ages become empty slots.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memhop.recipe import Recipe
from memhop.text.augmentation.sampling import PhraseSwap
from memhop.text.encoding import Encoded, Sentences, ages

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class EpochBatches(NamedTuple):
    """The batches of an epoch; each tensor starts with the axes [steps, R].

    Slots and questions are indices into ``chosen``, the rows of the bank that a step embeds; see
    `memhop.text.encoding.Batch`.
    """

    slots: Tensor
    ages: Tensor
    lengths: Tensor
    question: Tensor
    chosen: Tensor
    answers: Tensor


class EpochSampler:
    """Samples the batches of an epoch.

    Args:
        encoded: the examples.
        recipe: settings, of which ``batch_size``, ``min_steps``, ``noise`` and ``noise_share`` are
            used.
        memory_slots: the largest number of slots.
        phrase_swap: augmentation; None for none.

    Attributes:
        active: for each class of the augmentation whether it is exchanged; None for all.
    """

    def __init__(
        self,
        encoded: Encoded,
        recipe: Recipe,
        memory_slots: int,
        phrase_swap: PhraseSwap | None = None,
    ) -> None:
        self.encoded, self.phrase_swap = encoded, phrase_swap
        self.active: Sequence[bool] | None = None
        self.recipe, self.memory_slots = recipe, memory_slots
        self.steps = max(recipe.min_steps, len(encoded.answers) // recipe.batch_size)

    def sample(
        self, generators: Sequence[np.random.Generator], probabilities: Floats | None = None
    ) -> EpochBatches:
        """Return the batches of one epoch of restarts, each sampled by its own generator.

        Args:
            generators: of the R restarts.
            probabilities: of each example for each restart, [R, E]; None for equal ones.
        """
        rows = [None] * len(generators) if probabilities is None else probabilities
        sampled = [
            self._sample_restart(random, row) for random, row in zip(generators, rows, strict=True)
        ]
        slots, ages, lengths, question, answers = (
            torch.stack(tensors, dim=1) for tensors in zip(*sampled, strict=True)
        )
        chosen, slots, question = chosen_rows(self.encoded.sentences, slots, question)
        batches = EpochBatches(slots, ages, lengths, question, chosen, answers)
        return EpochBatches(*(tensor.to(self.encoded.answers.device) for tensor in batches))

    def _sample_restart(
        self, random: np.random.Generator, probabilities: Floats | None
    ) -> tuple[Tensor, ...]:
        count, size = len(self.encoded.answers), self.recipe.batch_size
        if probabilities is None:
            numbers = random.integers(0, count, self.steps * size)
        else:
            numbers = random.choice(count, self.steps * size, p=probabilities)
        slots, question, answers = self._examples(numbers, random)
        lengths = self.encoded.lengths.cpu()[torch.from_numpy(numbers)]
        if self.recipe.noise == "none":
            age = ages(lengths, slots.shape[-1])
        else:
            share = self.recipe.noise_share
            noisy, max_age = sample_ages(lengths.numpy(), slots.shape[-1], share, random)
            if self.recipe.noise == "time":
                age = with_time_noise(noisy, self.memory_slots)
            else:
                slots, age, lengths = with_empty_slots(slots, noisy, max_age, self.memory_slots)
        tensors = (slots, age, lengths, question, answers)
        return tuple(tensor.view(self.steps, size, *tensor.shape[1:]) for tensor in tensors)

    def _examples(
        self, numbers: Integers, random: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return slots, questions and answers of examples."""
        if self.phrase_swap is not None:
            return self.phrase_swap.sample(numbers, random, self.active)
        rows, encoded = torch.from_numpy(numbers), self.encoded
        tensors = (encoded.slots, encoded.question, encoded.answers)
        slots, question, answers = (tensor.cpu()[rows] for tensor in tensors)
        return slots, question, answers


def sample_ages(
    lengths: Integers, width: int, share: float, random: np.random.Generator
) -> tuple[Integers, Integers]:
    """Return ages [E, width] of ``lengths`` [E] sentences, oldest first, 0 beyond; and n + b [E].

    Each choice of n of the ages 1 to n + b is equally likely.
    """
    free = random.integers(0, np.ceil(lengths * share).astype(np.int64), endpoint=True)
    max_age, example = lengths + free, np.arange(len(lengths))
    uniform = random.random((int(max_age.max(initial=0)), len(lengths)))
    sampled = np.zeros((len(lengths), width), dtype=np.int64)
    left = lengths.copy()  # sentences without an age; the newest of them is next
    for age, chances in enumerate(uniform, start=1):
        example = example[left[example] > 0]
        # of the ages from this one on, those to take are equally likely
        taken = example[chances[example] * (max_age[example] - age + 1) < left[example]]
        left[taken] -= 1
        sampled[taken, left[taken]] = age
    return sampled, max_age


def with_time_noise(sampled: Integers, max_age: int) -> Tensor:
    """Return sampled ages cut to the largest age of the model, as in the authors' code."""
    return torch.from_numpy(np.minimum(sampled, max_age))


def with_empty_slots(
    slots: Tensor, sampled: Integers, max_age: Integers, num_slots: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return slots, ages and lengths with an empty slot at each free age up to ``max_age`` [E].

    Only the newest ``num_slots`` slots are kept.

    >>> slots, sampled = torch.tensor([[7, 8, 0]]), np.array([[4, 2, 0]])
    >>> with_empty_slots(slots, sampled, np.array([4]), num_slots=5)
    (tensor([[7, 0, 8, 0, 0]]), tensor([[4, 3, 2, 1, 0]]), tensor([4]))
    """
    max_age = np.minimum(max_age, num_slots)
    example, slot = np.nonzero((sampled > 0) & (sampled <= num_slots))
    noisy = torch.zeros(len(slots), num_slots, dtype=slots.dtype)
    noisy[example, max_age[example] - sampled[example, slot]] = slots[example, slot]
    age = np.maximum(max_age[:, None] - np.arange(num_slots), 0)
    return noisy, torch.from_numpy(age), torch.from_numpy(max_age)


def chosen_rows(
    sentences: Sentences, slots: Tensor, question: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distinct sentences of batches, so that a step embeds only these.

    Args:
        sentences: the bank.
        slots: [..., B, N] rows of the bank, on the CPU.
        question: [..., B] rows of the bank, on the CPU.

    Returns:
        ``chosen`` [..., U], padded with row 0 before the ages at its end, and slots and question
        as indices into it.
    """
    from memhop.ops.text.distinct_cpu import distinct  # numba takes half a second to import

    axes, count = question.shape[:-1], sentences.num_sentences
    sizes = slots.shape[-2:].numel(), question.shape[-1]
    parts = slots.reshape(axes.numel(), sizes[0]), question.reshape(axes.numel(), sizes[1])
    numbers, indices = distinct(count, *(part.numpy() for part in parts))
    chosen = torch.from_numpy(numbers)
    every_age = torch.arange(count, len(sentences)).expand(len(chosen), -1)
    return (
        torch.cat([chosen, every_age], dim=1).view(*axes, -1),
        torch.from_numpy(indices[0]).view(slots.shape),
        torch.from_numpy(indices[1]).view(question.shape),
    )
