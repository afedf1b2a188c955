"""An open store stays in its folder: if the process changes its own, or the folder is moved."""

from pathlib import Path

import numpy as np
import pytest
import torch

from memhop import FileMemory, MemhopError
from memhop.storage import database
from memhop.storage.folder import StoreFolder
from memhop.storage.store import Store

ROWS = torch.arange(8.0).view(4, 2)
MOVED = r"store: the folder was moved or replaced since it was opened$"


def check(path: Path, rows: torch.Tensor) -> None:
    """Check that a store has live rows, and the file of its generation alone."""
    with Store(path) as store:
        vectors = [record.vector for record in store.get([*store.snapshot().ids])]
        assert torch.equal(torch.stack(vectors), rows)  # type: ignore[arg-type]
        names = {file.name for file in path.iterdir() if file.name.startswith("vectors")}
        assert names == {f"vectors.{store.generation}"}


def test_a_relative_path_is_that_of_the_first_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        with Store("store", dim=2) as store:
            store.add(ROWS if name == "a" else -ROWS)
    np.save("file.npy", ROWS.numpy())
    memories = [FileMemory("file.npy", stream=stream) for stream in (True, False)]
    monkeypatch.chdir(tmp_path / "a")
    with Store("store") as store:
        monkeypatch.chdir(tmp_path / "b")
        assert store.path == tmp_path / "a" / "store"
        store.delete([0])
        store.compact()
        assert torch.equal(torch.as_tensor(store.snapshot().memories), ROWS[1:])
        monkeypatch.chdir(tmp_path)
    check(tmp_path / "a" / "store", ROWS[1:])
    check(tmp_path / "b" / "store", -ROWS)
    for memory in memories:
        whole = memory.whole()
        found = [whole] if whole is not None else list(memory.stream(memory.ranges()))
        assert torch.equal(torch.as_tensor(found[0]), ROWS)


def test_a_folder_that_is_moved_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store(path, dim=2) as store:
        store.add(ROWS)
        path.rename(tmp_path / "moved")
        with Store(path, dim=2) as other:
            other.add(-ROWS)
            store.delete([0])
            store.compact()
            other.compact()
            store.add(ROWS[:1])
            assert len(store) == len(other) == 4
            store.close()
            other.add(-ROWS[:1])
    check(path, torch.cat([-ROWS, -ROWS[:1]]))
    check(tmp_path / "moved", torch.cat([ROWS[1:], ROWS[:1]]))


def test_a_writer_of_a_moved_folder_removes_nothing_of_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = Store(path, dim=2)
    store.add(ROWS)
    path.rename(tmp_path / "moved")
    with Store(path, dim=2) as other:
        other.add(-ROWS)
        other.delete([0])
        other.compact()  # its file has the name that a compaction of the moved store writes
        store.delete([3])
        store.compact()
        store.close()
    check(path, -ROWS[1:])
    check(tmp_path / "moved", ROWS[:3])


def test_a_folder_that_is_replaced_while_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store"
    Store(path, dim=2).close()
    folder = StoreFolder(path)
    folder.check_path()
    path.rename(tmp_path / "moved")
    with pytest.raises(MemhopError, match=MOVED):
        folder.check_path()
    Store(path, dim=2).close()
    with pytest.raises(MemhopError, match=MOVED):
        database.Database(folder, read_only=True)
    folder.close()


def test_a_reader_that_opens_the_database_again_finds_a_replaced_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store"
    Store(path, dim=2).close()
    monkeypatch.setattr(database, "may_write", lambda _: False)
    with Store(path, read_only=True) as reader:
        path.rename(tmp_path / "moved")
        with Store(path, dim=2) as other:
            other.add(ROWS)
            with pytest.raises(MemhopError, match=MOVED):
                len(reader)


def num_descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len([*folder.iterdir()]) if folder.exists() else 0


def test_opening_and_closing_leaves_no_descriptor(tmp_path: Path) -> None:
    Store(tmp_path / "store", dim=2).close()
    before = num_descriptors()
    for read_only in (True, False):
        Store(tmp_path / "store", read_only=read_only).close()
        with pytest.raises(MemhopError, match="expected dim 2, got 3"):
            Store(tmp_path / "store", 3, read_only=read_only)
    assert num_descriptors() == before
