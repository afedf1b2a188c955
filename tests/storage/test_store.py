"""What a store keeps and returns, and what it refuses."""

import gc
import json
import math
import random
import re
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import memhop
from memhop import MemhopError, Quantized, ops
from memhop.storage.database import DTYPES
from memhop.storage.store import Store

VECTORS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store", dim=2) as store:
        yield store


def error_of(work: Any, *arguments: Any, **options: Any) -> str:
    """Return the message of a MemhopError, which is one line."""
    with pytest.raises(MemhopError) as caught:
        work(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_record_is_returned_as_it_was_added(store: Store) -> None:
    payload = {"a": [1, 2.5, None, True, {"b": "\ud800 \x00 é"}], "": -0.0}
    text, name = "a\x00b\n\U0001f600" * 1000, "x\x00y" + "z" * 100_000
    ids = store.add(VECTORS, ids=[name, -(2**63), ""], texts=[text, "", None],
                    payloads=[payload, {}, None], times=[-1.5, 0, 1e300])  # fmt: skip
    assert ids == [name, -(2**63), ""]
    found = store.get(ids)
    assert [record.id for record in found] == ids
    assert [record.vector.tolist() for record in found if record.vector is not None] == VECTORS
    assert [record.text for record in found] == [text, "", None]
    assert [record.payload for record in found] == [payload, {}, None]
    assert [record.time for record in found] == [-1.5, 0.0, 1e300]


def test_times_are_now_if_they_are_not_given(store: Store) -> None:
    before = time.time()
    store.add(VECTORS)
    assert all(before <= record.time <= time.time() for record in store.get([0, 1, 2]))


def test_automatic_ids_are_never_used_twice(store: Store) -> None:
    assert store.add(VECTORS) == [0, 1, 2]
    store.delete([1, 2])
    assert store.add(VECTORS[0], ids=[7]) == [7]
    assert store.add(VECTORS) == [8, 9, 10]
    store.compact()
    store.add([[0.0, 0.0]], ids=[2])
    assert store.add(VECTORS[0]) == [11]
    store.add(VECTORS[0], ids=[2**63 - 1])
    assert "no more automatic ids" in error_of(store.add, VECTORS[0])
    assert [record.id for record in store.get([0, 2, 7, 8])] == [0, 2, 7, 8]


def test_1_and_its_text_are_different_ids(store: Store) -> None:
    store.add(VECTORS[:2], ids=[1, "1"])
    assert store.delete(["1"]) == 1
    assert store.get([1])[0].id == 1
    assert "no such id: '1'" in error_of(store.get, ["1"])


def test_the_ids_that_a_store_contains(store: Store) -> None:
    store.add(torch.zeros(3, 2), ids=["a", 5, "\0"])
    store.delete(["\0"])
    assert "a" in store
    assert 5 in store
    for no_id in ("5", "b", "\0", 5.0, True, None, 2**70, "\ud800", [], ["a"]):
        assert no_id not in store


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
def test_vectors_have_the_dtype_of_the_store(tmp_path: Path, dtype: torch.dtype) -> None:
    vectors = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    with Store(tmp_path / "store", 5, dtype) as store:
        store.add(vectors)
        memories = store.snapshot().memories
        records = store.get(range(50))
        read = ops.read(vectors[0], memories)
    got = torch.stack([record.vector for record in records if record.vector is not None])
    if dtype is torch.int8:
        assert isinstance(memories, Quantized)
        memories, expected = memories.dequantized(), Quantized.of(vectors).dequantized()
    else:
        assert isinstance(memories, torch.Tensor)
        assert memories.dtype == dtype
        expected = vectors.to(dtype).float()
    assert torch.equal(memories.float(), expected)
    assert torch.equal(got, expected)
    assert torch.isfinite(read).all()


def test_an_empty_store_has_an_empty_memory(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.int8):
        with Store(tmp_path / str(dtype), 5, dtype) as store:
            memories, mask, ids = store.snapshot(where={"a": 1})
            assert (memories.shape, mask, list(ids)) == ((0, 5), None, [])
            assert store.add([]) == store.add([], texts=[]) == []
            assert store.get([]) == []
            assert store.delete([]) == len(store) == store.num_rows == 0
            store.update([])
            store.compact()


def test_the_memories_are_the_file_and_later_changes_do_not_change_them(store: Store) -> None:
    store.add(VECTORS)
    memories, mask, ids = store.snapshot()
    assert isinstance(memories, torch.Tensor)
    assert mask is None
    assert store.snapshot().memories is memories  # mapped once
    store.update([0], vectors=[[9.0, 9.0]])
    store.delete([2])
    assert memories.tolist() == VECTORS
    assert list(ids) == ids[:] == [0, 1, 2]
    assert store.snapshot().padding_mask.tolist() == [True, False, True, False]  # type: ignore[union-attr]
    store.compact()
    assert memories.tolist() == VECTORS
    assert "the store was compacted (generation 2, the snapshot is of 1)" in error_of(list, ids)
    assert "take a new snapshot" in error_of(store.records, [0], generation=1)
    store.close()
    assert memories.tolist() == VECTORS
    assert "the store is closed" in error_of(list, ids)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 9])
def test_shards_are_the_snapshot(store: Store, num_ranks: int) -> None:
    store.add(
        torch.arange(14.0).view(7, 2), ids=list("abcdefg"), payloads=[{"n": n} for n in range(7)]
    )
    store.delete(["b"])
    memories, mask, ids = store.snapshot(where={"n": [0, 1, 2, 6]})
    shards = [store.shard(rank, num_ranks, where={"n": [0, 1, 2, 6]}) for rank in range(num_ranks)]
    assert [name for shard in shards for name in shard.ids] == list(ids)
    assert [shard.ids[-1] for shard in shards if len(shard.ids)][-1] == "g"
    assert isinstance(memories, torch.Tensor)
    assert torch.equal(torch.cat([shard.memories for shard in shards]), memories)  # type: ignore[misc]
    assert mask is not None
    assert torch.equal(torch.cat([shard.padding_mask for shard in shards]), mask)  # type: ignore[misc]
    assert "rank: expected an integer from 0" in error_of(store.shard, num_ranks, num_ranks)


def test_ids_are_a_sequence(store: Store) -> None:
    store.add(torch.zeros(5000, 2))
    store.add(torch.zeros(2, 2), ids=["a", "b"])
    store.add(torch.zeros(3000, 2))
    expected = [*range(5000), "a", "b", *range(5000, 8000)]
    ids = store.snapshot().ids
    assert list(ids) == expected
    assert len(ids) == 8002
    assert ids[-1] == 7999
    assert ids[5001] == "b"
    for index in (slice(10), slice(4998, 5004), slice(None, None, 777), slice(-3, 0, -1000)):
        assert ids[index] == expected[index]
    assert ids[5:5] == []
    assert ids.index("b") == 5001
    with pytest.raises(IndexError):
        ids[8002]


def test_records_of_rows_have_no_vector(store: Store) -> None:
    store.add(VECTORS, texts=["a", "b", "c"])
    store.delete([1])
    assert [(one.id, one.text, one.vector) for one in store.records([2, 1])] == [
        (2, "c", None), (1, "b", None)]  # fmt: skip
    assert "row: expected an integer from 0 to 2, got 3" in error_of(store.records, [3])


def test_an_update_appends_and_keeps_what_is_not_given(store: Store) -> None:
    store.add(VECTORS[:2], texts=["a", "b"], payloads=[{"n": 1}, {"n": 2}], times=[1, 2])
    store.update([1, 0], texts=["B", None])
    assert store.snapshot().ids[:] == [0, 1, 1, 0]
    b, a = store.get([1, 0])
    assert (a.text, a.payload, a.time, b.text, b.payload, b.time) == (
        None, {"n": 1}, 1.0, "B", {"n": 2}, 2.0)  # fmt: skip
    store.update([0], [[7, 8]], payloads=[None], times=[5])
    (record,) = store.get([0])
    assert record[2:] == (None, None, 5.0)
    assert record.vector is not None
    assert record.vector.tolist() == [7.0, 8.0]
    assert (len(store), store.num_rows) == (2, 5)


def test_an_encoder_makes_vectors_of_texts(tmp_path: Path) -> None:
    def encoder(texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), 0.0] for text in texts]

    with Store(tmp_path / "store", 2, encoder=encoder) as store:
        store.add(texts=["abc", "d"])
        store.add(VECTORS[0], texts=["given"])
        store.update([0], texts=["changed"])
        store.update([1], vectors=[[0, 5]], texts=["both"])
        vectors = [
            record.vector.tolist() for record in store.get([0, 1, 2]) if record.vector is not None
        ]
        assert vectors == [[1.0, 0.0], [0.0, 5.0], [1.0, 2.0]]
        assert "expected a text, got None at 0" in error_of(store.add, texts=[None])
        store.encoder = lambda texts: [[1.0, 2.0, 3.0]] * len(texts)
        assert "expected finite numbers [n, 2], got the shape [1, 3]" in error_of(
            store.add, texts=["x"]
        )


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ({}, "add: expected vectors, or texts and an encoder of the store"),
        ({"texts": ["a"]}, "add: expected vectors, or texts and an encoder of the store"),
        ({"vectors": [[1.0, math.nan]]}, "finite numbers [n, 2] in float32, got others in row 0"),
        ({"vectors": [[1, 2], [-math.inf, math.inf]]}, "got others in row 1"),
        ({"vectors": np.array([[1e39, 0]])}, "got others in row 0"),
        ({"vectors": [[3e38, 3e38], [1, math.inf]]}, "got others in row 1"),
        ({"vectors": [[1, 2, 3]]}, "vectors: expected finite numbers [n, 2], got the shape [1, 3]"),
        ({"vectors": [[[1, 2]]]}, "got the shape [1, 1, 2]"),
        ({"vectors": 1.0}, "got the shape []"),
        ({"vectors": "ab"}, "vectors: expected finite numbers [n, 2], got 'ab'"),
        ({"vectors": [[1j, 2]]}, "got complex64"),
        ({"vectors": [[True, False]]}, "got bool"),
        ({"vectors": torch.eye(2).to_sparse()}, "got the layout sparse_coo"),
        ({"vectors": VECTORS, "ids": [1, 2]}, "ids: expected 3, one for each row, got 2"),
        ({"vectors": VECTORS, "ids": "abc"}, "ids: expected a list, got 'abc'"),
        ({"vectors": VECTORS, "ids": [1, 2, 1]}, "ids: expected distinct ids, got 1 twice"),
        ({"vectors": VECTORS, "ids": [1, 2, True]}, "an integer of 64 bits, got True at 2"),
        ({"vectors": VECTORS, "ids": [1, 2.0, 3]}, "an integer of 64 bits, got 2.0 at 1"),
        ({"vectors": VECTORS, "ids": [2**63, 2, 3]}, "of 64 bits, got 9223372036854775808 at 0"),
        ({"vectors": VECTORS, "ids": [None, 2, 3]}, "got None at 0"),
        ({"vectors": VECTORS, "ids": ["\ud800", 2, 3]}, "ids: expected a text that UTF-8 can"),
        ({"vectors": VECTORS, "texts": ["a"] * 2}, "texts: expected 3, one for each row, got 2"),
        ({"vectors": VECTORS, "texts": ["a", "\udfff", ""]}, "texts: expected a text that UTF-8"),
        ({"vectors": VECTORS, "texts": ["a", 5, ""]}, "texts: expected a text, got 5 at 1"),
        ({"vectors": VECTORS, "payloads": {}}, "payloads: expected a list, got {}"),
        ({"vectors": VECTORS, "payloads": [{}, [], {}]}, "a JSON object, at 1, got []"),
        ({"vectors": VECTORS, "payloads": [{"a": math.nan}] * 3}, "a JSON object, at 0: Out of"),
        ({"vectors": VECTORS, "payloads": [{1: 2}] * 3}, "got {1: 2}, which JSON changes"),
        ({"vectors": VECTORS, "payloads": [{"a": (1,)}] * 3}, "which JSON changes"),
        ({"vectors": VECTORS, "payloads": [{"a": object()}] * 3}, "a JSON object, at 0: Object of"),
        ({"vectors": VECTORS, "times": [1, 2]}, "times: expected 3, one for each row, got 2"),
        ({"vectors": VECTORS, "times": [1, 2, math.inf]}, "times, at 2: expected seconds since"),
        ({"vectors": VECTORS, "times": [1, 2, True]}, "expected seconds since 1970, got True"),
        ({"vectors": VECTORS, "times": [1, 2, 10**400]}, "expected seconds since 1970"),
    ],
)
def test_a_wrong_argument_is_one_line_and_changes_nothing(
    store: Store, arguments: dict[str, Any], needed: str
) -> None:
    store.add(VECTORS[0])
    assert needed in error_of(store.add, **arguments)
    assert (len(store), store.num_rows, store.add(VECTORS[0])) == (1, 1, [1])


def test_a_payload_may_not_be_nested_too_deeply(store: Store) -> None:
    payload: dict[str, Any] = {}
    for _ in range(100_000):
        payload = {"a": payload}
    assert "payloads: expected a JSON object, at 0" in error_of(
        store.add, VECTORS[0], payloads=[payload]
    )


def test_a_change_is_whole_or_not_at_all(store: Store) -> None:
    store.add(VECTORS, ids=["a", "b", "c"])
    assert "no such id: 'x'" in error_of(store.delete, ["a", "x"])
    assert "no such id: 'x'" in error_of(store.update, ["a", "x"], texts=["1", "2"])
    assert "expected new ids, got 'c', which is in the store" in error_of(
        store.add, VECTORS, ids=["d", "c", "e"]
    )
    assert "vectors: expected 1, one for each id, got 3" in error_of(store.update, ["a"], VECTORS)
    assert (len(store), store.num_rows) == (3, 3)
    store.delete(["a"])
    assert "no such id: 'a'" in error_of(store.delete, ["a"])
    assert store.add(VECTORS[0], ids=["a"]) == ["a"]


def test_numbers_of_arrays_and_tensors_are_ids(store: Store) -> None:
    store.add(VECTORS)
    assert [record.id for record in store.get(np.array([2, 0]))] == [2, 0]
    assert store.delete(torch.tensor([1])) == 1


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ({}, "expected a store, found no store.db"),
        ({"dim": 0}, "dim: expected an integer from 1 to 1,000,000, got 0"),
        ({"dim": True}, "dim: expected an integer"),
        ({"dim": 2, "dtype": torch.float64}, "dtype: expected one of float32, bfloat16, float16"),
        ({"dim": 2, "read_only": True}, "expected a store, found no store.db"),
    ],
)
def test_a_store_needs_dim_and_dtype_to_be_created(
    tmp_path: Path, arguments: dict[str, Any], needed: str
) -> None:
    assert needed in error_of(Store, tmp_path / "store", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_store_keeps_its_dim_and_dtype(tmp_path: Path) -> None:
    Store(tmp_path / "store", 2, torch.int8).close()
    with Store(tmp_path / "store", 2, torch.int8) as store:
        assert repr(store) == f"Store('{tmp_path / 'store'}', dim=2, dtype=int8)"
    assert "expected dim 2, got 3" in error_of(Store, tmp_path / "store", 3)
    assert "expected dtype int8, got float32" in error_of(
        Store, tmp_path / "store", dtype=torch.float32
    )
    Store(tmp_path / "store").close()  # the errors have released the lock


def test_filters_equal_those_in_python(tmp_path: Path) -> None:
    rng = random.Random(0)
    values = [
        "a",
        "b",
        1,
        1.0,
        2,
        True,
        False,
        None,
        "1",
        "true",
        2.5,
        "é\n",
        2**70,
        10**400,
        -(10**400),
        "",
        "a\x00b",
        "a\x00",
        "\ud800",
    ]
    rows = [({"f": rng.choice(values), "g": {"h": rng.choice(values)}}, rng.random())
            for _ in range(300)]  # fmt: skip
    payloads = [payload if rng.random() < 0.9 else None for payload, _ in rows]

    def same(value: Any, option: Any) -> bool:
        return value == option and (isinstance(value, bool) == isinstance(option, bool))

    with Store(tmp_path / "store", 1) as store:
        store.add(torch.zeros(300, 1), payloads=payloads, times=[moment for _, moment in rows])
        store.add(torch.zeros(40, 1))  # without payloads, of now
        store.delete(range(0, 300, 7))
        for _ in range(60):
            names = rng.sample(["f", "g.h", "missing"], rng.choice([0, 1, 1, 2]))
            wanted = (rng.choice([rng.choice(values), rng.sample(values, 3), []]) for _ in names)
            where = dict(zip(names, wanted, strict=True))
            since, until = (rng.choice([None, rng.random()]) for _ in range(2))
            mask = store.snapshot(where=where, since=since, until=until).padding_mask
            expected = []
            for row in range(340):
                payload, moment = (
                    (payloads[row], rows[row][1]) if row < 300 else (None, time.time())
                )
                is_in = row >= 300 or row % 7 != 0
                for name, options in where.items():
                    steps = name.split(".")
                    found = payload is not None and steps[0] in payload
                    value: Any = payload[steps[0]] if found and payload else None
                    value = value[steps[1]] if found and len(steps) == 2 else value
                    options = options if isinstance(options, list) else [options]
                    is_in &= found and any(same(value, option) for option in options)
                is_in &= since is None or since <= moment
                is_in &= until is None or moment < until
                expected.append(not is_in)
            assert mask is not None
            assert mask.tolist() == expected, (where, since, until)


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ({"where": ["a"]}, "where: expected values by names of fields, got ['a']"),
        (
            {"where": {1: 2}},
            "names of fields without quotes, backslashes and control characters, got 1",
        ),
        ({"where": {'a"b': 2}}, "names of fields without quotes"),
        ({"where": {"a\x01": 2}}, "names of fields without quotes"),
        ({"where": {"a..b": 2}}, "names of fields without quotes"),
        ({"where": {"a": {}}}, "expected texts, numbers, True, False or None for 'a', got {}"),
        ({"where": {"a": list(range(10_001))}}, "where: expected at most 10000 values, got 10001"),
        (
            {"where": {"a": [0] * 6000, "b": [0] * 6000}},
            "where: expected at most 10000 values, got 12000",
        ),
        (
            {"where": dict.fromkeys(map(str, range(1500)), 1)},
            "where: expected at most 100 fields, got 1500",
        ),
        ({"since": 10**5000}, "since: expected seconds since 1970, got int with too many digits"),
        ({"where": {"a": {1: -(10**5000)}}}, "for 'a', got dict with too many digits"),
        ({"since": "now"}, "since: expected seconds since 1970, got 'now'"),
        ({"until": math.nan}, "until: expected seconds since 1970, got nan"),
    ],
)
def test_a_wrong_filter_is_one_line(store: Store, arguments: dict[str, Any], needed: str) -> None:
    store.add(VECTORS, payloads=[{"a": 1}] * 3)
    assert needed in error_of(store.snapshot, **arguments)


def test_fields_with_odd_names_are_found(store: Store) -> None:
    names = ["$", "[0]", "a b", "é", "'", "%", "\x7f"]
    store.add([[0, 0]], payloads=[dict.fromkeys(names, 1)])
    for name in names:
        assert store.snapshot(where={name: 1}).padding_mask is None, name


def test_many_values_are_one_filter(store: Store) -> None:
    store.add(torch.zeros(50, 2), payloads=[{"a": number} for number in range(50)])
    mask = store.snapshot(where={"a": list(range(5, 9_000))}).padding_mask
    assert mask is not None
    assert mask.sum() == 5


def test_a_filter_may_be_as_large_as_the_limits(store: Store) -> None:
    names = [f"f{place}" for place in range(100)]
    store.add(torch.zeros(2, 2), payloads=[dict.fromkeys(names, "é7"), {"f0": "é7"}])
    where = {name: [None, 7, *(f"é{value}" for value in range(98))] for name in names}
    mask = store.snapshot(where=where).padding_mask
    assert mask is not None
    assert mask.tolist() == [False, True]


def test_several_threads_use_one_store(store: Store) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(15):
                name = f"{number}/{turn}"
                store.add([[number, turn]], ids=[name], texts=[name])
                assert store.get([name])[0].text == name
                memories, _, ids = store.snapshot()
                assert len(list(ids)) == len(memories)
                if turn % 3 == 0:
                    store.delete([name])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(store) == 40


def test_memhop_names_the_store() -> None:
    assert memhop.Store is Store
    assert "Store" in dir(memhop)
    with pytest.raises(AttributeError, match=re.escape("has no attribute 'Stores'")):
        memhop.Stores  # noqa: B018


def test_json_of_lone_surrogates_is_escaped(store: Store, tmp_path: Path) -> None:
    store.add([[0, 0]], payloads=[{"a": "\ud800"}])
    assert json.dumps(store.get([0])[0].payload) == '{"a": "\\ud800"}'


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_a_lazy_negation_is_stored(tmp_path: Path, dtype: torch.dtype) -> None:
    vectors = torch._neg_view(torch.eye(2).to(torch.float32 if dtype == torch.int8 else dtype))
    with Store(tmp_path / "store", 2, dtype) as store:
        store.add(vectors)
        store.update([0], vectors[0])
        assert [record.vector.tolist() for record in store.get([0, 1])] == [[-1, 0], [0, -1]]  # type: ignore[union-attr]


def test_a_closed_store_lets_its_rows_go(store: Store) -> None:
    store.add(VECTORS)
    memories = weakref.ref(store.snapshot().memories)
    gc.collect()
    assert memories() is not None  # kept for the next snapshot
    store.close()
    gc.collect()
    assert memories() is None
