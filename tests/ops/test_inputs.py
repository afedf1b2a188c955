"""What a memory may be stored in: int8 with a scale for each row, half types, mapped files."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import memhop
from memhop.ops import IMPLEMENTATIONS, Hop, Quantized, Table, multi_hop, read
from memhop.ops.inputs import Stored
from tests.ops import oracle

every_form = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


def hops_of(memory_dim: int, input_dim: int, num_hops: int = 2) -> list[Hop]:
    def table() -> Table:
        return Table(torch.randn(memory_dim, input_dim), torch.randn(memory_dim))

    return [Hop(table(), table()) for _ in range(num_hops)]


def close(found: Tensor, exact: Any) -> None:
    assert found.shape == exact.shape
    np.testing.assert_allclose(found.detach().double().numpy(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(7, 5), (3, 7, 5), (2, 3, 4, 1), (0, 5), (2, 0, 3)])
def test_quantized_errs_by_half_a_step_at_most(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    rows = (100 * torch.randn(shape, dtype=torch.float64)).to(dtype)
    memory = Quantized.of(rows)
    assert (memory.data.dtype, memory.scale.dtype) == (torch.int8, torch.float32)
    assert (memory.data.shape, memory.scale.shape) == (rows.shape, rows.shape[:-1])
    largest = rows.double().abs().amax(-1, keepdim=True)
    error = (memory.dequantized().double() - rows.double()).abs()
    assert (error <= largest / 254 * (1 + 1e-5)).all()
    assert memory.dequantized().dtype == torch.float32
    assert (memory.data.abs().amax(-1) == 127).all()  # all of int8 is used


def test_quantized_keeps_rows_of_zeros_and_of_next_to_nothing() -> None:
    tiny = torch.tensor([[0.0, -0.0], [1e-45, -1e-45], [3e-43, -1e-43], [3e38, -1e38]])
    memory = Quantized.of(tiny)
    assert memory.scale[0] == 0
    assert memory.scale.isfinite().all()
    assert torch.equal(memory.data[:2], torch.zeros(2, 2, dtype=torch.int8))
    assert torch.equal(memory.dequantized()[:2], torch.zeros(2, 2))
    error = (memory.dequantized().double() - tiny.double()).abs().amax(-1)
    assert (error[:3] <= 1e-43).all()
    assert error[3] <= 3e38 / 254
    coarse = Quantized.of(torch.tensor([[184 * 2.0**-149, 0.0]]))  # the scale is 2**-149, not 1.45
    assert torch.equal(coarse.data, torch.tensor([[127, 0]], dtype=torch.int8))
    assert torch.equal(memory.data[3], torch.tensor([127, -42], dtype=torch.int8))


def test_quantized_rows_need_no_order_and_no_gradient() -> None:
    rows = torch.randn(5, 7, requires_grad=True)
    memory = Quantized.of(rows.mT)
    assert torch.equal(memory.data, Quantized.of(rows.mT.contiguous()).data)
    assert not memory.scale.requires_grad
    assert memhop.Quantized is Quantized


FLOATING = "a floating tensor [..., N, I], got "
NUMBERS = "[..., N, I] with I at least 1, got "
FINITE = "finite numbers within float32, got others"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (torch.zeros(3, 4).int(), f"{FLOATING}torch.int32"),
        ([[1.0]], f"{FLOATING}list"),
        (torch.zeros(4), f"{NUMBERS}[4]"),
        (torch.zeros(4, 0), f"{NUMBERS}[4, 0]"),
        (torch.tensor([[1.0, torch.inf]]), FINITE),
        (torch.tensor([[1.0, torch.nan]]), FINITE),
        (torch.tensor([[1e300]]).double(), FINITE),
    ],
)
def test_quantized_says_what_it_expected(rows: Any, words: str) -> None:
    with pytest.raises(ValueError, match=r"^Quantized\.of expected") as error:
        Quantized.of(rows)
    assert str(error.value) == f"Quantized.of expected {words}"


@every_form
def test_a_row_is_its_scale_times_its_numbers_whatever_the_scale(impl: str) -> None:
    data = torch.randint(-128, 128, (3, 5, 4), dtype=torch.int8)
    memory = Quantized(data, torch.randn(3, 5) / 100)  # negative too
    query, hops = torch.randn(3, 2), hops_of(2, 4)
    exact, weights = oracle.multi_hop(query, memory, hops)
    found = multi_hop(query, memory, hops, need_weights=True, impl=impl)
    close(found[0], exact)
    close(found[1], weights)


STORES: dict[str, Any] = {
    "int8": Quantized.of,
    "bfloat16": Tensor.bfloat16,
    "float16": Tensor.half,
    "float32": lambda rows: rows,
}


@every_form
@pytest.mark.parametrize("of_values", [*STORES, None])
@pytest.mark.parametrize("of_keys", STORES)
def test_a_read_of_keys_and_values_each_in_a_store_of_its_own(
    of_keys: str, of_values: str | None, impl: str
) -> None:
    query, bank, other = torch.randn(3, 5), torch.randn(9, 5), torch.randn(9, 2)
    keys: Stored = STORES[of_keys](bank)
    values: Stored | None = None if of_values is None else STORES[of_values](other)
    slots, lengths = torch.randint(9, (3, 6)), torch.tensor([6, 0, 3])
    for named in (slots, None):
        exact, weights = oracle.read(query, keys, values, slots=named, lengths=lengths)
        found = read(
            query, keys, values, slots=named, lengths=lengths, need_weights=True, impl=impl
        )
        close(found[0], exact)
        close(found[1], weights)
        assert found[0].dtype == found[1].dtype == torch.float32


@every_form
def test_lengths_of_any_integers_are_a_padding_mask(impl: str) -> None:
    query, keys, lengths = torch.randn(2, 3, 4), torch.randn(2, 3, 6, 4), torch.tensor([0, 6, 2])
    for given, laid in (
        (lengths, lengths.expand(2, 3)),
        (lengths[:, None].mT, lengths.expand(2, 3)),
        (torch.tensor([[5], [1]]), torch.tensor([[5] * 3, [1] * 3])),
        (torch.tensor(4), torch.full((2, 3), 4)),
    ):
        mask = torch.arange(6) >= laid[..., None]
        exact = read(query, keys, padding_mask=mask, need_weights=True, impl=impl)
        for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
            found = read(query, keys, lengths=given.to(dtype), need_weights=True, impl=impl)
            torch.testing.assert_close(found, exact)


@every_form
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rows_that_slots_name_twice_have_the_sum_of_the_gradients(
    impl: str, dtype: torch.dtype
) -> None:
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    hops = [Hop(Table(torch.randn(2, 4).to(computed)), Table(torch.randn(2, 4).to(computed)))] * 2
    bank, query = torch.randn(6, 4).to(dtype).requires_grad_(), torch.randn(3, 2).to(computed)
    slots = torch.tensor([[0, 0, 0, 5], [5, 1, 1, 0], [2, 2, 2, 2]])
    rows = bank.detach().to(computed)[slots].requires_grad_()
    (of_rows,) = torch.autograd.grad(multi_hop(query, rows, hops, impl="reference").sum(), rows)
    summed = torch.zeros(6, 4, dtype=computed).index_put_((slots,), of_rows, accumulate=True)
    (found,) = torch.autograd.grad(multi_hop(query, bank, hops, slots=slots, impl=impl).sum(), bank)
    assert found.dtype == dtype
    torch.testing.assert_close(
        found, summed.to(dtype), rtol=2e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5
    )
    assert (found[3:5] == 0).all()  # named by none


def test_a_memory_in_fewer_bytes_under_autocast() -> None:
    query, rows, hops = torch.randn(3, 2), torch.randn(3, 5, 4), hops_of(2, 4)
    for store in STORES.values():
        memory = store(rows)
        exact = multi_hop(query, memory, hops)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = multi_hop(query.bfloat16(), memory, hops, values=rows.half())
            alone = multi_hop(query, memory, hops)
        assert found.dtype == alone.dtype == torch.bfloat16
        assert torch.equal(alone, exact.bfloat16())  # computed in float32, rounded at the end


def test_int8_under_the_transforms_of_torch() -> None:
    query, memory, hops = torch.randn(3, 2), Quantized.of(torch.randn(3, 5, 4)), hops_of(2, 4)
    exact = multi_hop(query, memory, hops)
    each = torch.func.vmap(lambda q, m: multi_hop(q, m, hops))(query, memory)
    torch.testing.assert_close(each, exact)
    grad_query = torch.func.grad(lambda q: multi_hop(q, memory, hops).sum())(query)
    needs = query.clone().requires_grad_()
    torch.autograd.backward(multi_hop(needs, memory, hops).sum())
    torch.testing.assert_close(needs.grad, grad_query)
    torch.compiler.reset()
    compiled = torch.compile(
        lambda q, m: multi_hop(q, m, hops), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(query, memory), exact)
    again = pickle.loads(pickle.dumps(memory))
    assert torch.equal(again.data, memory.data)
    assert torch.equal(again.scale, memory.scale)


def test_quantized_loads_from_a_file_that_runs_no_code(tmp_path: Path) -> None:
    memory = Quantized.of(torch.randn(5, 4))
    torch.save({"memory": memory}, tmp_path / "memory.pt")
    loaded = torch.load(tmp_path / "memory.pt", weights_only=True)["memory"]
    assert isinstance(loaded, Quantized)
    assert torch.equal(loaded.dequantized(), memory.dequantized())


INDICES: list[Any] = [
    0, -1, slice(1, 3), [2, 0], torch.tensor([True, False, True]), None, ..., (0, 1), (..., 2),
    (slice(None), slice(0, 2)), (None, ..., slice(1, None)), (torch.tensor([0, 2]), 1),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_quantized_is_indexed_by_rows_as_a_tensor_is(index: Any) -> None:
    memory = Quantized.of(torch.randn(3, 5, 4))
    rows = torch.arange(15).view(3, 5)[index]  # the numbers of the rows that the index names
    expected = memory.dequantized().view(15, 4)[rows]
    assert torch.equal(memory[index].dequantized(), expected)


def test_quantized_has_sizes_and_a_device_and_moves() -> None:
    memory = Quantized.of(torch.randn(3, 5, 4))
    assert (memory.shape, memory.dim(), len(memory)) == ((3, 5, 4), 3, 3)
    assert memory.device == torch.device("cpu")
    assert memory.to("cpu") is memory.cpu() is memory
    away = memory.to(torch.device("meta"))
    assert (away.data.device.type, away.scale.device.type) == ("meta", "meta")
    with pytest.raises(ValueError, match=r"expected a device, got torch.float32"):
        memory.to(torch.float32)  # type: ignore[arg-type]
    for index in ((0, 0, 0), (..., 0, 0, 0), 3):
        with pytest.raises(IndexError):
            memory[index]


def mapped(path: Path, rows: Tensor, by: str) -> Tensor:
    """A tensor over a file that holds the rows."""
    path.write_bytes(rows.numpy().tobytes())
    if by == "torch":
        flat = torch.from_file(str(path), shared=False, size=rows.numel(), dtype=rows.dtype)
        return flat.view(rows.shape)
    array = np.memmap(path, dtype=rows.numpy().dtype, mode="r", shape=tuple(rows.shape))
    with warnings.catch_warnings(action="ignore"):  # that it may not be written to
        return torch.from_numpy(array)


@every_form
@pytest.mark.parametrize("by", ["torch", "numpy"])
def test_a_memory_over_a_mapped_file_is_read(tmp_path: Path, by: str, impl: str) -> None:
    query, rows, hops = torch.randn(3, 2), torch.randn(3, 50, 4), hops_of(2, 4)
    memory = mapped(tmp_path / "rows", rows, by)
    torch.testing.assert_close(
        multi_hop(query, memory, hops, impl=impl), multi_hop(query, rows, hops, impl=impl)
    )
    int8 = Quantized.of(rows)
    data = mapped(tmp_path / "data", int8.data, by)
    found = multi_hop(query, Quantized(data, int8.scale), hops, impl=impl)
    torch.testing.assert_close(found, multi_hop(query, int8, hops, impl=impl))


@every_form
def test_no_layout_of_a_memory_changes_what_is_read(impl: str) -> None:
    query, rows, hops = torch.randn(3, 2), torch.randn(3, 7, 4), hops_of(2, 4)
    exact = multi_hop(query, rows, hops, impl=impl)
    wide = torch.randn(3, 14, 9)
    wide[:, ::2, 1::2] = rows
    for laid in (
        rows.mT.contiguous().mT,
        wide[:, ::2, 1::2],
        rows.transpose(0, 1).contiguous().transpose(0, 1),
    ):
        assert not laid.is_contiguous()
        torch.testing.assert_close(multi_hop(query, laid, hops, impl=impl), exact)
        needs = laid.clone(memory_format=torch.preserve_format).requires_grad_()
        (found,) = torch.autograd.grad(multi_hop(query, needs, hops, impl=impl).sum(), needs)
        plain = rows.clone().requires_grad_()
        (truth,) = torch.autograd.grad(multi_hop(query, plain, hops, impl="reference").sum(), plain)
        torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-5)
        half = Quantized.of(laid)
        data = torch.empty(3, 4, 7, dtype=torch.int8).mT.copy_(half.data)
        scale = torch.empty(7, 3).mT.copy_(half.scale)
        torch.testing.assert_close(
            multi_hop(query, Quantized(data, scale), hops, impl=impl),
            multi_hop(query, half.dequantized(), hops, impl=impl),
        )


@every_form
def test_empty_memories_of_every_store_read_zero(impl: str) -> None:
    hops = hops_of(2, 4)
    for batch in (0, 3):
        for store in STORES.values():
            query, memory = (
                torch.randn(batch, 2, requires_grad=True),
                store(torch.randn(batch, 0, 4)),
            )
            found = multi_hop(query, memory, hops, impl=impl)
            assert torch.equal(found, query)
            torch.autograd.backward(found.sum())
            assert query.grad is not None
            assert torch.equal(query.grad, torch.ones(batch, 2))
