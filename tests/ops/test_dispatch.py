"""The choice between the raw and the projected form, on both sides of the crossing."""

from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor

from memhop.nn.hops import MultiHop
from memhop.ops import Hop, Quantized, Table, dispatch, forms, multi_hop
from memhop.ops.call import OF_ONE_DTYPE, Call
from memhop.ops.checks import check_multi_hop
from memhop.ops.inputs import Memory


def hops_of(memory_dim: int, input_dim: int, num_hops: int, tying: str = "none") -> list[Hop]:
    def table() -> Table:
        return Table(torch.zeros(memory_dim, input_dim))

    if tying == "adjacent":
        return [Hop(a, c) for a, c in pairwise(table() for _ in range(num_hops + 1))]
    if tying == "layerwise":
        return [Hop(table(), table())] * num_hops
    return [Hop(table(), table()) for _ in range(num_hops)]


def cheaper_form(
    num_queries: int, memories: Tensor, hops: list[Hop], slots: Tensor | None = None
) -> str:
    assert hops[0].a.weight is not None
    query = torch.zeros(num_queries, hops[0].a.weight.shape[0])
    memory, num_slots = Memory(memories, slots=slots), memories.shape[-2]
    precision = OF_ONE_DTYPE[torch.float32]
    call = Call(query, memory, hops, (num_queries,), num_slots, precision)
    return dispatch.cheaper_form(num_queries, call)


def chosen(num_queries: int, memories: tuple[int, ...], hops: list[Hop]) -> str:
    return cheaper_form(num_queries, torch.empty(memories, device="meta"), hops)


def test_each_query_with_its_own_memory_reads_it_raw() -> None:
    assert chosen(32, (32, 1000, 128), hops_of(128, 128, 3)) == "eager"
    assert chosen(1, (200000, 128), hops_of(128, 128, 3)) == "eager"
    assert chosen(32, (32, 10, 16), hops_of(16, 16, 3)) == "eager"


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
            assert form == ("project" if projects else "eager"), (queries, memories, memory_dim)
            forms.add(form)
    assert forms == {"project", "eager"}


def test_equal_sizes_project_from_more_queries_than_slots() -> None:
    hops = hops_of(64, 64, 3)
    assert chosen(10, (10, 64), hops) == "eager"
    assert chosen(11, (10, 64), hops) == "project"


def test_a_small_memory_dim_alone_does_not_project() -> None:
    hops = hops_of(16, 512, 3)
    assert chosen(32, (32, 1000, 512), hops) == "eager"  # each query has its own memory
    assert chosen(16, (1000, 512), hops) == "eager"
    assert chosen(17, (1000, 512), hops) == "project"


@pytest.mark.parametrize("tying", ["layerwise", "adjacent"])
def test_weights_that_hops_share_project_once(tying: str) -> None:
    assert chosen(8, (10, 64), hops_of(64, 64, 4)) == "eager"
    assert chosen(8, (10, 64), hops_of(64, 64, 4, tying)) == "project"


def test_slots_count_as_the_cheaper_way_to_read_them() -> None:
    hops, bank = hops_of(64, 64, 1), torch.zeros(10, 64)
    slots = torch.zeros(20, 10000, dtype=torch.long)
    assert cheaper_form(20, bank, hops, slots) == "project"
    assert cheaper_form(20, torch.zeros(9000, 64), hops, slots[:, :50]) == "eager"


@pytest.mark.parametrize(("num_queries", "projects"), [(9, False), (11, True)])
def test_auto_makes_a_projected_memory_only_where_that_is_cheaper(
    num_queries: int, projects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def spy(name: str) -> None:
        form = forms.FORMS[name]

        def call(*args: Any) -> Any:
            called.append(name)
            return form(*args)

        monkeypatch.setitem(forms.FORMS, name, call)

    for name in ("eager", "project"):
        spy(name)
    query: Tensor = torch.zeros(num_queries, 64)
    multi_hop(query, torch.zeros(10, 64), hops_of(64, 64, 1))
    assert called == (["project"] if projects else ["eager"])


def auto_form(
    batch: int, slots: int, columns: int, num_hops: int, memory: Memory, grad: bool = False
) -> str:
    hops = hops_of(columns, columns, num_hops)
    for hop in hops:
        assert hop.a.weight is not None
        hop.a.weight.requires_grad_(grad)
    query = torch.zeros(batch, columns)
    precision = OF_ONE_DTYPE[torch.float32]
    return dispatch.cheapest_form(Call(query, memory, hops, (batch,), slots, precision))


def empty(*sizes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers of any value, for a memory that is never read."""
    return torch.empty(1, dtype=dtype).expand(*sizes)


@pytest.mark.parametrize("grad", [False, True])
def test_one_operation_for_all_hops_is_taken_from_a_size_on(grad: bool) -> None:
    worth = dispatch.WORTH_FUSING_WITH_GRADIENT if grad else dispatch.WORTH_FUSING
    slots = worth // (2 * 2 * 64 * 16)  # two hops
    for more, form in ((-1, "eager"), (0, "fused")):
        memory = Memory(empty(16, slots + more, 64))
        assert auto_form(16, slots + more, 64, 2, memory, grad) == form


def test_large_weights_and_few_slots_a_row_are_left_to_matrix_products() -> None:
    rows, size = dispatch.MANY_ROWS, 16 * dispatch.LARGE_DIM
    slots = int(dispatch.MIN_SLOTS_TO_DIM * size)
    for num_rows, num_slots, columns, form in (
        (rows, slots, size, "fused"), (rows, slots - 1, size, "eager"),
        (rows - 1, slots - 1, size, "fused"), (rows, 3, dispatch.LARGE_DIM - 1, "fused"),
    ):  # fmt: skip
        memory = Memory(empty(num_rows, num_slots, columns))
        assert auto_form(num_rows, num_slots, columns, 2, memory) == form


def test_without_gradients_being_recorded_none_are_counted_on() -> None:
    assert dispatch.WORTH_FUSING_WITH_GRADIENT < dispatch.WORTH_FUSING
    slots = dispatch.WORTH_FUSING // (2 * 2 * 64 * 16) - 1  # two hops
    memory = Memory(empty(16, slots, 64))
    assert auto_form(16, slots, 64, 2, memory, grad=True) == "fused"
    with torch.no_grad():
        assert auto_form(16, slots, 64, 2, memory, grad=True) == "eager"


def test_numbers_of_another_type_are_fused_as_those_of_the_query() -> None:
    slots = dispatch.WORTH_FUSING // (2 * 2 * 64 * 16)
    half = Memory(empty(16, slots, 64, dtype=torch.bfloat16))
    assert auto_form(16, slots, 64, 2, half) == "fused"
    whole = Quantized(empty(16, slots, 64, dtype=torch.int8), torch.ones(16, slots))
    assert auto_form(16, slots, 64, 2, Memory(whole)) == "fused"


def test_a_shared_memory_is_cut_into_blocks_from_a_number_of_scores_on() -> None:
    slots = dispatch.WORTH_CUTTING_INTO_BLOCKS // 64
    assert auto_form(64, slots, 64, 1, Memory(empty(slots, 64))) == "fused"
    assert auto_form(64, slots - 1, 64, 1, Memory(empty(slots - 1, 64))) == "eager"


def test_a_large_shared_memory_that_flash_attention_cannot_read_is_read_in_blocks() -> None:
    query, size = torch.randn(2048, 16), 2048
    layer = MultiHop(16, 16, 2).requires_grad_(False)
    rows, hops = torch.randn(size, 16), layer.as_hops()

    def form(memories: Tensor, need_weights: bool = False) -> str:
        call = check_multi_hop(query, Memory(memories), hops)
        return dispatch.cheapest_form(call._replace(is_plain=True), need_weights)

    assert form(rows) == "eager"
    assert form(rows.T.contiguous().T) == "fused"
    assert form(rows, need_weights=True) == "fused"
    layer.get_parameter("1.embed_a.weight").requires_grad_()
    assert form(rows) == "fused"


def test_a_bank_is_scored_whole_where_it_is_small() -> None:
    slots = torch.zeros(64, 500, dtype=torch.long)
    assert auto_form(64, 500, 128, 2, Memory(empty(5000, 128), slots=slots)) == "fused"
    assert auto_form(64, 500, 128, 2, Memory(empty(600, 128), slots=slots)) != "fused"
    assert auto_form(1, 500, 128, 2, Memory(empty(5000, 128), slots=slots[:1])) == "eager"
