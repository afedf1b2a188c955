"""The memory of a store at a moment."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, overload

import torch
from torch import Tensor

from memhop.errors import MemhopError
from memhop.ops.inputs import Stored
from memhop.ops.streamed import StreamedMemory
from memhop.storage.entries import ids_between
from memhop.storage.filters import Filter, matching
from memhop.storage.record import Id
from memhop.storage.row_layout import shard_range
from memhop.storage.rows import RowsMemory
from memhop.storage.session import RETRIES, GenerationRemovedError, Session
from memhop.storage.tombstones import dead_mask
from memhop.storage.vector_file import VectorFile

_IDS_AT_ONCE = 4096


class RowIds(Sequence[Id]):
    """The ids of the rows of a snapshot, looked up in the store when they are used."""

    def __init__(self, session: Session, generation: int, rows: range) -> None:
        self._session, self._generation, self._rows = session, generation, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Id: ...
    @overload
    def __getitem__(self, index: slice) -> list[Id]: ...
    def __getitem__(self, index: int | slice) -> Id | list[Id]:
        places = self._rows[index]
        if isinstance(places, int):
            return self._between(places, places + 1)[0]
        if not places:
            return []
        first, last = min(places[0], places[-1]), max(places[0], places[-1]) + 1
        if last - first <= _IDS_AT_ONCE or abs(places.step) == 1:
            found = self._between(first, last)
            return [found[place - first] for place in places]
        return [self._between(place, place + 1)[0] for place in places]

    def __iter__(self) -> Iterator[Id]:
        end = self._rows.stop
        for first in range(self._rows.start, end, _IDS_AT_ONCE):
            yield from self._between(first, min(first + _IDS_AT_ONCE, end))

    def __repr__(self) -> str:
        return f"RowIds({len(self):,} rows)"

    def part(self, first: int, last: int) -> "RowIds":
        """Return the ids of some of the rows, looked up when they are used."""
        return RowIds(self._session, self._generation, self._rows[first:last])

    def _between(self, first: int, last: int) -> list[Id]:
        with self._session.reading() as (state, _):
            check_generation(self._session, state.generation, self._generation)
            return ids_between(self._session.connection, first, last)


class Snapshot(NamedTuple):
    """The rows of a store at a moment, for `memhop.ops.read` and the layers.

    Attributes:
        memories: [N, dim] over the file: a tensor, or ``Quantized``; a `RowsMemory` that is read
            part by part if it is larger than RAM. Later changes of the store do not change it, and
            a compaction does not end it: the file of its rows stays on the device until the
            memory is let go.
        padding_mask: bool [N], True for rows to ignore: deleted, or filtered out. None if there
            are none.
        ids: the ids of the N rows, looked up when they are used, also of deleted rows.
    """

    memories: Stored | StreamedMemory
    padding_mask: Tensor | None
    ids: RowIds

    def shard(self, rank: int, num_ranks: int) -> "Snapshot":
        """Return the rows of one of ``num_ranks`` processes that share a snapshot.

        Raises:
            MemhopError: a wrong rank.
        """
        memories, mask, ids = self
        first, last = shard_range(len(ids), rank, num_ranks)
        if isinstance(memories, RowsMemory):
            own: Stored | StreamedMemory = memories.shard(rank, num_ranks)
        else:
            assert not isinstance(memories, StreamedMemory)
            own = memories[first:last]
        return Snapshot(own, None if mask is None else mask[first:last], ids.part(first, last))


def check_generation(session: Session, now: int, then: int) -> None:
    """Check that the rows of a snapshot still have their numbers.

    Raises:
        MemhopError: the store has been compacted since.
    """
    if now != then:
        raise MemhopError(
            f"{session.folder}: the store was compacted (generation {now}, the snapshot is of "
            f"{then}): take a new snapshot"
        )


class Snapshots:
    """Take snapshots of a store; the rows of the last one stay mapped for the next one."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory: tuple[tuple[int, int], Stored | RowsMemory] | None = None

    def forget(self) -> None:
        """Let the rows of the last snapshot go."""
        self._memory = None

    def take(self, chosen: Filter | None) -> Snapshot:
        """Return the memory of this moment, of which only rows that pass a filter are readable.

        Raises:
            MemhopError: a corrupt store.
        """
        for _ in range(RETRIES):
            with suppress(GenerationRemovedError):
                return self._take(chosen)
        folder = self._session.folder
        raise MemhopError(f"{folder}: corrupt store: its vectors are removed again and again")

    def _take(self, chosen: Filter | None) -> Snapshot:
        with self._session.reading() as (state, vectors):
            connection, num_rows = self._session.connection, state.num_rows
            mask = dead_mask(connection, num_rows)
            if chosen is not None:
                others = ~matching(connection, chosen, num_rows)
                mask = others if mask is None else mask | others
            memories = self._memories(state.generation, num_rows, vectors)
            ids = RowIds(self._session, state.generation, range(num_rows))
        has_ignored = mask is not None and bool(mask.any())
        return Snapshot(memories, torch.from_numpy(mask) if has_ignored else None, ids)

    def _memories(self, generation: int, num_rows: int, file: VectorFile) -> Stored | RowsMemory:
        key = generation, num_rows
        if self._memory is None or self._memory[0] != key:
            try:
                held = file.held()
            except FileNotFoundError:
                raise GenerationRemovedError from None
            memory = RowsMemory(file.form.rows(file.path, num_rows), held=held)
            whole = memory.whole()
            self._memory = key, memory if whole is None else whole
        return self._memory[1]
