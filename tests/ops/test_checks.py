"""The words of the errors, and that they come before any work."""

# ruff: noqa: E501  (an error is one line)

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from memhop.ops import Hop, Quantized, Table, checks, multi_hop, read
from memhop.ops.call import FLOATING, common_case
from memhop.ops.inputs import Memory

QUERY, KEYS = torch.zeros(4, 5), torch.zeros(4, 7, 5)
MASK = torch.zeros(4, 7, dtype=torch.bool)
SLOTS = torch.zeros(4, 6, dtype=torch.long)
LENGTHS = torch.tensor([0, 7, 3, 1])
INT8 = Quantized(torch.zeros(4, 7, 5, dtype=torch.int8), torch.ones(4, 7))
CAME_INT8 = ", got query [4, 5] float32 on cpu, keys Quantized [4, 7, 5] int8 on cpu with scale [4, 7] float32 on cpu"
ONE_DTYPE = "one dtype, or float32 with memories in bfloat16 or float16 (other mixtures only under torch.autocast)"
CAME = ", got query [4, 5] float32 on cpu, keys [4, 7, 5] float32 on cpu"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"impl": "fast"}, "read expected impl to be one of 'auto', 'fused', 'eager', 'project', 'reference', got 'fast'"),
        ({"query": QUERY[:, :3]}, "read expected query [..., I] and keys [..., N, I] with equal I, got query [4, 3] float32 on cpu, keys [4, 7, 5] float32 on cpu"),
        ({"query": torch.zeros(())}, "read expected query [..., I] and keys [..., N, I] with equal I, got query [] float32 on cpu, keys [4, 7, 5] float32 on cpu"),
        ({"keys": KEYS[0, 0]}, "read expected query [..., I] and keys [..., N, I] with equal I, got query [4, 5] float32 on cpu, keys [5] float32 on cpu"),
        ({"query": QUERY[:3]}, "read expected leading axes that broadcast together, got query [3, 5] float32 on cpu, keys [4, 7, 5] float32 on cpu"),
        ({"values": KEYS[:, :6]}, f"read expected values [..., N, V] with the N of the keys{CAME}, values [4, 6, 5] float32 on cpu"),
        ({"padding_mask": MASK.int()}, f"read expected a padding mask of bool (True = ignore that slot){CAME}, padding_mask [4, 7] int32 on cpu"),
        ({"padding_mask": MASK[:, :6]}, f"read expected padding_mask [4, 7], or one that broadcasts to it over the batch{CAME}, padding_mask [4, 6] bool on cpu"),
        ({"padding_mask": MASK[:3]}, f"read expected padding_mask [4, 7], or one that broadcasts to it over the batch{CAME}, padding_mask [3, 7] bool on cpu"),
        ({"padding_mask": MASK[None]}, f"read expected padding_mask [4, 7], or one that broadcasts to it over the batch{CAME}, padding_mask [1, 4, 7] bool on cpu"),
        ({"score_bias": torch.zeros(4, 1)}, f"read expected score_bias [4, 7], or one that broadcasts to it over the batch{CAME}, score_bias [4, 1] float32 on cpu"),
        ({"query": QUERY.double()}, "read expected one dtype, or float32 with memories in bfloat16 or float16 (other mixtures only under torch.autocast), got query [4, 5] float64 on cpu, keys [4, 7, 5] float32 on cpu"),
        ({"keys": KEYS.int()}, "read expected float32, float64, bfloat16 or float16, got query [4, 5] float32 on cpu, keys [4, 7, 5] int32 on cpu"),
        ({"keys": KEYS.to("meta")}, "read expected all tensors on one device, got query [4, 5] float32 on cpu, keys [4, 7, 5] float32 on meta"),
        ({"keys": KEYS.numpy()}, "read expected tensors, got query [4, 5] float32 on cpu, keys of type ndarray"),
        ({"query": None}, "read expected tensors, got query of type NoneType, keys [4, 7, 5] float32 on cpu"),
        ({"keys": None}, "read expected tensors, got query [4, 5] float32 on cpu, keys of type NoneType"),
        ({"slots": SLOTS.float()}, f"read expected slots [..., N] of integers{CAME}, slots [4, 6] float32 on cpu"),
        ({"slots": SLOTS.bool()}, f"read expected slots [..., N] of integers{CAME}, slots [4, 6] bool on cpu"),
        ({"slots": SLOTS + 7}, f"read expected slots from 0 to 6 (they are from 7 to 7){CAME}, slots [4, 6] int64 on cpu"),
        ({"lengths": LENGTHS.float()}, f"read expected lengths [...] of integers{CAME}, lengths [4] float32 on cpu"),
        ({"lengths": LENGTHS > 0}, f"read expected lengths [...] of integers{CAME}, lengths [4] bool on cpu"),
        ({"lengths": 3}, f"read expected tensors{CAME}, lengths of type int"),
        ({"lengths": LENGTHS[:3]}, f"read expected lengths [4], or ones that broadcast to it{CAME}, lengths [3] int64 on cpu"),
        ({"lengths": LENGTHS[:, None]}, f"read expected lengths [4], or ones that broadcast to it{CAME}, lengths [4, 1] int64 on cpu"),
        ({"lengths": LENGTHS + 1}, f"read expected lengths from 0 to 7 (they are from 1 to 8){CAME}, lengths [4] int64 on cpu"),
        ({"lengths": LENGTHS - 1}, f"read expected lengths from 0 to 7 (they are from -1 to 6){CAME}, lengths [4] int64 on cpu"),
        ({"lengths": LENGTHS, "slots": SLOTS}, f"read expected lengths from 0 to 6 (they are from 0 to 7){CAME}, slots [4, 6] int64 on cpu, lengths [4] int64 on cpu"),
        ({"lengths": LENGTHS, "padding_mask": MASK}, f"read expected padding_mask or lengths, not both{CAME}, padding_mask [4, 7] bool on cpu, lengths [4] int64 on cpu"),
        ({"lengths": LENGTHS.to("meta")}, f"read expected all tensors on one device{CAME}, lengths [4] int64 on meta"),
        ({"keys": KEYS.double()}, f"read expected {ONE_DTYPE}, got query [4, 5] float32 on cpu, keys [4, 7, 5] float64 on cpu"),
        ({"query": QUERY.double(), "keys": KEYS.half()}, f"read expected {ONE_DTYPE}, got query [4, 5] float64 on cpu, keys [4, 7, 5] float16 on cpu"),
        ({"query": QUERY.half(), "keys": KEYS.bfloat16()}, f"read expected {ONE_DTYPE}, got query [4, 5] float16 on cpu, keys [4, 7, 5] bfloat16 on cpu"),
        ({"query": QUERY.half()}, f"read expected {ONE_DTYPE}, got query [4, 5] float16 on cpu, keys [4, 7, 5] float32 on cpu"),
        ({"keys": KEYS.half(), "values": KEYS.double()}, f"read expected {ONE_DTYPE}, got query [4, 5] float32 on cpu, keys [4, 7, 5] float16 on cpu, values [4, 7, 5] float64 on cpu"),
        ({"score_bias": torch.zeros(4, 7).half()}, f"read expected {ONE_DTYPE}{CAME}, score_bias [4, 7] float16 on cpu"),
        ({"keys": INT8, "query": QUERY.double()}, "read expected float32, bfloat16 or float16 with Quantized memories (they are float32), got query [4, 5] float64 on cpu, keys Quantized [4, 7, 5] int8 on cpu with scale [4, 7] float32 on cpu"),
        ({"keys": INT8, "query": QUERY[:, :3]}, "read expected query [..., I] and keys [..., N, I] with equal I, got query [4, 3] float32 on cpu, keys Quantized [4, 7, 5] int8 on cpu with scale [4, 7] float32 on cpu"),
        ({"keys": (INT8.data, INT8.scale)}, "read expected tensors, got query [4, 5] float32 on cpu, keys of type tuple"),
        ({"keys": INT8.data}, "read expected float32, float64, bfloat16 or float16, got query [4, 5] float32 on cpu, keys [4, 7, 5] int8 on cpu"),
        ({"score_bias": INT8}, f"read expected tensors{CAME}, score_bias Quantized [4, 7, 5] int8 on cpu with scale [4, 7] float32 on cpu"),
        ({"keys": replace(INT8, scale=torch.ones(4, 1))}, "read expected keys Quantized of int8 [..., N, I] with a float32 scale [..., N], got query [4, 5] float32 on cpu, keys Quantized [4, 7, 5] int8 on cpu with scale [4, 1] float32 on cpu"),
        ({"keys": replace(INT8, scale=torch.ones(4, 7).double())}, "read expected keys Quantized of int8 [..., N, I] with a float32 scale [..., N], got query [4, 5] float32 on cpu, keys Quantized [4, 7, 5] int8 on cpu with scale [4, 7] float64 on cpu"),
        ({"keys": replace(INT8, scale=torch.ones(4, 7).to("meta"))}, "read expected keys Quantized of int8 [..., N, I] with a float32 scale [..., N], got query [4, 5] float32 on cpu, keys Quantized [4, 7, 5] int8 on cpu with scale [4, 7] float32 on meta"),
        ({"keys": replace(INT8, data=KEYS)}, "read expected keys Quantized of int8 [..., N, I] with a float32 scale [..., N], got query [4, 5] float32 on cpu, keys Quantized [4, 7, 5] float32 on cpu with scale [4, 7] float32 on cpu"),
        ({"keys": Quantized([1], INT8.scale)}, "read expected keys Quantized of int8 [..., N, I] with a float32 scale [..., N], got query [4, 5] float32 on cpu, keys Quantized of type list with scale [4, 7] float32 on cpu"),  # type: ignore[arg-type]
        ({"values": replace(INT8, scale=torch.ones(4, 7).requires_grad_())}, f"read expected values Quantized with a scale that requires no gradient (it would get none){CAME}, values Quantized [4, 7, 5] int8 on cpu with scale [4, 7] float32 on cpu"),
        ({"keys": INT8, "values": KEYS[:, :6]}, f"read expected values [..., N, V] with the N of the keys{CAME_INT8}, values [4, 6, 5] float32 on cpu"),
        ({"slots": SLOTS - 1}, f"read expected slots from 0 to 6 (they are from -1 to -1){CAME}, slots [4, 6] int64 on cpu"),
    ],
)  # fmt: skip
def test_read_says_what_it_expected_and_got(options: dict[str, Any], words: str) -> None:
    given = {"query": QUERY, "keys": KEYS, **options}
    with pytest.raises(ValueError, match=r"^read expected") as error:
        read(**given)
    assert str(error.value) == words


def hop(**parts: Tensor) -> Hop:
    weight = torch.zeros(5, 3)
    a = Table(**{"weight": weight, **{k: v for k, v in parts.items() if k != "transform"}})
    return Hop(a, Table(weight), parts.get("transform"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"impl": "fast"}, "multi_hop expected impl to be one of 'auto', 'fused', 'eager', 'project', 'reference', got 'fast'"),
        ({"hops": []}, "multi_hop expected at least one hop, got none"),
        ({"query": None}, "multi_hop expected tensors, got query of type NoneType, memories [4, 7, 3] float32 on cpu"),
        ({"memories": None, "padding_mask": MASK}, "multi_hop expected tensors, got query [4, 5] float32 on cpu, memories of type NoneType, padding_mask [4, 7] bool on cpu"),
        ({"query": torch.zeros(())}, "multi_hop expected query [..., D] and memories [..., N, I], got query [] float32 on cpu, memories [4, 7, 3] float32 on cpu"),
        ({"hops": [hop(weight=torch.zeros(3, 5))]}, "multi_hop expected hops[0].a.weight [D, I], D = 5 from the query and I = 3 from the memories, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[0].a.weight [3, 5] float32 on cpu"),
        ({"hops": [hop(), hop(bias=torch.zeros(4))]}, "multi_hop expected hops[1].a.bias [D], D = 5 from the query and I = 3 from the memories, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[1].a.bias [4] float32 on cpu"),
        ({"hops": [hop(temporal=torch.zeros(0, 5))]}, "multi_hop expected hops[0].a.temporal [T, D] with T at least 1, D = 5 from the query and I = 3 from the memories, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[0].a.temporal [0, 5] float32 on cpu"),
        ({"hops": [hop(transform=torch.zeros(5, 4))]}, "multi_hop expected hops[0].transform [D, D], D = 5 from the query and I = 3 from the memories, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[0].transform [5, 4] float32 on cpu"),
        ({"hops": [hop(weight=torch.zeros(5, 3).double())]}, "multi_hop expected one dtype, or float32 with memories in bfloat16 or float16 (other mixtures only under torch.autocast), got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[0].a.weight [5, 3] float64 on cpu"),
        ({"values": torch.zeros(4, 6, 2)}, "multi_hop expected values [..., N, V] with the N of the memories, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, values [4, 6, 2] float32 on cpu"),
        ({"values": torch.zeros(2), "slots": SLOTS}, "multi_hop expected values [..., U, V] with the U of the memories, or slots as a pair if the banks have different rows, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, values [2] float32 on cpu, slots [4, 6] int64 on cpu"),
        ({"values": torch.zeros(4, 7, 2)}, "multi_hop expected hops[0].c.weight [D, V], D = 5 from the query and V = 2 from the values, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, values [4, 7, 2] float32 on cpu, hops[0].c.weight [5, 3] float32 on cpu"),
        ({"values": torch.zeros(3, 7, 3)}, "multi_hop expected leading axes that broadcast together, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, values [3, 7, 3] float32 on cpu"),
        ({"memories": torch.zeros(4, 7, 3).to("meta")}, "multi_hop expected all tensors on one device, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on meta"),
        ({"memories": torch.zeros(3, 7, 3)}, "multi_hop expected leading axes that broadcast together, got query [4, 5] float32 on cpu, memories [3, 7, 3] float32 on cpu"),
        ({"lengths": LENGTHS + 1}, "multi_hop expected lengths from 0 to 7 (they are from 1 to 8), got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, lengths [4] int64 on cpu"),
        ({"lengths": LENGTHS, "padding_mask": MASK}, "multi_hop expected padding_mask or lengths, not both, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, padding_mask [4, 7] bool on cpu, lengths [4] int64 on cpu"),
        ({"padding_mask": MASK[0, :6], "memories": torch.zeros(7, 3)}, "multi_hop expected padding_mask [4, 7], or one that broadcasts to it over the batch, got query [4, 5] float32 on cpu, memories [7, 3] float32 on cpu, padding_mask [6] bool on cpu"),
        ({"padding_mask": MASK.int()}, "multi_hop expected a padding mask of bool (True = ignore that slot), got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, padding_mask [4, 7] int32 on cpu"),
        ({"hops": [hop(), hop(bias=torch.zeros(1))]}, "multi_hop expected hops[1].a.bias [D], D = 5 from the query and I = 3 from the memories, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[1].a.bias [1] float32 on cpu"),
        ({"hops": [hop(), hop(bias=torch.zeros(5).half())]}, f"multi_hop expected {ONE_DTYPE}, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[1].a.bias [5] float16 on cpu"),
        ({"hops": [hop(), hop(weight=torch.zeros(5, 3).to("meta"))]}, "multi_hop expected all tensors on one device, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[1].a.weight [5, 3] float32 on meta"),
        ({"hops": [hop(bias=torch.zeros(5).to("meta"))]}, "multi_hop expected all tensors on one device, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[0].a.bias [5] float32 on meta"),
        ({"hops": [hop(weight=torch.zeros(5, 3).double())], "memories": replace(INT8, data=INT8.data[..., :3])}, "multi_hop expected float32, bfloat16 or float16 with Quantized memories (they are float32), got query [4, 5] float32 on cpu, memories Quantized [4, 7, 3] int8 on cpu with scale [4, 7] float32 on cpu, hops[0].a.weight [5, 3] float64 on cpu"),
        ({"memories": INT8}, "multi_hop expected hops[0].a.weight [D, I], D = 5 from the query and I = 5 from the memories, got query [4, 5] float32 on cpu, memories Quantized [4, 7, 5] int8 on cpu with scale [4, 7] float32 on cpu, hops[0].a.weight [5, 3] float32 on cpu"),
        ({"score_bias": torch.zeros(4, 3, 7)}, "multi_hop expected score_bias [..., N] or [..., K, N] with K = 1 hops, got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, score_bias [4, 3, 7] float32 on cpu"),
    ],
)  # fmt: skip
def test_multi_hop_says_what_it_expected_and_got(options: dict[str, Any], words: str) -> None:
    given = {"query": QUERY, "memories": torch.zeros(4, 7, 3), "hops": [hop()], **options}
    with pytest.raises(ValueError, match=r"^multi_hop expected") as error:
        multi_hop(**given)
    assert str(error.value) == words


def test_slots_without_values_are_not_checked() -> None:
    query, bank = QUERY.to("meta"), KEYS[0].to("meta")
    assert read(query, bank, slots=SLOTS.to("meta")).shape == (4, 5)


def test_lengths_without_values_are_not_checked() -> None:
    query, keys, lengths = QUERY.to("meta"), KEYS.to("meta"), LENGTHS.to("meta")
    assert read(query, keys, lengths=lengths).shape == (4, 5)
    each = torch.func.vmap(lambda q, k, n: read(q, k, lengths=n))
    assert each(QUERY, KEYS, LENGTHS).shape == (4, 5)


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("masked", [False, True])
def test_the_common_case_equals_all_checks(dtype: torch.dtype, masked: bool) -> None:
    table = Table(torch.zeros(5, 5, dtype=dtype), torch.zeros(5, dtype=dtype))
    hops = [Hop(table, Table(table.weight))]
    for query, keys, mask in (
        (QUERY, KEYS, MASK),
        (QUERY, KEYS[0], MASK),
        (QUERY, KEYS[0], MASK[0]),
        (QUERY[0], KEYS[0], MASK[0]),
        (QUERY[:0], KEYS[:0, :0], MASK[:0, :0]),
    ):
        memory = Memory(keys.to(dtype), padding_mask=mask if masked else None)
        common = common_case(query.to(dtype), memory, hops)
        assert common is not None
        expected = checks.check_one_by_one(query.to(dtype), memory, hops)
        assert common[2:6] == expected[2:6]
        assert common.memory is expected.memory
        assert common.is_plain == (not masked and dtype in (torch.float32, torch.float64))


MEMORIES = torch.zeros(4, 7, 3)
META = torch.device("meta")


@pytest.mark.parametrize(
    "options",
    [
        {"query": None},
        {"keys": None},
        {"keys": INT8},
        {"keys": MEMORIES.double()},
        {"keys": MEMORIES.half()},
        {"keys": MEMORIES.to(META)},
        {"keys": MEMORIES[:1]},
        {"keys": MEMORIES[None]},
        {"keys": MEMORIES[:3]},
        {"keys": MEMORIES[0, 0]},
        {"query": torch.zeros(())},
        {"query": QUERY[0]},
        {"query": QUERY.int(), "keys": MEMORIES.int(), "weight": torch.zeros(5, 3).int()},
        {"values": MEMORIES},
        {"slots": SLOTS},
        {"lengths": LENGTHS},
        {"score_bias": torch.zeros(4, 7)},
        {"padding_mask": MASK.int()},
        {"padding_mask": MASK.to(META)},
        {"padding_mask": MASK[0]},  # of each row's own memory
        {"padding_mask": MASK[:1]},
        {"padding_mask": MASK[:, :6]},
        {"keys": MEMORIES[0], "padding_mask": MASK[0, :6]},
        {"keys": MEMORIES[0], "padding_mask": MASK[:3]},
        {"weight": torch.zeros(5, 4)},
        {"weight": torch.zeros(3, 5)},
        {"weight": torch.zeros(5, 3).half()},
        {"weight": torch.zeros(5, 3).to(META)},
        {"bias": torch.zeros(1)},
        {"bias": torch.zeros(5).half()},
        {"bias": torch.zeros(5).to(META)},
        {"temporal": torch.zeros(2, 5)},
        {"transform": torch.zeros(5, 5)},
    ],
    ids=lambda options: " ".join(options),
)
def test_the_common_case_rejects_other_calls(options: dict[str, Any]) -> None:
    parts = {k: v for k, v in options.items() if k in {"weight", "bias", "temporal", "transform"}}
    given = {"query": QUERY, "keys": MEMORIES, **options}
    memory = Memory(**{k: v for k, v in given.items() if k not in {"query", *parts}})
    assert common_case(QUERY, Memory(MEMORIES), [hop(bias=torch.zeros(5))] * 2) is not None
    assert common_case(given["query"], memory, [hop(), hop(**parts)]) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert common_case(QUERY, Memory(MEMORIES), [hop()]) is None


@pytest.mark.parametrize(
    ("hops", "came"),
    [
        (Hop(Table(torch.eye(3)), Table(torch.eye(3))), "one Hop"),
        ([Table(torch.eye(3))], "Table"),
        ([Hop(torch.eye(3), Table(torch.eye(3)))], "Hop with a of type Tensor"),  # type: ignore[arg-type]
        ([Hop(Table(torch.eye(3)), torch.nn.Linear(3, 3))], "Hop with c of type Linear"),  # type: ignore[arg-type]
    ],
)
def test_hops_of_another_type_are_refused(hops: Any, came: str) -> None:
    with pytest.raises(ValueError, match=rf"sequence of Hop\(Table, Table\), got {came}$"):
        multi_hop(torch.zeros(2, 3), torch.zeros(2, 4, 3), hops)
