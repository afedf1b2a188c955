"""The layers ``MemoryHop``, ``MultiHop`` and ``MemoryNetwork``; ``memhop.nn`` describes them."""

from itertools import pairwise
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from memhop import ops
from memhop.checkpoint import LAYER
from memhop.nn import checks
from memhop.nn.checks import Dims, Inputs
from memhop.nn.hop_modules import Result, windows_in
from memhop.nn.hop_weights import HopModules, hops_of
from memhop.nn.layer import Embed, HopLayer, MemoryLayer
from memhop.ops import errors
from memhop.ops.exchange import exchange_of
from memhop.ops.inputs import is_dense
from memhop.ops.options import SlotOrder

__all__ = ["MemoryHop", "MemoryNetwork", "MultiHop", "Tying"]

Tying = Literal["none", "adjacent", "layerwise"]


class MemoryHop(HopLayer):
    """One hop: a query attends to the slots of a memory, reads them, and is updated.

        p_i = softmax_i(q . (A m_i + a)),    q <- q + sum_i p_i (C v_i + c)

    Section 2.1 of arXiv 1503.08895; the values v_i are the m_i unless the caller passes others. The
    state dict has ``embed_a.*`` and ``embed_c.*``, both in the form of ``torch.nn.Linear``. For
    shapes see ``forward``, for dtypes and empty memories ``memhop.nn``.

    Args:
        input_dim: size of a slot.
        memory_dim: size of the query, D.
        value_dim: size of a value; None means input_dim.
        num_heads: H heads attend and read with D / H units each, without the factor 1 / sqrt(D / H)
            of ``torch.nn.MultiheadAttention``. It divides D.
        dropout: the probability that a weight p_i is zeroed in training; the others are divided by
            1 - dropout.
        embed: which embeddings there are: True for A and C, "a" or "c" for one of them, False for
            none. The other is the identity, without a bias, between two equal sizes.
        bias: whether A and C have the biases a and c.
        relu: apply ReLU to the updated query; a share from 0 to 1 applies it to the last
            ``round(share * memory_dim)`` units.
        softmax: False uses the scores themselves as p (linear start, section 4.2). This is also an
            attribute that you can change between calls.
        temporal_slots: T adds T_A(i) to A m_i and T_C(i) to C v_i, two tables ``embed_a.temporal``
            and ``embed_c.temporal`` [T, memory_dim]; row 0 is for the newest slot that is not
            ignored, row 1 for the next newest, and the last row for all older ones (section 4.1).
        slot_order: "oldest_first" if a slot is newer than those before it, "newest_first" if it is
            older. It matters with ``temporal_slots`` only.
        device, dtype: of the weights.

    >>> hop = MemoryHop(input_dim=8, memory_dim=4)
    >>> query, attention = hop(torch.randn(2, 4), torch.randn(2, 5, 8), need_weights=True)
    >>> query.shape, attention.shape
    (torch.Size([2, 4]), torch.Size([2, 5]))
    >>> hop = MemoryHop(input_dim=8, memory_dim=4, value_dim=6, num_heads=2)
    >>> keys, values = torch.randn(2, 5, 8), torch.randn(2, 5, 6)
    >>> query, attention = hop(
    ...     torch.randn(2, 3, 4), keys, values=values, need_weights=True, average_attn_weights=False
    ... )
    >>> query.shape, attention.shape
    (torch.Size([2, 3, 4]), torch.Size([2, 3, 2, 5]))
    """

    _kind = LAYER

    def __init__(
        self,
        input_dim: int,
        memory_dim: int = 128,
        *,
        value_dim: int | None = None,
        num_heads: int = 1,
        dropout: float = 0.0,
        embed: Embed = True,
        bias: bool = True,
        relu: bool | float = False,
        softmax: bool = True,
        temporal_slots: int | None = None,
        slot_order: SlotOrder = "oldest_first",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_dim, memory_dim, None, value_dim=value_dim, num_heads=num_heads, dropout=dropout,
            embed=embed, relu=relu, softmax=softmax, temporal_slots=temporal_slots,
            slot_order=slot_order,
        )  # fmt: skip
        table = self._tables(embed, bias, temporal_slots, device, dtype)
        self.embed_a, self.embed_c = table("a"), table("c")

    def _hop_modules(self) -> list[HopModules]:
        return [(self.embed_a, self.embed_c, None)]

    def _run(self, inputs: Inputs, need_weights: bool, average_attn_weights: bool) -> Result:
        result = super()._run(inputs, need_weights, average_attn_weights)
        if not need_weights:
            return result
        return result[0], result[1].squeeze(-2 if average_attn_weights else -3)


class MultiHop(HopLayer):
    """Several hops over one memory; each is a ``MemoryHop``, and ``tying`` shares weights.

        p_i = softmax_i(q . (A_k m_i + a_k)),    q <- q + sum_i p_i (C_k v_i + c_k),    k = 1 .. K

    Section 2.2 of arXiv 1503.08895. For shapes see ``forward``, for dtypes and empty memories
    ``memhop.nn``.

    Args:
        input_dim: size of a slot.
        memory_dim: size of the query.
        num_hops: K.
        tying: with the keys of the state dict, which have the form of ``torch.nn.Linear``,

            - "none": each hop has its own A and C, ``K.embed_a.*`` and ``K.embed_c.*`` from K = 0;
            - "adjacent": A of a hop is C of the one before, K + 1 tables ``tables.K.*``;
            - "layerwise": all hops share A and C, ``embed_a.*`` and ``embed_c.*``, and q <- H q + o
              replaces q + o, with H in ``transform.weight``.
        value_dim, num_heads, dropout, embed, bias, relu, softmax, temporal_slots, slot_order: of
            each hop, as in ``MemoryHop``; temporal tables are tied as A and C are. ``softmax`` is
            also an attribute. Adjacent tying needs values of the size of a slot, and both
            embeddings or none.
        device, dtype: of the weights.

    >>> hops = MultiHop(input_dim=8, memory_dim=4, num_hops=3, tying="adjacent")
    >>> query, attention = hops(torch.randn(2, 4), torch.randn(2, 5, 8), need_weights=True)
    >>> query.shape, attention.shape
    (torch.Size([2, 4]), torch.Size([2, 3, 5]))
    """

    _kind = LAYER

    def __init__(
        self,
        input_dim: int,
        memory_dim: int = 128,
        num_hops: int = 3,
        *,
        tying: Tying = "none",
        value_dim: int | None = None,
        num_heads: int = 1,
        dropout: float = 0.0,
        embed: Embed = True,
        bias: bool = True,
        relu: bool | float = False,
        softmax: bool = True,
        temporal_slots: int | None = None,
        slot_order: SlotOrder = "oldest_first",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_dim, memory_dim, num_hops, value_dim=value_dim, num_heads=num_heads,
            dropout=dropout, embed=embed, relu=relu, softmax=softmax,
            temporal_slots=temporal_slots, slot_order=slot_order,
        )  # fmt: skip
        errors.check_word("MultiHop", "tying", tying, get_args(Tying))
        self.tying = tying
        table = self._tables(embed, bias, temporal_slots, device, dtype)
        if tying == "adjacent":
            if self.value_dim != self.input_dim or embed not in (True, False):
                raise ValueError(
                    "MultiHop expected value_dim equal to input_dim, and embed=True or False, with "
                    f"tying='adjacent', got value_dim={self.value_dim}, "
                    f"input_dim={self.input_dim}, embed={embed!r}"
                )
            self.tables = nn.ModuleList(table("a") for _ in range(self.num_hops + 1))
        elif tying == "layerwise":
            self.embed_a, self.embed_c = table("a"), table("c")
            dim = self.memory_dim
            self.transform = nn.Linear(dim, dim, False, device, dtype)
        else:
            for k in range(self.num_hops):
                hop = nn.ModuleDict({"embed_a": table("a"), "embed_c": table("c")})
                self.add_module(str(k), hop)

    def as_hops(self) -> list[ops.Hop]:
        """Return the weights and options of each hop in the form that ``ops.multi_hop`` expects.

        Heads, dropout and the order of slots are arguments of ``ops.multi_hop``. Hooks and other
        attachments of the tables are not included.

        Raises:
            ValueError: if a table is not an ``EmbeddingTable``.
        """
        return hops_of(self._hop_modules(), self._layer())

    def _hop_modules(self) -> list[HopModules]:
        modules: Any = self._modules
        if self.tying == "adjacent":
            return [(a, c, None) for a, c in pairwise(modules["tables"]._modules.values())]
        if self.tying == "layerwise":
            return [(modules["embed_a"], modules["embed_c"], modules["transform"])] * self.num_hops
        hops: list[HopModules] = []
        for k in range(self.num_hops):
            hop = modules[str(k)]._modules
            hops.append((hop["embed_a"], hop["embed_c"], None))
        return hops

    def _sizes(self) -> str:
        text = f"{self.input_dim}, {self.memory_dim}, num_hops={self.num_hops}"
        return text if self.tying == "none" else f"{text}, tying={self.tying!r}"


class MemoryNetwork(MemoryLayer):
    """Project a query, run several hops over a memory, project the result.

        q = query_proj(query);    hops of ``MultiHop``;    y = output_proj(q)

    The state dict has ``query_proj.*``, ``hops.*`` as in ``MultiHop`` (``hops.K.embed_a.*``) and
    ``output_proj.*``. The options, such as tying and bias, concern the hops only.
    For shapes see ``forward``, for dtypes and empty memories ``memhop.nn``.

    Args:
        input_dim: size of a slot and of the query.
        memory_dim: size of the query of the hops.
        num_hops: number of hops.
        output_dim: size of the result; None means input_dim.
        num_memories: the number of slots that a memory must have; None allows any.
        tying, value_dim, num_heads, dropout, embed, bias, relu, softmax, temporal_slots,
            slot_order: of the hops, as in ``MultiHop``.
        device, dtype: of the weights.

    >>> net = MemoryNetwork.build(input_dim=8, memory_dim=4, num_hops=2, output_dim=3)
    >>> answer, attention = net(torch.randn(5, 8), torch.randn(5, 6, 8), need_weights=True)
    >>> answer.shape, attention.shape
    (torch.Size([5, 3]), torch.Size([5, 2, 6]))
    """

    _kind = LAYER
    _exchanges = False  # its hops do

    def __init__(
        self,
        input_dim: int,
        memory_dim: int = 128,
        num_hops: int = 3,
        *,
        output_dim: int | None = None,
        num_memories: int | None = None,
        tying: Tying = "none",
        value_dim: int | None = None,
        num_heads: int = 1,
        dropout: float = 0.0,
        embed: Embed = True,
        bias: bool = True,
        relu: bool | float = False,
        softmax: bool = True,
        temporal_slots: int | None = None,
        slot_order: SlotOrder = "oldest_first",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        checks.check_layer_sizes(
            "MemoryNetwork", input_dim=input_dim, memory_dim=memory_dim, num_hops=num_hops,
            output_dim=output_dim, num_memories=num_memories,
        )  # fmt: skip
        self.input_dim, memory_dim = int(input_dim), int(memory_dim)
        output_dim = self.input_dim if output_dim is None else int(output_dim)
        self.num_memories = None if num_memories is None else int(num_memories)
        self.query_proj = nn.Linear(self.input_dim, memory_dim, device=device, dtype=dtype)
        self.hops = MultiHop(
            input_dim, memory_dim, num_hops, tying=tying, value_dim=value_dim,
            num_heads=num_heads, dropout=dropout, embed=embed, bias=bias, relu=relu,
            softmax=softmax, temporal_slots=temporal_slots, slot_order=slot_order,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.output_proj = nn.Linear(memory_dim, output_dim, device=device, dtype=dtype)

    @classmethod
    def build(
        cls,
        *,
        input_dim: int,
        memory_dim: int = 128,
        num_hops: int = 3,
        output_dim: int | None = None,
        num_memories: int | None = None,
        tying: Tying = "none",
        value_dim: int | None = None,
        num_heads: int = 1,
        dropout: float = 0.0,
        embed: Embed = True,
        bias: bool = True,
        relu: bool | float = False,
        softmax: bool = True,
        temporal_slots: int | None = None,
        slot_order: SlotOrder = "oldest_first",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Return a network; every argument is a keyword."""
        return cls(
            input_dim, memory_dim, num_hops, output_dim=output_dim, num_memories=num_memories,
            tying=tying, value_dim=value_dim, num_heads=num_heads, dropout=dropout, embed=embed,
            bias=bias, relu=relu, softmax=softmax, temporal_slots=temporal_slots,
            slot_order=slot_order, device=device, dtype=dtype,
        )  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw new weights."""
        self.query_proj.reset_parameters()
        self.hops.reset_parameters()
        self.output_proj.reset_parameters()

    def _run(self, inputs: Inputs, need_weights: bool, average_attn_weights: bool) -> Result:
        query, memories, values, slots, lengths, mask, score_bias, streams, group, window = inputs
        rows = (memories, values) if streams is None else streams
        if group is None:
            self._check_early(inputs)
        try:
            if group is None:
                projected = self.query_proj(query)
            else:
                with exchange_of(group, "MemoryNetwork", query):  # which sends an error
                    projected = self._checked_projection(inputs)
            result = self.hops(
                projected, rows[0], values=rows[1], slots=slots, lengths=lengths,
                memory_padding_mask=mask, score_bias=score_bias, need_weights=need_weights,
                average_attn_weights=average_attn_weights, window=window, group=group,
            )  # fmt: skip
        except Exception:
            # The hops check their inputs. Only invalid inputs need an error of the network.
            self._check_inputs(inputs)
            raise
        if need_weights:
            return self.output_proj(result[0]), result[1]
        answer: Tensor = self.output_proj(result)
        return answer

    def _check_early(self, inputs: Inputs) -> None:
        """Check what the hops do not."""
        is_compiling = torch.compiler.is_compiling()
        if self.num_memories is not None or is_compiling or not is_dense(inputs.query):
            self._check_inputs(inputs)

    def _checked_projection(self, inputs: Inputs) -> Tensor:
        """Return the projected query, or raise the error of the network."""
        self._check_early(inputs)
        try:
            projected: Tensor = self.query_proj(inputs.query)
        except Exception:
            self._check_inputs(inputs)
            raise
        return projected

    def _check_inputs(self, inputs: Inputs) -> None:
        hops, projection = self.hops, self.query_proj
        check = checks.check_inputs if inputs.window is None else windows_in
        check(
            "MemoryNetwork",
            Dims(self.input_dim, self.input_dim, hops.value_dim, hops.num_hops),
            inputs,
            projection.weight if type(projection) is nn.Linear else None,
            self.num_memories if inputs.group is None else None,  # a rank has some of the slots
        )

    def extra_repr(self) -> str:
        return "" if self.num_memories is None else f"num_memories={self.num_memories}"
