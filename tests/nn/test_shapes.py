"""Every shape of the table in docs/layer.md gives what a loop over single queries gives."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memhop.nn.hops import MemoryHop, MemoryNetwork, MultiHop
from tests.seeds import seeds

B, L, N, U, K, HEADS = 3, 2, 5, 9, 2, 2
INPUT_DIM, MEMORY_DIM, VALUE_DIM, OUTPUT_DIM = 6, 4, 7, 3
LEADS: list[tuple[int, ...]] = [(), (B,), (B, L)]  # of the query
LAYERS: list[type[MemoryHop | MultiHop | MemoryNetwork]] = [MemoryHop, MultiHop, MemoryNetwork]

# Its trailing axes in the table, and the range of its integers; bool and float64 have none.
TRAILING: dict[str, tuple[int, int]] = {
    "memories": (2, 0), "values": (2, 0), "slots": (1, U), "value_slots": (1, N), "lengths": (0, N),
    "memory_padding_mask": (1, 0), "score_bias": (1, 0), "bias_of_each_hop": (2, 0),
}  # fmt: skip


def make(kind: type[Any], value_dim: int) -> tuple[Any, int]:
    """Return a layer in float64 and its number of hops."""
    options: dict[str, Any] = {"num_heads": HEADS, "temporal_slots": 3, "value_dim": value_dim}
    if kind is MemoryNetwork:
        options["output_dim"] = OUTPUT_DIM
    if kind is not MemoryHop:
        options["num_hops"] = K
    layer = kind(INPUT_DIM, MEMORY_DIM, dtype=torch.float64, **options)
    return layer, options.get("num_hops", 1)


def leading_shapes(name: str, lead: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the leading axes that the table allows for an argument."""
    if name in ("memories", "values"):
        return [(), lead[:1]] if lead else [()]
    if name == "bias_of_each_hop":
        return [*product(*({size, 1} for size in lead))]
    return [(), *([(1,), lead[:1]] if lead else []), *([lead] if len(lead) == 2 else [])]


def draw_form(
    draw: np.random.Generator, name: str, lead: tuple[int, ...], *trailing: int
) -> Tensor:
    forms = leading_shapes(name, lead)
    shape = (*forms[draw.integers(len(forms))], *trailing)
    if name == "memory_padding_mask":
        return torch.rand(shape) < 0.4
    top = TRAILING[name][1]
    return torch.randint(top, shape) if top else torch.randn(shape, dtype=torch.float64)


def draw_arguments(
    draw: np.random.Generator, lead: tuple[int, ...], value_dim: int, num_hops: int
) -> dict[str, Tensor]:
    """Draw memories and optional arguments, each in one of its shapes."""
    has_slots, has_pair, are_values_banked = draw.random(3) < 0.5
    arguments = {"memories": draw_form(draw, "memories", lead, U if has_slots else N, INPUT_DIM)}
    if has_slots:
        arguments["slots"] = draw_form(draw, "slots", lead, N)
    if has_pair and are_values_banked:  # banks of 9 and of 5 rows, or a bank of values alone
        arguments["value_slots"] = draw_form(draw, "value_slots", lead, N)
    if value_dim != INPUT_DIM or has_pair or draw.random() < 0.5:
        rows = U if has_slots and not has_pair else N
        arguments["values"] = draw_form(draw, "values", lead, rows, value_dim)
    hidden = ("memory_padding_mask", "lengths", None)[draw.integers(3)]
    if hidden:
        arguments[hidden] = draw_form(draw, hidden, lead, *([N] if hidden != "lengths" else []))
    bias = ("score_bias", "bias_of_each_hop", None)[draw.integers(3)]
    if bias:
        own = [num_hops, N] if bias == "bias_of_each_hop" else [N]
        arguments[bias] = draw_form(draw, bias, lead, *own)
    return arguments


def of_row(name: str, tensor: Tensor, row: tuple[int, ...]) -> Tensor:
    """Return the part of an argument that one query sees."""
    leading = tensor.shape[: tensor.dim() - TRAILING[name][0]]
    at = zip(row, leading, strict=False)
    return tensor[tuple(place if size > 1 else 0 for place, size in at)]


def call(layer: Any, query: Tensor, arguments: dict[str, Tensor], each_head: bool) -> Any:
    """Return the result and the attention of a layer."""
    given: dict[str, Any] = dict(arguments)
    memories = given.pop("memories")
    is_pair = "slots" in given and "values" in given and given["values"].shape[-2] == N
    if "value_slots" in given or is_pair:
        given["slots"] = (given.get("slots"), given.pop("value_slots", None))
    if "bias_of_each_hop" in given:
        given["score_bias"] = given.pop("bias_of_each_hop")
    return layer(query, memories, need_weights=True, average_attn_weights=not each_head, **given)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("seed", seeds(12, 200))
def test_each_query_sees_its_part_of_every_argument(
    kind: type[Any], lead: tuple[int, ...], seed: int
) -> None:
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    value_dim = (INPUT_DIM, VALUE_DIM)[draw.integers(2)]
    layer, num_hops = make(kind, value_dim)
    query_dim = INPUT_DIM if kind is MemoryNetwork else MEMORY_DIM
    query = torch.randn(*lead, query_dim, dtype=torch.float64)
    arguments = draw_arguments(draw, lead, value_dim, num_hops)
    each_head = bool(draw.random() < 0.5)
    result, attention = call(layer, query, arguments, each_head)
    axes = (*(() if kind is MemoryHop else (K,)), *((HEADS,) if each_head else ()), N)
    assert result.shape == (*lead, OUTPUT_DIM if kind is MemoryNetwork else MEMORY_DIM)
    assert attention.shape == (*lead, *axes)
    for row in np.ndindex(*lead):
        own = {name: of_row(name, tensor, row) for name, tensor in arguments.items()}
        alone = call(layer, query[row], own, each_head)
        torch.testing.assert_close((result[row], attention[row]), alone, rtol=1e-9, atol=1e-9)
