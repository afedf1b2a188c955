"""What a query reads: the slots, what they are stored in, and which of them may be read."""

from typing import NamedTuple, Self

import torch
from torch import Tensor


class Quantized(NamedTuple):
    """A memory in int8 with a scale for each row: row i is ``scale[i] * data[i]``.

    A fourth of the size of float32, and computed in float32. It is not differentiated: neither
    part may require a gradient; query and weights may.

    Attributes:
        data: int8, [..., N, I], or a bank [..., U, I].
        scale: float32, [..., N] or [..., U].

    >>> memory = Quantized.of(torch.tensor([[0.5, -127.0], [0.0, 0.0]]))
    >>> memory.scale
    tensor([1., 0.])
    >>> memory.dequantized()
    tensor([[   0., -127.],
            [   0.,    0.]])
    """

    data: Tensor
    scale: Tensor

    @classmethod
    def of(cls, memories: Tensor) -> Self:
        """The nearest to a memory [..., N, I] whose scales are max |row| / 127.

        Each number errs by at most half a step, max |row| / 254, beside the rounding of float32;
        a row of zeros stays one. float64 is rounded to float32 first. What comes out requires no
        gradient.

        Raises:
            ValueError: for what is not a floating tensor [..., N, I] of finite numbers.
        """
        if not isinstance(memories, Tensor) or not memories.is_floating_point():
            came = str(memories.dtype if isinstance(memories, Tensor) else type(memories).__name__)
            raise ValueError(f"Quantized.of needs a floating tensor [..., N, I]; got {came}")
        if memories.dim() < 2 or memories.shape[-1] == 0:
            came = str(list(memories.shape))
            raise ValueError(f"Quantized.of needs [..., N, I] with I at least 1; got {came}")
        rows = memories.detach().float()
        scale = rows.abs().amax(-1) / 127
        if not scale.isfinite().all():
            raise ValueError("Quantized.of needs finite numbers, within float32; got others")
        # A scale that has become zero, or has lost most of its digits, is of a row as good as zero.
        steps = rows / torch.where(scale > 0, scale, 1.0).unsqueeze(-1)
        return cls(steps.round().clamp(-127, 127).to(torch.int8), scale)

    def dequantized(self) -> Tensor:
        """The memory in float32, a copy."""
        return self.data * self.scale.unsqueeze(-1)


Stored = Tensor | Quantized


class Memory(NamedTuple):
    """A memory as it was given to ``read`` or ``multi_hop``, where its parts are explained.

    Attributes:
        keys: [..., N, I], or with slots a bank [..., U, I].
        values: [..., N, V] or [..., U, V]; None where they are the keys.
        slots: integers [..., N], rows of the bank.
        padding_mask: bool [..., N], True = ignore that slot.
        lengths: integers [...]; at most one of mask and lengths is there.
        score_bias: [..., N], or [..., K, N] for K hops.
    """

    keys: Stored
    values: Stored | None = None
    slots: Tensor | None = None
    padding_mask: Tensor | None = None
    lengths: Tensor | None = None
    score_bias: Tensor | None = None


def numbers(stored: Stored) -> Tensor:
    """The tensor [..., N, I] that has the sizes and the device of what is stored."""
    return stored.data if isinstance(stored, Quantized) else stored


def converted(stored: Stored, dtype: torch.dtype) -> Tensor:
    """What is stored, as a tensor of a dtype; itself where it is one."""
    return stored.dequantized() if isinstance(stored, Quantized) else stored.to(dtype)
