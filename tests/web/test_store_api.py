"""The HTTP API for stores: the hits of the store, one-sentence errors, first rows."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from memhop import MemhopError, Store
from memhop.retrieval import RetrievalModel
from memhop.text.model import MemN2N
from memhop.web.limits import CONTENT
from memhop.web.models import Served, ServedStore, load

from .conftest import HOSTILE, Client, Reply, encode_colours, running

Stores = dict[str, ServedStore]


def ids(reply: Reply) -> list[list[Any]]:
    """Return the ids of each hop of an answer."""
    assert reply.status == 200, reply
    return [[row["id"] for row in hop["rows"]] for hop in reply.value["hops"]]


def test_the_list_of_models_has_stores(store_client: Client) -> None:
    notes, empty = store_client.get("/api/models").value[:2]
    assert notes == {
        "name": "notes", "kind": "store", "test_error": None, "words": 0, "memory_slots": None,
        "hops": 2, "facts": None, "entities": None, "rows": 5, "dim": 4, "has_encoder": True,
    }  # fmt: skip
    assert (empty["rows"], empty["hops"], empty["has_encoder"]) == (0, 1, False)


def test_an_answer_equals_the_hits_of_the_store(store_client: Client, stores: Stores) -> None:
    served = stores["notes"]
    value = store_client.search(id="r", rows=2).value
    [record] = served.store.get(["r"])
    [expected] = served.store.search(record.vector, served.hops, 2)
    assert (value["model"], value["text"]) == ("notes", None)
    assert value["query"] == {"id": "r", "text": "a red note", "payload": {"n": 0}, "time": 0.0}
    for hop, hits in zip(value["hops"], expected, strict=True):
        assert hop["covered"] == pytest.approx(hits.covered, abs=1e-6)
        for row, *own in zip(hop["rows"], hits.ids, hits.texts, hits.payloads, strict=True):
            assert [row["id"], row["text"], row["payload"]] == own
        assert [row["weight"] for row in hop["rows"]] == pytest.approx(hits.weights, abs=1e-6)
        assert {row["score"] for row in hop["rows"]} == {None}


def test_texts_are_encoded(store_client: Client) -> None:
    reply = store_client.search(text="the black one", rows=1)
    assert ids(reply) == [["k"], ["k"]]
    assert (reply.value["query"], reply.value["text"]) == (None, "the black one")


def test_ids_of_digits(store_client: Client) -> None:
    for name in (7, "7", 7.0):
        assert store_client.search(id=name).value["query"]["id"] == 7
    # a text, as it is beyond the exact integers of JavaScript
    assert store_client.search(id=str(2**62)).value["query"]["id"] == str(2**62)
    assert store_client.search(id=HOSTILE).value["query"]["text"] == HOSTILE


def test_an_unknown_row_has_no_answer(store_client: Client) -> None:
    for name in ("no", "b", "9" * 30, "\u0663", 8):  # b is deleted
        value = store_client.search(id=name).value
        assert value == {
            "model": "notes", "query": None, "text": None, "hops": [],
            "no_answer": f"no row with the id {name!r}",
        }  # fmt: skip
    assert store_client.search(id="r", model="empty").value["no_answer"]


def test_without_hops_there_are_scores(stores: Stores) -> None:
    served = stores["notes"]
    with running({"notes": served._replace(hops=None)}) as client:
        [hop] = client.search(id="r").value["hops"]
    assert {row["id"]: row["score"] for row in hop["rows"]} == {
        "r": 1.0, 7: 0.0, "k": 0.0, HOSTILE: -1.0, str(2**62): 0.0
    }  # fmt: skip


def test_the_first_rows(store_client: Client, tmp_path: Path) -> None:
    value = store_client.get("/api/store/rows").value
    assert [row["id"] for row in value["rows"]] == ["r", 7, "k", HOSTILE, str(2**62)]
    assert value["total"] == 5
    assert value["rows"][1] == {"id": 7, "text": "green", "payload": {"n": 1}, "time": 1.0}
    assert store_client.get("/api/store/rows?model=empty").value == {"rows": [], "total": 0}
    with Store(tmp_path / "many", 2) as store:
        store.add(torch.ones(200, 2), texts=["\u00e9" * (CONTENT + 1)] * 200,
                  payloads=[{"a": "\u00e9" * CONTENT}] * 200)  # fmt: skip
        store.delete(range(10, 20))
        with running({"many": ServedStore("many", store, None)}) as client:
            value = client.get("/api/store/rows").value
            assert [row["id"] for row in value["rows"]] == [*range(10), *range(20, 60)]
            assert value["total"] == 190
            assert value["rows"][0]["text"] == "\u00e9" * CONTENT
            assert value["rows"][0]["payload"] is None
            store.add(torch.ones(1, 2), ids=["new"])  # a row that comes later is found
            assert client.search(id="new").value["query"]["id"] == "new"
            store.compact()
            assert len(client.get("/api/store/rows").value["rows"]) == 50


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        ({"text": "red", "model": "empty"}, 404, "empty has no encoder: search by the id of a"),
        ({"id": "r", "model": "x"}, 404, "no model 'x'; expected one of notes, empty"),
        ({"id": "r", "model": "walks"}, 404, "walks answers questions about stories: use /api/ans"),
        ({"id": "r", "model": "films"}, 404, "films answers questions about facts: use /api/kb/a"),
        ({}, 422, "body.id: Field required"),
        ({"id": None}, 422, "body.id: Input should be a valid string"),
        ({"id": True}, 422, "body.id: Input should be a valid string"),
        ({"id": 2**53}, 422, "body.id: Input should be less than or equal to 9007199254740991"),
        ({"id": "a" * 1001}, 422, "body.id: String should have at most 1000 characters"),
        ({"id": "\ud800"}, 422, "body.id: Input should be a valid string"),
        ({"id": "r", "rows": 0}, 422, "body.rows: Input should be greater than or equal to 1"),
        ({"id": "r", "rows": 101}, 422, "body.rows: Input should be less than or equal to 100"),
        ({"id": "r", "k": 1}, 422, "body.k: Extra inputs are not permitted"),
        ({"text": "a" * 1001}, 422, "body.text: String should have at most 1000 characters"),
        ({"text": "red", "id": "r"}, 422, "body.id: Extra inputs are not permitted"),
        ({"text": "fail"}, 500, "the encoder failed"),
    ],
)
def test_an_invalid_request_gets_one_sentence(
    store_client: Client, asked: dict[str, Any], status: int, sentence: str
) -> None:
    detail = store_client.search(**asked).error(status)
    assert detail.startswith(sentence), detail
    assert len(detail) < 200


def test_requests_for_models_get_404(store_client: Client, client: Client) -> None:
    store = "notes is a store: use /api/store/search/row"
    story = {"story": ["Mary left."], "question": "Where is Mary?", "model": "notes"}
    assert store_client.ask(story).error(404) == store
    assert store_client.ask_facts("who?", model="notes").error(404) == store
    for path in ("tasks", "stories", "words", "kb/examples", "kb/relations"):
        assert store_client.get(f"/api/{path}?model=notes").error(404) == store
    assert client.search(id="r").error(404) == "this server has no store"
    assert client.get("/api/store/rows").error(404) == "this server has no store"


def test_stores_are_loaded_to_read_only(
    tmp_path: Path, model: MemN2N, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hops = RetrievalModel(4, 4, 3)
    model.save(tmp_path / "walks")
    with Store(tmp_path / "notes", 4) as writer:
        writer.add(torch.eye(4))
        runs = ["notes", "walks", str(tmp_path / "notes")]
        served = load(runs, encoder=encode_colours, hops=hops)
        assert list(served) == ["notes", "walks"]
        assert isinstance(served["walks"], Served)
        notes = served["notes"]
        assert isinstance(notes, ServedStore)
        assert (notes.num_hops, notes.store.encoder) == (3, encode_colours)
        with pytest.raises(MemhopError, match="read_only=True"):
            notes.store.delete([0])
        writer.delete([0])
        assert len(notes.store) == 3
        notes.store.close()
    model.save(tmp_path / "other" / "notes")
    for twice in (["notes", "other/notes"], ["other/notes", "notes"]):
        with pytest.raises(MemhopError, match="another model is called notes: rename one"):
            load(twice)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"hops": RetrievalModel(6, 4, 1)}, "expected hops over 4 numbers, got key_dim=6, value_"),
        ({"encoder": lambda texts: [[1.0]] * len(texts)}, "expected an encoder to 4 numbers, got"),
    ]  # fmt: skip
    for options, expected in cases:
        with pytest.raises(MemhopError, match=expected):
            load(["notes"], **options)
    with pytest.raises(MemhopError, match="no run 'a"):
        load(["a" * 5000])


def test_the_answer_is_valid_json_for_any_row(tmp_path: Path) -> None:
    with Store(tmp_path / "odd", 2) as store:
        store.add(torch.ones(1, 2), ids=["\0\x1b\u2028"], texts=["\0\x1b</script>"],
                  payloads=[{"\0": [None, 1e308, -0.0, {"deep": [[[[]]]]}]}])  # fmt: skip
        with running({"odd": ServedStore("odd", store, None)}) as client:
            value = json.loads(client.search(id="\0\x1b\u2028").body)
            assert value["query"]["payload"] == {"\0": [None, 1e308, -0.0, {"deep": [[[[]]]]}]}
