"""The cases that ``memhop bench hop`` measures, and the tensors of each."""

from typing import NamedTuple

import torch
from torch import Tensor

from memhop import ops
from memhop.ops.inputs import Stored


class Case(NamedTuple):
    """One problem: ``batch`` queries that read ``slots`` slots each, in ``hops`` hops.

    Attributes:
        held: "own", a memory for each query; "shared", one for all; "bank", slots that name rows
            of one bank, drawn at random.
        bank_rows: of the bank.
        dtype: of the memory.
        weights: dtype of query and weights.
        gradients: whether the backward is measured with the forward, with gradients for query,
            memory and all weights.
    """

    batch: int
    slots: int
    input_dim: int = 128
    memory_dim: int = 128
    hops: int = 3
    held: str = "own"
    bank_rows: int = 0
    dtype: str = "float32"
    weights: str = "float32"
    gradients: bool = False

    @property
    def name(self) -> str:
        """The memory as one says it.

        >>> Case(64, 2000, held="bank", bank_rows=100000).name
        'bank 100000, slots [64, 2000]'
        """
        if self.held == "bank":
            name = f"bank {self.bank_rows}, slots [{self.batch}, {self.slots}]"
        elif self.held == "shared":
            name = f"[{self.slots}, {self.input_dim}] shared by {self.batch}"
        else:
            name = f"[{self.batch}, {self.slots}, {self.input_dim}]"
        if self.dtype != "float32":
            name += f" {self.dtype}"
        return name + (", with gradients" if self.gradients else "")

    @property
    def bytes_held(self) -> int:
        """The size of the memory as it is stored."""
        rows = {"own": self.batch * self.slots, "shared": self.slots, "bank": self.bank_rows}
        return rows[self.held] * self.bytes_of_row

    @property
    def bytes_read(self) -> int:
        """What one hop reads: the slots of every query, those of a shared memory once."""
        rows = self.slots if self.held == "shared" else self.batch * self.slots
        return rows * self.bytes_of_row

    @property
    def bytes_of_row(self) -> int:
        """The size of a slot; one in int8 has a float32 scale."""
        width: int = getattr(torch, self.dtype).itemsize
        return self.input_dim * width + (4 if self.dtype == "int8" else 0)


class Inputs(NamedTuple):
    """The tensors of a case; ``direction`` is the gradient that comes from above."""

    query: Tensor
    memories: Stored
    slots: Tensor | None
    hops: list[ops.Hop]
    direction: Tensor

    @property
    def tensor(self) -> Tensor:
        """The memory as a tensor; of one in int8 that without its scale."""
        return self.memories if isinstance(self.memories, Tensor) else self.memories.data

    @property
    def weights(self) -> list[Tensor]:
        """A, a, C and c of every hop."""
        parts = (part for hop in self.hops for part in (*hop.a, *hop.c))
        return [part for part in parts if part is not None]

    @property
    def leaves(self) -> list[Tensor]:
        """All that a gradient is asked for."""
        leaves = [self.query, self.memories, *self.weights]
        return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]


def make(case: Case, device: str = "cpu") -> Inputs:
    """Draw a case, the same numbers every time; weights as ``torch.nn.Linear`` draws them."""
    source = torch.Generator(device).manual_seed(0)
    dtype = getattr(torch, case.weights)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source, device=device)

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.to(dtype).requires_grad_(case.gradients)

    def table() -> ops.Table:
        bound = case.input_dim**-0.5
        shape = (case.memory_dim, case.input_dim + 1)
        numbers = torch.rand(shape, generator=source, device=device)
        weight, bias = (2 * numbers - 1).mul_(bound).tensor_split([case.input_dim], 1)
        return ops.Table(leaf(weight.contiguous()), leaf(bias.flatten()))

    leading = {"own": (case.batch, case.slots), "shared": (case.slots,), "bank": (case.bank_rows,)}
    memories = stored(drawn(*leading[case.held], case.input_dim), case.dtype)
    if isinstance(memories, Tensor):
        memories.requires_grad_(case.gradients)
    slots = None
    if case.held == "bank":
        shape = (case.batch, case.slots)
        slots = torch.randint(case.bank_rows, shape, generator=source, device=device)
    query, direction = (drawn(case.batch, case.memory_dim).to(dtype) for _ in range(2))
    hops = [ops.Hop(table(), table()) for _ in range(case.hops)]
    return Inputs(leaf(query), memories, slots, hops, direction)


def stored(memories: Tensor, dtype: str) -> Stored:
    """A memory in another dtype."""
    if dtype == "int8":
        return ops.Quantized.of(memories)
    return memories.to(getattr(torch, dtype))


def numbers_in(memories: Stored, dtype: torch.dtype) -> Tensor:
    """What a memory holds, as numbers of a dtype."""
    if isinstance(memories, Tensor):
        return memories.detach().to(dtype)
    return memories.data.to(dtype) * memories.scale.to(dtype).unsqueeze(-1)
