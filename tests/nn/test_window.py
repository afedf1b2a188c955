"""A window in the layers: equal to a batch in which each query has its own memory."""

import random
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memhop import MemoryHop, MemoryNetwork, MultiHop
from memhop.nn.embedding import EmbeddingTable
from memhop.ops import Parts, Quantized
from tests.seeds import seeds

WIDTH, D, N = 5, 6, 4


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def layers(num_heads: int, tying: Any, softmax: bool) -> list[nn.Module]:
    common: dict[str, Any] = {
        "num_heads": num_heads, "dtype": torch.float64, "softmax": softmax, "relu": 0.5,
    }  # fmt: skip
    return [
        MultiHop(WIDTH, D, 3, temporal_slots=3, tying=tying, **common),
        MultiHop(D, D, 2, temporal_slots=N, tying="layerwise", embed=False, bias=False, **common),
        MemoryHop(WIDTH, D, value_dim=3, slot_order="newest_first", temporal_slots=9, **common),
        MemoryNetwork(WIDTH, D, 2, num_memories=N, **common),
    ]


def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
    return 1.5 * output


def as_batch(query: Tensor, given: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Return a batch of queries [B T, D], each with the memory [N, I] of its window."""
    found = {}
    for name, tensor in given.items():
        if tensor is None:
            continue
        axes = 1 if name == "memory_padding_mask" or tensor.dim() < query.dim() else 2
        axes = 2 if name in ("memories", "values") else axes
        over = tensor.expand(*query.shape[:-2], *tensor.shape[-axes:])
        axis = -2 if name in ("memories", "values") else -1
        windows = [over.narrow(axis, t, N) for t in range(query.shape[-2])]
        rows = torch.stack(windows, query.dim() - 2)
        found[name] = rows.flatten(0, query.dim() - 2)
    return query.flatten(0, -2), found


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("seed", seeds(12, 200))
def test_a_layer_equals_itself_over_the_memory_of_each_query(seed: int, number: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(100 * number + seed).choice
    layer: Any = layers(draw([1, 2]), draw(["none", "adjacent", "layerwise"]), draw([True, False]))[
        number
    ]
    if is_called := draw([True, False]):
        for module in layer.modules():
            if isinstance(module, EmbeddingTable):
                module.register_forward_hook(hook)
    lead, queries = draw([(), (3,)]), draw([1, 2, 9])
    of_memory = draw([(), lead])
    num_hops = [3, 2, 1, 2][number]
    sizes = [(WIDTH, WIDTH, D), (D, D, D), (WIDTH, 3, D), (WIDTH, WIDTH, WIDTH)][number]
    rows = queries + N - 1
    query, memories = normal(*lead, queries, sizes[2]), normal(*of_memory, rows, sizes[0])
    has_values = number == 2 or draw([True, False])
    mask = draw([None, torch.arange(rows) < 2, torch.rand(*lead, rows) < 0.4])
    bias = draw([None, normal(rows), normal(*lead, rows), normal(*lead, num_hops, rows)])
    if bias is not None:
        bias[..., 1] = -torch.inf
        memories[..., 1, :] = torch.nan
    given: dict[str, Any] = {
        "memories": memories, "values": normal(*of_memory, rows, sizes[1]) if has_values else None,
        "memory_padding_mask": mask, "score_bias": bias,
    }  # fmt: skip
    if bias is not None and has_values:
        given["values"][..., 1, :] = torch.inf
    result, attention = layer(query, **given, window=N, need_weights=True)
    others, batch = as_batch(query, given)
    expected, weights = layer(others, **batch, need_weights=True)
    options: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(result.flatten(0, -2), expected, **options)
    attention = attention.flatten(0, query.dim() - 2)
    torch.testing.assert_close(attention, weights, **options)
    assert is_called or attention.shape[-1] == N
    parameters = [*layer.parameters()]
    for one, other in zip(
        torch.autograd.grad(result.sin().sum(), parameters, allow_unused=True),
        torch.autograd.grad(expected.sin().sum(), parameters, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other, **options)


def test_a_hooked_table_is_called_once_with_the_memory() -> None:
    layer = MultiHop(WIDTH, D, 3, tying="layerwise")
    shapes: list[torch.Size] = []
    layer.embed_a.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape))
    layer(torch.randn(2, 9, D), torch.randn(2, 12, WIDTH), window=N)
    assert shapes == [(2, 12, WIDTH)]


def test_a_hook_on_all_modules_sees_the_window() -> None:
    layer, seen = MemoryHop(WIDTH, D), []
    layer.register_forward_pre_hook(
        lambda *given: seen.append(given[2]["window"]), with_kwargs=True
    )
    layer(torch.randn(9, D), torch.randn(12, WIDTH), window=N)
    assert seen == [N]


QUERY, ROWS = torch.zeros(2, 5, WIDTH), torch.zeros(2, 8, WIDTH)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"window": 0}, "expected window, an integer of at least 1, got 0"),
        ({"window": "2"}, "expected window, an integer of at least 1, got '2'"),
        ({"window": 3}, "expected T + N - 1 = 7 slots of memories for T = 5 queries"),
        ({"query": QUERY[0, 0]}, "expected query"),
        ({"query": QUERY[0]}, "expected query"),
        ({"slots": torch.ones(2, 4).long()}, "expected no slots with window, got slots [2, 4] int"),
        ({"slots": (torch.ones(4).long(), None)}, "expected no slots with window, got slots of"),
        ({"lengths": torch.ones(2).long()}, "expected no lengths with window, got lengths [2] int"),
        ({"memories": Quantized.of(ROWS)}, "expected tensors with window, got query [2, 5, "),
        ({"memory_padding_mask": torch.zeros(2, 5, 8).bool()}, "expected memory_padding_mask [2, "),
        ({"score_bias": torch.zeros(5)}, "expected score_bias [2, 8], [1, 8] or [8]"),
        ({"values": ROWS[:, 1:]}, "expected T + N - 1 = 8 slots of values"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [MemoryHop, MultiHop, MemoryNetwork])
@pytest.mark.parametrize("is_called", [False, True])
def test_an_error_is_one_line_and_names_the_layer_that_was_called(
    given: dict[str, Any], words: str, kind: Any, is_called: bool
) -> None:
    layer = kind(WIDTH, WIDTH)
    if is_called:
        for module in layer.modules():
            if isinstance(module, EmbeddingTable):
                module.register_forward_hook(hook)
    message = re.escape(f"{kind.__name__} {words}")
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        layer(**{"query": QUERY, "memories": ROWS, "window": N, **given})


@pytest.mark.parametrize("kind", [MemoryHop, MultiHop, MemoryNetwork])
def test_memories_in_parts_have_no_windows(kind: Any) -> None:
    message = f"^{kind.__name__} expected memories in one tensor with window, got memories in parts"
    with pytest.raises(ValueError, match=message):
        kind(WIDTH, WIDTH)(QUERY[0], Parts([ROWS[0, :4], ROWS[0, 4:]]), window=N)


def test_a_network_counts_the_slots_of_a_window() -> None:
    net = MemoryNetwork(WIDTH, D, num_memories=3)
    assert net(torch.zeros(2, 5, WIDTH), torch.zeros(2, 7, WIDTH), window=3).shape == (2, 5, WIDTH)
    with pytest.raises(ValueError, match=r"expected 3 slots \(num_memories\), not 4"):
        net(QUERY, ROWS, window=4)
    with pytest.raises(ValueError, match="MemoryNetwork expected window, an integer of at least"):
        net(QUERY, ROWS, window=0)
