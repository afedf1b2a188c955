"""A store is created durably, in a new folder or in an empty one that stays as it is."""

import os
import stat
from pathlib import Path

import pytest
import torch

from memhop import MemhopError
from memhop.storage import creation
from memhop.storage.store import Store

VECTORS = torch.arange(8.0).view(4, 2)
FILES = ["store.db", "vectors.1", "writer.lock"]


def test_a_store_is_created_in_an_empty_folder_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("file", "full", "file/below"):
        with pytest.raises(MemhopError) as caught:
            Store(tmp_path / name, 2)
        assert "\n" not in str(caught.value)
    Store(tmp_path / "empty", 2).close()
    Store(tmp_path / "new" / "below", 2).close()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o777 & ~umask
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty", "file", "full", "new"]


@pytest.mark.parametrize("kind", ["private", "link", "current"])
def test_an_empty_folder_keeps_its_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(0o700)
    before = folder.stat()
    path = folder
    if kind == "link":
        path = tmp_path / "link"
        path.symlink_to(folder)
    elif kind == "current":
        monkeypatch.chdir(folder)
        path = Path()
    Store(path, 2).close()
    after = folder.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert sorted(file.name for file in folder.iterdir()) == [
        "store.db",
        "vectors.1",
        "writer.lock",
    ]


def test_a_creation_that_was_killed_begins_again(tmp_path: Path) -> None:
    for name in ("writer.lock", "vectors.1", "store.db-new", "store.db-new-journal"):
        (tmp_path / name).write_bytes(b"" if "db" not in name else b"left behind")
    (tmp_path / "vectors.1").write_bytes(b"rows")
    with pytest.raises(MemhopError, match="expected a store or an empty folder, got something"):
        Store(tmp_path, 2)
    (tmp_path / "vectors.1").write_bytes(b"")
    with Store(tmp_path, 2) as store:
        store.add(VECTORS)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "store.db",
        "vectors.1",
        "writer.lock",
    ]


def test_each_parent_that_is_created_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(creation, "sync_folder", lambda folder: synced.append(str(folder)))
    Store(tmp_path / "a" / "b" / "store", 2).close()
    parents = [tmp_path.parent, tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert synced == [str(parent) for parent in parents]
