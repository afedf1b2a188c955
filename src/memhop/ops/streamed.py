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

    def tensors(self) -> Sequence[Tensor]:
        """Return the tensors that parts are slices of, and that may have gradients."""
        return ()

    def __len__(self) -> int:
        return self.shape[0]


class Parts(StreamedMemory):
    """A memory whose slots lie in several tensors or files, without a copy of them.

    All queries share it. Gradients reach the tensors.

    Args:
        parts: tensors [n, I], ``Quantized``, or streamed memories such as ``FileMemory``, of one
            dtype and device. The slots of a part are newer than those of the parts before it.

    Raises:
        ValueError: for no part, or parts that do not fit together.

    >>> memory = Parts([torch.eye(3), torch.ones(2, 3)])
    >>> memory.shape
    torch.Size([5, 3])
    """

    def __init__(self, parts: Sequence[Stored | StreamedMemory]) -> None:
        if not isinstance(parts, Sequence):
            came = type(parts).__name__
            raise ValueError(f"Parts expected a list of parts [n, I], got {came}")
        if not parts:
            raise ValueError("Parts expected at least one part [n, I], got none")
        if not all(isinstance(part, (Tensor, Quantized, StreamedMemory)) for part in parts):
            given = {f"parts[{number}]": part for number, part in enumerate(parts)}
            raise_invalid("Parts", "tensors or streamed memories", given)  # type: ignore[arg-type]
        self._parts = tuple(parts)
        sizes = [placeholder(part) for part in parts]
        first = self._first = storage(sizes[0])
        for number, part in enumerate(sizes):
            rows, two = storage(part), {"parts[0]": sizes[0], f"parts[{number}]": part}
            if rows.dim() != 2 or rows.shape[1:] != first.shape[1:]:
                raise_invalid("Parts", "parts [n, I] with one I", two)
            if (rows.dtype, rows.device) != (first.dtype, first.device):
                raise_invalid("Parts", "parts of one dtype on one device", two)
        self._ends = [0, *accumulate(len(storage(part)) for part in sizes)]

    @property
    def is_transient(self) -> bool:  # type: ignore[override]
        """Whether the tensors of a part are overwritten when the next part is taken."""
        parts = (in_one_tensor(part) for part in self._parts)
        return any(isinstance(part, StreamedMemory) and part.is_transient for part in parts)

    @property
    def shape(self) -> torch.Size:
        """Sizes of the memory, [N, I]."""
        return torch.Size((self._ends[-1], self._first.shape[1]))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parts, int8 if they are ``Quantized``."""
        return self._first.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parts."""
        return self._first.device

    def __repr__(self) -> str:
        shapes = [list(placeholder(part).shape) for part in self._parts]
        return f"Parts({', '.join(map(str, shapes))}, {str(self.dtype).removeprefix('torch.')})"

    def whole(self) -> Stored | None:
        """Return the only part, or None if there are several or it has to be streamed."""
        only = in_one_tensor(self._parts[0])
        return None if len(self._parts) > 1 or isinstance(only, StreamedMemory) else only

    def ranges(self) -> Ranges:
        """Return the slots of each part, or of its own parts."""
        found: list[tuple[int, int]] = []
        for part, begin, end in zip(self._parts, self._ends, self._ends[1:], strict=False):
            inner = part.ranges() if isinstance(part, StreamedMemory) else [(0, end - begin)]
            found += [(begin + first, begin + last) for first, last in inner]
        return found

    def stream(self, ranges: Ranges) -> Iterator[Stored]:
        """Yield the slots of each range, which are a copy only where they are of several parts."""
        of_part: list[list[tuple[int, int]]] = [[] for _ in self._parts]
        owners: list[list[int]] = []
        bounds = list(pairwise(self._ends))
        for first, last in ranges:
            owners.append([])
            for number, (begin, end) in enumerate(bounds):
                if max(begin, first) < min(end, last):
                    of_part[number].append((max(first - begin, 0), min(last, end) - begin))
                    owners[-1].append(number)
        streams = [
            stream(in_one_tensor(part), own) for part, own in zip(self._parts, of_part, strict=True)
        ]
        for each in owners:
            yield joined([next(streams[number]) for number in each]) if each else self._none()

    def tensors(self) -> Sequence[Tensor]:
        """Return the parts that may have gradients."""
        return [tensor for part in self._parts for tensor in tensors_in(part)]

    def _none(self) -> Stored:
        """Return no slots."""
        empty = self._first.new_empty(0, self._first.shape[1])
        return Quantized(empty, empty[:, 0].float()) if empty.dtype == torch.int8 else empty


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

    def trained(self) -> list[Tensor]:
        """Return the distinct tensors of keys and values that need a gradient."""
        found = [tensors_in(stored) for stored in self[:2] if stored is not None]
        every = {id(tensor): tensor for tensors in found for tensor in tensors}
        return [tensor for tensor in every.values() if tensor.requires_grad]

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


def tensors_in(stored: Stored | StreamedMemory) -> Sequence[Tensor]:
    """Return the tensors of a memory that may have gradients."""
    if isinstance(stored, StreamedMemory):
        return stored.tensors()
    return [stored] if isinstance(stored, Tensor) else []


def placeholder(stored: Stored | StreamedMemory) -> Stored:
    """Return a tensor of the sizes of a streamed memory with one number in RAM."""
    if not isinstance(stored, StreamedMemory):
        return stored
    num_slots, columns = stored.shape
    rows = torch.zeros(1, 1, dtype=stored.dtype, device=stored.device)
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
