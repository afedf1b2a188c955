"""Checkpoints: folders of files that are written atomically and verified on reading.

A checkpoint has ``checkpoint.json`` (the schema version, the kind of its model, and the SHA-256 of
every other file),
tensors as safetensors and everything else as JSON or CSV. It is written to a temporary folder,
which is renamed. Reading one runs no code: nothing is unpickled.
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
STORIES, KNOWLEDGE, RETRIEVAL = "stories", "knowledge", "retrieval"  # kinds of models
_MANIFEST = "checkpoint.json"
_FILE_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_MAX_JSON_BYTES = 64 * 2**20


def write_checkpoint(folder: Path, files: Mapping[str, bytes], kind: str = STORIES) -> None:
    """Write a checkpoint of a kind of model as a new folder, atomically.

    Raises:
        MemhopError: the folder exists, or cannot be written.
    """
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = to_json({"schema": SCHEMA, "kind": kind, "files": sums})
    temporary = folder.parent / f".{folder.name}-{os.getpid()}"
    try:
        if folder.exists():
            raise MemhopError(f"{folder}: exists; a checkpoint is never overwritten")
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with the same number
        temporary.mkdir(parents=True)
        for name, content in {**files, _MANIFEST: manifest}.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        temporary.rename(folder)
        _sync_folder(folder.parent)  # before the checkpoint that this one replaces is removed
    except OSError as error:
        raise MemhopError(f"{folder}: cannot write the checkpoint: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_checkpoint(folder: Path) -> dict[str, bytes]:
    """Return the files of a checkpoint, verified by their checksums.

    Raises:
        MemhopError: no checkpoint, another schema, or missing or corrupt files.
    """
    manifest = from_json(_read(folder / _MANIFEST, _MAX_JSON_BYTES), folder / _MANIFEST)
    check_schema(manifest, folder / _MANIFEST)
    sums = manifest.get("files")
    if not isinstance(sums, dict):
        raise MemhopError(f"{folder / _MANIFEST}: expected the checksums of the files")
    files = {}
    for name, checksum in sums.items():
        if not _FILE_NAME.fullmatch(name):
            raise MemhopError(f"{folder / _MANIFEST}: expected a file name, got {name!r:.60}")
        files[name] = _read(folder / name)
        if hashlib.sha256(files[name]).hexdigest() != checksum:
            raise MemhopError(f"{folder / name}: corrupt: its SHA-256 is not that of {_MANIFEST}")
    return files


def check_schema(content: Mapping[str, Any], path: Path) -> None:
    """Check that a JSON object has this version of the format."""
    schema = content.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        is_newer = type(schema) is int and schema > SCHEMA
        newer = ": written by a newer version of memhop" if is_newer else ""
        raise MemhopError(f"{path}: expected schema {SCHEMA}, got {schema!r:.60}{newer}")


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder has the manifest of a checkpoint."""
    try:
        return (folder / _MANIFEST).is_file()
    except OSError:  # such as a name that is too long
        return False


def kind_of(folder: Path) -> str:
    """Return the kind of the model in a checkpoint; those without a kind are of stories."""
    path = folder / _MANIFEST
    return str(from_json(_read(path, _MAX_JSON_BYTES), path).get("kind", STORIES))


def part(files: Mapping[str, bytes], name: str, folder: Path) -> bytes:
    """Return a required file of a checkpoint."""
    if name not in files:
        raise MemhopError(f"{folder}: expected {name}, got {', '.join(sorted(files)) or 'no file'}")
    return files[name]


def to_json(value: Any) -> bytes:
    """Return a value as indented JSON, always the same bytes for the same value."""
    try:
        return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError:  # UTF-8 has no lone surrogates: escape them
        return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def from_json(content: bytes, path: Path) -> dict[str, Any]:
    """Return a JSON object from untrusted bytes; ``path`` is named in errors."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not a JSON number")

    try:
        value = json.loads(content.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise MemhopError(f"{path}: corrupt JSON: {reason:.120}") from error
    if not isinstance(value, dict):
        raise MemhopError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def to_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Return named tensors as safetensors bytes."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(on_cpu)


def from_tensors(
    content: bytes, expected: Mapping[str, torch.Size], path: Path
) -> dict[str, Tensor]:
    """Return finite float32 tensors of these names and shapes from untrusted bytes."""
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError,
            OverflowError, struct.error) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MemhopError(f"{path}: corrupt safetensors file: {reason:.120}") from error
    if tensors.keys() != expected.keys():
        odd = ", ".join(map(repr, sorted(tensors.keys() ^ expected.keys())))
        raise MemhopError(f"{path}: missing or unexpected tensors: {odd:.200}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name] or tensor.dtype != torch.float32:
            raise MemhopError(
                f"{path}: corrupt: expected float32 {list(expected[name])} for {name!r}, "
                f"got {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
            )
        if not tensor.isfinite().all():
            raise MemhopError(f"{path}: expected finite values for {name!r}, got others")
    return tensors


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some systems cannot open or sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(path: Path, most: int | None = None) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise MemhopError(f"{path}: expected a file, got another kind")
        if most is not None and status.st_size > most:
            raise MemhopError(f"{path}: expected at most {most:,} bytes, got {status.st_size:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise MemhopError(f"{path}: no such file") from None
    except OSError as error:
        raise MemhopError(f"{path}: cannot be read: {error.strerror}") from error
