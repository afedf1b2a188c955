"""Pruning, membership and mixtures of frontiers."""

import itertools

import pytest
import torch

from memhop.ops.ragged.frontier import Frontier, is_in, mixture, prune, uniform_frontier


def drawn(seed: int) -> Frontier:
    torch.manual_seed(seed)
    counts = torch.randint(0, 9, (5,))
    nodes = torch.cat([torch.randperm(20)[: int(count)] for count in counts])
    offsets = torch.cat([torch.zeros(1).long(), counts.cumsum(0)])
    return Frontier(offsets, nodes, torch.rand(len(nodes), dtype=torch.float64))


def by_query(frontier: Frontier) -> list[dict[int, float]]:
    cuts = frontier.offsets.tolist()
    pairs = list(zip(frontier.nodes.tolist(), frontier.weights.tolist(), strict=True))
    return [dict(pairs[begin:end]) for begin, end in itertools.pairwise(cuts)]


def test_prune_keeps_the_largest_and_measures_the_rest() -> None:
    for seed in range(20):
        frontier = drawn(seed)
        kept, dropped = prune(frontier, 3, 0.3)
        for before, after, share in zip(
            by_query(frontier), by_query(kept), dropped.tolist(), strict=True
        ):
            total = sum(before.values())
            best = sorted(before, key=before.__getitem__, reverse=True)[:3]
            least = 0.3 * max(before.values(), default=0.0)
            assert set(after) == {node for node in best if before[node] >= least}
            assert all(before[node] == weight for node, weight in after.items())
            right = 1 - sum(after.values()) / total if total else 0.0
            assert abs(share - right) < 1e-12


def test_prune_of_equal_weights_keeps_the_first() -> None:
    kept, dropped = prune(uniform_frontier([(7, 5, 9, 1)]), 2)
    assert kept.nodes.tolist() == [7, 5]
    assert dropped.tolist() == [0.5]


def test_the_strongest_entries_stay_however_many_there_are() -> None:
    kept, dropped = prune(uniform_frontier([tuple(range(20_000))]), 64, 1e-4)
    assert kept.nodes.tolist() == list(range(64))
    assert dropped.tolist() == pytest.approx([1 - 64 / 20_000])


def test_a_dropped_weight_that_rounding_would_hide_is_measured() -> None:
    weights = torch.tensor([1.0, 1e-30, 2.0])
    frontier = Frontier(torch.tensor([0, 2, 3]), torch.tensor([4, 5, 6]), weights)
    assert prune(frontier, 5, 1e-4)[1].tolist() == pytest.approx([1e-30, 0], rel=1e-6, abs=0)


def test_prune_passes_gradients_to_what_it_keeps() -> None:
    weights = torch.tensor([0.2, 0.5, 0.3], requires_grad=True)
    kept, _ = prune(Frontier(torch.tensor([0, 3]), torch.tensor([4, 5, 6]), weights), 2)
    (kept.weights * torch.tensor([1.0, 2.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    assert weights.grad.tolist() == [0, 1, 2]


def test_nothing_dropped_is_exactly_zero() -> None:
    assert prune(drawn(1), 100)[1].tolist() == [0] * 5
    empty = uniform_frontier([(), ()])
    assert prune(empty, 3)[1].tolist() == [0, 0]


def test_membership_is_by_query() -> None:
    frontier = uniform_frontier([(1, 2), (2, 3)])
    found = is_in(frontier, torch.tensor([0, 1, 2]), torch.tensor([2, 1]), 4)
    assert found.tolist() == [False, True, False, False]


def test_mixture_adds_the_weights_of_a_node() -> None:
    for seed in range(10):
        frontiers = [drawn(2 * seed), drawn(2 * seed + 1)]
        shares = torch.rand(5, 2, dtype=torch.float64)
        for row, found in enumerate(by_query(mixture(frontiers, shares, 20))):
            right: dict[int, float] = {}
            for k, frontier in enumerate(frontiers):
                for node, weight in by_query(frontier)[row].items():
                    right[node] = right.get(node, 0) + float(shares[row, k]) * weight
            assert list(found) == sorted(right)
            assert all(abs(found[node] - right[node]) < 1e-15 for node in right)
