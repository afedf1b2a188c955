"""The cache of compiled kernels: keys, damaged files, and two processes at once."""

import importlib
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest

from memhop.errors import MemhopError
from memhop.kernels import folder_for_kernels
from memhop.ops.cpu import kernel_cache
from memhop.ops.cpu.kernel_cache import KernelCache, source_hash
from memhop.ops.text.two_row_attention_cpu import compiled

OPS = Path(kernel_cache.__file__).parents[1]
untyped: Any = numba


def double(number: int) -> int:
    """A kernel that compiles quickly."""
    return 2 * number


def call_and_count_hits() -> int:
    """Call the kernel as in a new process; return how often it was loaded from the cache."""
    made = untyped.njit(double)
    made._cache = KernelCache(double)
    assert made(21) == 42
    return sum(made.stats.cache_hits.values())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache folder, which does not exist yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_last_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(b"\x80\x05garbage" * 1000)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def put_a_valid_file_of_something_else(path: Path) -> None:
    kernel_cache.write_checked(path, b"\x80\x05K\x01.")  # the number 1, pickled


def forbid_reading(path: Path) -> None:
    path.chmod(0)


DAMAGES = [
    truncate, cut_last_byte, empty, fill_with_garbage, flip_a_bit,
    put_a_valid_file_of_something_else, forbid_reading,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_compiled_and_written_again(
    damage: Callable[[Path], None], folder: Path
) -> None:
    assert call_and_count_hits() == 0
    path = only_file(folder)
    damage(path)
    may_read = damage is forbid_reading and os.access(path, os.R_OK)  # root can
    assert call_and_count_hits() == int(may_read)
    assert only_file(folder) == path
    assert call_and_count_hits() == 1


def test_a_kernel_compiles_if_a_folder_has_the_name_of_its_file(folder: Path) -> None:
    call_and_count_hits()
    path = only_file(folder)
    path.unlink()
    path.mkdir()
    assert call_and_count_hits() == 0
    assert list(folder.iterdir()) == [path], "a temporary file was left"


def test_no_kernel_is_kept_if_sources_changed_after_import(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_cache, "source_hash", lambda: "another")
    call_and_count_hits()
    assert not folder.exists()


def test_the_key_covers_every_source_file(tmp_path: Path) -> None:
    copy = shutil.copytree(OPS, tmp_path / "ops", ignore=shutil.ignore_patterns("__pycache__"))
    for file in sorted(copy.rglob("*.py")):
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        assert source_hash(copy) != kernel_cache.SOURCES, file
        file.unlink()
        assert source_hash(copy) != kernel_cache.SOURCES, file
        file.write_bytes(content)
    assert source_hash(copy) == kernel_cache.SOURCES


def test_a_kernel_of_other_sources_is_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_and_count_hits()
    monkeypatch.setattr(kernel_cache, "SOURCES", "another")
    monkeypatch.setattr(kernel_cache, "source_hash", lambda: "another")
    assert call_and_count_hits() == 0
    assert len(list(folder.iterdir())) == 2


def test_a_kernel_in_a_folder_that_cannot_be_written_to_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator may have compiled it into the package."""
    packaged, own = tmp_path / "packaged", tmp_path / "own"
    monkeypatch.setattr(kernel_cache, "folders", lambda: [packaged, own])
    call_and_count_hits()
    assert packaged.is_dir()
    assert not own.exists()
    monkeypatch.setattr(kernel_cache, "folders", lambda: [own, packaged])
    assert call_and_count_hits() == 1
    assert not own.exists()


def test_only_one_process_compiles_a_kernel_at_a_time(folder: Path) -> None:
    pytest.importorskip("fcntl", reason="only systems with fcntl have these locks")
    entered = threading.Event()

    def enter() -> None:
        with KernelCache(double).exclusive("signature"):
            entered.set()

    other = threading.Thread(target=enter)
    with KernelCache(double).exclusive("signature"):
        other.start()
        assert not entered.wait(0.2)
    assert entered.wait(60)
    other.join()


def test_a_folder_that_cannot_be_written_to_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(file))
    with pytest.raises(MemhopError, match=f"^cannot write compiled kernels to {file}: set NUMBA_"):
        folder_for_kernels()


def test_the_folder_for_kernels_is_the_first_that_can_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, own = tmp_path / "file", tmp_path / "own"
    file.write_text("no folder")
    monkeypatch.setattr(kernel_cache, "folders", lambda: [file, own])
    assert folder_for_kernels() == own


def test_old_files_of_a_function_are_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "another_function-1.nbc").touch()
    for age in range(1, 20):
        path = folder / f"{KernelCache(double).name}-{age}.nbc"
        path.touch()
        os.utime(path, (0, 100 - age))
    call_and_count_hits()
    left = {path.name.rpartition("-")[2] for path in folder.glob("*double-*.nbc")}
    assert left > {f"{age}.nbc" for age in range(1, kernel_cache.MAX_FILES)}
    assert len(left) == kernel_cache.MAX_FILES
    assert (folder / "another_function-1.nbc").exists()


def test_the_folders_of_users_are_those_of_their_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    found = {}
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        found[platform] = kernel_cache.user_cache()
    home = Path.home()
    assert found == {
        "linux": Path("/caches"), "darwin": home / "Library/Caches", "win32": Path("/local")
    }  # fmt: skip


def test_kernels_of_the_text_model_use_this_cache() -> None:
    for name in ("embedding_bag_cpu", "two_row_attention_cpu"):
        module = importlib.import_module(f"memhop.ops.text.{name}")
        assert isinstance(module._forward._cache, KernelCache)
        assert isinstance(module._backward._cache, KernelCache)


def test_without_a_folder_for_what_was_compiled_it_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("a file, and so no folder to write to")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(file))
    twice = compiled(lambda x: 2 * x)
    assert twice(3) == 6
