"""Memories that are read part by part: larger than RAM, or in several tensors."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch

from memhop.ops.inputs import Stored

Ranges = Sequence[tuple[int, int]]  # the first slot of each part and the one after its last


class StreamedMemory(ABC):
    """A memory [N, I] whose slots ``read`` and ``multi_hop`` take part by part.

    Every query reads all of it. The results of its parts merge exactly; see ``merge_reads``.
    """

    #: Whether the tensors of a part are overwritten when the next part is taken.
    is_transient: bool = False

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """Sizes of the memory, [N, I]."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The dtype of the parts: a floating one, or int8 if they are ``Quantized``."""

    @property
    def device(self) -> torch.device:
        """Device of the parts."""
        return torch.device("cpu")

    def whole(self) -> Stored | None:
        """Return the memory as one tensor without a copy, or None if it has to be streamed."""
        return None

    @abstractmethod
    def ranges(self) -> Ranges:
        """Return the parts in which the memory is read fastest; together they are 0 to N."""

    @abstractmethod
    def stream(self, ranges: Ranges) -> Iterator[Stored]:
        """Yield the slots of each range, [n, I], in the order of the ranges."""
