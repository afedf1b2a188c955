"""Hops of many queries over one memory, without gradients, against the formula in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from memhop import MultiHop
from memhop.ops import Hop, Table, multi_hop
from memhop.ops.blocked import one_memory
from memhop.ops.dispatch import WORTH_CUTTING_INTO_BLOCKS

SIZES = [  # queries, slots, columns: on both sides of each threshold
    (64, one_memory.MIN_SCORES // 64 - 1, 8),
    (64, one_memory.MIN_SCORES // 64, 8),
    (one_memory.FEW_QUERIES, one_memory.MIN_NUMBERS // 256, 256),
    (one_memory.FEW_QUERIES + 1, one_memory.MIN_NUMBERS // 256, 256),
    (256, WORTH_CUTTING_INTO_BLOCKS // 256 - 1, 6),
    (256, WORTH_CUTTING_INTO_BLOCKS // 256, 6),
    (64, WORTH_CUTTING_INTO_BLOCKS // 64 + 5, 6),  # in several parts
]


def drawn(queries: int, slots: int, width: int) -> tuple[Tensor, Tensor, list[Hop]]:
    """Return a query, a memory and two hops."""
    make = torch.Generator().manual_seed(0)

    def table() -> Table:
        weight = torch.randn(12, width, generator=make) / width**0.5
        return Table(weight, torch.randn(12, generator=make))

    query = torch.randn(queries, 12, generator=make)
    hops = [Hop(table(), table()), Hop(table(), table(), relu=True)]
    return query, torch.randn(slots, width, generator=make), hops


def wide(hops: list[Hop]) -> list[Hop]:
    """Return hops in float64."""
    tables = [[Table(*(t if t is None else t.double() for t in each)) for each in hop[:2]]
              for hop in hops]  # fmt: skip
    return [hop._replace(a=a, c=c) for hop, (a, c) in zip(hops, tables, strict=True)]


def two_products(query: Tensor, memories: Tensor, hops: list[Hop]) -> Tensor:
    """Return the result of two matrix products with the memory in each hop."""
    for hop in hops:
        a, (c, bias) = hop.a.weight, hop.c[:2]
        assert a is not None
        assert c is not None
        shares = (query @ a @ memories.mT).softmax(-1)
        query = query + functional.linear(shares @ memories, c, bias)
        query = query.relu() if hop.relu else query
    return query


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_shared_memory_equals_the_formula(sizes: tuple[int, int, int], threads: int) -> None:
    query, memories, hops = drawn(*sizes)
    expected = multi_hop(query.double(), memories.double(), wide(hops), impl="reference")
    in_torch = two_products(query, memories, hops)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = [multi_hop(query, memories, hops) for _ in range(2)]
        queries_of_two_axes = multi_hop(query[None], memories, hops)
    finally:
        torch.set_num_threads(before)
    assert isinstance(expected, Tensor)
    assert torch.equal(found[0], found[1])
    # for fewer than ten columns MKL adds all slots in order on some processors, and errs by more
    most = max(1e-6 * expected.norm(), 1.25 * (in_torch - expected).norm())
    for each in (found[0], queries_of_two_axes[0]):
        assert (each - expected).norm() <= most


def test_the_form_is_chosen_by_what_is_needed() -> None:
    queries, slots, width = SIZES[1]
    query, memories, hops = drawn(queries, slots, width)
    assert one_memory.pays(query, memories, hops)
    assert not one_memory.pays(query, memories[1:], hops)
    assert not one_memory.pays(query, memories.mT.contiguous().mT, hops)
    weight = hops[1].c.weight
    assert weight is not None
    weight.requires_grad_()
    assert not one_memory.pays(query, memories, hops)
    with torch.no_grad():
        assert one_memory.pays(query, memories, hops)
    result = multi_hop(query, memories, hops)
    assert isinstance(result, Tensor)
    (grad,) = torch.autograd.grad(result.sum(), weight)
    assert grad.isfinite().all()
    result, weights = multi_hop(query, memories, hops, need_weights=True)
    torch.testing.assert_close(weights.sum(-1), torch.ones(queries, 2))


@pytest.mark.parametrize("bad", ["query", "slot"])
def test_nan_reaches_the_queries_that_read_it(bad: str) -> None:
    query, memories, hops = drawn(*SIZES[1])
    (query if bad == "query" else memories)[-1, 2] = torch.nan
    assert one_memory.pays(query, memories, hops)
    rows = multi_hop(query, memories, hops).isnan().all(-1)
    assert rows.sum() == (1 if bad == "query" else len(query))


def test_transforms_and_compiled_functions_take_products() -> None:
    query, memories, hops = drawn(*SIZES[1])
    expected = multi_hop(query, memories, hops)
    mapped = torch.vmap(lambda row: multi_hop(row, memories, hops))(query)
    torch.testing.assert_close(mapped, expected)
    tangent = torch.func.jvp(lambda q: multi_hop(q, memories, hops), (query,), (query,))[1]
    assert tangent.isfinite().all()


def test_no_query_reads_a_large_memory() -> None:
    layer = MultiHop(64, 64, 1).requires_grad_(False)
    assert layer(torch.randn(0, 64), torch.randn(20_000, 64)).shape == (0, 64)


def test_scores_of_minus_infinity_give_nan_as_with_weights() -> None:
    layer = MultiHop(64, 64, 1, embed=False).requires_grad_(False)
    query, memories = torch.full((512, 64), 1e30), torch.full((600, 64), -1e30)
    assert layer(query, memories).isnan().all()
    assert layer(query, memories, need_weights=True)[0].isnan().all()
