"""A file has one holder of its lock."""

from pathlib import Path

import pytest

from memhop.file_lock import locked

pytest.importorskip("fcntl", reason="only systems with fcntl have these locks")


def test_a_file_is_locked_until_the_end_of_the_block(tmp_path: Path) -> None:
    file = tmp_path / "a"
    with locked(file), pytest.raises(BlockingIOError), locked(file):
        pass
    with locked(file):
        pass


def test_a_file_that_was_renamed_before_it_is_locked_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"

    def rename(*_: object, **__: object) -> None:
        file.rename(tmp_path / "b")

    monkeypatch.setattr("memhop.file_lock.lock", rename)
    with pytest.raises(BlockingIOError), locked(file):
        pass


def test_a_system_without_locks_keeps_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("memhop.file_lock.lock", unsupported)
    with locked(tmp_path / "a"), locked(tmp_path / "a"):
        pass
