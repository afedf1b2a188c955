"""Calls over a group equal those of one process that has all slots.

The bound of an error is relative to the largest number of a tensor, at least 1: 1e-12 in float64,
where the order of the sums over slots differs from that of one process, and 1e-5 in float32.
"""

import pytest
import torch

from tests.distributed.cases import STORES, Case, compare_all, compare_reads
from tests.distributed.ranks import Ranks

SIZES = [2, 3, 4]


def run_cases(
    ranks: Ranks, num_ranks: int, store: str, dtype: torch.dtype, seeds: list[int], bound: float
) -> None:
    found = ranks.run(compare_all, seeds, num_ranks, dtype, store, bound)
    for seed, outcomes in zip(seeds, zip(*found[:num_ranks], strict=True), strict=True):
        check(seed, num_ranks, outcomes)


@pytest.mark.parametrize("num_ranks", SIZES)
@pytest.mark.parametrize("store", STORES[:3])
@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_float64(ranks: Ranks, num_ranks: int, store: str, first: int) -> None:
    start = 1000 * first + 30 * STORES.index(store) + 10 * num_ranks
    seeds = list(range(start, start + (10 if first else 3)))
    run_cases(ranks, num_ranks, store, torch.float64, seeds, 1e-12)


@pytest.mark.parametrize("num_ranks", SIZES)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("first", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_float32(ranks: Ranks, num_ranks: int, store: str, first: int) -> None:
    start = 1000 * first + 30 * STORES.index(store) + 10 * num_ranks
    seeds = list(range(start, start + (8 if first else 2)))
    run_cases(ranks, num_ranks, store, torch.float32, seeds, 1e-5)


def check(seed: int, num_ranks: int, outcomes: tuple[tuple[bytes, bytes, dict, dict], ...]) -> None:  # type: ignore[type-arg]
    """Check that all ranks have the same bits, and the number of collectives."""
    results, grads, forward, backward = zip(*outcomes, strict=True)
    assert len({*results}) == 1
    assert len({*grads}) == 1
    hops = Case(seed, num_ranks, torch.float64, "tensor").options["hops"]
    is_aged = any(hop.a.temporal is not None or hop.c.temporal is not None for hop in hops)
    # one message a hop; with ages, one more that has the numbers of readable slots
    assert list(forward) == [{"all_gather": len(hops) + is_aged}] * num_ranks
    # of the query's gradient, and with gradients of the weights one of their sum
    num_sums = sum(1 + hop.softmax for hop in hops)
    assert list(backward) == [{"all_reduce": num_sums}] * num_ranks


@pytest.mark.parametrize("seed", range(6))
def test_reads(ranks: Ranks, seed: int) -> None:
    ranks.run(compare_reads, seed, SIZES[seed % 3])
