"""``memhop store search``, ``delete``, ``compact`` and ``info``."""

import json
import sys
from pathlib import Path

import pytest
import torch

from memhop import Store
from memhop.retrieval import RetrievalModel

from ..conftest import Program
from .conftest import DIM, write_records

ENCODE = ["--encoder", "hashing:encode"]


def test_queries_of_each_kind(memhop: Program, store: str) -> None:
    write_records(
        "queries.jsonl", [{"id": "a"}, {"text": "green"}, {"vector": [0, 0, 0, 1]}, {"id": 7}]
    )
    arguments = ["--text", "red", "--id", "7", "--id", "c", "--vector", "[0, 0, 0, 1]"]
    output = memhop(
        "store", "search", store, *arguments, "--queries", "queries.jsonl", *ENCODE,
        "-k", "1", "--json",
    ).ok()  # fmt: skip
    found = json.loads(output.out)
    assert [one["hops"][0]["ids"] for one in found] == [
        ["a"], [7], ["c"], ["d"], ["a"], [7], ["d"], [7]
    ]  # fmt: skip
    assert [next(iter(one.items())) for one in found] == [
        ("text", "red"), ("id", "7"), ("id", "c"), ("vector", "[0, 0, 0, 1]"), ("id", "a"),
        ("text", "green"), ("vector", [0, 0, 0, 1]), ("id", 7),
    ]  # fmt: skip
    with Store(store, read_only=True) as opened:
        [[hits]] = opened.search([1.0, 0, 0, 0], k=1)
    [hop] = found[0]["hops"]
    assert hop == {
        "ids": ["a"], "texts": ["red"], "payloads": [{"n": 1}], "times": [10.0],
        "weights": [pytest.approx(hits.weights[0])], "covered": pytest.approx(hits.covered),
        "scores": [1.0],
    }  # fmt: skip


def test_the_rows_as_text(memhop: Program, store: str) -> None:
    search = ["store", "search", store]
    out = memhop(*search, "--id", "d", "-k", "1").ok().out + "\n"
    out += memhop(*search, "--vector", "[1,0,2,0]", "-k", "2").ok().out
    assert out == (
        "id d\n"
        "1 row by inner product\n"
        "    4.0000  d  two lines \\x1b[31m\n"
        "\n"
        "vector [1,0,2,0]\n"
        "2 rows by inner product\n"
        '    3.0000  c  {"n": 2, "at": {"x": "y"}}\n'
        "    1.0000  a  red\n"
    )
    RetrievalModel(DIM, DIM, 2).save("model")
    out = memhop("store", "search", store, "--id", "a", "--hops", "model", "-k", "1").ok().out
    assert out == (
        "id a\n"
        "hop 1: 1 row with 100.0% of its attention\n"
        "  1.0000 \u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2588 a  red\n"
        "hop 2: 1 row with 100.0% of its attention\n"
        "  1.0000 \u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2588 a  red\n"
    )


def test_no_row_is_read(memhop: Program, store: str) -> None:
    RetrievalModel(DIM, DIM, 2).save("model")
    query = ["store", "search", store, "--vector", "[1,0,0,0]"]
    for limit in (["--where", "nosuch=3"], ["--since", "9999-01-01"]):
        for hops in ([], ["--hops", "model"]):
            out = memhop(*query, *limit, *hops).ok().out
            assert out == "vector [1,0,0,0]\nno row passes the filter\n"
    memhop("store", "delete", store, "a", "7", "c", "d").ok()
    assert memhop(*query).ok().out == "vector [1,0,0,0]\nthe store has no row\n"


def test_long_texts_and_ids_fit_into_the_terminal(memhop: Program, store: str) -> None:
    vector = [5, 0, 0, 0]
    write_records("long.jsonl", [
        {"id": "i" * 90, "vector": vector, "text": "\u6f22" * 200}, {"id": "e", "vector": vector},
        {"id": "\x1b[2J", "vector": vector, "text": "[bold]" * 50}, {"id": "", "vector": vector},
    ])  # fmt: skip
    memhop("store", "add", store, "long.jsonl").ok()
    out = memhop("store", "search", store, "--vector", "[1,0,0,0]").ok().out
    assert "\x1b" not in out
    assert "iiiiiiiiiiiiiiiiiii\u2026" in out
    assert "[bold][bold]" in out
    from rich.cells import cell_len

    assert max(map(cell_len, out.splitlines())) <= 80


def test_a_model_is_a_folder_or_a_run(memhop: Program, store: str) -> None:
    torch.manual_seed(0)
    RetrievalModel(DIM, DIM, 3).save("runs/hops")
    line = ["store", "search", store, "--id", "c", "--json", "--hops"]
    by_name = json.loads(memhop(*line, "hops").ok().out)
    assert len(by_name[0]["hops"]) == 3
    assert by_name == json.loads(memhop(*line, "runs/hops").ok().out)
    assert by_name[0]["hops"][0]["scores"] is None
    RetrievalModel(6, 4, 1).save("facts")
    assert "expected a RetrievalModel of passages" in memhop(*line, "facts").error()
    assert memhop(*line, "no").error() == "no run 'no'; under runs/: hops"


def test_filters(memhop: Program, store: str) -> None:
    def ids(*limits: str) -> set[str | int]:
        line = ["store", "search", store, "--vector", "[1,1,1,1]", "--json", *limits]
        return set(json.loads(memhop(*line).ok().out)[0]["hops"][0]["ids"])

    assert ids() == {"a", 7, "c", "d"}
    assert ids("--where", "n=2") == {7, "c"}
    assert ids("--where", "n=1", "--where", "n=2") == {"a", 7, "c"}
    assert ids("--where", "n=2", "--where", "at.x=y") == {"c"}
    for digits in (400, 5000):
        assert ids("--where", f"n={'9' * digits}") == set()
    assert ids("--since", "20", "--until", "1970-01-01T00:00:30Z") == {7}
    assert ids("--since", "1970-01-01T00:00:21") == {"c", "d"}
    line = ["store", "search", store, "--id", "a"]
    assert memhop(*line, "--where", "n").error() == "--where: expected FIELD=VALUE, got 'n'"
    assert memhop(*line, "--where", 'a"b=1').error().startswith("where: expected names of fields")
    assert memhop(*line, "--since", "noon").error() == (
        "--since: expected a time such as 2026-11-29T12:00Z or seconds since 1970, got 'noon'"
    )


def test_errors_of_one_line(memhop: Program, store: str) -> None:
    write_records("both.jsonl", [{"id": "a"}, {"id": "a", "text": "red"}])
    write_records("unknown.jsonl", [{"id": "b"}])
    write_records("short.jsonl", [{"vector": [1]}])
    write_records("number.jsonl", [{"text": 7}])
    encoder = "a text needs --encoder MODULE:FUNCTION, that of the rows"
    here = Path(store).absolute()
    cases = {
        (): "expected a query: --text, --id, --vector or --queries",
        ("--text", "red"): encoder,
        ("--text", "red", "--encoder", "hashing:narrow"):
            "encoder: expected vectors of 4 numbers, got 2",
        ("--text", "red", "--encoder", "hashing:fails"):
            "the encoder failed: OSError: no model",
        ("--id", "b"): f"{here}: no such id: 'b'",
        ("--id", "8"): f"{here}: no such id: '8'",
        ("--vector", "red"): "--vector: expected a JSON list, got 'red'",
        ("--vector", "[1, 2]"): "vector: expected 4 numbers, got 2",
        ("--queries", "both.jsonl"):
            "both.jsonl:2: expected a vector, a text or an id, got text and id",
        ("--queries", "unknown.jsonl"): f"unknown.jsonl:1: {here}: no such id: 'b'",
        ("--queries", "short.jsonl"): "short.jsonl:1: vector: expected 4 numbers, got 1",
        ("--queries", "number.jsonl", *ENCODE):
            "number.jsonl:1: text 0: expected a text to encode, got 7",
        ("--queries", "no.jsonl"): "no.jsonl: no such file",
        ("--id", "a", "-k", "0"): "Invalid value for '-k'",
    }  # fmt: skip
    for arguments, expected in cases.items():
        assert memhop("store", "search", store, *arguments).error().startswith(expected)
    error = memhop("store", "search", "other", "--id", "a").error()
    assert error == "other: no such store; memhop store create makes one"
    Path("empty").mkdir()
    for command in ("info", "compact"):
        assert memhop("store", command, "empty").error().startswith(str(Path("empty").absolute()))


def test_delete_compact_and_info(memhop: Program, store: str) -> None:
    error = memhop("store", "delete", store, "a", "b").error()
    assert error == f"{Path('notes').absolute()}: no such id: 'b'"
    assert memhop("store", "delete", store, "a", "7", "a").ok().out == (
        "deleted 2 rows from notes; 2 rows left\n"
    )
    found = json.loads(memhop("store", "info", store, "--json").ok().out)
    assert {**found, "bytes": 0} == {
        "store": "notes", "rows": 2, "deleted": 2, "dim": 4,
        "dtype": "float32", "generation": 1, "bytes": 0,
    }  # fmt: skip
    lines = memhop("store", "info", store).ok().out.splitlines()
    assert lines[:2] == ["notes: 2 rows, 2 deleted", "vectors of 4 numbers in float32"]
    assert (
        memhop("store", "compact", store)
        .ok()
        .out.startswith("notes: removed 2 rows; 2 rows left\n")
    )
    found = json.loads(memhop("store", "compact", store, "--json").ok().out)
    assert (found["rows"], found["removed"], found["deleted"]) == (2, 0, 0)
    found = json.loads(memhop("store", "delete", store, "c", "--json").ok().out)
    assert found == {"deleted": 1, "rows": 1}
    with Store(store, read_only=True) as opened:
        assert opened.get(["d"])[0].text == "two\nlines \x1b[31m"


def test_another_writer_is_a_one_line_error(memhop: Program, store: str) -> None:
    with Store(store):
        error = memhop("store", "delete", store, "a").error()
        assert error.startswith(str(Path("notes").absolute()))
        memhop("store", "search", store, "--id", "a").ok()
        memhop("store", "info", store).ok()


def test_an_id_that_looks_like_a_number(memhop: Program, store: str) -> None:
    write_records("ids.jsonl", [{"id": "8", "vector": [3, 0, 0, 0]},
                                {"id": "07", "vector": [4, 0, 0, 0]},
                                {"id": "7", "vector": [5, 0, 0, 0]}])  # fmt: skip
    memhop("store", "add", store, "ids.jsonl").ok()
    for name, first in (("8", 9.0), ("07", 16.0), ("7", 1.0)):
        [found] = json.loads(
            memhop("store", "search", store, "--id", name, "--json", "-k", "9").ok().out
        )
        hop = found["hops"][0]
        scores = dict(zip(map(repr, hop["ids"]), hop["scores"], strict=True))
        assert scores["7" if name == "7" else repr(name)] == first


def test_the_encoder_is_imported_from_the_current_folder_only_on_request(
    memhop: Program, store: str
) -> None:
    memhop("store", "search", store, "--id", "a").ok()
    assert "hashing" not in sys.modules
    memhop("store", "search", store, "--text", "red", *ENCODE).ok()
    assert "hashing" in sys.modules
