"""Tensors in, tensors out: one read of a memory, and several hops over it.

``read`` and ``multi_hop`` check their arguments, choose a form and call it. ``impl`` selects it:

- ``"reference"``: the formulas as the paper writes them; slow, and what the others must equal.
- ``"project"``: project the memory first, by large matrix products, and read the projections.
- ``"eager"``: read the raw memory by torch operations; nothing of size [N, memory_dim] is made.
- ``"fused"``: the same as one operation, forward and backward, compiled by numba (CPU) or triton
  (CUDA). The first call on a machine waits for the compiler, about half a minute; later processes
  load the kernels from disk. Without a working compiler the eager form runs, with a warning.
- ``"auto"``: the fastest form by the cost model of ``dispatch``. It does not wait for a compiler:
  while another process compiles the kernels, the eager form runs. ``memhop.warmup()`` compiles them
  ahead of time; docs/layer.md lists the exceptions.

All tensors have one dtype, float32, float64, bfloat16 or float16, and so do the results. Half types
are computed in float32 and rounded once, at the end. A memory (keys, memories, values) may be
smaller than the compute dtype: bfloat16 or float16 with float32 (its gradient has its own dtype),
or ``Quantized`` with all dtypes but float64. The fused form reads such a memory in place, the
others make a float32 copy for the call. A ``StreamedMemory`` is read part by part; ``impl`` then
concerns the read of each part. Under ``torch.autocast`` float32 and half inputs mix,
inputs are not rounded, and the results have autocast's dtype; float64 stays float64.

The fused form supports second derivatives and ``torch.compile`` with ``fullgraph=True``. With the
transforms of ``torch.func`` and forward mode "auto" takes the eager form, and "fused" is an error.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, overload

from torch import Tensor

from memhop.ops import checks, dtensors, options, streaming
from memhop.ops.banks import Pair, memory_of
from memhop.ops.exchange import GroupError, exchange_of, is_in_graph, outside_graph
from memhop.ops.forms import outputs_of, run
from memhop.ops.inputs import Hop, Quantized, Stored, Table
from memhop.ops.merging import merge_reads
from memhop.ops.options import IMPLEMENTATIONS, SlotOrder
from memhop.ops.streamed import Parts, StreamedMemory, streams_of
from memhop.ops.windowed import windows_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = [
    "IMPLEMENTATIONS",
    "GroupError",
    "Hop",
    "Parts",
    "Quantized",
    "StreamedMemory",
    "Table",
    "merge_reads",
    "multi_hop",
    "read",
]


class ReadOptions(TypedDict, total=False):
    """The options of ``read`` that do not change the type of its result."""

    slots: Tensor | Pair | None
    padding_mask: Tensor | None
    lengths: Tensor | None
    score_bias: Tensor | None
    softmax: bool
    dropout: float
    impl: str
    window: int | None
    group: "ProcessGroup | None"


@overload
def read(
    query: Tensor,
    keys: Stored | StreamedMemory,
    values: Stored | StreamedMemory | None = None,
    *,
    need_weights: Literal[False] = False,
    need_lse: Literal[False] = False,
    **options: Unpack[ReadOptions],
) -> Tensor: ...


@overload
def read(
    query: Tensor,
    keys: Stored | StreamedMemory,
    values: Stored | StreamedMemory | None = None,
    *,
    need_weights: Literal[True],
    need_lse: Literal[False] = False,
    **options: Unpack[ReadOptions],
) -> tuple[Tensor, Tensor]: ...


@overload
def read(
    query: Tensor,
    keys: Stored | StreamedMemory,
    values: Stored | StreamedMemory | None = None,
    *,
    need_weights: bool,
    need_lse: Literal[False] = False,
    **options: Unpack[ReadOptions],
) -> Tensor | tuple[Tensor, Tensor]: ...


@overload
def read(
    query: Tensor,
    keys: Stored | StreamedMemory,
    values: Stored | StreamedMemory | None = None,
    *,
    need_weights: Literal[False] = False,
    need_lse: Literal[True],
    **options: Unpack[ReadOptions],
) -> tuple[Tensor, Tensor]: ...


@overload
def read(
    query: Tensor,
    keys: Stored | StreamedMemory,
    values: Stored | StreamedMemory | None = None,
    *,
    need_weights: Literal[True],
    need_lse: Literal[True],
    **options: Unpack[ReadOptions],
) -> tuple[Tensor, Tensor, Tensor]: ...


@overload
def read(
    query: Tensor,
    keys: Stored | StreamedMemory,
    values: Stored | StreamedMemory | None = None,
    *,
    need_weights: bool,
    need_lse: Literal[True],
    **options: Unpack[ReadOptions],
) -> tuple[Tensor, ...]: ...


def read(
    query: Tensor,
    keys: Stored | StreamedMemory,
    values: Stored | StreamedMemory | None = None,
    *,
    slots: Tensor | Pair | None = None,
    padding_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    score_bias: Tensor | None = None,
    softmax: bool = True,
    dropout: float = 0.0,
    need_weights: bool = False,
    need_lse: bool = False,
    impl: str = "auto",
    window: int | None = None,
    group: "ProcessGroup | None" = None,
) -> Tensor | tuple[Tensor, ...]:
    """Return what a query reads: p_i = softmax_i(q . k_i + b_i), o = sum_i p_i v_i.

    Section 2.1 of arXiv 1503.08895, where the keys are m_i and the values c_i.

    Args:
        query: q, [..., I].
        keys: k, [..., N, I]. Leading axes broadcast with those of the query as in torch; along axes
            that are missing or of size 1 the memory is shared, without expanding it.
        values: v, [..., N, V]; None means the keys.
        slots: integers, [..., N]. Then keys and values are banks [..., U, I] and [..., U, V], and
            each row of the batch reads the rows of the bank at its slots. A pair (slots of the
            keys, slots of the values) if the banks differ; None in it means that this side is no
            bank. The rows of a pair are gathered once, for all hops.
        padding_mask: bool, [..., N], True = ignore that slot, whose content has no effect.
        lengths: integers, [...]: slot i is readable if i < length; instead of a padding mask.
        score_bias: b, [..., N]; -inf makes a slot ignored.
        softmax: False uses the scores themselves as p.
        dropout: the probability that a weight p_i is zeroed; the others are divided by
            1 - dropout. A caller passes 0 outside of training.
        need_weights: also return p, [..., N], after the dropout.
        need_lse: also return lse = log sum_i exp(q . k_i + b_i), [...], by which ``merge_reads``
            merges the reads of parts of a memory. It needs the softmax.
        impl: see the module. Nothing is projected here, so "project" equals "eager".
        window: N. Then query t of [..., T, I] reads the N slots t to t + N - 1 of keys [..., T + N
            - 1, I] and values [..., T + N - 1, V], whose mask and bias are [..., T + N - 1]; the
            weights are [..., T, N], column N - 1 of the last slot. Nothing is gathered.
        group: the ranks among which the slots are spread; see ``multi_hop``.

    Returns:
        o, [..., V], or (o, p), (o, lse) or (o, p, lse); o and p in the dtype of the query, lse in
        float32, or in float64 if the query is. If all slots are ignored, or N = 0, o and p are
        zero, lse is -inf, and all gradients are zero.

    Raises:
        ValueError: for incompatible shapes, dtypes and devices, slots outside of the bank, lengths
            outside of 0 to N, and a window with slots, lengths, a group or other than tensors.
        GroupError: a rank of the group has failed, has ended, or makes another call.

    >>> import torch
    >>> keys = torch.eye(3)
    >>> read_out, weights = read(torch.tensor([0.0, 9.0, 0.0]), keys, need_weights=True)
    >>> weights.argmax()
    tensor(1)
    """
    if is_in_graph(group):
        return outside_graph(read, locals())  # type: ignore[no-any-return]
    if dtensors.are_possible() and (local := dtensors.local_arguments("read", locals())):
        return read(**local)  # type: ignore[no-any-return]
    with exchange_of(group, "read", query) as exchange:
        impl = options.check_impl("read", impl)
        keys, values, streams = streams_of(keys, values, exchange)
        memory = memory_of("read", keys, values, slots, padding_mask, lengths, score_bias)
        if window is None:
            call = checks.check_read(query, memory, softmax, dropout)
        else:
            windows = windows_of("read", query, memory, window, slots, streams)
            call = checks.check_read(query, windows, softmax, dropout)._replace(window=memory)
        if need_lse:
            call = options.with_lse(call)
        if streams is None:
            result, weights, lse = outputs_of(call, impl, need_weights)
        else:
            result, weights, lse = streaming.outputs_of(call, streams, impl, need_weights)
    weights = None if weights is None else weights.squeeze(-2)
    found = tuple(part for part in (result, weights, lse) if part is not None)
    return found if len(found) > 1 else result


class MultiHopOptions(TypedDict, total=False):
    """The options of ``multi_hop`` that do not change the type of its result."""

    values: Stored | StreamedMemory | None
    slots: Tensor | Pair | None
    padding_mask: Tensor | None
    lengths: Tensor | None
    score_bias: Tensor | None
    slot_order: SlotOrder
    num_heads: int
    dropout: float
    average_attn_weights: bool
    impl: str
    window: int | None
    group: "ProcessGroup | None"


@overload
def multi_hop(
    query: Tensor,
    memories: Stored | StreamedMemory,
    hops: Sequence[Hop],
    *,
    need_weights: Literal[False] = False,
    **options: Unpack[MultiHopOptions],
) -> Tensor: ...


@overload
def multi_hop(
    query: Tensor,
    memories: Stored | StreamedMemory,
    hops: Sequence[Hop],
    *,
    need_weights: Literal[True],
    **options: Unpack[MultiHopOptions],
) -> tuple[Tensor, Tensor]: ...


@overload
def multi_hop(
    query: Tensor,
    memories: Stored | StreamedMemory,
    hops: Sequence[Hop],
    *,
    need_weights: bool,
    **options: Unpack[MultiHopOptions],
) -> Tensor | tuple[Tensor, Tensor]: ...


def multi_hop(
    query: Tensor,
    memories: Stored | StreamedMemory,
    hops: Sequence[Hop],
    *,
    values: Stored | StreamedMemory | None = None,
    slots: Tensor | Pair | None = None,
    padding_mask: Tensor | None = None,
    lengths: Tensor | None = None,
    score_bias: Tensor | None = None,
    slot_order: SlotOrder = "oldest_first",
    num_heads: int = 1,
    dropout: float = 0.0,
    need_weights: bool = False,
    average_attn_weights: bool = True,
    impl: str = "auto",
    window: int | None = None,
    group: "ProcessGroup | None" = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the query after several hops over one memory. Each hop is

        p_i = softmax_i(q . (A m_i + a + T_A(i)) + b_i)
        o   = sum_i p_i (C v_i + c + T_C(i))
        q  <- q + o

    (sections 2.1 and 2.2 of arXiv 1503.08895). The values v_i are the m_i unless passed separately
    (key-value memory, arXiv 1606.03126). A hop with a transform computes q <- H q + o; one with
    ``relu`` applies ReLU to the result. T(i) is row 0 of the temporal table for the newest slot
    that is not ignored, row 1 for the next newest, and the last row for all older ones.

    With H heads of d = D / H units, head h computes p_h and o_h from its d units of q, of A m_i + a
    + T_A(i) and of C v_i + c + T_C(i), and o is the concatenation of all o_h. No score is divided
    by sqrt(d).

    Args:
        query: q, [..., D]; D is memory_dim.
        memories: m, [..., N, I]. Leading axes broadcast with those of the query as in torch; along
            axes that are missing or of size 1 the memory is shared, without expanding it.
        hops: the weights and options of each hop; see ``Hop`` and ``Table``. A weight that several
            hops share must be the same tensor object in each.
        values: v, [..., N, V], which C [D, V] reads instead of m; None means m.
        slots: integers, [..., N], or a pair, as in ``read``.
        padding_mask: bool, [..., N], True = ignore that slot, whose content has no effect.
        lengths: integers, [...]: slot i is readable if i < length; instead of a padding mask.
        score_bias: b, [..., N], or with one more axis [..., K, N] for a bias of each hop; -inf
            makes a slot ignored.
        slot_order: "oldest_first" if a slot is newer than those before it, or "newest_first"; only
            temporal tables depend on it.
        num_heads: H; it divides D.
        dropout: the probability that a weight p_i is zeroed, as in ``read``.
        need_weights: also return p of every hop, [..., K, N], after the dropout.
        average_attn_weights: False returns p of every head, [..., K, H, N], True the mean.
        impl: see the module.
        window: N. Then query t of [..., T, D] reads the N slots t to t + N - 1 of memories [..., T
            + N - 1, I], as in ``read``; a bias of each hop is [..., K, T + N - 1].
        group: of ``torch.distributed``. Then memories, values, mask, lengths and bias are those of
            the slots of this rank, any number of them, and the result is that over the slots of
            all ranks, in the order of the ranks. The ranks must pass the same queries and weights,
            and run the same backward pass. Weights p are those of the local slots. A ``DTensor``
            with ``Shard`` on the axis of the slots as memories has its group.

    Returns:
        q after the last hop, [..., D], or (q, p), in the dtype of the query. If all slots are
        ignored, or N = 0, o and p are zero and so are their gradients, and no bias is added. With
        the softmax the gradient of a is zeros: it does not change p.

    Raises:
        ValueError: for incompatible shapes, dtypes and devices, slots outside of the bank, lengths
            outside of 0 to N, and a window with slots, lengths, a group or other than tensors.
        GroupError: a rank of the group has failed, has ended, or makes another call.

    >>> import torch
    >>> table = Table(torch.eye(3))
    >>> query, weights = multi_hop(
    ...     torch.ones(3), 5 * torch.eye(3), [Hop(table, table)] * 2, need_weights=True
    ... )
    >>> weights.shape
    torch.Size([2, 3])
    """
    if is_in_graph(group):
        return outside_graph(multi_hop, locals())  # type: ignore[no-any-return]
    if dtensors.are_possible() and (local := dtensors.local_arguments("multi_hop", locals())):
        return multi_hop(**local)  # type: ignore[no-any-return]
    with exchange_of(group, "multi_hop", query) as exchange:
        impl = options.check_impl("multi_hop", impl)
        options.check_types_of_hops(hops)
        if dtensors.are_possible():
            dtensors.check_weights("multi_hop", hops)
        memories, values, streams = streams_of(memories, values, exchange)
        memory = memory_of("multi_hop", memories, values, slots, padding_mask, lengths, score_bias)
        attention = options.check_attention("multi_hop", num_heads, dropout, slot_order)
        if window is None:
            call = checks.check_multi_hop(query, memory, hops, attention)
        else:
            windows = windows_of("multi_hop", query, memory, window, slots, streams)
            call = checks.check_multi_hop(query, windows, hops, attention)
            call = call._replace(window=memory)
        if streams is not None:
            return streaming.run(call, streams, impl, need_weights, average_attn_weights)
        return run(call, impl, need_weights, average_attn_weights)
