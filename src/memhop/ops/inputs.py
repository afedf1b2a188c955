"""The inputs of an operation: a memory with its storage and mask, and the weights of its hops.

Tying is sharing of ``Table`` objects. With tables E_0 .. E_K, adjacent tying is
``[Hop(a, c) for a, c in itertools.pairwise(tables)]`` and layer-wise tying is
``[Hop(a, c, transform=h)] * num_hops``. Work on a weight that several hops share is done once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import Parameter

QUANTIZED_FORMAT = 1  # of a pickled `Quantized`; a file without a number has this format too


@dataclass(frozen=True, eq=False)
class Quantized:
    """A memory in int8 with a scale for each row: row i is ``scale[i] * data[i]``.

    It has a quarter of the size of float32, and float32 is the compute dtype. Neither part may
    require a gradient; query and weights may. Like a tensor it has a ``shape`` and a ``device``,
    moves by ``to``, is indexed by rows, and loads with ``weights_only=True``.

    Attributes:
        data: int8, [..., N, I], or a bank [..., U, I].
        scale: float32, [..., N] or [..., U].

    >>> memory = Quantized.of(torch.tensor([[0.5, -127.0], [0.0, 0.0]]))
    >>> memory.scale
    tensor([1., 0.])
    >>> memory.dequantized()
    tensor([[   0., -127.],
            [   0.,    0.]])
    >>> memory.shape, memory[:1].shape
    (torch.Size([2, 2]), torch.Size([1, 2]))
    """

    data: Tensor
    scale: Tensor

    @classmethod
    def of(cls, memories: Tensor) -> Self:
        """Return a memory [..., N, I] rounded to int8, with the scales max |row| / 127.

        The error of a number is at most half a step, max |row| / 254, plus the rounding of float32;
        a row of zeros stays zero. float64 is rounded to float32 first. The result requires no
        gradient.

        Raises:
            ValueError: for anything but a floating tensor [..., N, I] of finite numbers.
        """
        if not isinstance(memories, Tensor) or not memories.is_floating_point():
            came = str(memories.dtype if isinstance(memories, Tensor) else type(memories).__name__)
            raise ValueError(f"Quantized.of expected a floating tensor [..., N, I], got {came}")
        if memories.dim() < 2 or memories.shape[-1] == 0:
            came = str(list(memories.shape))
            raise ValueError(f"Quantized.of expected [..., N, I] with I at least 1, got {came}")
        rows = memories.detach().float()
        scale = rows.abs().amax(-1) / 127
        if not scale.isfinite().all():
            raise ValueError("Quantized.of expected finite numbers within float32, got others")
        # A scale that underflows belongs to a row of almost zero.
        steps = rows / torch.where(scale > 0, scale, 1.0).unsqueeze(-1)
        return cls(steps.round().clamp(-127, 127).to(torch.int8), scale)

    def __getstate__(self) -> dict[str, Any]:
        return {"format": QUANTIZED_FORMAT, "data": self.data, "scale": self.scale}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stored = state.get("format", QUANTIZED_FORMAT)
        if stored != QUANTIZED_FORMAT:
            expected = f"a file of format {QUANTIZED_FORMAT}"
            came = f"format {stored!r:.60}: written by a newer version of memhop"
            raise ValueError(f"Quantized expected {expected}, got {came}")
        self.__dict__.update(data=state["data"], scale=state["scale"])

    def dequantized(self) -> Tensor:
        """Return a copy of the memory in float32."""
        return self.data * self.scale.unsqueeze(-1)

    @property
    def shape(self) -> torch.Size:
        """Sizes of the memory, [..., N, I]."""
        return self.data.shape

    @property
    def device(self) -> torch.device:
        """Device of the memory."""
        return self.data.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the dequantized memory, float32."""
        return self.scale.dtype

    @property
    def ndim(self) -> int:
        """Number of axes of the memory."""
        return self.data.ndim

    def dim(self) -> int:
        """Return the number of axes of the memory."""
        return self.data.dim()

    def __len__(self) -> int:
        return len(self.data)

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> Self:
        """Return the memory on a device, or itself if it is there already.

        Raises:
            ValueError: for a dtype; ``dequantized().to(dtype)`` converts.
        """
        if not isinstance(device, torch.device | str | int):
            came = device if isinstance(device, torch.dtype) else type(device).__name__
            raise ValueError(f"Quantized.to expected a device, got {came} (see dequantized())")
        data = self.data.to(device, non_blocking=non_blocking)
        scale = self.scale.to(device, non_blocking=non_blocking)
        return self if data is self.data and scale is self.scale else type(self)(data, scale)

    def cpu(self) -> Self:
        """Return the memory on the CPU."""
        return self.to("cpu")

    def cuda(self, device: int | None = None) -> Self:
        """Return the memory on a GPU, by default the current one."""
        return self.to("cuda" if device is None else device)

    def __getitem__(self, rows: Any) -> Self:
        """Return rows of the memory, by any index of a tensor [..., N].

        Raises:
            IndexError: for an index of more axes than [..., N] has, or out of range.
        """
        index = rows if isinstance(rows, tuple) else (rows,)
        scale = self.scale[index]
        has_ellipsis = any(each is Ellipsis for each in index)
        return type(self)(self.data[(*index, slice(None) if has_ellipsis else ...)], scale)


torch.serialization.add_safe_globals([Quantized])  # for torch.load(..., weights_only=True)
torch.export.register_dataclass(  # for torch.export and vmap
    Quantized, serialized_type_name="memhop.Quantized"
)


Stored = Tensor | Quantized


class Memory(NamedTuple):
    """A memory with the arguments of ``read`` and ``multi_hop``.

    Attributes:
        keys: [..., N, I], or with slots a bank [..., U, I].
        values: [..., N, V] or [..., U, V]; None if they are the keys.
        slots: integers [..., N], rows of the bank.
        padding_mask: bool [..., N], True = ignore that slot.
        lengths: integers [...]; at most one of mask and lengths is given.
        score_bias: [..., N], or [..., K, N] for K hops.
    """

    keys: Stored
    values: Stored | None = None
    slots: Tensor | None = None
    padding_mask: Tensor | None = None
    lengths: Tensor | None = None
    score_bias: Tensor | None = None


def is_dense(tensor: object) -> bool:
    """Return whether an object is a strided tensor of torch's own class."""
    return (
        (type(tensor) is Tensor or type(tensor) is Parameter)
        and tensor.layout is torch.strided
        and not tensor.is_nested
    )


def storage(stored: Stored) -> Tensor:
    """Return the tensor [..., N, I] with the sizes, the device and the format of a memory."""
    return stored.data if isinstance(stored, Quantized) else stored


def converted(stored: Stored, dtype: torch.dtype) -> Tensor:
    """Return a memory as a tensor of a dtype, or itself if it is one."""
    return stored.dequantized() if isinstance(stored, Quantized) else stored.to(dtype)


class Table(NamedTuple):
    """One embedding of the memory: slot i becomes ``weight @ m_i + bias + temporal[age of i]``.

    Attributes:
        weight: [memory_dim, input_dim], or None for the identity, which costs no product.
        bias: [memory_dim], or None.
        temporal: [T, memory_dim], or None; row 0 is for the last readable slot, row 1 for the one
            before it, and the last row for all older ones (section 4.1, "Temporal Encoding").
    """

    weight: Tensor | None
    bias: Tensor | None = None
    temporal: Tensor | None = None


class Hop(NamedTuple):
    """One hop: attend with the table ``a``, read with the table ``c``, update the query.

    Attributes:
        a: the embedding that is scored.
        c: the embedding that is read.
        transform: H of layer-wise tying, [memory_dim, memory_dim]: q <- H q + o instead of q + o.
        relu: apply ReLU to the updated query; a share from 0 to 1 applies it to that share of the
            units, the last ones (the language model of section 5 applies it to half of them).
        softmax: False uses the scores as weights (linear start).
    """

    a: Table
    c: Table
    transform: Tensor | None = None
    relu: bool | float = False
    softmax: bool = True


def relu_units(relu: bool | float, memory_dim: int) -> int:
    """Return the number of units, the last ones, that ``Hop.relu`` applies to."""
    return round(relu * int(memory_dim))  # torch.jit.trace has a tensor for it


class BankHop(NamedTuple):
    """One hop over a memory of embedded rows, of which each table has a bank.

    Attributes:
        keys, values: which banks the query is matched with, and which are read: A and C.
        transform, relu, softmax: as in ``Hop``; leading axes of the transform are the query's.
    """

    keys: int
    values: int
    transform: Tensor | None = None
    relu: bool = False
    softmax: bool = True


class MLP(NamedTuple):
    """The weights of an MLP after a hop, q <- q + ReLU(q w + b) v.

    Attributes:
        w: [..., D, U].
        b: [..., 1, U].
        v: [..., U, D].
    """

    w: Tensor
    b: Tensor
    v: Tensor


class OncePerTensor:
    """A function of a tensor that runs once for each tensor object."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._known: list[tuple[Tensor, Tensor]] = []

    def __call__(self, tensor: Tensor) -> Tensor:
        for known, result in self._known:
            if known is tensor:
                return result
        result = self._function(tensor)
        self._known.append((tensor, result))
        return result

    def optional(self, tensor: Tensor | None) -> Tensor | None:
        """Return the function of a tensor, or None for None."""
        return None if tensor is None else self(tensor)


def has_temporal_tables(hops: Sequence[Hop]) -> bool:
    """Return whether a hop has a temporal table, so that it depends on the ages of the slots."""
    return any(hop.a.temporal is not None or hop.c.temporal is not None for hop in hops)


def with_short_tables(hops: Sequence[Hop], num_slots: int) -> Sequence[Hop]:
    """Return the hops with temporal tables cut to N rows, the ages of N slots."""
    for (_, _, a), (_, _, c), _, _, _ in hops:
        if a is not None or c is not None:
            break
    else:
        return hops
    if torch.compiler.is_exporting():  # the number of slots stays dynamic
        return hops
    rows = max(1, num_slots)
    tables = [table.temporal for hop in hops for table in (hop.a, hop.c)]
    if not any(temporal is not None and temporal.shape[0] > rows for temporal in tables):
        return hops
    cut = OncePerTensor(lambda temporal: temporal[:rows])
    return [
        hop._replace(
            a=hop.a._replace(temporal=cut.optional(hop.a.temporal)),
            c=hop.c._replace(temporal=cut.optional(hop.c.temporal)),
        )
        for hop in hops
    ]
