"""Find the rows of a memory in a .npy or .safetensors file, without trusting or running anything.

Sources: the format of numpy.lib.format, versions 1.0 to 3.0, and that of safetensors.
"""

import ast
import os
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

from memhop.checkpoint import from_json
from memhop.errors import MemhopError, shown
from memhop.storage.file_state import read_errors
from memhop.storage.row_layout import SCALE_BYTES, Rows

MAX_NPY_HEADER_BYTES = 10_000  # the limit of NumPy
MAX_SAFETENSORS_HEADER_BYTES = 2**24
MAX_NAMES = 8  # in a message
MAX_AXES = 64

_NPY_MAGIC = b"\x93NUMPY"
_NPY_DTYPES = {"<f4": torch.float32, "<f8": torch.float64, "<f2": torch.float16}
_DTYPES = {
    "F32": torch.float32, "F64": torch.float64, "BF16": torch.bfloat16, "F16": torch.float16,
    "I8": torch.int8,
}  # fmt: skip


def rows_of_npy(path: Path, descriptor: int, name: str | None) -> Rows:
    """Return the place of the rows of an array [N, I]; ``descriptor`` is at the file's first byte.

    Raises:
        MemhopError: another format, dtype, order or shape; an array of Python objects.
    """
    if name is not None:
        raise MemhopError(
            f"{path}: expected no name for the one array of a .npy file, got {name!r}"
        )
    begin = _read(path, descriptor, 12)
    magic, version = begin[:6], tuple(begin[6:8])
    if magic != _NPY_MAGIC or version not in {(1, 0), (2, 0), (3, 0)}:
        raise _unexpected(path, "a .npy file of version 1 to 3", shown(begin[:8]))
    width = 2 if version == (1, 0) else 4
    size, begin = int.from_bytes(begin[8 : 8 + width], "little"), begin[8 + width :]
    if size > MAX_NPY_HEADER_BYTES:
        limit = f"at most {MAX_NPY_HEADER_BYTES:,} bytes"
        raise _unexpected(path, f"a .npy header of {limit}", f"{size:,}")
    text = begin + _read(path, descriptor, max(0, size - len(begin)))
    header = _npy_fields(path, text[:size], size)
    dtype = _npy_dtype(path, header["descr"])
    if header["fortran_order"]:
        raise _unexpected(path, "rows in C order (numpy.ascontiguousarray)", "Fortran order")
    shape = _matrix_shape(path, header["shape"])
    return Rows(path, shape, dtype, 8 + width + size, shape[1] * dtype.itemsize)


def _npy_fields(path: Path, text: bytes, size: int) -> Mapping[str, Any]:
    """Return the fields of the header, a Python literal."""
    try:
        fields = ast.literal_eval(text.decode("utf-8").strip()) if len(text) == size else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        fields = None
    expected = {"descr", "fortran_order", "shape"}
    if not isinstance(fields, dict) or fields.keys() != expected:
        raise MemhopError(f"{path}: corrupt .npy header: expected descr, fortran_order and shape")
    if not isinstance(fields["fortran_order"], bool):
        raise _unexpected(path, "fortran_order True or False", shown(fields["fortran_order"]))
    return fields


def _npy_dtype(path: Path, described: object) -> torch.dtype:
    if isinstance(described, str):
        if described in _NPY_DTYPES:
            return _NPY_DTYPES[described]
        if described.startswith(">") and "<" + described[1:] in _NPY_DTYPES:
            needed = f"little-endian numbers (array.astype('<{described[1:]}'))"
            raise _unexpected(path, needed, f"big-endian {described!r}")
        if described.lstrip("<>|=").startswith("O"):
            raise _unexpected(path, "numbers", "Python objects, which are never unpickled")
    needed = "float32, float64 or float16 (bfloat16 and int8: write .safetensors)"
    raise _unexpected(path, needed, shown(described))


def rows_of_safetensors(path: Path, descriptor: int, name: str | None) -> Rows:
    """Return the place of the rows of a tensor [N, I]; ``descriptor`` is at the file's first byte.

    Without a name the file has one tensor, or int8 ``data`` [N, I] and float32 ``scale`` [N]. An
    int8 tensor ``X.data`` has the scales ``X.scale``.

    Raises:
        MemhopError: a corrupt file, another dtype or shape, no tensor of that name.
    """
    with read_errors(path):
        file_bytes = os.fstat(descriptor).st_size
    size = int.from_bytes(_read(path, descriptor, 8), "little")
    if file_bytes < 8 or size > min(file_bytes - 8, MAX_SAFETENSORS_HEADER_BYTES):
        limit = f"at most {min(max(0, file_bytes - 8), MAX_SAFETENSORS_HEADER_BYTES):,} bytes"
        raise _unexpected(path, f"a safetensors header of {limit}", f"{size:,}")
    header = from_json(_read(path, descriptor, size), path)
    header.pop("__metadata__", None)
    tensors = {name: _stored_tensor(path, name, fields) for name, fields in header.items()}
    _check_places(path, tensors, file_bytes - 8 - size)
    name = _chosen(path, tensors, name)
    tensor = tensors[name]
    dtype = _dtype(path, name, tensor)
    shape = _matrix_shape(path, tensor.shape)
    row_bytes = shape[1] * dtype.itemsize
    scales = None
    if dtype is torch.int8:
        scales = (8 + size + _scale_of(path, tensors, name).begin, SCALE_BYTES)
    return Rows(path, shape, dtype, 8 + size + tensor.begin, row_bytes, scales)


class _StoredTensor(NamedTuple):
    """A tensor of a safetensors file; the bytes count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _stored_tensor(path: Path, name: str, fields: object) -> _StoredTensor:
    """Return the checked fields of a tensor in the header."""
    if isinstance(fields, dict) and fields.keys() == {"dtype", "shape", "data_offsets"}:
        dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        is_right = isinstance(dtype, str) and _are_sizes(shape) and _are_sizes(offsets)
        if is_right and len(offsets) == 2 and offsets[0] <= offsets[1]:
            return _StoredTensor(dtype, tuple(shape), *offsets)
    what = "dtype, shape and data_offsets"
    raise MemhopError(f"{path}: corrupt safetensors header: expected {what} of {name!r:.60}")


def _are_sizes(values: object) -> bool:
    """Return whether a value is a list of sizes; few and small, so that their product is fast."""
    if not isinstance(values, list) or len(values) > MAX_AXES:
        return False
    return all(type(value) is int and 0 <= value < 2**63 for value in values)


def _check_places(path: Path, tensors: Mapping[str, _StoredTensor], data_bytes: int) -> None:
    """Check that the tensors fill the data of the file, without gaps and without overlaps."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][2:]):
        begin, size = tensor.begin, tensor.end - tensor.begin
        if begin != end:
            where = f"expected {name!r:.60} at byte {end:,}"
            raise MemhopError(f"{path}: corrupt safetensors header: {where}, got {begin:,}")
        dtype = _DTYPES.get(tensor.dtype)
        if dtype is not None and prod(tensor.shape) * dtype.itemsize != size:
            needed = f"{tensor.dtype} {list(tensor.shape)} for {size:,} bytes"
            raise MemhopError(f"{path}: corrupt safetensors header: got {name!r:.60} {needed:.80}")
        end = tensor.end
    if end != data_bytes:
        raise MemhopError(f"{path}: corrupt: expected {end:,} bytes of data, got {data_bytes:,}")


def _chosen(path: Path, tensors: Mapping[str, _StoredTensor], name: str | None) -> str:
    """Return the name of the tensor that holds the rows."""
    if name is None and tensors.keys() == {"data", "scale"}:
        return "data"
    if name is None and len(tensors) == 1:
        return next(iter(tensors))
    if name is not None and name in tensors:
        return name
    listed = [f"{each!r:.40}" for each in [*tensors][:MAX_NAMES]]
    listed += ["..."] if len(tensors) > MAX_NAMES else []
    needed = "the name of a tensor" if name is None else f"a tensor {name!r:.60}"
    raise _unexpected(path, needed, ", ".join(listed) or "no tensor")


def _dtype(path: Path, name: str, tensor: _StoredTensor) -> torch.dtype:
    if tensor.dtype in _DTYPES:
        return _DTYPES[tensor.dtype]
    expected = f"{', '.join(_DTYPES)} for {name!r:.60}"
    raise _unexpected(path, expected, f"{tensor.dtype!r:.60}")


def _scale_of(path: Path, tensors: Mapping[str, _StoredTensor], name: str) -> _StoredTensor:
    """Return the scales of an int8 tensor."""
    named = f"{name.removesuffix('data')}scale"
    rows = list(tensors[name].shape[:1])
    scale = tensors.get(named) if name.endswith("data") else None
    if scale is not None and scale.dtype == "F32" and list(scale.shape) == rows:
        return scale
    got = "none" if scale is None else f"{scale.dtype:.20} {list(scale.shape)!s:.60}"
    needed = f"int8 rows 'data' with their scales 'scale' F32 {rows}"
    raise _unexpected(path, needed, f"{name!r:.60} with scales {got}")


def _matrix_shape(path: Path, shape: object) -> tuple[int, int]:
    is_matrix = isinstance(shape, tuple) and len(shape) == 2 and _are_sizes([*shape])
    if not isinstance(shape, tuple) or not is_matrix or shape[1] == 0:
        raise _unexpected(path, "[N, I] with I at least 1", shown(shape))
    return shape[0], shape[1]


def _read(path: Path, descriptor: int, count: int) -> bytes:
    """Return the next bytes of a file, fewer at its end."""
    with read_errors(path):
        return os.read(descriptor, count)


def _unexpected(path: Path, expected: str, got: str) -> MemhopError:
    return MemhopError(f"{path}: expected {expected}, got {got}")


FORMATS: dict[str, Callable[[Path, int, str | None], Rows]] = {
    ".npy": rows_of_npy,
    ".safetensors": rows_of_safetensors,
}
