"""Torch's forms over the raw memory compute the formula, and a row says which form is missing."""

import shutil

import numpy as np
import pytest
import torch

from benchmarks.hop import forms, raw, speed
from benchmarks.hop.cases import Case, Setting, make
from benchmarks.hop.forms import check, outcome
from memhop.errors import MemhopError
from tests.seeds import thorough

from .test_forms import EACH, OWN, SHARED, by_hand

OTHERS = [case for case in EACH if case is not SHARED]
BUILDS = {
    "raw": raw.raw,
    "compiled raw bmm": raw.compiled_raw("aot_eager", "bmm"),
    "compiled raw sum": raw.compiled_raw("aot_eager", "sum"),
}
# of its own use of what it has deprecated
ignore_inductor = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script:DeprecationWarning",
    "ignore:.*should not be instantiated:DeprecationWarning",
)


@pytest.fixture(autouse=True)
def _no_graphs_of_other_tests() -> None:
    torch.compiler.reset()


@pytest.mark.parametrize("case", EACH, ids=lambda case: case.held)
@pytest.mark.parametrize("form", BUILDS)
def test_the_raw_forms_are_the_formula_of_the_paper(form: str, case: Case) -> None:
    inputs = make(case._replace(memory_dim=4))
    candidate = BUILDS[form](inputs)
    assert candidate.form == form
    [result] = outcome(candidate, inputs)
    np.testing.assert_allclose(result.numpy(), by_hand(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", [SHARED, *map(thorough, OTHERS)], ids=lambda case: case.held)
def test_the_gradients_of_torchs_forms(case: Case) -> None:
    inputs = make(case._replace(gradients=True, memory_dim=4))
    builds = [forms.textbook, forms.compiled("aot_eager"), *BUILDS.values()]
    candidates = [build(inputs) for build in (*builds, forms.attention_of_torch)]
    for error in check(candidates, inputs):
        assert error.gradients is not None
        assert 0 < error.gradients < 1e-5


def test_a_wrong_raw_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make(OWN)

    def without_c(query: torch.Tensor, memories: torch.Tensor, tables: raw.Tables) -> torch.Tensor:
        return raw.bmm_hops(query, memories, [(a, c, None) for a, c, _ in tables])

    monkeypatch.setitem(raw.RAW_HOPS, "bmm", without_c)
    with pytest.raises(MemhopError, match="compiled raw bmm is not timed: error"):
        check([forms.baseline(inputs), raw.compiled_raw("eager", "bmm")(inputs)], inputs)


@pytest.mark.parametrize(
    ("case", "gradients"),
    [(OWN, False), (SHARED, True), thorough(OWN, True), thorough(SHARED, False)],
)
def test_all_forms_of_a_case_are_timed(case: Case, gradients: bool) -> None:
    rows = list(speed.all_forms(case._replace(gradients=gradients), Setting(tiny=True)))
    found = {one["form"]: one for one in rows}
    baseline = "two products" if case is SHARED else "raw"
    expected = {"textbook", "compiled", baseline, "compiled raw bmm", "compiled raw sum"}
    expected |= {"SDPA, raw form", "auto"} | (set() if gradients else {"MultiheadAttention"})
    assert found.keys() == expected
    assert len(rows) == len(expected)
    for one in rows:
        assert one["note"] is None
        assert one["seconds"] > 0
        assert one["error"] < 1e-5
        assert (one["gradient_error"] is not None) is gradients


def test_the_sum_form_of_many_products_is_left_out() -> None:
    assert raw.sum_is_feasible(Case(2**8, 2**10, 2**10))
    assert not raw.sum_is_feasible(Case(2**8, 2**10, 2**10 + 1, held="shared"))
    many = speed.builds_of(Case(2**8, 2**16, 2**7, held="shared"), "aot_eager")
    assert "compiled raw sum" not in many
    assert "compiled raw bmm" in many


@pytest.mark.slow
@ignore_inductor
@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled:UserWarning")
def test_without_a_compiler_the_row_says_so() -> None:
    from torch._inductor import config

    inputs = make(OWN)
    [yardstick] = check([forms.baseline(inputs)], inputs)
    with config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        note = speed.tried(raw.compiled_raw("inductor", "bmm"), inputs, yardstick)
    assert note == "no compiler"


@pytest.mark.slow
@ignore_inductor
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize(
    ("case", "products"),
    [(OWN, "bmm"), (SHARED, "sum"), thorough(OWN, "sum"), thorough(SHARED, "bmm")],
)
def test_inductor_compiles_the_raw_forms(case: Case, products: str) -> None:
    inputs = make(case._replace(gradients=True))
    check([forms.baseline(inputs), raw.compiled_raw("inductor", products)(inputs)], inputs)
