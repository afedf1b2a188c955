"""The operations under the transforms of torch: right values, or from "fused" a clear refusal.

Derivatives are judged by finite differences of the reference in float64, second derivatives by
those of its gradient.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck

from memhop.ops import IMPLEMENTATIONS
from tests.ops.leaves import CASES, Case, Leaves, case_of
from tests.seeds import thorough

# of its own use of what it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

# What an error of "fused" names, in addition to "fused".
VMAP = "vmap|batched"
FORWARD = "forward|jvp"
FUNC = "torch.func|vmap"
TWICE = "twice|second|double"

NAMES = [
    (name, impl)
    for name in CASES
    for impl in IMPLEMENTATIONS
    if impl in ("auto", "fused") or not name.startswith("large")  # to the others all is one
]
every_case = pytest.mark.parametrize(("name", "impl"), NAMES)


def values_or_refusal(impl: str, named: str, compute: Callable[[], Any]) -> Any:
    """What comes out; None where "fused" says in words that it does not do this."""
    try:
        return compute()
    except GradcheckError:
        raise
    except (RuntimeError, ValueError) as error:
        clear = "fused" in str(error) and re.search(named, str(error))
        if impl != "fused" or not clear:
            raise
        return None


def slope(function: Callable[..., Tensor], at: Leaves, along: Leaves) -> Tensor:
    """The derivative of a function along a direction, by central differences of fourth order."""
    step = 1e-4

    def moved(steps: int) -> Tensor:
        return function(*(x + steps * step * d for x, d in zip(at, along, strict=True)))

    with torch.no_grad():
        return (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step)


def along_one(directions: Leaves, place: int) -> Leaves:
    """The directions, with all but one leaf at rest."""
    return tuple(d if k == place else torch.zeros_like(d) for k, d in enumerate(directions))


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def assert_gradients(found: Sequence[Tensor], case: Case, leaves: Leaves) -> None:
    """They are those of the total of the case at ``leaves``, each leaf on its own."""
    directions = case.directions()
    for place, gradient in enumerate(found):
        expected = slope(case.total("reference"), leaves, along_one(directions, place))
        assert_close((gradient * directions[place]).sum(), expected)


def assert_jacobians(found: Sequence[Tensor], function: Callable[..., Tensor], case: Case) -> None:
    """They are those of a function of the leaves, each on its own."""
    directions = case.directions()
    assert len(found) == case.few
    for place, jacobian in enumerate(found):
        expected = slope(function, case.leaves, along_one(directions, place))
        assert_close(jacobian.flatten(1) @ directions[place].flatten(), expected)


def of_the_few(function: Callable[..., Tensor], case: Case) -> Callable[..., Tensor]:
    """A function of the first leaves alone."""
    return lambda *few: function(*few, *case.leaves[case.few :])


@every_case
@pytest.mark.parametrize("which", ["all", "the query", "all but the query"])
def test_vmap(name: str, impl: str, which: str) -> None:
    case = case_of(name)
    mapped = [(place == 0) if which == "the query" else True for place in range(len(case.leaves))]
    mapped[0] = which != "all but the query"
    leaves = tuple(
        torch.stack([x, -x, 0.5 * x], -1) if does else x
        for x, does in zip(case.leaves, mapped, strict=True)
    )
    over = torch.func.vmap(
        case.outputs(impl), in_dims=tuple(-1 if does else None for does in mapped)
    )
    found = values_or_refusal(impl, VMAP, lambda: over(*leaves))
    if found is None:
        return
    for k in range(3):
        one = [x[..., k] if does else x for x, does in zip(leaves, mapped, strict=True)]
        assert_close(found[k], case.outputs("reference")(*one))


@every_case
def test_autograd_and_its_batched_gradients(name: str, impl: str) -> None:
    case = case_of(name)
    leaves = tuple(leaf.requires_grad_() for leaf in case.leaves)
    outputs = case.outputs(impl)(*leaves)
    cotangents = torch.randn(3, len(outputs), dtype=torch.float64)
    one = torch.autograd.grad(outputs, leaves, cotangents[0], retain_graph=True)
    directions = case.directions()
    slopes = [
        slope(case.outputs("reference"), leaves, along_one(directions, place))
        for place in range(len(leaves))
    ]
    for gradient, direction, expected in zip(one, directions, slopes, strict=True):
        assert_close((gradient * direction).sum(), cotangents[0] @ expected)
    batched = values_or_refusal(
        impl,
        VMAP,
        lambda: torch.autograd.grad(outputs, leaves, cotangents, is_grads_batched=True),
    )
    for gradient, direction, expected in zip(batched or (), directions, slopes, strict=False):
        assert_close((gradient * direction).flatten(1).sum(1), cotangents @ expected)


@every_case
def test_func_grad(name: str, impl: str) -> None:
    case = case_of(name)
    every = tuple(range(len(case.leaves)))
    grad = torch.func.grad(case.total(impl), argnums=every)
    found = values_or_refusal(impl, FUNC, lambda: grad(*case.leaves))
    assert_gradients(found or (), case, case.leaves)
    copies = tuple(torch.stack([leaf, -leaf]) for leaf in case.leaves)
    found = values_or_refusal(impl, FUNC, lambda: torch.func.vmap(grad)(*copies))
    if found is not None:
        for k in range(2):
            one = tuple(leaf[k] for leaf in copies)
            assert_gradients([gradient[k] for gradient in found], case, one)


@every_case
def test_jvp(name: str, impl: str) -> None:
    case = case_of(name)
    directions = case.directions()
    outputs = case.outputs(impl)
    found = values_or_refusal(
        impl, FORWARD, lambda: torch.func.jvp(outputs, case.leaves, directions)
    )
    if found is not None:
        assert_close(found[0], case.outputs("reference")(*case.leaves))
        assert_close(found[1], slope(case.outputs("reference"), case.leaves, directions))


@pytest.mark.parametrize(
    ("name", "impl", "way"),
    [
        (name, impl, way) if (a + c) % 4 < 2 else thorough(name, impl, way)
        for a, (name, impl) in enumerate(NAMES)
        for c, way in enumerate(["jacrev", "jacfwd", "reverse-mode", "forward-mode"])
    ],
)
def test_jacobians(name: str, impl: str, way: str) -> None:
    case = case_of(name)
    outputs = of_the_few(case.outputs(impl), case)
    few = case.leaves[: case.few]

    def jacobians() -> Any:
        if way in ("jacrev", "jacfwd"):
            return getattr(torch.func, way)(outputs, argnums=tuple(range(case.few)))(*few)
        jacobian: Any = torch.autograd.functional.jacobian
        return jacobian(outputs, few, vectorize=True, strategy=way)

    forward = way in ("jacfwd", "forward-mode")
    found = values_or_refusal(impl, FORWARD if forward else FUNC, jacobians)
    if found is not None:
        assert_jacobians(found, case.outputs("reference"), case)


@every_case
def test_hessian(name: str, impl: str) -> None:
    case = case_of(name)
    hessian = torch.func.hessian(lambda query: case.total(impl)(query, *case.leaves[1:]))
    query = case.leaves[0]
    found = values_or_refusal(impl, f"{FORWARD}|{FUNC}|{TWICE}", lambda: hessian(query))
    if found is not None:
        direction = torch.randn_like(query)
        gradient = torch.func.grad(lambda query: case.total("reference")(query, *case.leaves[1:]))
        expected = slope(gradient, (query,), (direction,))
        assert_close((found * direction).sum((-2, -1)), expected)


@every_case
def test_gradcheck_forward_and_twice(name: str, impl: str) -> None:
    case = case_of(name)
    leaves = tuple(leaf.requires_grad_() for leaf in case.leaves)
    outputs = case.outputs(impl)
    assert gradcheck(outputs, leaves, fast_mode=True)
    values_or_refusal(
        impl,
        FORWARD,
        lambda: gradcheck(
            outputs, leaves, fast_mode=True, check_forward_ad=True, check_backward_ad=False
        ),
    )
    values_or_refusal(impl, TWICE, lambda: gradgradcheck(outputs, leaves, fast_mode=True))
