"""`FileMemory` reads what NumPy and safetensors write, and refuses all else in one line."""

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import memhop
from memhop import FileMemory, MemhopError, Quantized
from memhop.storage import file_headers

from .files import (
    FLOATS,
    all_rows,
    are_equal,
    as_bytes,
    random_memory,
    save_npy,
    save_safetensors,
    write_npy,
    write_safetensors,
)

MODES = [False, True]


@pytest.fixture
def npy(tmp_path: Path) -> Path:
    return tmp_path / "m.npy"


@pytest.fixture
def tensors(tmp_path: Path) -> Path:
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize("is_streamed", MODES)
@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_files_of_numpy(npy: Path, count: int, is_streamed: bool) -> None:
    for dtype in (torch.float32, torch.float64, torch.float16):
        stored = random_memory(count, 5, dtype)
        assert isinstance(stored, torch.Tensor)
        save_npy(npy, stored)
        memory = FileMemory(npy, stream=is_streamed)
        assert (memory.shape, memory.dtype) == ((count, 5), dtype)
        assert are_equal(all_rows(memory), stored)
    stored = random_memory(count, 5, torch.float32)
    assert isinstance(stored, torch.Tensor)
    for version in ((1, 0), (2, 0), (3, 0)):
        with npy.open("wb") as file:
            np.lib.format.write_array(file, stored.numpy(), version)
        assert are_equal(all_rows(FileMemory(str(npy), stream=is_streamed)), stored)


def test_a_file_of_numpy_that_was_written_row_by_row(npy: Path) -> None:
    array = np.lib.format.open_memmap(npy, "w+", np.float32, (7, 3))
    for i in range(7):
        array[i] = i
    array.flush()
    assert are_equal(all_rows(FileMemory(npy)), torch.arange(7.0).unsqueeze(1).expand(7, 3))


@pytest.mark.parametrize("is_streamed", MODES)
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int8])
def test_files_of_safetensors(tensors: Path, dtype: torch.dtype, is_streamed: bool) -> None:
    for count in (0, 1, 7, 300):
        stored = random_memory(count, 5, dtype)
        if isinstance(stored, Quantized):
            parts = {"data": stored.data, "scale": stored.scale}
            named = {"": None, "table.": "table.data"}
        else:
            parts, named = {"": stored}, {"vectors": None, "table": "table"}
        for prefix, name in named.items():
            content = {f"{prefix}{part}": tensor for part, tensor in parts.items()}
            if name is not None:
                content |= {"other": torch.zeros(3), "more": torch.zeros(1, dtype=torch.int64)}
            save_safetensors(tensors, content)
            memory = FileMemory(tensors, name, stream=is_streamed)
            assert (memory.shape, memory.dtype) == ((count, 5), dtype)
            assert are_equal(all_rows(memory), stored)


def test_a_small_file_is_mapped(npy: Path) -> None:
    np.save(npy, np.zeros((7, 5), np.float32))
    memory = memhop.FileMemory(npy)
    assert not memory.is_streamed
    assert repr(memory) == f"FileMemory({str(npy)!r}, [7, 5] float32, memory-mapped)"
    assert memory.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((2, 2), ">f4"),
            r"little-endian numbers \(array.astype\('<f4'\)\), got big-endian",
        ),
        (np.zeros((2, 2), np.int8), r"\(bfloat16 and int8: write .safetensors\), got '|i1'"),
        (np.zeros((2, 2), np.int64), "got '<i8'"),
        (np.zeros((2, 2), np.complex64), "got '<c8'"),
        (np.zeros((2, 2), "f4,f4"), r"expected float32, .* got \[\('f0', '<f4'\)"),
        (np.asfortranarray(np.zeros((2, 3), np.float32)), r"rows in C order \(numpy.ascont"),
        (np.zeros(3, np.float32), r"expected \[N, I\] with I at least 1, got \(3,\)"),
        (np.zeros((2, 2, 2), np.float32), r"got \(2, 2, 2\)"),
        (np.zeros((2, 0), np.float32), r"got \(2, 0\)"),
    ],
)
def test_other_arrays_are_refused(npy: Path, array: Any, message: str) -> None:
    np.save(npy, array)
    refused(npy, message)


class Run:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-run",)


def test_python_objects_are_refused_and_not_run(npy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(npy.parent)
    np.save(npy, np.array([[Run(), Run()]], object), allow_pickle=True)
    refused(npy, "expected numbers, got Python objects, which are never unpickled$")
    for name in ("m.npy", "m.safetensors"):
        Path(name).write_bytes(pickle.dumps(Run()))
        refused(Path(name), r"m\.\w+: expected a ")
    assert not Path("was-run").exists()


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (7, 5), }\n"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "corrupt .npy header: expected descr, fortran_order and shape$"),
        ("7", "corrupt .npy header"),
        ("__import__('os').mkdir('was-run')", "corrupt .npy header"),
        ("(" * 5000, "corrupt .npy header"),
        ("-" * 9000 + "1", "corrupt .npy header"),
        ("{'descr': '<f4'}", "corrupt .npy header"),
        (HEADER.replace("}", "'more': 1}"), "corrupt .npy header"),
        (HEADER + " " * 10000, "expected a .npy header of at most 10,000 bytes, got 10,060$"),
        (HEADER.replace("False", "0"), "expected fortran_order True or False, got 0$"),
        (HEADER.replace("7", "-7"), r"expected \[N, I\] with I at least 1, got \(-7, 5\)"),
        (HEADER.replace("7", "True"), r"got \(True, 5\)"),
        (HEADER.replace("7", "'7'"), r"got \('7', 5\)"),
        (HEADER.replace("7", "10 ** 20"), "corrupt .npy header"),
        (HEADER.replace("7", "1" + "0" * 20), r"got \(1000+, 5\)$"),
        (HEADER.replace("7", "1" + "0" * 17), "too short: expected 2,000,000,000,000,000,0"),
        (HEADER, r"too short: expected 210 bytes for rows \[7, 5\], got 209$"),
    ],
)
def test_hostile_headers_of_numpy(npy: Path, header: str, message: str) -> None:
    write_npy(npy, header, bytes(139))
    refused(npy, message)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_header_of_numpy_that_is_cut(npy: Path, version: int) -> None:
    write_npy(npy, HEADER, bytes(140), version)
    FileMemory(npy)
    content = npy.read_bytes()
    for size in (*range(75), len(content) - 1):
        npy.write_bytes(content[:size])
        refused(npy, "expected")
    npy.write_bytes(b"\x93NUMPY\4\0" + content[8:])
    refused(npy, r"expected a .npy file of version 1 to 3, got b'\\x93NUMPY\\x04\\x00'")


def tensor(
    begin: int = 0, end: int = 140, shape: object = (7, 5), dtype: object = "F32"
) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "corrupt JSON"),
        (b"[]", "expected a JSON object, got list"),
        (b"\xff", "corrupt JSON"),
        (b"[" * 100_000, "corrupt JSON"),
        (b'{"a": NaN}', "corrupt JSON"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "corrupt JSON"),
        ({}, "corrupt: expected 0 bytes of data, got 140$"),
        ({"a": 1}, "expected dtype, shape and data_offsets of 'a'$"),
        ({"a": {**tensor(), "more": 1}}, "of 'a'$"),
        ({"a": tensor(dtype=7)}, "of 'a'$"),
        ({"a": tensor(shape="75")}, "of 'a'$"),
        ({"a": tensor(shape=[7, -5])}, "of 'a'$"),
        ({"a": tensor(shape=[7, True])}, "of 'a'$"),
        ({"a": tensor(shape=[7.0, 5])}, "of 'a'$"),
        ({"a": tensor(140, 0)}, "of 'a'$"),
        ({"a\n": {**tensor(), "data_offsets": [0, 1, 2]}}, r"of 'a\\n'$"),
        ({"a": tensor(shape=[7, 6])}, r"got 'a' F32 \[7, 6\] for 140 bytes$"),
        ({"a": tensor(shape=[2] * 65)}, "of 'a'$"),
        ({"a": tensor(shape=[2**63, 1])}, "of 'a'$"),
        ({"a": tensor(0, 10**15, [10**15, 1], "U8")}, "corrupt: expected 1,0[0,]+ bytes .*140$"),
        ({"a": tensor(), "b": tensor()}, "expected 'b' at byte 140, got 0$"),
        ({"a": tensor(0, 100, [5, 5]), "b": tensor(40, 140, [5, 5])}, "'b' at byte 100, got 40$"),
        ({"a": tensor(4, 140, [34, 1])}, "expected 'a' at byte 0, got 4$"),
        ({"a": tensor(0, 136, [34, 1])}, "corrupt: expected 136 bytes of data, got 140$"),
        ({"a": tensor(0, 144, [36, 1])}, "corrupt: expected 144 bytes of data, got 140$"),
        ({"a": tensor(dtype="I32")}, "expected F32, F64, BF16, F16, I8 for 'a', got 'I32'$"),
        ({"a": tensor(shape=[35])}, r"expected \[N, I\] with I at least 1, got \(35,\)$"),
        ({"a": tensor(shape=[7, 5, 1])}, r"got \(7, 5, 1\)$"),
        ({"a": tensor(shape=[140, 1], dtype="I8")}, "'scale' F32 .140., got 'a' with scales none$"),
        (
            {"data": tensor(0, 120, [30, 4], "I8"), "scale": tensor(120, 140, [5])},
            r"'scale' F32 \[30\], got 'data' with scales F32 \[5\]$",
        ),
        (
            {"data": tensor(0, 120, [10, 12], "I8"), "scale": tensor(120, 140, [10], "F16")},
            r"with scales F16 \[10\]$",
        ),
        ({f"t{i}": tensor(0, 0, [0, 5]) for i in range(9)} | {"z": tensor()},
         "expected the name of a tensor, got 't0', .* 't7', ...$"),
    ],
)  # fmt: skip
def test_hostile_headers_of_safetensors(tensors: Path, header: Any, message: str) -> None:
    write_safetensors(tensors, header, bytes(140))
    refused(tensors, message)


def test_a_name_that_is_not_there(tensors: Path, npy: Path) -> None:
    save_safetensors(tensors, {"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)})
    refused(tensors, r"expected a tensor 'c', got 'a', 'b'$", "c")
    refused(tensors, r"expected the name of a tensor, got 'a', 'b'$")
    save_safetensors(tensors, {})
    refused(tensors, r"expected the name of a tensor, got no tensor$")
    np.save(npy, np.zeros((2, 2), np.float32))
    refused(npy, r"expected no name for the one array of a .npy file, got 'c'$", "c")


def test_headers_of_safetensors_larger_than_the_file_or_the_limit(
    tensors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"", b"1234567", struct.pack("<Q", 1), struct.pack("<Q", 2**63) + bytes(90)):
        tensors.write_bytes(content)
        refused(tensors, r"expected a safetensors header of at most \d+ bytes, got ")
    write_safetensors(tensors, {"a": tensor()}, bytes(140))
    FileMemory(tensors)
    monkeypatch.setattr(file_headers, "MAX_SAFETENSORS_HEADER_BYTES", 50)
    refused(tensors, r"header of at most 50 bytes, got \d\d$")


@given(st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / data.draw(st.sampled_from(["d.npy", "d.safetensors"]))
    stored = torch.arange(15.0).reshape(5, 3)
    if path.suffix == ".npy":
        save_npy(path, stored)
    else:
        save_safetensors(path, {"a": stored})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 61))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        memory = FileMemory(path)
    except MemhopError:
        refused(path, ": ")
    else:
        size = memory.dtype.itemsize * memory.shape.numel()
        assert size <= len(content)
        all_rows(memory)


@pytest.mark.parametrize("name", ["m.npz", "m.pt", "m", "npy"])
def test_other_suffixes(tmp_path: Path, name: str) -> None:
    refused(tmp_path / name, r"expected a file \.npy or \.safetensors$")


def test_missing_files(npy: Path, tensors: Path, tmp_path: Path) -> None:
    for path in (npy, tensors):
        refused(path, r": no such file$")
    (tmp_path / "folder.npy").mkdir()
    refused(tmp_path / "folder.npy", "expected a file, got another kind$")
    refused(tmp_path / ("a" * 300 + ".npy"), "cannot be read: File name too long$")
    refused(Path("a\0.npy"), "cannot be read: embedded null byte$")


def test_a_file_that_is_replaced_while_it_is_opened(
    npy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(npy, np.zeros((7, 5), np.float32))
    rows_of = file_headers.rows_of_npy

    def replace(path: Path, descriptor: int, name: str | None) -> Any:
        rows = rows_of(path, descriptor, name)
        np.save(path.with_suffix(".2.npy"), np.zeros((9, 9), np.float32))
        path.with_suffix(".2.npy").replace(path)
        return rows

    monkeypatch.setitem(file_headers.FORMATS, ".npy", replace)
    refused(npy, "the file changed while it was opened$")


def test_unaligned_tensors_of_safetensors(tensors: Path) -> None:
    stored = torch.randn(7, 5)
    for size in range(60, 68):  # writers pad the header to 8 bytes, readers need not expect it
        header = b'{"a":{"dtype":"F32","shape":[7,5],"data_offsets":[0,140]}}'
        write_safetensors(tensors, header.ljust(size), as_bytes(stored))
        memory = FileMemory(tensors)
        assert memory.is_streamed == (size % 4 != 0)
        assert are_equal(all_rows(memory), stored)


def refused(path: Path, message: str, name: str | None = None) -> None:
    """Check that a file is refused in one line that names it."""
    with pytest.raises(MemhopError, match=message) as error:
        FileMemory(path, name)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_something_that_is_no_path() -> None:
    with pytest.raises(MemhopError, match=r"^FileMemory: expected the path of a file, got tensor"):
        FileMemory(torch.zeros(2, 3))  # type: ignore[arg-type]
