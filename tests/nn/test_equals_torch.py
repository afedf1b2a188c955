"""Layers against ``torch.nn.MultiheadAttention`` and ``scaled_dot_product_attention``.

torch divides the scores by the root of the size of a head, and its attention has no residual; the
query and the result of a layer say so.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from memhop import MemoryHop, MemoryNetwork

B, L, N, SIZE, HEADS = 3, 4, 7, 12, 3


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def attention_of_torch(bias: bool, dropout: float = 0.0) -> nn.MultiheadAttention:
    """Return a module with random weights and biases, those of the keys included."""
    made = nn.MultiheadAttention(
        SIZE, HEADS, dropout, bias, kdim=5, vdim=8, batch_first=True, dtype=torch.float64
    )
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.5)
    return made.eval()


def same_network(other: nn.MultiheadAttention, dropout: float = 0.0) -> MemoryNetwork:
    """Return a network of one hop with the weights of a module of torch."""
    has_bias = other.in_proj_bias is not None
    net = MemoryNetwork(
        5, SIZE, 1, output_dim=SIZE, value_dim=8, num_heads=HEADS, bias=has_bias, dropout=dropout,
        dtype=torch.float64,
    )  # fmt: skip
    state = {name: torch.zeros_like(weight) for name, weight in net.state_dict().items()}
    state["hops.0.embed_a.weight"] = other.k_proj_weight
    state["hops.0.embed_c.weight"] = other.v_proj_weight
    state["output_proj.weight"] = other.out_proj.weight
    if has_bias:
        _, state["hops.0.embed_a.bias"], state["hops.0.embed_c.bias"] = other.in_proj_bias.chunk(3)
        state["output_proj.bias"] = other.out_proj.bias
    net.load_state_dict(state)
    return net.eval()


def projected_query(other: nn.MultiheadAttention, query: Tensor) -> Tensor:
    """Return the query as torch's attention sees it, divided by the root of the size of a head."""
    bias = None if other.in_proj_bias is None else other.in_proj_bias[:SIZE]
    projected = functional.linear(query, other.q_proj_weight, bias)
    return projected / math.sqrt(SIZE // HEADS)


def arguments(options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return equal arguments of a layer and of torch's module."""
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    if "padding" in options:
        ours["memory_padding_mask"] = theirs["key_padding_mask"] = torch.rand(B, N) < 0.4
        ours["memory_padding_mask"][:, 0] = False  # torch returns NaN for a row without slots
    if "lengths" in options:
        ours["lengths"] = torch.tensor([N, 1, 4])
        theirs["key_padding_mask"] = torch.arange(N) >= ours["lengths"][:, None]
    if "bias" in options:
        bias = normal(B, L, N).masked_fill(torch.rand(B, L, N) < 0.3, -torch.inf)
        bias[..., 0] = 0.0
        ours["score_bias"], theirs["attn_mask"] = bias, bias.repeat_interleave(HEADS, 0)
        if "padding" in options:  # torch wants both masks of one type
            padding = theirs["key_padding_mask"]
            theirs["key_padding_mask"] = torch.zeros(B, N).double().masked_fill(padding, -torch.inf)
    return ours, theirs


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("options", ["", "padding", "lengths", "bias", "padding bias"])
def test_a_hop_of_several_heads_equals_multihead_attention(options: str, has_bias: bool) -> None:
    torch.manual_seed(0)
    other = attention_of_torch(has_bias, dropout=0.3)
    net = same_network(other, dropout=0.3)
    ours, theirs = arguments(options)
    query, keys, values = normal(B, L, SIZE), normal(B, N, 5), normal(B, N, 8)
    q = projected_query(other, query)
    for average in (True, False):
        expected, weights = other(query, keys, values, average_attn_weights=average, **theirs)
        result, attention = net.hops(
            q, keys, values=values, need_weights=True, average_attn_weights=average, **ours
        )
        torch.testing.assert_close(net.output_proj(result - q), expected)
        shape = (B, L, 1, N) if average else (B, L, 1, HEADS, N)
        assert attention.shape == shape
        theirs_in_order = weights if average else weights.transpose(1, 2)  # [B, H, L, N] there
        torch.testing.assert_close(attention.squeeze(2), theirs_in_order)


@pytest.mark.parametrize("has_bias", [True, False])
def test_gradients_equal_those_of_multihead_attention(has_bias: bool) -> None:
    torch.manual_seed(0)
    other = attention_of_torch(has_bias)
    net = same_network(other)
    ours, theirs = arguments("padding bias")
    inputs = [normal(B, L, SIZE), normal(B, N, 5), normal(B, N, 8)]
    query, keys, values = (each.requires_grad_() for each in inputs)
    expected, _ = other(query, keys, values, **theirs)
    q = projected_query(other, query)
    found = net.output_proj(net.hops(q, keys, values=values, **ours) - q)
    of_torch = [other.k_proj_weight, other.v_proj_weight, *other.out_proj.parameters()]
    hop = net.hops.get_submodule("0")
    tables = [hop.get_parameter(f"embed_{side}.weight") for side in "ac"]
    of_layer = [*tables, *net.output_proj.parameters()]
    if has_bias:
        of_torch.append(other.in_proj_bias)
    else:
        of_layer.pop()  # a network always has the bias of its output
    cotangent = normal(B, L, SIZE)
    exact = torch.autograd.grad((expected * cotangent).sum(), [*inputs, *of_torch])
    if has_bias:
        of_layer += [hop.get_parameter(f"embed_{side}.bias") for side in "ac"]
        of_query, *of_bias = exact[-1].chunk(3)
        exact = (*exact[:-1], *of_bias)
        assert of_query.any()
    grads = torch.autograd.grad((found * cotangent).sum(), [*inputs, *of_layer])
    torch.testing.assert_close(grads, exact)


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("options", ["", "mask", "bias", "values"])
def test_a_hop_without_tables_equals_scaled_dot_product_attention(
    options: str, is_shared: bool
) -> None:
    torch.manual_seed(0)
    hop = MemoryHop(SIZE, SIZE, embed=False, dtype=torch.float64)
    assert list(hop.state_dict()) == []
    lead = () if is_shared else (B,)
    query, keys = normal(B, L, SIZE), normal(*lead, N, SIZE)
    given: dict[str, Any] = {}
    mask: Tensor | None = None
    if options == "mask":
        given["memory_padding_mask"] = torch.rand(B, L, N) < 0.4
        given["memory_padding_mask"][..., 0] = False
        mask = ~given["memory_padding_mask"]
    if options == "bias":
        mask = given["score_bias"] = normal(B, L, N)
    values = keys
    if options == "values":
        values = given["values"] = normal(*lead, N, SIZE)
    k, v = (each.expand(B, -1, -1) for each in (keys, values))
    expected = functional.scaled_dot_product_attention(query, k, v, attn_mask=mask, scale=1.0)
    torch.testing.assert_close(hop(query, keys, **given) - query, expected)


@pytest.mark.parametrize("is_causal", [True, False])
def test_heads_without_tables_equal_scaled_dot_product_attention(is_causal: bool) -> None:
    torch.manual_seed(0)
    hop = MemoryHop(SIZE, SIZE, embed=False, num_heads=HEADS, dtype=torch.float64)
    query, keys = normal(B, N, SIZE), normal(B, N, SIZE)
    q, k = (each.view(B, N, HEADS, -1).transpose(1, 2) for each in (query, keys))
    expected = functional.scaled_dot_product_attention(q, k, k, is_causal=is_causal, scale=1.0)
    later = torch.ones(N, N).triu(1).bool().expand(B, N, N) if is_causal else None
    result = hop(query, keys, memory_padding_mask=later)
    torch.testing.assert_close(result - query, expected.transpose(1, 2).flatten(2))
