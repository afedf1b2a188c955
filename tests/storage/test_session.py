"""One writer and many readers: locks, forks, removed files, read-only folders, full devices."""

import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from memhop import MemhopError
from memhop.storage import changes, database
from memhop.storage.folder import vectors_path
from memhop.storage.store import Store

VECTORS = torch.arange(8.0).view(4, 2)
LOCKED = "writer.lock: locked: expected one writer, and another Store has it open"


def error_of(path: Path, *, read_only: bool = False) -> str:
    with pytest.raises(MemhopError) as caught:
        Store(path, read_only=read_only)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Store(tmp_path / "store", 2) as store:
        store.add(VECTORS, texts=list("abcd"))
        store.delete([1])
    return tmp_path / "store"


def rows_of(store: Store) -> list[object]:
    return list(store.snapshot().ids)


def test_a_second_writer_is_refused_until_the_first_closes(path: Path) -> None:
    with Store(path) as store:
        assert LOCKED in error_of(path)
        with Store(path, read_only=True) as reader:
            store.add(VECTORS)
            assert rows_of(reader) == rows_of(store) == [*range(8)]
            with pytest.raises(MemhopError, match="the store was opened with read_only=True"):
                reader.delete([0])
    Store(path).close()


def test_the_lock_ends_with_its_process(path: Path) -> None:
    code = (
        "from memhop import Store; import sys, time; store = Store(sys.argv[1]);"
        "print(1, flush=True); time.sleep(99)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert LOCKED in error_of(path)
        child.kill()
        child.wait()
        Store(path).close()


def in_child(work: object) -> int:
    """Return the exit status of a forked child that calls a function."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest may have threads
        child = os.fork()
    if child == 0:
        try:
            assert callable(work)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_does_not_use_the_store_of_its_parent(path: Path) -> None:
    store = Store(path)
    snapshot = store.snapshot()

    def use() -> None:
        for work in (lambda: len(store), lambda: store.add(VECTORS), lambda: list(snapshot.ids)):
            with pytest.raises(
                MemhopError, match="expected the process that opened the store, got"
            ):
                work()
        assert snapshot.memories.tolist() == VECTORS.tolist()  # type: ignore[union-attr]
        store.close()
        store.__del__()

    assert in_child(use) == 0
    store.add(VECTORS)
    assert len(store) == 7
    assert LOCKED in error_of(path)
    store.close()


def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent(path: Path) -> None:
    store, is_inside, may_leave = Store(path), threading.Event(), threading.Event()

    def stay_inside() -> None:
        with store._session.reading():
            is_inside.set()
            may_leave.wait()

    def use() -> None:
        signal.alarm(20)  # ends a child that waits
        works = (store.compact, lambda: store.get([0]), lambda: store.add(VECTORS), store.snapshot)
        for work in works:
            with pytest.raises(MemhopError, match="expected the process that opened the store"):
                work()
        store.close()
        store.__del__()

    thread = threading.Thread(target=stay_inside)
    thread.start()
    is_inside.wait()
    try:
        assert in_child(use) == 0
    finally:
        may_leave.set()
        thread.join()
    assert len(store) == 3
    store.close()


def test_a_forked_child_does_not_keep_the_lock(path: Path) -> None:
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        store = Store(path)
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            signal.pause()
        signal.pause()
        del store
    child = int(os.read(reading, 100))
    try:
        assert LOCKED in error_of(path)
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        with Store(path) as store:
            assert len(store) == 3
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


def test_a_reader_retries_if_the_generation_is_removed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(path) as writer, Store(path, read_only=True) as reader:
        state = reader._session.database.__class__._state
        calls = 0

        def compact_meanwhile(database: object) -> object:
            nonlocal calls
            found = state(database)  # type: ignore[arg-type]
            if database is reader._session.database:
                calls += 1
                if calls <= 3:
                    writer.delete(writer.add(VECTORS))
                    writer.compact()
            return found

        monkeypatch.setattr(type(reader._session.database), "_state", compact_meanwhile)
        assert rows_of(reader)[:3] == [0, 2, 3]
        assert calls > 3
        writer.delete(writer.add(VECTORS))
        writer.compact()
        vectors_path(path, writer.generation).unlink()
        with pytest.raises(MemhopError, match=r"vectors\.\d+: corrupt store: no such file"):
            rows_of(reader)


def test_a_writer_removes_what_was_not_committed(path: Path) -> None:
    vectors = vectors_path(path, 1)
    with vectors.open("ab") as file:
        file.write(b"not committed")
    for name in ("vectors.2", "vectors.77", "vectors.02", "notes.txt"):
        (path / name).write_bytes(b"x")
    with Store(path, read_only=True) as reader:
        assert rows_of(reader) == [0, 1, 2, 3]
    assert vectors.stat().st_size == 32 + 13
    with Store(path) as store:
        assert rows_of(store) == [0, 1, 2, 3]
        assert vectors.stat().st_size == 32
    assert {file.name for file in path.iterdir()} >= {"vectors.1", "vectors.02", "notes.txt"}
    assert not (path / "vectors.2").exists()
    assert not (path / "vectors.77").exists()


def test_opening_for_writing_makes_durable_what_it_finds(path: Path) -> None:
    def num_syncs() -> int:
        with Store(path, read_only=True) as reader, reader._session.reading():
            found = reader._session.connection.execute("SELECT num_syncs FROM state").fetchone()
            assert isinstance(found[0], int)
            return found[0]

    before = num_syncs()
    Store(path).close()
    assert num_syncs() == before + 1


def test_a_short_file_is_refused(path: Path) -> None:
    os.truncate(vectors_path(path, 1), 31)
    for read_only in (False, True):
        assert "vectors.1: corrupt store: expected 32 bytes for 4 rows, got 31" in error_of(
            path, read_only=read_only
        )
    os.truncate(vectors_path(path, 1), 32)
    Store(path).close()


@pytest.mark.parametrize(
    "name", ["store.db", "store.db-wal", "store.db-shm", "vectors.1", "writer.lock"]
)
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_no_file_is_a_link_or_a_pipe(path: Path, tmp_path: Path, name: str, kind: str) -> None:
    secret = tmp_path / "secret"
    content = (path / name).read_bytes() if (path / name).exists() else b"secret"
    secret.write_bytes(content)
    (path / name).unlink(missing_ok=True)
    if kind == "link":
        (path / name).symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(path / name)
    else:
        (path / name).mkdir()
    assert str(path / name) in error_of(path)
    assert secret.read_bytes() == content
    if name != "writer.lock":
        assert str(path / name) in error_of(path, read_only=True)


def test_a_rollback_journal_is_refused(path: Path) -> None:
    (path / "store.db-journal").write_bytes(b"x")
    assert "store.db-journal: expected no rollback journal in a store" in error_of(path)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Lose the permissions of root, if this is root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def is_open_to_all(folder: Path) -> bool:
    """Return whether every user may enter a folder."""
    if os.geteuid() != 0:
        return folder.is_dir()
    folders = [folder, *folder.parents]
    return all(each.is_dir() and each.stat().st_mode & stat.S_IXOTH for each in folders)


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    places = [Path(name) for name in (tempfile.gettempdir(), "/tmp", "/var/tmp")]
    place = next((place for place in places if is_open_to_all(place)), None)
    if place is None:
        pytest.skip("needs a temporary folder that every user may enter")
    with tempfile.TemporaryDirectory(dir=place) as name:
        Path(name).chmod(0o755)
        path = Path(name, "store")
        with Store(path, 2) as store:
            store.add(VECTORS, ids=list("abcd"))
        path.chmod(0o555)
        for file in path.iterdir():
            file.chmod(0o444)
        yield path
        path.chmod(0o755)


def test_a_reader_needs_no_permission_to_write(read_only_folder: Path) -> None:
    path = read_only_folder
    with as_nobody():
        assert "writer.lock: cannot be opened: Permission denied" in error_of(path)
        with Store(path, read_only=True) as reader:
            assert rows_of(reader) == list("abcd")
            assert reader.get(["c"])[0].vector.tolist() == [4.0, 5.0]  # type: ignore[union-attr]
            assert sorted(file.name for file in path.iterdir()) == [
                "store.db", "vectors.1", "writer.lock"]  # fmt: skip


def test_a_reader_without_permission_sees_a_later_writer(read_only_folder: Path) -> None:
    path = read_only_folder
    if os.geteuid() != 0:
        pytest.skip("needs root, for a writer with other permissions than the reader")
    with as_nobody():
        reader = Store(path, read_only=True)
        assert rows_of(reader) == list("abcd")
    with Store(path) as writer:
        writer.delete(["a"])
        writer.compact()
        with as_nobody():
            assert rows_of(reader) == list("bcd")
        writer.add(VECTORS[:1], ids=["e"])
        with as_nobody():
            assert rows_of(reader) == list("bcde")
    with as_nobody():
        reader.close()


@pytest.fixture
def reader(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that is opened without permission to write, while no other process has it open."""
    monkeypatch.setattr(database, "may_write", lambda folder: False)
    os.utime(path / "store.db", (0, 0))  # the clock of a file system may be coarse
    with Store(path, read_only=True) as store:
        yield store


def test_a_reader_without_permission_sees_what_a_closed_writer_changed(
    path: Path, reader: Store
) -> None:
    assert rows_of(reader) == [0, 1, 2, 3]
    with Store(path) as writer:
        writer.add(VECTORS[:1], ids=["e"])
    assert (rows_of(reader), len(reader)) == ([0, 1, 2, 3, "e"], 4)
    os.utime(path / "store.db", (0, 0))
    assert len(reader) == 4
    with Store(path) as writer:
        writer.compact()
    assert rows_of(reader) == [0, 2, 3, "e"]
    assert reader.get(["e"])[0].vector.tolist() == [0.0, 1.0]  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [None, MemhopError("corrupt store: pages of two times")])
def test_a_reader_without_permission_notices_a_writer_during_a_read(
    path: Path, reader: Store, error: MemhopError | None
) -> None:
    def read_while_written() -> None:
        with reader._session.reading():
            with Store(path) as writer:
                writer.delete([0])
            if error is not None:
                raise error

    changed = r"store.db: a writer changed the store during a read: read again$"
    with pytest.raises(MemhopError, match=changed):
        read_while_written()
    assert len(reader) == 2


def test_a_reader_without_permission_outlives_a_broken_database(path: Path, reader: Store) -> None:
    content = (path / "store.db").read_bytes()
    (path / "store.db").write_bytes(b"no database")
    for _ in range(2):
        with pytest.raises(MemhopError, match=r"store.db: SQLite: file is not a database$"):
            len(reader)
    (path / "store.db").unlink()
    with pytest.raises(MemhopError, match=r"expected a store, found no store.db$"):
        len(reader)
    (path / "store.db").write_bytes(content)
    assert rows_of(reader) == [0, 1, 2, 3]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Refuse writes beyond a size of a file, like a device that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_device_changes_nothing(path: Path) -> None:
    with Store(path) as store:
        size = (path / "store.db-wal").stat().st_size
        content = [(record.id, record.text) for record in store.get([0, 2, 3])]
        works = [
            lambda: store.add(torch.zeros(100_000, 2)),
            lambda: store.add(VECTORS, texts=["x" * 100_000] * 4),
            lambda: store.update([0], texts=["x" * 500_000]),
            lambda: store.delete([0]),
            store.compact,
        ]
        for work in works:
            limit = 0 if work == store.compact else size
            with largest_file(limit), pytest.raises(MemhopError) as caught:
                work()
            assert "\n" not in str(caught.value)
            assert [(record.id, record.text) for record in store.get([0, 2, 3])] == content
            assert (len(store), store.num_rows, store.generation) == (3, 4, 1)
            # A commit that failed may come back after a crash: its vectors are kept until then.
            assert vectors_path(path, 1).stat().st_size in (32, 64, 40)
            assert not vectors_path(path, 2).exists()
        assert store.add(VECTORS[:1]) == [4]
        store.compact()
        assert rows_of(store) == [0, 2, 3, 4]
    with Store(path) as store:
        assert rows_of(store) == [0, 2, 3, 4]


def test_a_compaction_that_fails_leaves_no_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with Store(path) as store:
        for name in ("renumber", "copy_live"):
            with monkeypatch.context() as patch:
                patch.setattr(changes, name, interrupt)
                with pytest.raises(KeyboardInterrupt):
                    store.compact()
            assert not vectors_path(path, 2).exists()
            assert (store.generation, store.get([0])[0].text) == (1, "a")
        store.compact()
        assert (store.generation, len(store), store.num_rows) == (2, 3, 3)


def test_compaction_removes_texts_and_vectors_from_the_device(path: Path) -> None:
    secret, vector = "a secret that is deleted " * 400, torch.tensor([[123.25, 321.75]])
    with Store(path) as store:
        store.add(vector, ids=["name of the secret"], texts=[secret], payloads=[{"a": secret}])
        store.delete(["name of the secret"])
        store.compact()
        kept = b"".join(file.read_bytes() for file in path.iterdir())
    assert b"secret" not in kept
    assert vector.numpy().tobytes() not in kept


def test_closing_twice_is_harmless(path: Path) -> None:
    store = Store(path)
    store.close()
    store.close()
    with pytest.raises(MemhopError, match="the store is closed"):
        len(store)
    assert repr(store).startswith("Store(")
