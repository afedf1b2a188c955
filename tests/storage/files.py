"""Memories in files, with the tensor that each must equal."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from memhop.checkpoint import to_json
from memhop.ops import Quantized
from memhop.ops.inputs import Stored
from memhop.storage.rows import Rows, RowsMemory

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DTYPES = (*FLOATS, torch.int8)


class Written(NamedTuple):
    """Rows in a file, and the memory that was written."""

    rows: Rows
    stored: Stored


def random_memory(count: int, width: int, dtype: torch.dtype) -> Stored:
    numbers = torch.randn(count, width, generator=torch.Generator().manual_seed(count + width))
    return Quantized.of(numbers) if dtype is torch.int8 else numbers.to(dtype)


def as_bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def write_rows(
    path: Path, count: int, width: int, dtype: torch.dtype, offset: int = 0, gap: int = 0
) -> Written:
    """Write rows of which each has ``gap`` numbers after it; the scales of int8 come last."""
    stored = random_memory(count, width, dtype)
    data = stored.data if isinstance(stored, Quantized) else stored
    padded = torch.nn.functional.pad(data, (0, gap))
    content = b"\xff" * offset + as_bytes(padded)
    row_bytes, scales = (width + gap) * dtype.itemsize, None
    if isinstance(stored, Quantized):
        content += b"\xff" * (-(len(content) - offset) % 4 + 4 * (count > 3))
        scales = (len(content), 4)
        content += as_bytes(stored.scale)
    path.write_bytes(content)
    return Written(Rows(path, (count, width), dtype, offset, row_bytes, scales), stored)


def write_records(path: Path, count: int, width: int, offset: int = 0) -> Written:
    """Write int8 rows, each with its float32 scale after it at a multiple of 4 bytes."""
    stored = random_memory(count, width, torch.int8)
    assert isinstance(stored, Quantized)
    padded = -(-width // 4) * 4
    records = np.zeros(count, [("data", np.int8, padded), ("scale", "<f4")])
    records["data"][:, :width] = stored.data.numpy()
    records["scale"] = stored.scale.numpy()
    path.write_bytes(bytes(offset) + records.tobytes())
    scales = (offset + padded, padded + 4)
    return Written(Rows(path, (count, width), torch.int8, offset, padded + 4, scales), stored)


def save_npy(path: Path, tensor: Tensor) -> None:
    np.save(path, tensor.numpy())


def save_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def write_safetensors(path: Path, header: Any, data: bytes = b"") -> None:
    """Write a header as it is, right or wrong."""
    content = header if isinstance(header, bytes) else to_json(header)
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)


def write_npy(path: Path, header: str, data: bytes = b"", version: int = 1) -> None:
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + header.encode() + data)


def copied(parts: Iterable[Stored]) -> Iterator[Stored]:
    for part in parts:
        if isinstance(part, Quantized):
            yield Quantized(part.data.clone(), part.scale.clone())
        else:
            yield part.clone()


def joined(parts: Iterable[Stored]) -> Stored:
    """Return the parts of a stream, which are overwritten, as one memory."""
    kept = [*copied(parts)]
    if isinstance(kept[0], Quantized):
        both = [(part.data, part.scale) for part in kept if isinstance(part, Quantized)]
        return Quantized(*(torch.cat(each) for each in zip(*both, strict=True)))
    return torch.cat([part for part in kept if isinstance(part, Tensor)])


def all_rows(memory: RowsMemory) -> Stored:
    """Return a copy of a memory, mapped or read part by part."""
    whole = memory.whole()
    return joined(memory.stream(memory.ranges()) if whole is None else [whole])


def are_equal(one: Stored, other: Stored) -> bool:
    if isinstance(one, Quantized) and isinstance(other, Quantized):
        return are_equal(one.data, other.data) and are_equal(one.scale, other.scale)
    if isinstance(one, Quantized) or isinstance(other, Quantized):
        return False
    return one.dtype == other.dtype and torch.equal(one, other)
