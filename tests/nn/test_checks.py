# ruff: noqa: E501
"""What the layers refuse, and the words of it, and what sizes they take."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memhop.nn.hops import MemoryHop, MemoryNetwork, MultiHop
from memhop.ops import Quantized

IN = "memories [4, 7, 5] float32 on cpu"
LAYER = "query [B, 3] with memories [B, N, 5] or [N, 5], or query [3] with memories [N, 5], or "
LAYER += "L queries a row, [B, L, 3], got "


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            {"query": torch.zeros(4, 2)},
            f"MultiHop expected {LAYER}query [4, 2] float32 on cpu, {IN}",
        ),
        (
            {"query": torch.zeros(5, 3)},
            f"MultiHop expected {LAYER}query [5, 3] float32 on cpu, {IN}",
        ),
        ({"query": torch.zeros(3)}, f"MultiHop expected {LAYER}query [3] float32 on cpu, {IN}"),
        (
            {"query": None},
            f"MultiHop expected tensors, got query of type NoneType, {IN}, "
            "weights [3, 5] float32 on cpu",
        ),
        (
            {"memories": None},
            "MultiHop expected tensors, got query [4, 3] float32 on cpu, memories of type NoneType, "
            "weights [3, 5] float32 on cpu",
        ),
        (
            {"memories": torch.zeros(4, 7, 6)},
            f"MultiHop expected {LAYER}query [4, 3] float32 on cpu, memories [4, 7, 6] float32 on cpu",
        ),
        (
            {"memories": torch.zeros(4, 7, 5).double()},
            "MultiHop expected one dtype, or float32 with memories in bfloat16 or float16 (other "
            "mixtures only under torch.autocast), got query [4, 3] float32 on cpu, memories "
            "[4, 7, 5] float64 on cpu, weights [3, 5] float32 on cpu",
        ),
        (
            {"memories": Quantized.of(torch.zeros(4, 7, 6))},
            f"MultiHop expected {LAYER}query [4, 3] float32 on cpu, memories Quantized [4, 7, 6] int8 "
            "on cpu with scale [4, 7] float32 on cpu",
        ),
        (
            {"memories": Quantized.of(torch.zeros(4, 7, 5)), "query": torch.zeros(4, 3).double()},
            "MultiHop expected float32, bfloat16 or float16 with Quantized memories (they are float32), "
            "got query [4, 3] float64 on cpu, memories Quantized [4, 7, 5] int8 on cpu with scale "
            "[4, 7] float32 on cpu, weights [3, 5] float32 on cpu",
        ),
        (
            {"memories": Quantized(torch.zeros(4, 7, 5).char(), torch.zeros(4, 7, 1))},
            "MultiHop expected memories Quantized of int8 [..., N, I] with a float32 scale [..., N]"
            ", got query [4, 3] float32 on cpu, memories Quantized [4, 7, 5] int8 on cpu "
            "with scale [4, 7, 1] float32 on cpu, weights [3, 5] float32 on cpu",
        ),
        (
            {"memories": torch.zeros(4, 7, 5, device="meta")},
            "MultiHop expected all tensors on one device, got query [4, 3] float32 on cpu, memories "
            "[4, 7, 5] float32 on meta, weights [3, 5] float32 on cpu",
        ),
        (
            {"memory_padding_mask": torch.zeros(4, 1, dtype=torch.bool)},
            "MultiHop expected memory_padding_mask [4, 7], [1, 7] or [7] of bool (True = ignore that "
            f"slot), got query [4, 3] float32 on cpu, {IN}, memory_padding_mask [4, 1] bool on cpu",
        ),
        (
            {"memories": torch.zeros(7, 5), "memory_padding_mask": torch.zeros(4, 7)},
            "MultiHop expected memory_padding_mask [4, 7], [1, 7] or [7] of bool (True = ignore that "
            "slot), got query [4, 3] float32 on cpu, memories [7, 5] float32 on cpu, "
            "memory_padding_mask [4, 7] float32 on cpu",
        ),
    ],
)
def test_wrong_inputs_are_refused_in_one_line(inputs: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"query": torch.zeros(4, 3), "memories": torch.zeros(4, 7, 5), **inputs}
    with pytest.raises(ValueError, match="expected") as error:
        MultiHop(5, 3)(**given)
    assert str(error.value) == words


def test_a_network_refuses_before_any_work() -> None:
    net = MemoryNetwork(5, 3, num_memories=7)
    net.query_proj.register_forward_pre_hook(lambda *_: pytest.fail("work was begun"))
    query, memories = torch.zeros(4, 5), torch.zeros(4, 6, 5)
    with pytest.raises(ValueError, match="expected 7 slots") as error:
        net(query, memories)
    assert str(error.value) == (
        "MemoryNetwork expected 7 slots (num_memories), not 6, got query [4, 5] float32 on cpu, "
        "memories [4, 6, 5] float32 on cpu"
    )
    with pytest.raises(ValueError, match="MemoryNetwork expected one dtype"):
        net(query.double(), torch.zeros(4, 7, 5).double())
    with pytest.raises(ValueError, match=r"MemoryNetwork expected query \[B, 5\] with memories"):
        net(torch.zeros(4, 3), torch.zeros(4, 7, 5))
    for inputs in ((None, memories), (query, None)):
        with pytest.raises(
            ValueError, match=r"MemoryNetwork expected tensors, got .* type NoneType"
        ):
            net(*inputs)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: MemoryHop(0),
            "MemoryHop expected input_dim to be an integer of at least 1, got input_dim=0, "
            "memory_dim=128, num_heads=1",
        ),
        (
            lambda: MultiHop(4, 4, 0),
            "MultiHop expected num_hops to be an integer of at least 1, got input_dim=4, "
            "memory_dim=4, num_hops=0, num_heads=1",
        ),
        (
            lambda: MultiHop(4, 2.0),  # type: ignore[arg-type]
            "MultiHop expected memory_dim to be an integer of at least 1, got input_dim=4, "
            "memory_dim=2.0, num_hops=3, num_heads=1",
        ),
        (
            lambda: MemoryHop(True),
            "MemoryHop expected input_dim to be an integer of at least 1, got input_dim=True, "
            "memory_dim=128, num_heads=1",
        ),
        (
            lambda: MultiHop(4, np.bool_(True)),  # type: ignore[arg-type]
            "MultiHop expected memory_dim to be an integer of at least 1, got input_dim=4, "
            "memory_dim=np.True_, num_hops=3, num_heads=1",
        ),
        (
            lambda: MemoryNetwork(4, 4, 3, output_dim=0),
            "MemoryNetwork expected output_dim to be an integer of at least 1, got input_dim=4, "
            "memory_dim=4, num_hops=3, output_dim=0",
        ),
        (
            lambda: MemoryNetwork(4, 4, temporal_slots=-1),
            "MultiHop expected temporal_slots to be an integer of at least 1, got input_dim=4, "
            "memory_dim=4, num_hops=3, num_heads=1, temporal_slots=-1",
        ),
        (
            lambda: MultiHop(4, tying="both"),  # type: ignore[arg-type]
            "MultiHop expected tying to be one of 'none', 'adjacent', 'layerwise', got 'both'",
        ),
    ],
)
def test_wrong_sizes_are_refused_in_one_line(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        make()
    assert str(error.value) == words


def test_any_integers_are_sizes() -> None:
    five, four, two, six = (cast("int", np.int64(size)) for size in (5, 4, 2, 6))
    sizes: Any = {"input_dim": five, "memory_dim": four, "temporal_slots": two}
    many: Any = {**sizes, "num_hops": two}
    layers: list[Any] = [
        MemoryHop(**sizes),
        *(MultiHop(**many, tying=tying) for tying in ("none", "adjacent", "layerwise")),
        MemoryNetwork(**many, output_dim=two, num_memories=six),
    ]
    for layer in layers:
        query = torch.zeros(3, 5 if isinstance(layer, MemoryNetwork) else 4)
        assert layer(query, torch.zeros(3, 6, 5)).shape[0] == 3
        for held in (held for module in layer.modules() for held in vars(module).values()):
            assert not isinstance(held, np.generic)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (torch.zeros(3, 4), "hops[1].c.weight [D, I], D = 4 from the query and I = 5 from the"),
        (torch.zeros(4, 5).double(), "one dtype, or float32 with memories in bfloat16 or float16"),
        (torch.zeros(4, 5, device="meta"), "all tensors on one device"),
    ],
)
def test_a_weight_that_was_put_in_wrong_is_refused_by_its_name(wrong: Tensor, words: str) -> None:
    for layer, path in ((MultiHop(5, 4, 2), "1"), (MemoryNetwork(5, 4, 2), "hops.1")):
        table: Any = layer.get_submodule(f"{path}.embed_c")
        table.weight = nn.Parameter(wrong)
        dim = 5 if isinstance(layer, MemoryNetwork) else 4
        with pytest.raises(ValueError, match="MultiHop expected") as error:
            layer(torch.zeros(3, dim), torch.zeros(3, 6, 5))
        assert str(error.value).startswith(f"MultiHop expected {words}")
        assert "hops[1].c.weight" in str(error.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"slots": (torch.zeros(4, 2).long(),) * 3},
            "expected slots as a tensor or as a tuple .*3 ob",
        ),
        (
            {"slots": (torch.zeros(4, 2).long(), torch.zeros(4, 3).long())},
            "expected keys and values with one N, that of their slots",
        ),
        (
            {"slots": torch.zeros(4, 2).long(), "values": torch.zeros(9, 5)},
            r"expected values \[\.\.\., U, V\] with the U of the memories, or slots as a pair if the banks",
        ),
        ({"slots": torch.zeros(4, 2)}, r"expected slots \[4, N\], \[1, N\] or \[N\] of integers"),
        ({"lengths": torch.zeros(4)}, r"expected lengths \[4\], \[1\] or \[\] of integers"),
        ({"lengths": torch.zeros(3).long()}, r"expected lengths \[4\], \[1\] or \[\] of integers"),
        (
            {"lengths": torch.zeros(4).long(), "memory_padding_mask": torch.zeros(7).bool()},
            "expected memory_padding_mask or lengths, not both",
        ),
        (
            {"score_bias": torch.zeros(4, 2, 7)},
            r"expected score_bias \[4, 7\], \[1, 7\] or \[7\], or of each hop \[4, 3, 7\]",
        ),
        ({"values": torch.zeros(4, 7, 6)}, r"expected values \[B, N, 5\] or \[N, 5\]"),
    ],
)
def test_wrong_arguments_of_a_memory_are_refused_in_one_line(
    given: dict[str, Any], words: str
) -> None:
    memories = torch.zeros(7, 5) if "slots" in given else torch.zeros(4, 7, 5)
    with pytest.raises(ValueError, match=f"MultiHop {words}") as error:
        MultiHop(5, 3)(torch.zeros(4, 3), memories, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_heads": 2}, "num_heads that divides memory_dim, got num_heads=2, memory_dim=3"),
        ({"num_heads": 0}, "num_heads to be an integer of at least 1"),
        ({"dropout": 1.5}, "dropout from 0 to 1, got 1.5"),
        ({"relu": -0.5}, "relu from 0 to 1, got -0.5"),
        ({"relu": "half"}, "relu from 0 to 1, got 'half'"),
        ({"embed": "b"}, "embed to be one of True, False, 'a', 'c', got 'b'"),
        ({"embed": "c"}, "input_dim equal to memory_dim with embed='c', which leaves out A"),
        ({"embed": "a"}, "value_dim equal to memory_dim with embed='a', which leaves out C"),
        ({"slot_order": "newest"}, "slot_order to be one of 'oldest_first', 'newest_first'"),
        ({"tying": "adjacent", "value_dim": 4}, "value_dim equal to input_dim, and embed=True"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"MultiHop expected {words}"):
        MultiHop(5, 3, **options)


def test_values_of_another_size_are_required() -> None:
    with pytest.raises(ValueError, match=r"MultiHop expected values \[\.\.\., N, 4\], which value"):
        MultiHop(5, 3, value_dim=4)(torch.zeros(4, 3), torch.zeros(4, 7, 5))


def test_a_list_of_slots_is_not_taken_as_a_pair() -> None:
    """A list of two rows would be one by accident."""
    slots: Any = [torch.zeros(6).long(), torch.zeros(6).long()]
    with pytest.raises(ValueError, match=r"MultiHop expected tensors, .* slots of type list"):
        MultiHop(5, 3)(torch.randn(2, 3), torch.randn(9, 5), slots=slots)
