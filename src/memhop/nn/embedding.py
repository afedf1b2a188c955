"""The weights of one embedding of the memory, as a module: A or C of a hop."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.nn.utils.parametrize import type_before_parametrizations

from memhop.ops import Table


class EmbeddingTable(nn.Module):
    """The weights of one embedding of the memory, A or C: those of a ``torch.nn.Linear`` from
    input_dim to memory_dim and, where asked for, a row to add for each age of a slot.
    """

    bias: nn.Parameter | None
    temporal: nn.Parameter | None

    def __init__(
        self,
        input_dim: int,
        memory_dim: int,
        bias: bool,
        temporal_slots: int | None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.weight = parameter(memory_dim, input_dim)
        self.bias = parameter(memory_dim) if bias else None
        self.temporal = None if temporal_slots is None else parameter(temporal_slots, memory_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight and bias as in ``torch.nn.Linear``, temporal from N(0, 0.1) as in the paper."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)
        if self.temporal is not None:
            nn.init.normal_(self.temporal, std=0.1)

    def forward(self, memories: Tensor) -> Tensor:
        """A m_i + a for every slot, [..., memory_dim]; temporal rows are added by the hop."""
        return nn.functional.linear(memories, self.weight, self.bias)

    def extra_repr(self) -> str:
        memory_dim, input_dim = self.weight.shape
        temporal_slots = None if self.temporal is None else self.temporal.shape[0]
        has_bias = self.bias is not None
        return f"{input_dim}, {memory_dim}, bias={has_bias}, temporal_slots={temporal_slots}"


# as long as nobody patches them
_FORWARDS: dict[type[nn.Module], Any] = {kind: kind.forward for kind in (EmbeddingTable, nn.Linear)}


def is_plain(module: nn.Module | None, kind: type[nn.Module] = EmbeddingTable) -> bool:
    """Return whether calling a module computes the formula of its class and does nothing else.

    A module is not plain if it is of a subclass or another class, has hooks (pruning and the older
    weight norm are hooks), or if its ``forward`` or its class's is patched. Parametrized weights
    are plain: their values are read at every call.
    """
    if type(module) is not kind and (
        module is None or type_before_parametrizations(module) is not kind
    ):
        return False
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
        or kind.forward is not _FORWARDS[kind]
    )


def has_global_hooks() -> bool:
    """Return whether hooks for all modules are registered."""
    return bool(_has_any_global_hook())  # type: ignore[no-untyped-call]


def table_of(module: nn.Module | None) -> Table:
    """Return the weights of an ``EmbeddingTable`` in the form that ``ops.multi_hop`` takes."""
    if not isinstance(module, EmbeddingTable):
        came = type(module).__name__
        raise ValueError(f"expected an EmbeddingTable, whose weights are read; got {came}")
    # A module searches for each weight by name; of a small call that takes longer than the sums.
    # What is no parameter of its own, a parametrized weight or None, is an attribute all the same.
    # An attribute is not looked up before it has to be, as it would be for dict.get.
    held = module._parameters
    return Table(
        held["weight"] if "weight" in held else module.weight,  # type: ignore[arg-type]  # noqa: SIM401
        held["bias"] if "bias" in held else module.bias,  # noqa: SIM401
        held["temporal"] if "temporal" in held else module.temporal,  # noqa: SIM401
    )
