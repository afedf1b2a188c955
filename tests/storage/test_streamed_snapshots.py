"""Snapshots of a store larger than RAM survive its compaction, and leave no open file behind."""

import copy
import gc
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from memhop import MemhopError, ops
from memhop.nn.hops import MultiHop
from memhop.storage import direct_reads, rows
from memhop.storage.rows import RowsMemory
from memhop.storage.store import Store
from tests.storage.files import are_equal, copied, joined

ROWS = torch.arange(60.0).view(30, 2) / 60


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(rows, "ram_bytes", lambda: 1)
    monkeypatch.setattr(rows, "PART_BYTES", 64)
    with Store(tmp_path / "store", 2) as store:
        store.add(ROWS)
        yield store


def streamed(store: Store) -> RowsMemory:
    memory = store.snapshot().memories
    assert isinstance(memory, RowsMemory)
    assert memory.is_streamed
    return memory


def read(memory: RowsMemory) -> Tensor:
    found = joined(copied(memory.stream(memory.ranges())))
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("refused", ["", "flag", "read"])
def test_a_streamed_snapshot_survives_a_compaction(
    store: Store, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    direct, preadv = getattr(os, "O_DIRECT", 0), os.preadv
    if refused == "flag":
        monkeypatch.setattr(direct_reads, "_DIRECT", 0)
    elif refused == "read" and direct:
        import fcntl

        def refuse(descriptor: int, buffers: list[memoryview], offset: int) -> int:
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & direct:
                raise OSError(22, "Invalid argument")
            return preadv(descriptor, buffers, offset)

        monkeypatch.setattr(os, "preadv", refuse)
    snapshot, other = store.snapshot(), streamed(store)
    begun = copied(other.stream(other.ranges()))
    first = next(begun)
    store.delete([0, 7])
    store.compact()
    store.add(ROWS[:1])
    assert are_equal(joined([first, *begun]), ROWS)
    assert torch.equal(read(streamed(store)), torch.cat([ROWS[1:7], ROWS[8:], ROWS[:1]]))
    store.close()
    memory = snapshot.memories
    assert isinstance(memory, RowsMemory)
    assert torch.equal(read(memory), ROWS)
    assert torch.allclose(ops.read(torch.ones(2), memory), ops.read(torch.ones(2), ROWS))
    shards = [snapshot.shard(rank, 3).memories for rank in range(3)]
    assert torch.equal(torch.cat([read(shard) for shard in shards]), ROWS)  # type: ignore[arg-type]
    assert torch.equal(torch.as_tensor(memory.shard(1, 2, stream=False).whole()), ROWS[15:])


def test_hops_and_gradients_survive_a_compaction_between_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = MultiHop(2, 2, num_hops=3)
    expected = torch.ones(2, requires_grad=True)
    hops(expected, ROWS).sum().backward()  # type: ignore[no-untyped-call]
    stream = RowsMemory.stream

    def compact_after(memory: RowsMemory, ranges: object) -> object:
        yield from stream(memory, ranges)  # type: ignore[arg-type]
        store.delete(store.add(ROWS[:1]))
        store.compact()

    monkeypatch.setattr(RowsMemory, "stream", compact_after)
    query = torch.ones(2, requires_grad=True)
    result = store.read(query, hops)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert store.generation > 3
    assert query.grad is not None
    assert expected.grad is not None
    assert torch.allclose(result, hops(torch.ones(2), ROWS), atol=1e-6)
    assert torch.allclose(query.grad, expected.grad, atol=1e-6)


def test_a_copy_opens_the_file_by_its_path(store: Store, tmp_path: Path) -> None:
    memory = streamed(store)
    copies = [copy.copy(memory), pickle.loads(pickle.dumps(memory))]
    for each in copies:
        assert torch.equal(read(each), ROWS)
    path = tmp_path / "store" / "vectors.1"
    content = path.read_bytes()
    path.rename(tmp_path / "kept")
    path.write_bytes(content)
    for each in copies:
        with pytest.raises(MemhopError, match=r"vectors.1: the file has changed since it was"):
            read(each)
    path.unlink()
    for each in copies:
        with pytest.raises(MemhopError, match=r"vectors.1: no such file$"):
            read(each)
    assert torch.equal(read(memory), ROWS)


def test_a_snapshot_of_a_moved_store_has_its_rows(store: Store, tmp_path: Path) -> None:
    before = streamed(store)
    (tmp_path / "store").rename(tmp_path / "moved")
    with Store(tmp_path / "store", 2) as other:
        other.add(-ROWS)
        other.add(-ROWS)
        assert torch.equal(read(before), ROWS)
        store.add(ROWS[:1])
        assert torch.equal(read(streamed(store)), torch.cat([ROWS, ROWS[:1]]))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_memory_closes_its_file_when_it_is_let_go(store: Store) -> None:
    def num_open() -> int:
        gc.collect()
        return len([*Path("/proc/self/fd").iterdir()])

    store.snapshot()
    before = num_open()
    memories = []
    for _ in range(3):
        store.add(ROWS[:1])
        memories.append(streamed(store))
        read(memories[-1])
    assert num_open() == before + 2  # the store keeps the last one
    part = memories[0].stream(memories[0].ranges())
    next(part)
    memories.clear()
    assert num_open() == before + 1
    del part
    assert num_open() == before
