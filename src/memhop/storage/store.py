"""A store: vectors on disk with ids, texts, payloads and times."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from memhop.errors import MemhopError, check_integer, shown
from memhop.retrieval.encoder import Encoder, encode
from memhop.storage import search
from memhop.storage.changes import Contents, append, compact, is_live, live_rows, remove, replace
from memhop.storage.creation import create_store
from memhop.storage.database import DTYPES, MAX_DIM
from memhop.storage.entries import record_at
from memhop.storage.file_state import absolute
from memhop.storage.filters import filter_of
from memhop.storage.folder import DATABASE
from memhop.storage.record import (
    Id,
    Payload,
    Record,
    check_count,
    check_ids,
    check_payloads,
    check_texts,
    check_times,
)
from memhop.storage.search import Hops, StoreHits
from memhop.storage.session import Session
from memhop.storage.snapshot import Snapshot, Snapshots, check_generation


class Store:
    """Vectors in a folder, each with an id, and optionally a text, a payload and a time.

    What `add`, `update` and `delete` return from is on the device: a killed process or a power
    failure loses nothing of it. One `Store` writes, any number reads, also in other processes.
    See docs/store-format.md.

    Args:
        path: the folder; created if it does not exist. An empty one keeps its permissions.
            Moving it does not harm an open store.
        dim: of the vectors; needed to create a store.
        dtype: torch.float32 (default), bfloat16, float16, or int8 with a scale for each vector.
        encoder: a function from texts to vectors, for vectors that are not given. They are divided
            by their lengths.
        read_only: whether to only read. This does not need permission to write.

    Raises:
        MemhopError: no store and no ``dim``, another ``dim`` or ``dtype``, a second writer, or a
            corrupt store.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, Store(f"{folder}/cities", dim=2) as store:
    ...     ids = store.add([[1.0, 0.0], [0.0, 1.0]], ids=["Paris", "Rome"])
    ...     _ = store.delete(["Rome"])
    ...     memories, padding_mask, ids = store.snapshot()
    ...     print(memories.tolist(), padding_mask.tolist(), list(ids))
    [[1.0, 0.0], [0.0, 1.0]] [False, True] ['Paris', 'Rome']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dim: int | None = None,
        dtype: torch.dtype | None = None,
        *,
        encoder: Encoder | None = None,
        read_only: bool = False,
    ) -> None:
        self.path = absolute(path)
        self.encoder = encoder
        if dim is not None:
            check_integer("dim", dim, 1, MAX_DIM)
        if dtype is not None and dtype not in DTYPES.values():
            raise MemhopError(f"dtype: expected one of {', '.join(DTYPES)}, got {shown(dtype)}")
        if dim is not None and not read_only and not os.path.lexists(self.path / DATABASE):
            create_store(self.path, dim, _name(dtype or torch.float32))
        self._session = Session(self.path, read_only=read_only)
        self._snapshots = Snapshots(self._session)
        form = self._session.form
        for name, given, stored in (("dim", dim, form.dim), ("dtype", dtype, form.dtype)):
            if given is not None and given != stored:
                self.close()
                expected, got = (str(each).removeprefix("torch.") for each in (stored, given))
                raise MemhopError(f"{self.path}: expected {name} {expected}, got {got}")

    @property
    def dim(self) -> int:
        """Size of a vector."""
        return self._session.form.dim

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the vectors; int8 has a float32 scale for each vector."""
        return self._session.form.dtype

    @property
    def generation(self) -> int:
        """How many times the store was compacted, plus 1."""
        with self._session.reading() as (state, _):
            return state.generation

    @property
    def num_rows(self) -> int:
        """Rows of the file: those of `len`, and deleted ones."""
        with self._session.reading() as (state, _):
            return state.num_rows

    def __len__(self) -> int:
        with self._session.reading() as (state, _):
            return state.num_live

    def add(
        self,
        vectors: Any = None,
        *,
        texts: Iterable[str | None] | None = None,
        ids: Iterable[Id] | None = None,
        payloads: Iterable[Payload | None] | None = None,
        times: Iterable[float] | None = None,
    ) -> list[Id]:
        """Add rows; they are on the device when this returns, all of them or, on an error, none.

        Args:
            vectors: finite numbers [n, dim], or [dim]; None encodes the texts.
            texts: n texts, or None for rows without one.
            ids: n distinct texts or integers that are not in the store; None takes the next
                integers, which are never used twice.
            payloads: n JSON objects, or None for rows without one.
            times: n times in seconds since 1970; None means now.

        Returns:
            The n ids.

        Raises:
            MemhopError: other arguments, an id that is in the store, or a failure of the device.
        """
        form = self._session.form
        written, rows = self._given(vectors, texts)
        if rows is None:
            raise MemhopError("add: expected vectors, or texts and an encoder of the store")
        count = len(rows)
        names = None if ids is None else check_ids(ids, count)
        contents = Contents(
            form.encode(rows),
            None if written is None else check_count("texts", written, count),
            None if payloads is None else check_payloads(payloads, count),
            None if times is None else check_times(times, count),
        )
        return append(self._session, count, names, contents) if count else []

    def update(
        self,
        ids: Iterable[Id],
        vectors: Any = None,
        *,
        texts: Iterable[str | None] | None = None,
        payloads: Iterable[Payload | None] | None = None,
        times: Iterable[float] | None = None,
    ) -> None:
        """Change what rows hold, all or none: what is not given is kept.

        A changed row is appended and the old one becomes dead, so that it is the newest row of the
        memory; a snapshot that was taken before keeps the old one.

        Args:
            ids: distinct ids of the store.
            vectors: as for `add`; None encodes the texts if there are texts and an encoder.
            texts, payloads, times: as for `add`; a None in a list removes a text or a payload.

        Raises:
            MemhopError: other arguments, an unknown id, or a failure of the device.

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, Store(f"{folder}/store", dim=1) as store:
        ...     ids = store.add([[1.0], [2.0]], texts=["one", "two"])
        ...     store.update([0], texts=["One"])
        ...     print(store.get([0])[0].text, list(store.snapshot().ids))
        One [0, 1, 0]
        """
        names = check_ids(ids)
        count = len(names)
        written, rows = self._given(vectors, texts)
        if rows is not None and len(rows) != count:
            raise MemhopError(f"vectors: expected {count}, one for each id, got {len(rows)}")
        contents = Contents(
            None if rows is None else self._session.form.encode(rows),
            None if written is None else check_count("texts", written, count),
            None if payloads is None else check_payloads(payloads, count),
            None if times is None else check_times(times, count),
        )
        if count:
            replace(self._session, names, contents)

    def delete(self, ids: Iterable[Id]) -> int:
        """Delete rows, all or none; return their number.

        Their vectors and texts stay on the device until `compact`.

        Args:
            ids: distinct ids of the store.

        Raises:
            MemhopError: an unknown id, which is named, or a failure of the device.
        """
        names = check_ids(ids)
        return remove(self._session, names) if names else 0

    def __contains__(self, id: object) -> bool:
        """Return whether the store has a row with this id."""
        with self._session.reading():
            return is_live(self._session, id)

    def get(self, ids: Iterable[Id]) -> list[Record]:
        """Return the records of ids, with their vectors.

        Raises:
            MemhopError: an unknown id.

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, Store(f"{folder}/store", dim=2) as store:
        ...     ids = store.add([1, 2], ids=["a"], payloads=[{"page": 7}], times=[0])
        ...     store.get(["a"])
        [Record(id='a', vector=tensor([1., 2.]), text=None, payload={'page': 7}, time=0.0)]
        """
        names = check_ids(ids, distinct=False)
        with self._session.reading() as (_, vectors):
            rows = live_rows(self._session, names)
            records = [record_at(self._session.connection, row) for row in rows]
            found = vectors.form.decode(vectors.read(rows))
        return [
            record._replace(vector=vector) for record, vector in zip(records, found, strict=True)
        ]

    def records(self, rows: Sequence[int], *, generation: int | None = None) -> list[Record]:
        """Return the records of rows of a snapshot, without their vectors.

        Args:
            rows: numbers of rows, also of deleted ones.
            generation: of the snapshot, if rows of another one are to be an error.

        Raises:
            MemhopError: no such row, or another generation.
        """
        with self._session.reading() as (state, _):
            if generation is not None:
                check_generation(self._session, state.generation, generation)
            for row in rows:
                check_integer("row", row, 0, state.num_rows - 1)
            return [record_at(self._session.connection, row) for row in rows]

    def snapshot(
        self,
        *,
        where: Mapping[str, Any] | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Snapshot:
        """Return the memory of this moment; its vectors are the file, not a copy.

        Snapshots share the mapped file: if you write to the memories, later snapshots, reads and
        searches of this `Store` may see it. It does not reach the file, nor `get`. Clone first.

        Args:
            where: values by fields of the payload, "a.b" for the field b of the object a. A row is
                readable if each field has the value, or one of a list of values. At most 100
                fields, and 10,000 values of all of them.
            since, until: a row is readable if since <= time < until.

        Returns:
            The memories, the mask of rows to ignore or None, and the ids.

        Raises:
            MemhopError: other arguments, or a corrupt store.

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, Store(f"{folder}/store", dim=1) as store:
        ...     ids = store.add([[1.0], [2.0]], payloads=[{"page": 7}, {"page": 8}])
        ...     store.snapshot(where={"page": [8, 9]}).padding_mask
        tensor([ True, False])
        """
        return self._snapshots.take(filter_of(where, since, until))

    def read(
        self,
        query: Any,
        hops: Hops | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Tensor:
        """Return what a query reads of the rows: the result of the hops, [D'] or [M, D'].

        Gradients flow to the query and the hops. A retrieval model returns what its last hop reads.

        Args:
            query: one query [D] or M of them [M, D]. D is dim without hops, for a `MemoryNetwork`
                and a `RetrievalModel`, and memory_dim for a `MemoryHop` and a `MultiHop`.
            hops: a layer, or a `memhop.retrieval.RetrievalModel` of passages (key_dim = value_dim).
                None: one read, o = sum_i p_i m_i with p_i = softmax_i(q . m_i).
            where, since, until: as for `snapshot`.

        Raises:
            MemhopError: sizes that do not fit.
        """
        return search.read(self, query, hops, where=where, since=since, until=until)

    def search(
        self,
        query: Any = None,
        hops: Hops | None = None,
        k: int = 5,
        *,
        texts: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[list[StoreHits]]:
        """Return the k rows that are read most: for each query a list with one item a hop.

        Without hops, rows are ranked by inner products; with hops by weights, the mean over heads.

        Args:
            query, hops: as for `read`.
            k: at least 1.
            texts: texts for the encoder of the store, instead of a query.
            where, since, until: as for `snapshot`.

        Raises:
            MemhopError: sizes that do not fit, or dropout in training mode.

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, Store(f"{folder}/store", dim=2) as store:
        ...     ids = store.add([[1.0, 0.0], [0.0, 1.0]], ids=["Paris", "Rome"])
        ...     [[hop]] = store.search([3.0, 0.0], k=1)
        ...     print(hop.ids, hop.scores, round(hop.covered, 3))
        ('Paris',) (3.0,) 0.953
        """
        return search.search(
            self, query, hops, k, texts=texts, where=where, since=since, until=until
        )

    def shard(self, rank: int, num_ranks: int, **options: Any) -> Snapshot:
        """Return the rows of one of ``num_ranks`` processes, with the options of `snapshot`.

        Each process opens the store with ``read_only=True`` and reads its own rows. Do not change
        the store until all have their shards: those of different moments may overlap.

        Raises:
            MemhopError: a wrong rank, or as for `snapshot`.
        """
        return self.snapshot(**options).shard(rank, num_ranks)

    def compact(self) -> None:
        """Remove the deleted rows from the device: write a new generation of the store.

        The rows keep their order. Snapshots stay valid, but not their ids; the device keeps the
        deleted rows until those snapshots are let go. Without deleted rows, nothing happens.

        Raises:
            MemhopError: a failure of the device; the store is then as it was.
        """
        compact(self._session)

    def close(self) -> None:
        """Close the store; snapshots stay valid, but not their ids."""
        self._session.close()
        self._snapshots.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_session"):  # opening may have failed
            self.close()

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"Store({str(self.path)!r}, dim={self.dim}, dtype={dtype})"

    def _given(
        self, vectors: Any, texts: Iterable[str | None] | None
    ) -> tuple[list[str | None] | None, Tensor | None]:
        """Return the texts and the vectors, which are encoded if only texts are given."""
        needs_encoder = vectors is None and self.encoder is not None
        written = None if texts is None else check_texts(texts, may_lack=not needs_encoder)
        if vectors is None and written is not None and self.encoder is not None:
            vectors = encode(self.encoder, [str(text) for text in written]) if written else []
        return written, None if vectors is None else self._session.form.vectors(vectors)


def _name(dtype: torch.dtype) -> str:
    return next(name for name, each in DTYPES.items() if each is dtype)
