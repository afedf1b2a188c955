"""Run the hops of a layer by the weights of its tables, or by calls of its tables.

``ops.multi_hop`` reads the weights of the tables and calls no module. Attachments of a table
(hooks, an adapter, a subclass, another module instead of it) have no effect there, so a layer with
such attachments calls every table with the whole memory, as in the formula. That is slower: it
computes [N, memory_dim] twice a hop.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.nn.utils.parametrize import type_before_parametrizations

from memhop import ops
from memhop.nn import checks
from memhop.nn.embedding import EmbeddingTable
from memhop.ops import eager, reference
from memhop.ops.checks import autocast_dtype, common_case
from memhop.ops.inputs import Memory, converted

Result = Tensor | tuple[Tensor, Tensor]

# embed_a, embed_c and the transform of layer-wise tying, of a hop. The tables are called with
# memories [..., N, input_dim] and return [..., N, memory_dim]; the hop adds the temporal rows of
# the ``EmbeddingTable`` that each is or contains.
HopModules = tuple[nn.Module, nn.Module, nn.Module | None]

# to detect a patched class
_FORWARDS: dict[type[nn.Module], Any] = {kind: kind.forward for kind in (EmbeddingTable, nn.Linear)}


class Layer(NamedTuple):
    """The name, sizes and options of a layer, which all of its hops share.

    Attributes:
        memory_dim, input_dim: the sizes of its query and of a slot.
        relu, softmax: as in ``ops.Hop``.
    """

    name: str
    memory_dim: int
    input_dim: int
    relu: bool
    softmax: bool


def are_plain(modules: Iterable[nn.Module | None], kind: type[nn.Module]) -> bool:
    """Return whether a call of each module computes the formula of a class and does nothing else.

    A module is not plain if it is of a subclass or another class, has hooks (pruning and the older
    weight norm are hooks), or if its ``forward`` or its class's is patched. Parametrized weights
    are plain: their values are read at every call.
    """
    if kind.forward is not _FORWARDS[kind]:
        return False
    for module in modules:  # one loop, since function calls dominate the time of small layers
        if type(module) is not kind and (
            module is None or type_before_parametrizations(module) is not kind
        ):
            return False
        if (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or "forward" in module.__dict__
        ):
            return False
    return True


def must_be_called(hops: Sequence[HopModules]) -> bool:
    """Return whether the modules of the hops, or all modules, have attachments."""
    if _has_any_global_hook():  # type: ignore[no-untyped-call]
        return True
    all_a, all_c, all_transforms = zip(*hops, strict=True)
    if not are_plain(all_a + all_c, EmbeddingTable):
        return True
    transform = all_transforms[0]  # one for all hops
    return transform is not None and not (
        are_plain((transform,), nn.Linear) and transform.bias is None
    )


def hops_of(hops: Sequence[HopModules], layer: Layer) -> list[ops.Hop]:
    """Return the weights and options of hops in the form that ``ops.multi_hop`` expects.

    The weights of a module are read once; parametrized ones are computed when they are read.
    """
    tables: dict[nn.Module, ops.Table] = {}
    found: list[ops.Hop] = []
    for embed_a, embed_c, transform in hops:
        for module in (embed_a, embed_c):
            if module in tables:
                continue
            if not isinstance(module, EmbeddingTable):
                came = type(module).__name__
                raise ValueError(f"expected an EmbeddingTable, whose weights are read, got {came}")
            # The attribute lookup of a module is slow, so parameters are read from its dictionary.
            # Parametrized weights and None are only attributes, hence no ``dict.get``.
            held = module._parameters
            tables[module] = ops.Table(
                held["weight"] if "weight" in held else module.weight,  # type: ignore[arg-type]  # noqa: SIM401
                held["bias"] if "bias" in held else module.bias,  # noqa: SIM401
                held["temporal"] if "temporal" in held else module.temporal,  # noqa: SIM401
            )
        h = None if transform is None else found[0].transform if found else weight_of(transform)
        found.append(ops.Hop(tables[embed_a], tables[embed_c], h, layer.relu, layer.softmax))
    return found


def weight_of(transform: nn.Module) -> Tensor:
    """Return H, the weight of the transform of layer-wise tying."""
    if not isinstance(transform, nn.Linear):
        came = type(transform).__name__
        raise ValueError(
            f"expected torch.nn.Linear as the transform, whose weight is read, got {came}"
        )
    return transform.weight


def run_hops(
    layer: Layer, query: Tensor, memory: Memory, modules: Sequence[HopModules], need_weights: bool
) -> Result:
    """Check the inputs of a layer and run its hops, by their weights if the modules are plain."""
    if must_be_called(modules):
        checks.check_layer_inputs(layer.name, layer[1:3], query, memory, None)
        result, attention = call_tables(layer, query, memory, modules)
        return (result, attention) if need_weights else result
    hops = hops_of(modules, layer)
    call = common_case(query, memory, hops)
    if call is None or len(call.batch) > 1 or query.shape[-1] != layer.memory_dim:
        call = checks.check_hops(layer.name, layer[1:3], query, memory, hops)
    return ops.run(call, "auto", need_weights)


def call_tables(
    layer: Layer, query: Tensor, memory: Memory, modules: Sequence[HopModules]
) -> tuple[Tensor, Tensor]:
    """Return the query after all hops, [..., D], and the attention [..., K, N].

    The tables are called with the memory of the caller, with zeros in slots that all rows ignore.
    ``Quantized`` is dequantized first, and a smaller memory converted.
    """
    mask, memories = memory.padding_mask, memory.keys
    autocast = autocast_dtype(query.device.type)
    if autocast is None or not isinstance(memories, Tensor):
        memories = converted(memories, query.dtype).to(query.dtype)
    if mask is not None:
        ignored_by_all = mask.all(0) if mask.dim() == memories.dim() else mask
        memories = memories.masked_fill(ignored_by_all.unsqueeze(-1), 0.0)
    embed = _OncePerModule(memories)
    attentions = []
    for embed_a, embed_c, transform in modules:
        embedded = embed(embed_a), embed(embed_c)
        num_slots = memories.shape[-2]
        temporal = _temporal_of(embed_a, num_slots), _temporal_of(embed_c, num_slots)
        read_out, weights = _read(query, embedded, temporal, mask, layer.softmax)
        carried = query if transform is None else transform(query)
        query = torch.relu(carried + read_out) if layer.relu else carried + read_out
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
    """Return (o, p); temporal rows add q . T_A(i) to the scores and sum_i p_i T_C(i) to o."""
    (keys, values), (a, c) = embedded, temporal
    score_bias = None
    if a is not None or c is not None:
        ages = reference.slot_ages(keys.shape[-2], mask, query.device)
    if a is not None:
        score_bias = eager.score_ages(query, a, ages)
    read_out, weights = ops.read(
        query, keys, values, padding_mask=mask, score_bias=score_bias, softmax=softmax,
        need_weights=True,
    )  # fmt: skip
    if c is not None:
        read_out = read_out + eager.read_ages(weights, c, ages)
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
