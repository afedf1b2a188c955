"""What the three layers have in common: the signature of ``forward``, and the options of a hop."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

import torch
from torch import Tensor, nn

from memhop.nn import checks
from memhop.nn.checks import Dims, Inputs
from memhop.nn.embedding import EmbeddingTable
from memhop.nn.hop_modules import Result, run_hops
from memhop.nn.hop_weights import HopModules, KeptHops, Layer
from memhop.nn.layer_files import StoredLayer
from memhop.ops import dtensors
from memhop.ops.banks import Pair
from memhop.ops.call import PLAIN, Attention
from memhop.ops.errors import check_share
from memhop.ops.exchange import exchange_of, is_in_graph, outside_graph
from memhop.ops.inputs import Stored
from memhop.ops.options import SlotOrder, check_attention, pair_of
from memhop.ops.streamed import StreamedMemory, streams_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# of ``forward``
ARGUMENTS = {
    "query", "memories", "values", "slots", "lengths", "memory_padding_mask", "score_bias",
    "need_weights", "average_attn_weights", "window", "group",
}  # fmt: skip
Embed = bool | Literal["a", "c"]


class MemoryLayer(nn.Module, StoredLayer):
    """A layer that reads a memory: ``forward`` with its shapes, types and checks."""

    _exchanges = True  # whether it exchanges messages with a group itself

    @overload
    def forward(
        self,
        query: Tensor,
        memories: Stored | StreamedMemory,
        *,
        values: Stored | StreamedMemory | None = None,
        slots: Tensor | Pair | None = None,
        lengths: Tensor | None = None,
        memory_padding_mask: Tensor | None = None,
        score_bias: Tensor | None = None,
        need_weights: Literal[False] = False,
        average_attn_weights: bool = True,
        window: int | None = None,
        group: "ProcessGroup | None" = None,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        query: Tensor,
        memories: Stored | StreamedMemory,
        *,
        values: Stored | StreamedMemory | None = None,
        slots: Tensor | Pair | None = None,
        lengths: Tensor | None = None,
        memory_padding_mask: Tensor | None = None,
        score_bias: Tensor | None = None,
        need_weights: Literal[True],
        average_attn_weights: bool = True,
        window: int | None = None,
        group: "ProcessGroup | None" = None,
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(
        self,
        query: Tensor,
        memories: Stored | StreamedMemory,
        *,
        values: Stored | StreamedMemory | None = None,
        slots: Tensor | Pair | None = None,
        lengths: Tensor | None = None,
        memory_padding_mask: Tensor | None = None,
        score_bias: Tensor | None = None,
        need_weights: bool,
        average_attn_weights: bool = True,
        window: int | None = None,
        group: "ProcessGroup | None" = None,
    ) -> Result: ...

    def forward(
        self,
        query: Tensor,
        memories: Stored | StreamedMemory,
        *,
        values: Stored | StreamedMemory | None = None,
        slots: Tensor | Pair | None = None,
        lengths: Tensor | None = None,
        memory_padding_mask: Tensor | None = None,
        score_bias: Tensor | None = None,
        need_weights: bool = False,
        average_attn_weights: bool = True,
        window: int | None = None,
        group: "ProcessGroup | None" = None,
    ) -> Result:
        """Return the query after all hops.

        D is the size of the query: memory_dim, or input_dim of a ``MemoryNetwork``. I is input_dim,
        V is value_dim, K is num_hops and H is num_heads.

        ==================  =============  ==========================  ===========================
        argument            one query      a batch of queries          L queries on each memory
        ==================  =============  ==========================  ===========================
        query               [D]            [B, D]                      [B, L, D]
        memories            [N, I]         [B, N, I] or [N, I]         [B, N, I] or [N, I]
        values              [N, V]         [B, N, V] or [N, V]         [B, N, V] or [N, V]
        slots               [N]            [B, N], [1, N] or [N]       the same or [B, L, N]
        lengths             []             [B], [1] or []              the same or [B, L]
        mask, score_bias    [N]            [B, N], [1, N] or [N]       the same or [B, L, N]
        score_bias by hop   [K, N]         [B, K, N]                   [B, L, K, N]
        result              [D]            [B, D]                      [B, L, D]
        attention           [K, N]         [B, K, N]                   [B, L, K, N]
        attention of heads  [K, H, N]      [B, K, H, N]                [B, L, K, H, N]
        ==================  =============  ==========================  ===========================

        [N, I] is one memory for all queries; it is not copied. The size of the result of a
        ``MemoryNetwork`` is output_dim. The attention of a ``MemoryHop`` has no axis K.

        Args:
            query: q.
            memories: a tensor, ``ops.Quantized``, or [N, I] as an ``ops.StreamedMemory``, such as
                ``FileMemory``, which is read part by part.
            values: the input of C, instead of memories.
            slots: integers. Then memories and values are banks [U, I] and [U, V], or [B, U, I] and
                [B, U, V], and slot i of the memory is the row ``slots[i]`` of the bank. A pair
                (slots of the keys, slots of the values) if the banks have different rows; None in
                it means that this side is no bank. Rows of a pair are gathered once.
            lengths: integers: slot i is ignored if i >= length; instead of a mask.
            memory_padding_mask: bool, True = ignore that slot.
            score_bias: added to the scores before the softmax; -inf makes a slot ignored.
            need_weights: also return the attention p of every hop.
            average_attn_weights: return the mean of p over heads; False returns that of each head.
            window: N, for texts: query t of [B, T, D] or [T, D] reads the N slots t to t + N - 1 of
                memories [B, T + N - 1, I] or [T + N - 1, I], of which the last is its newest. Mask
                [B, T + N - 1], bias [B, T + N - 1] or [B, K, T + N - 1] and values are over the
                memories, and the attention is [B, T, K, N]. Nothing is gathered, and no mask of a
                band is needed.
            group: the ranks of ``torch.distributed`` among which the slots are spread, as in
                ``ops.multi_hop``: memories, mask, lengths, bias and attention are those of the
                slots of this rank. A ``DTensor`` with ``Shard`` on the axis of the slots as
                memories has its group.

        Returns:
            The result, or (result, attention).

        Raises:
            ValueError: for incompatible shapes, dtypes and devices.
            ops.GroupError: a rank of the group has failed, has ended, or makes another call.
        """
        is_traced = group is not None and is_in_graph(group)
        if is_traced or dtensors.are_possible():
            given = {name: value for name, value in locals().items() if name in ARGUMENTS}
            if is_traced:
                return outside_graph(self.forward, given)  # type: ignore[no-any-return]
            if local := dtensors.local_arguments(type(self).__name__, given):
                return self.forward(**local)  # type: ignore[no-any-return]
        is_pair = isinstance(slots, tuple)
        is_usual = group is None and window is None and not is_pair
        if type(memories) is Tensor and values is None and is_usual:
            inputs = Inputs(query, memories, None, slots, lengths, memory_padding_mask, score_bias)
            return self._run(inputs, need_weights, average_attn_weights)
        own_group = group if self._exchanges else None
        with exchange_of(own_group, type(self).__name__, query) as exchange:
            memories, values, streams = streams_of(memories, values, exchange)
            if isinstance(slots, tuple):
                slots = pair_of(type(self).__name__, slots)
            inputs = Inputs(
                query, memories, values, slots, lengths, memory_padding_mask, score_bias, streams,
                group, window,
            )  # fmt: skip
            return self._run(inputs, need_weights, average_attn_weights)

    if TYPE_CHECKING:
        __call__ = forward

    def _run(self, inputs: Inputs, need_weights: bool, average_attn_weights: bool) -> Result:
        raise NotImplementedError

    def __prepare_scriptable__(self) -> NoReturn:
        """Raise an error of one line for ``torch.jit.script``."""
        name = type(self).__name__
        raise ValueError(f"{name} cannot be scripted: use torch.export, or torch.jit.trace")


class HopLayer(MemoryLayer):
    """A layer that consists of hops: their options, which ``MemoryHop`` documents."""

    def __init__(
        self,
        input_dim: int,
        memory_dim: int,
        num_hops: int | None,
        *,
        value_dim: int | None,
        num_heads: int,
        dropout: float,
        embed: Embed,
        relu: bool | float,
        softmax: bool,
        temporal_slots: int | None,
        slot_order: SlotOrder,
    ) -> None:
        super().__init__()
        layer = type(self).__name__
        checks.check_layer_sizes(
            layer, input_dim=input_dim, memory_dim=memory_dim, num_hops=num_hops,
            value_dim=value_dim, num_heads=num_heads, temporal_slots=temporal_slots,
        )  # fmt: skip
        self.input_dim, self.memory_dim = int(input_dim), int(memory_dim)
        self.num_hops = 1 if num_hops is None else int(num_hops)
        self.value_dim = self.input_dim if value_dim is None else int(value_dim)
        check_attention(layer, int(num_heads), dropout, slot_order)
        self.num_heads, self.dropout, self.slot_order = int(num_heads), float(dropout), slot_order
        self.relu, self.softmax = relu, softmax
        check_share(layer, "relu", relu)
        self._check_sizes_together(layer, embed)
        self._dims = Dims(self.memory_dim, self.input_dim, self.value_dim, self.num_hops)
        self._kept_hops = KeptHops()

    def _tables(
        self,
        embed: Embed,
        bias: bool,
        temporal_slots: int | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> Callable[[str], EmbeddingTable]:
        """Return the function that makes a table, A for "a" and C for "c"."""

        def table(side: str) -> EmbeddingTable:
            size, embeds = self.input_dim if side == "a" else self.value_dim, has_table(embed, side)
            return EmbeddingTable(
                size, self.memory_dim, bias, temporal_slots, device, dtype, embeds
            )

        return table

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._kept_hops = KeptHops()  # no copy shares it, and older pickles have none

    def _check_sizes_together(self, layer: str, embed: Embed) -> None:
        """Check that the heads and the identities fit the sizes."""
        if self.memory_dim % self.num_heads:
            raise ValueError(
                f"{layer} expected num_heads that divides memory_dim, got "
                f"num_heads={self.num_heads}, memory_dim={self.memory_dim}"
            )
        if not isinstance(embed, bool) and embed != "a" and embed != "c":
            raise ValueError(
                f"{layer} expected embed to be one of True, False, 'a', 'c', got {embed!r}"
            )
        for side, name, size in (
            ("a", "input_dim", self.input_dim), ("c", "value_dim", self.value_dim),
        ):  # fmt: skip
            if not has_table(embed, side) and size != self.memory_dim:
                raise ValueError(
                    f"{layer} expected {name} equal to memory_dim with embed={embed!r}, which "
                    f"leaves out {side.upper()}, got {name}={size}, memory_dim={self.memory_dim}"
                )

    def reset_parameters(self) -> None:
        """Draw new weights."""
        for module in self.modules():
            if isinstance(module, EmbeddingTable | nn.Linear):
                module.reset_parameters()

    def _hop_modules(self) -> list[HopModules]:
        """Return the modules of each hop."""
        raise NotImplementedError

    def _layer(self) -> Layer:
        """Return the options as they are now."""
        attention = PLAIN
        if self.num_heads > 1 or self.dropout > 0 or self.slot_order != "oldest_first":
            dropout = self.dropout if self.training else 0.0
            attention = Attention(self.num_heads, dropout, self.slot_order == "newest_first")
            attention = PLAIN if attention == PLAIN else attention
        return Layer(type(self).__name__, self._dims, self.relu, self.softmax, attention)

    def _run(self, inputs: Inputs, need_weights: bool, average_attn_weights: bool) -> Result:
        return run_hops(
            self._layer(), inputs, self._hop_modules(), self._kept_hops, need_weights,
            average_attn_weights,
        )  # fmt: skip

    def _sizes(self) -> str:
        """Return the positional arguments of the constructor."""
        return f"{self.input_dim}, {self.memory_dim}"

    def extra_repr(self) -> str:
        options = {
            "value_dim": (self.value_dim, self.input_dim), "num_heads": (self.num_heads, 1),
            "dropout": (self.dropout, 0.0), "relu": (self.relu, False),
            "softmax": (self.softmax, True), "slot_order": (self.slot_order, "oldest_first"),
        }  # fmt: skip
        changed = [f"{name}={now!r}" for name, (now, usual) in options.items() if now != usual]
        return ", ".join([self._sizes(), *changed])


def has_table(embed: Embed, side: str) -> bool:
    """Return whether A ("a") or C ("c") is a table and not the identity."""
    return embed is True or embed == side
