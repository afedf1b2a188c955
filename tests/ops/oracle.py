"""The paper's formulas in float64 NumPy, one slot at a time, and the drawing of cases to try.

Written from arXiv 1503.08895, sections 2 and 4.1, and from what memhop promises about slots that
are not readable; never from memhop's code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memhop.ops import Hop, Quantized, Table

Stored = Tensor | Quantized
Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def array(stored: Stored | None) -> Array | None:
    """A tensor as float64; in int8 with a scale, row i is scale_i * data_i."""
    if isinstance(stored, Quantized):
        data, scale = array(stored.data), array(stored.scale)
        assert data is not None
        assert scale is not None
        return scale[..., None] * data
    return None if stored is None else stored.detach().double().numpy()


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())


def read_row(
    query: Array, keys: Array, values: Array, bias: Array, with_softmax: bool
) -> tuple[Array, Array]:
    """One query and its slots: o = sum_i p_i v_i with p_i = softmax_i(q . k_i + b_i).

    A bias of -inf is a slot that is not readable; that is how the caller says so of padding.
    """
    weights, read_out = np.zeros(len(keys)), np.zeros(values.shape[-1])
    readable = [i for i in range(len(keys)) if bias[i] != -np.inf]
    if not readable:
        return read_out, weights
    scores = np.array([query @ keys[i] + bias[i] for i in readable])
    for i, weight in zip(readable, softmax(scores) if with_softmax else scores, strict=True):
        weights[i] = weight
        read_out = read_out + weight * values[i]
    return read_out, weights


def hop_row(
    query: Array, memories: Array, values: Array, bias: Array, hop: Hop
) -> tuple[Array, Array]:
    """q <- q + sum_i p_i (C v_i + c + T_C(i)) with p_i = softmax_i(q . (A m_i + a + T_A(i)))."""
    readable = [i for i in range(len(memories)) if bias[i] != -np.inf]
    sides = []
    for table, rows in ((hop.a, memories), (hop.c, values)):
        weight, table_bias, temporal = array(table.weight), array(table.bias), array(table.temporal)
        assert weight is not None
        embedded = np.zeros((len(rows), len(weight)))
        for i in range(len(rows)):
            embedded[i] = weight @ rows[i]
            if table_bias is not None:
                embedded[i] += table_bias
            if temporal is not None:
                newer = len([j for j in readable if j > i])
                embedded[i] += temporal[min(newer, len(temporal) - 1)]
        sides.append(embedded)
    read_out, weights = read_row(query, sides[0], sides[1], bias, hop.softmax)
    transform = array(hop.transform)
    updated = (query if transform is None else transform @ query) + read_out
    return (np.maximum(updated, 0.0) if hop.relu else updated), weights


def layout(
    batch: Sequence[int],
    num_slots: int,
    mask: Tensor | None,
    bias: Tensor | None,
    lengths: Tensor | None = None,
) -> Array:
    """Padding, score bias and lengths as one bias over the slots of every row of the batch."""
    shape = (*batch, num_slots)
    laid = np.zeros(shape) if bias is None else np.broadcast_to(array(bias), shape).copy()  # type: ignore[arg-type]
    if mask is not None:
        laid[np.broadcast_to(mask.numpy(), shape)] = -np.inf
    if lengths is not None:
        each = np.broadcast_to(lengths.numpy(), tuple(batch))
        for row in np.ndindex(*batch):
            laid[row][int(each[row]) :] = -np.inf
    return laid


def held(memory: Stored, slots: Tensor | None, batch: Sequence[int]) -> Array:
    """The slots of every row of the batch, [*batch, N, I], a bank looked up."""
    rows = array(memory)
    assert rows is not None
    rows = np.broadcast_to(rows, (*batch, *rows.shape[-2:]))
    if slots is None:
        return rows
    named = np.broadcast_to(slots.numpy(), (*batch, slots.shape[-1]))
    chosen = np.zeros((*named.shape, rows.shape[-1]))
    for index in np.ndindex(*named.shape):
        chosen[index] = rows[index[:-1]][named[index]]
    return chosen


def leading(query: Tensor, keys: Stored, values: Stored, slots: Tensor | None) -> tuple[int, ...]:
    """The leading axes of a result."""
    held = [rows.data if isinstance(rows, Quantized) else rows for rows in (keys, values)]
    leads = [query.shape[:-1], *(rows.shape[:-2] for rows in held)]
    return np.broadcast_shapes(*leads, *([] if slots is None else [slots.shape[:-1]]))


def read(
    query: Tensor,
    keys: Stored,
    values: Stored | None = None,
    *,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    score_bias: Tensor | None = None,
    softmax: bool = True,
) -> tuple[Array, Array]:
    """What ``ops.read`` must return with ``need_weights``."""
    values = keys if values is None else values
    batch = leading(query, keys, values, slots)
    k, v = held(keys, slots, batch), held(values, slots, batch)
    bias = layout(batch, k.shape[-2], padding_mask, score_bias, lengths)
    q = np.broadcast_to(array(query), (*batch, query.shape[-1]))  # type: ignore[arg-type]
    read_out, weights = np.zeros((*batch, v.shape[-1])), np.zeros(bias.shape)
    for row in np.ndindex(*batch):
        read_out[row], weights[row] = read_row(q[row], k[row], v[row], bias[row], softmax)
    return read_out, weights


def multi_hop(
    query: Tensor,
    memories: Stored,
    hops: Sequence[Hop],
    *,
    values: Stored | None = None,
    slots: Tensor | None = None,
    padding_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    score_bias: Tensor | None = None,
) -> tuple[Array, Array]:
    """What ``ops.multi_hop`` must return with ``need_weights``."""
    values = memories if values is None else values
    batch = leading(query, memories, values, slots)
    m, v = held(memories, slots, batch), held(values, slots, batch)
    q = np.broadcast_to(array(query), (*batch, query.shape[-1])).copy()  # type: ignore[arg-type]
    attention = np.zeros((*batch, len(hops), m.shape[-2]))
    for k, hop in enumerate(hops):
        own = score_bias
        if own is not None and own.dim() == len(batch) + 2:
            own = own[..., k, :]
        bias = layout(batch, m.shape[-2], padding_mask, own, lengths)
        for row in np.ndindex(*batch):
            q[row], attention[(*row, k)] = hop_row(q[row], m[row], v[row], bias[row], hop)
    return q, attention


@dataclass
class Case:
    """One drawn call of ``ops.multi_hop``."""

    query: Tensor
    memories: Any  # Stored, as values among the options; mostly a tensor
    hops: list[Hop]
    options: dict[str, Any] = field(default_factory=dict)

    def to(self, dtype: torch.dtype) -> "Case":
        """The case with everything rounded to a dtype, ties kept; what is Quantized stays so."""
        known: dict[int, Tensor] = {}

        def cast(tensor: Any) -> Any:
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                return tensor
            return known.setdefault(id(tensor), tensor.to(dtype))

        hops = [
            hop._replace(
                a=Table(*map(cast, hop.a)),
                c=Table(*map(cast, hop.c)),
                transform=cast(hop.transform),
            )
            for hop in self.hops
        ]
        options = {name: cast(tensor) for name, tensor in self.options.items()}
        return Case(cast(self.query), cast(self.memories), hops, options)

    def in_fewer_bytes(self, seed: int) -> "Case":
        """Return the case with its memory in another format."""
        draw, own = np.random.default_rng(seed), self.query.dtype
        forms: list[Callable[[Tensor], Stored]] = [Quantized.of, lambda rows: rows.to(own)]
        if own == torch.float32:
            forms[1:] = [Tensor.bfloat16, Tensor.half, Tensor.float]
        options = dict(self.options)
        if "values" in options:
            options["values"] = forms[int(draw.integers(len(forms)))](options["values"])
        fewer = max(1, len(forms) - 1)  # the last form is what it was
        return Case(self.query, forms[int(draw.integers(fewer))](self.memories), self.hops, options)


def draw_hops(
    draw: np.random.Generator, normal: Any, sizes: tuple[int, int, int], num_hops: int
) -> list[Hop]:
    """Hops with any tying, bias, temporal tables, ReLU and softmax; sizes are I, V and D."""
    input_dim, value_dim, memory_dim = sizes
    has_bias, temporal = draw.random() < 0.7, int(draw.integers(0, 5))

    def table(row_dim: int) -> Table:
        return Table(
            normal(memory_dim, row_dim) / row_dim**0.5,
            normal(memory_dim) if has_bias else None,
            normal(temporal, memory_dim) if temporal else None,
        )

    tying = draw.choice(["none", "adjacent", "layerwise"])
    if tying == "adjacent" and input_dim == value_dim:
        tables = [table(input_dim) for _ in range(num_hops + 1)]
        pairs = list(pairwise(tables))
    elif tying == "layerwise":
        pairs = [(table(input_dim), table(value_dim))] * num_hops
    else:
        pairs = [(table(input_dim), table(value_dim)) for _ in range(num_hops)]
    transform = normal(memory_dim, memory_dim) / memory_dim**0.5 if tying == "layerwise" else None
    relu, with_softmax = bool(draw.random() < 0.3), bool(draw.random() < 0.75)
    return [Hop(a, c, transform, relu, with_softmax) for a, c in pairs]


def draw_case(seed: int) -> Case:
    """A case of odd and empty sizes, shared and own memories, banks, values, masks and biases."""
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        if draw.random() < 0.2 and len(shape) > 1:  # not contiguous
            return torch.randn(*shape[:-2], shape[-1], shape[-2], dtype=torch.float64).mT
        return torch.randn(*shape, dtype=torch.float64)

    num_slots = int(draw.choice([0, 1, 2, 3, 7, 13, 31]))
    input_dim, memory_dim, num_hops = (int(draw.integers(1, high)) for high in (12, 12, 4))
    batch: tuple[int, ...] = [(), (1,), (0,), (3,), (5,), (2, 3), (2, 1, 2)][int(draw.integers(7))]
    leads = [batch, (), (*batch[:-1], 1) if batch else (), batch[1:]]
    own = leads[int(draw.integers(4))]
    options: dict[str, Any] = {}
    num_rows = num_slots
    if draw.random() < 0.3:
        num_rows = int(draw.choice([1, 4, 40, 300]))
        slots = torch.randint(0, num_rows, (*batch, num_slots))
        options["slots"] = slots.int() if draw.random() < 0.3 else slots
    value_dim = input_dim
    if draw.random() < 0.35:
        value_dim = input_dim if draw.random() < 0.5 else int(draw.integers(1, 12))
        options["values"] = normal(*leads[int(draw.integers(4))], num_rows, value_dim)
    if draw.random() < 0.5:
        mask = torch.rand(*batch, num_slots) < draw.choice([0.3, 0.8, 1.0])
        options["padding_mask"] = mask[0] if batch and batch[0] and draw.random() < 0.2 else mask
    elif draw.random() < 0.5:
        lengths = torch.randint(0, num_slots + 1, leads[int(draw.integers(4))])
        options["lengths"] = lengths.int() if draw.random() < 0.3 else lengths
    if draw.random() < 0.4:
        each = (*batch, num_hops, num_slots) if draw.random() < 0.4 else (*batch, num_slots)
        bias = normal(*each)
        options["score_bias"] = bias.masked_fill(torch.rand(each) < 0.2, -torch.inf)
    return Case(
        normal(*batch, memory_dim),
        normal(*own, num_rows, input_dim),
        draw_hops(draw, normal, (input_dim, value_dim, memory_dim), num_hops),
        options,
    )
