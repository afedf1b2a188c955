"""One embedding of the memory as a module: A or C of a hop."""

import math

import torch
from torch import Tensor, nn


class EmbeddingTable(nn.Module):
    """One embedding of the memory, A or C: the weights of a ``torch.nn.Linear`` from input_dim to
    memory_dim and, with ``temporal_slots``, a row for each age of a slot.

    With ``embed=False`` the embedding is the identity: it has no weight and no bias.
    """

    weight: nn.Parameter | None
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
        embed: bool = True,
    ) -> None:
        super().__init__()

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.input_dim, self.memory_dim = input_dim, memory_dim
        self.weight = parameter(memory_dim, input_dim) if embed else None
        self.bias = parameter(memory_dim) if bias and embed else None
        self.temporal = None if temporal_slots is None else parameter(temporal_slots, memory_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias as in ``torch.nn.Linear``, temporal from N(0, 0.1) (section 4.2)."""
        bound = 1 / math.sqrt(self.input_dim)
        if self.weight is not None:
            nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)
        if self.temporal is not None and not self.temporal.is_meta:  # there it imports a compiler
            nn.init.normal_(self.temporal, std=0.1)

    def forward(self, memories: Tensor) -> Tensor:
        """Return A m_i + a for every slot, [..., memory_dim]; the hop adds the temporal rows."""
        if self.weight is None:
            return memories
        return nn.functional.linear(memories, self.weight, self.bias)

    def extra_repr(self) -> str:
        text = f"{self.input_dim}, {self.memory_dim}"
        if self.weight is None:
            text += ", embed=False"
        elif self.bias is None:
            text += ", bias=False"
        if self.temporal is not None:
            text += f", temporal_slots={self.temporal.shape[0]}"
        return text
