"""Run the hops of a layer by the weights of its tables, or by calls of its tables.

``ops.multi_hop`` reads the weights of the tables and calls no module. Attachments of a table
(hooks, an adapter, a subclass, another module instead of it) have no effect there, so a layer with
such attachments calls every table with the whole memory, as in the formula. That is slower: it
computes [N, memory_dim] twice a hop.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from memhop import ops
from memhop.nn import checks
from memhop.nn.checks import Dims, Inputs
from memhop.nn.embedding import EmbeddingTable
from memhop.nn.hop_weights import HopModules, KeptHops, Layer, must_be_called
from memhop.ops import dtensors, eager, forms, heads, reference, repeated, streaming
from memhop.ops.banks import Pair
from memhop.ops.call import PLAIN, Call, Outputs, autocast_dtype, common_case
from memhop.ops.checks import broadcast, check_multi_hop
from memhop.ops.inputs import Memory, Stored, converted, is_dense, storage
from memhop.ops.reference import Readable
from memhop.ops.repeated import Arguments, RepeatedHops
from memhop.ops.windowed import check_window, excluded, rows_of_windows, windows_of

Result = Tensor | tuple[Tensor, Tensor]


def run_hops(
    layer: Layer,
    inputs: Inputs,
    modules: Sequence[HopModules],
    kept: KeptHops,
    need_weights: bool,
    average_attn_weights: bool,
) -> Result:
    """Check the inputs of a layer and run its hops, by their weights if the modules are plain."""
    if must_be_called(modules):
        if inputs.streams is not None:
            came = "memories in parts" if inputs.group is None else "a group"
            raise ValueError(
                f"{layer.name} expected memories in one tensor, since its tables have hooks, an "
                f"adapter or another class and must be called, got {came}"
            )
        if inputs.window is None:
            checks.check_inputs(layer.name, layer.dims, inputs, None)
        result, attention = call_tables(layer, inputs, modules)
        if not need_weights:
            return result
        num_heads = layer.attention.num_heads
        return result, forms.weights_as_returned(attention, num_heads, average_attn_weights)
    hops = kept.update(modules, layer)
    arguments = arguments_of(layer, inputs, need_weights)
    if arguments is not None and type(hops) is RepeatedHops:
        outputs = repeated.repeat(hops, arguments)
        if outputs is not None:
            return as_result(outputs, average_attn_weights)
    if dtensors.are_possible():
        dtensors.check_weights(layer.name, hops)
    call = call_of(layer, inputs, hops)
    if arguments is not None and type(hops) is RepeatedHops:
        call = repeated.with_is_repeated(call)
        run = repeated.keep(hops, call, arguments)
        if run is not None:
            return as_result(run(arguments), average_attn_weights)
    streams = checks.over_queries(inputs).streams if inputs.streams is not None else None
    if streams is not None:
        return streaming.run(call, streams, "auto", need_weights, average_attn_weights)
    return forms.run(call, "auto", need_weights, average_attn_weights)


def as_result(outputs: Outputs, average_attn_weights: bool) -> Result:
    """Return the result of one head, and the weights [B, K, N] or [B, K, 1, N] if it has them."""
    result, weights, _ = outputs
    if weights is None:
        return result
    return result, forms.weights_as_returned(weights, 1, average_attn_weights)


def arguments_of(layer: Layer, inputs: Inputs, need_weights: bool) -> Arguments | None:
    """Return the arguments of a call that may be repeated, or None for one with other inputs."""
    query, memories, values, slots, lengths, mask, score_bias, streams, group, window = inputs
    if (
        values is None and slots is None and lengths is None and score_bias is None
        and streams is None and group is None and window is None
        and layer.attention == PLAIN
        and is_dense(query) and isinstance(memories, Tensor) and is_dense(memories)
    ):  # fmt: skip
        return Arguments(query, memories, mask, need_weights)
    return None


def call_of(layer: Layer, inputs: Inputs, hops: Sequence[ops.Hop]) -> Call:
    """Return the call of the hops of a layer, or raise ValueError."""
    if inputs.window is not None:
        return call_of_windows(layer, inputs, hops)
    query, memories, values, slots, lengths, mask, score_bias, *_ = inputs
    if layer.attention == PLAIN and slots is None and layer.dims.memories == layer.dims.values:
        memory = Memory(memories, values, None, mask, lengths, score_bias)
        call = common_case(query, memory, hops)
        if call is not None and len(call.batch) < 2 and query.shape[-1] == layer.dims.query:
            return call
    weight = next((hop.a.weight for hop in hops if hop.a.weight is not None), None)
    checks.check_inputs(layer.name, layer.dims, inputs, weight)
    memory = checks.over_queries(inputs).memory(layer.name)
    return check_multi_hop(query, memory, hops, layer.attention, layer.name)


def call_of_windows(layer: Layer, inputs: Inputs, hops: Sequence[ops.Hop]) -> Call:
    """Return the call of the hops of a layer over a window, or raise ValueError."""
    weight = next((hop.a.weight for hop in hops if hop.a.weight is not None), None)
    windows = windows_in(layer.name, layer.dims, inputs, weight)
    call = check_multi_hop(inputs.query, windows, hops, layer.attention, layer.name)
    return call._replace(window=inputs.memory(layer.name))


def windows_in(
    layer: str, dims: Dims, inputs: Inputs, weight: Tensor | None, num_memories: int | None = None
) -> Memory:
    """Return the memory of each query, views of that in the inputs; or raise ValueError.

    The arguments are those of ``checks.check_inputs``.
    """
    query, memories, values, slots, lengths, mask, bias, streams, group, window = inputs
    assert window is not None
    check_window(layer, window)
    memory = Memory(memories, values, None, mask, lengths, bias)
    if streams is None and group is None and slots is None and lengths is None:
        checks.check_inputs(layer, dims, inputs, weight, num_memories)
    return windows_of(layer, query, memory, window, slots, streams or group)


def call_tables(
    layer: Layer, inputs: Inputs, modules: Sequence[HopModules]
) -> tuple[Tensor, Tensor]:
    """Return the query after all hops, [..., D], and the attention [..., K, N] or [..., K, H, N].

    The tables are called with the memory of the caller, with zeros in rows that no query reads.
    ``Quantized`` is dequantized first, and a smaller memory converted.
    """
    query, num_heads = inputs.query, layer.attention.num_heads
    autocast = autocast_dtype(query.device.type)
    num_slots = inputs.window or num_slots_of(inputs)
    hops = [
        ops.Hop(
            ops.Table(None, None, _temporal_of(a, num_slots)),
            ops.Table(None, None, _temporal_of(c, num_slots)),
            softmax=layer.softmax,
        )
        for a, c, _ in modules
    ]
    if inputs.window is None:
        all_readable = _readable(layer, inputs, hops)
        keys, values = rows_to_embed(inputs, _ignored_by_all(all_readable))
    else:
        windows = windows_in(layer.name, layer.dims, inputs, None)
        of_windows = inputs._replace(
            memories=windows.keys, memory_padding_mask=windows.padding_mask,
            score_bias=windows.score_bias,
        )  # fmt: skip
        all_readable = _readable(layer, of_windows, hops)
        memory, bias = inputs.memory(layer.name), inputs.score_bias
        if bias is not None and bias.dim() == query.dim():  # of each hop
            memory = memory._replace(score_bias=bias.amax(-2))
        keys, values = rows_to_embed(inputs, excluded(memory))
    embed_keys = _OncePerModule(keys)
    embed_values = embed_keys if values is keys else _OncePerModule(values)

    def read_slots(query: Tensor, k: int, readable: Readable) -> tuple[Tensor, Tensor]:
        a, c, _ = modules[k]
        keys, values = embed_keys(a), embed_values(c)
        if inputs.window is not None:
            keys, values = (rows_of_windows(rows, inputs.window) for rows in (keys, values))
        rows = inputs._replace(memories=keys, values=values)
        return _read(query, checks.over_queries(rows), readable, layer)

    read_hop = eager.biased_read(hops, all_readable, read_slots, num_heads)
    attentions = []
    for k, (_, _, transform) in enumerate(modules):
        read_out, weights = read_hop(query, k)
        carried = query if transform is None else transform(query)
        query = reference.activated(carried + read_out, layer.relu)
        attentions.append(weights)
    attention = torch.stack(attentions, inputs.query.dim() - 1)
    if autocast is None or query.dtype == torch.float64:
        return query, attention
    return query.to(autocast), attention.to(autocast)


def num_slots_of(inputs: Inputs) -> int:
    """Return N: of the slots if there are any, else of the memories."""
    slots = inputs.slots[0] if isinstance(inputs.slots, tuple) else inputs.slots
    return storage(inputs.memories).shape[-2] if slots is None else slots.shape[-1]


def _ignored_by_all(all_readable: Sequence[Readable]) -> Tensor | None:
    """Return the slots that all hops ignore, [..., N], or None."""
    ignored = [each.ignored for each in all_readable if each.ignored is not None]
    return reduce(torch.logical_and, ignored) if len(ignored) == len(all_readable) else None


def rows_to_embed(inputs: Inputs, ignored: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return memories and values as the tables get them; one tensor if the values are the memories.

    Rows that no query reads hold zeros, because the gradients of a table would be NaN if they hold
    NaN or infinity. All hops ignore the slots ``ignored``.
    """
    slots = checks.over_queries(inputs).slots
    of_keys, of_values = slots if isinstance(slots, tuple) else (slots, slots)
    keys = _as_embedded(inputs.memories, inputs.query)
    values = keys if inputs.values is None else _as_embedded(inputs.values, inputs.query)
    unread, unread_values = (
        _unread(rows, each, ignored) for rows, each in ((keys, of_keys), (values, of_values))
    )
    if values is not keys:
        return _with_zeros(keys, unread), _with_zeros(values, unread_values)
    if unread is not None:
        unread = None if unread_values is None else unread & unread_values
    keys = _with_zeros(keys, unread)
    return keys, keys


def _as_embedded(stored: Stored, query: Tensor) -> Tensor:
    """Return memories or values in the dtype of the query; under autocast a tensor as it is."""
    if autocast_dtype(query.device.type) is not None and isinstance(stored, Tensor):
        return stored
    return converted(stored, query.dtype).to(query.dtype)


def _unread(rows: Tensor, slots: Tensor | None, ignored: Tensor | None) -> Tensor | None:
    """Return which rows [B, U] or [U] no query reads, or None if all are read.

    Slots [..., N] of a bank, and slots that all hops ignore [..., N], have the axes of the query.
    """
    if slots is None:
        if ignored is None:
            return None
        while ignored.dim() > rows.dim() - 1:
            ignored = ignored.all(-2 if rows.dim() == 3 else 0)
        return ignored
    is_read = torch.ones_like(slots, dtype=torch.bool) if ignored is None else ~ignored
    shape = broadcast([slots.shape, is_read.shape])
    slots, is_read = slots.long().expand(shape), is_read.expand(shape)
    if rows.dim() == 2:
        slots, is_read = slots.flatten(), is_read.flatten()
    else:
        axes = (rows.shape[0], *slots.shape[slots.dim() > 1 :])
        slots, is_read = slots.expand(axes).flatten(1), is_read.expand(axes).flatten(1)
    readers = torch.zeros(rows.shape[:-1], dtype=torch.long, device=rows.device)
    return readers.scatter_add(-1, slots, is_read.long()) == 0


def _with_zeros(rows: Tensor, unread: Tensor | None) -> Tensor:
    """Return rows with zeros where no query reads them."""
    return rows if unread is None else rows.masked_fill(unread.unsqueeze(-1), 0.0)


def _readable(layer: Layer, inputs: Inputs, hops: Sequence[ops.Hop]) -> list[Readable]:
    """Return which slots each hop reads."""
    inputs, num_slots = checks.over_queries(inputs), num_slots_of(inputs)
    bias = inputs.score_bias
    ignored = reference.ignored_slots(inputs.memory_padding_mask, inputs.lengths, num_slots)
    is_per_hop = bias is not None and bias.dim() == inputs.query.dim() + 1
    biases = bias.unbind(-2) if bias is not None and is_per_hop else [bias]
    newest_first = layer.attention.newest_first
    return reference.readable_in_each_hop(hops, num_slots, ignored, biases, newest_first)


class _OncePerModule:
    """Call each table once, however many hops share it."""

    def __init__(self, memories: Tensor) -> None:
        self._memories = memories
        self._known: dict[int, Tensor] = {}

    def __call__(self, module: nn.Module) -> Tensor:
        if id(module) not in self._known:
            self._known[id(module)] = module(self._memories)
        return self._known[id(module)]


def _read(query: Tensor, rows: Inputs, readable: Readable, layer: Layer) -> tuple[Tensor, Tensor]:
    """Return (o, p) of embedded rows, with heads those of each head."""
    keys, values, slots, num_heads = (
        rows.memories, rows.values, rows.slots, layer.attention.num_heads,
    )  # fmt: skip
    assert isinstance(keys, Tensor)
    assert isinstance(values, Tensor)
    if num_heads > 1:
        keys, values = heads.split_rows(keys, num_heads), heads.split_rows(values, num_heads)
        slots = slots_of_heads(slots)
    return ops.read(
        query, keys, values, slots=slots, padding_mask=readable.ignored,
        score_bias=readable.score_bias, softmax=layer.softmax, dropout=layer.attention.dropout,
        need_weights=True,
    )  # fmt: skip


def slots_of_heads(slots: Tensor | Pair | None) -> Tensor | Pair | None:
    """Return slots with an axis along which heads share them."""
    if isinstance(slots, tuple):
        of_keys, of_values = (None if each is None else each.unsqueeze(-2) for each in slots)
        return of_keys, of_values
    return None if slots is None else slots.unsqueeze(-2)


def _temporal_of(module: nn.Module, num_slots: int) -> Tensor | None:
    """Return the temporal rows of the table that a module is or holds, for ages below N; or None.

    Raises:
        ValueError: if it is no module, for several tables with temporal rows, or rows that lie on
            several devices (of a table that is sharded alone: shard the whole layer).
    """
    if not isinstance(module, nn.Module):
        came = type(module).__name__
        raise ValueError(f"expected a module as a table of a hop, got {came}")
    tables = [each for each in module.modules() if isinstance(each, EmbeddingTable)]
    rows = [table.temporal for table in tables if table.temporal is not None]
    if not rows:
        return None
    is_sharded = hasattr(rows[0], "full_tensor")  # a DTensor, whose module loads long
    if len(rows) > 1 or is_sharded:
        came = "sharded rows" if is_sharded else f"{len(rows)} tables"
        raise ValueError(f"expected one table with temporal rows on one device, got {came}")
    if torch.compiler.is_exporting():  # the number of slots stays dynamic
        return rows[0]
    return rows[0][: max(1, num_slots)]
