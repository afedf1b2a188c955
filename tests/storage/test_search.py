"""Reading and searching a store, against dense float64 NumPy over the rows that may be read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memhop import MemhopError, MemoryHop, MemoryNetwork, MultiHop
from memhop.ops.inputs import Stored
from memhop.ops.streamed import Ranges, StreamedMemory
from memhop.retrieval import RetrievalModel
from memhop.storage import search as search_module
from memhop.storage.search import Hops, StoreHits
from memhop.storage.snapshot import Snapshot
from memhop.storage.store import Store
from tests.seeds import seeds

DIM = 8
KINDS = ("none", "hop", "hops", "heads", "network", "retrieval")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8)
Array = np.ndarray[Any, np.dtype[np.float64]]


def drawn_hops(kind: str, random: np.random.Generator) -> Hops | None:
    """Return random hops of a kind over vectors of DIM numbers."""
    torch.manual_seed(int(random.integers(2**31)))
    num_hops = int(random.integers(1, 4))
    if kind == "none":
        return None
    if kind == "hop":
        return MemoryHop(DIM, 6)
    if kind == "network":
        return MemoryNetwork.build(input_dim=DIM, memory_dim=6, num_hops=num_hops, output_dim=3)
    if kind == "retrieval":
        model = RetrievalModel(DIM, DIM, num_hops)
        nn.init.normal_(model.question_maps)
        nn.init.normal_(model.log_scale)
        return model
    return MultiHop(DIM, 6, num_hops, num_heads=1 if kind == "hops" else 3)


def query_dim(hops: Hops | None) -> int:
    return DIM if hops is None or isinstance(hops, RetrievalModel | MemoryNetwork) else 6


def softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def in_float64(tensor: Tensor | None) -> Array:
    assert tensor is not None
    return np.asarray(tensor.detach().double().numpy())


def oracle(hops: Hops | None, query: Array, rows: Array) -> tuple[Array, Array]:
    """Return the result of one query, and the attention of each hop, [K, N]."""
    if hops is None:
        weights = softmax(rows @ query)
        return weights @ rows, weights[None]
    state = {name: in_float64(one) for name, one in hops.state_dict().items()}
    attention: list[Array] = []
    if isinstance(hops, RetrievalModel):
        read = np.zeros(DIM)
        for matrix in state["question_maps"]:
            attention.append(softmax(rows @ (np.exp(state["log_scale"]) * (read + matrix @ query))))
            read = attention[-1] @ rows
        return read, np.array(attention)
    layer, prefix = (hops.hops, "hops.") if isinstance(hops, MemoryNetwork) else (hops, "")
    if isinstance(hops, MemoryNetwork):
        query = state["query_proj.weight"] @ query + state["query_proj.bias"]
    for number in range(layer.num_hops):
        own = prefix + ("" if isinstance(hops, MemoryHop) else f"{number}.")
        keys, values = (
            rows @ state[f"{own}embed_{side}.weight"].T + state[f"{own}embed_{side}.bias"]
            for side in "ac"
        )
        heads = [slice(start, start + 6 // layer.num_heads)
                 for start in range(0, 6, 6 // layer.num_heads)]  # fmt: skip
        of_heads = [softmax(keys[:, head] @ query[head]) for head in heads]
        query = query + np.concatenate(
            [one @ values[:, head] for one, head in zip(of_heads, heads, strict=True)]
        )
        attention.append(np.mean(of_heads, axis=0))
    if isinstance(hops, MemoryNetwork):
        query = state["output_proj.weight"] @ query + state["output_proj.bias"]
    return query, np.array(attention)


class Drawn(NamedTuple):
    """A store after random changes, a filter, and the rows that the filter lets through."""

    store: Store
    where: dict[str, Any] | None
    since: float | None
    ids: list[str | int]


def drawn_store(path: Path, random: np.random.Generator, dtype: torch.dtype) -> Drawn:
    store = Store(path, DIM, dtype)
    num_rows = int(random.integers(1, 30))
    ids = store.add(
        random.standard_normal((num_rows, DIM)),
        ids=[f"row {i}" if i % 2 else i for i in range(num_rows)],
        texts=[f"text {i}" for i in range(num_rows)],
        payloads=[{"group": int(random.integers(2))} for _ in range(num_rows)],
        times=[float(i) for i in range(num_rows)],
    )
    changed = [one for one in ids if random.random() < 0.3]
    if changed:
        store.update(changed, random.standard_normal((len(changed), DIM)))
    deleted = {one for one in ids if random.random() < 0.3}
    if deleted:
        store.delete(list(deleted))
    where = {"group": 0} if random.random() < 0.4 else None
    since = float(random.integers(10)) if random.random() < 0.3 else None
    live = store.get([one for one in ids if one not in deleted])
    readable = [
        one.id for one in live
        if (where is None or one.payload == where) and (since is None or one.time >= since)
    ]  # fmt: skip
    return Drawn(store, where, since, readable)


def check_hits(hits: StoreHits, expected: Array, ids: list[str | int], k: int) -> None:
    """Check the hits of a hop against the weights of all rows that may be read."""
    weights = dict(zip(ids, expected, strict=True))
    best = sorted(expected, reverse=True)[:k]
    if hits.scores is None:  # a weight that is 0 in float32 is no hit
        best = [one for rank, one in enumerate(best) if rank < len(hits.ids) or one > 1e-37]
    own = [weights[one] for one in hits.ids]
    np.testing.assert_allclose([hits.weights, own], [best, best], rtol=2e-4, atol=1e-6)
    assert hits.covered == pytest.approx(sum(best), abs=1e-5)
    assert len(set(hits.ids)) == len(hits.ids) == len(best)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", seeds(4, 200))
def test_search_and_read_equal_the_formula(kind: str, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    dtype = DTYPES[seed % len(DTYPES)]
    hops = drawn_hops(kind, random)
    drawn = drawn_store(tmp_path / "store", random, dtype)
    rows = np.array([in_float64(one.vector) for one in drawn.store.get(drawn.ids)])
    queries = random.standard_normal((int(random.integers(1, 5)), query_dim(hops)))
    queries = queries.astype(np.float32)
    k = int(random.integers(1, 40))
    limits: dict[str, Any] = {"where": drawn.where, "since": drawn.since}
    found = drawn.store.search(queries, hops, k, **limits)
    read = drawn.store.read(queries, hops, **limits)
    assert len(found) == len(queries)
    for query, of_hops, result in zip(queries.astype(float), found, read, strict=True):
        if not drawn.ids:
            assert all(hits.ids == () and hits.covered == 0 for hits in of_hops)
            continue
        expected, attention = oracle(hops, query, rows)
        assert len(of_hops) == len(attention)
        for hits, weights in zip(of_hops, attention, strict=True):
            check_hits(hits, weights, drawn.ids, k)
            assert (hits.scores is None) is (hops is not None)
        if hops is None:
            by_id = dict(zip(drawn.ids, rows @ query, strict=True))
            own = [by_id[one] for one in of_hops[0].ids]
            np.testing.assert_allclose(of_hops[0].scores or [], own, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(result.detach(), expected, rtol=2e-4, atol=2e-5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store of unit vectors with the ids "a" to "h"."""
    with Store(tmp_path / "store", DIM, encoder=encoder) as store:
        store.add(torch.eye(DIM), ids=list("abcdefgh"), texts=list("ABCDEFGH"),
                  payloads=[{"n": i} for i in range(DIM)], times=range(DIM))  # fmt: skip
        yield store


def encoder(texts: list[str]) -> Tensor:
    """Return a unit vector for each letter."""
    return torch.stack([torch.eye(DIM)[ord(text.lower()) - ord("a")] for text in texts])


def test_hits_have_the_text_payload_and_time_of_each_row(store: Store) -> None:
    [[hits]] = store.search([0, 5.0, 0, 3, 0, 0, 0, 0], k=2)
    assert (hits.ids, hits.texts) == (("b", "d"), ("B", "D"))
    assert (hits.payloads, hits.times) == (({"n": 1}, {"n": 3}), (1.0, 3.0))
    assert hits.scores == (5.0, 3.0)
    assert hits.covered == sum(hits.weights)


def test_texts_are_encoded(store: Store) -> None:
    for texts in ("C", ["C"]):
        [[hits]] = store.search(texts=texts, k=1)
        assert hits.ids == ("c",)
    assert [hits.ids[0] for [hits] in store.search(texts=["h", "a"])] == ["h", "a"]


def test_without_hops_rows_are_ranked_by_the_product_even_where_the_weight_is_zero(
    store: Store,
) -> None:
    [[hits]] = store.search([900.0, 500, 700, 0, 0, 0, 0, 0], k=3)
    assert (hits.ids, hits.scores) == (("a", "c", "b"), (900.0, 700.0, 500.0))
    assert hits.weights == (1.0, 0.0, 0.0)


def test_with_hops_rows_of_weight_zero_are_no_hits(store: Store) -> None:
    model = RetrievalModel(DIM, DIM, 2)
    [[first, second]] = store.search([50.0, 0, 0, 0, 0, 0, 0, 0], model, k=8)
    assert first.ids == second.ids == ("a",)


def test_many_queries_and_rows_are_computed_in_parts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = torch.randn(20, DIM, generator=torch.Generator().manual_seed(0))
    model = RetrievalModel(DIM, DIM, 2)
    whole = [store.search(queries, hops, 3) for hops in (None, model)]
    monkeypatch.setattr(search_module, "_WEIGHTS_AT_ONCE", 40)
    monkeypatch.setattr(search_module, "_NUMBERS_AT_ONCE", 3 * DIM)
    parts = [store.search(queries, hops, 3) for hops in (None, model)]
    for one, other in zip(whole, parts, strict=True):
        for hops, others in zip(one, other, strict=True):
            for hits, own in zip(hops, others, strict=True):
                assert hits.ids == own.ids
                assert hits.weights == pytest.approx(own.weights, rel=1e-5)


class Streamed(StreamedMemory):
    """A memory that overwrites each part when the next one is taken."""

    is_transient = True

    def __init__(self, memories: Tensor) -> None:
        self._memories = memories

    @property
    def shape(self) -> torch.Size:
        return self._memories.shape

    @property
    def dtype(self) -> torch.dtype:
        return self._memories.dtype

    def ranges(self) -> Ranges:
        return [(start, min(start + 3, len(self._memories)))
                for start in range(0, len(self._memories), 3)]  # fmt: skip

    def stream(self, ranges: Ranges) -> Iterator[Stored]:
        buffer = torch.empty(3, self.shape[1])
        for start, end in ranges:
            part = buffer[: end - start]
            part.copy_(self._memories[start:end])
            yield part
            part.fill_(torch.nan)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_beyond_ram_is_streamed(
    kind: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = drawn_hops(kind, np.random.default_rng(0))
    store.delete(["d"])
    queries = torch.randn(4, query_dim(hops), generator=torch.Generator().manual_seed(1))
    expected, read = store.search(queries, hops, 3), store.read(queries, hops)
    snapshot = store.snapshot()
    assert isinstance(snapshot.memories, Tensor)
    streamed = snapshot._replace(memories=Streamed(snapshot.memories))
    monkeypatch.setattr(Store, "snapshot", lambda self, **_: streamed)
    for found, own in zip(store.search(queries, hops, 3), expected, strict=True):
        for hits, other in zip(found, own, strict=True):
            assert hits.ids == other.ids
            assert hits.weights == pytest.approx(other.weights, rel=1e-4, abs=1e-7)
    torch.testing.assert_close(store.read(queries, hops), read, rtol=1e-4, atol=1e-5)


def test_an_empty_store_and_no_queries(tmp_path: Path) -> None:
    with Store(tmp_path / "store", DIM) as store:
        for hops in (None, MemoryNetwork.build(input_dim=DIM), RetrievalModel(DIM, DIM, 2)):
            num_hops = {type(None): 1, MemoryNetwork: 3, RetrievalModel: 2}[type(hops)]
            [found] = store.search(torch.ones(DIM), hops)
            assert [(hits.ids, hits.covered) for hits in found] == [((), 0)] * num_hops
            assert store.search(torch.ones(0, DIM), hops) == []
            assert store.read(torch.ones(DIM), hops).isfinite().all()
        store.add(torch.eye(DIM))
        assert store.search(torch.ones(0, DIM)) == []
        [[hits]] = store.search(torch.ones(DIM), where={"missing": 1})
        assert (hits.ids, hits.covered, hits.scores) == ((), 0, ())
        assert not store.read(torch.ones(DIM), where={"missing": 1}).any()


def test_read_passes_gradients_to_the_query_and_the_hops(store: Store) -> None:
    query = torch.randn(6, requires_grad=True)
    hops = MultiHop(DIM, 6, 2)
    store.read(query, hops).sum().backward()  # type: ignore[no-untyped-call]
    assert query.grad is not None
    assert all(weight.grad is not None for weight in hops.parameters())
    assert store.read(torch.ones(DIM)).shape == (DIM,)
    assert store.read(torch.ones(2, DIM), RetrievalModel(DIM, DIM, 1)).shape == (2, DIM)


def test_a_search_leaves_the_mode_of_a_module_as_it_is(store: Store) -> None:
    hops = MultiHop(DIM, 6, 2, dropout=0.5)
    expected = "hops: expected no dropout, got 0.5 in training mode: call hops.eval()"
    with pytest.raises(MemhopError) as raised:
        store.search(torch.ones(6), hops)
    assert str(raised.value) == expected
    assert hops.training
    hops.eval()
    assert store.search(torch.ones(6), hops) == store.search(torch.ones(6), hops)
    assert not hops.training
    plain = MultiHop(DIM, 6, 2)
    store.search(torch.ones(6), plain)
    assert plain.training


def test_a_search_under_autocast_ranks_in_float32(store: Store) -> None:
    store.add(torch.eye(DIM)[0] + torch.arange(9)[:, None] / 4096, ids=list(range(9)))
    expected = store.search(torch.ones(DIM), k=9)
    assert expected[0][0].ids == tuple(range(8, -1, -1))
    with torch.autocast("cpu", torch.bfloat16):
        assert store.search(torch.ones(DIM), k=9) == expected


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("kind", KINDS[1:])
def test_hops_of_each_dtype_are_accepted_or_an_error_of_one_line(
    tmp_path: Path, kind: str, stored: torch.dtype
) -> None:
    own = {torch.float32: "float32", torch.int8: "float32 or bfloat16 or float16"}
    hops = drawn_hops(kind, np.random.default_rng(0))
    assert hops is not None
    query = torch.ones(query_dim(hops))
    mixed = "hops: expected float32 or bfloat16 or float16 parameters, got float64"
    with Store(tmp_path / "store", DIM, stored) as store:
        store.add(torch.eye(DIM))
        for dtype in (torch.float64, torch.bfloat16, torch.float16, torch.float32):
            hops, name = hops.to(dtype), str(dtype).removeprefix("torch.")
            allowed = own.get(stored, f"float32 or {str(stored).removeprefix('torch.')}")
            for use in (store.read, store.search):
                if name in allowed.split():
                    use(query, hops)
                else:
                    with pytest.raises(MemhopError) as raised:
                        use(query, hops)
                    assert str(raised.value) == (f"hops: expected {allowed} parameters, got {name}")
                with torch.autocast("cpu", torch.bfloat16):
                    if dtype != torch.float64:
                        use(query, hops)
                        continue
                    with pytest.raises(MemhopError) as raised:
                        use(query, hops)
                    assert str(raised.value) == mixed


def test_hops_of_several_dtypes_are_an_error_of_one_line(tmp_path: Path) -> None:
    hops = MemoryNetwork.build(input_dim=DIM)
    hops.hops.bfloat16()
    with Store(tmp_path / "store", DIM, torch.bfloat16) as store:
        store.add(torch.eye(DIM))
        with pytest.raises(MemhopError) as raised:
            store.read(torch.ones(DIM), hops)
    expected = "hops: expected float32 or bfloat16 parameters, got float32 and bfloat16"
    assert str(raised.value) == expected


def test_errors_of_one_line(store: Store, tmp_path: Path) -> None:
    network = MemoryNetwork.build(input_dim=DIM)
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "expected a query or texts, got neither"),
        ({"query": torch.ones(DIM), "texts": "a"}, "expected a query or texts, got both"),
        ({"query": torch.ones(7)}, "query: expected [8] or [M, 8], got [7]"),
        ({"query": torch.ones(2, 1, 8)}, "query: expected [8] or [M, 8], got [2, 1, 8]"),
        ({"query": "red"}, "query: expected [8] or [M, 8], got 'red'"),
        ({"query": [[1.0], [1.0, 2.0]]}, "query: expected [8] or [M, 8], got [[1.0], [1.0, 2.0]]"),
        ({"query": torch.ones(DIM), "hops": MultiHop(DIM, 6)},
         "query: expected [6] or [M, 6], got [8]"),
        ({"query": torch.full((DIM,), torch.nan)}, "query: expected finite numbers, got others"),
        ({"query": torch.ones(DIM), "k": 0}, "k: expected an integer from 1, got 0"),
        ({"query": torch.ones(DIM), "k": True}, "k: expected an integer from 1, got True"),
        ({"query": torch.ones(DIM), "hops": nn.Linear(8, 8)},
         "hops: expected None, a MemoryHop, MultiHop, MemoryNetwork or RetrievalModel, got "
         "Linear(in_features=8, out_features=8, bias=True)"),
        ({"query": torch.ones(DIM), "hops": MultiHop(DIM, 6, softmax=False)},
         "hops: expected a softmax, got softmax=False: its weights are scores"),
        ({"query": torch.ones(DIM), "hops": MemoryNetwork.build(input_dim=4)},
         "hops: expected hops over vectors of 8 numbers, got 4"),
        ({"query": torch.ones(DIM), "hops": RetrievalModel(12, 8, 2)},
         "hops: expected a RetrievalModel of passages, whose key_dim equals its value_dim, got "
         "key_dim=12, value_dim=8"),
        ({"texts": []}, "expected at least 1 text to encode, got none"),
    ]  # fmt: skip
    for arguments, expected in cases:
        with pytest.raises(MemhopError) as raised:
            store.search(**arguments)
        assert str(raised.value) == expected
    store.add(torch.full((DIM,), 3e38))
    with pytest.raises(MemhopError, match="expected inner products within float32"):
        store.search(torch.full((DIM,), 3e38))
    assert store.search(torch.ones(DIM), network, k=1)
    with Store(tmp_path / "plain", DIM) as plain:
        with pytest.raises(MemhopError) as raised:
            plain.search(texts="a")
        path = tmp_path / "plain"
        assert str(raised.value) == f"{path}: texts need an encoder: Store(path, encoder=...)"


def test_a_store_that_is_compacted_during_a_search_is_searched_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, taken = store.snapshot, 0

    def compacted_after(**limits: Any) -> Snapshot:
        nonlocal taken
        taken += 1
        found = snapshot(**limits)
        if taken <= num_compactions:
            store.delete(["abcdefgh"[taken - 1]])
            store.compact()
        return found

    monkeypatch.setattr(store, "snapshot", compacted_after)
    num_compactions = 2
    [[hits]] = store.search(torch.eye(DIM)[3], k=1)
    assert (hits.ids, hits.texts, taken) == (("d",), ("D",), 3)
    num_compactions = 8
    with pytest.raises(MemhopError, match="the store was compacted"):
        store.search(torch.eye(DIM)[7])


def test_rows_that_change_during_a_search_are_those_of_the_snapshot(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is deleted after the snapshot is still a hit, with its text."""
    snapshot = store.snapshot

    def late(**limits: Any) -> Snapshot:
        taken = snapshot(**limits)
        if "a" in taken.ids[:8]:
            store.delete(["a"])
        return taken

    monkeypatch.setattr(store, "snapshot", late)
    [[hits]] = store.search(torch.eye(DIM)[0], k=1)
    assert (hits.ids, hits.texts) == (("a",), ("A",))
