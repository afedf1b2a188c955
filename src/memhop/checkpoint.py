"""Checkpoints: folders of files that are written atomically and verified on reading.

A checkpoint has a manifest (the schema version, the kind of its model, and the SHA-256 of every
other file), tensors as safetensors and everything else as JSON or CSV. The manifest is
``checkpoint.json``, or ``config.json`` in a pretrained folder, which also says that it is of memhop
and may hold a model card that no checksum covers. Both are written to a temporary folder, which is
renamed. Reading one runs no code: nothing is unpickled.
"""

import ctypes
import hashlib
import json
import os
import re
import shutil
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from memhop.errors import MemhopError, shown

SCHEMA = 1
STORIES, KNOWLEDGE, RETRIEVAL, LAYER = "stories", "knowledge", "retrieval", "layer"  # kinds
LANGUAGE = "language"
CONFIG, CARD = "config.json", "README.md"  # of a pretrained folder
LIBRARY = "memhop"
_MANIFEST = "checkpoint.json"
_FILE_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_MAX_JSON_BYTES = 64 * 2**20


def write_checkpoint(folder: Path, files: Mapping[str, bytes], kind: str = STORIES) -> None:
    """Write a checkpoint of a kind of model as a new folder, atomically.

    Raises:
        MemhopError: the folder exists, or cannot be written.
    """
    contents = {**files, _MANIFEST: to_json(manifest_of(files, kind))}
    with _disk_errors(folder, "checkpoint"):
        if folder.exists():
            raise MemhopError(f"{folder}: exists; a checkpoint is never overwritten")
        with _temporary_folder(folder, contents) as temporary:
            temporary.rename(folder)
            _sync_folder(folder.parent)  # before the checkpoint that this one replaces is removed


def write_pretrained(
    folder: Path, files: Mapping[str, bytes], config: Mapping[str, Any], card: bytes
) -> None:
    """Write a pretrained folder; it replaces an earlier one.

    Linux exchanges both folders in one step, so that a killed process leaves the one or the other.
    Where the system cannot, there are two renames: a process that is killed between them leaves the
    earlier model as ``.NAME-PROCESS-earlier`` next to the folder.

    Args:
        folder: new, empty, or a folder that this function wrote and that has no other files.
        files: the files of the model, which ``config`` has the checksums of.
        config: the manifest, see `manifest_of`.
        card: the content of ``README.md``.

    Raises:
        MemhopError: the folder has other files, or cannot be written.
    """
    folder = folder.resolve()  # of a link the folder is replaced, not the link
    contents = {**files, CONFIG: to_json(dict(config)), CARD: card}
    with _disk_errors(folder, "model"):
        check_replaceable(folder)
        with _temporary_folder(folder, contents) as temporary:
            if not folder.exists():
                temporary.rename(folder)
            elif not _exchange(temporary, folder):
                _replace(folder, temporary)
            _sync_folder(folder.parent)


def manifest_of(files: Mapping[str, bytes], kind: str) -> dict[str, Any]:
    """Return the manifest of files: schema, kind, checksums."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {"schema": SCHEMA, "kind": kind, "files": sums}


def read_checkpoint(folder: Path) -> dict[str, bytes]:
    """Return the files of a checkpoint or pretrained folder, verified by their checksums.

    Raises:
        MemhopError: no checkpoint, another schema, or missing or corrupt files.
    """
    return read_manifest_and_files(folder)[1]


def read_manifest_and_files(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and the files of a checkpoint or pretrained folder; see above."""
    manifest = read_manifest(folder)
    path = _manifest_path(folder)
    files = {}
    for name in file_names(manifest, path):
        files[name] = _read(folder / name)
        if hashlib.sha256(files[name]).hexdigest() != manifest["files"][name]:
            raise MemhopError(f"{folder / name}: corrupt: its SHA-256 is not that of {path.name}")
    return manifest, files


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint or pretrained folder.

    Raises:
        MemhopError: no manifest, a corrupt one, or a ``config.json`` of another library.
    """
    path = _manifest_path(folder)
    manifest = from_json(_read(path, _MAX_JSON_BYTES), path)
    if path.name == CONFIG and manifest.get("library_name") != LIBRARY:
        came = shown(manifest["library_name"]) if "library_name" in manifest else "none"
        raise MemhopError(f"{path}: expected library_name {LIBRARY!r}, got {came}")
    return manifest


def file_names(manifest: Mapping[str, Any], path: Path) -> list[str]:
    """Return the names of the files of a manifest, which `check_schema` accepts; all are plain."""
    check_schema(manifest, path)
    sums = manifest.get("files")
    if not isinstance(sums, dict):
        raise MemhopError(f"{path}: expected the checksums of the files")
    for name in sums:
        if not _FILE_NAME.fullmatch(name):
            raise MemhopError(f"{path}: expected a file name, got {name!r:.60}")
    return list(sums)


def check_schema(content: Mapping[str, Any], path: Path) -> None:
    """Check that a JSON object has this version of the format."""
    schema = content.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        is_newer = type(schema) is int and schema > SCHEMA
        newer = ": written by a newer version of memhop" if is_newer else ""
        raise MemhopError(f"{path}: expected schema {SCHEMA}, got {schema!r:.60}{newer}")


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder has the manifest of a checkpoint or of a pretrained folder."""
    try:
        if (folder / _MANIFEST).is_file():
            return True
        return (folder / CONFIG).is_file() and bool(read_manifest(folder))
    except (OSError, MemhopError):  # a name that is too long; a config.json of another library
        return False


def kind_of(folder: Path) -> str:
    """Return the kind of the model in a checkpoint; those without a kind are of stories."""
    return str(read_manifest(folder).get("kind", STORIES))


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
    content: bytes,
    expected: Mapping[str, torch.Size],
    path: Path,
    dtypes: Mapping[str, torch.dtype] | None = None,
) -> dict[str, Tensor]:
    """Return finite tensors of these names, shapes and dtypes (None: float32) from untrusted bytes.

    Raises:
        MemhopError: corrupt bytes, or other tensors.
    """
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
        dtype = torch.float32 if dtypes is None else dtypes[name]
        if tensor.shape != expected[name] or tensor.dtype != dtype:
            raise MemhopError(
                f"{path}: corrupt: expected {dtype_name(dtype)} {list(expected[name])} for "
                f"{name!r}, got {dtype_name(tensor.dtype)} {list(tensor.shape)}"
            )
        if not tensor.isfinite().all():
            raise MemhopError(f"{path}: expected finite values for {name!r}, got others")
    return tensors


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype, such as ``float32``."""
    return str(dtype).removeprefix("torch.")


def _manifest_path(folder: Path) -> Path:
    config = folder / CONFIG
    return config if config.is_file() and not (folder / _MANIFEST).exists() else folder / _MANIFEST


def check_replaceable(folder: Path) -> None:
    """Check that a folder is new, empty, or holds a pretrained model and nothing else.

    Raises:
        MemhopError: it holds another file, is the current folder, or cannot be read.
    """
    folder = folder.resolve()
    if not folder.exists():
        return
    with _disk_errors(folder, "model"):
        others = {path.name for path in folder.iterdir()}
    if others and (folder / CONFIG).is_file():
        manifest = read_manifest(folder)
        others -= {CONFIG, CARD, *file_names(manifest, folder / CONFIG)}
    if others:
        raise MemhopError(
            f"{folder}: expected a new or empty folder, or one of an earlier model, got one with "
            f"{shown(min(others))}"
        )
    if folder == Path.cwd():
        raise MemhopError(f"{folder}: expected another than the current folder")


@contextmanager
def _disk_errors(folder: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MemhopError(f"{folder}: cannot write the {what}: {error.strerror}") from error


@contextmanager
def _temporary_folder(folder: Path, contents: Mapping[str, bytes]) -> Iterator[Path]:
    """Write files to a folder next to ``folder``, which the block renames or which is removed."""
    temporary = folder.parent / f".{folder.name}-{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with the same number
        temporary.mkdir(parents=True)
        for name, content in contents.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; return False where the system cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2  # of Linux; Python has no function for it
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0)


def _replace(folder: Path, new: Path) -> None:
    """Replace a folder in two renames: one with files cannot be renamed over."""
    earlier = new.with_name(f"{new.name}-earlier")
    shutil.rmtree(earlier, ignore_errors=True)
    folder.rename(earlier)
    try:
        new.rename(folder)
    except BaseException:
        earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


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
