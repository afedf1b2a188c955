"""The read of slots that are sums of rows, compiled and in torch, against plain loops in NumPy."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from memhop.ops.text import two_row_attention, two_row_attention_cpu
from memhop.ops.text.two_row_attention import TwoRowMemory
from tests.ops.fixed_order import FixedOrder
from tests.seeds import thorough

Array = np.ndarray[Any, np.dtype[np.float64]]
ENOUGH = two_row_attention.WORTH_COMPILING
MODES = [(mask_rest, softmax) for mask_rest in (True, False) for softmax in (True, False)]


class Case(NamedTuple):
    query: Tensor
    keys: Tensor
    values: Tensor
    rows: Tensor
    lengths: Tensor


def draw(
    seed: int, batches: int, questions: int, slots: int, terms: int, columns: int,
    dtype: torch.dtype = torch.float64, lengths: list[int] | None = None,
) -> Case:  # fmt: skip
    """A bank of five rows, so that rows repeat; lengths from 0 to N unless they are given."""
    make = torch.Generator().manual_seed(seed)
    sizes = [(questions, columns), (5, columns), (5, columns)]
    query, keys, values = (
        torch.randn(batches, *size, generator=make, dtype=torch.float64).to(dtype) for size in sizes
    )
    rows = torch.randint(0, 5, (batches, questions, terms, slots), generator=make)
    used = torch.randint(0, slots + 1, (batches, questions), generator=make)
    if lengths is not None:
        used = torch.tensor(lengths).expand(batches, -1).contiguous()
    for r, b in np.ndindex(batches, questions):
        length = int(used[r, b])
        rows[r, b, :, length:] = rows[r, b, :, length : length + 1]
    return Case(query, keys, values, rows, used)


def in_torch(query: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    keys, values, rows, *rest = given
    keys, values = (two_row_attention._gathered(bank, rows, 1) for bank in (keys, values))
    read, weights = two_row_attention._read_eager(query, keys, values, *rest)
    return read, weights.squeeze(-2)


def compiled(
    query: Tensor, keys: Tensor, values: Tensor, rows: Tensor, lengths: Tensor, *modes: bool
) -> tuple[Tensor, Tensor]:
    options = two_row_attention_cpu.ReadOptions(((0, 1),), 1, *modes)
    bank = torch.stack([keys, values])
    read, weights, _ = two_row_attention_cpu.read(query, bank, rows, lengths, options)
    return read, weights[0].squeeze(-2)


FORMS = {"torch": in_torch, "compiled": compiled}


def formula(case: Case, mask_rest: bool, softmax: bool) -> tuple[Array, Array]:
    """k_i = sum_t K[rows_ti], v_i = sum_t V[rows_ti], p = softmax(q . k), o = sum_i p_i v_i."""
    query, keys, values = (part.detach().double().numpy() for part in case[:3])
    rows, lengths = case.rows.numpy(), case.lengths.numpy()
    batches, questions, terms, slots = rows.shape
    read_out, weights = np.zeros(query.shape), np.zeros((batches, questions, slots))
    for r in range(batches):
        for b in range(questions):
            readable = range(lengths[r, b]) if mask_rest else range(slots)
            scores = []
            for i in readable:
                key = sum(keys[r, rows[r, b, t, i]] for t in range(terms))
                scores.append(float(query[r, b] @ key))
            if softmax and scores:
                powers = [float(np.exp(score - max(scores))) for score in scores]
                scores = [power / sum(powers) for power in powers]
            for i, weight in zip(readable, scores, strict=True):
                weights[r, b, i] = weight
                for t in range(terms):
                    read_out[r, b] += weight * values[r, rows[r, b, t, i]]
    return read_out, weights


def trained(case: Case) -> Case:
    query, keys, values = (part.detach().clone().requires_grad_() for part in case[:3])
    return Case(query, keys, values, case.rows, case.lengths)


def with_gradients(form: str, case: Case, mask_rest: bool, softmax: bool) -> list[Tensor]:
    """Both results, and the gradients of something that depends on each of them."""
    case = trained(case)
    found = FORMS[form](*case, mask_rest, softmax)
    total = sum((part * part.detach().cos()).sum() for part in found)
    assert isinstance(total, Tensor)
    return [part.detach() for part in (*found, *torch.autograd.grad(total, case[:3]))]


def assert_bit_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def drawn() -> list[tuple[int, ...]]:
    random = np.random.default_rng(0)
    bounds = [(1, 5), (1, 10), (0, 13), (1, 4)]  # R, B, N, S
    sizes: list[tuple[int, ...]] = [
        tuple(int(random.integers(*bound)) for bound in bounds) for _ in range(20)
    ]
    columns = [1, 3, 5, 7, 9, 17]
    # no slot, one slot and one of everything, whatever was drawn
    sizes += [(2, 3, 0, 2), (1, 1, 1, 1), (3, 9, 1, 3), (4, 9, 12, 3)]
    return [(*size, columns[i % len(columns)]) for i, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "mask_rest", "softmax"),
    [
        (size, *mode) if n % 4 == number else thorough(size, *mode)
        for n, size in enumerate(drawn())
        for number, mode in enumerate(MODES)
    ],
    ids=str,
)
def test_both_forms_equal_the_formula(
    sizes: tuple[int, int, int, int, int], mask_rest: bool, softmax: bool
) -> None:
    case = draw(sum(sizes), *sizes)
    truth = formula(case, mask_rest, softmax)
    for form in FORMS.values():
        for tensor, exact in zip(form(*case, mask_rest, softmax), truth, strict=True):
            assert tensor.shape == exact.shape
            np.testing.assert_allclose(tensor.numpy(), exact, rtol=1e-9, atol=1e-9)

    case = draw(sum(sizes), *sizes, dtype=torch.float32)
    truth = formula(case, mask_rest, softmax)
    with FixedOrder():  # type: ignore[no-untyped-call]
        in_torch = FORMS["torch"](*case, mask_rest, softmax)
    compiled = FORMS["compiled"](*case, mask_rest, softmax)
    for tensor, other, exact in zip(compiled, in_torch, truth, strict=True):
        assert tensor.dtype == torch.float32
        rounding = torch.finfo(torch.float32).eps * (1 + np.abs(exact).max(initial=0))
        budget = 2 * np.abs(other.double().numpy() - exact).max(initial=0) + 8 * rounding
        assert np.abs(tensor.double().numpy() - exact).max(initial=0) <= budget


@pytest.mark.parametrize(("mask_rest", "softmax"), MODES)
def test_gradients_equal_finite_differences_and_the_torch_form(
    mask_rest: bool, softmax: bool
) -> None:
    case = trained(draw(1, 2, 4, 4, 2, 3, lengths=[0, 4, 2, 3]))
    case.rows[0, 1] = torch.tensor([[3, 3, 1, 3], [3, 0, 1, 3]])  # within a slot and between slots

    def call(*_: Tensor) -> tuple[Tensor, Tensor]:
        return FORMS["compiled"](*case, mask_rest, softmax)

    assert torch.autograd.gradcheck(call, case[:3])
    for part in (0, 1):  # each result alone too: the other has no gradient then
        assert torch.autograd.gradcheck(lambda *_, part=part: call()[part], case[:3])
    for seed in range(8):
        other = draw(seed, 3, 5, 7, 3, 5)
        compiled = with_gradients("compiled", other, mask_rest, softmax)
        in_torch = with_gradients("torch", other, mask_rest, softmax)
        torch.testing.assert_close(compiled, in_torch, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("form", "slots"),
    [("torch", 0), ("compiled", 0), ("torch", 4), ("compiled", 4)],
)
@pytest.mark.parametrize("softmax", [True, False])
def test_no_readable_slot_reads_zero_with_zero_gradients(
    form: str, slots: int, softmax: bool
) -> None:
    for mask_rest in (True, False) if slots == 0 else (True,):
        case = draw(2, 2, 3, slots, 2, 5, lengths=[0, 0, 0])
        for zeros in with_gradients(form, case, mask_rest, softmax):
            assert torch.equal(zeros, torch.zeros_like(zeros))
    if slots:  # beside questions that read
        case = draw(2, 2, 3, slots, 2, 5, lengths=[0, slots, 1])
        read_out, weights, grad_query, *_ = with_gradients(form, case, True, softmax)
        for part in (read_out, weights, grad_query):
            assert not part[:, 0].any()
        assert weights[:, 1:].any(-1).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("mask_rest", "softmax"), MODES)
def test_huge_scores_give_no_nan(
    mask_rest: bool, softmax: bool, dtype: torch.dtype, form: str
) -> None:
    case = draw(3, 2, 4, 6, 2, 3, dtype, lengths=[0, 6, 2, 3])
    case.query[..., 1:], case.keys[..., 1:] = 0, 0
    case.query[..., 0] = 2.0**50  # scores of 1e30, and exact: ties stay ties in any order of sums
    case.keys[..., 0] = torch.tensor([1.0, -1.0, 3.0, -3.0, 1.0]) * 2.0**50
    for part in with_gradients(form, case, mask_rest, softmax):
        assert part.isfinite().all()
    if softmax:
        found = FORMS[form](*case, mask_rest, softmax)
        for tensor, exact in zip(found, formula(case, mask_rest, softmax), strict=True):
            np.testing.assert_allclose(tensor.numpy(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("mask_rest", "softmax"), MODES)
def test_a_batch_is_bit_equal_whatever_stands_beside_it(
    mask_rest: bool, softmax: bool, dtype: torch.dtype
) -> None:
    case = draw(4, 4, 9, 11, 3, 17, dtype)
    together = with_gradients("compiled", case, mask_rest, softmax)
    assert_bit_equal(with_gradients("compiled", case, mask_rest, softmax), together)
    for first, last in [(0, 1), (3, 4), (1, 3)]:
        part = Case(*(tensor[first:last] for tensor in case))
        apart = with_gradients("compiled", part, mask_rest, softmax)
        assert_bit_equal(apart, [tensor[first:last] for tensor in together])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("mask_rest", "softmax"), MODES)
def test_inputs_may_be_gathered_anyhow(mask_rest: bool, softmax: bool, form: str) -> None:
    plain = draw(5, 3, 4, 6, 2, 5, lengths=[0, 6, 2, 3])
    plain.keys[:] = plain.keys[:1].clone()
    wide = torch.zeros(3, 5, 10, dtype=torch.float64)
    wide[..., ::2] = plain.values
    parts = Case(
        plain.query.mT.contiguous().mT,
        plain.keys[:1].clone(),
        wide,
        plain.rows.mT.contiguous().mT,
        plain.lengths[:1].expand(3, -1),
    )
    leaves = [part.requires_grad_() for part in (parts.query, parts.keys, parts.values)]
    case = parts._replace(keys=parts.keys.expand(3, -1, -1), values=wide[..., ::2])
    assert not any(part.is_contiguous() for part in case)
    given = [part.detach().clone() for part in case]

    expected = trained(plain)
    sides = []
    for tensors, inputs in ((case, leaves), (expected, list(expected[:3]))):
        found = FORMS[form](*tensors, mask_rest, softmax)
        before = [part.detach().clone() for part in found]
        grad_read = torch.linspace(-1, 1, 5, dtype=torch.float64).expand_as(found[0])
        grad_weights = torch.linspace(1, 2, 4, dtype=torch.float64).view(4, 1).expand_as(found[1])
        gradients = [
            torch.autograd.grad(found, inputs, (grad_read, grad_weights), retain_graph=True)
            for _ in range(2)
        ]
        assert_bit_equal(list(gradients[0]), list(gradients[1]))  # nothing saved was written to
        assert_bit_equal([part.detach() for part in found], before)
        sides.append((*before, *gradients[0]))
    assert_bit_equal([part.detach() for part in case], given)
    *others, grad_keys, grad_values = sides[1]
    grad_wide = torch.zeros_like(wide)
    grad_wide[..., ::2] = grad_values
    torch.testing.assert_close(
        sides[0], (*others, grad_keys.sum(0, keepdim=True), grad_wide), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize(
    ("form", "slots"),
    [("torch", 0), ("compiled", 0), ("torch", 5), ("compiled", 5)],
)
@pytest.mark.parametrize(("mask_rest", "softmax"), MODES)
def test_leading_axes_have_a_bank_each(
    mask_rest: bool, softmax: bool, slots: int, form: str
) -> None:
    flat = draw(6, 6, 4, slots, 2, 5)
    expected = with_gradients(form, flat, mask_rest, softmax)
    two = Case(*(part.view(2, 3, *part.shape[1:]) for part in flat))
    found = with_gradients(form, two, mask_rest, softmax)
    torch.testing.assert_close(found, [part.view(2, 3, *part.shape[1:]) for part in expected])
    for r in range(6):
        none = Case(*(part[r] for part in flat))
        found = with_gradients(form, none, mask_rest, softmax)
        torch.testing.assert_close(found, [part[r] for part in expected])


def test_many_questions_in_a_full_type_take_the_compiled_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[str] = []

    def record(form: str, read: Callable[..., Any]) -> Any:
        def call(*given: Any) -> Any:
            taken.append(form)
            return read(*given)

        return call

    monkeypatch.setattr(
        two_row_attention, "_read_eager", record("torch", two_row_attention._read_eager)
    )
    monkeypatch.setattr(
        two_row_attention_cpu, "read", record("compiled", two_row_attention_cpu.read)
    )
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        full = dtype in (torch.float32, torch.float64)
        for questions in (1, ENOUGH - 1, ENOUGH, 3 * ENOUGH):
            case = draw(7, 4, questions, 6, 2, 5, dtype)
            for mask_rest, softmax in MODES:
                query, *banks, rows, lengths = case
                memory = TwoRowMemory(torch.stack(banks), rows, lengths, mask_rest=mask_rest)
                read, weights = memory.read(query, 0, 1, softmax=softmax)
                found = read, weights.squeeze(-2)
                compiled = full and questions >= ENOUGH
                assert taken.pop() == ("compiled" if compiled else "torch")
                assert not taken
                for tensor, exact in zip(found, formula(case, mask_rest, softmax), strict=True):
                    assert tensor.dtype == dtype
                    budget = 1e-4 if full else 0.1 * (1 + np.abs(exact).max())
                    np.testing.assert_allclose(tensor.double().numpy(), exact, atol=budget)


def in_a_new_process(script: str) -> None:
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)


@pytest.mark.slow
def test_few_questions_never_import_the_compiler() -> None:
    in_a_new_process(
        """
        import sys
        import torch
        import memhop
        from memhop.ops.text.two_row_attention import WORTH_COMPILING, TwoRowMemory

        def read(questions):
            query, bank = torch.randn(3, questions, 5, requires_grad=True), torch.randn(1, 3, 4, 5)
            rows = torch.zeros(3, questions, 2, 6, dtype=torch.long)
            lengths = torch.full((3, questions), 6)
            read_out, _ = TwoRowMemory(bank, rows, lengths, mask_rest=True).read(query, 0, 0)
            read_out.sum().backward()

        for questions in (1, WORTH_COMPILING - 1):
            read(questions)
            assert "numba" not in sys.modules
            assert "memhop.ops.text.two_row_attention_cpu" not in sys.modules
        read(WORTH_COMPILING)
        assert "numba" in sys.modules
        """
    )


@pytest.mark.parametrize("looked_up", [False, True])
def test_second_derivatives_are_refused(looked_up: bool) -> None:
    case = trained(draw(0, 1, 4, 3, 2, 5))
    bank = torch.stack([case.keys, case.values])
    if looked_up:
        found, _ = two_row_attention_cpu.look_up(bank, 0, case.rows[:, :, 0, 0])
    else:
        found, _ = compiled(*case, True, True)
    with pytest.raises(NotImplementedError, match="expected create_graph=False over compiled"):
        torch.autograd.grad(found.sum(), case.keys, create_graph=True)


def test_several_threads_read_at_once() -> None:
    cases = [draw(seed, 4, 40, 30, 3, 33) for seed in range(8)]
    expected = [with_gradients("compiled", case, *MODES[i % 4]) for i, case in enumerate(cases)]
    with ThreadPoolExecutor(4) as pool:
        running = [
            (i, pool.submit(with_gradients, "compiled", cases[i], *MODES[i % 4]))
            for _ in range(10)
            for i in range(len(cases))
        ]
        for i, future in running:
            assert_bit_equal(future.result(), expected[i])


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
@pytest.mark.slow
def test_a_forked_child_reads_after_its_parent() -> None:
    in_a_new_process(
        """
        import os
        import torch
        from memhop.ops.text import two_row_attention_cpu

        def results():
            torch.manual_seed(0)
            parts = [torch.randn(*size, requires_grad=True) for size in ((2, 9, 5), (2, 2, 9, 5))]
            rows, lengths = torch.randint(0, 9, (2, 9, 2, 6)), torch.full((2, 9), 6)
            options = two_row_attention_cpu.ReadOptions(((0, 1), (1, 0)), 1, False, True)
            found = two_row_attention_cpu.read(*parts, rows, lengths, options)[:2]
            return *found, *torch.autograd.grad([part.cos().sum() for part in found], parts)

        before = results()
        child = os.fork()
        if child == 0:
            same = False
            try:
                same = all(map(torch.equal, results(), before))
            finally:
                os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert all(map(torch.equal, results(), before))
        """
    )
