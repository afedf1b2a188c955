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
Slots = Tensor | tuple[Tensor | None, Tensor | None] | None
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


def embed_row(rows: Array, table: Table, readable: list[int], newest_first: bool) -> Array:
    """A m_i + a + T_A(age of i) of each readable slot; without a weight A is the identity.

    The last readable slot has the youngest row of T_A, or the first one if they are newest first.
    """
    weight, table_bias, temporal = array(table.weight), array(table.bias), array(table.temporal)
    embedded = np.zeros((len(rows), rows.shape[-1] if weight is None else len(weight)))
    for i in readable:
        embedded[i] = rows[i] if weight is None else weight @ rows[i]
        if table_bias is not None:
            embedded[i] += table_bias
        if temporal is not None:
            newer = len([j for j in readable if (j < i if newest_first else j > i)])
            embedded[i] += temporal[min(newer, len(temporal) - 1)]
    return embedded


def hop_row(
    query: Array,
    memories: Array,
    values: Array,
    bias: Array,
    hop: Hop,
    num_heads: int = 1,
    newest_first: bool = False,
) -> tuple[Array, Array]:
    """Return the query after a hop, and the weights [num_heads, N]. Head h, a part of the D units:

    p_hi = softmax_i(q_h . (A m_i + a + T_A(i))_h + b_i), o_h = sum_i p_hi (C v_i + c + T_C(i))_h,
    q <- relu(q + o) or relu(H q + o), with the relu on a share of the units, the last ones.
    """
    readable = [i for i in range(len(memories)) if bias[i] != -np.inf]
    keys = embed_row(memories, hop.a, readable, newest_first)
    held = embed_row(values, hop.c, readable, newest_first)
    read_out, weights = np.zeros(len(query)), np.zeros((num_heads, len(memories)))
    size = len(query) // num_heads
    for h in range(num_heads):
        units = slice(h * size, (h + 1) * size)
        read_out[units], weights[h] = read_row(
            query[units], keys[:, units], held[:, units], bias, hop.softmax
        )
    transform = array(hop.transform)
    updated = (query if transform is None else transform @ query) + read_out
    for unit in range(len(query) - round(hop.relu * len(query)), len(query)):
        updated[unit] = max(updated[unit], 0.0)
    return updated, weights


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


def both(slots: Slots) -> tuple[Tensor | None, Tensor | None]:
    """The slots of the keys and those of the values."""
    return slots if isinstance(slots, tuple) else (slots, slots)


def leading(query: Tensor, keys: Stored, values: Stored, slots: Slots) -> tuple[int, ...]:
    """The leading axes of a result."""
    held = [rows.data if isinstance(rows, Quantized) else rows for rows in (keys, values)]
    leads = [query.shape[:-1], *(rows.shape[:-2] for rows in held)]
    return np.broadcast_shapes(
        *leads, *(each.shape[:-1] for each in both(slots) if each is not None)
    )


def read(
    query: Tensor,
    keys: Stored,
    values: Stored | None = None,
    *,
    slots: Slots = None,
    padding_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    score_bias: Tensor | None = None,
    softmax: bool = True,
) -> tuple[Array, Array]:
    """What ``ops.read`` must return with ``need_weights``."""
    values = keys if values is None else values
    batch, (key_slots, value_slots) = leading(query, keys, values, slots), both(slots)
    k, v = held(keys, key_slots, batch), held(values, value_slots, batch)
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
    slots: Slots = None,
    padding_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    score_bias: Tensor | None = None,
    slot_order: str = "oldest_first",
    num_heads: int = 1,
    average_attn_weights: bool = True,
) -> tuple[Array, Array]:
    """What ``ops.multi_hop`` must return with ``need_weights``."""
    values = memories if values is None else values
    batch, (key_slots, value_slots) = leading(query, memories, values, slots), both(slots)
    m, v = held(memories, key_slots, batch), held(values, value_slots, batch)
    q = np.broadcast_to(array(query), (*batch, query.shape[-1])).copy()  # type: ignore[arg-type]
    attention = np.zeros((*batch, len(hops), num_heads, m.shape[-2]))
    newest_first = {"oldest_first": False, "newest_first": True}[slot_order]
    for k, hop in enumerate(hops):
        own = score_bias
        if own is not None and own.dim() == len(batch) + 2:
            own = own[..., k, :]
        bias = layout(batch, m.shape[-2], padding_mask, own, lengths)
        for row in np.ndindex(*batch):
            q[row], attention[(*row, k)] = hop_row(
                q[row], m[row], v[row], bias[row], hop, num_heads, newest_first
            )
    return q, attention.mean(-2) if average_attn_weights else attention


@dataclass
class Case:
    """One drawn call of ``ops.multi_hop``."""

    query: Tensor
    memories: Any  # Stored, as values among the options; mostly a tensor
    hops: list[Hop]
    options: dict[str, Any] = field(default_factory=dict)

    def to(self, dtype: torch.dtype) -> "Case":
        """The case with everything rounded to a dtype, ties kept; what is Quantized stays so."""
        return self.mapped(lambda tensor: tensor.to(dtype))

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Case":
        """The case with a function of every floating tensor, of a tied one once."""
        known: dict[int, Tensor] = {}

        def cast(given: Any) -> Any:
            if not isinstance(given, Tensor) or not given.is_floating_point():
                return given
            if id(given) not in known:
                known[id(given)] = function(given)
            return known[id(given)]

        hops = [
            hop._replace(
                a=Table(*map(cast, hop.a)),
                c=Table(*map(cast, hop.c)),
                transform=cast(hop.transform),
            )
            for hop in self.hops
        ]
        options = {name: cast(given) for name, given in self.options.items()}
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
    """Hops with any tying, bias, temporal tables, ReLU and softmax; sizes are I, V and D.

    A table whose rows have the size of the query may have no weight.
    """
    input_dim, value_dim, memory_dim = sizes
    has_bias, temporal = draw.random() < 0.7, int(draw.integers(0, 5))

    def table(row_dim: int) -> Table:
        has_weight = row_dim != memory_dim or draw.random() < 0.6
        return Table(
            normal(memory_dim, row_dim) / row_dim**0.5 if has_weight else None,
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
    relu = draw.choice([0.0, 0.0, 0.0, 0.0, 1.0, 0.5, draw.random()])
    relu, with_softmax = bool(relu) if relu in (0, 1) else float(relu), bool(draw.random() < 0.75)
    return [Hop(a, c, transform, relu, with_softmax) for a, c in pairs]


def draw_slots(
    draw: np.random.Generator, leads: list[tuple[int, ...]], num_slots: int, has_values: bool
) -> tuple[Slots, int, int]:
    """Slots of one bank, of a bank of the keys and one of the values, or None; rows of both."""

    def rows() -> int:
        return int(draw.choice([1, 4, 40, 300]))

    def numbers(num_rows: int) -> Tensor:
        each = torch.randint(0, num_rows, (*leads[int(draw.integers(4))], num_slots))
        return each.int() if draw.random() < 0.3 else each

    kind = draw.random()
    if kind < 0.7:
        return None, num_slots, num_slots
    if kind < 0.85:
        return numbers(num_rows := rows()), num_rows, num_rows
    if not has_values:
        return (numbers(num_rows := rows()), numbers(num_rows)), num_rows, num_rows
    key_rows, value_rows, either = rows(), rows(), draw.random()
    if either < 0.25:
        return (None, numbers(value_rows)), num_slots, value_rows
    if either < 0.5:
        return (numbers(key_rows), None), key_rows, num_slots
    return (numbers(key_rows), numbers(value_rows)), key_rows, value_rows


def draw_case(seed: int) -> Case:
    """A case of odd and empty sizes, shared and own memories, banks, values, masks and biases."""
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        if draw.random() < 0.2 and len(shape) > 1:  # not contiguous
            return torch.randn(*shape[:-2], shape[-1], shape[-2], dtype=torch.float64).mT
        return torch.randn(*shape, dtype=torch.float64)

    num_slots = int(draw.choice([0, 1, 2, 3, 7, 13, 31]))
    num_heads = int(draw.choice([1, 1, 1, 1, 2, 3, 4]))
    memory_dim = num_heads * int(draw.integers(1, 12 // num_heads))
    input_dim, value_dim, num_hops = (int(draw.integers(1, high)) for high in (12, 12, 4))
    input_dim = memory_dim if draw.random() < 0.25 else input_dim
    batch: tuple[int, ...] = [(), (1,), (0,), (3,), (5,), (2, 3), (2, 1, 2)][int(draw.integers(7))]
    leads = [batch, (), (*batch[:-1], 1) if batch else (), batch[1:]]
    own = leads[int(draw.integers(4))]
    options: dict[str, Any] = {}
    has_values = draw.random() < 0.35
    value_dim = value_dim if has_values and draw.random() < 0.5 else input_dim
    slots, num_rows, value_rows = draw_slots(draw, leads, num_slots, has_values)
    if slots is not None:
        options["slots"] = slots
    if has_values:
        options["values"] = normal(*leads[int(draw.integers(4))], value_rows, value_dim)
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
    hops = draw_hops(draw, normal, (input_dim, value_dim, memory_dim), num_hops)
    if hops[0].a.temporal is not None and draw.random() < 0.25:
        options["slot_order"] = "newest_first"
    if num_heads > 1:
        options |= {"num_heads": num_heads, "average_attn_weights": bool(draw.random() < 0.3)}
    query, memories = normal(*batch, memory_dim), normal(*own, num_rows, input_dim)
    return Case(query, memories, hops, options)
