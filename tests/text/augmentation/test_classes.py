"""A class samples the products of its swaps, each equally often."""

from itertools import permutations

import numpy as np
import pytest

from memhop.text.augmentation.classes import PhraseClass, Swap, coset_chain, split_by


def swap(*pairs: str) -> Swap:
    return tuple(((pair[0],), (pair[1],)) for pair in pairs)


def elements(generators: list[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """All products, by repeated multiplication: the oracle."""
    found = {tuple(range(len(generators[0])))}
    new = list(found)
    while new:
        element = new.pop()
        for generator in generators:
            product = tuple(element[i] for i in generator)
            if product not in found:
                found.add(product)
                new.append(product)
    return found


DIRECTIONS = PhraseClass((swap("lr"), swap("la", "rb")))
LINKED = PhraseClass((swap("aA", "xX"), swap("ab", "xy")))


def test_free_phrases_have_all_permutations() -> None:
    free = PhraseClass.of_group((("a",), ("b",), ("c",), ("d",)))
    sampled = set(map(tuple, free.sample(2000, np.random.default_rng(0)).tolist()))
    assert sampled == set(permutations(range(4)))
    assert free.orbits == (free.phrases,)


def test_the_four_directions_have_eight_permutations() -> None:
    sampled = set(map(tuple, DIRECTIONS.sample(500, np.random.default_rng(0)).tolist()))
    assert len(sampled) == 8
    index = {phrase[0]: i for i, phrase in enumerate(DIRECTIONS.phrases)}
    for row in sampled:
        assert {row[index["l"]], row[index["r"]]} in (
            {index["l"], index["r"]},
            {index["a"], index["b"]},
        )


def test_linked_phrases_move_together() -> None:
    assert [{p[0] for p in orbit} for orbit in LINKED.orbits] == [set("aAb"), set("xXy")]
    sampled = LINKED.sample(300, np.random.default_rng(1))
    partner = {"a": "x", "A": "X", "b": "y"}
    name = [phrase[0] for phrase in LINKED.phrases]
    for row in sampled.tolist():
        new = {name[i]: name[j] for i, j in enumerate(row)}
        assert all(new[partner[one]] == partner[new[one]] for one in partner)
    assert len(set(map(tuple, sampled.tolist()))) == 6


@pytest.mark.parametrize("seed", range(20))
def test_every_element_of_a_random_group_is_equally_likely(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 7))
    generators = random.permuted(np.tile(np.arange(n), (int(random.integers(1, 3)), 1)), axis=1)
    group = elements(list(map(tuple, generators.tolist())))
    chain = coset_chain(generators)
    assert np.prod([len(level) for level in chain], dtype=int) == len(group)
    products = [tuple(range(n))]
    for level in chain:
        products = [tuple(p[i] for i in row) for p in products for row in level.tolist()]
    assert set(products) == group  # as many as the group has, so each is made once


def test_a_chain_of_twenty_free_phrases_is_complete() -> None:
    free = PhraseClass.of_group(tuple((str(i),) for i in range(20)))
    assert [len(level) for level in free.cosets] == list(range(20, 1, -1))


def test_known_phrases_are_found_longest_first() -> None:
    known = [("to", "the"), ("to", "the", "left"), ("left",)]
    words = ["to", "the", "left", "of", "to", "the"]
    assert split_by(words, known) == (("to", "the", "left"), ("of",), ("to", "the"))
    assert split_by([], known) == ()
