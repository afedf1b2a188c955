"""Operations as functions of tensors that have a gradient, to be transformed and compiled.

Some are tiny and some so large that "auto" may take a fused kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from memhop.ops import Hop, Table, multi_hop, read

Leaves = tuple[Tensor, ...]
Operation = Callable[..., Leaves]


@dataclass(frozen=True)
class Case:
    """An operation of ``leaves``, with the word for ``impl`` first.

    Attributes:
        operation: gives the result and, in some cases, the weights.
        leaves: what it is a function of; the query comes first.
        few: how many of the leaves, from the first, are small enough for whole Jacobians.
    """

    operation: Operation
    leaves: Leaves
    few: int

    def outputs(self, impl: str) -> Callable[..., Tensor]:
        """All that the operation gives, in one line of numbers."""
        return lambda *leaves: torch.cat([x.flatten() for x in self.operation(impl, *leaves)])

    def total(self, impl: str) -> Callable[..., Tensor]:
        """One number that depends on all that the operation gives."""

        def total(*leaves: Tensor) -> Tensor:
            found = self.outputs(impl)(*leaves)
            return found @ torch.arange(len(found), dtype=found.dtype).cos()

        return total

    def directions(self) -> Leaves:
        """One number for each of the leaves' own, drawn again."""
        return tuple(torch.randn_like(leaf) for leaf in self.leaves)


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64)


def tiny_read() -> Case:
    mask = torch.tensor([[False, False, True, False], [True] * 4])

    def operation(impl: str, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Leaves:
        return read(
            query, keys, values, padding_mask=mask, score_bias=bias, need_weights=True, impl=impl
        )

    return Case(operation, (normal(2, 3), normal(2, 4, 3), normal(2, 4, 2), normal(2, 4)), 4)


def large_read() -> Case:
    def operation(impl: str, query: Tensor, keys: Tensor) -> Leaves:
        return (read(query, keys, impl=impl),)

    return Case(operation, (normal(8, 16), normal(8, 300, 16)), 1)


def tiny_hops() -> Case:
    """Adjacent tying with everything that a hop may have, and weights of each hop."""
    mask = torch.tensor([[False, False, True, False], [True] * 4])

    def operation(
        impl: str, query: Tensor, memories: Tensor, bias: Tensor, *tables: Tensor
    ) -> Leaves:
        first, second, third = (Table(*tables[k : k + 3]) for k in (0, 3, 6))
        hops = [Hop(first, second), Hop(second, third)]
        return multi_hop(
            query, memories, hops, padding_mask=mask, score_bias=bias, need_weights=True, impl=impl
        )

    tables = [normal(*shape) for _ in range(3) for shape in ((2, 3), (2,), (2, 2))]
    return Case(operation, (normal(2, 2), normal(2, 4, 3), normal(2, 2, 4), *tables), 12)


def hops_without_tables() -> Case:
    """Tables that are left out, with biases and temporal rows, and ReLU on half of the units."""

    def operation(impl: str, query: Tensor, memories: Tensor, *weights: Tensor) -> Leaves:
        bias, temporal, c = weights
        hops = [
            Hop(Table(None, None, temporal), Table(None, bias, temporal), relu=0.5),
            Hop(Table(None, bias), Table(c), softmax=False),
        ]
        return multi_hop(query, memories, hops, need_weights=True, impl=impl)

    weights = (normal(2), normal(3, 2), normal(2, 2))
    return Case(operation, (normal(3, 2), normal(3, 4, 2), *weights), 5)


def heads_and_pair_of_banks() -> Case:
    """Two heads, keys and values of two banks, lengths, and the weights of each head."""
    slots, lengths = (torch.randint(5, (2, 4)), torch.randint(6, (2, 4))), torch.tensor([3, 0])

    def operation(
        impl: str, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, *weights: Tensor
    ) -> Leaves:
        a, temporal, c = weights
        hops = [Hop(Table(a, None, temporal), Table(c)), Hop(Table(a), Table(c), relu=True)]
        return multi_hop(
            query, keys, hops, values=values, slots=slots, lengths=lengths, score_bias=bias,
            num_heads=2, need_weights=True, average_attn_weights=False, impl=impl,
        )  # fmt: skip

    leaves = (normal(2, 4), normal(5, 3), normal(6, 2), normal(2, 2, 4))
    return Case(operation, (*leaves, normal(4, 3), normal(2, 4), normal(4, 2)), 7)


def large_hops(*lead: int) -> Case:
    """Layer-wise tying."""
    mask = torch.rand(8, 300) < 0.3

    def operation(
        impl: str, query: Tensor, memories: Tensor, a: Tensor, c: Tensor, bias: Tensor, h: Tensor
    ) -> Leaves:
        hops = [Hop(Table(a), Table(c, bias), transform=h)] * 2
        return (multi_hop(query, memories, hops, padding_mask=mask, impl=impl),)

    weights = [normal(16, 16, scale=0.25) for _ in range(3)]
    leaves = (normal(8, 16), normal(*lead, 300, 16), *weights[:2], normal(16), weights[2])
    return Case(operation, leaves, 1)


def bank_without_softmax() -> Case:
    slots = torch.randint(50, (8, 300))

    def operation(impl: str, query: Tensor, bank: Tensor, *tables: Tensor) -> Leaves:
        hops = [Hop(Table(*tables[:2]), Table(*tables[2:]), softmax=False)]
        return (multi_hop(query, bank, hops, slots=slots, impl=impl),)

    tables = [normal(16, 16, scale=0.25), normal(16), normal(16, 16, scale=0.25), normal(16)]
    return Case(operation, (normal(8, 16), normal(50, 16, scale=0.1), *tables), 1)


CASES: dict[str, Callable[[], Case]] = {
    "tiny read": tiny_read,
    "large read": large_read,
    "tiny hops": tiny_hops,
    "hops without tables": hops_without_tables,
    "heads and a pair of banks": heads_and_pair_of_banks,
    "large hops": lambda: large_hops(8),
    "shared memory": large_hops,
    "bank": bank_without_softmax,
}


def case_of(name: str) -> Case:
    """The same numbers every time."""
    torch.manual_seed(0)
    return CASES[name]()
