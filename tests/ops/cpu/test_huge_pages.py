"""Space for large gradients: what is asked of the system stays within the tensor."""

import mmap

import pytest
import torch

from memhop.ops.cpu import huge_pages

needs_large_pages = pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE"), reason="needs madvise(MADV_HUGEPAGE)"
)


def test_room_has_the_shape_and_dtype_of_the_rows_and_is_contiguous() -> None:
    for rows in (torch.zeros(3, 5).mT, torch.zeros(0, 4).bfloat16(), torch.zeros(1).expand(7, 3)):
        room = huge_pages.empty_like(rows)
        assert (room.shape, room.dtype) == (rows.shape, rows.dtype)
        assert room.is_contiguous()


@needs_large_pages
@pytest.mark.parametrize("mebibytes", [1, 3, 4, 33])
def test_only_whole_pages_within_the_tensor_are_asked_for(
    mebibytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(huge_pages, "LARGE", 1)
    monkeypatch.setattr(huge_pages, "_advise", lambda: lambda *given: asked.append(given))
    room = huge_pages.empty_like(torch.empty(mebibytes << 20, dtype=torch.int8))
    for begin, size, advice in asked:
        assert begin % huge_pages.PAGE == size % huge_pages.PAGE == 0
        assert room.data_ptr() <= begin < begin + size <= room.data_ptr() + room.nbytes
        assert advice == mmap.MADV_HUGEPAGE
    assert sum(size for _, size, _ in asked) >= (mebibytes - 4) << 20


@needs_large_pages
def test_small_rooms_are_left_alone_and_advice_may_be_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*given: int) -> int:
        raise AssertionError("asked for large pages")

    monkeypatch.setattr(huge_pages, "_advise", lambda: never)
    huge_pages.empty_like(torch.empty(1000))
    monkeypatch.setattr(huge_pages, "LARGE", 1)
    monkeypatch.setattr(huge_pages, "_advise", lambda: lambda *given: -1)
    assert huge_pages.empty_like(torch.empty(1 << 20)).fill_(1.0).sum() == 1 << 20
