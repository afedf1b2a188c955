"""The vectors of the benchmark, in RAM and in files."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from memhop.ops import Quantized
from memhop.ops.inputs import Stored

WIDTH = 128
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
ROWS_AT_ONCE = 2**16


def tensor_of(count: int, dtype: torch.dtype) -> Stored:
    """Return random vectors [N, 128] in RAM, without a second copy of all of them."""
    generator = torch.Generator().manual_seed(0)
    parts = range(0, count, ROWS_AT_ONCE)
    if dtype is torch.int8:
        data, scale = torch.empty(count, WIDTH, dtype=dtype), torch.empty(count)
        for i in parts:
            part = Quantized.of(vectors(min(ROWS_AT_ONCE, count - i), generator))
            data[i : i + ROWS_AT_ONCE], scale[i : i + ROWS_AT_ONCE] = part.data, part.scale
        return Quantized(data, scale)
    tensor = torch.empty(count, WIDTH, dtype=dtype)
    for i in parts:
        tensor[i : i + ROWS_AT_ONCE] = vectors(min(ROWS_AT_ONCE, count - i), generator)
    return tensor


def vectors(count: int, generator: torch.Generator) -> Tensor:
    """Return random vectors whose scores are small."""
    return torch.randn(count, WIDTH, generator=generator)


def file_of(folder: Path, memory: Stored) -> Path:
    """Write a memory as safetensors."""
    path = folder / "vectors.safetensors"
    if isinstance(memory, Quantized):
        save_file({"data": memory.data, "scale": memory.scale}, path)
    else:
        save_file({"vectors": memory}, path)
    return path


def write_large(path: Path, file_bytes: int) -> None:
    """Write a .npy file of random float32 vectors [N, 128], part by part."""
    count = file_bytes // (4 * WIDTH)
    shape = (count, WIDTH)
    generator = torch.Generator().manual_seed(0)
    part = vectors(min(ROWS_AT_ONCE, count), generator).numpy()
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for i in range(0, count, ROWS_AT_ONCE):
            file.write((part[: count - i] * np.float32(1 + i / count)).data)
