"""``memhop store create`` and ``add``: what is stored, and one-line errors with file and line."""

import gzip
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memhop import Store
from memhop.cli.store import records as records_module
from memhop.cli.store.options import parse_time

from ..conftest import Program
from .conftest import DIM, RECORDS, write_records

ENCODE = ["--encoder", "hashing:encode"]


def contents(folder: str = "notes") -> list[tuple[Any, ...]]:
    """Return the id, vector, text and payload of each row."""
    with Store(folder, read_only=True) as store:
        rows = store.get(list(store.snapshot().ids))
        return [(one.id, one.vector.tolist(), one.text, one.payload)
                for one in rows if one.vector is not None]  # fmt: skip


def test_create(memhop: Program) -> None:
    out = memhop("store", "create", "notes", "--dim", "3", "--dtype", "int8").ok().out
    assert out == (
        "notes: a store of vectors of 3 numbers in int8\n"
        "add records: memhop store add notes FILE.jsonl\n"
    )
    with Store("notes") as store:
        assert (store.dim, store.dtype, len(store)) == (3, torch.int8, 0)
    found = json.loads(memhop("store", "create", "two", "--dim", "3", "--json").ok().out)
    assert found["rows"] == found["deleted"] == 0
    Path("file").touch()
    Path("full/folder").mkdir(parents=True)
    a_store = "a store: memhop store add adds records to it"
    for folder, got in {"notes": a_store, "file": "another", "full": "another"}.items():
        error = memhop("store", "create", folder, "--dim", "3").error()
        assert error == f"{folder}: expected a new or an empty folder, got {got}"
    error = memhop("store", "create", "other", "--dim", "3", "--dtype", "int4").error()
    assert error == "--dtype: expected one of float32, bfloat16, float16, int8, got 'int4'"
    assert not Path("other").exists()
    assert "--dim" in memhop("store", "create", "other").error()
    assert "--dim" in memhop("store", "create", "other", "--dim", "0").error()


def test_records_are_stored(memhop: Program, store: str) -> None:
    assert contents() == [
        (one["id"], one["vector"], one.get("text"), one.get("payload")) for one in RECORDS
    ]
    with Store(store, read_only=True) as opened:
        times = [one.time for one in opened.get(["a", 7, "c", "d"])]
    assert times[:3] == [10, 20, 30]
    assert times[3] > 1e9  # now


def test_files_in_batches(memhop: Program, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "ROWS", 3)
    monkeypatch.setattr("memhop.cli.store.add._ROWS_A_LINE", 3)
    many = [{"vector": [i, 0, 0, 0]} for i in range(8)]
    with gzip.open("many.jsonl.gz", "wt") as file:
        file.write("\n\n".join(map(json.dumps, many)))
    np.save("more.npy", np.ones((5, DIM), dtype=np.float16))
    output = memhop("store", "add", store, "many.jsonl.gz", "more.npy").ok()
    assert output.out == "added 13 rows to notes; it has 17 rows\n"
    assert output.err.splitlines() == [
        "many.jsonl.gz: 3 rows stored", "many.jsonl.gz: 6 rows stored", "more.npy: 3 rows stored"
    ]  # fmt: skip
    assert [row[1][0] for row in contents()[4:]] == [*range(8), *[1.0] * 5]
    assert [row[0] for row in contents()[4:]] == [*range(8, 21)]  # 7 is used
    found = json.loads(memhop("store", "add", store, "more.npy", "--json").ok().out)
    assert found == {"added": 5, "skipped": 0, "rows": 22}


def test_texts_are_encoded(memhop: Program, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "ENCODED_ROWS", 2)
    given: list[dict[str, Any]] = [
        {"text": "green"},
        {"text": "blue red"},
        {"text": "as given", "vector": [9, 9, 9, 9]},
        {"text": "x"},
        {"text": "none"},
    ]
    write_records("texts.jsonl", given)
    memhop("store", "add", store, "texts.jsonl", *ENCODE).ok()
    half = pytest.approx(0.5**0.5)
    assert [row[1] for row in contents()[4:]] == [
        [0, 1, 0, 0], [half, 0, half, 0], [9, 9, 9, 9], [0, 0, 0, 1], [0, 0, 0, 0]
    ]  # fmt: skip
    assert [row[2] for row in contents()[4:]] == [one["text"] for one in given]


WRONG: list[tuple[Any, str]] = [
    ("{", "expected a JSON object, got '{' ("),
    ("[]", "expected a JSON object, got '[]'"),
    ({"vectors": []}, "expected the keys id, vector, text, payload, time, got 'vectors'"),
    ({"id": True, "vector": [1, 2, 3, 4]}, "id: expected a text or an integer, got True"),
    ({"id": 1.5, "vector": [1, 2, 3, 4]}, "id: expected a text or an integer, got 1.5"),
    ({"vector": [1, 2, 3]}, "vector: expected 4 numbers, got 3"),
    ({"vector": "red"}, "vector: expected 4 numbers, got 'red'"),
    ({"vector": [1, 2, 3, "4"]}, "vector: expected 4 numbers, got '4' among them"),
    ({"vector": [1, 2, 3, True]}, "vector: expected 4 numbers, got True among them"),
    ('{"vector": [1, 2, 3, NaN]}', "vector: expected 4 numbers that are finite in float32, got"),
    ('{"vector": [1, 2, 3, 1e39]}', "vector: expected 4 numbers that are finite in float32, got"),
    ({"vector": [10**400] * 4}, "vector: expected 4 numbers that are finite in float32, got"),
    ({}, "expected a vector, got neither"),
    ({"text": "red"}, "expected a vector, got a text: --encoder MODULE:FUNCTION encodes it"),
    ({"vector": [1, 2, 3, 4], "text": 1}, "text: expected a text, got 1"),
    ({"vector": [1, 2, 3, 4], "payload": []}, "payload: expected an object, got []"),
    ({"vector": [1, 2, 3, 4], "time": "noon"}, "time: expected a time such as 2026-11-29T12:00Z "),
    ('{"vector": [1, 2, 3, 4], "time": NaN}', "time: expected a time such as "),
    ('{"text": "a", "text": "b"}', "expected a JSON object, got "),
]


@pytest.mark.parametrize(("record", "expected"), WRONG)
def test_a_wrong_line_is_named_and_the_rows_before_it_are_stored(
    memhop: Program, store: str, record: Any, expected: str
) -> None:
    right = {"vector": [1, 1, 1, 1]}
    write_records("wrong.jsonl", [right, "", right, record, right])
    error = memhop("store", "add", store, "wrong.jsonl").error()
    assert error.startswith(f"wrong.jsonl:4: {expected}")
    assert error.endswith(
        "(2 rows of wrong.jsonl stored; continue: memhop store add notes wrong.jsonl --from-line 4)"
    )
    assert len(contents()) == 6
    write_records("wrong.jsonl", [right, "", right, right, right])
    memhop("store", "add", store, "wrong.jsonl", "--from-line", "4").ok()
    assert len(contents()) == 8


def test_ids_that_are_used(memhop: Program, store: str) -> None:
    def row(name: Any) -> dict[str, Any]:
        return {"id": name, "vector": [0, 0, 0, 0]}

    write_records("used.jsonl", [row("e"), row("f"), row("a"), row("g")])
    error = memhop("store", "add", store, "used.jsonl").error()
    assert error.startswith(
        f"used.jsonl:3: {Path('notes').absolute()}: expected new ids, got 'a', which is in the "
        "store; "
        "--skip-stored skips such records (2 rows of "
    )
    assert "continue: memhop store add notes used.jsonl --from-line 3)" in error
    assert [one[0] for one in contents()[4:]] == ["e", "f"]
    write_records("twice.jsonl", [row("x"), row("y"), row("x")])
    error = memhop("store", "add", store, "twice.jsonl").error()
    assert error.startswith("twice.jsonl:3: ids: expected distinct ids, got 'x' twice")
    assert [one[0] for one in contents()[6:]] == ["x", "y"]
    for first, second, expected in (
        (row("m"), {"vector": [0] * 4}, "expected an id, as line 1 has"),
        ({"vector": [0] * 4}, row("n"), "expected no id, as line 1 has none"),
    ):
        write_records("mixed.jsonl", [first, second])
        assert (
            memhop("store", "add", store, "mixed.jsonl")
            .error()
            .startswith(f"mixed.jsonl:2: {expected} (")
        )


def test_wrong_arrays(memhop: Program, store: str) -> None:
    start = "expected an array of numbers [N, 4], got"
    np.save("wide.npy", np.ones((2, 5)))
    assert memhop("store", "add", store, "wide.npy").error() == f"wide.npy: {start} [2, 5]"
    np.save("text.npy", np.array([["a"] * 4]))
    assert memhop("store", "add", store, "text.npy").error() == f"text.npy: {start} dtype('<U1')"
    np.save("object.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert memhop("store", "add", store, "object.npy").error().startswith(f"object.npy: {start} ")
    Path("empty.npy").touch()
    assert memhop("store", "add", store, "empty.npy").error().startswith(f"empty.npy: {start} none")
    np.save("nan.npy", np.array([[1.0] * 4, [1.0] * 4, [np.nan] * 4]))
    error = memhop("store", "add", store, "nan.npy").error()
    assert error.startswith(
        "nan.npy:3: expected finite numbers in this row (2 rows of nan.npy stored"
    )
    assert len(contents()) == 6
    assert memhop("store", "add", store, "no.npy").error() == "no.npy: no such file"
    assert memhop("store", "add", store, "no.jsonl").error() == "no.jsonl: no such file"
    error = memhop("store", "add", "other", "records.jsonl").error()
    assert error == "other: no such store; memhop store create makes one"


def test_wrong_encoders(memhop: Program, store: str) -> None:
    write_records("texts.jsonl", [{"text": "red"}])
    Path("broken.py").write_text("raise RuntimeError('no model')")
    cases = {
        "hashing": "--encoder: expected MODULE:FUNCTION, got 'hashing'",
        ":f": "--encoder: expected MODULE:FUNCTION, got ':f'",
        "hashing:other": "--encoder: hashing has no function 'other'",
        "hashing:name": "--encoder: expected a function, got 'text'",
        "nowhere:f": "--encoder: cannot import 'nowhere': ModuleNotFoundError: No module named",
        "broken:f": "--encoder: cannot import 'broken': RuntimeError: no model",
        "hashing:narrow": "texts.jsonl: encoder: expected vectors of 4 numbers, got 2",
        "hashing:fails": "texts.jsonl: the encoder failed: OSError: no model",
    }
    for name, expected in cases.items():
        error = memhop("store", "add", store, "texts.jsonl", "--encoder", name).error()
        assert error.startswith(expected)
    assert len(contents()) == 4


@pytest.mark.parametrize("is_committed", [False, True])
def test_ctrl_c_says_where_to_continue(
    memhop: Program, store: str, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    monkeypatch.setattr(records_module, "ROWS", 2)
    write_records("many.jsonl", [{"id": f"m{i}", "vector": [i, 0, 0, 0]} for i in range(7)])
    calls, add = 0, Store.add

    def interrupted(self: Store, *arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 and not is_committed:
            raise KeyboardInterrupt
        ids = add(self, *arguments, **more)
        if calls == 2:
            raise KeyboardInterrupt
        return ids

    monkeypatch.setattr(Store, "add", interrupted)
    output = memhop("store", "add", store, "many.jsonl")
    rows, line = (4, 5) if is_committed else (2, 3)
    assert output == (130, "", (
        f"memhop: stopped: {rows} rows of many.jsonl stored; "
        f"continue: memhop store add notes many.jsonl --from-line {line}\n"
    ))  # fmt: skip
    memhop("store", "add", store, "many.jsonl", "--from-line", str(line)).ok()
    assert [row[0] for row in contents()[4:]] == [f"m{i}" for i in range(7)]


def test_the_command_that_continues_is_whole(
    memhop: Program, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "ENCODED_ROWS", 2)
    Path("hashing.py").write_text(
        "import math\n"
        "def encode(texts):\n"
        "    if 'fail' in texts: raise OSError('no model')\n"
        "    if 'stop' in texts: raise KeyboardInterrupt\n"
        "    return [[1.0, 0.0, 0.0, 0.0]] * len(texts)\n"
    )
    given = [{"id": name, "text": name} for name in "efgh"]
    write_records("one.jsonl", given[:2])
    line = ["store", "add", store, "one.jsonl", "the rest.jsonl", *ENCODE, "--skip-stored"]
    start = "memhop store add notes 'the rest.jsonl' --encoder hashing:encode --skip-stored"
    for wrong, status, expected in (
        ({"id": "w", "vector": []}, 2, "the rest.jsonl:4: vector: expected 4 numbers, got 0 ("),
        ({"id": "w", "text": "fail"}, 2, "the rest.jsonl: the encoder failed: OSError: no model ("),
        ({"id": "w", "text": "stop"}, 130, "stopped: "),
    ):
        with Store(store) as opened:
            opened.delete([name for name in "efgh" if name in opened])
        write_records("the rest.jsonl", [*given[2:], "", wrong])
        output = memhop(*line)
        assert (output.status, output.out) == (status, "")
        assert output.err.startswith(f"memhop: {expected}")
        end = f"2 rows of the rest.jsonl stored; continue: {start} --from-line "
        assert output.err.removesuffix("\n").removesuffix(")")[:-1].endswith(end)
        write_records("the rest.jsonl", given[2:])
        command = shlex.split(output.err.rstrip(")\n").partition("continue: memhop ")[2])
        memhop(*command).ok()
    output = memhop("store", "add", store, "records.jsonl", "no.jsonl", "--skip-stored", "--json")
    assert output.error() == (
        "no.jsonl: no such file (0 rows of no.jsonl stored; "
        "continue: memhop store add notes no.jsonl --skip-stored --json --from-line 1)"
    )


@pytest.mark.parametrize("rows_of_a_batch", [2, 100])
def test_stored_records_are_skipped(
    memhop: Program, store: str, monkeypatch: pytest.MonkeyPatch, rows_of_a_batch: int
) -> None:
    monkeypatch.setattr(records_module, "ROWS", rows_of_a_batch)
    monkeypatch.setattr(records_module, "ENCODED_ROWS", rows_of_a_batch)
    texts: list[str] = []
    monkeypatch.setattr("memhop.cli.store.add.load_encoder", lambda name: texts_to_ones)

    def texts_to_ones(given: list[str]) -> Any:
        texts.extend(given)
        return np.ones((len(given), DIM))

    new = [{"id": name, "text": f"text of {name}"} for name in ("7", "x", 8, "x", "y", "x")]
    write_records("more.jsonl", [*RECORDS, *new])
    line = ["store", "add", store, "more.jsonl", "--skip-stored"]
    assert memhop(*line).ok().out == (
        "added 4 rows, skipped 6 that were stored; notes has 8 rows\n"
    )
    assert [row[0] for row in contents()[4:]] == ["7", "x", 8, "y"]
    assert texts == [f"text of {name}" for name in ("7", "x", 8, "y")]  # no other is encoded
    found = json.loads(memhop(*line, "--json").ok().out)
    assert found == {"added": 0, "skipped": 10, "rows": 8}
    memhop("store", "delete", store, "x").ok()
    assert json.loads(memhop(*line, "--json").ok().out)["added"] == 1

    write_records("none.jsonl", [{"id": "z", "vector": [0] * DIM}, {"vector": [0] * DIM}])
    error = memhop("store", "add", store, "none.jsonl", "--skip-stored").error()
    assert error.startswith("none.jsonl:2: expected an id, which --skip-stored needs in every rec")
    np.save("array.npy", np.ones((2, DIM)))
    error = memhop("store", "add", store, "array.npy", "--skip-stored").error()
    assert error == "array.npy: --skip-stored needs ids: an array has none"


def test_a_first_line_after_the_end(memhop: Program, store: str) -> None:
    write_records("two.jsonl", [{"vector": [0] * DIM}] * 2)
    np.save("two.npy", np.zeros((2, DIM)))
    Path("empty.jsonl").touch()
    for name in ("two.jsonl", "two.npy"):
        error = memhop("store", "add", store, name, "--from-line", "4").error()
        expected = "expected --from-line of at most 3, as its last record is number 2, got 4"
        assert error == f"{name}: {expected}"
        memhop("store", "add", store, name, "--from-line", "3").ok()  # as a stopped command says
    assert (
        "of at most 1" in memhop("store", "add", store, "empty.jsonl", "--from-line", "2").error()
    )
    memhop("store", "add", store, "empty.jsonl").ok()
    assert len(contents()) == len(RECORDS)


def test_times() -> None:
    assert parse_time("time", "2026-11-29T12:00:00+01:00") == 1795950000
    assert parse_time("time", "2026-11-29 11:00") == 1795950000
    assert parse_time("time", 5) == 5
    for wrong in (True, None, "", "1e400", 10**400, float("inf"), [1]):
        with pytest.raises(ValueError, match=re.escape("time: expected a time such as ")):
            parse_time("time", wrong)
