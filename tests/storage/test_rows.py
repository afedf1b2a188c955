"""Rows of a file, mapped and read part by part, are the tensor that was written."""

import gc
import mmap
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from memhop.errors import MemhopError
from memhop.ops import Quantized
from memhop.storage import direct_reads, rows
from memhop.storage.rows import Rows, RowsMemory

from .files import DTYPES, all_rows, are_equal, copied, joined, write_records, write_rows

MODES = [False, True]
COUNTS = (0, 1, 7, 300)  # the last ones are more than a block of a direct read


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Read in parts of 200 bytes, and leave no thread and no open file."""
    monkeypatch.setattr(rows, "PART_BYTES", 200)
    before = open_files()
    yield
    if open_files() != before or reading_threads():
        gc.collect()  # slow after many tests
    assert open_files() == before
    assert not reading_threads()


def reading_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("memhop-read")]


def open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return set()
    found = {os.readlink(each) for each in folder.iterdir() if os.path.lexists(each)}  # noqa: PTH115
    return {name for name in found if "pytest" in name and name.endswith(".bin")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.bin"


@pytest.mark.parametrize("is_streamed", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", COUNTS)
def test_rows_are_the_tensor(path: Path, count: int, dtype: torch.dtype, is_streamed: bool) -> None:
    for offset in (0, 24, 4096, 8200):
        for width, gap in ((5, 0), (1, 0), (3, 2)):
            written = write_rows(path, count, width, dtype, offset, gap)
            memory = RowsMemory(written.rows, stream=is_streamed)
            assert (memory.shape, memory.dtype) == ((count, width), dtype)
            assert (memory.whole() is None) == memory.is_streamed == is_streamed
            assert are_equal(all_rows(memory), written.stored), (offset, width, gap)


@pytest.mark.parametrize("is_streamed", MODES)
def test_records_of_a_row_and_its_scale(path: Path, is_streamed: bool) -> None:
    for count in COUNTS:
        for width in (1, 4, 5, 131):
            written = write_records(path, count, width, offset=8)
            memory = RowsMemory(written.rows, stream=is_streamed)
            assert are_equal(all_rows(memory), written.stored), (count, width)
            assert len(written.rows.areas(0, count)) == 1  # one read a part


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_ranges_can_be_streamed(path: Path, dtype: torch.dtype) -> None:
    written = write_rows(path, 1000, 5, dtype, 24)
    memory = RowsMemory(written.rows, stream=True)
    cuts = [0, 0, 1, 8, 500, 500, 999, 1000]
    ranges = [*pairwise(cuts)]
    parts = [*copied(memory.stream(ranges))]
    assert [part.shape[0] for part in parts] == [last - first for first, last in ranges]
    assert are_equal(joined(parts), written.stored)
    assert are_equal(joined(memory.stream([(7, 9), (3, 5)]))[:2], written.stored[7:9])
    assert [*memory.stream([])] == []


def test_the_ranges_are_the_whole_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = RowsMemory(write_rows(path, 23, 5, torch.float32).rows)
    assert memory.ranges() == [(0, 10), (10, 20), (20, 23)]
    monkeypatch.setattr(rows, "PART_BYTES", 3)  # less than a row
    assert len(memory.ranges()) == 23
    assert RowsMemory(write_rows(path, 0, 5, torch.float32).rows).ranges() == [(0, 0)]


def test_ranges_outside_of_the_rows_are_refused(path: Path) -> None:
    memory = RowsMemory(write_rows(path, 7, 5, torch.float32).rows)
    for wrong in ((-1, 2), (0, 8), (4, 3)):
        with pytest.raises(ValueError, match=r"expected ranges within 0 to 7, got \("):
            next(memory.stream([wrong]))


def test_numbers_at_odd_places_are_streamed(path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        written = write_rows(path, 7, 5, dtype, offset=13)
        memory = RowsMemory(written.rows)
        assert memory.is_streamed
        assert are_equal(all_rows(memory), written.stored)
        for part in memory.stream([(0, 3), (3, 7)]):
            assert isinstance(part, Tensor)
            assert part.data_ptr() % dtype.itemsize == 0  # kernels expect it
        with pytest.raises(
            MemhopError, match=r"rows.bin: expected the numbers at a multiple of \d "
        ):
            RowsMemory(written.rows, stream=False)
    written = write_rows(path, 3, 5, torch.int8, offset=13)
    assert are_equal(all_rows(RowsMemory(written.rows)), written.stored)


@pytest.mark.parametrize("dtype", DTYPES)
def test_writing_to_the_tensors_does_not_reach_the_file(path: Path, dtype: torch.dtype) -> None:
    written = write_rows(path, 7, 5, dtype)
    content = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of memory that cannot be written
        memory = RowsMemory(written.rows, stream=False)
        whole = memory.whole()
    (whole.data if isinstance(whole, Quantized) else whole).zero_()  # type: ignore[union-attr]
    assert path.read_bytes() == content
    again = RowsMemory(written.rows, stream=False).whole()
    assert again is not None
    assert are_equal(again, written.stored)


@pytest.mark.skipif(sys.platform != "linux", reason="the flag has another value elsewhere")
def test_a_mapping_without_reserved_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MAP_NORESERVE", 0x4000, raising=False)  # from Python 3.13 on
    written = write_rows(path, 1000, 5, torch.float32, 4096)
    whole = RowsMemory(written.rows, stream=False).whole()
    assert isinstance(whole, Tensor)
    assert are_equal(whole, written.stored)
    content = path.read_bytes()
    whole.zero_()
    assert path.read_bytes() == content


def test_a_mapped_memory_outlives_its_object_and_its_file(path: Path) -> None:
    written = write_rows(path, 1000, 5, torch.float32)
    whole = RowsMemory(written.rows, stream=False).whole()
    path.unlink()
    gc.collect()
    assert whole is not None
    assert are_equal(whole, written.stored)


def test_a_second_use_maps_nothing(path: Path) -> None:
    memory = RowsMemory(write_rows(path, 7, 5, torch.float32).rows, stream=False)
    assert memory.whole() is memory.whole()


@pytest.mark.parametrize("kind", ["not direct", "refused on opening", "refused on reading"])
def test_a_file_system_without_direct_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    direct = getattr(os, "O_DIRECT", 0)
    if kind == "not direct":
        monkeypatch.setattr(direct_reads, "_DIRECT", 0)
    elif kind == "refused on opening":
        real = os.open

        def refuse(name: Path, flags: int) -> int:
            if flags & direct:
                raise OSError(22, "Invalid argument")
            return real(name, flags)

        monkeypatch.setattr(os, "open", refuse)
    else:
        import fcntl

        preadv = os.preadv

        def refuse_to_read(descriptor: int, buffers: list[memoryview], offset: int) -> int:
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & direct:
                raise OSError(22, "Invalid argument")
            return preadv(descriptor, buffers, offset)

        monkeypatch.setattr(os, "preadv", refuse_to_read)
    for dtype in DTYPES:
        written = write_rows(path, 1000, 5, dtype, 24)
        with direct_reads.open_parts(path) as file:
            assert not file.is_direct
        assert are_equal(all_rows(RowsMemory(written.rows, stream=True)), written.stored)


def test_buffered_reads_leave_no_pages_in_the_cache(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advised: list[tuple[int, int]] = []

    def advise(descriptor: int, begin: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        advised.append((begin, begin + size))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    memory = RowsMemory(write_rows(path, 1000, 5, torch.float32).rows, stream=True)
    all_rows(memory)
    assert advised == []
    monkeypatch.setattr(direct_reads, "_DIRECT", 0)
    all_rows(memory)
    pages = {page for begin, end in advised for page in range(begin // 4096, end // 4096)}
    assert pages == {*range(5)}


def test_reads_that_stop_early_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_reads, "_DIRECT", 0)
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, at: preadv(file, [buffers[0][:77]], at))
    written = write_rows(path, 100, 5, torch.float32)
    assert are_equal(all_rows(RowsMemory(written.rows, stream=True)), written.stored)


def shorten(monkeypatch: pytest.MonkeyPatch, is_short: Callable[[int], bool], most: int) -> None:
    """Let reads at some places of a file return few bytes, and garbage after them."""
    preadv = os.preadv

    def read(descriptor: int, buffers: list[memoryview], at: int) -> int:
        count = preadv(descriptor, buffers, at)
        if not is_short(at) or count <= most:
            return count
        buffers[0][most:count] = b"\xff" * (count - most)
        return most

    monkeypatch.setattr(os, "preadv", read)
    monkeypatch.setattr(direct_reads, "_is_direct", lambda path, descriptor: True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_direct_reads_that_stop_early_are_continued(
    path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(rows, "PART_BYTES", 20_000)
    written = write_rows(path, 5000, 5, dtype, offset=24)
    shorten(monkeypatch, lambda at: True, 4096 + 2560)
    assert are_equal(all_rows(RowsMemory(written.rows, stream=True)), written.stored)


def test_a_block_that_is_never_read_whole_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PART_BYTES", 20_000)
    memory = RowsMemory(write_rows(path, 5000, 5, torch.float32).rows, stream=True)
    shorten(monkeypatch, lambda at: at == 0, 16384)
    shorten(monkeypatch, lambda at: at == 16384, 2560)
    expected = r"rows.bin: cannot be read: expected 20,000 bytes from byte 0 on, got 18,944$"
    with pytest.raises(MemhopError, match=expected):
        all_rows(memory)


def test_two_parts_are_read_ahead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_rows(path, 100, 5, torch.float32)
    started: list[int] = []
    read = direct_reads._read

    def note(*arguments: object) -> list[int]:
        started.append(len(started))
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(direct_reads, "_read", note)
    stream = RowsMemory(written.rows, stream=True).stream([(i, i + 10) for i in range(0, 100, 10)])
    addresses = set()
    for done, part in enumerate(stream, 1):
        assert isinstance(part, Tensor)
        addresses.add(part.data_ptr() // direct_reads.BLOCK_BYTES)
        assert len(started) <= min(10, done + 2)
    assert len(started) == 10
    assert len(addresses) == 3


def test_a_stream_that_is_left_early(path: Path) -> None:
    memory = RowsMemory(write_rows(path, 1000, 5, torch.float32).rows, stream=True)
    stream = memory.stream(memory.ranges())
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        [1 / 0 for _ in memory.stream(memory.ranges())]
    next(memory.stream(memory.ranges()))  # let go


def test_an_error_of_the_device_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = RowsMemory(write_rows(path, 1000, 5, torch.float32).rows, stream=True)
    preadv, count = os.preadv, iter(range(1000))

    def fail(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if next(count) == 5:
            raise OSError(5, "Input/output error")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(MemhopError, match=r"rows.bin: cannot be read: Input/output error$"):
        all_rows(memory)


CHANGED = r"rows.bin: the file has changed since it was opened: expected 2,000 bytes"
SHORT = r"rows.bin: the file is too short: expected 2,000 bytes for rows \[100, 5\], got 1,999$"


def write_again(path: Path) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def replace(path: Path) -> None:
    status = path.stat()
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "written": (write_again, CHANGED),
    "appended": (lambda path: path.write_bytes(path.read_bytes() + b"1"), CHANGED),
    "replaced": (replace, CHANGED),
    "truncated": (lambda path: os.truncate(path, 1999), SHORT),
    "removed": (Path.unlink, r"rows.bin: no such file$"),
}


@pytest.mark.parametrize("is_streamed", MODES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_between_two_uses(path: Path, change: str, is_streamed: bool) -> None:
    memory = RowsMemory(write_rows(path, 100, 5, torch.float32).rows, stream=is_streamed)
    for is_first in (True, False):
        if is_first:
            all_rows(memory)
        apply, message = CHANGES[change]
        if is_first:
            apply(path)
        with pytest.raises(MemhopError, match=message):
            all_rows(memory)


@pytest.mark.parametrize("change", ["written", "appended", "truncated"])
def test_a_file_that_changes_during_a_stream(path: Path, change: str) -> None:
    memory = RowsMemory(write_rows(path, 100, 5, torch.float32).rows, stream=True)
    apply, message = CHANGES[change]
    stream = memory.stream(memory.ranges())
    next(stream)
    apply(path)
    with pytest.raises(MemhopError, match=message):
        list(stream)


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_stream_ends_with_the_file_that_it_began_with(path: Path, change: str) -> None:
    written = write_rows(path, 100, 5, torch.float32)
    memory = RowsMemory(written.rows, stream=True)
    apply, message = CHANGES[change]
    stream = copied(memory.stream(memory.ranges()))
    first = next(stream)
    apply(path)
    assert are_equal(joined([first, *stream]), written.stored)
    with pytest.raises(MemhopError, match=message):
        all_rows(memory)


@pytest.mark.parametrize("is_streamed", MODES)
def test_a_file_may_grow_but_not_shrink_below_the_rows(path: Path, is_streamed: bool) -> None:
    written = write_rows(path, 100, 5, torch.float32)
    memory = RowsMemory(written.rows._replace(is_growing=True), stream=is_streamed)
    for _ in range(2):
        assert are_equal(all_rows(memory), written.stored)
        with path.open("ab") as file:
            file.write(b"more")
        os.truncate(path, 2000)
    os.truncate(path, 1999)
    with pytest.raises(MemhopError, match=SHORT):
        all_rows(memory)


def test_a_growing_file_may_lose_its_name_when_it_is_mapped(path: Path) -> None:
    written = write_rows(path, 100, 5, torch.float32)
    memory = RowsMemory(written.rows._replace(is_growing=True), stream=False)
    memory.whole()
    path.unlink()
    assert are_equal(all_rows(memory), written.stored)


def test_files_that_cannot_be_opened(path: Path, tmp_path: Path) -> None:
    rows = Rows(path, (7, 5), torch.float32, 0, 20)
    with pytest.raises(MemhopError, match=r"rows.bin: no such file$"):
        RowsMemory(rows)
    path.write_bytes(bytes(139))
    short = r"too short: expected 140 bytes for rows \[7, 5\], got 139$"
    with pytest.raises(MemhopError, match=short):
        RowsMemory(rows)
    with pytest.raises(MemhopError, match=r": expected a file, got another kind$"):
        RowsMemory(rows._replace(path=tmp_path))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(MemhopError, match=r"pipe: expected a file, got another kind$"):
            RowsMemory(rows._replace(path=tmp_path / "pipe"))


def test_a_file_without_permission(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_rows(path, 7, 5, torch.float32)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(MemhopError, match=r"rows.bin: cannot be read: Permission denied$"):
        RowsMemory(written.rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (-1, 5)}, r"expected \[N, I\] with I at least 1, got \[-1, 5\]"),
        ({"shape": (7, 0)}, r"expected \[N, I\] with I at least 1, got \[7, 0\]"),
        ({"dtype": torch.int64}, "expected float32, float64, .* with scales, got int64$"),
        ({"dtype": torch.int8}, "got int8$"),
        ({"scales": (140, 4)}, "got float32 with scales$"),
        ({"offset": -4}, "expected rows of 20 bytes or more, got offset -4, row_bytes 20"),
        ({"row_bytes": 16}, "got offset 0, row_bytes 16"),
        ({"row_bytes": 22}, "got offset 0, row_bytes 22"),
        ({"dtype": torch.int8, "scales": (-4, 4)}, r"scales \(-4, 4\)"),
        ({"dtype": torch.int8, "scales": (140, 3)}, r"scales \(140, 3\)"),
        ({"dtype": torch.int8, "scales": (140, 6)}, r"scales \(140, 6\)"),
    ],
)
def test_impossible_layouts(path: Path, changes: dict[str, object], message: str) -> None:
    path.write_bytes(bytes(1000))
    with pytest.raises(MemhopError, match=message):
        RowsMemory(Rows(path, (7, 5), torch.float32, 0, 20)._replace(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("ram", "is_streamed"), [(None, False), (187, False), (186, True)])
def test_rows_are_streamed_if_they_take_more_than_three_quarters_of_the_ram(
    path: Path, monkeypatch: pytest.MonkeyPatch, ram: int | None, is_streamed: bool
) -> None:
    monkeypatch.setattr(rows, "ram_bytes", lambda: ram)
    memory = RowsMemory(write_rows(path, 7, 5, torch.float32, offset=400).rows)
    assert memory.is_streamed == is_streamed
    how = "read part by part" if is_streamed else "memory-mapped"
    assert repr(memory) == f"RowsMemory({str(path)!r}, [7, 5] float32, {how})"
    assert len(memory) == 7


@pytest.mark.parametrize("is_streamed", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 9])
def test_shards_are_the_memory(
    path: Path, num_ranks: int, dtype: torch.dtype, is_streamed: bool
) -> None:
    written = write_rows(path, 7, 3, dtype, 24, 2)
    memory = RowsMemory(written.rows)
    shards = [memory.shard(rank, num_ranks, stream=is_streamed) for rank in range(num_ranks)]
    sizes = [shard.shape[0] for shard in shards]
    assert sum(sizes) == 7
    assert max(sizes) - min(sizes) <= 1
    assert are_equal(joined([all_rows(shard) for shard in shards]), written.stored)


def test_wrong_shards(path: Path) -> None:
    memory = RowsMemory(write_rows(path, 7, 3, torch.float32).rows)
    with pytest.raises(MemhopError, match=r"^rank: expected an integer from 0 to 0, got 1$"):
        memory.shard(1, 1)
    with pytest.raises(MemhopError, match=r"^num_ranks: expected an integer from 1, got 0$"):
        memory.shard(0, 0)
    path.write_bytes(b"")
    with pytest.raises(MemhopError, match="the file is too short"):
        memory.shard(0, 2)
