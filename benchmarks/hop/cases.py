"""The cases of the hop benchmark: their tensors and their rows."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memhop import ops
from memhop.ops.inputs import Stored


class Case(NamedTuple):
    """A problem: ``batch`` queries read ``slots`` slots each, in ``hops`` hops.

    Attributes:
        held: "own", a memory for each query; "shared", one memory for all; "bank", slots that
            index rows of one bank, drawn at random.
        bank_rows: number of rows of the bank.
        dtype: of the memory.
        weights: dtype of query and weights.
        gradients: whether the backward pass is measured too, with gradients for query, memory and
            all weights.
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
        """The memory in words.

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
        """The size of the stored memory."""
        rows = {"own": self.batch * self.slots, "shared": self.slots, "bank": self.bank_rows}
        return rows[self.held] * self.bytes_of_row

    @property
    def bytes_read(self) -> int:
        """The bytes that one hop reads: the slots of every query, of a shared memory once."""
        rows = self.slots if self.held == "shared" else self.batch * self.slots
        return rows * self.bytes_of_row

    @property
    def bytes_of_row(self) -> int:
        """The size of a slot, in int8 with its float32 scale."""
        width: int = getattr(torch, self.dtype).itemsize
        return self.input_dim * width + (4 if self.dtype == "int8" else 0)


class Inputs(NamedTuple):
    """The tensors of a case; ``grad_out`` is the gradient of the result."""

    query: Tensor
    memories: Stored
    slots: Tensor | None
    hops: list[ops.Hop]
    grad_out: Tensor

    @property
    def tensor(self) -> Tensor:
        """The memory as a tensor, in int8 without its scale."""
        return self.memories if isinstance(self.memories, Tensor) else self.memories.data

    @property
    def weights(self) -> list[Tensor]:
        """A, a, C and c of every hop."""
        parts = (part for hop in self.hops for part in (*hop.a, *hop.c))
        return [part for part in parts if part is not None]

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors that get a gradient."""
        leaves = [self.query, self.memories, *self.weights]
        return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]


def make(case: Case, device: str = "cpu") -> Inputs:
    """Draw the tensors of a case from a fixed seed; weights as in ``torch.nn.Linear``."""
    source = torch.Generator(device).manual_seed(0)
    dtype = getattr(torch, case.weights)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source, device=device)

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.to(dtype).requires_grad_(case.gradients)

    def table() -> ops.Table:
        bound = case.input_dim**-0.5
        shape = (case.memory_dim, case.input_dim + 1)
        uniform = torch.rand(shape, generator=source, device=device)
        weight, bias = (2 * uniform - 1).mul_(bound).tensor_split([case.input_dim], 1)
        return ops.Table(leaf(weight.contiguous()), leaf(bias.flatten()))

    leading = {"own": (case.batch, case.slots), "shared": (case.slots,), "bank": (case.bank_rows,)}
    memories = converted(randn(*leading[case.held], case.input_dim), case.dtype)
    if isinstance(memories, Tensor):
        memories.requires_grad_(case.gradients)
    slots = None
    if case.held == "bank":
        shape = (case.batch, case.slots)
        slots = torch.randint(case.bank_rows, shape, generator=source, device=device)
    query, grad_out = (randn(case.batch, case.memory_dim).to(dtype) for _ in range(2))
    hops = [ops.Hop(table(), table()) for _ in range(case.hops)]
    return Inputs(leaf(query), memories, slots, hops, grad_out)


def converted(memories: Tensor, dtype: str) -> Stored:
    """Return a memory in another dtype."""
    if dtype == "int8":
        return ops.Quantized.of(memories)
    return memories.to(getattr(torch, dtype))


def dequantized(memories: Stored, dtype: torch.dtype) -> Tensor:
    """Return the values of a memory in a floating dtype."""
    if isinstance(memories, Tensor):
        return memories.detach().to(dtype)
    return memories.data.to(dtype) * memories.scale.to(dtype).unsqueeze(-1)


COLUMNS = (
    "part", *Case._fields, "form", "process", "rounds", "seconds", "error", "gradient_error",
    "bytes_held", "bytes_read", "bytes_written", "read_speed", "extra_bytes", "kept_bytes",
    "bound_bytes", "bar", "note",
)  # fmt: skip


class Setting(NamedTuple):
    """How a part is measured; ``on_begin`` is called with a line before each measurement."""

    device: str = "cpu"
    tiny: bool = False
    process: int = 1
    on_begin: Callable[[str], None] = lambda _: None


def case_of(row: Mapping[str, str]) -> Case:
    """Return the case of a row of a CSV file.

    >>> made = row("bars", Case(3, 5, gradients=True), "auto", Setting())
    >>> case_of({name: str(value) for name, value in made.items()}) == Case(3, 5, gradients=True)
    True
    """
    kinds = Case.__annotations__
    return Case._make(
        row[name] == "True" if kind is bool else kind(row[name]) for name, kind in kinds.items()
    )


def row(part: str, case: Case, form: str, setting: Setting, **measured: Any) -> dict[str, Any]:
    """Return a row; columns that are not given are None.

    ``bytes_held`` is the size of the memory, ``bytes_read`` the bytes that one hop reads,
    ``bytes_written`` the size of the memory's gradient, ``read_speed`` in bytes a second.
    """
    if unknown := measured.keys() - set(COLUMNS):
        raise ValueError(f"expected columns of {', '.join(COLUMNS)}, got {sorted(unknown)}")
    known = {
        "part": part, **case._asdict(), "form": form, "process": setting.process,
        "bytes_held": case.bytes_held, "bytes_read": case.bytes_read,
        "bytes_written": case.bytes_held if case.gradients else 0,
    }  # fmt: skip
    return dict.fromkeys(COLUMNS) | known | measured
