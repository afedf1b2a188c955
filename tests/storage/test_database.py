"""A database that is none of a store, or a hostile one, is an error of one line."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from memhop import MemhopError
from memhop.storage.database import Database
from memhop.storage.session import Session
from memhop.storage.store import Store

BLOB = b"\xff" * 4096


@contextmanager
def edited(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / "store.db")) as connection:
        yield connection
        connection.commit()


def use_all(path: Path) -> None:
    """Open a store, and use all that reads from its database."""
    with Store(path, read_only=True) as store:
        store.snapshot(where={"a": 1}, since=0)
        memories, mask, ids = store.snapshot()
        store.records(range(store.num_rows))
        assert len(list(ids)) == len(memories)
        dead = [False] * len(ids) if mask is None else mask.tolist()
        store.get([name for name, is_dead in zip(ids, dead, strict=True) if not is_dead])
    with Store(path) as store:
        store.compact()


def refused(path: Path) -> str:
    with pytest.raises(MemhopError) as caught:
        use_all(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with Store(path, 2) as store:
        store.add(torch.eye(2), ids=["a", "b"], texts=["A", "B"], payloads=[{"a": 1}, None])
        store.add(torch.zeros(9, 2))
        store.delete(["a", 3])
    return path


@pytest.mark.parametrize("content", [b"", b"no database", b"\0" * 8192, b"SQLite format 3\0" * 512])
def test_a_file_that_is_no_database_is_refused(folder: Path, content: bytes) -> None:
    (folder / "store.db").write_bytes(content)
    assert str(folder / "store.db") in refused(folder)


def test_every_truncation_and_garbled_byte_is_one_line_or_harmless(folder: Path) -> None:
    content = (folder / "store.db").read_bytes()
    step = len(content) // 40
    for place in range(0, len(content), step):
        for garbled in (content[:place], content[:place] + b"\xfe" * 40 + content[place + 40 :]):
            (folder / "store.db").write_bytes(garbled)
            for file in folder.glob("store.db-*"):
                file.unlink()
            with suppress(MemhopError):
                use_all(folder)


STATEMENTS = {
    "CREATE VIEW v AS SELECT * FROM rows": "missing or unexpected tables: v",
    "CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END": "unexpected tables: t",
    "CREATE TABLE other (a)": "missing or unexpected tables: other",
    "CREATE INDEX i ON rows (abs(time))": "missing or unexpected tables: i",
    "DROP INDEX rows_by_id": "missing or unexpected tables: rows_by_id",
    "ALTER TABLE state ADD COLUMN more": "missing or unexpected tables: state",
    "PRAGMA user_version = 2": "expected schema 1, got 2: written by a newer version of memhop",
    "PRAGMA user_version = 0": "expected schema 1, got 0",
    "PRAGMA application_id = 5": "expected the database of a store, got another one",
    "PRAGMA journal_mode = DELETE": "expected a database in WAL mode, got another one",
    "DELETE FROM state": "corrupt store: expected one state, got others",
    "INSERT INTO state SELECT * FROM state": "corrupt store: expected one state",
    "UPDATE state SET dim = 0": "corrupt store: impossible state",
    "UPDATE state SET dim = 'x'": "corrupt store: impossible state",
    "UPDATE state SET dtype = 'float64'": "corrupt store: impossible state",
    "UPDATE state SET generation = 2": "vectors.2: corrupt store: no such file",
    "UPDATE state SET generation = 1e30": "corrupt store: impossible state",
    "UPDATE state SET num_rows = 4000000000000": "corrupt store: expected 32,000,000,000,000 bytes",
    "UPDATE state SET num_rows = 9000000000000000000": "corrupt store: impossible state",
    "UPDATE state SET num_live = -1": "corrupt store: impossible state",
    "UPDATE state SET num_rows = NULL": "corrupt store: impossible state",
    "DELETE FROM rows WHERE id = 'b'": "corrupt store: expected an entry for each row",
    "DELETE FROM rows": "corrupt store: expected an entry for each row",
    "UPDATE rows SET num_rows = 9223372036854775807": "corrupt store: expected",
    "UPDATE rows SET num_rows = -5": "corrupt store: expected",
    "UPDATE rows SET num_rows = 'many'": "corrupt store: expected",
    "UPDATE rows SET id = NULL": "corrupt store: expected",
    "UPDATE rows SET id = x'00'": "corrupt store: expected",
    "UPDATE rows SET id = 1.5 WHERE num_rows = 1": "corrupt store: expected a record",
    "UPDATE rows SET id = 9223372036854775807 WHERE num_rows > 1": "got 9223372036854775808",
    "UPDATE rows SET time = 'now'": "corrupt store: expected a record",
    "UPDATE rows SET text = x'ff'": "corrupt store: expected a record",
    "UPDATE rows SET text = CAST(x'ff' AS TEXT)": "Could not decode to UTF-8",
    "UPDATE rows SET payload = '[1'": "malformed JSON",
    "UPDATE rows SET payload = '[1]'": "corrupt store: expected a record",
    "UPDATE tombstones SET bits = x'00'": "corrupt store: expected tombstones of 4096 bytes",
    "UPDATE tombstones SET bits = 7": "corrupt store: expected tombstones of 4096 bytes",
    "UPDATE tombstones SET block = 9223372036854775807": "",
    "UPDATE rows SET row = row - 100": "corrupt store: expected",
}  # fmt: skip


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_changed_database_is_one_line(folder: Path, statement: str) -> None:
    with edited(folder) as connection:
        connection.execute(statement)
    if STATEMENTS[statement]:
        message = refused(folder)
        assert STATEMENTS[statement] in message
        assert str(folder) in message or message.startswith("ids: ")
    else:  # no read depends on it
        use_all(folder)


def test_a_failed_commit_is_overwritten_before_the_next_change(tmp_path: Path) -> None:
    class Failing:
        """A connection whose next COMMIT fails."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection, self.fails = connection, True

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

        def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            if statement == "COMMIT" and self.fails:
                self.fails = False
                raise sqlite3.OperationalError("disk I/O error")
            return self.connection.execute(statement, *arguments)

    with Store(tmp_path / "store", 2) as store:
        session: Session = store._session
        database: Database = session.database
        database._connection = Failing(database.connection)  # type: ignore[assignment]

        def num_syncs() -> int:
            with session.reading():
                found = session.connection.execute("SELECT num_syncs FROM state").fetchone()[0]
            assert isinstance(found, int)
            return found

        before = num_syncs()
        with pytest.raises(MemhopError, match=r"store\.db: SQLite: disk I/O error"):
            store.add([[1, 2], [3, 4]])
        # The rows stay in the file: a crash may bring the commit back.
        assert (len(store), (tmp_path / "store" / "vectors.1").stat().st_size) == (0, 16)
        assert store.add([[5, 6]]) == [0]
        assert num_syncs() == before + 1
        assert store.add([[5, 6]]) == [1]
        assert num_syncs() == before + 1


def test_extensions_and_attached_databases_are_off(folder: Path) -> None:
    with Store(folder) as store, store._session.reading():
        connection = store._session.connection
        assert connection.execute("PRAGMA trusted_schema").fetchone()[0] == 0
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        with pytest.raises(sqlite3.Error):
            connection.execute("ATTACH ':memory:' AS other")
