"""The hops of a layer: by the weights of its tables, or by calling the tables.

``ops.multi_hop`` reads the weights of the tables and calls no module. What a user attached to a
table (hooks, an adapter, a subclass, a replaced module) has no effect there, so such a layer calls
every table with the whole memory, as the formula says. It is slower: [N, memory_dim] twice a hop.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from memhop import ops
from memhop.nn import checks
from memhop.nn.embedding import EmbeddingTable, has_global_hooks, is_plain, table_of
from memhop.ops import eager, reference
from memhop.ops.checks import autocast_dtype
from memhop.ops.inputs import Memory, converted

Result = Tensor | tuple[Tensor, Tensor]


# embed_a, embed_c and the transform of layer-wise tying, of a hop. The tables are called with
# memories [..., N, input_dim] and return [..., N, memory_dim]; the hop adds the temporal rows of
# the ``EmbeddingTable`` that each is or holds.
HopModules = tuple[nn.Module, nn.Module, nn.Module | None]


class Options(NamedTuple):
    """The options that all hops of a layer share, as in ``ops.Hop``."""

    relu: bool
    softmax: bool


def must_be_called(hops: Sequence[HopModules]) -> bool:
    """Return whether something is attached to the modules of the hops, or to all modules."""
    if has_global_hooks():
        return True
    for embed_a, embed_c, transform in hops:
        if not (is_plain(embed_a) and is_plain(embed_c)):
            return True
        if transform is not None and not (
            is_plain(transform, nn.Linear) and transform.bias is None
        ):
            return True
    return False


def hops_of(hops: Sequence[HopModules], options: Options) -> list[ops.Hop]:
    """Return the weights and options of hops in the form that ``ops.multi_hop`` takes.

    The weights of a module are read once where neighbouring hops share it: parametrized ones are
    computed when they are read.
    """
    found: list[ops.Hop] = []
    last_a = last_c = None
    for embed_a, embed_c, transform in hops:
        if found and embed_a is last_a and embed_c is last_c:
            found.append(found[-1])
            continue
        a = found[-1].c if found and embed_a is last_c else table_of(embed_a)
        h = None if transform is None else weight_of(transform)
        found.append(ops.Hop(a, table_of(embed_c), h, *options))
        last_a, last_c = embed_a, embed_c
    return found


def weight_of(transform: nn.Module) -> Tensor:
    """Return H, the weight of the transform of layer-wise tying."""
    if not isinstance(transform, nn.Linear):
        came = type(transform).__name__
        raise ValueError(
            f"expected torch.nn.Linear as the transform, whose weight is read; got {came}"
        )
    return transform.weight


def take_hops(
    layer: str,
    dims: tuple[int, int],
    query: Tensor,
    memory: Memory,
    hops: Sequence[HopModules],
    options: Options,
    need_weights: bool,
) -> Result:
    """Check the inputs of a layer and take its hops, by their weights where they are plain."""
    if not must_be_called(hops):
        given = hops_of(hops, options)
        checked = checks.check_hops(layer, dims, query, memory, given)
        return ops.take_hops(query, memory, given, checked, need_weights=need_weights)
    checks.check_layer_inputs(layer, dims, query, memory, None)
    result, attention = take_called_hops(query, memory, hops, options)
    return (result, attention) if need_weights else result


def take_called_hops(
    query: Tensor, memory: Memory, hops: Sequence[HopModules], options: Options
) -> tuple[Tensor, Tensor]:
    """Return the query after all hops, [..., D], and the attention [..., K, N].

    The tables are called with the memory as it is given, but for slots that all rows ignore, which
    hold zeros; ``Quantized`` is dequantized first, and a memory in fewer bytes converted.
    """
    mask = memory.padding_mask
    memories = memory.keys
    autocast = autocast_dtype(query.device.type)
    if autocast is None or not isinstance(memories, Tensor):
        memories = converted(memories, query.dtype).to(query.dtype)
    if mask is not None:
        by_all = mask.all(0) if mask.dim() == memories.dim() else mask
        memories = memories.masked_fill(by_all.unsqueeze(-1), 0.0)
    embed = _OncePerModule(memories)
    attentions = []
    for embed_a, embed_c, transform in hops:
        embedded = embed(embed_a), embed(embed_c)
        num_slots = memories.shape[-2]
        temporal = _temporal_of(embed_a, num_slots), _temporal_of(embed_c, num_slots)
        read_out, weights = _read(query, embedded, temporal, mask, options.softmax)
        carried = query if transform is None else transform(query)
        query = torch.relu(carried + read_out) if options.relu else carried + read_out
        attentions.append(weights)
    attention = torch.stack(attentions, -2)
    if autocast is None or query.dtype == torch.float64:
        return query, attention
    return query.to(autocast), attention.to(autocast)


class _OncePerModule:
    """Call each table once, however many hops share it."""

    def __init__(self, memories: Tensor) -> None:
        self._memories = memories
        self._known: dict[int, Tensor] = {}

    def __call__(self, module: nn.Module) -> Tensor:
        if not callable(module):
            came = type(module).__name__
            raise ValueError(f"expected a module as a table of a hop, got {came}")
        if id(module) not in self._known:
            self._known[id(module)] = module(self._memories)
        return self._known[id(module)]


def _read(
    query: Tensor,
    embedded: tuple[Tensor, Tensor],
    temporal: tuple[Tensor | None, Tensor | None],
    mask: Tensor | None,
    softmax: bool,
) -> tuple[Tensor, Tensor]:
    """Read once; temporal rows add q . T_A(i) to the scores and sum_i p_i T_C(i) to the result."""
    (keys, values), (a, c) = embedded, temporal
    score_bias = None
    if a is not None or c is not None:
        ages = reference.slot_ages(keys.shape[-2], mask, query.device)
    if a is not None:
        score_bias = eager.score_bank(query, a, ages.clamp(max=a.shape[0] - 1))
    read_out, weights = ops.read(
        query, keys, values, padding_mask=mask, score_bias=score_bias, softmax=softmax,
        need_weights=True,
    )  # fmt: skip
    if c is not None:
        on_table = eager.weights_on_bank(weights, c, ages.clamp(max=c.shape[0] - 1))
        read_out = read_out + on_table @ c
    return read_out, weights


def _temporal_of(module: nn.Module, num_slots: int) -> Tensor | None:
    """Return the temporal rows of the table that a module is or holds, for ages below N; or None.

    Raises:
        ValueError: for several tables with temporal rows, or rows that lie on several devices
            (of a table that is sharded alone: shard the whole layer).
    """
    tables = [each for each in module.modules() if isinstance(each, EmbeddingTable)]
    rows = [table.temporal for table in tables if table.temporal is not None]
    if not rows:
        return None
    is_sharded = hasattr(rows[0], "full_tensor")  # a DTensor, whose module loads long
    if len(rows) > 1 or is_sharded:
        came = "sharded rows" if is_sharded else f"{len(rows)} tables"
        raise ValueError(f"expected one table with temporal rows on one device, got {came}")
    return rows[0][: max(1, num_slots)]
