"""The formula of a layer from its options and its state dict, for every shape of a call.

Written from docs/layer.md, never from the code of ``memhop.nn``: give all arguments their axes
[B, L, ...], call the formula of several hops (``tests/ops/oracle.py`` in NumPy, or
``tests/ops/textbook.py`` in torch), and take the axes away again.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from memhop.ops import Hop, Quantized, Table
from tests.ops import oracle
from tests.ops.oracle import Stored

# of MemoryNetwork; MultiHop and MemoryHop have some of them
DEFAULTS: dict[str, Any] = {
    "num_hops": 3, "output_dim": None, "num_memories": None, "tying": "none", "value_dim": None,
    "num_heads": 1, "dropout": 0.0, "embed": True, "bias": True, "relu": False, "softmax": True,
    "temporal_slots": None, "slot_order": "oldest_first", "dtype": torch.float32,
}  # fmt: skip


def settings(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the value of every option, of a layer of class ``kind``."""
    complete = {**DEFAULTS, **options, "kind": kind}
    for name in ("value_dim", "output_dim"):
        if complete[name] is None:
            complete[name] = complete["input_dim"]
    if kind == "MemoryHop":
        complete["num_hops"] = 1
    return complete


def names_of_tables(complete: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the names of A and C of each hop."""
    prefix = "hops." if complete["kind"] == "MemoryNetwork" else ""
    num_hops, tying = complete["num_hops"], complete["tying"]
    if tying == "adjacent":
        return list(pairwise(f"{prefix}tables.{k}" for k in range(num_hops + 1)))
    if tying == "layerwise" or complete["kind"] == "MemoryHop":
        return [(f"{prefix}embed_a", f"{prefix}embed_c")] * num_hops
    return [(f"{prefix}{k}.embed_a", f"{prefix}{k}.embed_c") for k in range(num_hops)]


def shapes(complete: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the names and the shapes of a state dict."""
    memory_dim = complete["memory_dim"]
    found: dict[str, tuple[int, ...]] = {}
    embed = {True: ("a", "c"), False: (), "a": ("a",), "c": ("c",)}[complete["embed"]]
    for names in names_of_tables(complete):
        for side, name, size in zip("ac", names, ("input_dim", "value_dim"), strict=True):
            if side in embed:
                found[f"{name}.weight"] = (memory_dim, complete[size])
                if complete["bias"]:
                    found[f"{name}.bias"] = (memory_dim,)
            if complete["temporal_slots"] is not None:
                found[f"{name}.temporal"] = (complete["temporal_slots"], memory_dim)
    is_network = complete["kind"] == "MemoryNetwork"
    if complete["tying"] == "layerwise":
        name = "hops.transform.weight" if is_network else "transform.weight"
        found[name] = (memory_dim, memory_dim)
    if is_network:
        output_dim = complete["output_dim"]
        found["query_proj.weight"] = (memory_dim, complete["input_dim"])
        found["query_proj.bias"] = (memory_dim,)
        found["output_proj.weight"] = (output_dim, memory_dim)
        found["output_proj.bias"] = (output_dim,)
    return found


def hops_of(complete: dict[str, Any], state: dict[str, Tensor]) -> list[Hop]:
    """Return the hops that a state dict holds."""
    tables = {
        name: Table(*(state.get(f"{name}.{part}") for part in ("weight", "bias", "temporal")))
        for names in names_of_tables(complete)
        for name in names
    }
    transform = state.get("transform.weight", state.get("hops.transform.weight"))
    return [
        Hop(tables[a], tables[c], transform, complete["relu"], complete["softmax"])
        for a, c in names_of_tables(complete)
    ]


def rows(stored: Stored) -> Stored:
    """Return a memory [N, I] or [B, N, I] as [1, 1, N, I] or [B, 1, N, I]."""
    if isinstance(stored, Quantized):
        scale = stored.scale
        lead = (1, 1) if scale.dim() == 1 else (len(scale), 1)
        data = stored.data.reshape(*lead, *stored.data.shape[-2:])
        return Quantized(data, scale.reshape(*lead, scale.shape[-1]))
    return stored[None, None] if stored.dim() == 2 else stored[:, None]


def over_slots(given: Tensor) -> Tensor:
    """Return [N] as [1, 1, N], [B, N] as [B, 1, N] and [B, L, N] as it is."""
    if given.dim() == 1:
        return given[None, None]
    return given[:, None] if given.dim() == 2 else given


def with_axes(num_axes: int, given: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of a call with the axes [B, L]; the query has ``num_axes`` axes."""
    found: dict[str, Any] = {}
    if given.get("values") is not None:
        found["values"] = rows(given["values"])
    if given.get("slots") is not None:
        each = oracle.both(given["slots"])
        found["slots"] = tuple(None if slots is None else over_slots(slots) for slots in each)
    if given.get("memory_padding_mask") is not None:
        found["padding_mask"] = over_slots(given["memory_padding_mask"])
    if given.get("lengths") is not None:
        lengths = given["lengths"]
        found["lengths"] = lengths[:, None] if lengths.dim() == 1 else lengths
    bias = given.get("score_bias")
    if bias is not None and bias.dim() == num_axes + 1:  # of each hop
        bias = bias[None] if num_axes == 1 else bias
        found["score_bias"] = bias[:, None] if num_axes < 3 else bias
    elif bias is not None:
        found["score_bias"] = over_slots(bias)
    return found


def forward(
    complete: dict[str, Any],
    state: dict[str, Tensor],
    query: Tensor,
    memories: Stored,
    given: dict[str, Any],
    multi_hop: Callable[..., Any] = oracle.multi_hop,
) -> tuple[Tensor, Tensor]:
    """Return result and attention of a call of a layer in evaluation mode."""
    num_axes = query.dim()
    query = over_slots(query)
    if complete["kind"] == "MemoryNetwork":
        query = functional.linear(query, state["query_proj.weight"], state["query_proj.bias"])
    result, attention = multi_hop(
        query, rows(memories), hops_of(complete, state), **with_axes(num_axes, given),
        slot_order=complete["slot_order"], num_heads=complete["num_heads"],
        average_attn_weights=given.get("average_attn_weights", True),
    )  # fmt: skip
    result, attention = torch.as_tensor(result), torch.as_tensor(attention)
    if complete["kind"] == "MemoryNetwork":
        projection = state["output_proj.weight"], state["output_proj.bias"]
        result = functional.linear(result, *projection)
    if complete["kind"] == "MemoryHop":
        attention = attention.squeeze(2)
    if num_axes < 3:
        result, attention = result[:, 0], attention[:, 0]
    return (result[0], attention[0]) if num_axes == 1 else (result, attention)
