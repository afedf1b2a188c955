"""A file is whole or as it was."""

from pathlib import Path

import pytest

from memhop.atomic_write import atomic_write, check_writable
from memhop.errors import MemhopError


def begun_and_stopped(path: Path) -> None:
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
        raise KeyboardInterrupt


def test_a_file_is_replaced_in_the_end_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        begun_and_stopped(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as file:
        file.write("\u00e4\n")
    assert path.read_bytes() == b"\xc3\xa4\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_file_replaces_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr("os.link", failing)
    path = tmp_path / "a.txt"
    with atomic_write(path, replace=False) as file:
        file.write("mine")
    exists = pytest.raises(MemhopError, match=r"a\.txt: already exists; give another name$")
    with exists, atomic_write(path, replace=False):
        raise AssertionError
    path.unlink()
    with exists, atomic_write(path, replace=False):
        path.write_text("mine")  # by another program
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def failing(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_what_is_there_and_no_file_is_never_replaced(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    for path in (tmp_path, link):
        with (
            pytest.raises(MemhopError, match="it exists and is not a file"),
            atomic_write(path),
        ):
            pass
    assert link.is_symlink()
    assert list(tmp_path.iterdir()) == [link]


def test_the_reason_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.txt"
    with pytest.raises(MemhopError) as caught, atomic_write(path):
        pass
    assert str(caught.value) == f"{path}: cannot be written: No such file or directory"


def test_a_folder_is_checked_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_writable(tmp_path)
    check_writable(tmp_path / "new" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(MemhopError) as caught:
            check_writable(place)
        assert str(caught.value).startswith(f"{place}: cannot be written to: ")
