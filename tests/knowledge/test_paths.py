"""Supports of facts, compared with an enumeration of all paths."""

from collections import defaultdict

import numpy as np
import pytest

from memhop.knowledge.paths import HopReads, supports

from ..seeds import seeds

Path = tuple[int, ...]  # the number of a fact of each hop


def random_hops(seed: int, num_hops: int) -> list[HopReads]:
    """Return hops, each from some of the entities that the one before reached."""
    rng = np.random.default_rng(seed)
    hops: list[HopReads] = []
    starts = rng.permutation(6)[:2]
    for _ in range(num_hops):
        count = int(rng.integers(1, 9))
        weights = rng.random(count) * (rng.random(count) < 0.9)
        weights[0] += 0.1
        one = HopReads(rng.choice(starts, count), rng.integers(0, 6, count), weights)
        hops.append(one)
        starts = np.unique(one.targets[one.weights > 0])
    return hops


def paths_to(hops: list[HopReads], answer: int) -> dict[Path, float]:
    """Return the weight of each path to an answer: the product of p given the start of each fact.

    The weight of a fact, given that its path is at its start, is p divided by the sum of p of the
    facts of the hop before that end there.
    """
    found: dict[Path, float] = {(): 1.0}
    for k, hop in enumerate(hops):
        longer: dict[Path, float] = {}
        for path, weight in found.items():
            for fact, (start, p) in enumerate(zip(hop.starts, hop.weights, strict=True)):
                if k == 0:
                    longer[*path, fact] = p
                elif hops[k - 1].targets[path[-1]] == start:
                    before = hops[k - 1]
                    into = before.weights[before.targets == start].sum()
                    longer[*path, fact] = weight * p / into if into else 0.0
        found = longer
    return {path: w for path, w in found.items() if hops[-1].targets[path[-1]] == answer and w > 0}


@pytest.mark.parametrize("num_hops", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", seeds(8, 200))
def test_supports_are_the_shares_of_the_paths_through_each_fact(seed: int, num_hops: int) -> None:
    hops = random_hops(seed, num_hops)
    for answer in np.unique(hops[-1].targets[hops[-1].weights > 0]).tolist():
        paths = paths_to(hops, answer)
        total = sum(paths.values())
        found = supports(hops, np.array([answer]), np.ones(1))
        for k, support in enumerate(found):
            through: dict[int, float] = defaultdict(float)
            for path, weight in paths.items():
                through[path[k]] += weight / total
            expected = [through[fact] for fact in range(len(support))]
            np.testing.assert_allclose(support, expected, rtol=1e-9, atol=1e-12)
            assert support.sum() == pytest.approx(1)


def test_two_facts_between_the_same_entities_share_the_support() -> None:
    hop = HopReads(np.array([0, 0, 0]), np.array([1, 1, 2]), np.array([0.3, 0.1, 0.6]))
    [support] = supports([hop], np.array([1]), np.ones(1))
    np.testing.assert_allclose(support, [0.75, 0.25, 0])


@pytest.mark.parametrize("seed", seeds(4, 100))
def test_supports_of_several_answers_add_up(seed: int) -> None:
    hops = random_hops(seed, 3)
    answers = np.unique(hops[-1].targets[hops[-1].weights > 0])
    shares = np.arange(1.0, len(answers) + 1)
    each = [supports(hops, np.array([answer]), np.ones(1)) for answer in answers]
    for k, together in enumerate(supports(hops, answers, shares)):
        right = sum(share * one[k] for share, one in zip(shares, each, strict=True))
        np.testing.assert_allclose(together, right, rtol=1e-9, atol=1e-12)
