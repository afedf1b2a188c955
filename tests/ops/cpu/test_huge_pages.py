"""Tensors in huge pages: madvise gets whole pages inside the tensor only."""

import mmap

import pytest
import torch

from memhop.ops.cpu import huge_pages

needs_huge_pages = pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE"), reason="needs madvise(MADV_HUGEPAGE)"
)


def test_tensors_have_the_shape_and_dtype_of_the_rows_and_are_contiguous() -> None:
    for rows in (torch.zeros(3, 5).mT, torch.zeros(0, 4).bfloat16(), torch.zeros(1).expand(7, 3)):
        for tensor in (huge_pages.empty_like(rows), huge_pages.zeros_like(rows)):
            assert (tensor.shape, tensor.dtype) == (rows.shape, rows.dtype)
            assert tensor.is_contiguous()
        assert not tensor.any()


@needs_huge_pages
@pytest.mark.parametrize("mebibytes", [1, 3, 4, 33])
def test_only_whole_pages_inside_the_tensor_are_advised(
    mebibytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    advised = []
    monkeypatch.setattr(huge_pages, "MIN_BYTES", 1)
    monkeypatch.setattr(huge_pages, "_madvise", lambda: lambda *given: advised.append(given))
    tensor = huge_pages.empty_like(torch.empty(mebibytes << 20, dtype=torch.int8))
    for begin, size, advice in advised:
        assert begin % huge_pages.PAGE_BYTES == size % huge_pages.PAGE_BYTES == 0
        assert tensor.data_ptr() <= begin < begin + size <= tensor.data_ptr() + tensor.nbytes
        assert advice == mmap.MADV_HUGEPAGE
    assert sum(size for _, size, _ in advised) >= (mebibytes - 4) << 20


@needs_huge_pages
def test_small_tensors_are_not_advised_and_advice_may_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*given: int) -> int:
        raise AssertionError("madvise called")

    monkeypatch.setattr(huge_pages, "_madvise", lambda: never)
    huge_pages.empty_like(torch.empty(1000))
    monkeypatch.setattr(huge_pages, "MIN_BYTES", 1)
    monkeypatch.setattr(huge_pages, "_madvise", lambda: lambda *given: -1)
    assert huge_pages.empty_like(torch.empty(1 << 20)).fill_(1.0).sum() == 1 << 20
