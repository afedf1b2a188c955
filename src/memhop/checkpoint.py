"""A folder of files that is whole or not there, and is checked before it is believed.

A checkpoint is a folder with ``checkpoint.json`` (the schema version, and the SHA-256 of every
other file), tensors as safetensors and everything else as JSON or CSV. It is written beside
its place and renamed there. Reading one runs no code: nothing is unpickled.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from memhop.errors import MemhopError

SCHEMA = 1
_MANIFEST = "checkpoint.json"
_FILE_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_LARGEST_JSON = 64 * 2**20


def write_checkpoint(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` as the new folder ``folder``: all of it, or nothing.

    Raises:
        MemhopError: the folder exists, or the disk refuses.
    """
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = to_json({"schema": SCHEMA, "files": sums})
    beside = folder.parent / f".{folder.name}-{os.getpid()}"
    try:
        if folder.exists():
            raise MemhopError(f"{folder}: is there already; a checkpoint is never written over")
        shutil.rmtree(beside, ignore_errors=True)  # of a killed process with the same number
        beside.mkdir(parents=True)
        for name, content in {**files, _MANIFEST: manifest}.items():
            with (beside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        beside.rename(folder)
        _sync_folder(folder.parent)  # before the checkpoint that this one replaces is removed
    except OSError as error:
        raise MemhopError(f"{folder}: cannot write the checkpoint: {error.strerror}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)  # gone already where it was renamed


def read_checkpoint(folder: Path) -> dict[str, bytes]:
    """The files of a checkpoint, each equal to what was written.

    Raises:
        MemhopError: no checkpoint, of another schema, incomplete, or with a changed byte.
    """
    manifest = from_json(_read(folder / _MANIFEST, _LARGEST_JSON), folder / _MANIFEST)
    check_schema(manifest, folder / _MANIFEST)
    sums = manifest.get("files")
    if not isinstance(sums, dict):
        raise MemhopError(f"{folder / _MANIFEST}: needs the checksums of the files")
    files = {}
    for name, checksum in sums.items():
        if not _FILE_NAME.fullmatch(name):
            raise MemhopError(f"{folder / _MANIFEST}: names a file elsewhere: {name!r:.60}")
        files[name] = _read(folder / name)
        if hashlib.sha256(files[name]).hexdigest() != checksum:
            raise MemhopError(f"{folder / name}: changed since it was written (SHA-256 differs)")
    return files


def check_schema(content: Mapping[str, Any], path: Path) -> None:
    """Refuse a JSON object written by another version of the format."""
    schema = content.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        raise MemhopError(f"{path}: needs schema {SCHEMA}, got {schema!r:.60}")


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder says of itself that it is one."""
    try:
        return (folder / _MANIFEST).is_file()
    except OSError:  # a name too long to be one
        return False


def part(files: Mapping[str, bytes], name: str, folder: Path) -> bytes:
    """One file of a checkpoint that must be there."""
    if name not in files:
        raise MemhopError(f"{folder}: needs {name}, has {', '.join(sorted(files)) or 'nothing'}")
    return files[name]


def to_json(value: Any) -> bytes:
    """JSON as it is stored: readable, and the same bytes for the same value."""
    try:
        return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 cannot hold: escaped
        return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def from_json(content: bytes, path: Path) -> dict[str, Any]:
    """A JSON object from bytes that are not trusted; ``path`` is named in errors."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON number")

    try:
        value = json.loads(content.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise MemhopError(f"{path}: is not the JSON that was written: {reason:.120}") from error
    if not isinstance(value, dict):
        raise MemhopError(f"{path}: needs a JSON object, got {type(value).__name__}")
    return value


def to_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors as safetensors bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(plain)


def from_tensors(
    content: bytes, expected: Mapping[str, torch.Size], path: Path
) -> dict[str, Tensor]:
    """Float32 tensors of exactly these names and shapes, all finite, from untrusted bytes."""
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError,
            OverflowError, struct.error) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MemhopError(f"{path}: is no whole safetensors file: {reason:.120}") from error
    if tensors.keys() != expected.keys():
        odd = ", ".join(map(repr, sorted(tensors.keys() ^ expected.keys())))
        raise MemhopError(f"{path}: tensors missing or not expected: {odd:.200}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name] or tensor.dtype != torch.float32:
            raise MemhopError(
                f"{path}: {name} needs float32 {list(expected[name])}, "
                f"got {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
            )
        if not tensor.isfinite().all():
            raise MemhopError(f"{path}: {name} holds a value that is not finite")
    return tensors


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system lets a folder be opened, or synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(path: Path, most: int | None = None) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise MemhopError(f"{path}: is no file")
        if most is not None and status.st_size > most:
            raise MemhopError(f"{path}: needs at most {most:,} bytes, has {status.st_size:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise MemhopError(f"{path}: no such file") from None
    except OSError as error:
        raise MemhopError(f"{path}: cannot be read: {error.strerror}") from error
