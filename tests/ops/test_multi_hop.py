"""``ops.multi_hop`` against the paper's formulas in NumPy, and its other guarantees."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import chain, compress, pairwise, repeat
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memhop.ops import IMPLEMENTATIONS, Hop, Quantized, Table, multi_hop, reference
from tests.ops import oracle, textbook
from tests.ops.fixed_order import FixedOrder, WithoutCancellation
from tests.seeds import seeds, thorough

FORMS = [word for word in IMPLEMENTATIONS if word != "auto"]
FAST = [word for word in FORMS if word != "reference"]
every_fast_form = pytest.mark.parametrize("impl", FAST)
every_form = pytest.mark.parametrize("impl", IMPLEMENTATIONS)


def run(case: oracle.Case, impl: str) -> tuple[Tensor, Tensor]:
    """The answer and the attention of a case."""
    result, weights = multi_hop(
        case.query, case.memories, case.hops, **case.options, need_weights=True, impl=impl
    )
    return result, weights


def is_supported(case: oracle.Case, impl: str) -> bool:
    """Return whether a form can compute a case: no kernel counts ages from the first slot."""
    return impl != "fused" or "slot_order" not in case.options


@every_form
@pytest.mark.parametrize("seed", seeds(20, 1000))
def test_every_form_equals_the_formulas(seed: int, impl: str) -> None:
    case = oracle.draw_case(seed)
    query, attention = oracle.multi_hop(case.query, case.memories, case.hops, **case.options)
    if not is_supported(case, impl):
        with pytest.raises(NotImplementedError, match="slot_order"):
            run(case, impl)
        return
    result, weights = run(case, impl)
    assert result.shape == query.shape
    assert weights.shape == attention.shape
    np.testing.assert_allclose(result.numpy(), query, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(weights.numpy(), attention, rtol=1e-9, atol=1e-9)


def in_its_own_dtype(case: oracle.Case) -> Tensor:
    """Return the textbook form computed in the case's dtype: its error is the budget."""
    with FixedOrder():  # type: ignore[no-untyped-call]
        return textbook.multi_hop(case.query, case.memories, case.hops, **case.options)[0]


def root_mean_square(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(difference**2)))


@cache  # one form after the other is judged by it
def budgets(
    dtype: torch.dtype, fewer_bytes: bool
) -> list[tuple[int, oracle.Case, np.ndarray, float]]:
    """Return seeds, cases, results of the formulas, and errors of the textbook form in a dtype."""
    found = []
    for seed in range(80):
        case = oracle.draw_case(seed).to(dtype)
        case = case.in_fewer_bytes(seed) if fewer_bytes else case
        truth, _ = oracle.multi_hop(case.query, case.memories, case.hops, **case.options)
        if truth.size > 0 and np.abs(truth).max() < 1e4:
            plain = root_mean_square(in_its_own_dtype(case).double().numpy() - truth)
            found.append((seed, case, truth, plain))
    assert len(found) > 50
    return found


def sensitivity(case: oracle.Case, truth: np.ndarray) -> float:
    """Return how far the result moves if every number of a case moves by its rounding error."""
    torch.manual_seed(0)
    eps = torch.finfo(case.query.dtype).eps

    def moved(tensor: Tensor) -> Tensor:
        return tensor.double() * (1 + eps * (2 * torch.rand(tensor.shape).double() - 1))

    distances = []
    for _ in range(8):
        other = case.mapped(moved)
        result, _ = oracle.multi_hop(other.query, other.memories, other.hops, **other.options)
        distances.append(root_mean_square(result - truth))
    return max(distances)


# Each form rounds in another order than the textbook: its error may be larger by a factor of 2 in
# one case, and is no larger over all cases. Where the textbook form is exact by chance, so may be
# the error of rounded arguments. Half types are computed in float32 and rounded once.
@pytest.mark.parametrize(
    ("dtype", "fewer_bytes", "factor", "ulps", "overall"),
    [
        (torch.float32, False, 2, 4, 1.1),
        (torch.float32, True, 2, 4, 1.1),
        thorough(torch.bfloat16, False, 1, 1, 0.9),
        (torch.float16, False, 1, 1, 0.9),
        (torch.bfloat16, True, 1, 1, 0.9),
        thorough(torch.float16, True, 1, 1, 0.9),
    ],
)
@pytest.mark.parametrize("impl", FORMS)
def test_errors_stay_within_the_budget_of_the_textbook_form(
    dtype: torch.dtype, fewer_bytes: bool, factor: float, ulps: float, overall: float, impl: str
) -> None:
    ratios = []
    for seed, case, truth, plain in budgets(dtype, fewer_bytes):
        if not is_supported(case, impl):
            continue
        ulp = torch.finfo(dtype).eps * max(root_mean_square(truth), 1e-9)
        fast, weights = run(case, impl)
        assert fast.dtype == weights.dtype == dtype
        error = root_mean_square(fast.double().numpy() - truth)
        if error > factor * plain + ulps * ulp:
            assert error <= factor * sensitivity(case, truth) + ulps * ulp, f"seed {seed}"
        ratios.append((error + ulp) / (plain + ulp))
    assert np.exp(np.mean(np.log(ratios))) <= overall


def leaves(case: oracle.Case) -> list[Tensor]:
    """Every tensor of a case that has a gradient, each once, now asking for it."""
    held = [case.memories, case.options.get("values")]
    tensors = [case.query, *(rows for rows in held if isinstance(rows, Tensor))]
    for hop in case.hops:
        tensors += [part for part in (*hop.a, *hop.c, hop.transform) if part is not None]
    if "score_bias" in case.options:
        tensors.append(case.options["score_bias"])
    unique = list({id(tensor): tensor for tensor in tensors}.values())
    return [tensor.requires_grad_() for tensor in unique]


def gradients(
    case: oracle.Case, impl: str, backward_mode: AbstractContextManager[Any] | None = None
) -> list[np.ndarray]:
    """Return the gradients of the leaves for fixed gradients of the result and the weights."""
    tensors = leaves(case)
    result, weights = run(case, impl)
    cotangents = [
        torch.cos(torch.arange(x.numel()).double()).view(x.shape) for x in (result, weights)
    ]
    total = sum(
        (x * c.to(x.dtype)).sum() for x, c in zip((result, weights), cotangents, strict=True)
    )
    with backward_mode or nullcontext():
        found = torch.autograd.grad(total, tensors)  # type: ignore[arg-type]
    return [gradient.double().numpy() for gradient in found]


@every_fast_form
def test_gradients_equal_those_of_the_formulas(impl: str) -> None:
    for seed in range(40):
        case = oracle.draw_case(seed)
        if not is_supported(case, impl):
            continue
        for exact, found in zip(gradients(case, "reference"), gradients(case, impl), strict=True):
            np.testing.assert_allclose(found, exact, rtol=1e-8, atol=1e-8, err_msg=f"seed {seed}")


def distance(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    squares = (np.sum((a - b) ** 2) for a, b in zip(found, truth, strict=True))
    return float(np.sqrt(sum(squares)))


@cache
def gradient_budgets() -> list[tuple[int, oracle.Case, list[np.ndarray], float, float]]:
    """Return seeds, float32 cases, exact gradients, errors of the textbook form, and units.

    A unit is the rounding error of the largest sum of absolute values in the backward: a gradient
    through a softmax may be smaller than its terms by any factor, the rounding errors of those
    may not.
    """
    found = []
    for seed in range(80):
        case = oracle.draw_case(seed).to(torch.float32)
        exact = case.to(torch.float64)
        truth = gradients(exact, "reference")
        if not 0 < max(np.abs(each).max(initial=0) for each in truth) < 1e4:
            continue
        terms = gradients(exact, "reference", WithoutCancellation())  # type: ignore[no-untyped-call]
        ulp = torch.finfo(torch.float32).eps * max(each.max(initial=0) for each in terms)
        with FixedOrder():  # type: ignore[no-untyped-call]
            plain = gradients(case, "reference")
        found.append((seed, case, truth, distance(plain, truth), ulp))
    assert len(found) > 50
    return found


@every_fast_form
def test_errors_of_gradients_stay_within_the_budget_of_the_textbook_form(impl: str) -> None:
    ratios = []
    for seed, case, truth, plain, ulp in gradient_budgets():
        if not is_supported(case, impl):
            continue
        fast = distance(gradients(case, impl), truth)
        assert fast <= 2 * plain + 4 * ulp, f"seed {seed}"
        ratios.append((fast + ulp) / (plain + ulp))
    assert np.exp(np.mean(np.log(ratios))) <= 1.05


@cache
def exact_gradients(seed: int) -> list[np.ndarray]:
    """Those of ``gradients`` of a case in fewer bytes, from what it holds in float64."""
    case = oracle.draw_case(seed).to(torch.float32).in_fewer_bytes(seed)
    held = [rows for rows in (case.memories, case.options.get("values")) if rows is not None]
    exact = case.to(torch.float64)
    if isinstance(case.memories, Quantized):
        exact.memories = case.memories.dequantized().double()
    if isinstance(case.options.get("values"), Quantized):
        exact.options["values"] = case.options["values"].dequantized().double()
    has_one = chain([True], (isinstance(rows, Tensor) for rows in held), repeat(True))
    return list(compress(gradients(exact, "reference"), has_one))


@pytest.mark.parametrize("impl", FORMS)
def test_gradients_are_of_the_dtype_of_what_they_belong_to(impl: str) -> None:
    halves = 0
    for seed in range(80):
        case = oracle.draw_case(seed).to(torch.float32).in_fewer_bytes(seed)
        exact = exact_gradients(seed)
        largest = max(np.abs(each).max(initial=0) for each in exact)
        if not 0 < largest < 1e4 or not is_supported(case, impl):
            continue
        found = gradients(case, impl)
        for tensor, gradient, truth in zip(leaves(case), found, exact, strict=True):
            step = 0.51 * torch.finfo(tensor.dtype).eps  # rounded once
            near = step * torch.finfo(tensor.dtype).smallest_normal + 1e-5 * largest
            if isinstance(case.options.get("slots"), tuple):  # gathered first, so once for each row
                near += 2 * step * largest
            np.testing.assert_allclose(gradient, truth, rtol=step, atol=near, err_msg=f"{seed}")
            halves += tensor.dtype != torch.float32
    assert halves > 20


def small_case(options: str) -> oracle.Case:
    """Two queries of size 2 over three slots of size 3, for finite differences."""
    torch.manual_seed(len(options))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    def table() -> Table:
        temporal = normal(2, 2) if "temporal" in options else None
        return Table(normal(2, 3), normal(2), temporal)

    if "adjacent" in options:
        tables = [table() for _ in range(3)]
        pairs = list(pairwise(tables))
    elif "layerwise" in options:
        pairs = [(table(), table())] * 2
    else:
        pairs = [(table(), table()) for _ in range(2)]
    transform = normal(2, 2) if "layerwise" in options else None
    hops = [Hop(a, c, transform, "relu" in options, "linear" not in options) for a, c in pairs]
    case = oracle.Case(normal(2, 2), normal(2, 3, 3), hops)
    if "shared" in options:
        case.memories = normal(3, 3)
    if "bank" in options:
        case.memories = normal(2, 3) if "small" in options else normal(130, 3)
        case.options["slots"] = torch.tensor([[0, 1, 1], [1, 0, 0]])
    if "mask" in options:  # the last row has no readable slot
        case.options["padding_mask"] = torch.tensor([[False, True, False], [True, True, True]])
    if "lengths" in options:
        case.options["lengths"] = torch.tensor([2, 0])
    if "values" in options:  # of another size
        case.options["values"] = normal(*case.memories.shape[:-1], 2)
        case.hops = [hop._replace(c=hop.c._replace(weight=normal(2, 2))) for hop in hops]
    if "score" in options:
        case.options["score_bias"] = normal(2, 3)
    return case


@every_fast_form
@pytest.mark.parametrize(
    "options",
    [
        "plain",
        "linear",
        "shared",
        "values",
        "shared values",
        "mask",
        "mask linear",
        "mask temporal adjacent",
        "mask temporal linear score",
        "mask layerwise relu",
        "shared mask",
        "small bank mask",
        "values mask",
        "values lengths linear temporal",
        "shared values lengths layerwise",
        "small bank values lengths",
        "lengths adjacent",
    ],
)
def test_small_cases_and_their_gradients(options: str, impl: str) -> None:
    """The formulas, and finite differences of what was found."""
    case = small_case(options)
    exact = oracle.multi_hop(case.query, case.memories, case.hops, **case.options)
    for found, truth in zip(run(case, impl), exact, strict=True):
        np.testing.assert_allclose(found.numpy(), truth, rtol=1e-9, atol=1e-9)
    tensors = leaves(case)

    def call(*_: Tensor) -> tuple[Tensor, ...]:
        return run(case, impl)

    assert torch.autograd.gradcheck(call, tensors, fast_mode=True)


@pytest.mark.parametrize("impl", FORMS)
def test_second_derivatives_equal_finite_differences(impl: str) -> None:
    case = small_case("mask adjacent")
    tensors = leaves(case)[:3]

    def call(*_: Tensor) -> Tensor:
        return run(case, impl)[0]

    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


@pytest.mark.parametrize("impl", FORMS)
def test_a_gradient_of_inputs_computed_from_each_other_has_no_part_twice(impl: str) -> None:
    torch.manual_seed(0)
    query, memory, leaf = (torch.randn(*sizes).double() for sizes in ((5, 4), (5, 3, 4), (4, 4)))
    leaf.requires_grad_()
    hop = Hop(Table(leaf.tanh()), Table(leaf, None, leaf.sin()[:2]), leaf)
    once = multi_hop(query, memory, [hop], impl=impl)
    total = multi_hop(once, memory, [hop], impl=impl).sum()
    plain, differentiable = (
        torch.autograd.grad(total, leaf, retain_graph=True, create_graph=create_graph)[0]
        for create_graph in (False, True)
    )
    torch.testing.assert_close(differentiable, plain)


@every_form
@pytest.mark.parametrize(
    "options",
    [
        "mask",
        "mask linear",
        "mask temporal",
        "bank mask",
        "empty",
        "lengths",
        "values lengths",
        "empty values",
        "lengths score temporal linear",
    ],
)
def test_a_row_without_readable_slots_reads_zero(options: str, impl: str) -> None:
    case = small_case(options)
    if "empty" in options:
        case.memories = case.memories[:, :0].contiguous()
        if "values" in options:
            case.options["values"] = case.options["values"][:, :0].contiguous()
    tensors = leaves(case)
    with warnings.catch_warnings(action="ignore"), torch.autograd.detect_anomaly(check_nan=True):
        result, weights = run(case, impl)
        found = torch.autograd.grad(result[-1].sum(), tensors)
    assert torch.equal(result[-1], case.query[-1])  # nothing is added, c included
    assert torch.equal(weights[-1], torch.zeros_like(weights[-1]))
    own, *others = found
    assert torch.equal(own[-1], torch.ones_like(own[-1]))
    for gradient in others:
        assert torch.equal(gradient, torch.zeros_like(gradient))


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_scores_and_excluded_slots_give_no_nan(impl: str, dtype: torch.dtype) -> None:
    case = small_case("temporal score").to(dtype)
    bias = case.options["score_bias"]
    bias[0] = torch.tensor([1e30, -1e30, -torch.inf])
    bias[1] = -torch.inf
    tensors = leaves(case)
    result, weights = run(case, impl)
    assert torch.equal(weights[0], torch.tensor([[1, 0, 0]] * 2, dtype=dtype))
    assert torch.equal(weights[1], torch.zeros(2, 3, dtype=dtype))
    for gradient in torch.autograd.grad(result.sum(), tensors):
        assert gradient.isfinite().all()


def arranged(case: oracle.Case, order: Tensor, **options: Any) -> oracle.Case:
    """The case with its slots in another order, and with other options."""
    given = dict(case.options)
    slots, values = given.pop("slots", None), given.pop("values", case.memories)
    if "lengths" in given:
        lengths = given.pop("lengths")
        given["padding_mask"] = torch.arange(len(order)) >= lengths.unsqueeze(-1)
    for name in ("padding_mask", "score_bias"):
        if name in given:
            given[name] = given[name][..., order]
    sides = []
    for rows, numbers in zip((case.memories, values), oracle.both(slots), strict=True):
        in_order = (rows[..., order, :], None) if numbers is None else (rows, numbers[..., order])
        sides.append(in_order)
    (memories, key_slots), (values, value_slots) = sides
    given |= {"values": values, "slots": (key_slots, value_slots), **options}
    return oracle.Case(case.query, memories, case.hops, given)


@every_form
def test_permuting_the_slots_permutes_the_attention_and_leaves_the_answer(impl: str) -> None:
    """With temporal tables the order is reversed, and the slots count from the other end."""
    for seed in range(30):
        case, options = oracle.draw_case(seed), {}
        first = run(case, "reference")
        order = torch.randperm(first[1].shape[-1])
        if case.hops[0].a.temporal is not None:
            order = torch.arange(len(order)).flip(0)
            is_oldest_first = "slot_order" not in case.options
            options["slot_order"] = "newest_first" if is_oldest_first else "oldest_first"
        other = arranged(case, order, **options)
        if options.get("slot_order") == "newest_first" and impl == "fused":
            continue
        result, weights = run(other, impl)
        torch.testing.assert_close(result, first[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(weights, first[1][..., order], rtol=1e-9, atol=1e-9)


@every_form
@pytest.mark.parametrize("options", ["plain", "mask", "values"])
@pytest.mark.parametrize("beside_c", [True, False])
def test_the_bias_that_drops_out_of_the_softmax_has_a_gradient_of_zeros(
    beside_c: bool, options: str, impl: str
) -> None:
    case = small_case(options)
    if not beside_c:
        case.hops = [hop._replace(c=hop.c._replace(bias=None)) for hop in case.hops]
    for hop in case.hops:
        assert hop.a.bias is not None
        hop.a.bias.requires_grad_()
    torch.autograd.backward(run(case, impl)[0].sum())
    for hop in case.hops:
        assert hop.a.bias is not None
        assert hop.a.bias.grad is not None
        torch.testing.assert_close(hop.a.bias.grad, torch.zeros(2).double(), rtol=0, atol=1e-12)


def test_temporal_rows_count_readable_slots_from_the_last() -> None:
    cpu = torch.device("cpu")
    ignored = torch.tensor([False, False, True, False, True])
    assert reference.slot_ages(5, ignored, cpu)[~ignored].tolist() == [2, 1, 0]
    assert reference.slot_ages(3, None, cpu).tolist() == [2, 1, 0]
    zero, rows = torch.zeros(1, 1).double(), torch.tensor([[1.0], [10.0], [100.0]]).double()
    hop = Hop(Table(zero), Table(zero, temporal=rows), softmax=False)
    one = torch.ones(1).double()
    for impl in FORMS:
        bias = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).double()
        read_out = multi_hop(0 * one, torch.ones(5, 1).double(), [hop], score_bias=bias, impl=impl)
        assert read_out.item() == 100 * (1 + 2 + 3) + 10 * 4 + 5
