"""Draw a layer with any options, and a call of it with any arguments."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import memhop
from memhop.nn.embedding import EmbeddingTable
from memhop.ops import Quantized
from tests.nn import layer_oracle
from tests.ops import oracle
from tests.ops.oracle import Slots, Stored

KINDS = ("MemoryHop", "MultiHop", "MemoryNetwork")
HALF = (torch.bfloat16, torch.float16)


@dataclass
class Drawn:
    """A layer and a call of it.

    Attributes:
        options: the keywords of the constructor.
        complete: all options, as ``layer_oracle`` reads them.
        given: the keywords of ``forward``.
    """

    options: dict[str, Any]
    complete: dict[str, Any]
    layer: nn.Module
    query: Tensor
    memories: Stored
    given: dict[str, Any]

    def __call__(self, **others: Any) -> Any:
        """Call the layer with all arguments, some of them replaced."""
        return self.layer(self.query, self.memories, **(self.given | others))


class Drawer:
    """Random numbers of one seed, and tensors in several memory layouts."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.torch = torch.Generator().manual_seed(seed)

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def integer(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``, both included."""
        return int(self.random.integers(low, high + 1))

    def one_of(self, *choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.torch, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.torch)

    def numbers(self, highest: int, *shape: int) -> Tensor:
        """Return integers of some dtype, from 0 to ``highest``."""
        found = torch.randint(0, highest + 1, shape, generator=self.torch)
        dtypes = torch.int64, torch.int64, torch.int32, torch.int16, torch.uint8
        return self.in_layout(found.to(self.one_of(*dtypes)))

    def in_layout(self, tensor: Tensor) -> Tensor:
        """Return equal numbers, perhaps with gaps between them or with two axes swapped."""
        way = self.one_of("as it is", "as it is", "transposed", "with gaps", "reversed storage")
        if way == "transposed" and tensor.dim() > 1:
            return tensor.mT.contiguous().mT
        if way == "with gaps" and tensor.dim() > 0:
            return torch.stack([tensor, tensor], -1)[..., 0]
        if way == "reversed storage" and tensor.dim() > 1:
            return tensor.transpose(0, -2).contiguous().transpose(0, -2)
        return tensor


def draw_options(draw: Drawer) -> tuple[str, dict[str, Any]]:
    """Return the class of a layer and the arguments of its constructor; some have defaults."""
    kind = draw.one_of(*KINDS)
    num_heads = draw.one_of(1, 1, 1, 2, 3, 4)
    memory_dim = num_heads * draw.integer(1, 8 // num_heads)
    embed = draw.one_of(True, True, True, True, True, False, "a", "c")
    tying = "none" if kind == "MemoryHop" else draw.one_of("none", "adjacent", "layerwise")
    if tying == "adjacent":
        embed = bool(embed)
    input_dim = memory_dim if embed in (False, "c") else draw.integer(1, 8)
    value_dim = draw.one_of(input_dim, input_dim, draw.integer(1, 8))
    if embed in (False, "a"):
        value_dim = memory_dim
    elif tying == "adjacent":
        value_dim = input_dim
    options: dict[str, Any] = {
        "tying": tying,
        "value_dim": None if value_dim == input_dim and draw.chance(0.5) else value_dim,
        "num_heads": num_heads,
        "dropout": draw.one_of(0.0, 0.0, 0.3),
        "embed": embed,
        "bias": draw.chance(0.7),
        "relu": draw.one_of(False, False, False, True, 0.5, float(draw.random.random())),
        "softmax": draw.chance(0.8),
        "temporal_slots": draw.one_of(None, None, draw.integer(1, 5)),
        "slot_order": draw.one_of("oldest_first", "oldest_first", "newest_first"),
    }
    for name in list(options):
        if options[name] == layer_oracle.DEFAULTS[name] and draw.chance(0.5):
            del options[name]
    sizes = {"input_dim": input_dim, "memory_dim": memory_dim}
    if kind == "MemoryHop":
        options.pop("tying", None)
    else:
        sizes["num_hops"] = draw.integer(1, 3)
    if kind == "MemoryNetwork" and draw.chance(0.5):
        sizes["output_dim"] = draw.integer(1, 5)
    dtypes = torch.float64, torch.float64, torch.float32, torch.float32, *HALF
    return kind, sizes | options | {"dtype": draw.one_of(*dtypes)}


def make_layer(draw: Drawer, kind: str, options: dict[str, Any]) -> nn.Module:
    """Return a layer with random weights."""
    layer_class = getattr(memhop, kind)
    if kind == "MemoryNetwork" and draw.chance(0.5):
        layer = layer_class.build(**options)
    else:
        given = dict(options)
        names = ("input_dim", "memory_dim", "num_hops") if kind != "MemoryHop" else ("input_dim",)
        positional = [given.pop(name) for name in names if name in given]
        layer = layer_class(*positional, **given)
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            fan_in = weight.shape[-1] if name.endswith("weight") else 1
            weight.copy_(draw.normal(*weight.shape) / fan_in**0.5)
    if options.get("dropout") or draw.chance(0.3):
        layer.eval()
    return layer  # type: ignore[no-any-return]


class Shapes:
    """The shapes that a call allows, for a query [*lead, D] and N slots."""

    def __init__(self, draw: Drawer, num_hops: int) -> None:
        batch, queries = draw.one_of(0, 1, 1, 2, 2, 3, 3), draw.one_of(0, 1, 2, 2, 4, 4)
        self.lead: tuple[int, ...] = draw.one_of((), (batch,), (batch,), *[(batch, queries)] * 2)
        self.num_slots = draw.one_of(0, 1, 1, 2, 3, 3, 5, 9)
        first, both = self.lead[:1], self.lead
        self.of_memory = [(), first] if first else [()]
        self.of_lengths = [(), first, (1,), both, both] if first else [()]
        self.over_slots = [(), first, (1,), both, both] if first else [()]
        self.of_each_hop = [(*both, num_hops)]
        if len(both) == 1:
            self.of_each_hop.append((1, num_hops))
        if len(both) == 2:
            ones = (1, both[1]), (both[0], 1), (1, 1)
            self.of_each_hop += [(*lead, num_hops) for lead in ones]


def draw_slots(draw: Drawer, shapes: Shapes, has_values: bool) -> tuple[Slots, int, int]:
    """Return slots of a bank, a pair of them, or None; and the number of rows of both banks."""
    num_slots = shapes.num_slots

    def size() -> int:
        return draw.one_of(1, 3, 8, 20, *([0] if num_slots == 0 else []))  # type: ignore[no-any-return]

    def numbers(num_rows: int) -> Tensor:
        return draw.numbers(max(0, num_rows - 1), *draw.one_of(*shapes.over_slots), num_slots)

    kind = draw.one_of("none", "none", "none", "one", "one", "pair", "pair")
    if kind == "none":
        return draw.one_of(None, None, None, (None, None)), num_slots, num_slots
    keys = values = size()
    if kind == "one":
        return numbers(keys), keys, values
    if has_values:
        values = size()
    key_slots: Tensor | None = numbers(keys)
    value_slots: Tensor | None = numbers(values)
    left_out = draw.one_of("none", "none", "keys", "values")
    if left_out == "keys":
        key_slots, keys = None, num_slots
        if not has_values:  # both sides read one bank
            value_slots, values = numbers(num_slots), num_slots
    if left_out == "values":
        value_slots, values = None, num_slots
        if not has_values:
            key_slots, keys = numbers(num_slots), num_slots
    return (key_slots, value_slots), keys, values


def draw_arguments(draw: Drawer, shapes: Shapes) -> dict[str, Any]:
    """Return a mask or lengths, a score bias, and which weights to return."""
    given: dict[str, Any] = {}
    num_slots, excluded = shapes.num_slots, draw.one_of("mask", "mask", "lengths", "nothing")
    if excluded == "mask":
        mask = draw.uniform(*draw.one_of(*shapes.over_slots), num_slots) < draw.one_of(0.3, 0.7, 1)
        given["memory_padding_mask"] = draw.in_layout(mask)
    elif excluded == "lengths":
        given["lengths"] = draw.numbers(num_slots, *draw.one_of(*shapes.of_lengths))
    if draw.chance(0.4):
        lead = draw.one_of(draw.one_of(*shapes.over_slots), draw.one_of(*shapes.of_each_hop))
        bias = draw.normal(*lead, num_slots)
        is_excluded = draw.uniform(*bias.shape) < draw.one_of(0.0, 0.3)
        given["score_bias"] = draw.in_layout(bias.masked_fill(is_excluded, -torch.inf))
    weights = draw.one_of("none", "averaged", "of each head", "of each head")
    if weights != "none":
        given["need_weights"] = True
    if weights == "of each head" or draw.chance(0.1):
        given["average_attn_weights"] = False
    return given


def never_read(drawn: Drawn) -> list[Tensor]:
    """Return which rows of the memory and of the values no query reads, bool [N] or [B, N]."""
    num_hops, query = drawn.complete["num_hops"], layer_oracle.over_slots(drawn.query)
    given = layer_oracle.with_axes(drawn.query.dim(), drawn.given)
    sides = [layer_oracle.rows(drawn.memories)]
    sides.append(given.get("values", sides[0]))
    slots = oracle.both(given.get("slots"))
    batch = query.shape[:2]
    num_slots = sides[0].shape[-2] if slots[0] is None else slots[0].shape[-1]
    bias, is_read = given.get("score_bias"), np.zeros((*batch, num_slots), bool)
    for k in range(num_hops):
        own = bias[:, :, k] if bias is not None and bias.dim() == 4 else bias
        excluded = given.get("padding_mask"), own, given.get("lengths")
        is_read |= oracle.layout(batch, num_slots, *excluded) != -np.inf
    found = []
    for stored, each in zip(sides, slots, strict=True):
        unread = torch.ones(*stored.shape[:2], stored.shape[-2], dtype=torch.bool)
        numbers = torch.arange(num_slots) if each is None else each
        numbers = numbers.expand(*batch, num_slots)
        for b, query_number, i in zip(*np.nonzero(is_read), strict=True):
            row = int(numbers[b, query_number, i])
            unread[b if len(unread) > 1 else 0, 0, row] = False
        found.append(unread[:, 0])
    if "values" not in given:
        found = [found[0] & found[1]]
    own_axes = [drawn.memories, drawn.given["values"]] if "values" in given else [drawn.memories]
    return [
        unread if stored.dim() == 3 else unread[0]
        for unread, stored in zip(found, own_axes, strict=True)
    ]


def draw_stored(draw: Drawer, stored: Tensor, unread: Tensor, dtype: torch.dtype) -> Stored:
    """Return a memory in some format and layout, perhaps with any content in unread rows."""
    formats = [dtype]
    if dtype == torch.float32:
        formats = [torch.float32, torch.float32, *HALF]
    if dtype != torch.float64 and draw.chance(0.2):
        return Quantized.of(stored)
    if draw.chance(0.3):
        stored = stored.masked_fill(unread.unsqueeze(-1), draw.one_of(torch.nan, torch.inf))
    elif draw.chance(0.1) and stored.dim() == 3 and stored.shape[0] > 0:
        return stored[0].to(draw.one_of(*formats)).expand(stored.shape)
    return draw.in_layout(stored.to(draw.one_of(*formats)))


def draw_layer(seed: int) -> Drawn:
    """Return a layer and a call of it."""
    draw = Drawer(seed)
    kind, options = draw_options(draw)
    complete = layer_oracle.settings(kind, options)
    dtype, shapes = complete["dtype"], Shapes(draw, complete["num_hops"])
    if kind == "MemoryNetwork" and shapes.num_slots > 0 and draw.chance(0.3):
        options["num_memories"] = shapes.num_slots
    layer, given = make_layer(draw, kind, options), draw_arguments(draw, shapes)
    input_dim, value_dim = complete["input_dim"], complete["value_dim"]
    has_values = value_dim != input_dim or draw.chance(0.3)
    slots, num_rows, value_rows = draw_slots(draw, shapes, has_values)
    if slots is not None:
        given["slots"] = slots
    memories = draw.normal(*draw.one_of(*shapes.of_memory), num_rows, input_dim)
    if has_values:
        given["values"] = draw.normal(*draw.one_of(*shapes.of_memory), value_rows, value_dim)
    size = input_dim if kind == "MemoryNetwork" else complete["memory_dim"]
    query = draw.in_layout(draw.normal(*shapes.lead, size).to(dtype))
    drawn = Drawn(options, complete, layer, query, memories, given)
    unread = never_read(drawn)
    drawn.memories = draw_stored(draw, memories, unread[0], dtype)
    if has_values:
        given["values"] = draw_stored(draw, given["values"], unread[1], dtype)
    if "score_bias" in given:
        given["score_bias"] = draw.in_layout(given["score_bias"].to(dtype))
    if draw.chance(0.2):
        call_tables(layer)
    return drawn


def call_tables(layer: nn.Module) -> None:
    """Attach a hook without effect to one table or to all, so that the layer calls the modules."""
    tables = [module for module in layer.modules() if isinstance(module, EmbeddingTable)]
    for table in tables[: 1 if len(tables) % 2 else None]:
        table.register_forward_hook(lambda *_: None)
