"""Cache compiled numba kernels on disk, one file per function and signature.

numba's own cache checks only the source file of the entry function, and raises on a damaged file.
Here the file name is a hash of every source file of ``memhop.ops``, the versions of Python, numba
and llvmlite, and the processor; the content begins with a checksum. A kernel whose file is missing,
damaged or unreadable is compiled and written again.

This module does not import numba, which takes a quarter of a second.
"""

import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any
from uuid import uuid4

from memhop.file_lock import locked

CHECKSUM_BYTES = 32
MAX_FILES = 8  # per function, for several signatures, sources and processors; older ones go


def source_hash(folder: Traversable | None = None) -> str:
    """Return a hash of every source file in a folder, by default ``memhop.ops``.

    A frozen program has no source files; its executable identifies it.
    """
    digest = blake2b(digest_size=8)
    files = sorted(source_files(folder or resources.files("memhop.ops")), key=lambda file: file[0])
    for name, file in files:
        content = file.read_bytes()
        digest.update(f"{name} {len(content)} ".encode() + content)
    if not files:
        status = Path(sys.executable).stat()
        digest.update(f"{status.st_mtime_ns} {status.st_size}".encode())
    return digest.hexdigest()


def source_files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """Yield name and file of all Python code in a folder, ``__pycache__`` excluded.

    An install without sources has ``.pyc`` files instead.
    """
    for file in folder.iterdir():
        name = prefix + file.name
        if name.endswith((".py", ".pyc")):
            yield name, file
        elif file.name != "__pycache__" and file.is_dir():
            yield from source_files(file, f"{name}/")


# Computed at import: kernels are compiled from the modules as they were then.
SOURCES = source_hash()


class KernelCache:
    """The cache of one function, in place of numba's own: the attribute ``_cache``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        module = function.__module__.rpartition(".")[2]
        self.name = f"{module}.{function.__qualname__}"

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return the compiled kernel for a signature, or None if no file has it."""
        from numba.core.compiler import CompileResult

        rebuild: Any = CompileResult._rebuild  # untyped
        context.refresh()
        for path in self.paths(signature):
            with suppress(Exception):  # a damaged file can raise anything
                return rebuild(context, *pickle.loads(read_checked(path)))
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Write a compiled kernel to the first writable folder, if any."""
        from numba.core import serialize

        dumps: Any = serialize.dumps  # untyped
        # If sources have changed since import, their hash is not that of the kernel.
        if compiled.library.has_dynamic_globals or source_hash() != SOURCES:
            return
        content = dumps(compiled._reduce())
        for path in self.paths(signature):
            with suppress(OSError):
                write_checked(path, content)
                remove_old(path.parent, self.name)
                return

    def is_kept(self, signature: Any) -> bool:
        """Return whether a file for this signature exists; loading checks its content."""
        return any(path.is_file() for path in self.paths(signature))

    def paths(self, signature: Any) -> list[Path]:
        """Return the possible paths of the compiled kernel, in search order."""
        name = f"{self.name}-{key_of(signature)}.nbc"
        return [folder / name for folder in folders()]

    @contextmanager
    def exclusive(self, signature: Any) -> Iterator[None]:
        """Hold a lock on the function if it must be compiled, so that one process does it."""
        with ExitStack() as stack:
            if not self.is_kept(signature):
                for folder in folders():
                    with suppress(OSError):
                        folder.mkdir(parents=True, exist_ok=True)
                        stack.enter_context(locked(folder / f"{self.name}.lock", wait=True))
                        break
            yield

    # The rest of the interface of numba's caches
    cache_path = None

    def enable(self) -> None:
        """Do nothing: the cache is always on."""

    disable = flush = enable


def key_of(signature: Any) -> str:
    """Return a hash of everything that a compiled kernel depends on."""
    import llvmlite
    import numba
    from numba.core.registry import cpu_target

    processor = cpu_target.target_context.codegen().magic_tuple()
    versions = sys.implementation.cache_tag, sys.version_info, numba.__version__
    everything = SOURCES, versions, llvmlite.__version__, processor, signature
    return blake2b(repr(everything).encode(), digest_size=12).hexdigest()


def folders() -> list[Path]:
    """Return the cache folders: ``NUMBA_CACHE_DIR``, or those of the package and of the user.

    A kernel is read from any of them and written to the first writable one.
    """
    from numba import config

    configured = getattr(config, "CACHE_DIR", "")
    if configured:
        return [Path(configured)]
    paths = [Path(__file__).with_name("__pycache__")]
    with suppress(RuntimeError):  # no home folder
        paths.append(user_cache() / "memhop")
    return paths


def user_cache() -> Path:
    """Return the system's cache folder of the user."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def writable_folder() -> Path | None:
    """Return the first writable cache folder, or None."""
    for folder in folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            return folder
    return None


def remove_old(folder: Path, name: str) -> None:
    """Remove all compiled kernels of a function except the newest ``MAX_FILES``."""
    with suppress(OSError):  # another process may have removed one
        kept = sorted(folder.glob(f"{name}-*.nbc"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-MAX_FILES]:
            path.unlink()


def read_checked(path: Path) -> bytes:
    """Return the content written by ``write_checked``; ValueError if the file is damaged."""
    data = path.read_bytes()
    checksum, content = data[:CHECKSUM_BYTES], data[CHECKSUM_BYTES:]
    if checksum != checksum_of(content):
        raise ValueError(f"checksum mismatch in {path}")
    return content


def write_checked(path: Path, content: bytes) -> None:
    """Write a checksum and the content, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        part.write_bytes(checksum_of(content) + content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def checksum_of(content: bytes) -> bytes:
    """Return a checksum."""
    return blake2b(content, digest_size=CHECKSUM_BYTES).digest()
