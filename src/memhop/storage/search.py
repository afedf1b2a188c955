"""Read and search a store: by hops of a layer or of a retrieval model, or by inner products."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from memhop import ops
from memhop.errors import MemhopError, check_integer, shown
from memhop.nn.hops import MemoryHop, MemoryNetwork, MultiHop
from memhop.ops.inputs import Quantized, Stored
from memhop.ops.streamed import StreamedMemory
from memhop.retrieval import RetrievalModel
from memhop.retrieval.encoder import encode

if TYPE_CHECKING:
    from memhop.storage.snapshot import Snapshot
    from memhop.storage.store import Store

Hops = MemoryHop | MultiHop | MemoryNetwork | RetrievalModel
Memories = Stored | StreamedMemory
_EXPECTED = "hops: expected None, a MemoryHop, MultiHop, MemoryNetwork or RetrievalModel"
_WEIGHTS_AT_ONCE = 2**24  # of a search, queries x hops x rows: 64 MiB in float32
_NUMBERS_AT_ONCE = 2**22  # of the rows that are compared with a query at once
_TRIES = 5  # of a search during which another process compacts the store


@dataclass(frozen=True)
class StoreHits:
    """The rows of a store that a hop of one query reads most, with the greatest weight first.

    Attributes:
        ids: their ids.
        texts: the text of each, or None.
        payloads: the payload of each, or None.
        times: the time of each, in seconds since 1970.
        weights: the weight of each, from 0 to 1.
        covered: the sum of these weights: the share of the attention that the rows explain.
        scores: the inner product of each row with the query, in a search without hops; else None.
    """

    ids: tuple[str | int, ...]
    texts: tuple[str | None, ...]
    payloads: tuple[dict[str, Any] | None, ...]
    times: tuple[float, ...]
    weights: tuple[float, ...]
    covered: float
    scores: tuple[float, ...] | None = None


@dataclass(frozen=True)
class _Top:
    """The rows that each hop reads most, [M, K, k]; those of weight 0 are not among the hits."""

    weights: Tensor
    rows: Tensor
    scores: Tensor | None = None


def read(
    store: "Store",
    query: Any,
    hops: Hops | None = None,
    *,
    where: Mapping[str, Any] | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Tensor:
    """Return what a query reads of the live rows of a store; see `Store.read`."""
    dim = _query_dim(hops, store)
    vectors = _vectors(query, dim, hops)
    snapshot = store.snapshot(where=where, since=since, until=until)
    memories, mask = snapshot.memories, snapshot.padding_mask
    if hops is None:
        return ops.read(vectors, memories, padding_mask=mask)
    if isinstance(hops, RetrievalModel):
        state = hops.last_state(vectors.reshape(-1, dim), memories, padding_mask=mask)
        return state.reshape(vectors.shape)
    return hops(vectors, memories, memory_padding_mask=mask)


def search(
    store: "Store",
    query: Any = None,
    hops: Hops | None = None,
    k: int = 5,
    *,
    texts: str | Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    since: float | None = None,
    until: float | None = None,
) -> list[list[StoreHits]]:
    """Return for each query and hop the k live rows that are read most; see `Store.search`."""
    check_integer("k", k, 1)
    dim = _query_dim(hops, store)
    if hops is not None:
        _check_deterministic(hops)
    with torch.no_grad():
        queries = _vectors(_encoded(store, query, texts), dim, hops).reshape(-1, dim)
        if not queries.isfinite().all():
            raise MemhopError("query: expected finite numbers, got others")
        for left in reversed(range(_TRIES)):
            generation = store.generation
            snapshot = store.snapshot(where=where, since=since, until=until)
            tops = [_top(part, hops, snapshot, k) for part in _batches(queries, hops, snapshot)]
            try:
                return [hits for top in tops for hits in _hits(store, top, generation)]
            except MemhopError:
                if not left or store.generation == generation:
                    raise
    raise AssertionError  # the last try returns or raises


def _encoded(store: "Store", query: Any, texts: str | Sequence[str] | None) -> Any:
    """Return the query, or the vectors of texts by the encoder of the store."""
    if (query is None) == (texts is None):
        both = "neither" if query is None else "both"
        raise MemhopError(f"expected a query or texts, got {both}")
    if texts is None:
        return query
    if store.encoder is None:
        raise MemhopError(f"{store.path}: texts need an encoder: Store(path, encoder=...)")
    return encode(store.encoder, [texts] if isinstance(texts, str) else list(texts))


def _query_dim(hops: Any, store: "Store") -> int:
    """Return the size of a query of hops over a store, or of its vectors without hops.

    Raises:
        MemhopError: hops that do not fit the store.
    """
    if hops is None:
        return store.dim
    if isinstance(hops, RetrievalModel):
        if hops.key_dim != hops.value_dim:
            raise MemhopError(
                "hops: expected a RetrievalModel of passages, whose key_dim equals its value_dim, "
                f"got key_dim={hops.key_dim}, value_dim={hops.value_dim}"
            )
        came, query_dim = hops.key_dim, hops.key_dim
    elif isinstance(hops, MemoryHop | MultiHop | MemoryNetwork):
        came = hops.input_dim
        query_dim = came if isinstance(hops, MemoryNetwork) else hops.memory_dim
    else:
        raise MemhopError(f"{_EXPECTED}, got {shown(hops)}")
    if came != store.dim:
        raise MemhopError(f"hops: expected hops over vectors of {store.dim} numbers, got {came}")
    _check_dtypes(hops, store.dtype)
    return query_dim


def _check_dtypes(hops: Hops, stored: torch.dtype) -> None:
    """Check that a read of vectors of a dtype accepts the parameters of hops, as in `memhop.ops`.

    Raises:
        MemhopError: other dtypes, or several of them without autocast.
    """
    is_autocast = torch.is_autocast_enabled("cpu")
    allowed = [torch.float32]
    if is_autocast or stored == torch.int8:
        allowed += [torch.bfloat16, torch.float16]
    elif stored != torch.float32:
        allowed.append(stored)
    found = list(dict.fromkeys(parameter.dtype for parameter in hops.parameters()))
    if not set(found) <= set(allowed) or (len(found) > 1 and not is_autocast):
        expected, got = (
            f" {word} ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            for word, dtypes in (("or", allowed), ("and", found))
        )
        raise MemhopError(f"hops: expected {expected} parameters, got {got}")


def _vectors(query: Any, dim: int, hops: Hops | None) -> Tensor:
    """Return a query as a tensor [dim] or [M, dim], in the dtype and on the device of the hops."""
    expected = f"query: expected [{dim}] or [M, {dim}]"
    try:
        vectors = torch.as_tensor(query)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise MemhopError(f"{expected}, got {shown(query)}") from error
    if vectors.dim() not in (1, 2) or vectors.shape[-1] != dim or vectors.is_complex():
        raise MemhopError(f"{expected}, got {list(vectors.shape)}")
    weight = None if hops is None else next(hops.parameters(), None)
    return vectors.float() if weight is None else vectors.to(weight)


def _check_deterministic(hops: Hops) -> None:
    """Check that hops compute shares of attention, and that no dropout samples them.

    Raises:
        MemhopError: the caller chooses the mode of a module; a search does not change it.
    """
    for module in hops.modules():
        share = module.p if isinstance(module, nn.modules.dropout._DropoutNd) else 0.0
        share = share or getattr(module, "dropout", 0.0)
        if module.training and isinstance(share, float) and share > 0:
            raise MemhopError(
                f"hops: expected no dropout, got {share:g} in training mode: call hops.eval()"
            )
        if not getattr(module, "softmax", True):
            raise MemhopError("hops: expected a softmax, got softmax=False: its weights are scores")


def _batches(queries: Tensor, hops: Hops | None, snapshot: "Snapshot") -> tuple[Tensor, ...]:
    """Split queries so that the weights of all rows fit into memory."""
    num_rows, dim = snapshot.memories.shape
    if hops is None:
        num_rows = min(num_rows, _rows_at_once(dim))
    num_hops = _num_hops(hops)
    return torch.split(queries, max(1, _WEIGHTS_AT_ONCE // max(1, num_hops * num_rows)))


def _num_hops(hops: Hops | None) -> int:
    if isinstance(hops, MemoryNetwork):
        return hops.hops.num_hops
    return 1 if hops is None else hops.num_hops


def _top(queries: Tensor, hops: Hops | None, snapshot: "Snapshot", k: int) -> _Top:
    """Return the k rows that each hop of some queries reads most."""
    memories, mask = snapshot.memories, snapshot.padding_mask
    num_rows = memories.shape[0]
    if hops is None or not num_rows or not len(queries):
        return _nearest(queries, _num_hops(hops), memories, mask, k)
    if isinstance(hops, RetrievalModel):
        reads = hops.read_hops(queries, memories, padding_mask=mask)
        tops = [hop.weights.topk(min(k, num_rows)) for hop in reads]
        weights = torch.stack([top.values for top in tops], dim=1)
        return _Top(weights, torch.stack([top.indices for top in tops], dim=1))
    _, attention = hops(queries, memories, memory_padding_mask=mask, need_weights=True)
    top = attention.reshape(len(queries), -1, num_rows).topk(min(k, num_rows))
    return _Top(top.values, top.indices)


def _nearest(
    queries: Tensor, num_hops: int, memories: Memories, mask: Tensor | None, k: int
) -> _Top:
    """Return the k rows with the greatest inner products, and their weights in a softmax of all.

    The rows are ranked by the products, because a weight may be 0 in float32 where a product is
    well above others. Without rows or queries the result has that many hops.
    """
    shape = (len(queries), num_hops, 0)
    best, rows = queries.new_empty(shape), torch.empty(shape, dtype=torch.long)
    total = queries.new_full((len(queries), 1, 1), -torch.inf, dtype=torch.float64)
    for start, part in _parts(memories) if len(queries) else ():
        with torch.autocast("cpu", enabled=False):  # a rank needs all digits
            scores = (queries @ part.T).unsqueeze(1)
        if mask is not None:
            scores.masked_fill_(mask[start : start + len(part)], -torch.inf)
        total = torch.logaddexp(total, scores.logsumexp(-1, keepdim=True).double())
        top = scores.topk(min(k, len(part)))
        best, rows = torch.cat([best, top.values], -1), torch.cat([rows, top.indices + start], -1)
        best, places = best.topk(min(k, best.shape[-1]))
        rows = rows.gather(-1, places)
    if total.isnan().any() or total.isposinf().any():
        raise MemhopError("query: expected inner products within float32, got greater ones")
    weights = torch.where(best.isneginf(), 0.0, (best.double() - total).exp()).float()
    return _Top(weights, rows, best)


def _rows_at_once(dim: int) -> int:
    return max(1, _NUMBERS_AT_ONCE // dim)


def _parts(memories: Memories) -> Iterator[tuple[int, Tensor]]:
    """Yield the first row of each part and its rows in float32, [n, dim]."""
    start = 0
    for stored in _stored(memories):
        for part in _split(stored):
            yield start, part
            start += len(part)


def _stored(memories: Memories) -> Iterator[Stored]:
    if not isinstance(memories, StreamedMemory):
        yield memories
    elif (whole := memories.whole()) is not None:
        yield whole
    else:
        yield from memories.stream(memories.ranges())


def _split(stored: Stored) -> Iterator[Tensor]:
    at_once = _rows_at_once(stored.shape[-1])
    for start in range(0, stored.shape[0], at_once):
        part = stored[start : start + at_once]
        yield part.dequantized() if isinstance(part, Quantized) else part.float()


def _hits(store: "Store", top: _Top, generation: int) -> list[list[StoreHits]]:
    """Return the hits of each query and hop; the store looks up each row once."""
    is_hit = top.weights > 0 if top.scores is None else ~top.scores.isneginf()
    distinct = sorted(set(top.rows[is_hit].tolist()))
    records = dict(zip(distinct, store.records(distinct, generation=generation), strict=True))
    scores = top.weights if top.scores is None else top.scores
    parts = zip(*(part.tolist() for part in (top.weights, top.rows, scores, is_hit)), strict=True)
    hits: list[list[StoreHits]] = []
    for of_query in parts:
        hits.append([])
        for of_hop in zip(*of_query, strict=True):
            found = [one[:3] for one in zip(*of_hop, strict=True) if one[3]]
            own = [records[row] for _, row, _ in found]
            hits[-1].append(
                StoreHits(
                    ids=tuple(one.id for one in own),
                    texts=tuple(one.text for one in own),
                    payloads=tuple(one.payload for one in own),
                    times=tuple(one.time for one in own),
                    weights=tuple(weight for weight, _, _ in found),
                    covered=sum(weight for weight, _, _ in found),
                    scores=None if top.scores is None else tuple(one[2] for one in found),
                )
            )
    return hits
