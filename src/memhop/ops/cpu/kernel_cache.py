"""Keep kernels that numba compiled on disk, one file for each function and signature.

numba's own cache looks only at the source file of the entry function and stops at a damaged file.
Here the name of a file covers every source file of ``memhop.ops``, the versions of Python, numba
and llvmlite, and the processor; its content begins with a checksum. A file that is missing,
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
from typing import Any, BinaryIO
from uuid import uuid4

CHECKSUM_BYTES = 32
NEWEST = 8  # compiled forms of a function that stay, for other dtypes, sources and processors


def source_hash(folder: Traversable | None = None) -> str:
    """Return a hash of every source file below a folder, ``memhop.ops``, or of a frozen program."""
    found = blake2b(digest_size=8)
    files = sorted(source_files(folder or resources.files("memhop.ops")), key=lambda file: file[0])
    for name, file in files:
        content = file.read_bytes()
        found.update(f"{name} {len(content)} ".encode() + content)
    if not files:
        status = Path(sys.executable).stat()
        found.update(f"{status.st_mtime_ns} {status.st_size}".encode())
    return found.hexdigest()


def source_files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """Yield name and file of all code below a folder, but for what Python itself caches.

    In an install without sources these are the compiled files that stand in their place.
    """
    for file in folder.iterdir():
        name = prefix + file.name
        if name.endswith((".py", ".pyc")):
            yield name, file
        elif file.name != "__pycache__" and file.is_dir():
            yield from source_files(file, f"{name}/")


# Computed when memhop is imported: kernels are compiled from the modules as they were then.
SOURCES = source_hash()


class KernelCache:
    """The compiled forms of one function, in the place of numba's own cache.

    A function compiled by numba takes it as its attribute ``_cache``.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        module = function.__module__.rpartition(".")[2]
        self.name = f"{module}.{function.__qualname__}"

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return the compiled form for a signature, or None where no file holds it."""
        from numba.core.compiler import CompileResult

        rebuild: Any = CompileResult._rebuild  # untyped
        context.refresh()
        for path in self.paths(signature):
            with suppress(Exception):  # whatever a damaged file may raise
                return rebuild(context, *pickle.loads(read_checked(path)))
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Write a compiled form; nothing where no folder can be written to."""
        from numba.core import serialize

        dumps: Any = serialize.dumps  # untyped
        # Sources that changed since they were imported have a hash that is not that of the kernel.
        if compiled.library.has_dynamic_globals or source_hash() != SOURCES:
            return
        content = dumps(compiled._reduce())
        for path in self.paths(signature):
            with suppress(OSError):
                write_checked(path, content)
                remove_old(path.parent, self.name)
                return

    def is_kept(self, signature: Any) -> bool:
        """Return whether a file for this signature exists; its content is checked when loaded."""
        return any(path.is_file() for path in self.paths(signature))

    def paths(self, signature: Any) -> list[Path]:
        """Return where the compiled form may be, in the order in which it is looked for."""
        name = f"{self.name}-{key_of(signature)}.nbc"
        return [folder / name for folder in folders()]

    @contextmanager
    def exclusive(self, signature: Any) -> Iterator[None]:
        """Hold other processes that compile the same function until this one has finished."""
        with ExitStack() as stack:
            if not self.is_kept(signature):
                for folder in folders():
                    with suppress(OSError):
                        stack.enter_context(locked(folder / f"{self.name}.lock"))
                        break
            yield

    # Further parts of the interface of numba's caches
    cache_path = None

    def enable(self) -> None:
        """Do nothing: the cache is always on."""

    disable = flush = enable


def key_of(signature: Any) -> str:
    """Return a hash of all that decides whether a compiled form is the right one."""
    import llvmlite
    import numba
    from numba.core.registry import cpu_target

    processor = cpu_target.target_context.codegen().magic_tuple()
    versions = sys.implementation.cache_tag, sys.version_info, numba.__version__
    everything = SOURCES, versions, llvmlite.__version__, processor, signature
    return blake2b(repr(everything).encode(), digest_size=12).hexdigest()


def folders() -> list[Path]:
    """Return the folders for compiled kernels: ``NUMBA_CACHE_DIR``, or the package's, the user's.

    A kernel is read from any of them and written to the first that can be written to.
    """
    from numba import config

    asked = getattr(config, "CACHE_DIR", "")
    if asked:
        return [Path(asked)]
    found = [Path(__file__).with_name("__pycache__")]
    with suppress(RuntimeError):  # no home
        found.append(user_cache() / "memhop")
    return found


def user_cache() -> Path:
    """Return the folder that the system has for caches of this user."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def writable_folder() -> Path | None:
    """Return the first of the folders that can be written to, None where there is none."""
    for folder in folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            return folder
    return None


def remove_old(folder: Path, name: str) -> None:
    """Remove the compiled forms of a function but for the newest ones."""
    with suppress(OSError):  # as where another process has removed one
        kept = sorted(folder.glob(f"{name}-*.nbc"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-NEWEST]:
            path.unlink()


def read_checked(path: Path) -> bytes:
    """Return the content of a file that ``write_checked`` wrote; ValueError where it is damaged."""
    whole = path.read_bytes()
    checksum, content = whole[:CHECKSUM_BYTES], whole[CHECKSUM_BYTES:]
    if checksum != checksum_of(content):
        raise ValueError("damaged")
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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; where the system has no such locks, go on without."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file, flock_of(file):
        yield


@contextmanager
def flock_of(file: BinaryIO) -> Iterator[None]:
    """Hold the lock of an open file."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
