"""Memories that are read part by part: larger than RAM, or in several tensors."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from memhop.ops.errors import raise_invalid
from memhop.ops.exchange import Exchange
from memhop.ops.inputs import Quantized, Stored, storage

Ranges = Sequence[tuple[int, int]]  # the first slot of each part and the one after its last


class StreamedMemory:
    """A memory [N, I] whose slots ``read``, ``multi_hop`` and the layers take part by part.

    Every query reads all of it. The results of its parts merge exactly; see ``merge_reads``.
    """

    #: Whether the tensors of a part are overwritten when the next part is taken.
    is_transient: bool = False

    @property
    def shape(self) -> torch.Size:
        """Sizes of the memory, [N, I]."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parts: a floating one, or int8 if they are ``Quantized``."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Device of the parts."""
        return torch.device("cpu")

    def whole(self) -> Stored | None:
        """Return the memory as one tensor without a copy, or None if it has to be streamed."""
        return None

    def ranges(self) -> Ranges:
        """Return the parts in which the memory is read fastest; together they are 0 to N."""
        raise NotImplementedError

    def stream(self, ranges: Ranges) -> Iterator[Stored]:
        """Yield the slots of each range, [n, I], in the order of the ranges."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.shape[0]


class Parts(StreamedMemory):
    """A memory whose slots lie in several tensors, without a copy of them.

    All queries share it. Gradients reach the tensors.

    Args:
        parts: tensors [n, I], or ``Quantized``, of one dtype and device. The slots of a part are
            newer than those of the parts before it.

    Raises:
        ValueError: for no part, or parts that do not fit together.

    >>> memory = Parts([torch.eye(3), torch.ones(2, 3)])
    >>> memory.shape
    torch.Size([5, 3])
    """

    def __init__(self, parts: Sequence[Stored]) -> None:
        if not parts:
            raise ValueError("Parts expected at least one part [n, I], got none")
        self._parts = tuple(parts)
        given = {f"parts[{number}]": part for number, part in enumerate(parts)}
        if not all(isinstance(part, (Tensor, Quantized)) for part in parts):
            raise_invalid("Parts", "tensors", given)
        first = storage(parts[0])
        for name, part in given.items():
            rows, two = storage(part), {"parts[0]": parts[0], name: part}
            if rows.dim() != 2 or rows.shape[1:] != first.shape[1:]:
                raise_invalid("Parts", "parts [n, I] with one I", two)
            if (rows.dtype, rows.device) != (first.dtype, first.device):
                raise_invalid("Parts", "parts of one dtype on one device", two)
        self._ends = list(accumulate(len(storage(part)) for part in parts))

    @property
    def shape(self) -> torch.Size:
        """Sizes of the memory, [N, I]."""
        return torch.Size((self._ends[-1], storage(self._parts[0]).shape[1]))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parts, int8 if they are ``Quantized``."""
        return storage(self._parts[0]).dtype

    @property
    def device(self) -> torch.device:
        """Device of the parts."""
        return self._parts[0].device

    def whole(self) -> Stored | None:
        """Return the only part, or None if there are several."""
        return self._parts[0] if len(self._parts) == 1 else None

    def ranges(self) -> Ranges:
        """Return the slots of each part."""
        return list(pairwise([0, *self._ends]))

    def stream(self, ranges: Ranges) -> Iterator[Stored]:
        """Yield the slots of each range, which are a copy only where they are of several parts."""
        for first, last in ranges:
            pieces = [
                part[max(first - begin, 0) : last - begin]
                for part, (begin, end) in zip(self._parts, self.ranges(), strict=True)
                if begin < last and first < end
            ]
            yield joined(pieces) if pieces else self._parts[0][:0]


def joined(pieces: Sequence[Stored]) -> Stored:
    """Return rows [n, I] in one tensor; a single one is not copied."""
    if len(pieces) == 1:
        return pieces[0]
    tensors = [piece for piece in pieces if isinstance(piece, Tensor)]
    if len(tensors) == len(pieces):
        return torch.cat(tensors)
    quantized = [piece for piece in pieces if isinstance(piece, Quantized)]
    return Quantized(
        torch.cat([piece.data for piece in quantized]),
        torch.cat([piece.scale for piece in quantized]),
    )


class Streams(NamedTuple):
    """Keys and values, of which at least one is streamed or which are the shard of a rank.

    Attributes:
        keys, values: the slots; values None if they are the keys.
        exchange: between the ranks, None if this process has all slots.
    """

    keys: Stored | StreamedMemory
    values: Stored | StreamedMemory | None
    exchange: Exchange | None = None

    def placeholders(self) -> tuple[Stored, Stored | None]:
        """Return tensors of the same sizes, dtypes and devices, without content, for checks."""
        return placeholder(self.keys), None if self.values is None else placeholder(self.values)

    def of_tensors(self, function: Callable[[Stored], Stored]) -> "Streams":
        """Return the streams with a function of the part that is not streamed."""
        keys, values = (
            stored if stored is None or isinstance(stored, StreamedMemory) else function(stored)
            for stored in self[:2]
        )
        assert keys is not None
        return Streams(keys, values, self.exchange)

    @property
    def is_transient(self) -> bool:
        """Whether the tensors of a part are overwritten when the next part is taken."""
        both = (self.keys, self.values)
        return any(isinstance(one, StreamedMemory) and one.is_transient for one in both)

    def ranges(self) -> Ranges:
        """Return the parts in which keys and values are read."""
        for stored in self[:2]:
            if isinstance(stored, StreamedMemory):
                return stored.ranges()
        return [(0, placeholder(self.keys).shape[-2])]

    def parts(self, ranges: Ranges) -> Iterator[tuple[Stored, Stored | None]]:
        """Yield the keys and the values of each range."""
        keys = stream(self.keys, ranges)
        if self.values is None:
            yield from ((rows, None) for rows in keys)
        else:
            yield from zip(keys, stream(self.values, ranges), strict=True)


def streams_of(
    keys: Stored | StreamedMemory,
    values: Stored | StreamedMemory | None,
    exchange: Exchange | None = None,
) -> tuple[Stored, Stored | None, Streams | None]:
    """Return keys and values for the checks, and their streams if they are not read as they are.

    A streamed memory that is one tensor is replaced by it.
    """
    if values is keys:
        values = None
    keys, values = in_one_tensor(keys), None if values is None else in_one_tensor(values)
    if isinstance(keys, StreamedMemory) or isinstance(values, StreamedMemory):
        streams = Streams(keys, values, exchange)
        return *streams.placeholders(), streams
    return keys, values, None if exchange is None else Streams(keys, values, exchange)


def in_one_tensor(stored: Stored | StreamedMemory) -> Stored | StreamedMemory:
    """Return a streamed memory as one tensor if it is one, anything else as it is."""
    if not isinstance(stored, StreamedMemory):
        return stored
    whole = stored.whole()
    return stored if whole is None else whole


def placeholder(stored: Stored | StreamedMemory) -> Stored:
    """Return a tensor of the sizes of a streamed memory with one row in RAM."""
    if not isinstance(stored, StreamedMemory):
        return stored
    num_slots, columns = stored.shape
    rows = torch.zeros(1, columns, dtype=stored.dtype, device=stored.device)
    rows = rows.expand(num_slots, columns)
    if stored.dtype != torch.int8:
        return rows
    scale = torch.zeros(1, dtype=torch.float32, device=stored.device).expand(num_slots)
    return Quantized(rows, scale)


def stream(stored: Stored | StreamedMemory, ranges: Ranges) -> Iterator[Stored]:
    """Yield the slots of each range of a memory, streamed or in one tensor [..., N, I]."""
    if isinstance(stored, StreamedMemory):
        yield from stored.stream(ranges)
    elif isinstance(stored, Tensor):
        yield from (stored[..., first:last, :] for first, last in ranges)
    else:
        yield from (
            Quantized(stored.data[..., first:last, :], stored.scale[..., first:last])
            for first, last in ranges
        )
