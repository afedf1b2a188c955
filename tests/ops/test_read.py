"""``ops.read`` against the formula in NumPy: leading axes, banks with slots, no readable slot."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from memhop.ops import IMPLEMENTATIONS, dispatch, eager, read
from tests.ops import oracle


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(params=["bank", "rows"])
def of_a_bank(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to read a bank, whatever counting says."""
    grad_scores = request.param == "bank"
    monkeypatch.setattr(eager, "scores_whole_bank", lambda bank, slots: grad_scores)


LEADING = [  # of query, keys and values
    ((), (), ()),
    ((4,), (4,), (4,)),
    ((4,), (), ()),
    ((), (4,), (4,)),
    ((4,), (1,), (1,)),
    ((1,), (4,), (1,)),
    ((4,), (4,), ()),
    ((4,), (), (4,)),
    ((2, 3), (2, 1), (2, 1)),
    ((2, 3), (1, 3), (2, 3)),
    ((2, 3), (3,), (2, 1)),
    ((3,), (2, 1), (2, 3)),
    ((2, 1, 2), (2, 3, 1), (1, 1)),
    ((0,), (0,), (0,)),
    ((0,), (), ()),
    ((2, 0), (2, 1), (1,)),
]


@pytest.mark.parametrize("num_slots", [0, 1, 5])
@pytest.mark.parametrize("leading", LEADING, ids=str)
def test_every_form_equals_the_formula(
    leading: tuple[tuple[int, ...], ...], num_slots: int
) -> None:
    query, keys, values = (
        normal(*lead, *sizes)
        for lead, sizes in zip(leading, [(6,), (num_slots, 6), (num_slots, 3)], strict=True)
    )
    batch = np.broadcast_shapes(*leading)
    mask = torch.rand(*batch, num_slots) < 0.4
    bias = normal(num_slots).masked_fill(torch.rand(num_slots) < 0.2, -torch.inf)
    for softmax in (True, False):
        truth = oracle.read(
            query, keys, values, padding_mask=mask, score_bias=bias, softmax=softmax
        )
        for impl in IMPLEMENTATIONS:
            found = read(
                query, keys, values, padding_mask=mask, score_bias=bias, softmax=softmax,
                need_weights=True, impl=impl,
            )  # fmt: skip
            for tensor, exact in zip(found, truth, strict=True):
                np.testing.assert_allclose(tensor.numpy(), exact, rtol=1e-9, atol=1e-9)
                assert tensor.shape == exact.shape


@pytest.mark.usefixtures("of_a_bank")
@pytest.mark.parametrize("num_slots", [0, 1, 5])
@pytest.mark.parametrize(
    "leading",  # of query, bank, slots
    [
        ((), (), ()),
        ((4,), (), (4,)),
        ((4,), (), ()),
        ((), (), (4,)),
        ((4,), (1,), (4,)),
        ((4,), (4,), (4,)),
        ((2, 3), (2, 1), (2, 3)),
        ((2, 3), (2, 1), (3,)),
        ((2, 3), (2, 3), (1, 3)),
        ((2, 0), (2, 1), (2, 0)),
    ],
    ids=str,
)
def test_a_bank_equals_the_rows_that_its_slots_name(
    leading: tuple[tuple[int, ...], ...], num_slots: int
) -> None:
    query, bank = normal(*leading[0], 6), normal(*leading[1], 7, 6)
    values = normal(*leading[1], 7, 3)
    slots = torch.randint(0, 7, (*leading[2], num_slots))
    batch = np.broadcast_shapes(*leading)
    mask = torch.rand(*batch, num_slots) < 0.3
    for other in (None, values):
        truth = oracle.read(query, bank, other, slots=slots, padding_mask=mask)
        for impl in ("eager", "reference"):
            found = read(
                query, bank, other, slots=slots, padding_mask=mask, need_weights=True, impl=impl
            )
            for tensor, exact in zip(found, truth, strict=True):
                np.testing.assert_allclose(tensor.numpy(), exact, rtol=1e-9, atol=1e-9)
                assert tensor.shape == exact.shape


@pytest.mark.usefixtures("of_a_bank")
@pytest.mark.parametrize("softmax", [True, False])
def test_gradients_equal_finite_differences(softmax: bool) -> None:
    query, keys, values, bias = normal(2, 3, 2), normal(2, 1, 4, 2), normal(4, 3), normal(2, 3, 3)
    slots = torch.tensor([[0, 3, 3], [2, 2, 2], [1, 0, 3]])
    mask = torch.tensor([[False, True, False], [True, True, True], [False, False, False]])
    tensors = [tensor.requires_grad_() for tensor in (query, keys, values, bias)]

    def call(*_: Tensor) -> tuple[Tensor, Tensor]:
        return read(
            query, keys, values, slots=slots, padding_mask=mask, score_bias=bias, softmax=softmax,
            need_weights=True,
        )  # fmt: skip

    assert torch.autograd.gradcheck(call, tensors)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("exclude", ["padding", "bias", "empty"])
def test_no_readable_slot_reads_zero_with_zero_gradients(exclude: str, impl: str) -> None:
    query, keys = normal(3, 4).requires_grad_(), normal(3, 0 if exclude == "empty" else 5, 4)
    keys.requires_grad_()
    shape = keys.shape[:-1]
    read_out, weights = read(
        query,
        keys,
        padding_mask=torch.ones(shape, dtype=torch.bool) if exclude == "padding" else None,
        score_bias=torch.full(shape, -torch.inf).double() if exclude == "bias" else None,
        need_weights=True,
        impl=impl,
    )
    for zeros in (read_out, weights, *torch.autograd.grad(read_out.sum(), (query, keys))):
        assert torch.equal(zeros, torch.zeros_like(zeros))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_summed_in_float32(dtype: torch.dtype) -> None:
    keys = torch.ones(5000, 1, dtype=dtype)  # in a half type the running sum sticks long before
    query = torch.zeros(1, dtype=dtype)
    assert read(query, keys).item() == 1.0
    scores = read(torch.ones(1, dtype=dtype), keys[:300], softmax=False)
    assert scores.item() == 300.0
    assert scores.dtype == dtype


def test_a_shared_memory_is_not_expanded() -> None:
    query, keys = torch.randn(64, 8), torch.randn(500, 8)
    largest = 0

    class Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.untyped_storage().nbytes() // 4)
            return out

    with Sizes():  # type: ignore[no-untyped-call]
        read(query, keys)
        read(query.view(4, 16, 8), keys.view(1, 1, 500, 8))
    assert largest <= 64 * 500  # the scores; an expanded memory has 64 * 500 * 8


def test_slots_may_be_any_integers() -> None:
    query, bank = torch.randn(2, 3), torch.randn(5, 3)
    slots = torch.tensor([[0, 4], [2, 2]])
    first = read(query, bank, slots=slots)
    for dtype in (torch.int32, torch.int16, torch.int8, torch.uint8):
        assert torch.equal(read(query, bank, slots=slots.to(dtype)), first)


def test_a_bank_is_read_under_vmap() -> None:
    query, bank, slots = normal(4, 3), normal(6, 3), torch.randint(0, 6, (4, 5))
    each = torch.func.vmap(lambda q, s: read(q, bank, slots=s))(query, slots)
    torch.testing.assert_close(each, read(query, bank, slots=slots))


def test_counting_decides_between_the_bank_and_its_rows() -> None:
    slots = torch.zeros(3, 10, dtype=torch.long)
    factor = dispatch.GATHERED_ROW
    assert dispatch.scores_whole_bank(torch.zeros(10 * factor, 2), slots)
    assert not dispatch.scores_whole_bank(torch.zeros(10 * factor + 1, 2), slots)
    trained = torch.zeros(10 * dispatch.GATHERED_ROW_WITH_GRADIENT, 2, requires_grad=True)
    assert dispatch.scores_whole_bank(trained, slots)
    with torch.no_grad():
        assert not dispatch.scores_whole_bank(trained, slots)
