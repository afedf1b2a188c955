"""The noise on the memory: which ages are drawn, how often, and what becomes of them."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from memhop.training.sampler import sample_ages, with_empty_slots, with_time_noise


def drawn(lengths: list[int], share: float, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    random = np.random.default_rng(seed)
    return sample_ages(np.array(lengths, dtype=np.int64), max(lengths, default=0), share, random)


def test_every_choice_of_ages_is_equally_likely() -> None:
    """Of n = 3 sentences and b in 0..2: each b, and then each subset of 1..3+b, alike."""
    count = 60_000
    ages, reach = drawn([3] * count, 0.6)
    seen = Counter(zip(reach.tolist(), map(tuple, ages.tolist()), strict=True))
    expected = {}
    for b in range(3):
        subsets = list(itertools.combinations(range(1, 4 + b), 3))
        for subset in subsets:
            expected[(3 + b, subset[::-1])] = count / 3 / len(subsets)
    assert set(seen) == set(expected)
    chi_square = sum((seen[key] - wanted) ** 2 / wanted for key, wanted in expected.items())
    assert chi_square < 33.4  # 1 + 4 + 10 outcomes, 14 degrees of freedom, p = 0.0025


cases = st.lists(st.integers(0, 40), max_size=8)
shares = st.sampled_from([0, 0.03, 0.1, 0.5, 1])


@given(cases, shares, st.integers(0, 99))
def test_ages_fall_from_the_oldest_to_the_newest(
    lengths: list[int], share: float, seed: int
) -> None:
    ages, reach = drawn(lengths, share, seed)
    for row, length, most in zip(ages.tolist(), lengths, reach.tolist(), strict=True):
        assert 0 <= most - length <= math.ceil(length * share)
        taken = row[:length]
        assert taken == sorted(set(taken), reverse=True)
        assert all(1 <= age <= most for age in taken)
        assert not any(row[length:])


def test_the_number_of_free_ages_reaches_both_ends() -> None:
    for length, share in ((10, 0.1), (11, 0.1), (50, 0.1), (4, 1.0)):
        _, reach = drawn([length] * 400, share)
        assert set(reach - length) == set(range(math.ceil(share * length) + 1))


def test_without_a_share_the_ages_are_in_order() -> None:
    ages, reach = drawn([4, 1, 0], 0)
    assert ages.tolist() == [[4, 3, 2, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert reach.tolist() == [4, 1, 0]


def test_the_same_generator_draws_the_same() -> None:
    first, second, other = drawn([9] * 50, 0.3, 1), drawn([9] * 50, 0.3, 1), drawn([9] * 50, 0.3, 2)
    assert (first[0] == second[0]).all()
    assert (first[0] != other[0]).any()


def test_time_noise_shares_the_last_age_beyond_the_memory() -> None:
    ages = np.array([[7, 5, 3, 1], [6, 2, 0, 0]])
    assert with_time_noise(ages, 5).tolist() == [[5, 5, 3, 1], [5, 2, 0, 0]]


@given(cases, shares, st.integers(1, 45), st.integers(0, 99))
def test_empty_memories_stand_at_the_ages_left_free(
    lengths: list[int], share: float, most: int, seed: int
) -> None:
    lengths = [min(length, most) for length in lengths]
    ages, reach = drawn(lengths, share, seed)
    slots = torch.tensor(
        [[100 * row + n + 1 if n < length else 0 for n in range(ages.shape[1])]
         for row, length in enumerate(lengths)]
    ).view(len(lengths), ages.shape[1]).long()  # fmt: skip
    noisy, age, used = with_empty_slots(slots, ages, reach, most)
    assert noisy.shape == age.shape == (len(lengths), most)
    for row, length in enumerate(lengths):
        wide = int(used[row])
        assert wide == min(int(reach[row]), most)
        assert age[row].tolist() == [*range(wide, 0, -1), *[0] * (most - wide)]
        assert not noisy[row, wide:].any()
        at_age = dict(zip(ages[row, :length].tolist(), slots[row, :length].tolist(), strict=True))
        wanted = [at_age.get(one, 0) for one in range(wide, 0, -1)]
        assert noisy[row, :wide].tolist() == wanted


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_no_sentence_draws_nothing(lengths: list[int]) -> None:
    ages, reach = drawn(lengths, 0.5)
    assert ages.shape == (len(lengths), 0)
    slots = torch.zeros(len(lengths), 0).long()
    noisy, age, used = with_empty_slots(slots, ages, reach, 4)
    assert not noisy.any()
    assert not age.any()
    assert not used.any()
