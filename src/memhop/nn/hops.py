"""Multi-hop memory as layers: ``MemoryHop``, ``MultiHop`` and ``MemoryNetwork``.

They hold the weights; what they compute is ``memhop.ops.multi_hop``. After "End-To-End Memory
Networks", arXiv 1503.08895, sections 2 and 4.1.

All three take a batch of queries with a memory each, one memory for the whole batch, which is not
copied for each query, or one query alone:

    query [B, D] and memories [B, N, input_dim], memory_padding_mask [B, N], [1, N] or [N]
    query [B, D] and memories [N, input_dim],    memory_padding_mask [B, N], [1, N] or [N]
    query [D]    and memories [N, input_dim],    memory_padding_mask [N]; no batch axis comes out

B = 0 and N = 0 are allowed. Where a row has no readable slot a hop adds nothing to its query: all
its weights are zero and so are the gradients through them. What an ignored slot holds has no
effect, NaN included. Results have the dtype of the query and weights, which is one (float32,
float64, bfloat16 or float16). Memories have it too, or bfloat16 or float16 beside float32, or are
``ops.Quantized``, int8 with a scale for each row, beside all but float64. Under ``torch.autocast``
dtypes may differ and results have autocast's dtype, as those of ``torch.nn.Linear`` do. All but
float64 is computed in float32: a large memory in fewer bytes is read as it is, a small one is
converted for the call.
"""

from functools import partial
from itertools import pairwise
from typing import Any, Literal, NoReturn, Self, TypedDict, Unpack, get_args

import torch
from torch import Tensor, nn

from memhop import ops
from memhop.nn import checks
from memhop.nn.embedding import EmbeddingTable
from memhop.nn.hop_modules import HopModules, Options, Result, hops_of, take_hops
from memhop.ops import errors
from memhop.ops.inputs import Memory, Stored

__all__ = ["HopOptions", "MemoryHop", "MemoryNetwork", "MultiHop", "Tying"]

Tying = Literal["none", "adjacent", "layerwise"]


class HopOptions(TypedDict, total=False):
    """The options of ``MultiHop`` that ``MemoryNetwork`` hands on to its hops."""

    tying: Tying
    bias: bool
    relu: bool
    softmax: bool
    temporal_slots: int | None


class NotScriptable(nn.Module):
    """A layer that ``torch.jit.script`` refuses in one line."""

    def __prepare_scriptable__(self) -> NoReturn:
        name = type(self).__name__
        raise ValueError(f"{name} cannot be scripted: use torch.export, or torch.jit.trace")


class MemoryHop(NotScriptable):
    """One hop: a query attends to the slots of a memory, reads them, and is updated.

        p_i = softmax_i(q . (A m_i + a)),    q <- q + sum_i p_i (C m_i + c)

    Section 2.1 of arXiv 1503.08895; the state dict has ``embed_a.*`` and ``embed_c.*``, both in
    the form of ``torch.nn.Linear``. For shapes, dtypes and empty memories see the module.

    Args:
        input_dim: size of a slot.
        memory_dim: size of the query.
        bias: whether there are a and c.
        relu: apply ReLU to the updated query.
        softmax: False takes the scores themselves as p (linear start, section 4.2). This is an
            attribute too, to be set between one call and the next.
        temporal_slots: T adds T_A(i) to A m_i and T_C(i) to C m_i, two tables ``embed_a.temporal``
            and ``embed_c.temporal`` [T, memory_dim]; row 0 is for the last slot that is not
            ignored, row 1 for the one before it, and the last row for all older (section 4.1).
        device, dtype: of the weights.

    >>> hop = MemoryHop(input_dim=8, memory_dim=4)
    >>> query, attention = hop(torch.randn(2, 4), torch.randn(2, 5, 8), need_weights=True)
    >>> query.shape, attention.shape
    (torch.Size([2, 4]), torch.Size([2, 5]))
    """

    def __init__(
        self,
        input_dim: int,
        memory_dim: int = 128,
        *,
        bias: bool = True,
        relu: bool = False,
        softmax: bool = True,
        temporal_slots: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        checks.check_layer_sizes(
            "MemoryHop", input_dim=input_dim, memory_dim=memory_dim, temporal_slots=temporal_slots
        )
        self.input_dim, self.memory_dim = int(input_dim), int(memory_dim)
        self.relu, self.softmax = relu, softmax
        table = partial(EmbeddingTable, input_dim, memory_dim, bias, temporal_slots, device, dtype)
        self.embed_a, self.embed_c = table(), table()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.embed_a.reset_parameters()
        self.embed_c.reset_parameters()

    def forward(
        self,
        query: Tensor,
        memories: Stored,
        *,
        memory_padding_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> Result:
        """The updated query, [B, memory_dim]; with ``need_weights`` also the attention p, [B, N].

        Args are those of ``MultiHop.forward``, and so are the errors.
        """
        hops: list[HopModules] = [(self.embed_a, self.embed_c, None)]
        memory = Memory(memories, padding_mask=memory_padding_mask)
        dims, options = (self.memory_dim, self.input_dim), Options(self.relu, self.softmax)
        result = take_hops("MemoryHop", dims, query, memory, hops, options, need_weights)
        return (result[0], result[1].squeeze(-2)) if need_weights else result

    def extra_repr(self) -> str:
        return f"{self.input_dim}, {self.memory_dim}, relu={self.relu}, softmax={self.softmax}"


class MultiHop(NotScriptable):
    """Several hops over one memory; each is a ``MemoryHop``, with weights tied as ``tying`` says.

        p_i = softmax_i(q . (A_k m_i + a_k)),    q <- q + sum_i p_i (C_k m_i + c_k),    k = 1 .. K

    Section 2.2 of arXiv 1503.08895. For shapes, dtypes and empty memories see the module.

    Args:
        input_dim: size of a slot.
        memory_dim: size of the query.
        num_hops: K.
        tying: with the keys of the state dict, all but the last in the form of ``torch.nn.Linear``,

            - "none": each hop has its own A and C, ``K.embed_a.*`` and ``K.embed_c.*`` from K = 0;
            - "adjacent": A of a hop is C of the one before, K + 1 tables ``tables.K.*``;
            - "layerwise": all hops share A and C, ``embed_a.*`` and ``embed_c.*``, and q <- H q + o
              takes the place of q + o with H in ``transform.weight``.
        bias, relu, softmax, temporal_slots: of each hop, as in ``MemoryHop``; temporal tables are
            tied as A and C are. ``softmax`` is an attribute too.
        device, dtype: of the weights.

    >>> hops = MultiHop(input_dim=8, memory_dim=4, num_hops=3, tying="adjacent")
    >>> query, attention = hops(torch.randn(2, 4), torch.randn(2, 5, 8), need_weights=True)
    >>> query.shape, attention.shape
    (torch.Size([2, 4]), torch.Size([2, 3, 5]))
    """

    def __init__(
        self,
        input_dim: int,
        memory_dim: int = 128,
        num_hops: int = 3,
        *,
        tying: Tying = "none",
        bias: bool = True,
        relu: bool = False,
        softmax: bool = True,
        temporal_slots: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        checks.check_layer_sizes(
            "MultiHop", input_dim=input_dim, memory_dim=memory_dim, num_hops=num_hops,
            temporal_slots=temporal_slots,
        )  # fmt: skip
        errors.check_word("MultiHop", "tying", tying, get_args(Tying))
        input_dim, memory_dim, num_hops = int(input_dim), int(memory_dim), int(num_hops)
        self.input_dim, self.memory_dim, self.num_hops = input_dim, memory_dim, num_hops
        self.tying, self.relu, self.softmax = tying, relu, softmax
        table = partial(EmbeddingTable, input_dim, memory_dim, bias, temporal_slots, device, dtype)
        if tying == "adjacent":
            self.tables = nn.ModuleList(table() for _ in range(num_hops + 1))
        elif tying == "layerwise":
            self.embed_a, self.embed_c = table(), table()
            self.transform = nn.Linear(memory_dim, memory_dim, False, device, dtype)
        else:
            for k in range(num_hops):
                self.add_module(str(k), nn.ModuleDict({"embed_a": table(), "embed_c": table()}))

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for module in self.modules():
            if isinstance(module, EmbeddingTable | nn.Linear):
                module.reset_parameters()

    def as_hops(self) -> list[ops.Hop]:
        """Return the weights and options in the form that ``ops.multi_hop`` takes.

        Raises:
            ValueError: if a table is no ``EmbeddingTable``. What is attached to the tables, hooks
                and the like, is not part of their weights.
        """
        return hops_of(self._hop_modules(), Options(self.relu, self.softmax))

    def _hop_modules(self) -> list[HopModules]:
        if self.tying == "adjacent":
            return [(a, c, None) for a, c in pairwise(self.tables)]
        modules: Any = self._modules
        if self.tying == "layerwise":
            return [(modules["embed_a"], modules["embed_c"], modules["transform"])] * self.num_hops
        each = [modules[str(k)]._modules for k in range(self.num_hops)]
        return [(hop["embed_a"], hop["embed_c"], None) for hop in each]

    def forward(
        self,
        query: Tensor,
        memories: Stored,
        *,
        memory_padding_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> Result:
        """All hops.

        Args:
            query: [B, memory_dim] or [memory_dim].
            memories: [B, N, input_dim] or [N, input_dim], a tensor or ``ops.Quantized``.
            memory_padding_mask: bool, [B, N], [1, N] or [N], True = ignore that slot.
            need_weights: also return the attention p of every hop, [B, num_hops, N].

        Returns:
            The query after the last hop, [B, memory_dim], or (query, attention).

        Raises:
            ValueError: for shapes, dtypes and devices that do not fit, before any work.
        """
        memory = Memory(memories, padding_mask=memory_padding_mask)
        dims, options = (self.memory_dim, self.input_dim), Options(self.relu, self.softmax)
        hops = self._hop_modules()
        return take_hops("MultiHop", dims, query, memory, hops, options, need_weights)

    def extra_repr(self) -> str:
        return (
            f"{self.input_dim}, {self.memory_dim}, num_hops={self.num_hops}, tying={self.tying!r}, "
            f"relu={self.relu}, softmax={self.softmax}"
        )


class MemoryNetwork(NotScriptable):
    """Project a query, take several hops over a memory, project the result.

        q = query_proj(query);    hops of ``MultiHop``;    y = output_proj(q)

    The state dict has ``query_proj.*``, ``hops.*`` as in ``MultiHop`` (``hops.K.embed_a.*``) and
    ``output_proj.*``. The options of the hops, tying and bias among them, concern the hops only.
    For shapes, dtypes and empty memories see the module.

    Args:
        input_dim: size of a slot and of the query.
        memory_dim: size that the hops work in.
        num_hops: number of hops.
        output_dim: size of the result; None means input_dim.
        num_memories: the number of slots that a memory must have; None takes any.
        device, dtype: of the weights.
        **options: tying, bias, relu, softmax and temporal_slots, as in ``MultiHop``.

    >>> net = MemoryNetwork.build(input_dim=8, memory_dim=4, num_hops=2, output_dim=3)
    >>> answer, attention = net(torch.randn(5, 8), torch.randn(5, 6, 8), need_weights=True)
    >>> answer.shape, attention.shape
    (torch.Size([5, 3]), torch.Size([5, 2, 6]))
    """

    def __init__(
        self,
        input_dim: int,
        memory_dim: int = 128,
        num_hops: int = 3,
        *,
        output_dim: int | None = None,
        num_memories: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[HopOptions],
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
        self.hops = MultiHop(input_dim, memory_dim, num_hops, device=device, dtype=dtype, **options)
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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[HopOptions],
    ) -> Self:
        """The constructor, with every argument named."""
        return cls(
            input_dim, memory_dim, num_hops, output_dim=output_dim, num_memories=num_memories,
            device=device, dtype=dtype, **options,
        )  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.query_proj.reset_parameters()
        self.hops.reset_parameters()
        self.output_proj.reset_parameters()

    def forward(
        self,
        query: Tensor,
        memories: Stored,
        *,
        memory_padding_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> Result:
        """Answer a query out of a memory.

        Args:
            query: [B, input_dim] or [input_dim].
            memories: [B, N, input_dim] or [N, input_dim], a tensor or ``ops.Quantized``.
            memory_padding_mask: bool, [B, N], [1, N] or [N], True = ignore that slot.
            need_weights: also return the attention p of every hop, [B, num_hops, N].

        Returns:
            y, [B, output_dim], or (y, attention).

        Raises:
            ValueError: for sizes, dtypes and devices that do not fit, before any work.
        """
        projection = self.query_proj
        checks.check_layer_inputs(
            "MemoryNetwork", (self.input_dim, self.input_dim), query,
            Memory(memories, padding_mask=memory_padding_mask),
            projection.weight if type(projection) is nn.Linear else None, self.num_memories,
        )  # fmt: skip
        result = self.hops(
            self.query_proj(query), memories,
            memory_padding_mask=memory_padding_mask, need_weights=need_weights,
        )  # fmt: skip
        if need_weights:
            return self.output_proj(result[0]), result[1]
        answer: Tensor = self.output_proj(result)
        return answer

    def extra_repr(self) -> str:
        return f"num_memories={self.num_memories}"
