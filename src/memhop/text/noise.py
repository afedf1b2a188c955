"""Random noise on the memory while training (section 4.1 of the paper, "RN").

Both forms draw the same thing: of n + b ages, b uniform in 0..ceil(share n), the n that the
sentences take, in order. The authors' code gives the sentences those ages and leaves it there
(``time``); the paper makes the ages left free empty memories (``empty``).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]


def draw_ages(
    lengths: Integers, width: int, share: float, random: np.random.Generator
) -> tuple[Integers, Integers]:
    """Ages [E, width] of ``lengths`` [E] sentences, oldest first, 0 beyond; and n + b [E].

    Of the ages 1..n + b each choice of n is equally likely.
    """
    free = random.integers(0, np.ceil(lengths * share).astype(np.int64), endpoint=True)
    reach, example = lengths + free, np.arange(len(lengths))
    chance = random.random((int(reach.max(initial=0)), len(lengths)))
    drawn = np.zeros((len(lengths), width), dtype=np.int64)
    left = lengths.copy()  # sentences that have no age yet, the newest of them next
    for age, chances in enumerate(chance, start=1):
        # of the ages from this one on, each that is left is as likely as the others
        taken = (left > 0) & (chances * (reach - age + 1) < left)
        drawn[example[taken], left[taken] - 1] = age
        left -= taken
    return drawn, reach


def with_time_noise(drawn: Integers, largest: int) -> Tensor:
    """Ages as the authors' code has them: what is beyond the memory shares the last age."""
    return torch.from_numpy(np.minimum(drawn, largest))


def with_empty_memories(
    slots: Tensor, drawn: Integers, reach: Integers, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Slots, ages and lengths with an empty slot at each age up to ``reach`` [E] not taken.

    Only the newest ``most`` slots stay, as in a memory of that size.

    >>> slots, drawn = torch.tensor([[7, 8, 0]]), np.array([[4, 2, 0]])
    >>> with_empty_memories(slots, drawn, np.array([4]), most=5)
    (tensor([[7, 0, 8, 0, 0]]), tensor([[4, 3, 2, 1, 0]]), tensor([4]))
    """
    reach = np.minimum(reach, most)
    example, slot = np.nonzero((drawn > 0) & (drawn <= most))
    noisy = torch.zeros(len(slots), most, dtype=slots.dtype)
    place = reach[example] - drawn[example, slot]
    noisy[example, place] = slots[example, slot]
    age = np.maximum(reach[:, None] - np.arange(most), 0)
    return noisy, torch.from_numpy(age), torch.from_numpy(reach)
