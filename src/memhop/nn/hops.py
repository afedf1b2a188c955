"""Multi-hop memory as layers: ``MemoryHop``, ``MultiHop`` and ``MemoryNetwork``.

They hold the weights and compute ``memhop.ops.multi_hop``. See "End-To-End Memory Networks", arXiv
1503.08895, sections 2 and 4.1.

All three accept a batch of queries with a memory each, a batch that shares one memory, which is not
copied for each query, or a single query:

    query [B, D] and memories [B, N, input_dim], memory_padding_mask [B, N], [1, N] or [N]
    query [B, D] and memories [N, input_dim],    memory_padding_mask [B, N], [1, N] or [N]
    query [D]    and memories [N, input_dim],    memory_padding_mask [N]; results without batch axis

B = 0 and N = 0 are allowed. Without readable slots a hop adds nothing to its query: all its weights
are zero and so are the gradients through them. The content of an ignored slot has no effect, not
even NaN. Query and weights have one dtype (float32, float64, bfloat16 or float16), and so have the
results. Memories have it too, or bfloat16 or float16 with float32, or they are ``ops.Quantized``,
int8 with a scale for each row, with all dtypes but float64. Under ``torch.autocast`` dtypes may
differ and results have autocast's dtype, as those of ``torch.nn.Linear``. All but float64 is
computed in float32: a large memory of a smaller dtype is read in place, a small one is converted
for the call.
"""

from functools import partial
from itertools import pairwise
from typing import Any, Literal, NoReturn, Self, TypedDict, Unpack, get_args

import torch
from torch import Tensor, nn

from memhop import ops
from memhop.nn import checks
from memhop.nn.embedding import EmbeddingTable
from memhop.nn.hop_modules import HopModules, Layer, Result, hops_of, run_hops
from memhop.ops import errors
from memhop.ops.inputs import Memory, Stored

__all__ = ["HopOptions", "MemoryHop", "MemoryNetwork", "MultiHop", "Tying"]

Tying = Literal["none", "adjacent", "layerwise"]


class HopOptions(TypedDict, total=False):
    """The options of ``MultiHop`` that ``MemoryNetwork`` passes to its hops."""

    tying: Tying
    bias: bool
    relu: bool
    softmax: bool
    temporal_slots: int | None


class NotScriptable(nn.Module):
    """A layer for which ``torch.jit.script`` raises an error of one line."""

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
        bias: whether the tables have a and c.
        relu: apply ReLU to the updated query.
        softmax: False uses the scores themselves as p (linear start, section 4.2). This is also an
            attribute that you can change between calls.
        temporal_slots: T adds T_A(i) to A m_i and T_C(i) to C m_i, two tables ``embed_a.temporal``
            and ``embed_c.temporal`` [T, memory_dim]; row 0 is for the last slot that is not
            ignored, row 1 for the one before it, and the last row for all older ones (section 4.1).
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
        """Draw new weights."""
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
        """Return the updated query, [B, memory_dim], or with ``need_weights`` (query, p [B, N]).

        Arguments and errors are those of ``MultiHop.forward``.
        """
        hops: list[HopModules] = [(self.embed_a, self.embed_c, None)]
        memory = Memory(memories, padding_mask=memory_padding_mask)
        layer = Layer("MemoryHop", self.memory_dim, self.input_dim, self.relu, self.softmax)
        result = run_hops(layer, query, memory, hops, need_weights)
        return (result[0], result[1].squeeze(-2)) if need_weights else result

    def extra_repr(self) -> str:
        return f"{self.input_dim}, {self.memory_dim}, relu={self.relu}, softmax={self.softmax}"


class MultiHop(NotScriptable):
    """Several hops over one memory; each is a ``MemoryHop``, and ``tying`` shares weights.

        p_i = softmax_i(q . (A_k m_i + a_k)),    q <- q + sum_i p_i (C_k m_i + c_k),    k = 1 .. K

    Section 2.2 of arXiv 1503.08895. For shapes, dtypes and empty memories see the module.

    Args:
        input_dim: size of a slot.
        memory_dim: size of the query.
        num_hops: K.
        tying: with the keys of the state dict, which have the form of ``torch.nn.Linear``,

            - "none": each hop has its own A and C, ``K.embed_a.*`` and ``K.embed_c.*`` from K = 0;
            - "adjacent": A of a hop is C of the one before, K + 1 tables ``tables.K.*``;
            - "layerwise": all hops share A and C, ``embed_a.*`` and ``embed_c.*``, and q <- H q + o
              replaces q + o, with H in ``transform.weight``.
        bias, relu, softmax, temporal_slots: of each hop, as in ``MemoryHop``; temporal tables are
            tied as A and C are. ``softmax`` is also an attribute.
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
        """Draw new weights."""
        for module in self.modules():
            if isinstance(module, EmbeddingTable | nn.Linear):
                module.reset_parameters()

    def as_hops(self) -> list[ops.Hop]:
        """Return the weights and options in the form that ``ops.multi_hop`` expects.

        Hooks and other attachments of the tables are not included.

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

    def _layer(self) -> Layer:
        return Layer("MultiHop", self.memory_dim, self.input_dim, self.relu, self.softmax)

    def forward(
        self,
        query: Tensor,
        memories: Stored,
        *,
        memory_padding_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> Result:
        """Return the query after all hops.

        Args:
            query: [B, memory_dim] or [memory_dim].
            memories: [B, N, input_dim] or [N, input_dim], a tensor or ``ops.Quantized``.
            memory_padding_mask: bool, [B, N], [1, N] or [N], True = ignore that slot.
            need_weights: also return the attention p of every hop, [B, num_hops, N].

        Returns:
            The query after the last hop, [B, memory_dim], or (query, attention).

        Raises:
            ValueError: for incompatible shapes, dtypes and devices.
        """
        memory = Memory(memories, padding_mask=memory_padding_mask)
        return run_hops(self._layer(), query, memory, self._hop_modules(), need_weights)

    def extra_repr(self) -> str:
        return (
            f"{self.input_dim}, {self.memory_dim}, num_hops={self.num_hops}, tying={self.tying!r}, "
            f"relu={self.relu}, softmax={self.softmax}"
        )


class MemoryNetwork(NotScriptable):
    """Project a query, run several hops over a memory, project the result.

        q = query_proj(query);    hops of ``MultiHop``;    y = output_proj(q)

    The state dict has ``query_proj.*``, ``hops.*`` as in ``MultiHop`` (``hops.K.embed_a.*``) and
    ``output_proj.*``. The options, such as tying and bias, concern the hops only.
    For shapes, dtypes and empty memories see the module.

    Args:
        input_dim: size of a slot and of the query.
        memory_dim: size of the query of the hops.
        num_hops: number of hops.
        output_dim: size of the result; None means input_dim.
        num_memories: the number of slots that a memory must have; None allows any.
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
        """Return a network; every argument is a keyword."""
        return cls(
            input_dim, memory_dim, num_hops, output_dim=output_dim, num_memories=num_memories,
            device=device, dtype=dtype, **options,
        )  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw new weights."""
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
        """Return the answer to a query from a memory.

        Args:
            query: [B, input_dim] or [input_dim].
            memories: [B, N, input_dim] or [N, input_dim], a tensor or ``ops.Quantized``.
            memory_padding_mask: bool, [B, N], [1, N] or [N], True = ignore that slot.
            need_weights: also return the attention p of every hop, [B, num_hops, N].

        Returns:
            y, [B, output_dim], or (y, attention).

        Raises:
            ValueError: for incompatible sizes, dtypes and devices.
        """
        if (
            self.num_memories is not None
            or torch.compiler.is_compiling()
            or not errors.is_dense(query)
        ):
            self._check_inputs(query, memories, memory_padding_mask)
        try:
            result = self.hops(
                self.query_proj(query), memories,
                memory_padding_mask=memory_padding_mask, need_weights=need_weights,
            )  # fmt: skip
        except Exception:
            # The hops check their inputs. Only invalid inputs need an error of the network.
            self._check_inputs(query, memories, memory_padding_mask)
            raise
        if need_weights:
            return self.output_proj(result[0]), result[1]
        answer: Tensor = self.output_proj(result)
        return answer

    def _check_inputs(self, query: Tensor, memories: Stored, mask: Tensor | None) -> None:
        projection = self.query_proj
        checks.check_layer_inputs(
            "MemoryNetwork", (self.input_dim, self.input_dim), query,
            Memory(memories, padding_mask=mask),
            projection.weight if type(projection) is nn.Linear else None, self.num_memories,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"num_memories={self.num_memories}"
