"""What an ignored slot holds reaches neither results nor gradients: as if it held zeros."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from memhop.ops import IMPLEMENTATIONS, Hop, Table, multi_hop, read

LOWEST = torch.finfo(torch.float32).min
FILLERS = [LOWEST, torch.nan, torch.inf, -torch.inf]
B, N, WIDTH, D, K = 3, 70, 8, 4, 2

every_form = pytest.mark.parametrize("impl", IMPLEMENTATIONS)
every_filler = pytest.mark.parametrize("filler", FILLERS)

Outcome = list[Tensor | None]


def table(value_dim: int = WIDTH, temporal: int | None = 3) -> Table:
    age_rows = None if temporal is None else torch.randn(temporal, D)
    return Table(torch.randn(D, value_dim) / value_dim**0.5, torch.randn(D), age_rows)


def some_hops(value_dim: int = WIDTH, **options: Any) -> list[Hop]:
    return [Hop(table(), table(value_dim), **options) for _ in range(K)]


def weights_of(hops: list[Hop]) -> list[Tensor]:
    return [
        weight for hop in hops for part in (hop.a, hop.c) for weight in part if weight is not None
    ]


def outcome(call: Callable[..., Any], *leaves: Tensor) -> Outcome:
    """Result, weights, and the gradients of all leaves."""
    leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
    result, weights = call(*leaves)
    total = result.cos().sum() + weights.square().sum()
    grads = torch.autograd.grad(total, leaves, allow_unused=True)
    return [result.detach(), weights.detach(), *grads]


def assert_same(found: Outcome, expected: Outcome) -> None:
    for got, want in zip(found, expected, strict=True):
        assert (got is None) == (want is None)
        if got is not None and want is not None:
            assert got.isfinite().all()
            scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * scale)


def ways_to_ignore() -> dict[str, dict[str, Tensor]]:
    """Options of a call, each with the first rows' last slots ignored, and one row whole."""
    mask = torch.rand(B, N) < 0.5
    mask[1] = True
    no_bias = torch.zeros(B, N)
    of_each_hop = torch.stack([mask, torch.rand(B, N) < 0.5], 1)
    return {
        "mask": {"padding_mask": mask},
        "one mask": {"padding_mask": mask[0]},
        "lengths": {"lengths": torch.tensor([N - 3, 0, 1])},
        "bias": {"score_bias": no_bias.masked_fill(mask, -torch.inf)},
        "bias of each hop": {
            "score_bias": torch.zeros(B, K, N).masked_fill(of_each_hop, -torch.inf)
        },
    }


def ignored_by(options: dict[str, Tensor]) -> Tensor:
    """Bool [B, N]: the slots that a row reads in no hop."""
    if "lengths" in options:
        return torch.arange(N) >= options["lengths"].unsqueeze(-1)
    if "score_bias" in options:
        excluded = options["score_bias"] == -torch.inf
        return excluded.all(1) if excluded.dim() == 3 else excluded
    return options["padding_mask"].expand(B, N)


@every_form
@every_filler
@pytest.mark.parametrize("way", list(ways_to_ignore()))
@pytest.mark.parametrize("is_softmax", [True, False])
def test_of_memories_of_each_row(impl: str, filler: float, way: str, is_softmax: bool) -> None:
    torch.manual_seed(0)
    options = ways_to_ignore()[way]
    hops, query = some_hops(softmax=is_softmax), torch.randn(B, D)
    ignored = ignored_by(options).unsqueeze(-1)
    memories = torch.randn(B, N, WIDTH)

    def call(query: Tensor, memories: Tensor, *_: Tensor) -> Any:
        return multi_hop(query, memories, hops, need_weights=True, impl=impl, **options)

    for hop_weight in weights_of(hops):
        hop_weight.requires_grad_()
    filled, zeros = (memories.masked_fill(ignored, number) for number in (filler, 0.0))
    assert_same(outcome(call, query, filled), outcome(call, query, zeros))
    of_weights = []
    for rows in (filled, zeros):
        result, weights = call(query, rows)
        total = result.cos().sum() + weights.square().sum()
        of_weights.append(torch.autograd.grad(total, weights_of(hops), allow_unused=True))
    assert_same(list(of_weights[0]), list(of_weights[1]))


@every_form
@every_filler
@pytest.mark.parametrize("way", ["one mask", "mask", "lengths", "bias"])
def test_of_a_memory_that_rows_share(impl: str, filler: float, way: str) -> None:
    """Slots that no row reads, and one that the last row alone reads: it spoils only that row."""
    torch.manual_seed(0)
    options = ways_to_ignore()[way]
    hops, query, memories = some_hops(), torch.randn(B, D), torch.randn(N, WIDTH)
    ignored = ignored_by(options)
    by_all = ignored.all(0)
    if way == "lengths":
        by_all = torch.arange(N) >= N - 3
    elif way != "one mask":  # one more, which the last row reads
        only_last = (ignored[:-1].all(0) & ~ignored[-1]).nonzero()[0]
        by_all[only_last] = True
    clean = slice(None) if way in ("one mask", "lengths") else slice(0, B - 1)

    def call(query: Tensor, memories: Tensor) -> Any:
        result, weights = multi_hop(query, memories, hops, need_weights=True, impl=impl, **options)
        return result[clean], weights[clean]

    filled, zeros = (memories.masked_fill(by_all[:, None], number) for number in (filler, 0.0))
    if clean == slice(None):
        assert_same(outcome(call, query, filled), outcome(call, query, zeros))
    else:  # the gradient of what the last row reads is NaN, as its result is
        with torch.no_grad():
            assert_same(list(call(query, filled)), list(call(query, zeros)))


@every_form
@every_filler
def test_of_a_bank_whose_rows_nobody_reads(impl: str, filler: float) -> None:
    torch.manual_seed(0)
    hops, query, bank = some_hops(), torch.randn(B, D), torch.randn(90, WIDTH)
    slots, mask = torch.randint(0, 80, (B, N)), torch.rand(B, N) < 0.3
    slots[mask] = 85  # named by ignored slots only; 86 to 89 are not named at all
    unread = (torch.arange(90) >= 80).unsqueeze(-1)

    def call(query: Tensor, bank: Tensor) -> Any:
        options: dict[str, Any] = {"slots": slots, "padding_mask": mask, "impl": impl}
        return multi_hop(query, bank, hops, need_weights=True, **options)

    filled, zeros = (bank.masked_fill(unread, number) for number in (filler, 0.0))
    assert_same(outcome(call, query, filled), outcome(call, query, zeros))

    def named(query: Tensor, bank: Tensor) -> Any:
        return multi_hop(query, bank, hops, need_weights=True, slots=slots % 80, impl=impl)

    assert_same(outcome(named, query, filled), outcome(named, query, zeros))


@every_form
@every_filler
@pytest.mark.parametrize("is_shared", [True, False])
def test_of_a_read_of_keys_and_values(impl: str, filler: float, is_shared: bool) -> None:
    torch.manual_seed(0)
    lead = () if is_shared else (B,)
    query, keys, values = (
        torch.randn(B, WIDTH),
        torch.randn(*lead, N, WIDTH),
        torch.randn(*lead, N, 5),
    )
    ignored = torch.rand(*lead, N) < 0.4

    def call(query: Tensor, keys: Tensor, values: Tensor) -> Any:
        return read(query, keys, values, padding_mask=ignored, need_weights=True, impl=impl)

    found = [
        outcome(call, query, *(rows.masked_fill(ignored[..., None], x) for rows in (keys, values)))
        for x in (filler, 0.0)
    ]
    assert_same(*found)


@every_form
@pytest.mark.parametrize("filler", [torch.nan, torch.inf])
def test_of_a_memory_in_fewer_bytes(impl: str, filler: float) -> None:
    torch.manual_seed(0)
    hops, query, mask = some_hops(), torch.randn(B, D), torch.rand(B, N) < 0.4
    rows = torch.randn(B, N, WIDTH)
    for dtype in (torch.bfloat16, torch.float16):
        filled, zeros = (rows.masked_fill(mask[..., None], x).to(dtype) for x in (filler, 0.0))
        found = [
            multi_hop(query, stored, hops, padding_mask=mask, impl=impl)
            for stored in (filled, zeros)
        ]
        assert_same([found[0]], [found[1]])


@pytest.mark.parametrize("impl", ["auto", "torch", "project", "reference"])
def test_where_values_cannot_be_looked_at(impl: str) -> None:
    torch.manual_seed(0)
    hops, query, mask = some_hops(), torch.randn(B, D), torch.rand(B, N) < 0.4
    rows = torch.randn(B, N, WIDTH)
    filled, zeros = (rows.masked_fill(mask[..., None], x) for x in (torch.nan, 0.0))
    expected = multi_hop(query, zeros, hops, padding_mask=mask, impl="reference")

    def each(query: Tensor, memories: Tensor, mask: Tensor) -> Tensor:
        return multi_hop(query, memories, hops, padding_mask=mask, impl=impl)

    assert_same([torch.func.vmap(each)(query, filled, mask)], [expected])
    compiled = torch.compile(each, fullgraph=True, backend="aot_eager")
    assert_same([compiled(query, filled, mask)], [expected])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that jit.trace is old, and keeps sizes
        traced: Any = torch.jit.trace(each, (query, zeros, mask), check_trace=False)  # type: ignore[no-untyped-call]
    assert_same([traced(query, filled, mask)], [expected])


@every_form
@pytest.mark.parametrize("way", ["mask", "lengths", "bias", "bias of each hop"])
@pytest.mark.parametrize("is_shared", [True, False])
def test_an_infinite_gradient_of_an_ignored_weight(impl: str, way: str, is_shared: bool) -> None:
    """The square root has an infinite slope at 0, the weight of an ignored slot."""
    torch.manual_seed(0)
    options = ways_to_ignore()[way]
    hops = some_hops()
    leaves = [
        torch.randn(B, D).double(),
        torch.randn(*(() if is_shared else (B,)), N, WIDTH).double(),
    ]
    hops = [
        hop._replace(a=Table(*(x.double() for x in hop.a)), c=Table(*(x.double() for x in hop.c)))  # type: ignore[union-attr]
        for hop in hops
    ]
    options = {k: x.double() if x.is_floating_point() else x for k, x in options.items()}
    found = []
    for form in (impl, "reference"):
        given = [leaf.clone().requires_grad_() for leaf in leaves]
        query, memories = given
        _, weights = multi_hop(query, memories, hops, need_weights=True, impl=form, **options)
        total = torch.special.entr(weights).sum() + weights.sqrt().sum()
        found.append(list(torch.autograd.grad(total, given)))
    assert all(grad.isfinite().all() for grad in found[0])
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
