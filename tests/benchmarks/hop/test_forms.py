"""Every form computes the formula, and a wrong one is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.hop import forms
from benchmarks.hop.cases import Case, Inputs, dequantized, make
from benchmarks.hop.forms import Candidate, check, errors, outcome
from memhop import ops
from memhop.errors import MemhopError

OWN = Case(3, 7, 6, 6)
SHARED = OWN._replace(held="shared")
BANK = OWN._replace(held="bank", bank_rows=5)  # fewer rows than slots: some are read twice
EACH = (OWN, SHARED, BANK)
PATHS = [forms.path(impl) for impl in ops.IMPLEMENTATIONS]
TORCH_FORMS = [
    forms.compiled("aot_eager"), forms.attention_of_torch, forms.attention_module,
]  # fmt: skip


def by_hand(inputs: Inputs) -> np.ndarray:
    """Compute the hops of the paper's section 2, one query and one slot at a time, in float64."""
    found = []
    for row, query in enumerate(inputs.query.detach().double().numpy()):
        held = dequantized(inputs.memories, torch.float64).numpy()
        if inputs.slots is not None:
            held = held[inputs.slots[row].numpy()]
        elif held.ndim == 3:
            held = held[row]
        for hop in inputs.hops:
            tables = (part for part in (*hop.a, *hop.c) if part is not None)
            a, a_bias, c, c_bias = (part.detach().double().numpy() for part in tables)
            scores = [query @ (a @ slot + a_bias) for slot in held]
            weights = np.exp(np.array(scores) - max(scores))
            reads = [w * (c @ slot + c_bias) for w, slot in zip(weights, held, strict=True)]
            query = query + sum(reads) / weights.sum()
        found.append(query)
    return np.array(found)


@pytest.mark.parametrize("case", EACH, ids=lambda case: case.held)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_the_reference_is_the_formula_of_the_paper(case: Case, dtype: str) -> None:
    inputs = make(case._replace(dtype=dtype, memory_dim=4))
    [result] = outcome(forms.float64_reference(inputs), inputs)
    np.testing.assert_allclose(result.numpy(), by_hand(inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", EACH, ids=lambda case: case.held)
def test_all_forms_give_the_same(case: Case) -> None:
    inputs = make(case)
    candidates = [build(inputs) for build in (forms.baseline, *PATHS, *TORCH_FORMS)]
    names = [candidate.form for candidate in candidates]
    assert names[0] == ("two products" if case.held == "shared" else "textbook")
    assert len(set(names)) == len(names)
    assert all(error.gradients is None for error in check(candidates, inputs))


@pytest.mark.parametrize("case", EACH, ids=lambda case: case.held)
def test_all_forms_give_the_same_gradients(case: Case) -> None:
    inputs = make(case._replace(gradients=True, memory_dim=4))
    candidates = [build(inputs) for build in (forms.baseline, *PATHS)]
    for error in check(candidates, inputs):
        assert error.gradients is not None
        assert 0 < error.gradients < 1e-5
    assert all(leaf.grad is None for leaf in inputs.leaves)


def test_a_bank_is_gathered_and_its_gradient_summed() -> None:
    inputs = make(BANK._replace(gradients=True))
    assert inputs.slots is not None
    textbook = forms.textbook(inputs)
    assert textbook.inputs.tensor.shape == (3, 7, 6)
    assert textbook.inputs.tensor.is_leaf
    grad_bank = outcome(textbook, inputs)[2]
    textbook.forward().backward(inputs.grad_out)  # type: ignore[no-untyped-call]
    gathered = textbook.inputs.tensor.grad
    assert gathered is not None
    for row in range(5):
        summed = gathered[inputs.slots == row].double().sum(0)
        torch.testing.assert_close(grad_bank[row], summed)


def shifted(inputs: Inputs, by: float) -> Candidate:
    return Candidate("shifted", inputs, lambda: by_path(inputs) + by)


def by_path(inputs: Inputs) -> Tensor:
    return forms.path("eager")(inputs).forward()


def wrong_gradient(inputs: Inputs) -> Candidate:
    def forward() -> Tensor:
        right = by_path(inputs)
        weight = inputs.weights[-2]  # of the last hop: no other gradient depends on it
        return right + 1e-3 * (weight - weight.detach()).sum()

    return Candidate("wrong gradient", inputs, forward)


def no_gradient(inputs: Inputs) -> Candidate:
    whole = inputs._replace(query=inputs.query.detach().requires_grad_())
    return Candidate("no gradient", whole, lambda: by_path(inputs))


def test_a_wrong_form_is_refused() -> None:
    inputs = make(OWN._replace(gradients=True))
    baseline = forms.baseline(inputs)
    check([baseline, shifted(inputs, 0.0)], inputs)
    for wrong in (shifted(inputs, 1e-4), shifted(inputs, float("nan")), wrong_gradient(inputs)):
        with pytest.raises(MemhopError, match=rf"{wrong.form} is not timed: error .* against"):
            check([baseline, wrong], inputs)
    with pytest.raises(MemhopError, match=r"no gradient of a tensor of shape \[3, 6\]"):
        check([baseline, no_gradient(inputs)], inputs)


def test_a_wrong_yardstick_is_refused() -> None:
    inputs = make(OWN)
    with pytest.raises(MemhopError, match="shifted is not timed"):
        check([shifted(inputs, 1e-2), forms.baseline(inputs)], inputs)


def test_errors_are_those_of_the_result_and_of_the_worst_gradient() -> None:
    inputs = make(OWN._replace(gradients=True))
    [right, shift, slope] = errors(
        [forms.baseline(inputs), shifted(inputs, 1.0), wrong_gradient(inputs)], inputs
    )
    norm = float(np.linalg.norm(by_hand(inputs)))
    assert shift.result == pytest.approx(18**0.5 / norm, rel=1e-5)
    assert max(right.result, slope.result) < 1e-6
    assert right.gradients is not None
    assert slope.gradients is not None
    assert right.gradients < 1e-5 < slope.gradients


def test_the_tensors_of_a_case_are_reproducible() -> None:
    case = Case(4, 9, 5, 3, hops=2, held="bank", bank_rows=11, gradients=True)
    one, other = make(case), make(case)
    assert one.slots is not None
    assert one.slots.shape == (4, 9)
    assert one.tensor.shape == (11, 5)
    assert one.query.shape == one.grad_out.shape == (4, 3)
    assert len(one.weights) == 2 * 4
    assert len(one.leaves) == 2 + 2 * 4
    for x, y in zip(one.leaves, other.leaves, strict=True):
        assert torch.equal(x, y)
    assert make(case._replace(gradients=False)).leaves == []


@pytest.mark.parametrize(
    ("case", "name", "held", "read"),
    [
        (Case(2, 3, 5), "[2, 3, 5]", 120, 120),
        (Case(2, 3, 5, held="shared"), "[3, 5] shared by 2", 60, 60),
        (Case(2, 3, 5, held="bank", bank_rows=9), "bank 9, slots [2, 3]", 180, 120),
        (Case(2, 3, 5, dtype="bfloat16"), "[2, 3, 5] bfloat16", 60, 60),
        (Case(2, 3, 5, dtype="int8", gradients=True), "[2, 3, 5] int8, with gradients", 54, 54),
    ],
)
def test_names_and_bytes(case: Case, name: str, held: int, read: int) -> None:
    assert (case.name, case.bytes_held, case.bytes_read) == (name, held, read)
    inputs = make(case._replace(gradients=False))
    held_in = inputs.memories
    parts = [held_in] if isinstance(held_in, Tensor) else [held_in.data, held_in.scale]
    assert sum(part.nbytes for part in parts) == held
