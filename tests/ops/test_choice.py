"""The choice between the raw and the projected form, on both sides of the crossing."""

from fractions import Fraction
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from memhop import ops
from memhop.ops import Hop, Table, choice, multi_hop


def hops_of(memory_dim: int, input_dim: int, num_hops: int, tying: str = "none") -> list[Hop]:
    def table() -> Table:
        return Table(torch.zeros(memory_dim, input_dim))

    if tying == "adjacent":
        return [Hop(a, c) for a, c in pairwise(table() for _ in range(num_hops + 1))]
    if tying == "layerwise":
        return [Hop(table(), table())] * num_hops
    return [Hop(table(), table()) for _ in range(num_hops)]


def chosen(num_queries: int, memories: tuple[int, ...], hops: list[Hop]) -> str:
    return choice.cheaper_form(num_queries, torch.empty(memories, device="meta"), hops, None)


def test_each_query_with_its_own_memory_reads_it_raw() -> None:
    assert chosen(32, (32, 1000, 128), hops_of(128, 128, 3)) == "torch"
    assert chosen(1, (200000, 128), hops_of(128, 128, 3)) == "torch"
    assert chosen(32, (32, 10, 16), hops_of(16, 16, 3)) == "torch"


@pytest.mark.parametrize("tying", ["none", "adjacent", "layerwise"])
@pytest.mark.parametrize("num_hops", [1, 3])
@pytest.mark.parametrize("num_memories", [1, 3])
def test_the_crossing_is_where_the_documents_say(
    num_memories: int, num_hops: int, tying: str
) -> None:
    distinct = {"none": 2 * num_hops, "adjacent": num_hops + 1, "layerwise": 2}[tying]
    forms = set()
    for slots, memory_dim, input_dim in product((1, 10, 1000), (2, 64), (2, 64, 512)):
        hops = hops_of(memory_dim, input_dim, num_hops, tying)
        for queries in (1, 2, 3, 9, 11, 63, 73, 1100):  # of each memory
            rule = Fraction(1, slots) + Fraction(1, memory_dim) - Fraction(1, input_dim)
            projects = queries * rule > Fraction(distinct, 2 * num_hops)
            memories = (num_memories, slots, input_dim)
            form = chosen(num_memories * queries, memories, hops)
            assert form == ("project" if projects else "torch"), (queries, memories, memory_dim)
            forms.add(form)
    assert forms == {"project", "torch"}


def test_equal_sizes_project_from_more_queries_than_slots() -> None:
    hops = hops_of(64, 64, 3)
    assert chosen(10, (10, 64), hops) == "torch"
    assert chosen(11, (10, 64), hops) == "project"


def test_a_small_memory_dim_alone_does_not_project() -> None:
    hops = hops_of(16, 512, 3)
    assert chosen(32, (32, 1000, 512), hops) == "torch"  # each query has its own memory
    assert chosen(16, (1000, 512), hops) == "torch"
    assert chosen(17, (1000, 512), hops) == "project"


@pytest.mark.parametrize("tying", ["layerwise", "adjacent"])
def test_weights_that_hops_share_project_once(tying: str) -> None:
    assert chosen(8, (10, 64), hops_of(64, 64, 4)) == "torch"
    assert chosen(8, (10, 64), hops_of(64, 64, 4, tying)) == "project"


def test_slots_count_as_the_cheaper_way_to_read_them() -> None:
    hops, bank = hops_of(64, 64, 1), torch.zeros(10, 64)
    slots = torch.zeros(20, 10000, dtype=torch.long)
    assert choice.cheaper_form(20, bank, hops, slots) == "project"
    assert choice.cheaper_form(20, torch.zeros(9000, 64), hops, slots[:, :50]) == "torch"


@pytest.mark.parametrize(("num_queries", "projects"), [(9, False), (11, True)])
def test_auto_makes_a_projected_memory_only_where_that_is_cheaper(
    num_queries: int, projects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def spy(name: str) -> None:
        form = ops.FORMS[name]

        def call(*args: object, **options: object) -> object:
            called.append(name)
            return form(*args, **options)

        monkeypatch.setitem(ops.FORMS, name, call)

    for name in ("torch", "project"):
        spy(name)
    query: Tensor = torch.zeros(num_queries, 64)
    multi_hop(query, torch.zeros(10, 64), hops_of(64, 64, 1))
    assert called == (["project"] if projects else ["torch"])
